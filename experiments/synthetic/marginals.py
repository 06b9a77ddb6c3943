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
    difference = np.append(below[0] - below[1], 0.0)  # 0: of no number at all
    missing = float(np.isnan(real).mean() - np.isnan(synthetic).mean())
    return float(max(np.abs(difference).max(), np.abs(difference + missing).max()))


def _total_variation(real: Floats, synthetic: Floats) -> float:
    # np.unique takes all NaN for one value
    values, code = np.unique(np.concatenate([real, synthetic]), return_inverse=True)
    counts = [np.bincount(c, minlength=len(values)) for c in (code[: len(real)], code[len(real) :])]
    return float(np.abs(counts[0] / len(real) - counts[1] / len(synthetic)).sum() / 2)
