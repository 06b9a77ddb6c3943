"""How alike two laws of one column are, with missing as a value: total variation and Kolmogorov-Smirnov."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from experiments.synthetic.columns import Columns

Floats = NDArray[np.float64]


def marginal_similarities(real: Columns, synthetic: Columns) -> Floats:
    """One minus a distance of the two laws of each column, shape (p,): 1 for equal laws, 0 for disjoint ones.

    Both distances are suprema of \\|P(A) − Q(A)\\| over sets A of values, of which missing is one: total variation, all
    sets, for classes; for numbers the half-lines {x ≤ t}, with and without missing. Without missing values these are
    the complements of total variation and of the Kolmogorov-Smirnov statistic.
    """
    compare = {True: _half_lines, False: _total_variation}
    distances = [
        compare[bool(numeric)](real.values[:, j], synthetic.values[:, j]) for j, numeric in enumerate(real.numeric)
    ]
    return 1 - np.array(distances, dtype=np.float64)


def _half_lines(real: Floats, synthetic: Floats) -> float:
    known = [np.sort(x[~np.isnan(x)]) for x in (real, synthetic)]
    at = np.concatenate(known)
    below = [np.searchsorted(k, at, "right") / len(x) for k, x in zip(known, (real, synthetic), strict=True)]
    return half_lines(below[0] - below[1], float(np.isnan(real).mean() - np.isnan(synthetic).mean()))


def half_lines(below: Floats, missing: float) -> float:
    """Largest difference of two laws of a number, from differences of the shares up to some numbers and of missing."""
    difference = np.append(below, 0.0)  # 0: of no number at all
    return float(max(np.abs(difference).max(), np.abs(difference + missing).max()))


def _total_variation(real: Floats, synthetic: Floats) -> float:
    # np.unique takes all NaN for one value
    values, code = np.unique(np.concatenate([real, synthetic]), return_inverse=True)
    counts = [np.bincount(c, minlength=len(values)) for c in (code[: len(real)], code[len(real) :])]
    return total_variation(counts[0], counts[1])


def total_variation(real: NDArray[np.generic], synthetic: NDArray[np.generic]) -> float:
    """Total variation of two laws, from counts of the same values."""
    return float(np.abs(real / real.sum() - synthetic / synthetic.sum()).sum() / 2)
