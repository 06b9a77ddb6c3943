"""Updates of the mixture's few shared parameters: the prior's scale and the Dirichlet process's concentration."""

from __future__ import annotations

from math import lgamma, log

import numpy as np
from numba import njit


@njit(cache=True)
def log_prior_of_weights(scale: float, theta: np.ndarray) -> float:
    """Log density of all components' weights under Dirichlet(scale, …), over log-ratio coordinates."""
    components, genes = theta.shape
    total = components * (lgamma(genes * scale) - genes * lgamma(scale))
    for k in range(components):
        sum_weights, sum_logs = 0.0, 0.0
        for g in range(genes):
            sum_weights += np.exp(theta[k, g])
            sum_logs += theta[k, g]
        total += scale * (sum_logs - genes * np.log(sum_weights))
    return float(total)


@njit(cache=True)
def update_scale(
    scale: float, theta: np.ndarray, lowest: float, highest: float, rng: np.random.Generator, width: float = 0.3
) -> float:
    """Slice sampling of log scale (Neal, Annals of Statistics 2003), log-uniform between ``lowest`` and ``highest``."""
    least, most, here = log(lowest), log(highest), log(scale)
    level = log_prior_of_weights(scale, theta) + np.log1p(-rng.random())
    left = here - width * rng.random()
    right = left + width
    while left > least and log_prior_of_weights(np.exp(left), theta) > level:
        left -= width
    while right < most and log_prior_of_weights(np.exp(right), theta) > level:
        right += width
    left, right = max(left, least), min(right, most)
    while True:
        proposal = left + (right - left) * rng.random()
        if log_prior_of_weights(np.exp(proposal), theta) >= level:
            return float(np.exp(proposal))
        if proposal < here:
            left = proposal
        else:
            right = proposal


@njit(cache=True)
def update_concentration(
    alpha: float, clusters: int, patients: int, shape: float, rate: float, rng: np.random.Generator
) -> float:
    """Concentration of a Dirichlet process with a Gamma(shape, rate) prior (Escobar & West, JASA 1995)."""
    eta = rng.beta(alpha + 1.0, patients)
    rate_given = rate - np.log(eta)
    odds = (shape + clusters - 1.0) / (patients * rate_given)
    add = 0.0 if rng.random() * (1.0 + odds) < odds else -1.0
    return float(rng.gamma(shape + clusters + add) / rate_given)
