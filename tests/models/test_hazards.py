"""Discrete-time and piecewise-constant hazards: against statsmodels' regressions, finite differences and quadrature."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sksurv.util import Surv

from models.flat import get_weights
from models.survival.estimators import LinearCox
from models.survival.hazard_estimators import DeepDiscreteHazard, DeepPiecewiseHazard, DiscreteHazard, PiecewiseHazard
from models.survival.intervals import IntervalNetwork
from models.survival.network import build_network, network_class
from models.survival.time_scale import TimeScale
from models.training import TrainingData, mean_loss, predict, predict_survival

Floats = NDArray[np.float64]
LINEAR: dict[str, Any] = {"discrete_hazard": DiscreteHazard, "piecewise_hazard": PiecewiseHazard}
NAMES = tuple(LINEAR)


class Table(NamedTuple):
    x: Floats
    time: Floats
    event: NDArray[np.bool_]
    y: Any


def table(n: int = 400, seed: int = 0) -> Table:
    """Features on different scales, ties, a few patients at time 0."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(60, 12, n), rng.random(n) < 0.3, rng.normal(size=n)]).astype(float)
    death = rng.weibull(0.8, n) * 5 * np.exp(-0.03 * (x[:, 0] - 60) - 0.8 * x[:, 1])
    censoring = rng.uniform(0, 12, n)
    event, time = death <= censoring, np.round(np.minimum(death, censoring), 1)
    return Table(x, time, event, Surv.from_arrays(event, time))


def person_periods(t: Table, cuts: Floats, kind: str) -> tuple[Floats, Floats, Floats, Floats]:
    """Patient, interval, event and time at risk of each patient's intervals at risk, row by row from the definition."""
    rows = []
    for i, (time, event) in enumerate(zip(t.time, t.event, strict=True)):
        start = 0.0
        for k, end in enumerate(cuts):
            here = bool(event and (start < time <= end or (k == 0 and time == 0)))
            if kind == "piecewise_hazard":
                if time > start:
                    rows.append((i, k, here, min(time, end) - start))
                elif here:
                    rows.append((i, k, here, 0.0))
            elif (event and (time > start or here)) or (not event and time >= (start + end) / 2):
                rows.append((i, k, here, 1.0))
            start = end
    patient, interval, event, exposure = np.array(rows, dtype=float).T
    return patient.astype(int), interval.astype(int), event, exposure


def regression(t: Table, cuts: Floats, kind: str, time_varying: bool) -> tuple[Floats, Floats]:
    """Coefficients and levels by statsmodels' generalized linear model."""
    patient, interval, event, exposure = person_periods(t, cuts, kind)
    levels = (interval[:, None] == np.arange(len(cuts))).astype(float)
    x = t.x[patient]
    design = np.column_stack([x] if not time_varying else [x * levels[:, [k]] for k in range(len(cuts))])
    design = np.column_stack([design, levels])
    if kind == "discrete_hazard":
        model = sm.GLM(event, design, family=sm.families.Binomial())
    else:
        some = exposure > 0  # an event at time 0 adds o·1 to the likelihood, which no offset log 0 can
        assert not event[~some].any()
        model = sm.GLM(event[some], design[some], family=sm.families.Poisson(), offset=np.log(exposure[some]))
    found = model.fit(tol=1e-12, maxiter=100).params
    return found[: -len(cuts)], found[-len(cuts) :]


@pytest.mark.parametrize("time_varying", [False, True])
@pytest.mark.parametrize(("kind", "model"), list(LINEAR.items()))
def test_equals_the_regression_on_person_periods(kind: str, model: Any, time_varying: bool) -> None:
    t = table()
    t = Table(t.x, np.where(t.event, np.maximum(t.time, 0.1), t.time), t.event, t.y)  # no event at time 0
    fitted = model(intervals=5, time_varying=time_varying).fit(t.x, Surv.from_arrays(t.event, t.time))
    coefficients, levels = regression(t, fitted.cuts_, kind, time_varying)
    np.testing.assert_allclose(fitted.coef_.ravel(), coefficients, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fitted.intercept_, levels, rtol=1e-5, atol=1e-5)


def test_with_many_intervals_piecewise_hazards_approach_the_cox_model() -> None:
    t = table(600)
    cox = LinearCox().fit(t.x, t.y).coef_
    errors = [np.abs(PiecewiseHazard(intervals=k).fit(t.x, t.y).coef_ - cox).max() for k in (1, 50)]
    assert errors[1] < 0.01
    assert errors[1] < 0.3 * errors[0]


# Likelihood and predictions --------------------------------------------------------------------------


def network(name: str, **changes: Any) -> IntervalNetwork:
    parameters = {"hidden": [4], "activation": "tanh", "cuts": [0.5, 1.0, 3.0, 6.0], **changes}
    built = build_network(name, 3, parameters)
    built.initialize(np.random.default_rng(0))
    with torch.no_grad():
        for p in built.parameters():
            p += torch.as_tensor(np.random.default_rng(1).normal(0, 0.4, tuple(p.shape)))
    assert isinstance(built, IntervalNetwork)
    return built.double()


@pytest.mark.parametrize("time_varying", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_those_of_finite_differences(name: str, time_varying: bool) -> None:
    t, net = table(40), network(name, time_varying=time_varying)
    x = (t.x - t.x.mean(0)) / t.x.std(0)
    net.zero_grad()
    net.loss(net(torch.as_tensor(x)), net.prepare(t.time, t.event)).backward()  # type: ignore[no-untyped-call]
    slopes = torch.cat([p.grad.reshape(-1) for p in net.parameters() if p.grad is not None]).numpy()
    weights = torch.cat([p.detach().reshape(-1) for p in net.parameters()]).numpy()
    data, h = TrainingData(x, t.time, t.event), 1e-6
    for j in range(len(weights)):
        up, down = weights.copy(), weights.copy()
        up[j], down[j] = weights[j] + h, weights[j] - h
        difference = (mean_loss(net, up, data) - mean_loss(net, down, data)) / (2 * h)
        assert slopes[j] == pytest.approx(difference, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_the_likelihood_is_that_of_the_predicted_survival(name: str) -> None:
    # Of an event the density (piecewise) or the probability of the interval (discrete); of a censored patient survival.
    net, cuts = network(name), np.array([0.5, 1.0, 3.0, 6.0])
    x = np.random.default_rng(3).normal(size=(30, 3))
    weights = torch.cat([p.detach().reshape(-1) for p in net.parameters()]).numpy()
    time = np.random.default_rng(4).choice(cuts, 30)  # observed to the end of an interval
    event = np.arange(30) % 2 == 0
    at = predict_survival(net, weights, x, time)[np.arange(30), np.arange(30)]
    starts = np.concatenate([[0.0], cuts])[np.searchsorted(cuts, time)]
    before = predict_survival(net, weights, x, starts)[np.arange(30), np.arange(30)]
    if name == "discrete_hazard":
        likelihood = np.where(event, before - at, at)
    else:
        later = predict_survival(net, weights, x, time - 1e-6)[np.arange(30), np.arange(30)]
        likelihood = np.where(event, (later - at) / 1e-6, at)
    expected = -np.log(likelihood).mean()
    assert mean_loss(net, weights, TrainingData(x, time, event)) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_survival_falls_from_one_and_risk_is_its_area(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    steps = data.draw(st.lists(st.floats(0.01, 5), min_size=1, max_size=6))
    horizon = data.draw(st.floats(0.05, 40))
    net = network(name, cuts=np.cumsum(steps).tolist(), horizon=horizon)
    numbers = data.draw(st.lists(st.floats(-12, 4), min_size=len(steps), max_size=len(steps)))
    output = torch.tensor([numbers], dtype=torch.float64)
    times = np.sort(data.draw(st.lists(st.floats(0, 50), min_size=2, max_size=8)))
    curve = net.survival(output, torch.as_tensor(times)).numpy()[0]
    assert ((curve >= 0) & (curve <= 1)).all()
    assert (np.diff(curve) <= 0).all()
    assert net.survival(output, torch.zeros(1)).item() == 1.0

    knots = [0.0, *(c for c in np.cumsum(steps) if c < horizon), horizon]
    dense = np.linspace(0, 1, 65)[:-1] ** 4  # where a hazard begins, survival may fall within a thousandth of a piece
    pieces = np.concatenate([a + (b - a) * dense for a, b in itertools.pairwise(knots)])
    lengths = np.diff([*pieces, horizon])
    nodes, weights = np.polynomial.legendre.leggauss(8)
    at = torch.as_tensor((pieces[:, None] + lengths[:, None] * (nodes + 1) / 2).ravel())
    area = net.survival(output, at).numpy()[0].reshape(len(pieces), -1) @ weights @ lengths / 2
    assert -net.risk(output).item() == pytest.approx(area, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_at_the_cuts_survival_is_the_product_of_what_intervals_leave(name: str) -> None:
    net = network(name)
    output = torch.tensor([[-1.0, 0.5, -2.0, 0.0]], dtype=torch.float64)
    lengths = np.diff([0.0, *net.cuts])
    odds = output.numpy()[0]
    left = 1 / (1 + np.exp(odds)) if name == "discrete_hazard" else np.exp(-np.exp(odds) * lengths)
    curve = net.survival(output, torch.as_tensor(net.cuts)).numpy()[0]
    np.testing.assert_allclose(curve, np.cumprod(left), rtol=1e-12)
    middle = net.survival(output, torch.tensor([2.0], dtype=torch.float64)).item()  # halfway from 1 to 3
    assert middle == pytest.approx(np.sqrt(curve[1] * curve[2]))
    beyond = net.survival(output, torch.tensor([9.0], dtype=torch.float64)).item()  # the last hazard goes on
    assert beyond == pytest.approx(curve[-1] * left[-1])


# Declarations ----------------------------------------------------------------------------------------


def test_cuts_are_quantiles_of_the_event_times() -> None:
    rng = np.random.default_rng(0)
    time = rng.exponential(3, 5000)
    edges = 20 * np.arange(1, 2001) / 2000
    events = np.bincount(np.searchsorted(edges, time[time <= 20]), minlength=2000).astype(float)
    times = TimeScale(5.0, edges, events, 5000)
    expected = [*np.quantile(time[time <= 20], [0.2, 0.4, 0.6, 0.8]), 20.0]
    np.testing.assert_allclose(times.cuts(5), expected, atol=0.02)
    assert times.scale == pytest.approx(time[time <= 20].mean(), abs=0.01)
    np.testing.assert_allclose(times.probabilities(np.array([1.0, 20.0]))[0], (time <= 1).mean(), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_levels_start_at_the_marginal_hazard(name: str) -> None:
    t = table(2000)
    edges = np.arange(1, 1201) / 100
    events = np.bincount(np.searchsorted(edges, t.time[t.event] - 1e-9), minlength=1200).astype(float)
    times = TimeScale(6.0, edges, events, len(t.time))
    declared = network_class(name).declare({}, (), times)
    assert declared["horizon"] == 6.0
    net = build_network(name, 3, declared)
    net.initialize(np.random.default_rng(0))
    data = TrainingData(np.zeros((2000, 3)), t.time, t.event)
    start = mean_loss(net, get_weights(net), data)
    best = LINEAR[name]().fit(np.zeros((2000, 3)), t.y)
    assert start < mean_loss(best.network_, best.weights_, data) + 0.15
    kept = {"cuts": [1.0, 2.0], "levels": [0.0, 0.5], "horizon": 3.0}
    assert type(net).declare(kept, (), times) == kept


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"intervals": 0}, "intervals is 0"),
        ({"cuts": [1.0, 1.0]}, r"cuts are \[1.0, 1.0\]; they are above 0 and increase"),
        ({"cuts": [0.0, 1.0]}, "above 0"),
        ({"cuts": [1.0], "levels": [0.0, 1.0]}, "there are 2 levels for 1 intervals"),
        ({"horizon": 0.0}, "horizon is 0.0"),
        ({"hidden": 3}, "hidden is 3"),
        ({"widths": [3]}, "widths"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_wrong_declarations_are_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(name, 3, parameters)


def test_without_cuts_nothing_is_fitted() -> None:
    with pytest.raises(ValueError, match="no ends yet"):
        build_network("discrete_hazard", 3).prepare(np.ones(3), np.ones(3, dtype=bool))


# Estimators ------------------------------------------------------------------------------------------

ESTIMATORS = (
    DiscreteHazard(alpha=1.0),
    PiecewiseHazard(alpha=1.0),
    DeepDiscreteHazard(hidden=(8,), epochs=60, learning_rate=0.02),
    DeepPiecewiseHazard(hidden=(8,), epochs=60, learning_rate=0.02, time_varying=True),
)


@pytest.mark.parametrize("model", ESTIMATORS, ids=lambda m: type(m).__name__)
def test_estimators(model: Any) -> None:
    t = table()
    x = (t.x - t.x.mean(0)) / t.x.std(0)
    fitted = clone(model).fit(x, t.y)
    assert fitted.score(x, t.y) > LinearCox().fit(x, t.y).score(x, t.y) - 0.02
    curves = fitted.predict_survival_function(x[:5], return_array=True)
    assert curves.shape == (5, len(fitted.unique_times_))
    assert [f(t.time[7]) for f in fitted.predict_survival_function(x[:5])] == pytest.approx(
        curves[:, np.searchsorted(fitted.unique_times_, t.time[7])]
    )
    hazards = fitted.predict_cumulative_hazard_function(x[:5], return_array=True)
    np.testing.assert_allclose(np.exp(-hazards), curves)
    np.testing.assert_array_equal(clone(fitted).fit(x, t.y).predict(x), fitted.predict(x))
    with pytest.raises(NotFittedError):
        clone(model).predict(x)
    with pytest.raises(ValueError, match="all samples are censored"):
        clone(model).fit(x, Surv.from_arrays(np.zeros(len(x), dtype=bool), t.time))
    with pytest.raises(ValueError, match="NaN"):
        clone(model).fit(np.where(x > 2, np.nan, x), t.y)
    with pytest.raises(ValueError, match="expecting 3 features"):
        fitted.predict(x[:, :2])


def test_without_features_survival_is_kaplan_meiers() -> None:
    t = table(500)
    at_cuts = DiscreteHazard(intervals=4).fit(np.zeros((500, 1)), t.y)
    patients, intervals, event, _ = person_periods(t, at_cuts.cuts_, "discrete_hazard")
    left = [1 - event[intervals == k].mean() for k in range(len(at_cuts.cuts_))]
    curve = predict_survival(at_cuts.network_, at_cuts.weights_, np.zeros((1, 1)), at_cuts.cuts_)[0]
    np.testing.assert_allclose(curve, np.cumprod(left), atol=1e-6)
    risk = predict(at_cuts.network_, at_cuts.weights_, np.zeros((1, 1)))
    assert -t.time.max() < risk[0] < 0
    assert len(patients) > 500
