"""CTGAN over centers: columns encoded by what is known of all, networks trained in the centers and averaged."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from federation.algorithm import SERVER, Algorithm, Roster, register
from federation.contribution import Contribution
from federation.generative.steps import RunTask
from federation.generative.survival_law import fit_survival_law
from federation.generative.variational_mixture import FitColumnMixtures, mixture_of
from federation.kinds import COUNT, MODEL, SUM
from federation.memory import Memory
from federation.patients import Patients
from federation.state import State
from harmonization import Schema
from models.generative.ctgan import CTGANOptions, CTGANTraining, FittedCTGAN
from models.generative.survival_law import LawOptions
from models.generative.variational_mixture import FittedMixture


@register
@dataclass(frozen=True)
class FitCTGAN(Algorithm):
    """Generator and discriminator of the training patients of all centers; takes `options.rounds` + 1 broadcasts.

    Parameters
    ----------
    options
        See `models.generative.ctgan.CTGANOptions`.
    schema
        The federation's.
    mixture
        Of the numeric features, from `FitColumnMixtures`; None if there are none. It reaches centers as arrays.

    Notes
    -----
    What leaves a center are counts of each feature's states, then weights of both networks. A discriminator that many
    steps on few patients have trained may know them by heart; weights should be seen summed (secure sums).
    """

    name = "ctgan"
    kinds = dict.fromkeys(("counts", "values", "decimals"), COUNT) | dict.fromkeys(
        ("weight", "generator_loss", "discriminator_loss"), SUM
    )
    kinds |= {"update": MODEL}

    options: CTGANOptions = CTGANOptions()
    schema: Schema | None = field(default=None, metadata=SERVER)
    mixture: FittedMixture | None = field(default=None, metadata=SERVER)

    @property
    def training(self) -> CTGANTraining:
        """The state machine, the same as on one table."""
        assert self.schema is not None, "the coordinator needs the schema"
        return CTGANTraining(self.options, self.schema)

    def start(self, roster: Roster) -> State:
        """Mixtures; the seed of the first weights is that of the run."""
        return {"round": np.array(0), **self.training.start(self.mixture, roster.seed)}

    def done(self, state: State) -> bool:
        """After the last round."""
        return self.training.done(state)

    def broadcast(self, state: State) -> State:
        """What the answer needs."""
        return self.training.broadcast(state)

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Counts, or the weighted change of the weights."""
        train = patients.train
        return Contribution.of(len(train), CTGANTraining(self.options, train.schema).answer(state, train, rng))

    def server_update(self, state: State, total: Contribution) -> State:
        """Keep the states that occur, or take the average."""
        return {**self.training.update(state, total), "round": np.array(int(state["round"]) + 1)}

    def metrics(self, state: State) -> dict[str, float]:
        """Losses of the last round, averaged over centers by weight."""
        if not len(state.get("losses", ())):
            return {}
        generator, discriminator = state["losses"][-1]
        return {"generator_loss": float(generator), "discriminator_loss": float(discriminator)}


def fit_ctgan(
    run: RunTask,
    schema: Schema,
    options: CTGANOptions | None = None,
    law: LawOptions | None = None,
) -> FittedCTGAN:
    """The generator of all centers' training patients: mixtures of columns, networks, and laws of times.

    Parameters
    ----------
    run
        Asks the federation.
    schema
        The federation's.
    options, law
        See `models.generative.ctgan.CTGANOptions` and `models.generative.survival_law.LawOptions`.
    """
    options = options or CTGANOptions()
    mixture = None
    if any(feature.numeric for feature in schema.features):
        columns = FitColumnMixtures(options.mixtures)
        mixture = mixture_of(run("columns", columns), columns)
    algorithm = FitCTGAN(options, schema, mixture)
    state = run("ctgan", algorithm)
    return FittedCTGAN(algorithm.training, state, fit_survival_law(run, schema, law))
