"""Patients as whole numbers: bins that are the same for everybody, from counts over all patients.

Every feature has a state per category or bin, and one more where a value may be missing. Time and event are one
variable of two states per bin of time: at risk until then, and left by censoring or by the event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort, Feature, Schema
from harmonization.schema import DAYS_PER
from models.generative import cells

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNUSED = np.iinfo(np.int64).max
"""Fills up the rows of bins."""


def states_of(feature: Feature) -> int:
    """Values of a feature that is not a number."""
    return len(feature.categories) if feature.kind == "categorical" else 2


def days(cohort: Cohort) -> Floats:
    """Times in days; rounding takes back what a division by 365.25 did to whole days."""
    return np.round(cohort.time * DAYS_PER[cohort.schema.time_unit], 6)


def marginal_counts(cohort: Cohort) -> dict[str, Floats]:
    """What bins are made of, additive over patients.

    Returns
    -------
    dict
        ``missing`` (features,); of numbers ``values`` (numbers, cells) and ``decimals`` (numbers, kinds); of times
        ``censored`` and ``events`` (cells,), and ``time_decimals``.
    """
    known = ~np.isnan(cohort.values)
    numeric = [j for j, feature in enumerate(cohort.schema.features) if feature.numeric]
    values, decimals = np.zeros((len(numeric), cells.SIZE)), np.zeros((len(numeric), cells.DECIMALS))
    for i, j in enumerate(numeric):
        x = cohort.values[known[:, j], j]
        values[i] = np.bincount(cells.cell_of(x), minlength=cells.SIZE)
        decimals[i] = np.bincount(cells.decimals_of(x), minlength=cells.DECIMALS)
    time = days(cohort)
    place = cells.cell_of(time)
    return {
        "missing": (~known).sum(0).astype(np.float64),
        "values": values,
        "decimals": decimals,
        "events": np.bincount(place[cohort.event], minlength=cells.SIZE).astype(np.float64),
        "censored": np.bincount(place[~cohort.event], minlength=cells.SIZE).astype(np.float64),
        "time_decimals": np.bincount(cells.decimals_of(time), minlength=cells.DECIMALS).astype(np.float64),
    }


def quantile_bins(counts: Floats, bins: int) -> Ints:
    """The last cell of each bin, at evenly spaced quantiles; every occupied cell its own bin if there are few.

    A value that many patients share is never split, so there may be fewer bins.
    """
    occupied = np.flatnonzero(counts)
    if len(occupied) <= bins:
        return occupied
    cumulative = np.cumsum(counts)
    levels = cumulative[-1] * np.arange(1, bins + 1) / bins
    return np.unique(np.searchsorted(cumulative, levels, side="left"))


@dataclass(frozen=True, eq=False)
class Discretizer:
    """Which state each value of a patient is.

    Parameters
    ----------
    bins
        Last cell of each bin of each number, rows filled up with UNUSED, shape (numbers, most bins).
    missing
        Whether a feature has a state for missing, shape (features,).
    time_bins
        Last cell of each bin of time, in days.
    """

    bins: Ints
    missing: NDArray[np.bool_]
    time_bins: Ints

    @classmethod
    def of(cls, total: Mapping[str, Floats], bins: int, time_bins: int) -> Discretizer:
        """From the sum of `marginal_counts` over all patients."""
        rows = [quantile_bins(counts, bins) for counts in total["values"]]
        padded = np.full((len(rows), bins), UNUSED)
        for row, ends in zip(padded, rows, strict=True):
            row[: len(ends)] = ends
        return cls(padded, total["missing"] > 0, quantile_bins(total["events"] + total["censored"], time_bins))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """As plain arrays."""
        return {"bins": self.bins, "missing": self.missing, "time_bins": self.time_bins}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Discretizer:
        """From `to_arrays`."""
        return cls(arrays["bins"], arrays["missing"], arrays["time_bins"])

    def cards(self, schema: Schema) -> Ints:
        """Number of states of each feature, and last of time and event together."""
        result, number = [], 0
        for feature, missing in zip(schema.features, self.missing, strict=True):
            if feature.numeric:
                result.append(int((self.bins[number] != UNUSED).sum()) + missing)
                number += 1
            else:
                result.append(states_of(feature) + missing)
        return np.array([*result, 2 * len(self.time_bins)], np.int64)

    def encode(self, cohort: Cohort) -> Ints:
        """States of patients, shape (n, features + 1).

        Raises
        ------
        ValueError
            If a value is missing where none was when the bins were made: they are then not of these patients.
        """
        codes = np.empty((len(cohort), len(cohort.schema.features) + 1), np.int64)
        cards, number = self.cards(cohort.schema), 0
        for j, feature in enumerate(cohort.schema.features):
            x = cohort.values[:, j]
            absent = np.isnan(x)
            if absent.any() and not self.missing[j]:
                raise ValueError(f"{feature.name!r} is missing for a patient, but was for none that were counted")
            known = np.where(absent, 0.0, x)
            if feature.numeric:
                ends = self.bins[number][self.bins[number] != UNUSED]
                state = np.minimum(np.searchsorted(ends, cells.cell_of(known)), max(len(ends) - 1, 0))
                number += 1
            else:
                state = known.astype(np.int64)
            codes[:, j] = np.where(absent, cards[j] - 1, state)
        place = np.searchsorted(self.time_bins, cells.cell_of(days(cohort)))
        codes[:, -1] = 2 * np.minimum(place, len(self.time_bins) - 1) + cohort.event
        return codes


@dataclass(frozen=True, eq=False)
class Decoder:
    """Values for states: within a bin as all patients' values were distributed.

    Parameters
    ----------
    discretizer
        The states.
    total
        The sum of `marginal_counts`.
    least
        No part of a distribution stands for fewer patients (`cells.runs`).
    """

    discretizer: Discretizer
    total: Mapping[str, Floats]
    least: int = 5

    def values(self, codes: Ints, schema: Schema, rng: np.random.Generator) -> Floats:
        """Feature values of patients from their states, shape (n, features)."""
        result = np.empty((len(codes), len(schema.features)))
        cards, number = self.discretizer.cards(schema), 0
        for j, feature in enumerate(schema.features):
            state = codes[:, j]
            absent = (state == cards[j] - 1) & self.discretizer.missing[j]
            if feature.numeric:
                decimals = 0 if feature.kind == "count" else decimals_of_most(self.total["decimals"][number])
                ends = self.discretizer.bins[number]
                x = self._within(self.total["values"][number], ends[ends != UNUSED], state, absent, decimals, rng)
                result[:, j] = np.clip(x, _or(feature.low, -np.inf), _or(feature.high, np.inf))
                number += 1
            else:
                result[:, j] = state
            result[absent, j] = np.nan
        return result

    def times(self, bins: Ints, event: NDArray[np.bool_], schema: Schema, rng: np.random.Generator) -> Floats:
        """Times in the schema's unit from bins, distributed as the times of events or of censoring in the bin are."""
        decimals, ends = decimals_of_most(self.total["time_decimals"]), self.discretizer.time_bins
        result = np.empty(len(bins))
        for name, chosen in (("events", event), ("censored", ~event)):
            counts = self.total[name]
            result[chosen] = self._within(counts, ends, bins[chosen], np.zeros(chosen.sum(), bool), decimals, rng)
        return result / DAYS_PER[schema.time_unit]

    def _within(
        self,
        counts: Floats,
        ends: Ints,
        state: Ints,
        absent: NDArray[np.bool_],
        decimals: int,
        rng: np.random.Generator,
    ) -> Floats:
        result = np.full(len(state), np.nan)
        for b, end in enumerate(ends):
            chosen = (state == b) & ~absent
            if not chosen.any():
                continue
            start = ends[b - 1] + 1 if b else 0
            part = np.zeros_like(counts)
            part[start : end + 1] = counts[start : end + 1]
            if not part.any():  # smoothing made possible what was never seen; any value of the bin will do
                part[end] = 1.0
            result[chosen] = cells.draw(part, int(chosen.sum()), decimals, self.least, rng)
        return result


def _or(limit: float | None, otherwise: float) -> float:
    return otherwise if limit is None else limit


def decimals_of_most(counts: Floats) -> int:
    """With how many decimals all but a hundredth of the values are written."""
    if not counts.any():
        return cells.DECIMALS - 1
    return int(np.searchsorted(np.cumsum(counts), 0.99 * counts.sum()))
