"""Component weights given the patients of a component: gene by gene, by independence Metropolis.

With log weight θ_g the conditional of gene g is  s θ - Σ_j c_j log(1 + r_j e^θ):  s events of the gene, and for each
set of tested genes and number of events n a count c_j of patients and r_j = e_{n-1} / e_n over the other genes. The
symmetric Dirichlet(a) prior on w / Σw adds a events to s and G·a patients with one event. The function is concave with
slopes s and s - Σc. Where it looks like one term, an independence proposal (the logit of a Beta at its mode, as curved
as the conditional there) is nearly always accepted. Where the r_j lie orders of magnitude apart it is a staircase with
plateaus, on which such a proposal would freeze: there it is slice sampling, exact since the slice of a concave function
is an interval. A share of the other moves are slices too, since from far out, where a fresh start may be, no such
proposal is accepted. The choice never looks at θ_g, so that both leave the conditional as it is.
"""

from __future__ import annotations

from math import lgamma

import numpy as np
from numba import njit

from clustering.elementary import inverse_ratios_of_union, inverse_ratios_without, suffix_coefficients

PLATEAU = 0.4
"""Slice sampling where the curvature at the mode is less than this share of a single term's."""

SLICES = 0.1
"""Share of slice sampling elsewhere."""

CLOSE = 0.03
"""Newton's step after which a mode is close enough."""

UPDATE, MODE, DRAW, SCORE = 0, 1, 2, 3
MODE_SWEEPS = 3

FARTHEST = 1e290
LOWEST = -650.0
"""Log weights below the component's largest by more than this count as this: e^θ must be a positive float."""


@njit(cache=True)
def log_gamma_draw(shape: float, rng: np.random.Generator) -> float:
    """Log of a Gamma(shape) draw, exact for tiny shapes too: Gamma(shape) = Gamma(shape + 1) · U^(1/shape)."""
    if shape >= 1.0:
        return float(np.log(rng.standard_gamma(shape)))
    return float(np.log(rng.standard_gamma(shape + 1.0)) + np.log1p(-rng.random()) / shape)


@njit(cache=True)
def conditional(theta: float, events: float, counts: np.ndarray, odds: np.ndarray, terms: int) -> float:
    """Log conditional density of a gene's log weight, up to a constant."""
    total = events * theta
    w = np.exp(min(theta, -LOWEST))
    for j in range(terms):
        x = w * odds[j]
        total -= counts[j] * (np.log1p(x) if x < 1e300 else theta + np.log(odds[j]))
    return total


@njit(cache=True)
def log_ratio_of(new: float, old: float, events: float, counts: np.ndarray, odds: np.ndarray, terms: int) -> float:
    """`conditional` at ``new`` less that at ``old``, by one logarithm a term."""
    total = events * (new - old)
    above, below = np.exp(new), np.exp(old)
    if max(above, below) * odds[:terms].max() > 1e300:
        return conditional(new, events, counts, odds, terms) - conditional(old, events, counts, odds, terms)
    for j in range(terms):
        total -= counts[j] * np.log((1.0 + above * odds[j]) / (1.0 + below * odds[j]))
    return total


@njit(cache=True)
def mode_and_curvature(events: float, counts: np.ndarray, odds: np.ndarray, terms: int) -> tuple[float, float]:
    """Mode of the conditional by Newton inside a bracket, and minus its second derivative near it.

    Each term alone would put the mode at log(s / (Σc - s)) - log r_j, so the extremes of those bracket it. The start is
    the mode if all terms had the weighted mean of the r_j. The last step is not looked at again: after one below .03
    the next would be below .001, and what a proposal needs of the mode is that it does not depend on θ.
    """
    total, mean, least, most = 0.0, 0.0, np.inf, 0.0
    for j in range(terms):
        total += counts[j]
        mean += counts[j] * odds[j]
        least, most = min(least, odds[j]), max(most, odds[j])
    base = np.log(events / (total - events))
    low, high = base - np.log(most), base - np.log(least)
    theta = min(max(base - np.log(mean / total), low), high)
    curvature = 1.0
    for _ in range(60):
        w = np.exp(theta)
        slope, curvature = events, 0.0
        for j in range(terms):
            q = 1.0 / (1.0 + w * odds[j])
            slope -= counts[j] * (1.0 - q)
            curvature += counts[j] * q * (1.0 - q)
        if slope > 0.0:
            low = theta
        else:
            high = theta
        step = slope / curvature if curvature > 0.0 else np.inf
        inside = low < theta + step < high
        theta = theta + step if inside else 0.5 * (low + high)
        if (inside and abs(step) < CLOSE) or high - low < 1e-9:
            break
    return theta, curvature


@njit(cache=True)
def slice_draw(
    theta: float, mode: float, events: float, counts: np.ndarray, odds: np.ndarray, terms: int, rng: np.random.Generator
) -> float:
    """One slice-sampling move on the conditional (Neal 2003): an interval from the mode outwards, then shrinkage."""
    level = conditional(theta, events, counts, odds, terms) + np.log1p(-rng.random())
    left, width = min(mode, theta), 1.0
    while width < 1e6 and conditional(left, events, counts, odds, terms) > level:
        left, width = left - width, 2.0 * width
    right, width = max(mode, theta), 1.0
    while width < 1e6 and conditional(right, events, counts, odds, terms) > level:
        right, width = right + width, 2.0 * width
    for _ in range(200):  # far beyond the precision of a float: then the move stays where it is
        proposal = left + (right - left) * rng.random()
        if conditional(proposal, events, counts, odds, terms) >= level:
            return proposal
        if proposal < theta:
            left = proposal
        else:
            right = proposal
    return theta


@njit(cache=True)
def _log_beta_logit(t: float, alpha: float, beta: float) -> float:
    """Log density of the logit of a Beta(alpha, beta) at t, up to a constant."""
    return float(alpha * t - (alpha + beta) * (np.log1p(np.exp(-abs(t))) + max(t, 0.0)))


@njit(cache=True)
def update_weights(
    theta: np.ndarray,
    events: np.ndarray,
    histogram: np.ndarray,
    tested: np.ndarray,
    scale: float,
    rng: np.random.Generator,
) -> int:
    """One sweep over a component's genes, in place.

    Parameters
    ----------
    theta
        Log weights (genes,); centred on return so that the largest is 0.
    events
        Patients of the component with an event in each gene (genes,).
    histogram
        Patients by set of tested genes and number of events (patterns, highest number + 1).
    tested
        The sets of tested genes (patterns, genes).
    scale
        Parameter a of the Dirichlet prior.

    Returns
    -------
    int
        Accepted moves.
    """
    accepted = sweep_genes(theta, theta, -1, UPDATE, events, histogram, tested, scale, rng)
    return int(accepted)


@njit(cache=True)
def draw_weights(
    events: np.ndarray, histogram: np.ndarray, tested: np.ndarray, scale: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Independent draw of log weights (genes,), near their posterior, and its log density over log-ratio coordinates.

    From the mode, found gene by gene, each gene is drawn from its logit-Beta proposal given those drawn before. The
    density does not depend on what the weights were, as a proposal of split–merge moves needs it.
    """
    theta, reference = _mode(events, histogram, tested, scale, rng)
    density = sweep_genes(theta, theta, reference, DRAW, events, histogram, tested, scale, rng)
    return theta, density


@njit(cache=True)
def score_weights(
    theta: np.ndarray,
    events: np.ndarray,
    histogram: np.ndarray,
    tested: np.ndarray,
    scale: float,
    rng: np.random.Generator,
) -> float:
    """Log density with which `draw_weights` would draw ``theta``; no random number is used."""
    mode, reference = _mode(events, histogram, tested, scale, rng)
    return sweep_genes(mode, theta, reference, SCORE, events, histogram, tested, scale, rng)


@njit(cache=True)
def _mode(
    events: np.ndarray, histogram: np.ndarray, tested: np.ndarray, scale: float, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Log weights near their posterior mode, and the gene of most events, which fixes their common factor."""
    theta = np.log(events + scale)
    for _ in range(MODE_SWEEPS):
        sweep_genes(theta, theta, -1, MODE, events, histogram, tested, scale, rng)
    return theta, int(np.argmax(events))


@njit(cache=True)
def sweep_genes(
    theta: np.ndarray,
    target: np.ndarray,
    reference: int,
    kind: int,
    events: np.ndarray,
    histogram: np.ndarray,
    tested: np.ndarray,
    scale: float,
    rng: np.random.Generator,
) -> float:
    """One pass over the genes, ``theta`` in place: every gene given all others, earlier ones already changed.

    ``kind`` says to what a gene changes: a Markov move (`UPDATE`), its conditional mode (`MODE`), a draw of its
    logit-Beta proposal (`DRAW`), or its value in ``target`` (`SCORE`). The ``reference`` gene stays (-1: none).

    Returns
    -------
    float
        Accepted moves for `UPDATE`; the log density of the new values under the proposals for `DRAW` and `SCORE`.
    """
    genes = len(theta)
    patterns = len(histogram)
    degree = np.zeros(patterns, np.int64)
    for p in range(patterns):
        for n in range(histogram.shape[1]):
            if histogram[p, n] > 0:
                degree[p] = n
    active = np.flatnonzero(degree > 0)
    size = tested.sum(1)
    width = histogram.shape[1]
    theta -= theta.max()
    weights = np.exp(np.maximum(theta, LOWEST))
    largest = 1.0
    suffix = np.empty((len(active), genes + 1, width))
    prefix = np.zeros((len(active), width))
    prefix[:, 0] = 1.0
    for i in range(len(active)):
        suffix_coefficients(weights, tested[active[i]], degree[active[i]], suffix[i])
    rest = np.zeros(genes + 1)
    for g in range(genes - 1, -1, -1):
        rest[g] = rest[g + 1] + weights[g]
    counts = np.zeros(patterns * width + 1)
    odds = np.zeros(patterns * width + 1)
    inverse, work = np.zeros(width), np.empty(width)
    gauge = theta[reference] - target[reference] if kind == SCORE else 0.0
    before, result = 0.0, 0.0
    for g in range(genes):
        s = events[g] + scale
        counts[0], odds[0], terms = genes * scale, 1.0 / (before + rest[g + 1]), 1
        for i in range(len(active)):
            p = active[i]
            if tested[p, g]:
                most = min(degree[p], size[p] - 1)
                if not inverse_ratios_of_union(prefix[i], suffix[i, g + 1], most, largest, work, inverse):
                    inverse_ratios_without(weights, tested[p], g, most, inverse)
                for n in range(1, degree[p] + 1):
                    if histogram[p, n] > 0 and n < size[p]:
                        counts[terms], odds[terms] = histogram[p, n], min(inverse[n], FARTHEST)
                        terms += 1
                    elif histogram[p, n] > 0:  # every tested gene has an event: that is certain and says nothing
                        s -= histogram[p, n]
        if g != reference:
            mode, curvature = mode_and_curvature(s, counts, odds, terms)
            if kind == MODE:
                theta[g] = mode
            else:
                share = s / counts[:terms].sum()
                alpha, beta = curvature / (1.0 - share), curvature / share
                shift = mode - np.log(share / (1.0 - share))
                if kind == UPDATE:
                    if curvature < PLATEAU * s * (1.0 - share) or rng.random() < SLICES:
                        theta[g] = slice_draw(theta[g], mode, s, counts, odds, terms, rng)
                        result += 1.0
                    else:
                        old, proposal = theta[g], shift + log_gamma_draw(alpha, rng) - log_gamma_draw(beta, rng)
                        log_ratio = log_ratio_of(proposal, old, s, counts, odds, terms)
                        log_ratio += _log_beta_logit(old - shift, alpha, beta)
                        log_ratio -= _log_beta_logit(proposal - shift, alpha, beta)
                        if np.log1p(-rng.random()) < log_ratio:
                            theta[g] = proposal
                            result += 1.0
                else:
                    if kind == DRAW:
                        theta[g] = shift + log_gamma_draw(alpha, rng) - log_gamma_draw(beta, rng)
                    else:
                        theta[g] = target[g] + gauge
                    result += _log_beta_logit(theta[g] - shift, alpha, beta)
                    result += lgamma(alpha + beta) - lgamma(alpha) - lgamma(beta)
        weights[g] = np.exp(min(max(theta[g], LOWEST), -LOWEST))
        before += weights[g]
        largest = max(largest, weights[g])
        for i in range(len(active)):
            if tested[active[i], g]:
                for n in range(degree[active[i]], 0, -1):
                    prefix[i, n] += weights[g] * prefix[i, n - 1]
    theta -= theta.max()
    return result


@njit(cache=True)
def draw_prior(genes: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Log weights (genes,) of a Dirichlet(scale, …, scale), the largest 0."""
    theta = np.empty(genes)
    for g in range(genes):
        theta[g] = log_gamma_draw(scale, rng)
    theta -= theta.max()
    return theta
