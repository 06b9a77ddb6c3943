"""Counts that could be of patients, near to noisy ones. Only what was answered is used, so that it costs nothing.

Clipping at zero alone would turn noise into patients: of many empty cells half would be filled. So what has to be is
taken off all cells alike until the sum is that of the noisy cells, whose errors cancel (Hay et al. 2010, Boosting the
Accuracy of Differentially Private Histograms Through Consistency).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def counts_of(noisy: Floats) -> Floats:
    """Whole numbers, none negative, whose sum is that of the noisy ones, rounded; at least 1: somebody was asked."""
    total = max(float(np.rint(noisy.sum())), 1.0)
    return rounded(on_simplex(noisy.ravel(), total), total).reshape(noisy.shape)


def on_simplex(values: Floats, total: float) -> Floats:
    """The nearest array of such a sum without negative numbers (Duchi et al. 2008, figure 1)."""
    if total <= 0:
        return np.zeros_like(values)
    falling = np.sort(values)[::-1]
    excess = (np.cumsum(falling) - total) / np.arange(1, len(values) + 1)
    last = int(np.flatnonzero(falling > excess).max())
    return np.asarray(np.maximum(values - excess[last], 0.0))


def rounded(values: Floats, total: float) -> Floats:
    """Whole numbers of the same sum, a whole number, by the largest remainders."""
    whole = np.floor(values)
    more = round(total - whole.sum())
    order = np.argsort(-(values - whole), kind="stable")
    whole[order[:more]] += 1.0
    return whole
