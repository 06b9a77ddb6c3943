"""The conditional Bernoulli law against enumeration in exact arithmetic, closed forms and its own samples."""

from __future__ import annotations

import math
import time
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from clustering.conditional_bernoulli import (
    covariance,
    fit,
    fit_statistics,
    inclusion_probabilities,
    log_esf,
    log_likelihood,
    logpmf,
    sample,
    sufficient_statistics,
)

spreads = st.sampled_from([1.0, 30.0, 400.0])


def law(log_odds: np.ndarray, n: int) -> tuple[np.ndarray, list[Fraction]]:
    """All rows with n events and their probabilities, from the same floating-point odds but without rounding."""
    weights = [Fraction(float(np.exp(t))) for t in log_odds]
    sets = list(combinations(range(len(weights)), n))
    rows = np.zeros((len(sets), len(weights)), np.int8)
    for row, chosen in zip(rows, sets, strict=True):
        row[list(chosen)] = 1
    products = [math.prod((weights[g] for g in chosen), start=Fraction(1)) for chosen in sets]
    total = sum(products, start=Fraction(0))
    return rows, [p / total for p in products]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), spreads, st.data())
def test_probabilities_and_moments_equal_enumeration(seed: int, genes: int, spread: float, data: st.DataObject) -> None:
    log_odds = np.random.default_rng(seed).uniform(-spread, spread, genes)
    n = data.draw(st.integers(0, genes))
    rows, p = law(log_odds, n)
    found = logpmf(rows, log_odds)[:, 0]
    for log_p, exact in zip(found, p, strict=True):
        if exact > Fraction(1, 10**290):
            assert abs(Fraction(float(np.exp(log_p))) / exact - 1) < 1e-12 * max(1.0, spread / 100)
        if spread == 1.0 and exact < Fraction(99, 100):
            assert log_p == pytest.approx(math.log(exact), rel=1e-12)
    mean = [sum((q for q, x in zip(p, rows, strict=True) if x[g]), start=Fraction(0)) for g in range(genes)]
    for value, exact in zip(inclusion_probabilities(log_odds, n), mean, strict=True):
        if exact > Fraction(1, 10**290):
            assert abs(Fraction(float(value)) / exact - 1) < 1e-11 if exact else value == 0
    floats = np.array([float(q) for q in p])
    second = (rows.T * floats) @ rows
    expected = np.array([float(q) for q in mean])
    np.testing.assert_allclose(covariance(log_odds, n), second - np.outer(expected, expected), atol=1e-13)


def test_log_probabilities_of_many_shapes_reach_1e_12() -> None:
    rng, worst = np.random.default_rng(3), 0.0
    for genes in (3, 6, 10):
        for scale in (0.5, 2.0, 8.0):
            log_odds = rng.normal(size=genes) * scale
            for n in range(1, genes):
                rows, p = law(log_odds, n)
                exact = np.array([math.log(q.numerator) - math.log(q.denominator) for q in p])
                keep = exact < -1e-2  # the logarithm of a probability near one has the digits of the probability
                found = logpmf(rows, log_odds)[:, 0]
                worst = max(worst, np.abs(found[keep] / exact[keep] - 1).max())
    assert worst < 1e-12


@pytest.mark.parametrize("extent", [400.0, 2000.0, 1e5])
def test_any_odds_without_overflow(extent: float) -> None:
    """Odds so far apart that one product dominates each e_n: known without arithmetic, in linear and in log space."""
    log_odds = np.linspace(extent, -extent, 8)
    np.testing.assert_allclose(log_esf(log_odds, 9)[0], [*np.cumsum([0.0, *log_odds]), -np.inf], rtol=1e-13, atol=1e-9)
    x = np.eye(8, dtype=np.int8)
    np.testing.assert_allclose(logpmf(x, log_odds)[:, 0], log_odds - extent, atol=1e-9)
    np.testing.assert_array_equal(sample(log_odds, np.array([0, 3, 8]), np.random.default_rng(1)).sum(1), [0, 3, 8])
    np.testing.assert_allclose(inclusion_probabilities(log_odds, 3), [1, 1, 1, 0, 0, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(covariance(log_odds, 3), 0.0, atol=1e-12)


@pytest.mark.parametrize("extent", [400.0, 640.0])
@pytest.mark.parametrize("order", [1, -1])
def test_neighbours_whose_odds_differ_by_more_than_a_float_holds(extent: float, order: int) -> None:
    log_odds = np.array([extent, -extent, -extent])[::order]
    expected = [0.0, extent, np.log(2), -extent]
    np.testing.assert_allclose(log_esf(log_odds, 3)[0], expected, rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(inclusion_probabilities(log_odds, 2), np.array([1, 0.5, 0.5])[::order], rtol=1e-13)


@pytest.mark.parametrize("shift", [0.0, 640.0, 660.0])
def test_linear_and_logarithmic_paths_agree_where_they_meet(shift: float) -> None:
    """Two remote odds push the spread over the limit; the rest must not notice."""
    near = np.random.default_rng(5).normal(size=12)
    remote = np.array([shift + 1.0, -shift - 1.0]) if shift else np.array([-np.inf, -np.inf])
    everything = np.concatenate([near, remote])
    sure = int(shift > 0)  # the likely one is always there, the other never
    np.testing.assert_allclose(inclusion_probabilities(everything, 4 + sure)[:12], inclusion_probabilities(near, 4))
    x = sample(near, np.full(5, 4), np.random.default_rng(2))
    wide = np.hstack([x, np.full((5, 1), sure), np.zeros((5, 1))]).astype(np.int8)
    np.testing.assert_allclose(logpmf(wide, everything), logpmf(x, near), atol=1e-11)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(-200, 200))
def test_permuting_genes_and_scaling_odds_change_nothing(seed: int, genes: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(size=(3, genes)) * 20
    x = (rng.random((6, genes)) < 0.4).astype(np.int8) - (rng.random((6, genes)) < 0.2).astype(np.int8)
    x[x == -1] = np.where(rng.random((x == -1).sum()) < 0.5, -1, 0)
    order = rng.permutation(genes)
    reference = logpmf(x, log_odds)
    np.testing.assert_allclose(logpmf(x[:, order], log_odds[:, order] + shift), reference, rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(
        inclusion_probabilities(log_odds[0, order] + shift, 2),
        inclusion_probabilities(log_odds[0], 2)[order],
        rtol=1e-9,
    )


def test_genes_not_tested_leave_the_law_of_the_others() -> None:
    rng = np.random.default_rng(4)
    log_odds, x = rng.normal(size=(2, 7)) * 3, np.array([[1, -1, 0, 1, -1, 0, 0], [1, 0, 0, 0, 1, 0, -1]], np.int8)
    for row, found in zip(x, logpmf(x, log_odds), strict=True):
        observed = row >= 0
        for k in range(2):
            rows, p = law(log_odds[k, observed], int(row[observed].sum()))
            exact = p[int(np.flatnonzero((rows == row[observed]).all(1))[0])]
            assert found[k] == pytest.approx(math.log(exact), rel=1e-12)


def test_marginalizing_a_gene_by_hand() -> None:
    """Over the unseen gene's two values with n free, weighted by the law of n the odds imply, the same law remains."""
    log_odds = np.array([0.3, -1.0, 2.0, 0.5])
    two, p_two = law(log_odds, 2)
    e = np.exp(log_esf(log_odds, 3)[0])
    joint: dict[tuple[int, ...], float] = {}
    for n in (2, 3):  # independent Bernoullis restricted to two events among the first three genes
        for row, p in zip(*law(log_odds, n), strict=True):
            if row[:3].sum() == 2:
                joint[tuple(row[:3])] = joint.get(tuple(row[:3]), 0.0) + float(p) * e[n]
    total = sum(joint.values())
    for row, mass in joint.items():
        x = np.array([[*row, -1]], np.int8)
        assert np.exp(logpmf(x, log_odds)[0, 0]) == pytest.approx(mass / total, rel=1e-13)
    assert len(two) == len(p_two) == 6


def test_zero_odds_impossible_rows_and_wrong_arguments() -> None:
    log_odds = np.array([0.0, -np.inf, 1.0])
    x = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0], [-1, -1, -1]], np.int8)
    found = logpmf(x, log_odds)[:, 0]
    np.testing.assert_allclose(found, [-np.log1p(np.e), -np.inf, -np.inf, 0.0, 0.0], rtol=1e-14)
    for n in (-1, 3):
        with pytest.raises(ValueError, match="n:"):
            inclusion_probabilities(log_odds, n)
        with pytest.raises(ValueError, match="n:"):
            sample(log_odds, np.array([1, n]), np.random.default_rng(0))
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="log_odds"):
            logpmf(x, np.array([0.0, wrong, 1.0]))
    with pytest.raises(ValueError, match="shape"):
        logpmf(x, np.zeros(4))


def test_samples_have_the_enumerated_probabilities() -> None:
    log_odds, n = np.array([-4.0, 1.1, 0.0, -0.7, 2.0, 0.3]), 3
    draws = sample(log_odds, np.full(200_000, n), np.random.default_rng(7))
    rows, p = law(log_odds, n)
    codes = 2 ** np.arange(6)
    observed = np.bincount(draws @ codes, minlength=64)[rows @ codes]
    expected = 200_000 * np.array([float(q) for q in p])
    assert observed.sum() == 200_000
    assert chi2.sf(((observed - expected) ** 2 / expected).sum(), len(rows) - 1) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1.0, 20.0, 60.0])
def test_sampler_is_unbiased_over_a_million_draws(spread: float) -> None:
    log_odds, n, draws = np.random.default_rng(8).normal(size=50) * spread, 4, 1_000_000
    mean = inclusion_probabilities(log_odds, n)
    total = sum(sample(log_odds, np.full(100_000, n), np.random.default_rng([9, i])).sum(0) for i in range(10))
    common = draws * mean * (1 - mean) > 20  # where the normal approximation of the count holds
    z = (total - draws * mean)[common] / np.sqrt(draws * (mean * (1 - mean))[common])
    assert np.abs(z).max() < 4
    assert (np.abs(total - draws * mean)[~common] < 40).all()


def cohort(rng: np.random.Generator, patients: int = 300, genes: int = 8) -> np.ndarray:
    log_odds = rng.normal(size=genes)
    x = sample(log_odds, rng.integers(0, 6, patients), rng)
    x[: patients // 4, :3] = -1
    x[patients // 4 : patients // 3, 5] = -1
    return x


def test_score_and_information_equal_finite_differences() -> None:
    rng = np.random.default_rng(10)
    statistics = sufficient_statistics(cohort(rng), rng.random(300))
    at, step = rng.normal(size=8), 1e-5
    value, score, information = log_likelihood(at, statistics)
    up, down = ([log_likelihood(at + sign * step * unit, statistics) for unit in np.eye(8)] for sign in (1, -1))
    np.testing.assert_allclose(score, [(u[0] - d[0]) / (2 * step) for u, d in zip(up, down, strict=True)], atol=1e-5)
    np.testing.assert_allclose(
        -information, [(u[1] - d[1]) / (2 * step) for u, d in zip(up, down, strict=True)], atol=1e-5
    )
    assert np.isfinite(value)


@pytest.mark.parametrize("prior", [0.0, 0.5])
def test_fitted_sums_equal_the_observed_and_nothing_is_higher(prior: float) -> None:
    rng = np.random.default_rng(11)
    x, mass = cohort(rng), rng.random(300)
    found = fit(x, prior, mass)
    expected = np.full(8, 0.0)
    for row, weight in zip(x, mass, strict=True):
        tested = row >= 0
        expected[tested] += weight * inclusion_probabilities(found[tested], int((row == 1).sum()))
    observed = mass @ (x == 1) + prior
    np.testing.assert_allclose(expected + 8 * prior * np.exp(found) / np.exp(found).sum(), observed, rtol=1e-10)
    assert found.mean() == pytest.approx(0, abs=1e-12)


def test_fit_of_single_events_is_the_multinomials() -> None:
    """With one event each, p_g = (n_g + a) / (N + G a): the prior's pseudo-patients in closed form."""
    counts = np.array([7, 0, 3, 1])
    x = np.repeat(np.eye(4, dtype=np.int8), counts, axis=0)
    weights = np.exp(fit(x, prior=0.25))
    np.testing.assert_allclose(weights / weights.sum(), (counts + 0.25) / 12, rtol=1e-12)
    never = fit(x)
    assert never[1] == -np.inf
    np.testing.assert_allclose(np.exp(never - never[0]), counts / 7, rtol=1e-12)


def test_weights_are_repeated_patients_and_statistics_add() -> None:
    rng = np.random.default_rng(12)
    x, repeats = cohort(rng), rng.integers(0, 4, 300)
    np.testing.assert_allclose(fit(x, weights=repeats), fit(np.repeat(x, repeats, axis=0)), atol=1e-9)
    complete = x[100:]
    first, second = (sufficient_statistics(part) for part in (complete[:90], complete[90:]))
    both = first._replace(sums=first.sums + second.sums, histogram=first.histogram + second.histogram)
    np.testing.assert_allclose(fit_statistics(both), fit(complete), atol=1e-12)


def test_infinite_maxima_are_refused_and_a_prior_makes_them_finite() -> None:
    exclusive = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [1, 1, 0, 0]], np.int8)  # the first gene always
    with pytest.raises(ValueError, match="prior"):
        fit(exclusive)
    first_two = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]], np.int8)
    with pytest.raises(ValueError, match="prior"):
        fit(first_two)  # always before the others, though neither is always there
    for x in (exclusive, first_two):
        assert np.isfinite(fit(x, prior=0.25)).all()
        assert np.isfinite(fit(x, prior=0.02)).all()
    with pytest.raises(ValueError, match="no patient"):
        fit(np.zeros((3, 4), np.int8))
    with pytest.raises(ValueError, match="negative"):
        fit(exclusive, prior=-1.0)


def test_fit_recovers_the_odds_of_a_large_cohort() -> None:
    rng = np.random.default_rng(13)
    log_odds = rng.normal(size=10)
    x = sample(log_odds, rng.integers(1, 6, 40_000), rng)
    found = fit(x)
    _, _, information = log_likelihood(found, sufficient_statistics(x))
    error = found - log_odds + log_odds.mean()
    assert 0.5 < error @ information @ error < chi2.isf(1e-4, 9)  # Wald statistic, 9 degrees of freedom


@pytest.mark.slow
def test_speed_of_the_assignment_step() -> None:
    rng = np.random.default_rng(14)
    log_odds = rng.normal(size=(10, 80)) * 3
    x = np.vstack([sample(log_odds[i % 10], np.array([5]), rng) for i in range(1540)])
    logpmf(x, log_odds)
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        logpmf(x, log_odds)
        times.append(time.perf_counter() - begin)
    assert np.median(times) / 15_400 < 2e-6
