"""One classification from many draws: the partition of least expected variation of information, and how sure it is.

The variation of information (Meilă 2007, in bits) between partitions with cluster sizes n_k, m_l and common counts n_kl
is [Σ_k f(n_k) + Σ_l f(m_l) - 2 Σ_kl f(n_kl)] / N with f(n) = n log₂ n. Its posterior expectation is taken over the
draws themselves, not by the lower bound that needs the similarity matrix alone (Wade & Ghahramani 2018, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.optimize import linear_sum_assignment

from clustering.similarity import canonical

_TIE = 1e-9  # differences below are rounding


@dataclass(frozen=True)
class PointEstimate:
    """A partition that minimizes a posterior expected loss.

    Parameters
    ----------
    labels
        Shape (patients,), int32; 0 is the largest cluster.
    expected_vi
        Posterior expected variation of information to it, bits.
    runs, agreeing
        Searches made, and how many of them ended at this loss: when it is one, more runs may find better.
    """

    labels: np.ndarray
    expected_vi: float
    runs: int
    agreeing: int


@dataclass(frozen=True)
class CredibleBall:
    """The smallest ball around a partition with a given posterior probability (Wade & Ghahramani 2018, section 5).

    Each bound is a set of distinct partitions, shape (ties, patients), int32.

    Parameters
    ----------
    radius
        Bits of variation of information.
    probability
        Fraction of the draws inside: at least the level.
    horizontal
        The draws inside farthest from the centre.
    upper, lower
        Of the draws inside with fewest (upper) or most (lower) clusters, the farthest.
    """

    radius: float
    probability: float
    horizontal: np.ndarray
    upper: np.ndarray
    lower: np.ndarray


def variation_of_information(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of two partitions of the same patients, in bits: 0 if equal, at most log2(patients).

    Parameters
    ----------
    a, b
        Shape (patients,), integers >= 0.
    """
    return float(vi_to_draws(a, np.atleast_2d(b))[0])


def vi_to_draws(labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Variation of information between one partition, (patients,), and each of some, (draws, patients), in bits.

    Raises
    ------
    ValueError
        If they do not label the same number of patients.
    """
    labels, draws = canonical(labels), canonical(draws)
    if draws.shape[1:] != labels.shape:
        raise ValueError(f"labels: shape {labels.shape}, but draws have shape {draws.shape}")
    return np.asarray(_distances(labels, draws, _n_log_n(len(labels))))


def minimize_vi(
    draws: np.ndarray, *, runs: int = 16, max_clusters: int | None = None, candidates: int = 200, seed: int = 0
) -> PointEstimate:
    """The partition of least posterior expected variation of information, by a SALSO search.

    Each run allocates the patients one by one in random order where the loss grows least, or starts from a random
    partition; then moves single patients until none improves; then dissolves clusters and allocates their patients
    anew where that improves (Dahl, Johnson & Müller, J. Comput. Graph. Stat. 2022, algorithm 1). The first run starts
    at the best of the draws, so that the result is at least as good.

    Parameters
    ----------
    draws
        Shape (draws, patients), integers >= 0.
    runs
        Searches; the best is returned.
    max_clusters
        Most clusters allowed; by default as many as 95% of the draws do not exceed. Without a limit, patients of whom
        no two draws agree can each become a cluster, more than any plausible draw has.
    candidates
        Draws, chosen at random, among which the best is sought for the first run.
    seed
        Of all randomness.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    if np.ndim(draws) != 2:
        raise ValueError(f"draws: shape (draws, patients) (found {np.shape(draws)})")
    for name, value in (("runs", runs), ("max_clusters", max_clusters), ("candidates", candidates)):
        if value is not None and value < 1:
            raise ValueError(f"{name}: at least 1 (found {value})")
    draws = canonical(draws)
    patients = draws.shape[1]
    clusters = draws.max(1) + 1
    usual = int(np.quantile(clusters, 0.95, method="nearest"))
    most = min(patients, usual if max_clusters is None else max_clusters)
    offsets = np.concatenate([[0], np.cumsum(clusters)])
    rows = np.ascontiguousarray((draws + offsets[:-1, None]).T, dtype=np.int32)  # (patients, draws) of all the clusters
    n_log_n = _n_log_n(patients)
    rng = np.random.default_rng(seed)

    found, losses = [], []
    for run in range(runs):
        start = np.full(patients, -1, np.int32)
        if run == 0:
            start = _best_draw(draws[clusters <= most], draws, candidates, n_log_n, rng, default=start)
        elif rng.random() < 0.5:
            start = rng.integers(most, size=patients, dtype=np.int32)
        found.append(canonical(_search(start, rows, int(offsets[-1]), most, n_log_n, rng)))
        losses.append(float(_distances(found[-1], draws, n_log_n).mean()))
    best = int(np.argmin(losses))
    return PointEstimate(
        _by_size(found[best]), losses[best], runs, int(sum(loss < losses[best] + _TIE for loss in losses))
    )


def credible_ball(draws: np.ndarray, center: np.ndarray, level: float = 0.95) -> CredibleBall:
    """The credible ball around a partition, with its horizontal and vertical bounds.

    Parameters
    ----------
    draws
        Shape (draws, patients).
    center
        Shape (patients,), such as `minimize_vi`'s labels.
    level
        Posterior probability to hold, in (0, 1].
    """
    if not 0 < level <= 1:
        raise ValueError(f"level: in (0, 1] (found {level})")
    draws = canonical(draws)
    distances = vi_to_draws(center, draws)
    # the rounding of level * draws must not ask for one draw more
    radius = float(np.sort(distances)[int(np.ceil(level * len(draws) - _TIE)) - 1])
    inside = np.flatnonzero(distances <= radius + _TIE)
    clusters = draws[inside].max(1)

    def farthest(some: np.ndarray) -> np.ndarray:
        return np.unique(draws[some[distances[some] >= distances[some].max() - _TIE]], axis=0)

    return CredibleBall(
        radius,
        len(inside) / len(draws),
        farthest(inside),
        farthest(inside[clusters == clusters.min()]),
        farthest(inside[clusters == clusters.max()]),
    )


def match_draws(draws: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Name the clusters of each draw after those of a partition: the one-to-one matching of most common patients.

    Parameters
    ----------
    draws
        Shape (draws, patients).
    labels
        Shape (patients,).

    Returns
    -------
    np.ndarray
        Shape (draws, patients), int32: a cluster of ``labels`` as numbered there, or -1 where the draw's cluster
        matches none (the draw has more clusters, or shares no patient with those left).
    """
    partition, draws = canonical(labels), canonical(draws)
    if draws.shape[1:] != partition.shape:
        raise ValueError(f"labels: shape {partition.shape}, but draws have shape {np.shape(draws)}")
    _, first = np.unique(partition, return_index=True)
    result = np.empty_like(draws)
    for s, draw in enumerate(draws):
        clusters = int(draw.max()) + 1
        common = np.bincount(draw * len(first) + partition, minlength=clusters * len(first))
        common = common.reshape(clusters, len(first))
        of_draw, of_partition = linear_sum_assignment(common, maximize=True)
        matched = np.full(clusters, -1, np.int32)
        shared = common[of_draw, of_partition] > 0
        matched[of_draw[shared]] = np.asarray(labels)[first[of_partition[shared]]]
        result[s] = matched[draw]
    return result


def membership(draws: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability of each patient to belong to each cluster of a partition.

    The fraction of draws in which the patient's cluster is the one matched to it (`match_draws`). Matching, rather
    than averaged co-clustering, keeps this a probability: rows sum to 1 less the probability of a cluster that the
    partition does not have, and a cluster of one patient needs no exception.

    Parameters
    ----------
    draws
        Shape (draws, patients).
    labels
        Shape (patients,).

    Returns
    -------
    np.ndarray
        Shape (patients, clusters), float64; columns in increasing order of the labels.
    """
    matched = match_draws(draws, labels)
    return np.stack([(matched == name).mean(0) for name in np.unique(labels)], axis=1)


def _n_log_n(patients: int) -> np.ndarray:
    """f(n) = n log₂ n for n = 0 … patients + 1."""
    n = np.arange(patients + 2, dtype=float)
    return np.asarray(n * np.log2(np.maximum(n, 1)))


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Number canonical labels by decreasing size, ties in order of appearance."""
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.asarray(np.argsort(order)[labels], dtype=np.int32)


def _best_draw(
    allowed: np.ndarray,
    draws: np.ndarray,
    candidates: int,
    n_log_n: np.ndarray,
    rng: np.random.Generator,
    default: np.ndarray,
) -> np.ndarray:
    if len(allowed) == 0:
        return default
    some = allowed[rng.choice(len(allowed), min(candidates, len(allowed)), replace=False)]
    some = np.unique(some, axis=0)
    best = int(np.argmin([_distances(one, draws, n_log_n).mean() for one in some]))
    return np.asarray(some[best])


@njit(cache=True)
def _distances(labels: np.ndarray, draws: np.ndarray, n_log_n: np.ndarray) -> np.ndarray:
    patients = len(labels)
    clusters = labels.max() + 1
    own = n_log_n[np.bincount(labels)].sum()
    result = np.empty(len(draws))
    for s in range(len(draws)):
        others = draws[s].max() + 1
        common = np.zeros((others, clusters), np.int32)
        for i in range(patients):
            common[draws[s, i], labels[i]] += 1
        total = own
        for other in range(others):
            size = 0
            for k in range(clusters):
                size += common[other, k]
                total -= 2.0 * n_log_n[common[other, k]]
            total += n_log_n[size]
        result[s] = total / patients if total > 1e-9 else 0.0  # equal partitions leave rounding
    return result


# The search ----------------------------------------------------------------------------------------------------------
# Adding a patient to cluster k costs g(n_k) - (2/S) Σ_s g(n_kl), with g(n) = f(n+1) - f(n) and l the patient's cluster
# in draw s. The tables are: n_kl, shape (clusters of all draws, k); g(n_kl), the same shape, so that a patient's costs
# are a sum of contiguous rows, one per draw; n_k; and g.
_Tables = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@njit(cache=True)
def _add(rows: np.ndarray, k: int, change: int, tables: _Tables) -> None:
    counts, gains, sizes, g = tables
    for row in rows:
        counts[row, k] += change
        gains[row, k] = g[counts[row, k]]
    sizes[k] += change


@njit(cache=True)
def _costs(rows: np.ndarray, tables: _Tables, costs: np.ndarray) -> int:
    """Fill the costs of every cluster in use and of an empty one; return how many columns these are."""
    _, gains, sizes, g = tables
    width = len(sizes)
    while width > 1 and sizes[width - 1] == 0 and sizes[width - 2] == 0:
        width -= 1
    costs[:width] = 0.0
    for row in rows:
        for k in range(width):
            costs[k] += gains[row, k]
    for k in range(width):
        costs[k] = g[sizes[k]] - 2.0 * costs[k] / len(rows)
    return width


@njit(cache=True)
def _allocate(who: np.ndarray, labels: np.ndarray, rows: np.ndarray, tables: _Tables) -> None:
    costs = np.empty(len(tables[2]))
    for i in who:
        width = _costs(rows[i], tables, costs)
        k = int(np.argmin(costs[:width]))
        _add(rows[i], k, 1, tables)
        labels[i] = k


@njit(cache=True)
def _sweeten(labels: np.ndarray, rows: np.ndarray, tables: _Tables, rng: np.random.Generator) -> None:
    """Move single patients, in random order, until none improves: every move lowers the loss, so this ends."""
    counts, _, sizes, g = tables
    costs = np.empty(len(sizes))
    moved = True
    while moved:
        moved = False
        for i in rng.permutation(len(labels)):
            width = _costs(rows[i], tables, costs)
            own = labels[i]
            without = 0.0
            for row in rows[i]:
                without += g[counts[row, own] - 1]
            costs[own] = g[sizes[own] - 1] - 2.0 * without / rows.shape[1]
            best = int(np.argmin(costs[:width]))
            if costs[best] < costs[own] - _TIE:
                _add(rows[i], own, -1, tables)
                _add(rows[i], best, 1, tables)
                labels[i] = best
                moved = True


@njit(cache=True)
def _loss(tables: _Tables, n_log_n: np.ndarray, draws: int) -> float:
    """N times the expected distance, but for the draws' own entropies."""
    counts, _, sizes, _ = tables
    common = 0.0
    for row in range(counts.shape[0]):
        for k in range(counts.shape[1]):
            common += n_log_n[counts[row, k]]
    return float(n_log_n[sizes].sum()) - 2.0 * common / draws


@njit(cache=True)
def _search(
    start: np.ndarray, rows: np.ndarray, clusters: int, most: int, n_log_n: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """One run from a partition in which -1 is not yet allocated; returns labels below ``most``."""
    patients, draws = rows.shape
    sizes = np.zeros(most, np.int64)
    tables = (np.zeros((clusters, most), np.int32), np.zeros((clusters, most)), sizes, n_log_n[1:] - n_log_n[:-1])
    labels = start.copy()
    for i in range(patients):
        if labels[i] >= 0:
            _add(rows[i], labels[i], 1, tables)
    order = rng.permutation(patients)
    _allocate(order[labels[order] < 0], labels, rows, tables)
    _sweeten(labels, rows, tables, rng)
    # Dissolving a cluster is the only move here that changes many patients at once.
    improved = True
    while improved:
        improved = False
        for k in rng.permutation(most):
            if sizes[k] == 0:
                continue
            before, loss = labels.copy(), _loss(tables, n_log_n, draws)
            members = rng.permutation(np.flatnonzero(labels == k))
            for i in members:
                _add(rows[i], k, -1, tables)
            _allocate(members, labels, rows, tables)
            if _loss(tables, n_log_n, draws) < loss - _TIE * patients:
                _sweeten(labels, rows, tables, rng)
                improved = True
                continue
            for i in members:
                if labels[i] != before[i]:
                    _add(rows[i], labels[i], -1, tables)
                    _add(rows[i], before[i], 1, tables)
            labels[:] = before
    return labels
