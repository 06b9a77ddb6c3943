"""Concentrations of the hierarchical Dirichlet process given the table counts, by slice or by auxiliary variables.

Given M tables that serve K dishes, p(M, K | γ) ∝ γ^K Γ(γ)/Γ(γ+M); given patients with n_j tokens at M tables,
p(M | α) ∝ α^M Π_j Γ(α)/Γ(α+n_j) = α^M Π_r (α+r)^{-C_r}, where C_r patients have more than r tokens: with few
distinct n_j this is a handful of logarithms, whatever the number of patients.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def log_density(x: float, powers: float, rate: float, tables: float, exceed: np.ndarray) -> float:
    """Log density of x = log concentration, up to a constant.

    ``powers`` is the shape of the Gamma prior plus the exponent of the concentration (K, M, or both); ``tables`` is M
    for a concentration of the top level, else 0; ``exceed`` is C_r for one of the patients' level, else empty.
    """
    c = math.exp(x)
    value = powers * x - rate * c
    if tables > 0:
        value += math.lgamma(c) - math.lgamma(c + tables)
    for r in range(len(exceed)):
        value -= exceed[r] * math.log(c + r)
    return value


@njit(cache=True)
def slice_update(
    c: float, powers: float, rate: float, tables: float, exceed: np.ndarray, rng: np.random.Generator
) -> float:
    """One slice update of log concentration: stepping out and shrinking (Neal 2003, figures 3 and 5)."""
    x = math.log(c)
    level = log_density(x, powers, rate, tables, exceed) - rng.standard_exponential()
    low = x - rng.random()
    high = low + 1.0
    while log_density(low, powers, rate, tables, exceed) > level:
        low -= 1.0
    while log_density(high, powers, rate, tables, exceed) > level:
        high += 1.0
    while True:
        proposal = low + (high - low) * rng.random()
        if log_density(proposal, powers, rate, tables, exceed) > level:
            return math.exp(proposal)
        if proposal < x:
            low = proposal
        else:
            high = proposal


@njit(cache=True)
def auxiliary_update(
    c: float, powers: float, rate: float, tables: float, first: np.ndarray, rng: np.random.Generator
) -> float:
    """One auxiliary-variable update (Escobar & West 1995, eq. 13; Teh et al. 2006, appendix A, eq. 47-49).

    ``first`` holds the offsets of the patients' tokens for a concentration of their level, else it is empty.
    """
    if tables > 0:
        rate -= math.log(rng.beta(c + 1, tables))
        if rng.random() * (tables + c) < tables:
            powers -= 1
    for j in range(len(first) - 1):
        n = float(first[j + 1] - first[j])
        if n > 0:
            rate -= math.log(rng.beta(c + 1, n))
            if rng.random() * (n + c) < n:
                powers -= 1
    return rng.standard_gamma(powers) / rate


@njit(cache=True)
def update_concentrations(
    alpha: float,
    gamma: float,
    clusters: float,
    tables: float,
    priors: np.ndarray,
    shared: bool,
    by_slice: bool,
    updates: int,
    exceed: np.ndarray,
    first: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Update α and γ some times given K clusters and M tables; ``priors`` is shape and rate of γ, then of α."""
    no_counts, no_patients = exceed[:0], first[:0]
    for _ in range(updates):
        if tables == 0:  # a cohort without events says nothing: the prior
            gamma = rng.standard_gamma(priors[0]) / priors[1]
            alpha = gamma if shared else rng.standard_gamma(priors[2]) / priors[3]
        elif shared and by_slice:
            gamma = alpha = slice_update(alpha, priors[0] + clusters + tables, priors[1], tables, exceed, rng)
        elif shared:
            gamma = alpha = auxiliary_update(alpha, priors[0] + clusters + tables, priors[1], tables, first, rng)
        elif by_slice:
            gamma = slice_update(gamma, priors[0] + clusters, priors[1], tables, no_counts, rng)
            alpha = slice_update(alpha, priors[2] + tables, priors[3], 0.0, exceed, rng)
        else:
            gamma = auxiliary_update(gamma, priors[0] + clusters, priors[1], tables, no_patients, rng)
            alpha = auxiliary_update(alpha, priors[2] + tables, priors[3], 0.0, first, rng)
    return alpha, gamma
