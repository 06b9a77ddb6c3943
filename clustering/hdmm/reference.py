"""The direct-assignment sampler written for reading: what the fast one must equal in distribution.

Teh, Jordan, Beal & Blei (2006), section 5.3. The state: a component of each token, z; the weights of the components
that have tokens, β, and of all others together; the concentrations. The density it leaves invariant is
γ^K β_rest^{γ-1} Π_k β_k^{-1} · Π_j Γ(α)/Γ(α+n_j) Π_k Γ(αβ_k+n_jk)/Γ(αβ_k) · p(tokens | z), times the priors.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from clustering.hdmm.concentrations import update_concentrations


@njit(cache=True)
def dense_sweeps(
    gene: np.ndarray,
    first: np.ndarray,
    exceed: np.ndarray,
    genes: int,
    base: float,
    priors: np.ndarray,
    shared: bool,
    by_slice: bool,
    updates: int,
    sweeps: int,
    z: np.ndarray,
    beta: np.ndarray,
    rest: float,
    alpha: float,
    gamma: float,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Some sweeps over all tokens by Gibbs sampling; ``z`` and ``beta`` (a place for each token) change in place.

    Returns
    -------
    rest, alpha, gamma
        Weight of all components without tokens (-1: the components outgrew ``beta``), concentrations of patients and
        top.
    """
    places, patients = len(beta), len(first) - 1
    n_kw = np.zeros((places, genes))
    n_jk = np.zeros((patients, places))
    n_k = np.zeros(places)
    for j in range(patients):
        for i in range(first[j], first[j + 1]):
            n_kw[z[i], gene[i]] += 1
            n_jk[j, z[i]] += 1
            n_k[z[i]] += 1
    p = np.zeros(places)
    for _ in range(sweeps):
        for j in range(patients):
            for i in range(first[j], first[j + 1]):
                w, k = gene[i], z[i]
                n_kw[k, w] -= 1
                n_jk[j, k] -= 1
                n_k[k] -= 1
                if n_k[k] == 0:  # the component is no more: its weight returns to the others'
                    rest += beta[k]
                    beta[k] = 0
                total = 0.0
                for k in range(places):
                    if n_k[k] > 0:
                        total += (n_jk[j, k] + alpha * beta[k]) * (n_kw[k, w] + base) / (n_k[k] + genes * base)
                    p[k] = total
                u = rng.random() * (total + alpha * rest / genes)
                k = 0
                if u < total:
                    while p[k] <= u:
                        k += 1
                else:  # a new component breaks its share off the rest (eq. 36 and after)
                    while k < places and n_k[k] > 0:
                        k += 1
                    if k == places:
                        return -1.0, alpha, gamma
                    beta[k] = rest * rng.beta(1.0, gamma)
                    rest -= beta[k]
                z[i] = k
                n_kw[k, w] += 1
                n_jk[j, k] += 1
                n_k[k] += 1
        m_k = np.zeros(places)  # tables by Chinese restaurant draws, eq. 40
        for j in range(patients):
            for k in range(places):
                for r in range(int(n_jk[j, k])):
                    if r == 0 or rng.random() * (alpha * beta[k] + r) < alpha * beta[k]:
                        m_k[k] += 1
        alpha, gamma = update_concentrations(
            alpha, gamma, (n_k > 0).sum(), m_k.sum(), priors, shared, by_slice, updates, exceed, first, rng
        )
        rest = rng.standard_gamma(gamma)
        total = rest
        for k in range(places):  # β ~ Dirichlet(m_1 … m_K, γ), eq. 36
            beta[k] = rng.standard_gamma(m_k[k]) if m_k[k] > 0 else 0.0
            total += beta[k]
        rest /= total
        beta /= total
    return rest, alpha, gamma
