"""Split–merge moves against enumeration, and the densities they are made of."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.integrate import quad

from clustering.chain import chain_rng
from clustering.mixture.data import prepare
from clustering.mixture.groups import Prior, update_groups
from clustering.mixture.hyper import log_prior_of_weights
from clustering.mixture.partition_prior import log_new_weights
from clustering.mixture.split_merge import divide, log_pick_ratio, part, pick_pair, split_or_merge
from clustering.mixture.sweep import draw_given_one, log_likelihood_column, statistics, update_components
from clustering.mixture.weights import draw_weights, score_weights
from tests.clustering.mixture.exact import SMALL, canonical, exact_posterior, grouped_prior, mfm_prior, table


def alike(patients: int, log_new: np.ndarray, offset: float) -> Prior:
    """The prior of patients of no groups."""
    offsets = np.full(len(log_new) - 1, offset)
    return Prior(np.zeros(patients, np.int64), offsets, log_new, np.full(2, -1.0), offset)


@pytest.mark.parametrize("heat", [1.0, 0.5])
def test_splits_and_merges_alone_reach_all_partitions_as_often_as_they_should(heat: float) -> None:
    """No other move changes the labels; at half heat the likelihood's square root is the target."""
    n, scale, gamma, geometric, draws = len(SMALL), 0.4, 0.7, 0.3, 60_000
    exact = exact_posterior(SMALL, scale, mfm_prior(n, gamma, geometric), heat)
    data, rng = prepare(SMALL), np.random.default_rng(1)
    labels = np.arange(n)
    theta = np.array([draw_given_one(data, i, scale, rng) for i in range(n)])
    prior = alike(n, log_new_weights(n, 101, gamma, geometric).copy(), gamma)
    found, moves = Counter[tuple[int, ...]](), Counter[int]()
    for _ in range(draws):
        theta, move = split_or_merge(data, labels, theta, scale, prior, heat, rng)
        moves[move] += 1
        update_components(data, labels, theta, scale, heat, rng)
        found[canonical(labels)] += 1
    assert len(exact) == 52
    assert abs(moves[1] - moves[-1]) < n  # what is split is merged again
    assert moves[1] > 0.1 * draws
    for z, p in exact.items():
        assert abs(found[z] / draws - p) < 4.5 * np.sqrt(6 * p * (1 - p) / draws) + 0.01 * p + 1e-4, z


def test_splits_and_merges_alone_reach_all_partitions_of_groups() -> None:
    """With the tables, K, β and α renewed between the moves; no other move changes the labels."""
    scale, gamma, geometric, alpha_prior, draws = 0.4, 0.7, 0.3, (2.0, 0.5), 30_000
    groups = [1, 1, 0, 0, 1]
    exact = exact_posterior(SMALL, scale, grouped_prior(groups, gamma, geometric, alpha_prior))
    data, rng, n = prepare(SMALL), np.random.default_rng(1), len(SMALL)
    group, labels = np.array(groups), np.arange(n)
    theta = np.array([draw_given_one(data, i, scale, rng) for i in range(n)])
    offsets, pool, alpha = np.full(100, 0.5), np.array([0.5, 1.0]), 3.0  # αβ of five components, of one empty one
    prior = Prior(group, offsets, np.zeros(101), pool, gamma)
    found, moves = Counter[tuple[int, ...]](), Counter[int]()
    for _ in range(draws):
        theta, move = split_or_merge(data, labels, theta, scale, prior, 1.0, rng)
        moves[move] += 1
        t, whole = len(theta), offsets[: len(theta)].sum() + pool[0]
        assert whole == pytest.approx(alpha, rel=1e-9)  # shares move, their sum stays
        counts = np.bincount(group * t + labels, minlength=2 * t).reshape(2, t)
        shares, rest, pool[1], alpha = update_groups(
            counts, offsets[:t] / whole, whole, gamma, geometric, alpha_prior, rng
        )
        offsets[:t], pool[0] = alpha * shares, alpha * rest
        update_components(data, labels, theta, scale, 1.0, rng)
        found[canonical(labels)] += 1
    assert abs(moves[1] - moves[-1]) < n
    assert moves[1] > 0.05 * draws
    for z, p in exact.items():
        assert abs(found[z] / draws - p) < 4.5 * np.sqrt(6 * p * (1 - p) / draws) + 0.01 * p + 1e-4, z


def test_a_pair_is_picked_with_the_chances_that_the_ratio_reports() -> None:
    """A component or two of them, then a patient on either side; against all pairs that there are."""
    rng, draws = np.random.default_rng(0), 120_000
    split, merged = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 0, 0, 1])

    def chances(labels: np.ndarray) -> np.ndarray:
        found = np.zeros((6, 6))
        for _ in range(draws):
            i, j = pick_pair(labels, labels.max() + 1, rng)
            if i >= 0:
                found[i, j] += 1
        return found / draws

    apart, together = chances(split), chances(merged)
    assert apart.trace() == together.trace() == 0
    # of component 0, split: 1/2 · 1/2 · 1/(5·4) an ordered pair; as components 0 and 1 of three: 1/2 · 1/6 · 1/(3·2)
    assert together[0, 3] == pytest.approx(1 / 80, abs=0.002)
    assert apart[0, 3] == pytest.approx(1 / 72, abs=0.002)
    assert log_pick_ratio(2, 3, 2) == pytest.approx(np.log(80 / 72))
    assert together[0, 5] == pytest.approx(1 / 2 * 1 / 2 * 1 / 5, abs=0.004)
    assert apart.sum() == pytest.approx(1 - 1 / 2 * 1 / 3, abs=0.01)  # component 2 cannot be split


def test_the_density_of_drawn_weights_integrates_to_one() -> None:
    """Two genes have one log ratio: its density by quadrature, and the same score for a draw as when it was drawn."""
    events, tested, rng = np.array([3.0, 1.0]), np.ones((1, 2), bool), np.random.default_rng(3)
    histogram = np.array([[0.0, 4.0]])

    def density(ratio: float) -> float:
        return float(np.exp(score_weights(np.array([0.0, ratio]), events, histogram, tested, 0.3, rng)))

    assert quad(density, -60, 30, limit=400)[0] == pytest.approx(1.0, abs=1e-6)
    theta, drawn = draw_weights(events, histogram, tested, 0.3, rng)
    assert score_weights(theta + 5.0, events, histogram, tested, 0.3, rng) == pytest.approx(drawn, abs=1e-9)


def test_weighted_draws_estimate_the_marginal_likelihood() -> None:
    """E[p(w, x) / q(w)] is p(x), here by plain Monte Carlo over the prior."""
    events = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 1, 0], [1, 0, 1, 0, -1]])
    data, rng, scale = prepare(table(events)), np.random.default_rng(7), 0.5
    counts, histogram = statistics(data, np.zeros(3, int), 1)

    def log_joint(theta: np.ndarray) -> float:
        laws = np.empty(3)
        log_likelihood_column(data, theta, 0, laws)
        return float(laws.sum())

    ratios = []
    for _ in range(20_000):
        theta, log_q = draw_weights(counts[0], histogram[0], data.tested, scale, rng)
        ratios.append(np.exp(log_prior_of_weights(scale, theta[None]) + log_joint(theta) - log_q))
    prior = np.log(rng.dirichlet(np.full(5, scale), 40_000) + 1e-300)
    plain = np.exp([log_joint(theta) for theta in prior])
    error = np.hypot(np.std(ratios) / np.sqrt(len(ratios)), plain.std() / np.sqrt(len(plain)))
    assert abs(np.mean(ratios) - plain.mean()) < 4.5 * error


def test_a_division_has_the_probability_it_reports() -> None:
    rng = np.random.default_rng(4)
    likelihood = rng.normal(0, 1, (2, 5))
    found, reported = Counter[tuple[int, ...]](), dict[tuple[int, ...], float]()
    for _ in range(40_000):
        side = np.array([0, 1, 0, 0, 0])
        log_p = divide(likelihood, side, 0.6, 0.8, True, rng)
        found[tuple(side)] += 1
        reported[tuple(side)] = log_p
        assert divide(likelihood, side, 0.6, 0.8, False, rng) == pytest.approx(log_p, abs=1e-12)
    p = {z: np.exp(log_p) for z, log_p in reported.items()}
    assert sum(p.values()) == pytest.approx(1.0, abs=1e-9)
    for z, value in p.items():
        assert found[z] / 40_000 == pytest.approx(value, abs=4.5 * np.sqrt(value / 40_000))


def test_a_part_of_the_data_is_the_data_of_those_patients() -> None:
    data, some = prepare(SMALL), np.array([3, 0, 4])
    np.testing.assert_array_equal(part(data, some).genes, prepare(SMALL.select(some)).genes)
    laws, whole = np.empty(3), np.empty(len(SMALL))
    theta = np.array([0.3, -1.0, 2.0, 0.1])
    log_likelihood_column(part(data, some), theta, 0, laws)
    log_likelihood_column(data, theta, 0, whole)
    np.testing.assert_allclose(laws, whole[some], rtol=1e-14)


def test_a_mixture_of_one_patient_is_left_alone() -> None:
    data, labels = prepare(table([[1, 0, 1]])), np.zeros(1, int)
    theta = np.zeros((1, 3))
    found, move = split_or_merge(data, labels, theta, 0.3, alike(1, np.zeros(5), 1.0), 1.0, chain_rng(0, 0, 0))
    assert move == 0
    np.testing.assert_array_equal(found, theta)
