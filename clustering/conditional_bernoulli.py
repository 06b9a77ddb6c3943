"""The conditional Bernoulli law: which genes have an event, given how many, P(x | n) = Π w_g^{x_g} / e_n(w).

It is Fisher's multivariate noncentral hypergeometric law with one ball a colour. Genes that were not tested (-1) are
marginalized exactly: given the number of events among the tested genes, the law is conditional Bernoulli on those.

Everything rests on the ratios ρ_n = e_n / e_{n-1} of elementary symmetric functions. With one more weight w they are
ρ'_n = ρ_{n-1} (ρ_n + w) / (ρ_{n-1} + w): positive, without subtraction, and of the size of a weight, so that linear
space holds any odds within e^1300 of each other; beyond that the same recursion runs on logarithms.

Read one gene after the other, the law is a Markov chain in the number m of events still to place: gene g has one with
probability w_g / (w_g + ρ_m(genes after g)). Sampler, inclusion probabilities and covariance all walk this chain.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from clustering.events import MISSING
from clustering.mfnch import checked_log_odds, newton

_LINEAR = 1300.0
"""Largest spread of log odds for linear space: e^±650 around their middle, with room for sums."""


@njit(cache=True)
def _centre(log_odds: np.ndarray, tested: np.ndarray) -> tuple[float, float]:
    """Middle and spread of the finite log odds of the tested genes."""
    low, high = np.inf, -np.inf
    for g in range(len(log_odds)):
        if tested[g] and log_odds[g] > -np.inf:
            low, high = min(low, log_odds[g]), max(high, log_odds[g])
    return (0.0, 0.0) if high < low else (0.5 * (low + high), high - low)


@njit(cache=True)
def _add(ratios: np.ndarray, weight: float) -> None:
    """One more weight, in place; ratios[n] = ρ_n from n = 1. Each quotient lies in [½, 1]: nothing underflows."""
    before = ratios[1]
    ratios[1] = before + weight
    for n in range(2, len(ratios)):
        here = ratios[n]
        if before > weight:
            ratios[n] = before / (before + weight) * (here + weight)
        elif before > 0.0:
            ratios[n] = before * ((here + weight) / (before + weight))
        else:
            break
        before = here


@njit(cache=True)
def _add_log(ratios: np.ndarray, weight: float) -> None:
    """The same on logarithms."""
    if weight == -np.inf:
        return
    before = ratios[1]
    over = np.logaddexp(before, weight)
    ratios[1] = over
    for n in range(2, len(ratios)):
        if before == -np.inf:
            break
        here = ratios[n]
        under = over
        over = np.logaddexp(here, weight)
        ratios[n] = before + over - under
        before = here


@njit(cache=True)
def _log_esf(log_odds: np.ndarray, tested: np.ndarray, result: np.ndarray) -> None:
    """log e_0 … log e_D of the tested genes, D + 1 the length of ``result``."""
    centre, spread = _centre(log_odds, tested)
    linear = spread <= _LINEAR
    ratios = np.full(max(2, len(result)), 0.0 if linear else -np.inf)
    for g in range(len(log_odds)):
        if tested[g]:
            if linear:
                _add(ratios, np.exp(log_odds[g] - centre))
            else:
                _add_log(ratios, log_odds[g] - centre)
    result[0] = 0.0
    for n in range(1, len(result)):
        if linear:
            result[n] = result[n - 1] + centre + np.log(ratios[n]) if ratios[n] > 0.0 else -np.inf
        else:
            result[n] = result[n - 1] + centre + ratios[n]


@njit(cache=True)
def _chain(log_odds: np.ndarray, tested: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that gene g has an event, and that it has none, when m are to be placed from g on: (genes, D + 1).

    Both are kept, since one minus the other loses all digits of the rare one.
    """
    genes = len(log_odds)
    centre, spread = _centre(log_odds, tested)
    linear = spread <= _LINEAR
    ratios = np.full(max(2, degree + 1), 0.0 if linear else -np.inf)
    hit, miss = np.zeros((genes, degree + 1)), np.ones((genes, degree + 1))
    for g in range(genes - 1, -1, -1):
        if not tested[g] or log_odds[g] == -np.inf:
            continue
        log_weight = log_odds[g] - centre
        weight = np.exp(log_weight) if linear else 0.0
        for m in range(1, degree + 1):
            if linear:
                hit[g, m] = weight / (weight + ratios[m])
                miss[g, m] = ratios[m] / (weight + ratios[m])
            else:
                hit[g, m] = np.exp(log_weight - np.logaddexp(log_weight, ratios[m]))
                miss[g, m] = np.exp(ratios[m] - np.logaddexp(log_weight, ratios[m]))
        if linear:
            _add(ratios, weight)
        else:
            _add_log(ratios, log_weight)
    return hit, miss


@njit(cache=True)
def _means(hit: np.ndarray, miss: np.ndarray, n: int) -> np.ndarray:
    """Inclusion probabilities of every gene given n: forward through the chain."""
    genes = len(hit)
    means, state = np.zeros(genes), np.zeros(n + 2)
    state[n] = 1.0
    for g in range(genes):
        for m in range(n + 1):
            means[g] += state[m] * hit[g, m]
            state[m] = state[m] * miss[g, m] + (state[m + 1] * hit[g, m + 1] if m < n else 0.0)
    return means


@njit(cache=True)
def _second_moments(hit: np.ndarray, miss: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Σ_n counts_n E[x xᵀ | n], (genes, genes): the chain is linear in its start, so all n go at once."""
    genes, degree = len(hit), len(counts) - 1
    moments = np.zeros((genes, genes))
    state, with_g = counts.astype(np.float64), np.zeros(degree + 1)
    for g in range(genes):
        for m in range(degree):
            with_g[m] = state[m + 1] * hit[g, m + 1]
        with_g[degree] = 0.0
        moments[g, g] = with_g.sum()
        for m in range(degree + 1):
            state[m] = state[m] * miss[g, m] + with_g[m]
        for h in range(g + 1, genes):
            both = 0.0
            for m in range(degree + 1):
                both += with_g[m] * hit[h, m]
                with_g[m] = with_g[m] * miss[h, m] + (with_g[m + 1] * hit[h, m + 1] if m < degree else 0.0)
            moments[g, h] = moments[h, g] = both
    return moments


@njit(cache=True)
def _logpmf(
    events: np.ndarray, log_odds: np.ndarray, tested: np.ndarray, pattern: np.ndarray, degree: int
) -> np.ndarray:
    patients, components = len(events), len(log_odds)
    log_e = np.empty((len(tested), components, degree + 1))
    for p in range(len(tested)):
        for k in range(components):
            _log_esf(log_odds[k], tested[p], log_e[p, k])
    by_gene = log_odds.T.copy()
    result = np.zeros((patients, components))
    for i in range(patients):
        row, n = result[i], 0
        for g in range(events.shape[1]):
            if events[i, g] == 1:
                n += 1
                for k in range(components):
                    row[k] += by_gene[g, k]
        for k in range(components):
            if row[k] > -np.inf:
                row[k] -= log_e[pattern[i], k, n]
    return result


@njit(cache=True)
def _sample(hit: np.ndarray, n: np.ndarray, rng: np.random.Generator, result: np.ndarray) -> None:
    for i in range(len(n)):
        left = n[i]
        for g in range(len(hit)):
            if left == 0:
                break
            if rng.random() < hit[g, left]:
                result[i, g] = 1
                left -= 1


def _possible(log_odds: np.ndarray, n: int) -> np.ndarray:
    odds = checked_log_odds(log_odds)
    most = int((odds > -np.inf).sum())
    if not 0 <= n <= most:
        raise ValueError(f"n: {n} events are impossible with {most} genes of positive odds")
    return odds


def _patterns(events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct sets of tested genes, and each patient's (as `EventTable.patterns`, faster when all are tested)."""
    tested = events != MISSING
    if tested.all():
        return np.ones((1, events.shape[1]), bool), np.zeros(len(events), np.int64)
    packed = np.ascontiguousarray(np.packbits(tested, axis=1))
    _, first, which = np.unique(packed.view(f"V{packed.shape[1]}"), return_index=True, return_inverse=True)
    return tested[first], which.reshape(-1)


def log_esf(log_odds: np.ndarray, n_max: int) -> np.ndarray:
    """Logarithms of the elementary symmetric functions e_0 … e_nmax of the odds.

    Parameters
    ----------
    log_odds
        Shape (components, genes); -inf for a gene that never has an event.
    n_max
        Highest order; orders above the number of positive odds are -inf.

    Returns
    -------
    numpy.ndarray
        Shape (components, n_max + 1), by one pass of O(genes · n_max) per component.

    Raises
    ------
    ValueError
        For log odds that are NaN or +inf.
    """
    odds = np.atleast_2d(checked_log_odds(log_odds))
    result, tested = np.empty((len(odds), n_max + 1)), np.ones(odds.shape[1], bool)
    for row, values in zip(odds, result, strict=True):
        _log_esf(row, tested, values)
    return result


def logpmf(events: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
    """log P(x | n) of every patient under every component; n counts the patient's events among the tested genes.

    Parameters
    ----------
    events
        Shape (patients, genes), int8: 1 present, 0 absent, -1 not tested.
    log_odds
        Shape (components, genes).

    Returns
    -------
    numpy.ndarray
        Shape (patients, components); -inf for an event of a gene whose odds are zero, 0 for patients without events.

    Raises
    ------
    ValueError
        For log odds that are NaN or +inf, or another number of genes than the events have.
    """
    odds, events = np.atleast_2d(checked_log_odds(log_odds)), np.asarray(events, dtype=np.int8)
    if events.ndim != 2 or odds.shape[1] != events.shape[1]:
        raise ValueError(f"events: shape {events.shape}, but log_odds has {odds.shape[1]} genes")
    tested, pattern = _patterns(events)
    degree = int((events == 1).sum(1).max(initial=0))
    return np.asarray(_logpmf(np.ascontiguousarray(events), odds, tested, pattern, degree))


def inclusion_probabilities(log_odds: np.ndarray, n: int) -> np.ndarray:
    """P(x_g = 1 | n), shape (genes,), by forward–backward; each to full relative precision, however small.

    Raises ``ValueError`` if n events are impossible.
    """
    odds = _possible(log_odds, n)
    return np.asarray(_means(*_chain(odds, np.ones(len(odds), bool), n), n))


def covariance(log_odds: np.ndarray, n: int) -> np.ndarray:
    """Cov(x | n), shape (genes, genes), in O(genes² · n): also the Hessian of log e_n in the log odds.

    Raises ``ValueError`` if n events are impossible.
    """
    odds = _possible(log_odds, n)
    hit, miss = _chain(odds, np.ones(len(odds), bool), n)
    counts = np.zeros(n + 1)
    counts[n] = 1.0
    means = _means(hit, miss, n)
    return np.asarray(_second_moments(hit, miss, counts) - np.outer(means, means))


def sample(log_odds: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exact independent draws, one gene after the other (Chen, Dempster & Liu 1994, Biometrika 81:457).

    From log odds (genes,) and numbers of events (patients,): (patients, genes), int8 of 0 and 1. Raises ``ValueError``
    if some n is impossible.
    """
    n = np.asarray(n, dtype=np.int64)
    odds = _possible(log_odds, int(n.min(initial=0)))
    result = np.zeros((len(n), len(odds)), np.int8)
    if len(n):
        _possible(odds, int(n.max()))
        _sample(_chain(odds, np.ones(len(odds), bool), int(n.max()))[0], n, rng, result)
    return result


class Statistics(NamedTuple):
    """All that the likelihood needs of a set of patients; those of two sets of equal ``tested`` add.

    ``sums`` (genes,): patients with an event; ``tested`` (patterns, genes): the distinct sets of tested genes;
    ``histogram`` (patterns, n_max + 1): patients by such set and number of events.
    """

    sums: np.ndarray
    histogram: np.ndarray
    tested: np.ndarray


def sufficient_statistics(events: np.ndarray, weights: np.ndarray | None = None) -> Statistics:
    """Those of patients (patients, genes) that may have weights (patients,), as in an EM step."""
    tested, pattern = _patterns(events)
    present = np.asarray(events) == 1
    n = present.sum(1)
    mass = np.ones(len(n)) if weights is None else np.asarray(weights, dtype=float)
    histogram = np.zeros((len(tested), int(n.max(initial=0)) + 1))
    np.add.at(histogram, (pattern, n), mass)
    return Statistics(mass @ present, histogram, tested)


def log_likelihood(log_odds: np.ndarray, statistics: Statistics) -> tuple[float, np.ndarray, np.ndarray]:
    """Log likelihood in the log odds, its score (genes,) and its information (genes, genes): exact."""
    seen = statistics.sums > 0
    value = float(statistics.sums[seen] @ log_odds[seen])
    score, information = statistics.sums.copy(), np.zeros((len(log_odds), len(log_odds)))
    log_e = np.empty(statistics.histogram.shape[1])
    for counts, tested in zip(statistics.histogram, statistics.tested, strict=True):
        used = np.flatnonzero(counts)
        if not used.any():
            continue
        counts, degree = counts[: used[-1] + 1], int(used[-1])
        _log_esf(log_odds, tested, log_e[: degree + 1])
        value -= float(counts[used] @ log_e[used])
        hit, miss = _chain(log_odds, tested, degree)
        means = np.array([_means(hit, miss, int(n)) for n in used])
        score -= counts[used] @ means
        information += _second_moments(hit, miss, counts) - (means.T * counts[used]) @ means
    return value, score, information


def fit_statistics(statistics: Statistics, prior: float | np.ndarray = 0.0) -> np.ndarray:
    """As `fit`, from sufficient statistics."""
    genes = len(statistics.sums)
    pseudo = np.broadcast_to(np.asarray(prior, dtype=float), (genes,))
    if (pseudo < 0).any():
        raise ValueError(f"prior: {float(pseudo.min())} is negative")
    sums, histogram, tested = statistics.sums + pseudo, statistics.histogram, statistics.tested
    if pseudo.any():  # Σ a pseudo-patients with one event, all genes tested
        one = np.zeros((1, max(2, histogram.shape[1])))
        one[0, 1] = pseudo.sum()
        histogram = np.vstack([np.pad(histogram, ((0, 0), (0, one.shape[1] - histogram.shape[1]))), one])
        tested = np.vstack([tested, np.ones((1, genes), bool)])
    if not (histogram[:, 1:] > 0).any():
        raise ValueError("events: no patient has an event; use prior > 0")
    active = sums > 0  # the likelihood of genes never seen is highest at zero odds
    kept = Statistics(sums[active], histogram, tested[:, active])
    without = np.maximum(histogram[:, 1:].sum(1) @ kept.tested - kept.sums, 0.0)
    start = np.log(kept.sums + 0.5) - np.log(without + 0.5)
    result = np.full(genes, -np.inf)
    result[active] = newton(lambda at: log_likelihood(at, kept), start)
    return result


def fit(events: np.ndarray, prior: float | np.ndarray = 0.0, weights: np.ndarray | None = None) -> np.ndarray:
    """Log odds of highest likelihood or posterior density, over patients with any numbers of events.

    Parameters
    ----------
    events
        Shape (patients, genes): 1 present, 0 absent, -1 not tested.
    prior
        Parameters a_g of a Dirichlet prior on w / Σ w, which as a density of log w is Π w_g^{a_g} / (Σ w)^{Σ a}: as if
        Σ a more patients had one event each. It keeps the odds finite of genes that are never or always seen.
    weights
        Shape (patients,), as in an EM step; 1 by default.

    Returns
    -------
    numpy.ndarray
        Log odds (genes,), with mean zero over those that are finite; -inf for genes never seen, without a prior.

    Raises
    ------
    ValueError
        Without a prior, if the maximum is not finite and unique; for a negative prior; if there is nothing to fit.

    Notes
    -----
    Concave in log w; Newton's method with the exact covariance. At the maximum the expected sums equal the observed
    (Chen, Dempster & Liu 1994, Biometrika 81:457).
    """
    return fit_statistics(sufficient_statistics(events, weights), prior)
