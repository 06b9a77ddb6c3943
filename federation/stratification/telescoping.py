"""The server's half of a round: weights, prior scale, number of components and proportions, given counts alone.

The telescoping sampler of Frühwirth-Schnatter, Malsiner-Walli & Grün, "Generalized mixtures of finite mixtures and
telescoping sampling", Bayesian Analysis 2021 (Algorithm 1), for K ~ Geometric on 1, 2, … and π ~ Dirichlet(γ, …, γ)
whatever K: the partition's law is that of Miller & Harrison (JASA 2018), as in `clustering.mixture`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from clustering.elementary import log_elementary
from clustering.mixture.hyper import update_scale
from clustering.mixture.weights import LOWEST, draw_prior, log_gamma_draw, update_weights

Floats = NDArray[np.float64]


def log_components(filled: int, patients: int, gamma: float, geometric: float, capacity: int) -> Floats:
    """log P(K | partition) for K = filled … capacity, up to a constant (equation 3.2).

    The partition matters by its number of clusters alone: p(K) K! / (K - filled)! Γ(γK) / Γ(γK + patients).
    """
    k = np.arange(filled, capacity + 1, dtype=float)
    ways = gammaln(k + 1) - gammaln(k - filled + 1)
    return np.asarray(k * np.log1p(-geometric) + ways + gammaln(gamma * k) - gammaln(gamma * k + patients))


def draw_components(
    filled: int, patients: int, gamma: float, geometric: float, capacity: int, rng: np.random.Generator
) -> int:
    """The number of components given the partition."""
    log_p = log_components(filled, patients, gamma, geometric, capacity)
    cumulative = np.cumsum(np.exp(log_p - log_p.max()))
    return filled + int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def draw_log_weights(sizes: Floats, gamma: float, rng: np.random.Generator) -> Floats:
    """Log proportions given the components' sizes, (components,)."""
    draw = np.array([log_gamma_draw(gamma + float(size), rng) for size in sizes])
    return np.asarray(draw - np.logaddexp.reduce(draw))


def draw_theta(components: int, genes: int, scale: float, rng: np.random.Generator) -> Floats:
    """Log weights of empty components from their prior, (components, genes)."""
    return np.array([draw_prior(genes, scale, rng) for _ in range(components)]).reshape(components, genes)


def update_theta(
    theta: Floats,
    events: Floats,
    histogram: Floats,
    tested: NDArray[np.bool_],
    scale: float,
    heat: float,
    rng: np.random.Generator,
) -> Floats:
    """Log weights of components that have patients, after one sweep over their genes, (components, genes).

    Parameters
    ----------
    events, histogram
        Events per gene (components, genes); patients by panel and number of events (components, panels, highest + 1).
    tested
        The panels (panels, genes).
    scale, heat
        Parameter of the weights' prior; power of the likelihood.
    """
    theta = theta.copy()
    if theta.shape[1] > 1:  # a single lesion's weight says nothing
        for k in range(len(theta)):
            update_weights(theta[k], heat * events[k], heat * histogram[k], tested, scale, rng)
    return theta


def learn_scale(scale: float, theta: Floats, bounds: tuple[float, float], rng: np.random.Generator) -> float:
    """The prior's scale given the weights of components that have patients; the empty ones are drawn after it."""
    return float(update_scale(scale, theta, bounds[0], bounds[1], rng))


def floored(theta: Floats) -> Floats:
    """Log weights with the largest 0, none below what the kernels of `clustering.mixture` tell from it."""
    return np.asarray(np.maximum(theta - theta.max(1, keepdims=True), LOWEST))


def log_norms(theta: Floats, tested: NDArray[np.bool_], highest: int) -> Floats:
    """log e_n of each component's weights over each panel, n = 0 … highest, (components, panels, highest + 1).

    An entry depends neither on ``highest`` nor on the other panels, to the last bit.
    """
    result = np.empty((len(theta), len(tested), highest + 1))
    weights = np.exp(theta)
    for k in range(len(theta)):
        for p in range(len(tested)):
            log_elementary(weights[k], tested[p], highest, result[k, p])
    return result


def log_likelihood(theta: Floats, norms: Floats, events: Floats, histogram: Floats) -> float:
    """Σ_i log P(x_i | n_i, θ of its component) from the counts: Σ events · θ - Σ histogram · log e_n."""
    there = histogram > 0  # log e_n is -inf where n exceeds the panel's size
    return float((events * theta).sum() - (histogram[there] * norms[there]).sum())
