"""Groups of patients, such as hospitals or trials: they share the components, and each has weights of its own.

A hierarchical mixture of finite mixtures: K ~ Geometric, β ~ Dirichlet_K(γ, …, γ), group c has weights
π_c ~ Dirichlet(α β_1, …, α β_K). π is integrated out; β is kept, for the components in use one by one and for the
empty ones as one sum, as in the direct assignment of Teh et al. (JASA 2006), whose hierarchical Dirichlet process is
the limit K → ∞ with Kγ fixed. Tables m_ck (patients of group c in component k who drew it from β anew) make β, K and α
conjugate: given M tables in t components, β ~ Dirichlet(γ + m_1, …, γ + m_t, γ(K - t)) and
p(K | t, M) ∝ p(K) K!/(K - t)! Γ(γK)/Γ(γK + M) (Miller & Harrison 2018, equation 3.2, for the tables).
"""

from __future__ import annotations

from math import lgamma
from typing import NamedTuple

import numpy as np
from numba import njit

from clustering.hdmm.concentrations import auxiliary_update
from clustering.mixture.partition_prior import LARGEST


class Prior(NamedTuple):
    """What a patient's place depends on beside its lesions, as the scan over patients reads and changes it.

    Parameters
    ----------
    group
        Each patient's group from 0, (patients,); all 0 without groups.
    offset
        A component weighs its other patients of the group plus this, (capacity,): γ, 0 or α β_k.
    log_new
        Log weight of a new component beside t others (capacity,); not read with groups.
    pool
        With groups: α times the share of the empty components, and their number. (-1, -1) without.
    gamma
        γ.
    """

    group: np.ndarray
    offset: np.ndarray
    log_new: np.ndarray
    pool: np.ndarray
    gamma: float


@njit(cache=True)
def close_component(prior: Prior, slot: int) -> None:
    """A component has lost its last patient: its share goes back to the empty ones."""
    if prior.pool[1] >= 0.0:
        prior.pool[0] += prior.offset[slot]
        prior.pool[1] += 1.0


@njit(cache=True)
def open_component(prior: Prior, slot: int, rng: np.random.Generator) -> None:
    """An empty component has a first patient: which one was drawn by share, so that its share is size-biased."""
    if prior.pool[1] >= 0.0:
        empty = prior.pool[1]
        part = rng.beta(prior.gamma + 1.0, prior.gamma * (empty - 1.0)) if empty > 1.0 else 1.0
        prior.offset[slot] = part * prior.pool[0]
        prior.pool[0] = (1.0 - part) * prior.pool[0] if empty > 1.0 else 0.0
        prior.pool[1] = empty - 1.0


@njit(cache=True)
def log_new_weight(prior: Prior, components: int) -> float:
    """Log weight of a new component beside some others."""
    if prior.pool[1] < 0.0:
        return float(prior.log_new[components])
    return float(np.log(prior.pool[0])) if prior.pool[1] > 0.0 and prior.pool[0] > 0.0 else -np.inf


@njit(cache=True)
def move_shares(
    prior: Prior, a: int, b: int, split: bool, sizes: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Shares that a split–merge move proposes with its labels (`clustering.mixture.split_merge`).

    A split takes one of the empty components, any as likely as any other, whose share thereby becomes known, and
    divides the sum of both shares anew; a merge divides it between the component that stays and the one that becomes
    empty. The first part of the sum is Beta(γ + groups with patients there, γ + groups with patients in the other).

    Parameters
    ----------
    a, b
        The component to be split or to stay, and that to be emptied; the latter is not read for a split.
    sizes
        Patients of the two sides by group when split, (2, groups).

    Returns
    -------
    tuple
        Weights of the two components and of the empty ones after the move, and the log ratio of priors and proposals of
        split over merged state; infinite, so that the move is refused, without an empty component.
    """
    merged = np.zeros_like(sizes)
    merged[0] = sizes[0] + sizes[1]
    pool, empty = prior.pool[0], prior.pool[1] + (0.0 if split else 1.0)
    old_first = prior.offset[a]
    if split:
        if empty < 1.0:
            return 0.0, 0.0, 0.0, -np.inf
        part = rng.beta(prior.gamma, prior.gamma * (empty - 1.0)) if empty > 1.0 else 1.0
        old_second, rest = part * pool, (1.0 - part) * pool
    else:
        old_second, rest = prior.offset[b], pool
    goal = sizes if split else merged
    first = rng.standard_gamma(prior.gamma + np.count_nonzero(goal[0]))
    second = rng.standard_gamma(prior.gamma + np.count_nonzero(goal[1]))
    scale = (old_first + old_second) / (first + second)
    first, second = first * scale, second * scale
    if min(old_first, old_second, first, second) <= 0.0:  # below the smallest number: nothing can be said of its log
        return 0.0, 0.0, 0.0, -np.inf if split else np.inf
    new, old = (
        _log_score(first, second, goal, prior.gamma),
        _log_score(old_first, old_second, merged if split else sizes, prior.gamma),
    )
    ratio = np.log(empty) + (new - old if split else old - new)
    return first, second, rest if split else rest + second, ratio


@njit(cache=True)
def _log_score(first: float, second: float, sizes: np.ndarray, gamma: float) -> float:
    """Log prior of two components' patients by group, (2, groups), and of the division of their weights, less the log
    density of the latter's proposal; factors of the sum of the weights left out."""
    result = 0.0
    tables = np.zeros(2)
    for side in range(2):
        weight = first if side == 0 else second
        for c in range(sizes.shape[1]):
            if sizes[side, c] > 0:
                tables[side] += 1.0
                result += lgamma(weight + sizes[side, c]) - lgamma(weight)
        result -= tables[side] * np.log(weight / (first + second))
    return result + lgamma(gamma + tables[0]) + lgamma(gamma + tables[1]) - lgamma(2.0 * gamma + tables.sum())


@njit(cache=True)
def draw_tables(counts: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tables per component, (components,), of patients by group and component given weights α β (Teh 2006, eq. 40)."""
    tables = np.zeros(counts.shape[1])
    for c in range(counts.shape[0]):
        for k in range(counts.shape[1]):
            for r in range(counts[c, k]):
                if r == 0 or rng.random() * (weights[k] + r) < weights[k]:
                    tables[k] += 1.0
    return tables


@njit(cache=True)
def draw_number(used: int, tables: float, gamma: float, geometric: float, rng: np.random.Generator) -> int:
    """Number of components K ≥ ``used`` given the tables; each term is summed until the rest is below 1e-14."""
    log_terms = np.empty(LARGEST)
    top, length = -np.inf, 0
    for k in range(used, used + LARGEST):
        term = k * np.log1p(-geometric) + lgamma(k + 1.0) - lgamma(k - used + 1.0)
        term += lgamma(gamma * k) - lgamma(gamma * k + tables)
        log_terms[length] = term
        length += 1
        top = max(top, term)
        if term < top - 32.0 + np.log(geometric):
            break
    terms = np.exp(log_terms[:length] - top)
    u = rng.random() * terms.sum()
    for j in range(length - 1):
        u -= terms[j]
        if u < 0.0:
            return used + j
    return used + length - 1


@njit(cache=True)
def update_groups(
    counts: np.ndarray,
    beta: np.ndarray,
    alpha: float,
    gamma: float,
    geometric: float,
    alpha_prior: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, float, int, float]:
    """Tables, K, β and α in turn.

    Parameters
    ----------
    counts
        Patients by group and component in use, (groups, components).
    beta
        Shares of the components in use, (components,).
    alpha_prior
        Shape and rate of the Gamma prior of α.

    Returns
    -------
    tuple
        β of the components in use, of the empty ones together, the number of these, and α.
    """
    used = counts.shape[1]
    tables = draw_tables(counts, alpha * beta, rng)
    empty = draw_number(used, tables.sum(), gamma, geometric, rng) - used
    shares, rest = np.empty(used), 0.0
    for k in range(used):
        shares[k] = rng.standard_gamma(gamma + tables[k])
    if empty > 0:
        rest = rng.standard_gamma(gamma * empty)
    total = shares.sum() + rest
    first = np.zeros(counts.shape[0] + 1, np.int64)
    first[1:] = np.cumsum(counts.sum(1))
    shape, rate = alpha_prior
    alpha = auxiliary_update(alpha, shape + tables.sum(), rate, 0.0, first, rng)
    return shares / total, rest / total, empty, alpha
