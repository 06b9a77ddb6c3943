"""Patients as a design matrix and back, from sums over all patients: what networks that generate learn from.

Numbers are learned by their normal scores: the normal quantile of a patient's rank among all patients, read off the
summed histogram (`models.generative.cells`). So skewed laboratory values need no unit, no logarithm and no center's own
scale, and what is generated goes back through the same histogram: values that many share come back, none leaves the
range that was seen, and no part of the histogram stands for fewer than `least` patients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from harmonization import Cohort, Schema
from models.generative import cells
from models.generative.discretization import decimals_of_most, marginal_counts
from models.preprocessing import PreprocessingOptions, Preprocessor, feature_sums

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EVERYTHING = PreprocessingOptions(min_count=0, min_frequency=0.0, missing="keep")
"""Rare mutations are to be generated too."""


def encoding_sums(cohort: Cohort) -> dict[str, Floats]:
    """What an `Encoding` is made of, additive over patients: `feature_sums`, and histograms of numbers."""
    counts = marginal_counts(cohort)
    return {**feature_sums(cohort), "values": counts["values"], "decimals": counts["decimals"]}


@dataclass(frozen=True, eq=False)
class Encoding:
    """The map between a cohort and what a network sees and draws.

    Parameters
    ----------
    schema
        Of the patients.
    total
        The sum of `encoding_sums` over all of them.
    knots
        Most points of the line from a number to its normal score.
    least
        No part of a histogram stands for fewer patients.
    """

    schema: Schema
    total: Mapping[str, NDArray[Any]]
    knots: int = 33
    least: int = 5

    @cached_property
    def preprocessor(self) -> Preprocessor:
        """Makes the design matrix: every column that varies, missing values kept as NaN.

        Raises
        ------
        ValueError
            If none does.
        """
        return Preprocessor.fit(self.total, self.schema, _EVERYTHING)

    @cached_property
    def masks(self) -> tuple[tuple[int, ...], ...]:
        """Features (positions) that somebody lacks, those together that are always missing together."""
        both = self.total["missing"]
        lacking = both.diagonal()
        found: dict[int, list[int]] = {}
        for j in np.flatnonzero((lacking > 0) & self._varies):
            same = (both[j] == lacking[j]) & (lacking == lacking[j])
            first = next((i for i in found if same[i]), int(j))
            found.setdefault(first, []).append(int(j))
        return tuple(tuple(group) for group in found.values())

    def declare(self) -> dict[str, Any]:
        """Constants of the federation that `models.generative.vae.VAENetwork` is declared with, as JSON."""
        from models.survival.savae import variables_of  # torch, which counting does without

        design = self.preprocessor.design(self.schema)
        variables = variables_of(design, {c.name: "gaussian" for c in design if c.kind == "count"})
        lines = []
        for column, feature in enumerate(self._source):
            if self.schema.features[feature].numeric:
                counts, decimals = self._histogram(int(feature))
                knots, scores = cells.normal_scores(counts, decimals, self.least, self.knots)
                knots = (knots - design[column].mean) / design[column].scale
                lines.append({"column": column, "knots": knots.tolist(), "scores": scores.tolist()})
        first = {int(feature): column for column, feature in reversed(list(enumerate(self._source)))}
        return {
            "variables": [v.to_dict() for v in variables],
            "lines": lines,
            "masks": [first[group[0]] for group in self.masks],
        }

    def values(self, drawn: Floats, rng: np.random.Generator, fixed: Mapping[int, float] | None = None) -> Floats:
        """Patients' features from what a network drew, shape (n, features).

        Parameters
        ----------
        drawn
            Design columns (normal scores of numbers, 0 or 1), then whether each group of `masks` is missing, shape
            (n, columns + groups).
        rng
            Draws the missing values of features that otherwise never vary, at their rates.
        fixed
            Values that all have, by position (NaN: missing); what is missing with a fixed feature goes with it.
        """
        n, width, schema, fixed = len(drawn), len(self._source), self.schema, fixed or {}
        seen = self.total["seen"]
        encoded = np.tile(np.rint(self.total["total"] / np.maximum(seen, 1)), (n, 1))  # where all had the same
        encoded[:, self.preprocessor.keep] = drawn[:, :width]
        rate = self.total["missing"].diagonal() / self.total["patients"]
        absent = rng.random((n, len(rate))) < rate
        for g, group in enumerate(self.masks):
            absent[:, list(group)] = drawn[:, width + g : width + g + 1] > 0.5
            for j in fixed.keys() & set(group):
                absent[:, list(group)] = np.isnan(fixed[j])
        absent[:, rate == 0] = False
        values, at = np.empty((n, len(rate))), 0
        for j, feature in enumerate(schema.features):
            columns = len(feature.categories) - 1 if feature.kind == "categorical" else 1
            mine = encoded[:, at : at + columns]
            if feature.numeric:
                levels = ndtr(mine[:, 0]) if self._varies[j] else np.full(n, 0.5)
                values[:, j] = self._numbers(j, levels)
            else:
                values[:, j] = mine @ np.arange(1, columns + 1)
            at += columns
        values[absent] = np.nan
        for j, value in fixed.items():
            values[:, j] = value
        return values

    def encode_some(self, fixed: Mapping[int, float], learned: Callable[[torch.Tensor], torch.Tensor]) -> Floats:
        """What a network learns of a patient of whom only the fixed values are known, shape (1, columns + groups).

        Parameters
        ----------
        fixed
            Values by position; of those that are missing (NaN) it is said that they are.
        learned
            `models.generative.vae.VAENetwork.values`.
        """
        import torch

        row = np.full((1, len(self.schema.features)), np.nan)
        row[0, list(fixed)] = list(fixed.values())
        schema = replace(self.schema, causes=(), scores=())
        one = Cohort(schema, np.array(["x"]), row, np.zeros(1), np.zeros(1, bool))
        y: Floats = learned(torch.as_tensor(self.preprocessor.transform(one))).numpy().copy()
        for g, group in enumerate(self.masks):
            said = [float(np.isnan(fixed[j])) for j in group if j in fixed]
            y[0, len(self._source) + g] = said[0] if said else np.nan
        return y

    def has(self, feature: int, value: float) -> bool:
        """Whether anybody has a value (NaN: lacks one); of numbers any value will do."""
        if np.isnan(value):
            return bool(self.total["missing"][feature, feature] > 0)
        declared = self.schema.features[feature]
        if declared.numeric:
            return True
        widths = [len(f.categories) - 1 if f.kind == "categorical" else 1 for f in self.schema.features]
        at = sum(widths[:feature])
        counts = np.asarray(self.total["total"][at : at + widths[feature]])
        return bool(counts[int(value) - 1] > 0 if value > 0 else self.total["seen"][at] > counts.sum())

    @cached_property
    def _source(self) -> Ints:
        """The feature of each design column."""
        return np.array([c.feature for c in self.preprocessor.design(self.schema)], np.int64)

    @cached_property
    def _varies(self) -> NDArray[np.bool_]:
        return np.isin(np.arange(len(self.schema.features)), self._source)

    def _histogram(self, feature: int) -> tuple[Floats, int]:
        """Of a number, and with how many decimals it is written."""
        number = sum(f.numeric for f in self.schema.features[:feature])
        whole = self.schema.features[feature].kind == "count"
        decimals = 0 if whole else decimals_of_most(self.total["decimals"][number])
        return np.asarray(self.total["values"][number], np.float64), decimals

    def _numbers(self, feature: int, levels: Floats) -> Floats:
        counts, decimals = self._histogram(feature)
        if not counts.any():
            return np.full(len(levels), np.nan)
        declared = self.schema.features[feature]
        low = -np.inf if declared.low is None else declared.low
        high = np.inf if declared.high is None else declared.high
        return np.clip(cells.quantile(counts, levels, decimals, self.least), low, high)
