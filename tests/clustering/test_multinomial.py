"""The multinomial mixture against enumeration, closed forms, and what EM promises."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import multinomial
from sklearn.metrics import adjusted_rand_score

from clustering.conditional_bernoulli import logpmf
from clustering.multinomial import MultinomialMixture, fit_multinomial_mixture, select_multinomial_mixture
from clustering.simulation import simulate


@pytest.fixture
def mixture() -> MultinomialMixture:
    rng = np.random.default_rng(1)
    return MultinomialMixture(np.array([0.3, 0.7]), rng.dirichlet(np.ones(5), 2), 0.0, np.zeros(1))


@pytest.mark.parametrize("n", [0, 1, 3, 5])
def test_both_laws_equal_enumeration(mixture: MultinomialMixture, n: int) -> None:
    rows = np.array([x for x in product((0, 1), repeat=5) if sum(x) == n])
    exact = sum(w * multinomial.pmf(rows, n, p) for w, p in zip(mixture.weights, mixture.probabilities, strict=True))
    np.testing.assert_allclose(np.exp(mixture.logpmf(rows)), exact, rtol=1e-11)
    np.testing.assert_allclose(np.exp(mixture.logpmf_binary(rows)), exact / exact.sum(), rtol=1e-11)


def test_binary_law_is_a_mixture_of_conditional_bernoullis(mixture: MultinomialMixture) -> None:
    rows = np.array([[1, 1, 0, 0, 0], [0, 1, 0, 1, 0]])
    e_2 = np.array([sum(p[i] * p[j] for i in range(5) for j in range(i)) for p in mixture.probabilities])
    shares = mixture.weights * e_2 / (mixture.weights @ e_2)
    expected = np.exp(logpmf(rows, np.log(mixture.probabilities))) @ shares
    np.testing.assert_allclose(np.exp(mixture.logpmf_binary(rows)), expected, rtol=1e-12)


def test_genes_not_tested_leave_the_law_of_the_others(mixture: MultinomialMixture) -> None:
    rows = np.array([[*x, -1] for x in product((0, 1), repeat=4) if sum(x) == 2])
    conditional = mixture.probabilities[:, :4] / mixture.probabilities[:, :4].sum(1, keepdims=True)
    exact = sum(w * multinomial.pmf(rows[:, :4], 2, p) for w, p in zip(mixture.weights, conditional, strict=True))
    np.testing.assert_allclose(np.exp(mixture.logpmf(rows)), exact, rtol=1e-11)
    assert np.exp(mixture.logpmf_binary(rows)).sum() == pytest.approx(1, rel=1e-12)
    both = np.vstack([rows, [[1, 0, 0, 1, 1]]])  # two patterns together
    np.testing.assert_allclose(mixture.logpmf_binary(both)[:-1], mixture.logpmf_binary(rows), rtol=1e-13)


@pytest.mark.parametrize("missing", [False, True])
def test_em_ascends_to_a_point_of_zero_score(missing: bool) -> None:
    events = simulate(3, 4.0, 0.2, np.random.default_rng(2), patients=300, genes=12).table.events.copy()
    if missing:
        events[:100, :4] = -1
    fit = fit_multinomial_mixture(events, 3, np.random.default_rng(3), starts=2, prior=0.1, tolerance=1e-12)
    assert (np.diff(fit.ascent) > -1e-8).all()
    assert fit.weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(fit.probabilities.sum(1), 1, rtol=1e-12)

    def penalized(logits: np.ndarray) -> float:
        p = np.exp(logits - np.logaddexp.reduce(logits, axis=1)[:, None])
        moved = MultinomialMixture(fit.weights, p, 0.0, np.zeros(1))
        return float(moved.logpmf(events).sum() + 0.1 * np.log(p).sum())

    logits = np.log(fit.probabilities)
    assert penalized(logits) == pytest.approx(fit.ascent[-1], abs=1e-6)
    for k, g in product(range(3), range(12)):
        step = np.zeros((3, 12))
        step[k, g] = 1e-4
        assert abs(penalized(logits + step) - penalized(logits - step)) / 2e-4 < 0.05


def test_one_component_is_the_table_of_frequencies() -> None:
    events = simulate(2, 3.0, 1.0, np.random.default_rng(4), patients=200, genes=8).table.events
    fit = fit_multinomial_mixture(events, 1, np.random.default_rng(0), prior=0.5)
    np.testing.assert_allclose(fit.probabilities[0], (events.sum(0) + 0.5) / (events.sum() + 4), rtol=1e-12)
    expected = 7 * np.log(200) - 2 * fit.logpmf(events).sum()
    assert fit.bic == pytest.approx(expected, rel=1e-12)


def test_clear_clusters_are_found_and_their_number_chosen() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 400)
    p = np.kron(np.eye(3), np.ones(6)) + 0.01
    events = (rng.random((400, 18)) < 0.5 * p[labels] / p.max()).astype(np.int8)
    fit = select_multinomial_mixture(events, range(1, 6), rng, starts=3)
    assert len(fit.weights) == 3
    carriers = events.sum(1) > 0
    assert adjusted_rand_score(labels[carriers], fit.predict(events)[carriers]) > 0.9
    membership = fit.predict_proba(events)
    np.testing.assert_allclose(membership.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(membership[~carriers], np.tile(fit.weights, ((~carriers).sum(), 1)), rtol=1e-12)


def test_wrong_arguments() -> None:
    x = np.eye(3, dtype=np.int8)
    for kind, name in (({"components": 0}, "components"), ({"components": 1, "prior": -1.0}, "prior")):
        with pytest.raises(ValueError, match=name):
            fit_multinomial_mixture(x, rng=np.random.default_rng(0), **kind)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no patient"):
        fit_multinomial_mixture(np.zeros((2, 3), np.int8), 1, np.random.default_rng(0))
