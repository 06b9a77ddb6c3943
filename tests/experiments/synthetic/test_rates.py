"""Intervals against statsmodels and scikit-learn, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from experiments.synthetic.rates import Rate, difference, residual_risk, roc_auc


@pytest.mark.parametrize(("successes", "attacks"), [(0, 10), (3, 10), (10, 10), (250, 1000)])
def test_rates_have_wilsons_interval(successes: int, attacks: int) -> None:
    rate = Rate.of(successes, attacks)
    low, high = proportion_confint(successes, attacks, method="wilson")
    assert rate.value - rate.error == pytest.approx(low)
    assert rate.value + rate.error == pytest.approx(high)


def test_residual_risk_by_hand() -> None:
    """Half of what was left to gain; the errors by the derivatives 1/(1 − c) and (a − 1)/(1 − c)²."""
    risk = residual_risk(Rate(0.6, 0.03), Rate(0.2, 0.04))
    assert risk.value == pytest.approx(0.5)
    assert risk.high - risk.value == pytest.approx(np.hypot(0.03 / 0.8, 0.4 / 0.64 * 0.04))


def test_the_area_is_scikit_learns_and_its_interval_covers() -> None:
    rng = np.random.default_rng(0)
    tied = rng.integers(0, 4, 60).astype(float)
    assert roc_auc(tied[:25], tied[25:]).value == pytest.approx(roc_auc_score(np.arange(60) < 25, tied))
    truth, covered = 0.7602, 0  # P(N(1,1) > N(0,1)) = Φ(1/√2)
    for _ in range(400):
        found = roc_auc(rng.normal(1, 1, 40), rng.normal(0, 1, 80))
        covered += found.low <= truth <= found.high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_a_difference_of_means_has_welchs_interval() -> None:
    a, b = np.array([1.0, 0, 1, 1]), np.array([0.0, 0, 1])
    found = difference(a, b)
    assert found.value == pytest.approx(0.75 - 1 / 3)
    assert found.high - found.value == pytest.approx(1.96 * np.sqrt(a.var(ddof=1) / 4 + b.var(ddof=1) / 3), rel=1e-4)
