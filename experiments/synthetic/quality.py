"""The overall score of SDMetrics' quality report, for all columns and all pairs, by matrix products.

The package takes seconds to minutes for the thousands of pairs that lesions make; the number is the same (its tests
compare). Pairs are not left out by a threshold, as in the releases that published figures were made with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from experiments.synthetic.columns import Columns, all_columns
from harmonization import Cohort

Floats = NDArray[np.float64]


def sdv_quality(real: Cohort, synthetic: Cohort) -> float:
    """Mean of *column shapes* and *column pair trends*, in [0, 1] (https://docs.sdv.dev/sdmetrics)."""
    a, b = all_columns(real), all_columns(synthetic)
    return float(np.nanmean([np.nanmean(column_shapes(a, b)), np.nanmean(column_pair_trends(a, b))]))


def column_shapes(real: Columns, synthetic: Columns) -> Floats:
    """Complement of Kolmogorov-Smirnov's statistic, or of total variation, among known values; shape (p,)."""
    scores = []
    for j, numeric in enumerate(real.numeric):
        x, y = (c.values[~c.missing[:, j], j] for c in (real, synthetic))
        if not (len(x) and len(y)):
            scores.append(np.nan)
        elif numeric:
            scores.append(1 - ks_2samp(x, y, method="asymp").statistic)
        else:
            codes = np.union1d(x, y)
            rates = [np.bincount(np.searchsorted(codes, v), minlength=len(codes)) / len(v) for v in (x, y)]
            scores.append(1 - np.abs(rates[0] - rates[1]).sum() / 2)
    return np.array(scores, dtype=np.float64)


def column_pair_trends(real: Columns, synthetic: Columns) -> Floats:
    """Of every two columns, shape (p·(p − 1)/2,): similarity of their joint law, or of two numbers' correlation.

    Beside a class a number is cut in ten bins between its cohort's own extremes, missing going with the last; a missing
    class is a class. The correlation is Pearson's, and NaN where a column is constant.
    """
    p, numbers = len(real.names), np.flatnonzero(real.numeric)
    scores = np.full((p, p), np.nan)
    codes = [np.column_stack([_code(c, j) for j in range(p)]) for c in (real, synthetic)]
    levels = [np.unique(np.concatenate([c[:, j] for c in codes])) for j in range(p)]
    source = np.repeat(np.arange(p), [len(level) for level in levels])
    wide = [
        np.column_stack([c[:, j, None] == levels[j] for j in range(p)]).astype(np.float64) / np.sqrt(len(c))
        for c in codes
    ]
    joint = np.abs(wide[0].T @ wide[0] - wide[1].T @ wide[1])
    begins = np.searchsorted(source, np.arange(p))
    scores = 1 - np.add.reduceat(np.add.reduceat(joint, begins, axis=0), begins, axis=1) / 2
    similar = 1 - np.abs(_pearson(real.values[:, numbers]) - _pearson(synthetic.values[:, numbers])) / 2
    scores[np.ix_(numbers, numbers)] = similar
    return np.asarray(scores[np.triu_indices(p, 1)])


def _code(columns: Columns, j: int) -> Floats:
    x = columns.values[:, j]
    if columns.numeric[j]:
        known = x[~np.isnan(x)]
        return np.digitize(x, np.histogram_bin_edges(known)).astype(np.float64)
    return np.where(np.isnan(x), -1.0, x)


def _pearson(values: Floats) -> Floats:
    import pandas as pd

    return pd.DataFrame(values).corr(min_periods=2).to_numpy()
