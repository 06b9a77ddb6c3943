"""Linear Cox and DeepSurv as estimators: against scikit-survival, lifelines, statsmodels, and in sklearn's tools."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sksurv.datasets import load_whas500
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import as_concordance_index_ipcw_scorer, integrated_brier_score
from sksurv.util import Surv

from models.survival.estimators import DeepSurv, LinearCox
from models.survival.likelihood import Ties

TIES: tuple[Ties, ...] = ("breslow", "efron")


class Table(NamedTuple):
    x: NDArray[np.float64]
    time: NDArray[np.float64]
    event: NDArray[np.bool_]
    y: Any
    hospital: NDArray[np.int64]


@cache
def whas() -> Table:
    """500 patients after a heart attack, on their own scales (age in years, blood pressure in mm Hg), with ties."""
    x, y = load_whas500()
    names = ["age", "bmi", "hr", "sysbp", "gender", "chf", "miord"]
    time = np.ceil(y["lenfol"] / 30.0)  # months
    hospital = np.random.default_rng(0).choice(6, len(x), p=[0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    return Table(x[names].astype(float).to_numpy(), time, y["fstat"], Surv.from_arrays(y["fstat"], time), hospital)


@cache
def nonlinear(n: int = 400) -> Table:
    """The risk is high at both ends of one feature and where two others have the same sign: no line shows it."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 4))
    log_hazard = 1.5 * (x[:, 0] ** 2 - 1) + 1.5 * x[:, 1] * x[:, 2]
    death, censoring = rng.exponential(np.exp(-log_hazard)), rng.exponential(3, n)
    event, time = death <= censoring, np.minimum(death, censoring)
    return Table(x, time, event, Surv.from_arrays(event, time), np.zeros(n, dtype=int))


def lifelines_coefficients(t: Table, stratified: bool) -> NDArray[np.float64]:
    frame = pd.DataFrame(t.x).assign(time=t.time, event=t.event, hospital=t.hospital)
    frame = frame if stratified else frame.drop(columns="hospital")
    fitted = CoxPHFitter().fit(
        frame, "time", "event", strata=["hospital"] if stratified else None, fit_options={"precision": 1e-12}
    )
    return np.asarray(fitted.params_)


# Coefficients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 3.0, 100.0])
@pytest.mark.parametrize("ties", TIES)
def test_coefficients_equal_scikit_survival(ties: Ties, alpha: float) -> None:
    t = whas()
    theirs = CoxPHSurvivalAnalysis(alpha=alpha, ties=ties, tol=1e-12).fit(t.x, t.y)
    np.testing.assert_allclose(LinearCox(alpha=alpha, ties=ties).fit(t.x, t.y).coef_, theirs.coef_, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1e-4, 1e3, 1e6])
def test_features_on_very_different_scales_converge_too(scale: float, alpha: float) -> None:
    t = whas()
    factor = np.where(np.arange(t.x.shape[1]) % 2, scale, 1.0)
    ours = LinearCox(alpha=alpha, ties="breslow").fit(t.x * factor, t.y).coef_ * factor
    # What scikit-survival's Newton steps, near singular here, would find: the same model with a ridge per feature.
    alphas = alpha / factor**2
    theirs = CoxPHSurvivalAnalysis(alpha=alphas, tol=1e-12).fit(t.x, t.y).coef_
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_no_convergence_is_said() -> None:
    t = whas()
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        LinearCox(max_iter=2).fit(t.x, t.y)


def test_ridge_shrinks_and_ties_matter() -> None:
    t = whas()
    free = LinearCox().fit(t.x, t.y).coef_
    assert np.abs(LinearCox(alpha=100.0).fit(t.x, t.y).coef_).sum() < np.abs(free).sum() - 0.1
    assert np.abs(LinearCox(ties="breslow").fit(t.x, t.y).coef_ - free).max() > 1e-4


@pytest.mark.parametrize("stratified", [False, True])
def test_coefficients_equal_lifelines(stratified: bool) -> None:
    t = whas()
    ours = LinearCox().fit(t.x, t.y, strata=t.hospital if stratified else None).coef_
    np.testing.assert_allclose(ours, lifelines_coefficients(t, stratified), atol=1e-5)


@pytest.mark.parametrize("ties", TIES)
def test_stratified_coefficients_equal_statsmodels(ties: Ties) -> None:
    statsmodels = pytest.importorskip("statsmodels.duration.hazard_regression")
    t = whas()
    theirs = statsmodels.PHReg(t.time, t.x, status=t.event.astype(float), strata=t.hospital, ties=ties).fit()
    ours = LinearCox(ties=ties).fit(t.x, t.y, strata=t.hospital).coef_
    np.testing.assert_allclose(ours, theirs.params, atol=1e-5)
    assert np.abs(ours - LinearCox(ties=ties).fit(t.x, t.y).coef_).max() > 1e-3


# Survival functions ----------------------------------------------------------------------------------


def test_survival_and_hazard_functions_equal_scikit_survival() -> None:
    t = whas()
    ours = LinearCox(ties="breslow").fit(t.x, t.y)
    theirs = CoxPHSurvivalAnalysis(ties="breslow", tol=1e-12).fit(t.x, t.y)
    np.testing.assert_array_equal(ours.unique_times_, theirs.unique_times_)
    for method in ("predict_survival_function", "predict_cumulative_hazard_function"):
        arrays = getattr(ours, method)(t.x[:20], return_array=True)
        np.testing.assert_allclose(arrays, getattr(theirs, method)(t.x[:20], return_array=True), atol=1e-6)
        for function, row, other in zip(
            getattr(ours, method)(t.x[:20]), arrays, getattr(theirs, method)(t.x[:20]), strict=True
        ):
            np.testing.assert_allclose(function(ours.unique_times_), row)
            assert function(33.3) == pytest.approx(other(33.3), abs=1e-6)
    at = [0.0, 33.3, 1e6]
    steps = [[1.0, f(33.3), f.y[-1]] for f in theirs.predict_survival_function(t.x[:20])]
    np.testing.assert_allclose(ours.predict_survival(t.x[:20], at), steps, atol=1e-6)


@pytest.mark.parametrize("model", [LinearCox(), DeepSurv(hidden=(4,), epochs=20)])
def test_survival_functions_fall_from_one_and_follow_the_risk(model: Any) -> None:
    t = whas()
    x = StandardScaler().fit_transform(t.x)
    model = clone(model).fit(x, t.y)
    survival = model.predict_survival_function(x, return_array=True)
    assert survival.shape == (500, len(model.unique_times_))
    assert (survival <= 1).all()
    assert (survival >= 0).all()
    assert (np.diff(survival, axis=1) <= 0).all()
    order = np.argsort(model.predict(x))
    assert (np.diff(survival[order], axis=0) <= 1e-12).all()
    hazard = model.predict_cumulative_hazard_function(x, return_array=True)
    np.testing.assert_allclose(survival, np.exp(-hazard))


def test_expected_deaths_equal_observed_ones() -> None:
    # Breslow's baseline makes the cumulative hazards at the patients' own times add up to the number of events.
    t = whas()
    for model in (LinearCox(alpha=1.0), DeepSurv(hidden=(4,), epochs=20)):
        x = StandardScaler().fit_transform(t.x)
        hazards = clone(model).fit(x, t.y).predict_cumulative_hazard_function(x)
        assert sum(h(time) for h, time in zip(hazards, t.time, strict=True)) == pytest.approx(t.event.sum(), rel=1e-6)


# DeepSurv --------------------------------------------------------------------------------------------


def test_deepsurv_learns_what_no_line_shows() -> None:
    t = nonlinear()
    train, test = np.arange(300), np.arange(300, 400)
    line = LinearCox().fit(t.x[train], t.y[train]).score(t.x[test], t.y[test])
    deep = DeepSurv(epochs=120, learning_rate=0.01).fit(t.x[train], t.y[train]).score(t.x[test], t.y[test])
    assert line < 0.6
    assert deep > 0.75


@pytest.mark.parametrize(
    "changes", [{}, {"batch_size": 64}, {"dropout": 0.3}, {"optimizer": "sgd", "learning_rate": 0.5}]
)
def test_deepsurv_is_a_function_of_its_random_state(changes: dict[str, Any]) -> None:
    t = nonlinear(120)
    model = DeepSurv(hidden=(8,), epochs=5, **changes)
    torch.manual_seed(1)
    first = model.fit(t.x, t.y).predict(t.x)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(clone(model).fit(t.x, t.y).predict(t.x), first)
    assert not np.array_equal(clone(model).set_params(random_state=1).fit(t.x, t.y).predict(t.x), first)


def test_prediction_does_not_draw_dropout() -> None:
    t = nonlinear(120)
    model = DeepSurv(hidden=(8,), epochs=5, dropout=0.5).fit(t.x, t.y)
    np.testing.assert_array_equal(model.predict(t.x), model.predict(t.x))


# Inside sklearn and scikit-survival ------------------------------------------------------------------


@pytest.mark.parametrize("model", [LinearCox(alpha=2.0), DeepSurv(hidden=(3,), epochs=3, random_state=5)])
def test_clones_are_unfitted_twins(model: Any) -> None:
    t = nonlinear(60)
    fitted = clone(model).fit(t.x, t.y)
    twin = clone(fitted)
    assert twin.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        twin.predict(t.x)
    np.testing.assert_array_equal(twin.fit(t.x, t.y).predict(t.x), fitted.predict(t.x))


def test_model_selection_accepts_them() -> None:
    t = whas()
    folds = KFold(3, shuffle=True, random_state=0)
    grid = GridSearchCV(make_pipeline(StandardScaler(), LinearCox()), {"linearcox__alpha": [0.1, 1e5]}, cv=folds)
    grid.fit(t.x, t.y)
    assert grid.best_params_ == {"linearcox__alpha": 0.1}
    theirs = make_pipeline(StandardScaler(), CoxPHSurvivalAnalysis(alpha=0.1))
    ours = make_pipeline(StandardScaler(), LinearCox(alpha=0.1, ties="breslow"))
    scores = cross_val_score(ours, t.x, t.y, cv=folds)
    np.testing.assert_allclose(scores, cross_val_score(theirs, t.x, t.y, cv=folds), atol=1e-9)
    deep = make_pipeline(StandardScaler(), DeepSurv(hidden=(4,), epochs=40, learning_rate=0.01))
    assert cross_val_score(deep, t.x, t.y, cv=folds).mean() > 0.7


def test_scikit_survivals_metrics_accept_them() -> None:
    t = whas()
    x = StandardScaler().fit_transform(t.x)
    months = np.arange(6.0, 60.0, 6.0)
    scores = []
    for model in (LinearCox(ties="breslow"), CoxPHSurvivalAnalysis()):
        uno = as_concordance_index_ipcw_scorer(clone(model), tau=60.0).fit(x, t.y).score(x, t.y)
        curves = clone(model).fit(x, t.y).predict_survival_function(x)
        survival = np.array([[curve(m) for m in months] for curve in curves])
        scores.append((uno, integrated_brier_score(t.y, t.y, survival, months)))
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


# Bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [LinearCox(), DeepSurv(hidden=(3,), epochs=2)])
def test_bad_input_is_refused(model: Any) -> None:
    t = nonlinear(60)
    with pytest.raises(ValueError, match="all samples are censored"):
        clone(model).fit(t.x, Surv.from_arrays(np.zeros(60, dtype=bool), t.time))
    holes = t.x.copy()
    holes[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):  # no imputation behind one's back
        clone(model).fit(holes, t.y)
    with pytest.raises(ValueError, match="expecting 4 features"):
        clone(model).fit(t.x, t.y).predict(t.x[:, :3])
    with pytest.raises(ValueError, match="ties is 'exact'"):
        clone(model).set_params(ties="exact").fit(t.x, t.y)
