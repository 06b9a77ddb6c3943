"""The mixture's sampler against enumeration of all partitions, its prior (Geweke 2004), and itself."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import kstest
from sklearn.metrics import adjusted_rand_score

from clustering.chain import chain_rng, steps
from clustering.events import read_events
from clustering.mixture import MixtureSampler
from clustering.mixture.data import prepare
from clustering.mixture.partition_prior import log_mfm_coefficients
from clustering.mixture.sweep import draw_given_one, log_likelihood_column, statistics
from clustering.mixture.weights import update_weights
from clustering.simulation import read_simulated
from tests.clustering.mixture.exact import (
    SMALL,
    canonical,
    enumerated_log_law,
    exact_posterior,
    mfm_prior,
    partitions,
    table,
)


def test_the_mfm_prior_sums_to_one_and_equals_its_definition() -> None:
    n, gamma, geometric = 5, 0.7, 0.3
    prior = mfm_prior(n, gamma, geometric)
    assert sum(np.exp(list(prior.values()))) == pytest.approx(1.0, rel=1e-9)
    log_v = log_mfm_coefficients(n, n, gamma, geometric)
    for z, value in prior.items():
        sizes = np.bincount(z)
        assert log_v[len(sizes)] + (gammaln(sizes + gamma) - gammaln(gamma)).sum() == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("scale", [0.15, 1.0])
@pytest.mark.parametrize("partition", ["mfm", "dp"])
def test_partitions_of_a_tiny_cohort(partition: str, scale: float) -> None:
    """All 52 partitions of five patients, one with an untested gene, have their exact posterior probability."""
    n, draws = len(SMALL), 40_000
    if partition == "mfm":
        prior = mfm_prior(n, 0.7, 0.3)
        sampler = MixtureSampler(SMALL, gamma=0.7, geometric=0.3, scale=scale, annealing=5)
    else:
        # α integrated out: CRP(α) averaged over its Gamma prior by quadrature.
        grid = (np.arange(200_000) + 0.5) * 2e-4
        density = grid * np.exp(-grid)
        density /= density.sum()
        rising = gammaln(grid) - gammaln(grid + n)
        prior = {}
        for z in partitions(n):
            sizes = np.bincount(z)
            given = len(sizes) * np.log(grid) + gammaln(sizes).sum() + rising
            prior[z] = float(np.log((density * np.exp(given)).sum()))
        sampler = MixtureSampler(SMALL, "dp", concentration_prior=(2.0, 1.0), scale=scale, annealing=5)
    exact = exact_posterior(SMALL, scale, prior)
    assert len(exact) == 52  # Bell's number
    rng = np.random.default_rng(3)
    state, found = sampler.start(rng), Counter[tuple[int, ...]]()
    for _ in range(draws):
        state = sampler.advance(state, 4, rng)
        found[canonical(state["labels"])] += 1
    for z, p in exact.items():
        error = np.sqrt(p * (1 - p) / draws * 3)  # draws four sweeps apart: at most thrice the variance
        assert abs(found[z] / draws - p) < 4.5 * error + 0.01 * p + 1e-4, z


def test_weights_given_one_patient_have_their_posterior() -> None:
    """Weighted prior draws have the same moments as the exact draws by permutation."""
    data, scale, draws = table([[1, 0, 1, 0, -1]]), 0.6, 40_000
    rng = np.random.default_rng(5)
    prior = rng.dirichlet(np.full(5, scale), 400_000)
    importance = np.exp(enumerated_log_law(data.events[0], prior))
    expected = importance @ prior / importance.sum()
    theta = np.array([draw_given_one(prepare(data), 0, scale, rng) for _ in range(draws)])
    weights = np.exp(theta)
    weights /= weights.sum(1, keepdims=True)
    error = weights.std(0) / np.sqrt(draws) + np.sqrt(importance @ (prior - expected) ** 2 / importance.sum() / 1e5)
    assert (np.abs(weights.mean(0) - expected) < 4.5 * error).all()


@pytest.mark.parametrize("partition", ["mfm", "dp"])
def test_geweke(partition: str) -> None:
    """Sweeps alternating with new events given labels and weights return the prior (Geweke, JASA 2004).

    The prior is simulated by the same chain on patients with all genes mutated, whose law is certain.
    """
    patients, genes = 6, 5
    rng = np.random.default_rng(8)
    options = {"annealing": 2, "scale_bounds": (0.1, 3.0), "geometric": 0.3, "concentration_prior": (2.0, 2.0)}
    n = rng.integers(1, 4, patients)
    tested = rng.random((patients, genes)) < 0.8
    tested[:, :4] = True
    events = np.where(tested, 0, -1).astype(np.int8)
    for i in range(patients):
        events[i, : n[i]] = 1
    sampler = MixtureSampler(table(events), partition, **options)  # type: ignore[arg-type]
    state = sampler.start(rng)
    scale, clusters, alpha = [], [], []
    for step in range(15_000):
        for i in range(patients):
            weights = np.exp(state["theta"][state["labels"][i]])
            seen = np.flatnonzero(tested[i])
            sets = list(combinations(seen, int(n[i])))
            p = np.array([weights[list(s)].prod() for s in sets])
            events[i, seen] = 0
            events[i, list(sets[rng.choice(len(sets), p=p / p.sum())])] = 1
        sampler = MixtureSampler(table(events), partition, **options)  # type: ignore[arg-type]
        state = sampler.advance(state, 1, rng)
        if step % 10 == 0:
            scale.append(float(state["scale"]))
            clusters.append(len(state["theta"]))
            alpha.append(float(state["alpha"]))
    assert kstest(np.log(scale), "uniform", (np.log(0.1), np.log(30))).pvalue > 1e-3
    if partition == "mfm":
        sizes = np.zeros(patients + 1)
        for z, value in mfm_prior(patients, 1.0, 0.3).items():
            sizes[max(z) + 1] += np.exp(value)
        found = np.bincount(clusters, minlength=patients + 1) / len(clusters)
        assert np.abs(found - sizes).max() < 4.5 * np.sqrt(0.25 / len(clusters) * 2)
    else:
        assert kstest(alpha, "gamma", (2.0, 0.0, 0.5)).pvalue > 1e-3


def test_a_chain_repeats_and_leaves_its_argument_alone() -> None:
    rng = np.random.default_rng(2)
    data = table((rng.random((80, 9)) < 0.4) | (np.arange(9) == 0))
    sampler = MixtureSampler(data)
    first = [next(steps(sampler, 4, 1, spacing=5)) for _ in range(2)]
    for name in first[0].state:
        np.testing.assert_array_equal(first[0].state[name], first[1].state[name])
    before = {k: v.copy() for k, v in first[0].state.items()}
    sampler.advance(first[0].state, 3, chain_rng(4, 1, 2))
    for name, value in before.items():
        np.testing.assert_array_equal(first[0].state[name], value)
    resumed = next(steps(sampler, 4, 1, spacing=5, after=(1, first[0].state)))
    chain = steps(sampler, 4, 1, spacing=5)
    next(chain)
    np.testing.assert_array_equal(next(chain).state["theta"], resumed.state["theta"])


def test_log_likelihood_is_the_enumerated_law() -> None:
    rng = np.random.default_rng(6)
    events = rng.integers(0, 2, (30, 7))
    events[rng.random((30, 7)) < 0.2] = -1
    events[:, 0] = 1
    sampler = MixtureSampler(table(events))
    theta = rng.normal(0, 20, (3, 7))
    found = sampler.log_likelihoods(theta)
    expected = np.array([enumerated_log_law(row, np.exp(theta)) for row in events.astype(np.int8)])
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_a_patient_without_events_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 patients have no event"):
        MixtureSampler(table([[0, 0], [1, 0]])).start(np.random.default_rng(0))


def test_exact_cohort_is_recovered(data_dir: Path) -> None:
    """Five components, mean three events: the true classes, at the oracle's level."""
    data, truth = read_events(data_dir / "clustering" / "simulated" / "sim_a1M_K5_l8.csv", "label")
    assert truth is not None
    keep = data.counts > 0
    last = [s for s, _ in zip(steps(MixtureSampler(data.select(keep)), 1, 0, spacing=100), range(20), strict=False)][-1]
    assert adjusted_rand_score(truth[keep], last.draw["labels"]) > 0.97
    assert last.scalars["clusters"] == 5


def test_weights_climb_from_a_flat_start(data_dir: Path) -> None:
    """Genes 150 orders of magnitude apart make the conditionals staircases, on which logit-Beta proposals freeze."""
    cohort = read_simulated(data_dir / "clustering" / "simulated" / "sim_a1M_K5_l8.csv")
    data = prepare(cohort.table.select((cohort.labels == 0) & (cohort.table.counts > 0)))
    events, histogram = statistics(data, np.zeros(len(data.pattern), int), 1)
    theta, rng = np.zeros(data.tested.shape[1]), np.random.default_rng(0)
    for _ in range(100):
        update_weights(theta, events[0], histogram[0], data.tested, 0.05, rng)
    found, true = np.empty(len(data.pattern)), np.empty(len(data.pattern))
    log_likelihood_column(data, theta, 0, found)
    log_likelihood_column(data, cohort.log_odds[0], 0, true)
    assert found.sum() > true.sum() - 20  # 50 weights drawn from a posterior around the truth; frozen ones lack 4,000
