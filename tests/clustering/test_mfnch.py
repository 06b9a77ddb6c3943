"""Fisher's multivariate noncentral hypergeometric law against scipy's special cases and enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import comb
from scipy.stats import chi2, multivariate_hypergeom, nchypergeom_fisher

from clustering import conditional_bernoulli
from clustering.mfnch import MultivariateFisherNCHypergeometric, cornfield_odds, logpmf


def enumerated(m: np.ndarray, n: int, odds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.array([x for x in product(*(range(k + 1) for k in m)) if sum(x) == n])
    p = np.prod(comb(m, rows, exact=False) * odds**rows, axis=1)
    return rows, p / p.sum()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(0, 2**32 - 1), st.data())
def test_probabilities_and_moments_equal_enumeration(balls: list[int], seed: int, data: st.DataObject) -> None:
    m, odds = np.array(balls), np.exp(np.random.default_rng(seed).normal(size=len(balls)) * 4)
    n = data.draw(st.integers(0, int(m.sum())))
    rows, p = enumerated(m, n, odds)
    law = MultivariateFisherNCHypergeometric(m, n, odds)
    np.testing.assert_allclose(law.pmf(rows), p, rtol=1e-12)
    np.testing.assert_allclose(law.mean(), p @ rows, rtol=1e-12)
    np.testing.assert_allclose(law.cov(), (rows.T * p) @ rows - np.outer(p @ rows, p @ rows), atol=1e-12)
    assert law.mean().sum() == pytest.approx(n, abs=1e-11)
    order = np.random.default_rng(seed).permutation(len(m))
    turned = MultivariateFisherNCHypergeometric(m[order], n, odds[order] * 1e3)
    np.testing.assert_allclose(turned.logpmf(rows[:, order]), law.logpmf(rows), atol=1e-11)


def test_equal_odds_are_scipys_multivariate_hypergeometric() -> None:
    m, n = np.array([40, 7, 300, 12]), 30
    law, oracle = MultivariateFisherNCHypergeometric(m, n, np.full(4, 3.7)), multivariate_hypergeom(m, n)
    x = oracle.rvs(50, random_state=1)
    np.testing.assert_allclose(law.logpmf(x), oracle.logpmf(x), rtol=1e-11)
    np.testing.assert_allclose(law.mean(), oracle.mean(), rtol=1e-11)
    np.testing.assert_allclose(law.cov(), oracle.cov(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("odds", [0.02, 1.0, 35.0])
def test_two_colours_are_scipys_noncentral_hypergeometric(odds: float) -> None:
    m, n = np.array([25, 60]), 20
    law, oracle = MultivariateFisherNCHypergeometric(m, n, np.array([odds, 1.0])), nchypergeom_fisher(85, 25, n, odds)
    x = np.arange(n + 1)
    np.testing.assert_allclose(law.pmf(np.column_stack([x, n - x])), oracle.pmf(x), rtol=1e-9, atol=1e-300)
    assert law.mean()[0] == pytest.approx(oracle.mean(), rel=1e-9)
    assert law.cov()[0, 0] == pytest.approx(oracle.var(), rel=1e-8)


def test_one_ball_a_colour_is_the_conditional_bernoulli() -> None:
    rng = np.random.default_rng(2)
    log_odds = rng.normal(size=(3, 20)) * 5
    x = conditional_bernoulli.sample(log_odds[0], rng.integers(0, 9, 40), rng)
    np.testing.assert_allclose(
        logpmf(x, np.ones(20, int), log_odds), conditional_bernoulli.logpmf(x, log_odds), rtol=1e-11, atol=1e-12
    )
    law = MultivariateFisherNCHypergeometric(np.ones(20, int), 4, log_odds=log_odds[1])
    np.testing.assert_allclose(law.mean(), conditional_bernoulli.inclusion_probabilities(log_odds[1], 4), rtol=1e-11)
    np.testing.assert_allclose(law.cov(), conditional_bernoulli.covariance(log_odds[1], 4), atol=1e-13)


def test_extreme_odds_do_not_overflow() -> None:
    m, log_odds = np.array([3, 1000, 5, 2]), np.array([400.0, -400.0, 399.0, -np.inf])
    law = MultivariateFisherNCHypergeometric(m, 10, log_odds=log_odds)  # all eight balls of the likely colours
    np.testing.assert_allclose(law.mean(), [3, 2, 5, 0], rtol=1e-12)
    np.testing.assert_allclose(law.cov(), 0, atol=1e-12)
    np.testing.assert_allclose(law.logpmf(np.array([[3, 2, 5, 0], [3, 2, 3, 2]])), [0, -np.inf], atol=1e-9)
    np.testing.assert_array_equal(law.rvs(3, np.random.default_rng(0)), np.tile([3, 2, 5, 0], (3, 1)))
    few = MultivariateFisherNCHypergeometric(np.array([2, 9, 4]), 1, np.array([1e-151, 1e23, 1.0]))
    np.testing.assert_allclose(few.pmf(np.eye(3, dtype=int)), [2e-174 / 9, 1, 4e-23 / 9], rtol=1e-12)


def test_outside_the_support_and_wrong_arguments() -> None:
    law = MultivariateFisherNCHypergeometric(np.array([2, 3]), 3, np.array([1.0, 2.0]))
    x = np.array([[3, 0], [-1, 4], [1, 1], [0.5, 2.5]])
    np.testing.assert_array_equal(law.pmf(x), 0.0)
    assert law.pmf(np.array([1, 2])) == pytest.approx(2 * 3 * 4 / (2 * 3 * 4 + 8 + 3 * 2))
    for m, n, odds, name in (([2, 3], 6, [1, 1], "n:"), ([2, 3], 3, [1, 0], None), ([2, 3], 4, [1, 0], "n:")):
        if name is None:
            MultivariateFisherNCHypergeometric(np.array(m), 2, np.array(odds))
        else:
            with pytest.raises(ValueError, match=name):
                MultivariateFisherNCHypergeometric(np.array(m), n, np.array(odds))
    with pytest.raises(ValueError, match="odds"):
        MultivariateFisherNCHypergeometric(np.array([2]), 1, np.array([-1.0]))
    with pytest.raises(ValueError, match="odds"):
        MultivariateFisherNCHypergeometric(np.array([2]), 1)
    with pytest.raises(ValueError, match="m:"):
        MultivariateFisherNCHypergeometric(np.array([2, 1]), 1, np.array([1.0]))


def test_samples_have_the_enumerated_probabilities() -> None:
    m, n, odds, draws = np.array([2, 4, 1, 3]), 4, np.array([0.1, 1.0, 6.0, 2.0]), 100_000
    rows, p = enumerated(m, n, odds)
    x = MultivariateFisherNCHypergeometric(m, n, odds).rvs(draws, np.random.default_rng(3))
    codes = 5 ** np.arange(4)
    observed = np.bincount(x @ codes, minlength=625)[rows @ codes]
    assert observed.sum() == draws
    assert p.min() * draws > 5
    statistic = ((observed - p * draws) ** 2 / (p * draws)).sum()
    assert chi2.sf(statistic, len(p) - 1) > 1e-4


@pytest.mark.parametrize("prior", [0.0, 0.5])
def test_fitted_means_equal_the_observed(prior: float) -> None:
    rng, m, odds = np.random.default_rng(4), np.array([3, 6, 2, 5]), np.array([1.0, 0.3, 4.0, 1.5])
    x = np.vstack([MultivariateFisherNCHypergeometric(m, n, odds).rvs(60, rng) for n in (0, 2, 5, 9)])
    found = MultivariateFisherNCHypergeometric.fit(x, m, prior)
    expected = 4 * prior * np.exp(found) / np.exp(found).sum()
    for n in (0, 2, 5, 9):
        expected = expected + 60 * MultivariateFisherNCHypergeometric(m, n, log_odds=found).mean()
    np.testing.assert_allclose(expected, x.sum(0) + prior, rtol=1e-10)
    np.testing.assert_allclose(found, np.log(odds) - np.log(odds).mean(), atol=0.6)


def test_fit_refuses_what_has_no_maximum() -> None:
    always = np.array([[2, 1, 0], [2, 0, 1]])
    with pytest.raises(ValueError, match="prior"):
        MultivariateFisherNCHypergeometric.fit(always, np.array([2, 3, 3]))
    assert np.isfinite(MultivariateFisherNCHypergeometric.fit(always, np.array([2, 3, 3]), 0.5)).all()
    with pytest.raises(ValueError, match="between"):
        MultivariateFisherNCHypergeometric.fit(always, np.array([1, 3, 3]))
    with pytest.raises(ValueError, match="no ball"):
        MultivariateFisherNCHypergeometric.fit(np.zeros((2, 3), int), np.array([1, 3, 3]))


def test_cornfields_odds_approach_the_truth_in_large_urns() -> None:
    m, odds = np.array([400, 900, 600]), np.array([1.0, 0.2, 3.0])
    found = cornfield_odds(MultivariateFisherNCHypergeometric(m, 300, odds).mean(), m)
    np.testing.assert_allclose(found / found[0], odds / odds[0], rtol=5e-3)
    few = cornfield_odds(MultivariateFisherNCHypergeometric(np.ones(3, int), 1, odds).mean(), np.ones(3))
    assert abs(few[2] / few[0] / 3 - 1) > 0.2  # not so with one ball a colour: it is no estimator there
