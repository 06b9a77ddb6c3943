"""Priors on partitions: the mixture of finite mixtures (Miller & Harrison, JASA 2018) and the Dirichlet process."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import gammaln, logsumexp

LARGEST = 2000
"""Components beyond which the prior on their number is cut (its mass there is below 1e-90)."""


def log_mfm_coefficients(patients: int, most: int, gamma: float, geometric: float) -> np.ndarray:
    """log V_n(t), t = 0 … most (Miller & Harrison 2018, equation 3.2), for K ~ Geometric(``geometric``) on 1, 2, ….

    V_n(t) = Σ_k k!/(k-t)! Γ(γk)/Γ(γk+n) p(k); a partition of n patients into clusters of sizes n_c has probability
    V_n(t) Π_c Γ(n_c+γ)/Γ(γ).
    """
    k = np.arange(1, LARGEST + 1, dtype=float)
    log_p = np.log(geometric) + (k - 1) * np.log1p(-geometric)
    rising = gammaln(gamma * k) - gammaln(gamma * k + patients)
    result = np.full(most + 1, -np.inf)
    for t in range(1, most + 1):
        fits = k >= t
        result[t] = logsumexp((log_p + rising + gammaln(k + 1))[fits] - gammaln(k[fits] - t + 1))
    return result


@lru_cache(maxsize=64)
def log_new_weights(patients: int, most: int, gamma: float, geometric: float) -> np.ndarray:
    """Log weight of a new cluster beside t others, t = 0 … most - 1, where an old one of n_c others weighs n_c + γ."""
    log_v = log_mfm_coefficients(patients, most, gamma, geometric)
    result = np.zeros(most)
    result[1:] = np.log(gamma) + log_v[2:] - log_v[1:-1]
    return result
