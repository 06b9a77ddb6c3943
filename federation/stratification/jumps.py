"""Components are born and die: reversible jumps with the patients' components summed out.

Prior draws of empty components hardly ever fit a patient, so the telescoping sampler alone finds no new cluster. Here a
component is proposed that resembles the patients with some lesion, from their fixed counts over the whole federation,
or one is proposed to be left out; which of the two and which lesion is drawn beforehand, so that each birth has its
death (Green, Biometrika 1995; Richardson & Green, JRSS B 1997). Centers answer with a single number, the change of
Σ_i log Σ_k π_k P(x_i | n_i, θ_k), as a whole number of units, so that sums do not depend on their order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import betaln, digamma, gammaln

from clustering.mixture.hyper import log_prior_of_weights
from clustering.mixture.weights import log_gamma_draw, update_weights

Floats = NDArray[np.float64]

UNITS = 2.0**24
"""Of a patient's log-likelihood: rounding it to one changes no one's by more than 3e-8."""

SWEEPS, SCALE = 30, 0.3
"""How a template is fitted: sweeps over its weights, and the scale of their prior."""


class Template(NamedTuple):
    """A proposal law of a component: log gammas around locations, the weights relative to the template's lesion.

    Parameters
    ----------
    gene
        The lesion all patients of the template have.
    events
        Its patients with each lesion (genes,).
    location
        Of the log weights (genes,), 0 for the lesion itself.
    share
        Its patients over all.
    """

    gene: int
    events: Floats
    location: Floats
    share: float

    def draw(self, scale: float, rng: np.random.Generator) -> tuple[Floats, float]:
        """Log weights (genes,) with the largest 0, and a proportion."""
        noise = np.array([log_gamma_draw(float(events) + scale, rng) for events in self.events])
        theta = np.where(np.arange(len(noise)) == self.gene, 0.0, self.location + noise)
        return theta - theta.max(), float(rng.beta(*self._beta))

    def log_density(self, theta: Floats, log_w: float, log_rest: float, scale: float) -> float:
        """Of log weights over log-ratio coordinates, and of a proportion given its log and that of all others."""
        others = np.arange(len(theta)) != self.gene
        y, shape = (theta - theta[self.gene] - self.location)[others], self.events[others] + scale
        of_theta = (shape * y - np.exp(np.minimum(y, 700.0)) - gammaln(shape)).sum()
        return float(of_theta) + log_beta(log_w, log_rest, *self._beta)

    @property
    def _beta(self) -> tuple[float, float]:
        share = min(max(0.6 * self.share, 1e-3), 0.6)
        return 2.0, 2.0 / share - 2.0


def log_beta(log_w: float, log_rest: float, a: float, b: float) -> float:
    """Log density of Beta(a, b) at w, given log w and log(1 - w)."""
    return float((a - 1) * log_w + (b - 1) * log_rest - betaln(a, b))


def pair_counts(events: NDArray[np.bool_]) -> dict[str, Floats]:
    """What templates are made of: ``together``, patients by two lesions (genes, genes), and ``numbers``, by lesion and
    number of events (genes, genes + 1)."""
    x = events.astype(np.float64)
    number = np.eye(events.shape[1] + 1)[events.sum(1)]
    return {"together": x.T @ x, "numbers": x.T @ number}


def locate(together: Floats, numbers: Floats, highest: int, rng: np.random.Generator) -> Floats:
    """Locations of the templates' log weights (genes, genes): posterior given their patients, as if all were tested."""
    genes = len(together)
    result, tested = np.zeros((genes, genes)), np.ones((1, genes), dtype=bool)
    for g in np.flatnonzero(np.diag(together) > 0) if genes > 1 else ():
        theta, mean = np.log(together[g] + SCALE), np.zeros(genes)
        histogram = numbers[g : g + 1, : highest + 1].copy()
        for sweep in range(SWEEPS):
            update_weights(theta, together[g], histogram, tested, SCALE, rng)
            if sweep >= SWEEPS // 3:
                mean += (theta - theta[g]) / (SWEEPS - SWEEPS // 3)
        result[g] = np.where(np.arange(genes) == g, 0.0, mean - digamma(together[g] + SCALE))
    return result


class Proposal(NamedTuple):
    """Other components and proportions, and the log of all of the acceptance ratio but the likelihoods'.

    Parameters
    ----------
    theta, log_weights
        Components now and the one proposed, if any: (components', genes), and log proportions now and as proposed,
        (2, components'), -inf for a component that is not there.
    log_ratio
        See above.
    """

    theta: Floats
    log_weights: Floats
    log_ratio: float


def propose(
    template: Template,
    theta: Floats,
    log_weights: Floats,
    scale: float,
    gamma: float,
    geometric: float,
    capacity: int,
    rng: np.random.Generator,
) -> Proposal | None:
    """A birth or a death, half of the time each; None if there may be none more, or none fewer.

    With the new proportion w taken from all others alike, Dirichlet densities and Jacobian make Beta(w | γ, γK).
    """
    k = len(theta)
    if rng.random() < 0.5:
        if k == capacity:
            return None
        new, w = template.draw(scale, rng)
        log_w, log_rest = float(np.log(w)), float(np.log1p(-w))
        ratio = _log_birth_ratio(template, new, log_w, log_rest, k, scale, gamma, geometric)
        now, then = np.append(log_weights, -np.inf), np.append(log_weights + log_rest, log_w)
        return Proposal(np.concatenate([theta, new[None]]), np.stack([now, then]), ratio)
    if k == 1:
        return None
    dying = int(rng.integers(k))
    log_rest = float(np.logaddexp.reduce(np.delete(log_weights, dying)))
    log_w = float(log_weights[dying])
    ratio = _log_birth_ratio(template, theta[dying], log_w, log_rest, k - 1, scale, gamma, geometric)
    then = np.where(np.arange(k) == dying, -np.inf, log_weights - log_rest)
    return Proposal(theta, np.stack([log_weights, then]), -ratio)


def _log_birth_ratio(
    template: Template,
    theta: Floats,
    log_w: float,
    log_rest: float,
    others: int,
    scale: float,
    gamma: float,
    geometric: float,
) -> float:
    prior = np.log1p(-geometric) + log_prior_of_weights(scale, theta[None])
    prior += log_beta(log_w, log_rest, gamma, gamma * others)
    return float(prior - template.log_density(theta, log_w, log_rest, scale))


@njit(cache=True)
def gain(
    starts: NDArray[np.int64],
    genes: NDArray[np.int64],
    pattern: NDArray[np.int64],
    theta: Floats,
    log_norms: Floats,
    log_weights: Floats,
    heat: float,
) -> float:
    """Σ_i log Σ_k π_k P(x_i | n_i, θ_k)^heat under the second row of proportions minus the first, in whole units.

    See `federation.stratification.labels.draw_labels`; ``log_weights`` is (2, components).
    """
    components = len(theta)
    law = np.empty(components)
    result = 0.0
    for i in range(len(pattern)):
        start, end = starts[i], starts[i + 1]
        for k in range(components):
            law[k] = -log_norms[k, pattern[i], end - start]
            for j in range(start, end):
                law[k] += theta[k, genes[j]]
        for row in range(2):
            best = -np.inf
            for k in range(components):
                best = max(best, log_weights[row, k] + heat * law[k])
            total = 0.0
            for k in range(components):
                total += np.exp(log_weights[row, k] + heat * law[k] - best)
            value = np.rint((best + np.log(total)) * UNITS)
            result += value if row == 1 else -value
    return result
