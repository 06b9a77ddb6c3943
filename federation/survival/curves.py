"""Survival curves and log-rank test of all centers' patients, from one question about counts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import register
from federation.contribution import Contribution
from federation.kinds import COUNT, SUM, Kind, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.preprocessing import OneRound
from federation.state import State
from harmonization import Cohort, Schema
from harmonization.schema import TimeUnit
from models.survival.descriptive import LogRank, SurvivalCurve, log_rank_sums
from models.survival.time_grid import TimeGrid, event_counts


@register
@dataclass(frozen=True)
class FitCurves(OneRound):
    """Events and departures per group and cell of a declared time grid.

    Parameters
    ----------
    feature
        Groups are its values: those of a binary or categorical feature, or the ranges between `edges`. None: one group.
    edges
        Increasing upper ends (included) of the groups of a continuous feature or count, but the last.
    levels
        Number of groups; set by `of`.
    strata
        ``center``: the log-rank test compares patients with others of their own center only.
    resolution, horizon
        Of the grid, in days. A center's count of one event on one day is that patient's; with 30 it is that of a month.
        Both are part of the declaration, which every center's audit log keeps.
    """

    name = "survival-curves"
    kinds = declare(
        {
            "leaving": COUNT,
            "events": Kind("count", behind="leaving"),
            "unknown": Kind("count", beside="leaving"),
            **dict.fromkeys(("excess", "variance"), SUM),
        }
    )

    feature: str | None = None
    edges: tuple[float, ...] = ()
    levels: int = 1
    strata: Literal["none", "center"] = "none"
    resolution: float = 1.0
    horizon: float = 36525.0

    def __post_init__(self) -> None:
        TimeGrid(self.resolution, self.horizon)  # checks both
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges are {self.edges}; they must increase")

    @classmethod
    def of(
        cls,
        schema: Schema,
        feature: str | None = None,
        edges: tuple[float, ...] = (),
        strata: Literal["none", "center"] = "none",
        resolution: float = 1.0,
        horizon: float = 36525.0,
    ) -> FitCurves:
        """With the number of groups that the schema says.

        Raises
        ------
        ValueError
            If edges are missing for a number, or given for a category.
        """
        return cls(feature, edges, len(group_names(schema, feature, edges)), strata, resolution, horizon)

    @property
    def grid(self) -> TimeGrid:
        """The shared time grid."""
        return TimeGrid(self.resolution, self.horizon)

    def bounds(self, state: State, schema: Schema) -> dict[str, float]:
        """A patient leaves once, with or without an event. Log-rank sums of one center have no bound that is known."""
        return {} if self.strata == "center" else {"leaving": 1.0, "events": 1.0, "unknown": 1.0}

    def cuts(self, state: State, schema: Schema) -> dict[str, tuple[float, ...]]:
        """The edges."""
        return {} if self.feature is None else {self.feature: self.edges}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Counts over training patients whose group is known."""
        train = patients.train
        group = self._group(train)
        known = group >= 0
        cell, event = self.grid.cells(train.time[known], train.event[known], train.schema.time_unit)
        size = self.grid.size
        # One count over (group, cell): groups are rows.
        flat = event_counts(group[known] * size + cell, event, self.levels * size)
        counts = {name: array.reshape(self.levels, size) for name, array in flat.items()}
        alone = log_rank_sums(counts["events"], counts["leaving"]) if self.strata == "center" else {}
        return Contribution.of(len(train), {**counts, **alone, "unknown": np.array((~known).sum())})

    def server_update(self, state: State, total: Contribution) -> State:
        """The counts where anything happened, and the log-rank sums."""
        leaving = total["leaving"]
        events = np.minimum(total["events"], leaving)  # under noise there may be more
        cells = np.flatnonzero(leaving.sum(axis=0))
        alone = self.strata == "center"
        sums: Mapping[str, NDArray[np.float64]] = total if alone else log_rank_sums(events, leaving)
        return {
            "round": np.array(1),
            "cells": cells,
            "events": events[:, cells],
            "leaving": leaving[:, cells],
            "unknown": total["unknown"],
            "excess": sums["excess"],
            "variance": sums["variance"],
        }

    def _group(self, cohort: Cohort) -> NDArray[np.int64]:
        """Each patient's group, -1 where it is missing."""
        if self.feature is None:
            return np.zeros(len(cohort), dtype=np.int64)
        values = cohort.column(self.feature)
        group = np.searchsorted(self.edges, values, side="left") if self.edges else np.nan_to_num(values)
        return np.where(np.isnan(values), -1, group).astype(np.int64)


def group_names(schema: Schema, feature: str | None, edges: tuple[float, ...] = ()) -> list[str]:
    """Names of the groups, in order."""
    if feature is None:
        return ["all"]
    described = schema.features[schema.index(feature)]
    if described.numeric != bool(edges):
        raise ValueError(f"feature {feature!r} is {described.kind}; edges are for numbers, which need them")
    if described.kind == "categorical":
        return [f"{feature}={category}" for category in described.categories]
    if not edges:
        return [f"{feature}={value}" for value in (0, 1)]
    bounds = [f"{feature}<={edges[0]:g}"]
    bounds += [f"{low:g}<{feature}<={high:g}" for low, high in itertools.pairwise(edges)]
    return [*bounds, f"{feature}>{edges[-1]:g}"]


def curves_of(state: State, algorithm: FitCurves, schema: Schema) -> dict[str, SurvivalCurve]:
    """Each group's curve, by name, from a final state; groups without patients are left out."""
    unit: TimeUnit = schema.time_unit
    times = algorithm.grid.times(state["cells"], unit)
    names = group_names(schema, algorithm.feature, algorithm.edges)
    counts = zip(names, state["events"], state["leaving"], strict=True)
    return {name: SurvivalCurve.of(times, events, leaving) for name, events, leaving in counts if leaving.any()}


def log_rank_of(state: State) -> LogRank:
    """The log-rank test over the groups, from a final state."""
    return LogRank.of(state["excess"], state["variance"])
