"""Gaussian mixtures over centers by exact variational Bayes: the posterior of the pooled patients, from sums alone."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, Algorithm, Roster, register
from federation.contribution import Contribution
from federation.kinds import COUNT, SUM, Kind, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.state import State
from harmonization import Schema
from models.generative.variational_mixture import (
    LLOYD,
    MOMENTS,
    START,
    VARIATIONAL,
    FittedMixture,
    MixtureOptions,
    VariationalMixture,
)
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
    radius
        For noise (`federation.privacy.dp.statistics.Noisy`): points farther from the origin are moved to this distance,
        so that no patient adds more. With None they are as they are, nothing bounds a patient's sums, and noise is
        refused. A fit asks 2 + ``lloyd_rounds`` + ``max_iter`` questions at most.

    Notes
    -----
    The sums of a component that one patient alone belongs to are that patient's values: they should be seen by nobody
    alone (secure sums), or with noise.
    """

    kinds = declare(
        {
            "number": COUNT,
            **dict.fromkeys(("sum", "outer"), Kind("sum", behind="number")),
            "entropy": SUM,
        }
    )

    options: MixtureOptions = MixtureOptions()
    radius: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.radius is not None and not self.radius > 0:
            raise ValueError(f"radius is {self.radius}; it is above 0, or None for no bound")

    def blocks(self, schema: Schema) -> int:
        """How many blocks `points` has."""
        return 1

    def bounds(self, state: State, schema: Schema) -> dict[str, float]:
        """A patient's responsibilities sum to 1 in each block, and points are no longer than `radius`."""
        if self.radius is None:
            return {}
        phase, each, k = int(state["phase"]), math.sqrt(self.blocks(schema)), self.options.components
        moved = np.linalg.norm(state["prior_mean"], axis=-1).max() if phase in (START, VARIATIONAL) else 0.0
        longest = self.radius + float(moved)  # from the prior mean
        found = {"number": each, "sum": each * longest}
        if phase != LLOYD:
            found["outer"] = each * longest**2
        if phase in (START, VARIATIONAL):
            found["entropy"] = each * max(math.log(k), 1e-6)
        return found

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
        points = self.points(state, patients)
        if self.radius is not None:
            length = np.linalg.norm(points, axis=2, keepdims=True)
            points = points * np.minimum(1.0, self.radius / np.maximum(length, 1e-300))
        return Contribution.of(len(patients.train), self._solver(0).answer(state, points))

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
            sums = total if self.radius is None else possible(total, self.radius)
            return {**solver.update(state, sums), **counters}
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


def possible(sums: Mapping[str, Floats], radius: float) -> dict[str, Floats]:
    """Noisy sums near to which there could be points: numbers not negative, means no farther than points can be, and
    covariances that are symmetric and positive. Exact sums stay what they are, but for components that are flat.

    Parameters
    ----------
    sums
        ``number`` (...), ``sum`` (..., columns), and maybe ``outer`` (..., columns, columns) or (..., columns).
    """
    number = np.maximum(sums["number"], 0.0)
    mean = sums["sum"] / np.maximum(number, 1.0)[..., None]
    mean *= np.minimum(1.0, 2 * radius / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-300))
    found = {**sums, "number": number, "sum": mean * number[..., None]}
    if "outer" not in sums:
        return found
    least = FLATTEST * radius**2 * number
    if sums["outer"].ndim == mean.ndim:
        found["outer"] = np.maximum(sums["outer"] - number[..., None] * mean**2, least[..., None])
        found["outer"] += number[..., None] * mean**2
        return found
    around = number[..., None, None] * mean[..., :, None] * mean[..., None, :]
    scatter = sums["outer"] - around
    values, vectors = np.linalg.eigh((scatter + scatter.swapaxes(-1, -2)) / 2)
    values = np.maximum(values, least[..., None])
    found["outer"] = (vectors * values[..., None, :]) @ vectors.swapaxes(-1, -2) + around
    return found


FLATTEST = 1e-4
"""Under noise no component has less variance in any direction, in squared radii."""


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

    def blocks(self, schema: Schema) -> int:
        """The numeric features."""
        return sum(feature.numeric for feature in schema.features)

    def points(self, state: State, patients: Patients) -> Floats:
        """A block per numeric feature."""
        train = patients.train
        numeric = [j for j, feature in enumerate(train.schema.features) if feature.numeric]
        return train.values[:, numeric, None]


def mixture_of(state: State, algorithm: MixtureAlgorithm) -> FittedMixture:
    """The mixture in a final state."""
    return FittedMixture(state, algorithm.options)
