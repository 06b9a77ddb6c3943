"""Federated preprocessing: one question, and every center shares the same preprocessor and time grid."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, Algorithm, Roster, register
from federation.contribution import Contribution
from federation.kinds import COUNT, Kind, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.state import State
from harmonization import Schema
from models.preprocessing import PreprocessingOptions, Preprocessor, feature_sums
from models.survival.time_scale import TimeScale

Floats = NDArray[np.float64]

OF_SEEN = Kind("sum", behind="seen")


@dataclass(frozen=True)
class OneRound(Algorithm):
    """An algorithm that asks one question and keeps what the sum of the answers says."""

    def start(self, roster: Roster) -> State:
        return {"round": np.array(0)}

    def done(self, state: State) -> bool:
        return int(state["round"]) > 0


@register
@dataclass(frozen=True)
class FitPreprocessor(OneRound):
    """Standardization, imputation, rare-feature filter and missingness indicators of the pooled training patients.

    Parameters
    ----------
    schema
        The federation's.
    options
        See `models.preprocessing.PreprocessingOptions`.
    reduce
        Modalities of which the design will have principal components; those of `options` by default.
    """

    name = "preprocessor"
    under_noise = "scale"
    kinds = declare({"patients": COUNT, "seen": COUNT, "missing": COUNT, "total": OF_SEEN, "squares": OF_SEEN})

    schema: Schema | None = field(default=None, metadata=SERVER)
    options: PreprocessingOptions = field(default=PreprocessingOptions(), metadata=SERVER)
    reduce: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "reduce", self.reduce or tuple(sorted(self.options.reduce)))

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Sums and counts over training patients."""
        return Contribution.of(len(patients.train), feature_sums(patients.train, self.reduce))

    def server_update(self, state: State, total: Contribution) -> State:
        """The arrays of a fitted `Preprocessor`, and the number of training patients."""
        assert self.schema is not None, "the coordinator needs the schema"
        fitted = Preprocessor.fit(total, self.schema, self.options)
        return {"round": np.array(1), "patients": np.array(total.patients), **fitted.to_arrays()}


def preprocessor_of(state: State) -> Preprocessor:
    """The preprocessor in a final state of `FitPreprocessor`."""
    return Preprocessor.from_arrays(state)


@register
@dataclass(frozen=True)
class FitTimeGrid(OneRound):
    """A common time grid: quantiles of the event times, from counts of events in fine cells.

    Parameters
    ----------
    horizon
        End of follow-up to consider, in the schema's time unit. Declared, since a maximum over patients
        would disclose one of them.
    cells
        Number of equal cells in (0, horizon].
    points
        Number of grid times wanted.
    """

    name = "time-grid"
    kinds = declare({"events": COUNT})

    horizon: float = 10.0
    cells: int = 480
    points: int = field(default=60, metadata=SERVER)

    @property
    def edges(self) -> Floats:
        """Upper ends of the cells, shape (cells,)."""
        return self.horizon * np.arange(1, self.cells + 1) / self.cells

    def bounds(self, state: State, schema: Schema) -> dict[str, float]:
        """A patient has one event at most."""
        return {"events": 1.0}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Events of training patients per cell."""
        train = patients.train
        cell = np.searchsorted(self.edges, train.time[train.event], side="left")
        return Contribution(len(train), events=np.bincount(cell, minlength=self.cells + 1)[: self.cells])

    def server_update(self, state: State, total: Contribution) -> State:
        """Cell ends at evenly spaced quantiles of the events; the horizon is always the last. And the events."""
        events = total["events"] * min(1.0, total.patients / max(float(total["events"].sum()), 1.0))  # more under noise
        times = TimeScale(self.horizon, self.edges, events, total.patients)
        return {
            "round": np.array(1),
            "grid": times.cuts(self.points),
            "edges": self.edges,
            "events": events,
            "patients": np.array(total.patients),
        }


def time_scale_of(state: State, horizon: float) -> TimeScale:
    """The time scale in a final state of `FitTimeGrid`; `horizon` is until when survival is integrated."""
    return TimeScale(horizon, state["edges"], state["events"], int(state["patients"]))
