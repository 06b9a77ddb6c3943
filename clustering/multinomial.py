"""Finite mixture of multinomials by EM: the classical model of binary lesions, as a peer for the others.

Given n events, component k gives a row the probability n! Π p_kg^{x_g}, which counts vectors with repeated events
among the possible ones. Restricted to 0/1 rows, component k keeps the mass n! e_n(p_k) and is the conditional
Bernoulli law with odds p_k; the mixture's law of binary rows is therefore

    P(x | n, binary) = Σ_k π_k(n) CB(x | n, p_k),   π_k(n) ∝ π_k e_n(p_k):

the same model, with nothing spent on rows that cannot occur. Held-out comparisons with models of binary rows are fair
with this one. Genes not tested (-1) leave the multinomial of the tested genes, with probabilities p_kg / Σ_tested p_k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, logsumexp

from clustering.conditional_bernoulli import log_esf
from clustering.events import MISSING


@dataclass(frozen=True)
class MultinomialMixture:
    """A fitted mixture.

    Parameters
    ----------
    weights
        π, shape (components,).
    probabilities
        p, shape (components, genes), rows summing to one.
    bic
        Bayesian information criterion of the fit, smaller is better.
    ascent
        The penalized log likelihood after each step of EM, (steps,).
    """

    weights: np.ndarray
    probabilities: np.ndarray
    bic: float
    ascent: np.ndarray

    def _log_joint(self, events: np.ndarray) -> np.ndarray:
        """log π_k + log n! Π p_kg^{x_g}, (patients, components)."""
        return _log_joint(np.asarray(events), self.weights, self.probabilities)

    def logpmf(self, events: np.ndarray) -> np.ndarray:
        """log P(x | n) among all count vectors, of patients' rows (patients, genes) of 1, 0, -1 -> (patients,)."""
        return np.asarray(logsumexp(self._log_joint(events), axis=1))

    def logpmf_binary(self, events: np.ndarray) -> np.ndarray:
        """log P(x | n, binary), renormalized to 0/1 rows of the tested genes, (patients,)."""
        events = np.asarray(events)
        tested, pattern = np.unique(events != MISSING, axis=0, return_inverse=True)
        n = (events == 1).sum(1)
        log_mass = np.empty((len(tested), int(n.max(initial=0)) + 1))
        for i, genes in enumerate(tested):
            with np.errstate(divide="ignore"):
                log_e = log_esf(np.log(self.probabilities[:, genes]), log_mass.shape[1] - 1)
                log_share = np.log(self.probabilities[:, genes].sum(1, keepdims=True))
                log_weights = np.log(self.weights)[:, None]
            orders = np.arange(log_mass.shape[1])
            log_mass[i] = logsumexp(log_weights + log_e - orders * log_share + gammaln(orders + 1), axis=0)
        return np.asarray(self.logpmf(events) - log_mass[pattern.reshape(-1), n])

    def predict_proba(self, events: np.ndarray) -> np.ndarray:
        """Posterior probabilities of the components, (patients, components)."""
        joint = self._log_joint(events)
        return np.asarray(np.exp(joint - logsumexp(joint, axis=1, keepdims=True)))

    def predict(self, events: np.ndarray) -> np.ndarray:
        """Most probable components, (patients,)."""
        return np.asarray(self._log_joint(events).argmax(1))


def _log_joint(events: np.ndarray, weights: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    present, tested = (events == 1).astype(float), (events != MISSING).astype(float)
    n = present.sum(1)
    with np.errstate(divide="ignore"):
        log_p, log_weights = np.log(probabilities), np.log(weights)
    impossible = present @ (probabilities == 0).T > 0
    joint = log_weights + gammaln(n + 1)[:, None] + present @ np.where(probabilities > 0, log_p, 0.0).T
    joint -= n[:, None] * np.log(np.maximum(tested @ probabilities.T, 1e-300))
    return np.where(impossible, -np.inf, joint)


def _em(
    events: np.ndarray, weights: np.ndarray, probabilities: np.ndarray, prior: float, steps: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    present, tested = (events == 1).astype(float), (events != MISSING).astype(float)
    n, complete = present.sum(1), bool((events != MISSING).all())
    ascent: list[float] = []
    for _ in range(steps):
        joint = _log_joint(events, weights, probabilities)
        each = logsumexp(joint, axis=1, keepdims=True)
        penalty = prior * np.log(probabilities).sum() if prior > 0 else 0.0
        ascent.append(float(each.sum() + penalty))
        if len(ascent) > 1 and ascent[-1] - ascent[-2] < tolerance * len(events):
            break
        memberships = np.exp(joint - each)
        expected = memberships.T @ present + prior
        if not complete:
            # events that untested genes would have had: n p_g / Σ_tested p each (Dempster, Laird & Rubin 1977, §4.2)
            lost = memberships * n[:, None] / np.maximum(tested @ probabilities.T, 1e-300)
            expected += (lost.T @ (1.0 - tested)) * probabilities
        total = expected.sum(1, keepdims=True)
        probabilities = np.where(total > 0, expected / np.maximum(total, 1e-300), probabilities)
        weights = memberships.mean(0)
    return weights, probabilities, ascent


def fit_multinomial_mixture(
    events: np.ndarray,
    components: int,
    rng: np.random.Generator,
    starts: int = 10,
    prior: float = 0.01,
    steps: int = 2000,
    tolerance: float = 1e-8,
) -> MultinomialMixture:
    """EM from several starts; the one that ends highest.

    Parameters
    ----------
    events
        Shape (patients, genes): 1 present, 0 absent, -1 not tested.
    components
        K ≥ 1.
    rng
        Draws the starts: patients as seeds, smoothed.
    prior
        Pseudo-events of every gene in every component: above zero, held-out patients keep a positive probability.
    tolerance
        EM stops when a step gains less per patient.

    Raises
    ------
    ValueError
        For no components, no patients, no events at all, or a negative prior.
    """
    events = np.asarray(events)
    if components < 1:
        raise ValueError(f"components: {components} must be at least 1")
    if prior < 0:
        raise ValueError(f"prior: {prior} is negative")
    present = events == 1
    if not present.any():
        raise ValueError("events: no patient has an event")
    frequencies = present.sum(0) / present.sum()
    carriers = np.flatnonzero(present.any(1))
    best: tuple[np.ndarray, np.ndarray, list[float]] | None = None
    for _ in range(starts):
        seeds = present[rng.choice(carriers, size=components, replace=components > len(carriers))]
        probabilities = 0.5 * frequencies + 0.5 * seeds / seeds.sum(1, keepdims=True)
        probabilities = (1.0 - 1e-3) * probabilities + 1e-3 / events.shape[1]
        found = _em(events, np.full(components, 1.0 / components), probabilities, prior, steps, tolerance)
        if best is None or found[2][-1] > best[2][-1]:
            best = found
        if components == 1:
            break
    assert best is not None
    weights, probabilities, ascent = best
    parameters = components - 1 + components * (events.shape[1] - 1)
    log_likelihood = logsumexp(_log_joint(events, weights, probabilities), axis=1).sum()
    bic = float(parameters * np.log(len(events)) - 2.0 * log_likelihood)
    return MultinomialMixture(weights, probabilities, bic, np.array(ascent))


def select_multinomial_mixture(
    events: np.ndarray, candidates: range, rng: np.random.Generator, starts: int = 10, prior: float = 0.01
) -> MultinomialMixture:
    """The mixture of lowest BIC among numbers of components."""
    fits = [fit_multinomial_mixture(events, k, rng, starts, prior) for k in candidates]
    return min(fits, key=lambda fit: fit.bic)
