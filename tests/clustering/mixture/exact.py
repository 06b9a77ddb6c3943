"""Tiny cohorts whose posterior over partitions can be enumerated."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
from scipy.special import gammaln
from scipy.stats import gamma as gamma_law

from clustering.events import EventTable


def table(events: list[list[int]] | np.ndarray) -> EventTable:
    x = np.array(events, np.int8)
    return EventTable(np.arange(len(x)).astype(str), tuple(f"g{g}" for g in range(x.shape[1])), x)


SMALL = table([[1, 1, 0, 0], [1, 0, 0, 1], [0, 1, 1, 0], [1, -1, 0, 0], [1, 1, 1, 0]])


def canonical(z: np.ndarray) -> tuple[int, ...]:
    seen: dict[int, int] = {}
    return tuple(seen.setdefault(int(k), len(seen)) for k in z)


def partitions(n: int) -> Iterator[tuple[int, ...]]:
    for z in product(range(n), repeat=n):
        if canonical(np.array(z)) == z:
            yield z


def enumerated_log_law(row: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """log P(row | number of events) under each row of weights, by listing all sets of tested genes."""
    tested = np.flatnonzero(row != -1)
    sets = combinations(tested, int((row == 1).sum()))
    norm = sum(weights[:, list(s)].prod(1) for s in sets)
    return np.asarray(np.log(weights[:, row == 1].prod(1)) - np.log(norm))


def exact_posterior(
    data: EventTable, scale: float, log_prior: dict[tuple[int, ...], float], heat: float = 1.0
) -> dict[tuple[int, ...], float]:
    """P(partition | data), likelihood to the power ``heat``; weights integrated by Monte Carlo over the prior."""
    weights = np.random.default_rng(0).dirichlet(np.full(len(data.genes), scale), 400_000)
    law = np.array([enumerated_log_law(row, weights) for row in data.events])
    marginal = {}
    for size in range(1, len(data) + 1):
        for members in combinations(range(len(data)), size):
            marginal[members] = np.log(np.exp(heat * law[list(members)].sum(0)).mean())
    log_p = {}
    for z in partitions(len(data)):
        blocks = [tuple(int(i) for i in np.flatnonzero(np.array(z) == k)) for k in range(max(z) + 1)]
        log_p[z] = log_prior[z] + sum(marginal[b] for b in blocks)
    values = np.exp(np.array(list(log_p.values())))
    return dict(zip(log_p, values / values.sum(), strict=True))


def mfm_prior(n: int, gamma: float, geometric: float) -> dict[tuple[int, ...], float]:
    """By definition: K, then labels given Dirichlet proportions, summed over K and all labellings."""
    result = {}
    for z in partitions(n):
        sizes, t, total = np.bincount(z), max(z) + 1, 0.0
        for k in range(t, 400):
            ways = np.exp(gammaln(k + 1) - gammaln(k - t + 1))
            labels = gammaln(k * gamma) - gammaln(k * gamma + n) + (gammaln(sizes + gamma) - gammaln(gamma)).sum()
            total += geometric * (1 - geometric) ** (k - 1) * ways * np.exp(labels)
        result[z] = float(np.log(total))
    return result


def grouped_prior(
    groups: list[int], gamma: float, geometric: float, alpha_prior: tuple[float, float]
) -> dict[tuple[int, ...], float]:
    """Log probability of partitions of grouped patients, α integrated by quadrature.

    Γ(n + αβ)/Γ(αβ) = Σ_m |s(n, m)| (αβ)^m with Stirling numbers of the first kind; β integrates as labels do, m for n.
    """
    n, group = len(groups), np.array(groups)
    shape, rate = alpha_prior
    alpha = gamma_law(shape, scale=1 / rate).ppf((np.arange(20_000) + 0.5) / 20_000)  # of equal weight
    stirling = np.zeros((n + 1, n + 1))
    stirling[0, 0] = 1
    for i in range(1, n + 1):
        for m in range(1, n + 1):
            stirling[i, m] = stirling[i - 1, m - 1] + (i - 1) * stirling[i - 1, m]
    k = np.arange(1, 400)
    log_k = np.log(geometric) + (k - 1) * np.log1p(-geometric)

    def log_v(tables: int, t: int) -> float:
        fits = k >= t
        terms = log_k + gammaln(k + 1) + gammaln(k * gamma) - gammaln(k * gamma + tables)
        return float(np.log(np.exp(terms[fits] - gammaln(k[fits] - t + 1)).sum()))

    rising = np.prod([np.exp(gammaln(alpha + c) - gammaln(alpha)) for c in np.bincount(group)], axis=0)
    result = {}
    for z in partitions(n):
        t = max(z) + 1
        cells = [(c, j) for c in range(group.max() + 1) for j in range(t) if ((group == c) & (np.array(z) == j)).any()]
        sizes = [int(((group == c) & (np.array(z) == j)).sum()) for c, j in cells]
        total = np.zeros_like(alpha)
        for tables in product(*(range(1, size + 1) for size in sizes)):
            ways = np.prod([stirling[size, m] for size, m in zip(sizes, tables, strict=True)])
            per_component = np.zeros(t)
            for (_, j), m in zip(cells, tables, strict=True):
                per_component[j] += m
            weight = log_v(sum(tables), t) + (gammaln(per_component + gamma) - gammaln(gamma)).sum()
            total += ways * alpha ** sum(tables) * np.exp(weight)
        result[z] = float(np.log((total / rising).mean()))
    return result
