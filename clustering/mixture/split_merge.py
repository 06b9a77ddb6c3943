"""Split–merge moves for a non-conjugate mixture (Jain & Neal, Bayesian Analysis 2007).

A component is to be split or two to be merged, and a patient is picked for either side. Some restricted Gibbs scans
over the patients of both sides, from weights given either patient alone, make a launch state that knows nothing of how
these patients are divided now. For a split, the others are divided between them in turn, given the launch weights. New
weights are drawn given the new labels by a tractable proposal (`weights.draw_weights`), so that weights and labels are
accepted or refused together: what their densities' ratio estimates is a ratio of marginal likelihoods. With groups of
patients, so are the components' shares (`groups.move_shares`); the division of the patients does not look at groups.
"""

from __future__ import annotations

from math import lgamma

import numpy as np
from numba import njit

from clustering.mixture.data import Data
from clustering.mixture.groups import Prior, move_shares
from clustering.mixture.hyper import log_prior_of_weights
from clustering.mixture.sweep import draw_given_one, log_likelihood_column, statistics
from clustering.mixture.weights import draw_weights, score_weights, update_weights

LAUNCH_SCANS = 4


@njit(cache=True)
def pick_pair(labels: np.ndarray, components: int, rng: np.random.Generator) -> tuple[int, int]:
    """Two patients: of one component to be split or of two to be merged, half of the time each; -1, -1 without any.

    Components are picked whatever their sizes, then patients in them: of two patients picked at random nearly none
    would be of a small component, and it is those that chains get stuck with.
    """
    if rng.random() < 0.5:
        inside = np.flatnonzero(labels == rng.integers(0, components))
        if len(inside) < 2:
            return -1, -1
        i = rng.integers(0, len(inside))
        j = rng.integers(0, len(inside) - 1)
        return int(inside[i]), int(inside[j + 1 if j >= i else j])
    if components < 2:
        return -1, -1
    a = rng.integers(0, components)
    b = rng.integers(0, components - 1)
    left = np.flatnonzero(labels == a)
    right = np.flatnonzero(labels == (b + 1 if b >= a else b))
    return int(left[rng.integers(0, len(left))]), int(right[rng.integers(0, len(right))])


@njit(cache=True)
def log_pick_ratio(components: int, left: int, right: int) -> float:
    """Log chance to pick a pair when two components of these sizes are to be merged, less that to pick it when they are
    one and to be split, beside ``components`` - 1 others."""
    size = left + right
    merge = -np.log(components + 1.0) - np.log(components) - np.log(left) - np.log(right)
    return float(merge + np.log(components) + np.log(size) + np.log(size - 1.0))


@njit(cache=True)
def part(data: Data, members: np.ndarray) -> Data:
    """The data of some patients alone."""
    lengths = data.starts[members + 1] - data.starts[members]
    starts = np.zeros(len(members) + 1, np.int64)
    starts[1:] = np.cumsum(lengths)
    genes = np.empty(starts[-1], np.int64)
    for m in range(len(members)):
        genes[starts[m] : starts[m + 1]] = data.genes[data.starts[members[m]] : data.starts[members[m] + 1]]
    return Data(starts, genes, data.pattern[members], data.tested, data.log_uniform[members], data.highest)


@njit(cache=True)
def divide(
    likelihood: np.ndarray, side: np.ndarray, offset: float, heat: float, draw: bool, rng: np.random.Generator
) -> float:
    """Divide patients between two components in turn, the first two patients being theirs already.

    Parameters
    ----------
    likelihood
        Log likelihood of every patient under each, (2, patients).
    side
        0 or 1 a patient; drawn in place if ``draw``, else scored as it is.

    Returns
    -------
    float
        Log probability of ``side``.
    """
    size = np.array([1.0 + offset, 1.0 + offset])
    result = 0.0
    for m in range(2, len(side)):
        t = np.log(size[1] / size[0]) + heat * (likelihood[1, m] - likelihood[0, m])
        if draw:
            side[m] = 1 if np.log(1.0 / (1.0 - rng.random()) - 1.0) < t else 0
        result -= np.log1p(np.exp(-abs(t))) + max(-t if side[m] == 1 else t, 0.0)
        size[side[m]] += 1.0
    return result


@njit(cache=True)
def _likelihoods(data: Data, theta: np.ndarray) -> np.ndarray:
    result = np.empty((2, len(data.pattern)))
    for side in range(2):
        log_likelihood_column(data, theta[side], 0, result[side])
    return result


@njit(cache=True)
def _launch(data: Data, scale: float, offset: float, heat: float, rng: np.random.Generator) -> np.ndarray:
    """Log likelihoods (2, patients) under the weights of the launch state; patients 0 and 1 are on either side."""
    theta = np.empty((2, data.tested.shape[1]))
    for side in range(2):
        theta[side] = draw_given_one(data, side, scale, rng)
    sides = np.zeros(len(data.pattern), np.int64)
    sides[1] = 1
    for _ in range(LAUNCH_SCANS):
        divide(_likelihoods(data, theta), sides, offset, heat, True, rng)
        events, histogram = statistics(data, sides, 2)
        for side in range(2):
            update_weights(theta[side], heat * events[side], heat * histogram[side], data.tested, scale, rng)
    return _likelihoods(data, theta)


@njit(cache=True)
def _log_target(theta: np.ndarray, data: Data, members: np.ndarray, scale: float, heat: float) -> float:
    """Log prior of a component's weights and tempered log likelihood of its patients."""
    laws = np.empty(len(data.pattern))
    log_likelihood_column(data, theta, 0, laws)
    return float(log_prior_of_weights(scale, theta.reshape(1, -1)) + heat * laws[members].sum())


@njit(cache=True)
def split_or_merge(
    data: Data,
    labels: np.ndarray,
    theta: np.ndarray,
    scale: float,
    prior: Prior,
    heat: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, int]:
    """One move; ``labels`` and, with groups, ``prior`` in place. Arguments as of `sweep.assign`.

    Returns
    -------
    tuple
        Log weights of the components in use afterwards, and 1 for a split, -1 for a merge, 0 if it was refused.
    """
    t = len(theta)
    i, j = pick_pair(labels, t, rng)
    if i < 0:
        return theta, 0
    a, b = labels[i], labels[j]
    split = a == b
    if split and t == len(prior.offset):
        return theta, 0
    grouped = prior.pool[1] >= 0.0
    offset = prior.gamma if grouped else prior.offset[0]
    others = np.flatnonzero((labels == a) | (labels == b))
    others = others[(others != i) & (others != j)]
    members = np.concatenate((np.array([i, j]), others))
    own = part(data, members)
    likelihood = _launch(own, scale, offset, heat, rng)
    sides = np.zeros(len(members), np.int64)
    sides[1] = 1
    if not split:
        for m in range(len(members)):
            sides[m] = 1 if labels[members[m]] == b else 0
    log_divide = divide(likelihood, sides, offset, heat, split, rng)
    events, histogram = statistics(own, sides, 2)
    all_events, all_histogram = events[0] + events[1], histogram[0] + histogram[1]
    two = np.empty((2, theta.shape[1]))
    log_weights = 0.0
    if split:
        one = theta[a].copy()
        for side in range(2):
            two[side], density = draw_weights(heat * events[side], heat * histogram[side], data.tested, scale, rng)
            log_weights += density
        log_weights -= score_weights(one, heat * all_events, heat * all_histogram, data.tested, scale, rng)
    else:
        two[0], two[1] = theta[a], theta[b]
        for side in range(2):
            log_weights += score_weights(
                two[side], heat * events[side], heat * histogram[side], data.tested, scale, rng
            )
        one, density = draw_weights(heat * all_events, heat * all_histogram, data.tested, scale, rng)
        log_weights -= density
    size, right = len(members), sides.sum()
    before = t if split else t - 1  # components of the merged state
    log_ratio = log_pick_ratio(before, size - right, right) - log_divide - log_weights
    shares = (0.0, 0.0, 0.0, 0.0)
    if grouped:
        sizes = np.zeros((2, prior.group.max() + 1), np.int64)
        for m in range(size):
            sizes[sides[m], prior.group[members[m]]] += 1
        shares = move_shares(prior, a, b, split, sizes, rng)
        log_ratio += shares[3]
    else:
        log_ratio += prior.log_new[before] - lgamma(offset + 1.0) - lgamma(size + offset)
        log_ratio += lgamma(right + offset) + lgamma(size - right + offset)
    log_ratio += _log_target(two[0], own, sides == 0, scale, heat) + _log_target(two[1], own, sides == 1, scale, heat)
    log_ratio -= _log_target(one, own, sides >= 0, scale, heat)
    if not np.log1p(-rng.random()) < (log_ratio if split else -log_ratio):
        return theta, 0
    if grouped:
        prior.offset[a] = shares[0]
        prior.pool[0] = shares[2]
        prior.pool[1] += -1.0 if split else 1.0
        if split:
            prior.offset[t] = shares[1]
        else:
            prior.offset[b : t - 1] = prior.offset[b + 1 : t].copy()
    if split:
        result = np.empty((t + 1, theta.shape[1]))
        result[:t] = theta
        result[a], result[t] = two[0], two[1]
        labels[members[sides == 1]] = t
        return result, 1
    result = np.empty((t - 1, theta.shape[1]))
    labels[members] = a
    place = 0
    for k in range(t):
        if k != b:
            result[place] = one if k == a else theta[k]
            place += 1
    for m in range(len(labels)):
        if labels[m] > b:
            labels[m] -= 1
    return result, -1
