"""Accounting against dp-accounting called directly, and against Opacus."""

from __future__ import annotations

import math

import dp_accounting
import pytest
from dp_accounting import pld, rdp
from scipy.optimize import brentq
from scipy.stats import norm

from federation.privacy.dp.accounting import Spending, noise_for, spent_epsilon

CASES = [(1.0, 4.0, 40, 1e-5), (0.01, 1.1, 10_000, 1e-5), (0.1, 2.0, 200, 1e-5), (0.25, 6.0, 100, 1e-3)]

OPACUS_RDP = [8.079406222420491, 5.63199236854841, 3.6797458455819227, 1.2828067856855987]
"""opacus 1.6.0: compute_rdp and get_privacy_spent of opacus.accountants.analysis.rdp, orders 1.1, 1.2, ..., 10.9, 12,
..., 63, of (sample rate, noise multiplier, steps, delta) as in CASES."""

OPACUS_PRV = [None, (5.187303594, 5.197864186), (3.354457457, 3.364863244), (1.107083710, 1.117373295)]
"""Lower and upper bounds of opacus.accountants.PRVAccountant, eps_error 0.005, delta_error delta/1000."""


@pytest.mark.parametrize(("case", "theirs"), list(zip(CASES, OPACUS_RDP, strict=True)))
def test_renyi_divergences_as_opacus_has_them(case: tuple[float, float, int, float], theirs: float) -> None:
    q, noise, steps, delta = case
    assert spent_epsilon([Spending("patient", noise, q, steps)], delta, "rdp") == pytest.approx(theirs, rel=2e-5)


@pytest.mark.parametrize(("case", "bounds"), list(zip(CASES, OPACUS_PRV, strict=True)))
def test_privacy_loss_distributions_within_the_bounds_of_opacus(
    case: tuple[float, float, int, float], bounds: tuple[float, float] | None
) -> None:
    q, noise, steps, delta = case
    found = spent_epsilon([Spending("patient", noise, q, steps)], delta, "pld")
    if bounds is None:  # everybody in every step: Balle & Wang 2018, theorem 8, in closed form
        mu = math.sqrt(steps) / noise
        exact = brentq(lambda e: norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu) - delta, 0.01, 50)
        bounds = exact - 1e-4, exact + 2e-2
    assert bounds[0] <= found <= bounds[1]


def test_as_dp_accounting_called_directly() -> None:
    spent = [Spending("patient", 3.0, 1.0, 2), Spending("patient", 2.0, 0.2, 60), Spending("patient", 2.0, 0.2, 3)]
    event = dp_accounting.ComposedDpEvent(
        [
            dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(3.0), 2),
            dp_accounting.SelfComposedDpEvent(
                dp_accounting.PoissonSampledDpEvent(0.2, dp_accounting.GaussianDpEvent(2.0)), 63
            ),
        ]
    )
    for accountant, theirs in (
        ("rdp", rdp.RdpAccountant()),
        ("pld", pld.PLDAccountant(value_discretization_interval=1e-3)),
    ):
        direct = theirs.compose(event).get_epsilon(1e-5)
        assert spent_epsilon(spent, 1e-5, accountant) == pytest.approx(direct, rel=1e-3)  # type: ignore[arg-type]


def test_a_patient_of_a_protected_center_is_protected_by_half_the_noise() -> None:
    center = [Spending("center", 4.0, 1.0, 3)]
    halved = spent_epsilon([Spending("patient", 2.0, 1.0, 3)], 1e-5)
    assert spent_epsilon(center, 1e-5, unit="patient") == halved
    assert spent_epsilon(center, 1e-5, unit="center") < halved
    assert spent_epsilon([*center, Spending("patient", 9.0)], 1e-5, unit="center") == math.inf


@pytest.mark.parametrize(("accountant", "epsilon"), [("pld", 8.0), ("rdp", 1.0)])
def test_noise_is_the_least_that_keeps_to_epsilon(accountant: str, epsilon: float) -> None:
    shape = (Spending("patient", 1.0, 0.5 if accountant == "pld" else 1.0, 30), Spending("patient", 2.0))
    factor = noise_for(epsilon, 1e-5, shape, accountant)  # type: ignore[arg-type]

    def cost(f: float) -> float:
        spent = [Spending(s.unit, f * s.noise, s.sampling, s.count) for s in shape]
        return spent_epsilon(spent, 1e-5, accountant)  # type: ignore[arg-type]

    assert cost(factor) <= epsilon < cost(factor / 1.01)


def test_nothing_asked_costs_nothing() -> None:
    assert spent_epsilon([], 1e-5) == 0.0


@pytest.mark.parametrize("wrong", [{"noise": 0.0}, {"sampling": 0.0}, {"sampling": 1.5}, {"count": 0}])
def test_what_is_no_answer_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Spending(**{"unit": "patient", "noise": 1.0} | wrong)  # type: ignore[arg-type]
