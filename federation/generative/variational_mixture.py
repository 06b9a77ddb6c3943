"""Gaussian mixtures over centers by exact variational Bayes: the posterior of the pooled patients, from sums alone."""

from __future__ import annotations

import logging
from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, Algorithm, Roster, register
from federation.contribution import Contribution
from federation.kinds import COUNT, SUM, Kind, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.state import State
from models.generative.variational_mixture import MOMENTS, FittedMixture, MixtureOptions, VariationalMixture
from models.preprocessing import Preprocessor

logger = logging.getLogger("haemfed")

Floats = NDArray[np.float64]

_RESTARTS = 5
"""How often a fit starts over because other centers answered than before."""


@dataclass(frozen=True)
class MixtureAlgorithm(Algorithm):
    """A mixture of what a subclass makes of a center's training patients; `mixture_of` gives it.

    Parameters
    ----------
    options
        See `models.generative.variational_mixture.MixtureOptions`.

    Notes
    -----
    The sums of a component that one patient alone belongs to are that patient's values: they should be seen by nobody
    alone (secure sums).
    """

    kinds = declare(
        {
            "number": COUNT,
            **dict.fromkeys(("sum", "outer"), Kind("sum", behind="number")),
            "entropy": SUM,
        }
    )

    options: MixtureOptions = MixtureOptions()

    @abstractmethod
    def points(self, state: State, patients: Patients) -> Floats:
        """Points of the training patients, shape (n, blocks, columns), NaN where there is none."""

    def constants(self) -> State:
        """Arrays that `points` needs of the state; none by default."""
        return {}

    @property
    def _constants(self) -> tuple[str, ...]:
        return tuple(self.constants())

    def start(self, roster: Roster) -> State:
        """Nothing is known but the constants; the seed is that of the run."""
        counters = {"round": np.array(0), "restarts": np.array(0), "seed": np.array(roster.seed)}
        return {**counters, **self.constants(), **self._solver(roster.seed).start()}

    def done(self, state: State) -> bool:
        """Once the lower bound stands still."""
        return self._solver(0).done(state)

    def broadcast(self, state: State) -> State:
        """What the solver's answer needs, and the constants."""
        return {**self._solver(0).broadcast(state), **{name: state[name] for name in self._constants}}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Sums over training patients."""
        return Contribution.of(len(patients.train), self._solver(0).answer(state, self.points(state, patients)))

    def server_update(self, state: State, total: Contribution) -> State:
        """One step of the solver; from the beginning if other patients answered than before.

        Raises
        ------
        ValueError
            If that happens again and again.
        """
        solver = self._solver(int(state["seed"]))
        counters = {"round": np.array(int(state["round"]) + 1), "patients": np.array(total.patients)}
        if int(state["phase"]) == MOMENTS or total.patients == int(state["patients"]):
            return {**solver.update(state, total), **counters}
        restarts = int(state["restarts"]) + 1
        if restarts > _RESTARTS:
            raise ValueError(
                f"centers came and went {restarts} times during the fit (now {total.patients} patients, before "
                f"{state['patients']}); leave out those that are not steadily reachable"
            )
        logger.warning(
            "%s: %d patients answered, %d before; starting over", self.name, total.patients, state["patients"]
        )
        kept = {name: state[name] for name in ("seed", *self._constants)}
        return {**kept, **solver.start(), **counters, "restarts": np.array(restarts)}

    def metrics(self, state: State) -> dict[str, float]:
        """The lower bound, summed over blocks."""
        known = "bound" in state and bool(np.isfinite(state["bound"]).all())
        return {"lower_bound": float(state["bound"].sum())} if known else {}

    def _solver(self, seed: int) -> VariationalMixture:
        return VariationalMixture(self.options, seed)


@register
@dataclass(frozen=True)
class FitMixture(MixtureAlgorithm):
    """One mixture of the whole design matrix.

    Parameters
    ----------
    preprocessor
        Makes the matrix; it reaches centers as arrays.
    """

    name = "mixture"

    preprocessor: Preprocessor | None = field(default=None, metadata=SERVER)

    def constants(self) -> State:
        """The preprocessor."""
        return {} if self.preprocessor is None else self.preprocessor.to_arrays("preprocessor/")

    def broadcast(self, state: State) -> State:
        """What the solver's answer needs, and the preprocessor."""
        kept = {name: array for name, array in state.items() if name.startswith("preprocessor/")}
        return {**self._solver(0).broadcast(state), **kept}

    def points(self, state: State, patients: Patients) -> Floats:
        """The design matrix as one block."""
        x = patients.design("train", Preprocessor.from_arrays(state, "preprocessor/")).x
        return np.asarray(x, np.float64)[:, None]


@register
@dataclass(frozen=True)
class FitColumnMixtures(MixtureAlgorithm):
    """A mixture of the known values of each numeric feature, in the schema's order.

    The defaults are those by which CTGAN normalizes columns (Xu et al. 2019, NeurIPS, section 4.2).
    """

    name = "column-mixtures"

    options: MixtureOptions = MixtureOptions(concentration=1e-3)

    def points(self, state: State, patients: Patients) -> Floats:
        """A block per numeric feature."""
        train = patients.train
        numeric = [j for j, feature in enumerate(train.schema.features) if feature.numeric]
        return train.values[:, numeric, None]


def mixture_of(state: State, algorithm: MixtureAlgorithm) -> FittedMixture:
    """The mixture in a final state."""
    return FittedMixture(state, algorithm.options)
