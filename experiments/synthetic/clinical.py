"""Clinical synthetic fidelity (CSF): marginals, correlations, and all clinical columns together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from experiments.synthetic.associations import correlation_similarities
from experiments.synthetic.columns import Columns, clinical_columns
from experiments.synthetic.marginals import marginal_similarities
from harmonization import Cohort

Floats = NDArray[np.float64]

NEIGHBOURS = 10
MAX_SUBSETS = 4
"""The larger cohort is compared in so many parts of the smaller one's size, at most."""


def clinical_fidelity(real: Cohort, synthetic: Cohort, rng: np.random.Generator) -> dict[str, float]:
    """``csf`` and the three numbers it is the mean of (docs/synthetic.md, Evaluation)."""
    a, b = clinical_columns(real), clinical_columns(synthetic)
    pairs = correlation_similarities(a, b)
    parts = {
        "csf_marginals": float(marginal_similarities(a, b).mean()),
        "csf_correlations": float(np.nanmean(pairs)),
        "csf_multivariate": multivariate_similarity(a, b, rng),
    }
    return {"csf": float(np.mean(list(parts.values()))), **parts}


def multivariate_similarity(real: Columns, synthetic: Columns, rng: np.random.Generator) -> float:
    """Twice the fraction of nearest neighbours that are of the other cohort, at most 1.

    It estimates ∫ 2pq / (p + q) of the two densities: 1 for equal laws, 0 for disjoint ones. Cohorts are compared at
    equal size, in parts of the larger one.

    References
    ----------
    Schilling (1986), JASA 81:799. Henze and Penrose (1999), Ann Stat 27:290.
    """
    points = _points(real, synthetic)
    first, second = points[: len(real)], points[len(real) :]
    size = min(len(first), len(second))
    large = max(len(first), len(second))
    parts = np.array_split(rng.permutation(large), range(size, large, size))[: max(1, min(MAX_SUBSETS, large // size))]
    found = [
        _other_neighbours(first[part], second, rng)
        if len(first) > size
        else _other_neighbours(first, second[part], rng)
        for part in parts
    ]
    return min(1.0, 2 * float(np.mean(found)))


def _other_neighbours(first: Floats, second: Floats, rng: np.random.Generator) -> float:
    """Fraction of the nearest neighbours of all points that are of the other set."""
    pooled, mine = np.concatenate([first, second]), np.repeat([0, 1], [len(first), len(second)])
    k = min(NEIGHBOURS, len(pooled) - 1)
    distance = cdist(pooled, pooled, "sqeuclidean")
    distance += rng.uniform(0, 1e-9, distance.shape)  # among equals, any
    np.fill_diagonal(distance, np.inf)
    nearest = np.argpartition(distance, k - 1, axis=1)[:, :k]
    return float((mine[nearest] != mine[:, None]).mean())


def _points(real: Columns, synthetic: Columns) -> Floats:
    """Both cohorts in a space where every column has the range 1: numbers by rank, classes, and missing as a place.

    Ranks are among the patients of both. Two classes, and known and missing, are at distance 1, as are least and
    greatest number.
    """
    columns = []
    for j, numeric in enumerate(real.numeric):
        x = np.concatenate([real.values[:, j], synthetic.values[:, j]])
        missing = np.isnan(x)
        if numeric:
            rank = rankdata(x, nan_policy="omit")
            span = max(1.0, float(np.nanmax(rank, initial=1.0)) - 1)
            columns += [np.where(missing, 0.5, (rank - 1) / span), missing * np.sqrt(0.75)]  # ends: .25 + .75 = 1
        else:
            codes = np.unique(x)  # NaN is one of them
            columns += [np.where(missing if np.isnan(c) else x == c, np.sqrt(0.5), 0.0) for c in codes]
    return np.column_stack(columns)
