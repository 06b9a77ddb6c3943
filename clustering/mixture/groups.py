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
