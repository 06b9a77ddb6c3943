"""One sweep over the patients: Gibbs on assignments, component weights given, mixing proportions integrated out."""

from __future__ import annotations

import numpy as np
from numba import njit

from clustering.elementary import draw_events, log_elementary
from clustering.mixture.data import Data
from clustering.mixture.groups import Prior, close_component, log_new_weight, open_component
from clustering.mixture.weights import LOWEST, draw_prior, update_weights

NOTHING = -60.0
"""Log probability, less that of the best component, that is below the rounding of the others' sum."""

BIRTHS = 0.1
"""Share of the patients who may open or close a component in a sweep below full heat, where the offer costs a draw."""


@njit(cache=True)
def log_likelihood_column(data: Data, theta: np.ndarray, first: int, result: np.ndarray) -> None:
    """log P(x_i | n_i, θ) of patients ``first`` onwards under one component, (patients,)."""
    weights = np.exp(np.maximum(theta - theta.max(), LOWEST))
    logs = np.log(weights)
    norms = np.empty((len(data.tested), data.highest + 1))
    for p in range(len(data.tested)):
        log_elementary(weights, data.tested[p], data.highest, norms[p])
    for i in range(first, len(data.pattern)):
        start, end = data.starts[i], data.starts[i + 1]
        total = -norms[data.pattern[i], end - start]
        for j in range(start, end):
            total += logs[data.genes[j]]
        result[i] = total


@njit(cache=True)
def log_likelihood_columns(data: Data, theta: np.ndarray, result: np.ndarray) -> None:
    """log P(x_i | n_i, θ_k) of all patients under some components, into the first columns of (patients, …)."""
    components, genes = theta.shape
    logs = np.empty((genes, components))
    norms = np.empty((len(data.tested), data.highest + 1, components))
    norm = np.empty(data.highest + 1)
    for k in range(components):
        weights = np.exp(np.maximum(theta[k] - theta[k].max(), LOWEST))
        logs[:, k] = np.log(weights)
        for p in range(len(data.tested)):
            log_elementary(weights, data.tested[p], data.highest, norm)
            norms[p, :, k] = norm
    for i in range(len(data.pattern)):
        start, end = data.starts[i], data.starts[i + 1]
        for k in range(components):
            result[i, k] = -norms[data.pattern[i], end - start, k]
        for j in range(start, end):
            gene = data.genes[j]
            for k in range(components):
                result[i, k] += logs[gene, k]


@njit(cache=True)
def log_likelihood_of(data: Data, theta: np.ndarray, i: int) -> float:
    """log P(x_i | n_i, θ) of one patient."""
    weights = np.exp(np.maximum(theta - theta.max(), LOWEST))
    start, end = data.starts[i], data.starts[i + 1]
    norm = np.empty(end - start + 1)
    log_elementary(weights, data.tested[data.pattern[i]], end - start, norm)
    total = -norm[end - start]
    for j in range(start, end):
        total += np.log(weights[data.genes[j]])
    return float(total)


@njit(cache=True)
def draw_given_one(data: Data, i: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Log weights from the exact posterior given patient i alone.

    Draw (w, x') from prior and law, then permute the tested genes at random so that x' becomes the patient's x: the
    prior is symmetric, so (w, x) keeps its joint distribution.
    """
    genes = data.tested.shape[1]
    theta = draw_prior(genes, scale, rng)
    start, end = data.starts[i], data.starts[i + 1]
    tested = data.tested[data.pattern[i]]
    drawn = np.empty(genes, np.int64)
    suffix = np.empty((genes + 1, end - start + 1))
    draw_events(np.exp(np.maximum(theta, LOWEST)), tested, end - start, rng, suffix, drawn)
    mutated = np.zeros(genes, np.int64)
    mutated[data.genes[start:end]] = 1
    result = theta.copy()
    for value in (0, 1):
        old = np.flatnonzero(tested & (drawn == value))
        new = np.flatnonzero(tested & (mutated == value))
        rng.shuffle(old)
        for j in range(len(new)):
            result[new[j]] = theta[old[j]]
    return result


@njit(cache=True)
def statistics(data: Data, labels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """What a component needs of its patients: events per gene (k, genes), and the histogram of tested set and number
    of events (k, patterns, highest + 1). Sums, so that a federation can add them up."""
    patterns, genes = data.tested.shape
    events = np.zeros((k, genes))
    histogram = np.zeros((k, patterns, data.highest + 1))
    for i in range(len(labels)):
        start, end = data.starts[i], data.starts[i + 1]
        histogram[labels[i], data.pattern[i], end - start] += 1.0
        for j in range(start, end):
            events[labels[i], data.genes[j]] += 1.0
    return events, histogram


@njit(cache=True)
def log_likelihood(data: Data, labels: np.ndarray, theta: np.ndarray) -> float:
    """Σ_i log P(x_i | n_i, θ of its component), from the sufficient statistics."""
    events, histogram = statistics(data, labels, len(theta))
    norm = np.empty(data.highest + 1)
    total = 0.0
    for k in range(len(theta)):
        weights = np.exp(np.maximum(theta[k] - theta[k].max(), LOWEST))
        total += (events[k] * np.log(weights)).sum()
        for p in range(len(data.tested)):
            if histogram[k, p].any():
                log_elementary(weights, data.tested[p], data.highest, norm)
                for n in range(data.highest + 1):
                    if histogram[k, p, n] > 0.0:
                        total -= histogram[k, p, n] * norm[n]
    return float(total)


@njit(cache=True)
def assign(
    data: Data,
    labels: np.ndarray,
    theta: np.ndarray,
    scale: float,
    prior: Prior,
    heat: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Gibbs scan over the patients, ``labels`` in place; components are opened and closed.

    Parameters
    ----------
    theta
        Log weights of the components in use, (k, genes).
    prior
        Weights of the components, in place: ``prior.offset`` is in the order of the result.
    heat
        Power β of the likelihood. At 1 a new component's weights need no candidate: their posterior given one patient
        is drawn exactly, and their marginal is 1 / C(G, n). Below, a draw w from that posterior is the candidate of
        Neal's Algorithm 8 with the importance weight P(x | n, w)^(β-1), a patient alone keeping its own weights as the
        candidate: exact for every β.

    Returns
    -------
    array
        Log weights of the components in use afterwards; labels are numbers of its rows.
    """
    patients, genes = len(labels), theta.shape[1]
    capacity = len(prior.offset)
    slots = np.empty((capacity, genes))
    likelihood = np.empty((patients, capacity))
    size = np.zeros(capacity, np.int64)
    near = np.zeros((prior.group.max() + 1, capacity))  # patients by group
    used = np.empty(capacity, np.int64)  # slots in use, then free ones
    for k in range(capacity):
        used[k] = k
    t = len(theta)
    slots[:t] = theta
    log_likelihood_columns(data, theta, likelihood)
    for i in range(patients):
        size[labels[i]] += 1
        near[prior.group[i], labels[i]] += 1.0
    weight = np.empty(capacity + 1)
    candidate = np.empty(genes)
    law = 0.0  # of the patient under the candidate
    for i in range(patients):
        own = labels[i]
        alone = size[own] == 1
        births = heat == 1.0 or rng.random() < BIRTHS
        if alone and not births:
            continue
        if births and heat < 1.0:
            if alone:
                candidate[:] = slots[own]
                law = likelihood[i, own]
            else:
                candidate[:] = draw_given_one(data, i, scale, rng)
                law = log_likelihood_of(data, candidate, i)
        own_group = near[prior.group[i]]
        size[own] -= 1
        own_group[own] -= 1.0
        if size[own] == 0:
            close_component(prior, own)
            for j in range(t):
                if used[j] == own:
                    used[j], used[t - 1] = used[t - 1], own
                    break
            t -= 1
        log_new = log_new_weight(prior, t) if births and t < capacity else -np.inf
        opens = log_new > -np.inf
        new = -np.inf
        if opens:
            new = data.log_uniform[i] if heat == 1.0 else data.log_uniform[i] + (heat - 1.0) * law
        best = new
        laws = likelihood[i]
        for j in range(t):
            best = max(best, heat * laws[used[j]])
        total = 0.0
        for j in range(t):
            below = heat * laws[used[j]] - best
            if below > NOTHING:
                total += (own_group[used[j]] + prior.offset[used[j]]) * np.exp(below)
            weight[j] = total
        if opens:
            total += np.exp(log_new + new - best)
        u = rng.random() * total
        chosen, last = 0, t if opens else t - 1
        while chosen < last and weight[chosen] <= u:
            chosen += 1
        if chosen == t:
            t += 1
            slot = used[chosen]
            open_component(prior, slot, rng)
            slots[slot] = draw_given_one(data, i, scale, rng) if heat == 1.0 else candidate
            log_likelihood_column(data, slots[slot], i, likelihood[:, slot])
        labels[i] = used[chosen]
        size[labels[i]] += 1
        own_group[labels[i]] += 1.0
    new_number = np.empty(capacity, np.int64)
    result, offset = np.empty((t, genes)), np.empty(t)
    for j in range(t):
        new_number[used[j]] = j
        result[j] = slots[used[j]]
        offset[j] = prior.offset[used[j]]
    prior.offset[:t] = offset
    for i in range(patients):
        labels[i] = new_number[labels[i]]
    return result


@njit(cache=True)
def update_components(
    data: Data, labels: np.ndarray, theta: np.ndarray, scale: float, heat: float, rng: np.random.Generator
) -> None:
    """A sweep over all genes of all components, in place."""
    events, histogram = statistics(data, labels, len(theta))
    for k in range(len(theta)):
        update_weights(theta[k], heat * events[k], heat * histogram[k], data.tested, scale, rng)
