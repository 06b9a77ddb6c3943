"""The partial likelihood against the published formulas, three other packages, and finite differences."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter
from numpy.typing import NDArray
from sksurv.linear_model.coxph import CoxPHOptimizer

from models.survival.likelihood import RiskSets, Ties, log_partial_likelihood

EXACT = {"precision": 1e-12, "r_precision": 1e-14}  # of lifelines, which else stops earlier
TIES: tuple[Ties, ...] = ("breslow", "efron")


def value_and_gradient(
    eta: Any, time: Any, event: Any, strata: Any = None, ties: Ties = "efron"
) -> tuple[float, NDArray[np.float64]]:
    log_hazard = torch.tensor(np.asarray(eta, dtype=np.float64), requires_grad=True)
    value = log_partial_likelihood(log_hazard, RiskSets.of(time, event, strata, ties))
    value.backward()  # type: ignore[no-untyped-call]
    assert log_hazard.grad is not None
    return value.item(), log_hazard.grad.numpy()


def by_hand(eta: Any, time: Any, event: Any, strata: Any = None, ties: Ties = "efron") -> float:
    """Breslow's and Efron's formulas, one stratum, one event time and one event after the other."""
    eta, time, event = np.asarray(eta, dtype=np.float64), np.asarray(time), np.asarray(event, dtype=bool)
    strata = np.zeros(len(time)) if strata is None else np.asarray(strata)
    value = 0.0
    for stratum in np.unique(strata):
        here = strata == stratum
        for moment in np.unique(time[here & event]):
            dying = here & event & (time == moment)
            at_risk = np.exp(eta[here & (time >= moment)]).sum()
            dead = np.exp(eta[dying]).sum()
            for rank in range(dying.sum()):
                spared = rank / dying.sum() * dead if ties == "efron" else 0.0
                value -= np.log(at_risk - spared)
            value += eta[dying].sum()
    return value


def patients(seed: int, n: int = 60, centers: int = 4) -> dict[str, NDArray[Any]]:
    """Times with ties, among them ties of events with censored patients; centers of very different size."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    time = np.ceil(rng.exponential(4 * np.exp(-x[:, 0])) * 3) / 3
    return {
        "x": x,
        "time": time,
        "event": rng.random(n) < 0.6,
        # The last patient is alone.
        "center": np.append(rng.choice(centers, n - 1, p=np.arange(1, centers + 1) / 10), centers),
        "beta": rng.normal(size=3),
    }


@st.composite
def tied_patients(draw: st.DrawFn) -> tuple[Any, ...]:
    n = draw(st.integers(1, 12))

    def column(values: st.SearchStrategy[Any]) -> NDArray[Any]:
        return np.array(draw(st.lists(values, min_size=n, max_size=n)))

    return (
        column(st.floats(-5, 5)),
        column(st.integers(0, 4)).astype(float),
        column(st.booleans()),
        column(st.sampled_from(["north", "south", "x"])),
    )


# Against formulas and other packages -----------------------------------------------------------------


@pytest.mark.parametrize("ties", TIES)
@settings(deadline=None, max_examples=80)
@given(drawn=tied_patients())
def test_equals_the_formula(ties: Ties, drawn: tuple[Any, ...]) -> None:
    eta, time, event, strata = drawn
    value, _ = value_and_gradient(eta, time, event, strata, ties)
    assert value == pytest.approx(by_hand(eta, time, event, strata, ties), abs=1e-9)
    value, _ = value_and_gradient(eta, time, event, None, ties)
    assert value == pytest.approx(by_hand(eta, time, event, None, ties), abs=1e-9)


def test_is_the_probability_of_the_order_of_deaths() -> None:
    # Cox (1972): without ties and censoring, the partial likelihoods of all n! orders add up to one.
    eta = np.array([0.3, -1.2, 2.0, 0.0, 0.7])
    orders = [np.array(order, dtype=float) for order in permutations(range(5))]
    for ties in TIES:
        total = sum(np.exp(value_and_gradient(eta, order, np.ones(5), ties=ties)[0]) for order in orders)
        assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_survival(seed: int, ties: Ties) -> None:
    p = patients(seed)
    theirs = CoxPHOptimizer(p["x"], p["event"], p["time"], np.zeros(3), ties).nlog_likelihood(p["beta"])
    value, _ = value_and_gradient(p["x"] @ p["beta"], p["time"], p["event"], ties=ties)
    assert value == pytest.approx(-60 * theirs, abs=1e-9)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("seed", range(3))
def test_equals_statsmodels_with_and_without_strata(seed: int, ties: Ties) -> None:
    statsmodels = pytest.importorskip("statsmodels.duration.hazard_regression")
    p = patients(seed)
    for strata in (None, p["center"]):
        theirs = statsmodels.PHReg(p["time"], p["x"], status=p["event"].astype(float), strata=strata, ties=ties)
        value, gradient = value_and_gradient(p["x"] @ p["beta"], p["time"], p["event"], strata, ties)
        assert value == pytest.approx(theirs.loglike(p["beta"]), abs=1e-9)
        np.testing.assert_allclose(p["x"].T @ gradient, theirs.score(p["beta"]), atol=1e-8)


@pytest.mark.parametrize("stratified", [False, True])
def test_equals_lifelines_at_its_optimum(stratified: bool) -> None:
    p = patients(7)
    frame = pd.DataFrame(p["x"], columns=["a", "b", "c"]).assign(time=p["time"], event=p["event"], center=p["center"])
    frame = frame if stratified else frame.drop(columns="center")
    fitted = CoxPHFitter().fit(frame, "time", "event", strata=["center"] if stratified else None, fit_options=EXACT)
    eta = p["x"] @ fitted.params_.to_numpy()
    value, gradient = value_and_gradient(eta, p["time"], p["event"], p["center"] if stratified else None)
    assert value == pytest.approx(fitted.log_likelihood_, abs=1e-9)
    np.testing.assert_allclose(p["x"].T @ gradient, 0, atol=1e-6)


# The gradient ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("stratified", [False, True])
def test_gradient_equals_finite_differences(ties: Ties, stratified: bool) -> None:
    p = patients(1, n=25)
    target = RiskSets.of(p["time"], p["event"], p["center"] if stratified else None, ties)
    eta = torch.tensor(p["x"][:, 0], requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: log_partial_likelihood(e, target), eta, atol=1e-7)


def test_gradient_goes_through_what_comes_before_and_after() -> None:
    p = patients(2, n=25)
    target = RiskSets.of(p["time"], p["event"])
    x, beta = torch.tensor(p["x"]), torch.tensor(p["beta"], requires_grad=True)
    assert torch.autograd.gradcheck(lambda b: -3 * log_partial_likelihood(torch.tanh(x @ b), target), beta, atol=1e-6)


@pytest.mark.parametrize("ties", TIES)
@settings(deadline=None, max_examples=60)
@given(drawn=tied_patients(), shift=st.floats(-50, 50), seed=st.integers(0, 99))
def test_properties(ties: Ties, drawn: tuple[Any, ...], shift: float, seed: int) -> None:
    eta, time, event, strata = drawn
    value, gradient = value_and_gradient(eta, time, event, strata, ties)
    north = strata == "north"
    # Only hazard ratios within a stratum count: moving a stratum's log hazards changes nothing,
    moved, _ = value_and_gradient(eta + shift * north, time, event, strata, ties)
    assert moved == pytest.approx(value, abs=1e-7)
    # so each stratum's gradient adds up to zero.
    for stratum in np.unique(strata):
        assert gradient[strata == stratum].sum() == pytest.approx(0, abs=1e-9)
    # The order of the patients does not count,
    order = np.random.default_rng(seed).permutation(len(eta))
    again, slope = value_and_gradient(eta[order], time[order], event[order], strata[order], ties)
    assert again == pytest.approx(value, abs=1e-9)
    np.testing.assert_allclose(slope, gradient[order], atol=1e-9)
    # nor does the unit of time.
    assert value_and_gradient(eta, time * 365.25, event, strata, ties)[0] == pytest.approx(value, abs=1e-9)
    assert value <= 1e-9


# Strata ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", TIES)
def test_sum_over_centers_is_the_stratified_likelihood_and_not_the_pooled_one(ties: Ties) -> None:
    p = patients(3)
    eta = p["x"] @ p["beta"]
    alone, slope = 0.0, np.zeros(60)
    for center in np.unique(p["center"]):
        here = p["center"] == center
        value, slope[here] = value_and_gradient(eta[here], p["time"][here], p["event"][here], ties=ties)
        alone += value
    stratified, gradient = value_and_gradient(eta, p["time"], p["event"], p["center"], ties)
    pooled, _ = value_and_gradient(eta, p["time"], p["event"], ties=ties)
    assert alone == pytest.approx(stratified, abs=1e-9)
    np.testing.assert_allclose(slope, gradient, atol=1e-12)
    assert abs(alone - pooled) > 1


def test_a_patient_alone_in_a_stratum_says_nothing() -> None:
    p = patients(4)
    eta = p["x"] @ p["beta"]
    p["event"][-1] = True
    value, gradient = value_and_gradient(eta, p["time"], p["event"], p["center"])
    without, _ = value_and_gradient(eta[:-1], p["time"][:-1], p["event"][:-1], p["center"][:-1])
    assert value == pytest.approx(without, abs=1e-12)
    assert gradient[-1] == 0


def test_ties_within_a_stratum_only() -> None:
    # The same time in two hospitals is no tie: Efron and Breslow agree.
    eta, time = np.array([0.2, -0.4, 1.0, 0.1]), np.array([1.0, 1.0, 2.0, 2.0])
    values = [value_and_gradient(eta, time, np.ones(4), [0, 1, 0, 1], ties)[0] for ties in TIES]
    assert values[0] == values[1]
    values = [value_and_gradient(eta, time, np.ones(4), [0, 0, 1, 1], ties)[0] for ties in TIES]
    assert values[0] < values[1] - 0.1


# The edges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", TIES)
def test_extreme_log_hazards_neither_overflow_nor_vanish(ties: Ties) -> None:
    time, event = np.array([1.0, 2.0, 2.0, 3.0, 4.0]), np.array([1, 1, 1, 0, 1])
    for eta in ([1e4] * 5, [-1e4] * 5, [1e4, 0, 0, 0, -1e4], [-1e4, 0, 0, 0, 1e4], [0, 0, 0, -800, -1600]):
        value, gradient = value_and_gradient(eta, time, event, ties=ties)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert abs(gradient.sum()) < 1e-9
    equal, _ = value_and_gradient([1e4] * 5, time, event, ties=ties)
    assert equal == pytest.approx(value_and_gradient([0.0] * 5, time, event, ties=ties)[0], abs=1e-9)
    # The last in order of time has the highest hazard: each of the others dies against all odds.
    unlikely, _ = value_and_gradient([-100, 0, 0, 0, 100], time, event, ties=ties)
    assert unlikely == pytest.approx(-200 - 2 * 100, rel=1e-9)


@pytest.mark.parametrize("ties", TIES)
def test_small_hazards_keep_their_digits_beside_large_ones(ties: Ties) -> None:
    eta, time, event = np.array([500.0, 250, 0.5, -0.5, 0.1]), np.arange(5.0), np.ones(5)
    value, gradient = value_and_gradient(eta, time, event, ties=ties)
    tail, slope = value_and_gradient(eta[2:], time[2:], event[2:], ties=ties)
    assert value == pytest.approx(tail, rel=1e-12)
    np.testing.assert_allclose(gradient[2:], slope, rtol=1e-12)


def test_an_extreme_patient_of_one_stratum_does_not_touch_another() -> None:
    # The first patient dies first, against whom nobody counts; the smaller stratum is filled up in the layout.
    eta, time, event = np.array([1000.0, 0.0, -1.0, 2.0, 0.5]), np.arange(1.0, 6.0), np.ones(5)
    for strata in ([1, 1, 1, 0, 0], [0, 0, 0, 1, 1]):
        value, gradient = value_and_gradient(eta, time, event, strata)
        expected, slope = value_and_gradient(eta[3:], time[3:], event[3:])
        assert value == pytest.approx(expected - np.log(2), abs=1e-9)  # the second and the third are 600 below
        np.testing.assert_allclose(gradient[3:], slope, atol=1e-12)


def test_nan_in_is_nan_out() -> None:
    # A diverged model must not look like a trained one.
    for bad in (np.nan, np.inf):
        assert np.isnan(value_and_gradient([0.0, bad, 1.0], [1.0, 2.0, 3.0], [1, 1, 1])[0])


@pytest.mark.parametrize("ties", TIES)
def test_without_events_there_is_nothing_to_learn(ties: Ties) -> None:
    value, gradient = value_and_gradient([1.0, -2.0, 0.5], [1.0, 1.0, 2.0], [0, 0, 0], ties=ties)
    assert value == 0
    assert not gradient.any()


def test_everybody_at_once() -> None:
    # One time, all events: Breslow has n equal denominators, Efron n, n-1, ..., 1.
    assert value_and_gradient(np.zeros(4), np.ones(4), np.ones(4), ties="breslow")[0] == pytest.approx(-4 * np.log(4))
    assert value_and_gradient(np.zeros(4), np.ones(4), np.ones(4), ties="efron")[0] == pytest.approx(-np.log(24))


def test_censored_at_the_time_of_an_event_are_at_risk() -> None:
    value, _ = value_and_gradient([0.0, 0.0], [1.0, 1.0], [1, 0])
    assert value == pytest.approx(-np.log(2))


@pytest.mark.parametrize("ties", TIES)
def test_float32_in_is_float32_out_with_float64_inside(ties: Ties) -> None:
    p = patients(5)
    eta = torch.tensor(p["x"] @ p["beta"], dtype=torch.float32, requires_grad=True)
    value = log_partial_likelihood(eta, RiskSets.of(p["time"], p["event"], ties=ties))
    value.backward()  # type: ignore[no-untyped-call]
    exact, gradient = value_and_gradient(eta.detach().double(), p["time"], p["event"], ties=ties)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact, rel=1e-7)
    assert eta.grad is not None
    np.testing.assert_allclose(eta.grad.numpy(), gradient, rtol=1e-6, atol=1e-9)


def test_unknown_ties_are_refused() -> None:
    with pytest.raises(ValueError, match="ties is 'exact'; use one of breslow, efron"):
        RiskSets.of([1.0], [True], ties="exact")  # type: ignore[arg-type]


def test_layout_is_one_row_per_stratum_latest_first() -> None:
    sets = RiskSets.of([3.0, 1.0, 2.0, 5.0], [1, 1, 0, 1], ["b", "a", "b", "b"])
    assert sets.valid.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert sets.order[1].tolist() == [3, 0, 2]
    assert all(a >= b for a, b in pairwise(np.array([3.0, 1.0, 2.0, 5.0])[sets.order[1]]))
