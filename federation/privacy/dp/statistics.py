"""Noisy counts and sums: any algorithm that states how much one patient changes its answers, under noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, Algorithm, Roster, build, register
from federation.contribution import Contribution
from federation.kinds import SUM, Kind, declare, kind_of
from federation.memory import Memory
from federation.patients import Patients
from federation.policy import Refused
from federation.preprocessing import OneRound
from federation.privacy.dp.consistency import counts_of
from federation.privacy.dp.mechanism import Mechanism, of_arrays
from federation.state import State
from harmonization import Schema
from models.preprocessing import encode

Floats = NDArray[np.float64]


@register
@dataclass(frozen=True)
class Noisy(Algorithm):
    """An algorithm whose counts and sums (`Algorithm.kinds`) leave with noise.

    Every answer costs one Gaussian mechanism of noise multiplier `noise`, over all of its arrays together. Counts are
    made whole and not negative before the algorithm sees them (`counts_of`), which costs nothing; those that an
    algorithm cannot do without (`Kind.whole`) to at least 1, so that noise declares nothing impossible that there is.

    Parameters
    ----------
    inner
        Declaration of the algorithm.
    noise
        Noise multiplier of an answer.
    distributed
        Whether centers add shares of the noise, under secure aggregation.
    algorithm
        The coordinator's half.
    """

    name = "noisy"

    inner: str
    noise: float
    distributed: bool = False
    algorithm: Algorithm | None = field(default=None, metadata=SERVER)

    @classmethod
    def of(cls, algorithm: Algorithm, noise: float, distributed: bool = False) -> Noisy:
        """An algorithm under noise."""
        return cls(algorithm.declare(), noise, distributed, algorithm)

    @cached_property
    def _client(self) -> Algorithm:
        return build(self.inner)

    @property
    def kinds(self) -> Mapping[str, Kind]:  # type: ignore[override]
        """Those of the algorithm."""
        return self._client.kinds

    # -- at the coordinator ------------------------------------------------------------------------------------------

    @property
    def _server(self) -> Algorithm:
        assert self.algorithm is not None, "the coordinator needs the algorithm itself"
        return self.algorithm

    def start(self, roster: Roster) -> State:
        return self._server.start(roster)

    def done(self, state: State) -> bool:
        return self._server.done(state)

    def broadcast(self, state: State) -> State:
        return self._server.broadcast(state)

    def metrics(self, state: State) -> dict[str, float]:
        return self._server.metrics(state)

    def server_update(self, state: State, total: Contribution) -> State:
        """The algorithm's, on counts that are whole and not negative."""
        arrays: dict[str, Any] = {}
        for name, array in total.items():
            kind = kind_of(self.kinds, name)
            counts = kind is not None and kind.what == "count"
            least = 1.0 if kind is not None and kind.whole else 0.0
            arrays[name] = np.maximum(counts_of(array), least) if counts else array
        return self._server.server_update(state, Contribution.of(total.patients, arrays))

    # -- inside a center ---------------------------------------------------------------------------------------------

    def cuts(self, state: State, schema: Schema) -> Mapping[str, Sequence[float]]:
        """Those of the algorithm."""
        return self._client.cuts(state, schema)

    def mechanism(self, state: State, schema: Schema) -> Mechanism:
        """Noise in proportion to what one patient can change.

        Raises
        ------
        Refused
            If the algorithm does not say what that is, or of what is neither a count nor a sum.
        """
        bounds = self._client.bounds(state, schema)
        if not bounds:
            instead = f"; use {other!r}" if (other := self._client.under_noise) else ""
            raise Refused(
                f"differential privacy: {self._client.name!r} states no bounds on what one patient can change{instead}"
            )
        for name in bounds:
            kind = kind_of(self.kinds, name)
            if kind is None or kind.what not in ("count", "sum"):
                said = "of no declared kind" if kind is None else f"a {kind.what}"
                raise Refused(f"differential privacy: {name!r} is {said}; noise is for counts and sums")
        return of_arrays("patient", bounds, self.noise, distributed=self.distributed)

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        return self._client.client_update(state, patients, rng, memory)


@register
@dataclass(frozen=True)
class FitScale(OneRound):
    """Mean and standard deviation of features, from sums of values cut to ranges that are known beforehand.

    A number u is taken relative to its range, from -1 to 1; a center sums 1, u and u² over training patients. Of 0/1
    columns (binary features, and categories but the first) it sums ones; the row of a patient with more than `most` of
    them is shortened to the length of so many, so that rare ones do not pay for all that there could be.

    Parameters
    ----------
    ranges
        Lowest and highest value of every numeric feature of the schema.
    schema
        The federation's.
    most
        See above.
    """

    name = "scale"
    kinds = declare({"moments": SUM, "ones": SUM})

    ranges: Mapping[str, tuple[float, float]]
    schema: Schema | None = field(default=None, metadata=SERVER)
    most: int = 10

    def bounds(self, state: State, schema: Schema) -> dict[str, float]:
        """1, u and u² are at most 1, of each number; a row of ones has the length of `most`, or of all there are."""
        each = {"moments": 3 * len(self.ranges), "ones": min(self.most, int(zero_one(schema).sum()))}
        return {name: float(np.sqrt(count)) for name, count in each.items() if count}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Sums over training patients: ``moments`` (3, numeric features), ``ones`` (0/1 columns,)."""
        train = patients.train
        arrays: dict[str, Any] = {}
        if self.ranges:
            arrays["moments"] = moments = np.zeros((3, len(self.ranges)))
            for j, (name, (low, high)) in enumerate(self.ranges.items()):
                x = train.values[:, train.schema.names.index(name)]
                u = np.clip((2 * x[~np.isnan(x)] - low - high) / (high - low), -1.0, 1.0)
                moments[:, j] = len(u), u.sum(), u @ u
        if (columns := zero_one(train.schema)).any():
            ones = np.nan_to_num(encode(train)[:, columns])
            arrays["ones"] = np.minimum(1.0, np.sqrt(self.most / np.maximum(ones.sum(axis=1), 1.0))) @ ones
        return Contribution.of(len(train), arrays)

    def server_update(self, state: State, total: Contribution) -> State:
        """Mean and standard deviation of each column: usual ones where the noise leaves nothing else."""
        new: dict[str, Any] = {"round": np.array(1), "mean": np.empty(0), "scale": np.empty(0)}
        if "moments" in total:
            seen, first, second = total["moments"]
            known = np.maximum(seen, 1.0)
            mean = np.clip(first / known, -1.0, 1.0)
            variance = second / known - mean**2
            deviation = np.where((variance > 1e-3) & (variance <= 1), np.sqrt(np.abs(variance)), USUAL_DEVIATION)
            low, high = np.array(list(self.ranges.values())).T
            new["mean"] = (low + high) / 2 + mean * (high - low) / 2
            new["scale"] = deviation * (high - low) / 2
        frequency = np.clip(total["ones"] / total.patients, 0.0, 1.0) if "ones" in total else np.empty(0)
        common = np.clip(frequency, RARE, 1 - RARE)
        return {**new, "frequency": frequency, "deviation": np.sqrt(common * (1 - common))}


def zero_one(schema: Schema) -> NDArray[np.bool_]:
    """Which encoded columns (`models.preprocessing.encode`) are 0 or 1, shape (q,)."""
    widths = [len(f.categories) - 1 if f.kind == "categorical" else 1 for f in schema.features]
    return np.repeat([not f.numeric for f in schema.features], widths)


RARE = 0.05
"""A 0/1 column is divided by no less than the standard deviation at this frequency, lest noise and few patients make
it the largest of all."""

USUAL_DEVIATION = 0.5
"""Standard deviation of a feature in halves of its range, where it has to be guessed: the range is four of them."""


def ranges_of(schema: Schema, given: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Lowest and highest usual value of every numeric feature: as given, else the schema's.

    Raises
    ------
    ValueError
        If a feature has none, or a name is no numeric feature.
    """
    numeric = {f.name: f for f in schema.features if f.numeric}
    for name in given:
        if name not in numeric:
            raise ValueError(
                f"differential_privacy.ranges: {name!r} is no numeric feature; there are {', '.join(numeric)}"
            )
    found = {}
    for name, feature in numeric.items():
        low, high = given.get(name, (feature.low, feature.high))
        if low is None or high is None:
            raise ValueError(f"differential_privacy.ranges: {name!r} has no range in the schema; give one")
        found[name] = (float(low), float(high))
    return found


def constants(ranges: Mapping[str, tuple[float, float]]) -> tuple[Floats, Floats]:
    """Mean and standard deviation of features by their ranges alone."""
    low, high = np.array(list(ranges.values())).reshape(-1, 2).T
    return (low + high) / 2, USUAL_DEVIATION * (high - low) / 2
