"""How far apart two patients are: numbers, categories, missing values and outcome in one distance between 0 and 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_chunked

from harmonization import Cohort, Schema

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def records(cohort: Cohort) -> Floats:
    """Features, time and event of each patient, shape (n, p + 2); missing is NaN."""
    return np.column_stack([cohort.values, cohort.time, cohort.event])


def is_numeric(schema: Schema) -> NDArray[np.bool_]:
    """Which columns of `records` are numbers on a scale, shape (p + 2,)."""
    return np.array([*(f.numeric for f in schema.features), True, False])


@dataclass(frozen=True, eq=False)
class MixedDistance:
    """The mean over columns of a difference between 0 and 1 (after Gower 1971).

    Of two numbers the difference of their ranks among the real patients, as fractions, so that no unit and no outlier
    matters; of two categories 0 if they are equal, else 1; of a missing value and a known one 1; of two missing
    values 0, since generators draw *that* a value is missing, as they draw values.

    Parameters
    ----------
    schema
        Of the patients.
    scales
        For each column of `records` the sorted values of the real patients and their fractional ranks.
    lacking
        Columns that anybody lacks, shape (p + 2,).

    References
    ----------
    Gower (1971), A general coefficient of similarity and some of its properties, Biometrics 27.
    """

    schema: Schema
    scales: Sequence[tuple[Floats, Floats]]
    lacking: NDArray[np.bool_]

    @classmethod
    def of(cls, real: Cohort, *others: Cohort) -> MixedDistance:
        """With the ranks of real patients; the others are only asked what they lack."""
        scales = []
        for column in records(real).T:
            values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
            scales.append((values, (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1)))
        lacking = np.any([np.isnan(records(c)).any(axis=0) for c in (real, *others)], axis=0)
        return cls(real.schema, scales, lacking)

    def embed(self, cohort: Cohort, columns: Sequence[int] | None = None) -> Floats:
        """Points whose sums of absolute differences are the patients' distances.

        Parameters
        ----------
        columns
            Of `records`, over which the mean is taken; by default all.

        Returns
        -------
        array of shape (n, number of coordinates)
        """
        table, numeric = records(cohort), is_numeric(self.schema)
        chosen = range(table.shape[1]) if columns is None else columns
        parts: list[Floats] = []
        for j in chosen:
            x, known = table[:, j], ~np.isnan(table[:, j])
            levels = 2 if j >= len(self.schema.features) else len(self.schema.features[j].categories)
            if numeric[j]:
                values, ranks = self.scales[j]
                x = np.interp(np.where(known, x, 0.0), values, ranks) if len(values) else np.zeros(len(x))
                # A number x is (x/2, (1-x)/2): two numbers differ by |x-y|, and each differs by 1/2 from (0, 0).
                parts += [x / 2 * known, (1 - x) / 2 * known] if self.lacking[j] else [x]
            elif levels > 2:
                parts += [(x == level) / 2 for level in range(levels)]
            else:
                parts.append(np.where(known, x, 0.5))
            if self.lacking[j]:
                parts.append(~known / 2)
        return np.column_stack(parts).astype(np.float64) / len(chosen)


def by_rows(a: Floats, b: Floats, reduce: Callable[[Floats, int], tuple[Any, ...]]) -> tuple[Any, ...]:
    """Reduce the distances of points a (n, d) to points b (m, d), a block of rows at a time.

    Parameters
    ----------
    reduce
        Of distances (rows, m) and the first row's position, to arrays with one entry per row.

    Returns
    -------
    tuple of arrays with n entries
    """
    blocks = list(pairwise_distances_chunked(a, b, metric="manhattan", reduce_func=reduce, working_memory=64))
    return tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))


def nearest(a: Floats, b: Floats, k: int, itself: bool = False) -> tuple[Floats, Ints]:
    """Distances to the k nearest of b for each of a, ascending, shape (n, k), and who they are.

    Parameters
    ----------
    itself
        a and b are the same patients, and nobody is his own neighbor.
    """

    def reduce(distances: Floats, start: int) -> tuple[Floats, Ints]:
        rows = np.arange(len(distances))
        if itself:
            distances[rows, start + rows] = np.inf
        who = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(distances, who, 1), who

    distances, who = by_rows(a, b, reduce)
    return distances, who
