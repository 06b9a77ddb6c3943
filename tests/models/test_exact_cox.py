"""The exact Cox model against lifelines, scikit-survival, statsmodels, a plain loop, and what an optimum must meet."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter
from lifelines.statistics import proportional_hazard_test
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sksurv.datasets import load_flchain, load_gbsg2, load_whas500
from sksurv.linear_model import CoxnetSurvivalAnalysis, CoxPHSurvivalAnalysis
from sksurv.util import Surv

from models.survival.cox_fit import CoxFit
from models.survival.cox_sums import Patients, Profile, curvature, risk_sums, score_residuals
from models.survival.exact_cox import ExactCox
from models.survival.likelihood import Ties
from models.survival.newton_cox import NewtonCox

TIES: tuple[Ties, ...] = ("breslow", "efron")


@cache
def table(name: str) -> pd.DataFrame:
    """Features with time ``T`` and event ``E``, in the publishers' units."""
    if name == "gbsg2":
        x, y = load_gbsg2()
        event, time = y["cens"], y["time"]
        x = x.assign(horTh=x["horTh"] == "yes", menostat=x["menostat"] == "Post", tgrade=x["tgrade"].cat.codes)
    elif name == "flchain":
        x, y = load_flchain()
        event, time = y["death"], y["futime"]
        x = x[["age", "kappa", "lambda"]].assign(male=x["sex"] == "M", mgus=x["mgus"] == "yes").astype(float)
        x["kappa"], x["lambda"] = np.log(x["kappa"]), np.log(x["lambda"])  # as they are, lifelines does not converge
    else:
        x, y = load_whas500()
        event, time = y["fstat"], y["lenfol"]
        x = x[["age", "bmi", "hr", "sysbp", "gender", "chf", "miord"]]
        if name == "whas500 in months":
            time = np.ceil(time / 30)
        if name == "whas500 untied":
            time = time + np.random.default_rng(0).permutation(len(time)) / 1000
    return x.astype(float).assign(T=np.asarray(time, dtype=float), E=np.asarray(event, dtype=bool))


TABLES = ("gbsg2", "whas500", "whas500 in months", "flchain")


def target(frame: pd.DataFrame) -> Any:
    return Surv.from_arrays(frame["E"].to_numpy(), frame["T"].to_numpy())


def ours(frame: pd.DataFrame, strata: Any = None, **options: Any) -> ExactCox:
    return ExactCox(**options).fit(frame.drop(columns=["T", "E"]), target(frame), strata=strata)


@cache
def fitted(name: str) -> ExactCox:
    return ours(table(name))


@cache
def lifelines(name: str, robust: bool = False) -> Any:
    return CoxPHFitter().fit(table(name), "T", "E", robust=robust, fit_options={"precision": 1e-13})


# Against lifelines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_coefficients_errors_p_values_likelihood(name: str) -> None:
    mine, theirs = fitted(name).fit_, lifelines(name)
    summary = mine.summary()
    for column, other in (
        ("coefficient", "coef"),
        ("standard_error", "se(coef)"),
        ("p", "p"),
        ("z", "z"),
        ("hazard_ratio", "exp(coef)"),
        ("low", "exp(coef) lower 95%"),
        ("high", "exp(coef) upper 95%"),
    ):
        np.testing.assert_allclose(summary[column], theirs.summary[other], rtol=1e-6, atol=1e-6, err_msg=column)
    assert list(summary.index) == list(theirs.summary.index)
    assert mine.log_likelihood == pytest.approx(theirs.log_likelihood_, abs=1e-6)
    assert mine.null_log_likelihood == pytest.approx(theirs._ll_null_, abs=1e-6)
    assert mine.converged
    assert mine.iterations <= 13
    assert mine.events == table(name)["E"].sum()


@pytest.mark.parametrize("name", TABLES)
def test_baseline_hazard(name: str) -> None:
    theirs = lifelines(name).baseline_cumulative_hazard_.iloc[:, 0]
    frame, mine = table(name), fitted(name)
    at_mean = mine.fit_.baseline
    assert at_mean is not None
    np.testing.assert_allclose(at_mean.at(theirs.index), theirs, atol=1e-6)
    mean = frame.drop(columns=["T", "E"]).mean().to_numpy()
    np.testing.assert_allclose(mine.baseline_.at(theirs.index) * np.exp(mean @ mine.coef_), theirs, atol=1e-6)
    curves = mine.predict_survival_function(frame.drop(columns=["T", "E"]).iloc[:5], return_array=True)
    expected = lifelines(name).predict_survival_function(frame.iloc[:5], times=mine.unique_times_).T
    np.testing.assert_allclose(curves, expected, atol=1e-6)


def test_robust_errors_where_no_times_are_tied() -> None:
    # With ties lifelines' residuals depend on the order of the rows; see the plain loop below.
    theirs = lifelines("whas500 untied", robust=True).standard_errors_
    mine = fitted("whas500 untied").fit_.standard_errors(robust=True)
    np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert np.abs(mine - fitted("whas500 untied").fit_.standard_errors()).max() > 1e-4


@pytest.mark.parametrize("transform", ["km", "log", "identity"])
@pytest.mark.parametrize("name", ["whas500", "whas500 in months", "gbsg2"])
def test_proportional_hazards(name: str, transform: str) -> None:
    theirs = proportional_hazard_test(lifelines(name), table(name), transform)
    mine = fitted(name).fit_.proportional_hazards(transform)
    np.testing.assert_allclose(mine["statistic"].iloc[:-1], np.ravel(theirs.test_statistic), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mine["p"].iloc[:-1], np.ravel(theirs.p_value), atol=1e-6)
    assert mine.index[-1] == "all"
    assert mine["degrees_of_freedom"].iloc[-1] == len(mine) - 1


def test_proportional_hazards_by_rank_where_no_times_are_tied() -> None:
    theirs = proportional_hazard_test(lifelines("whas500 untied"), table("whas500 untied"), "rank")
    mine = fitted("whas500 untied").fit_.proportional_hazards("rank")
    np.testing.assert_allclose(mine["statistic"].iloc[:-1], np.ravel(theirs.test_statistic), atol=1e-6)
    with pytest.raises(ValueError, match="transform is 'sqrt'; use one of km"):
        fitted("whas500").fit_.proportional_hazards("sqrt")


def test_a_hazard_that_is_not_proportional_is_seen() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    early = rng.exponential(np.exp(-x[:, 0]))  # the first feature matters until time 1, then not at all
    time = np.where(early < 0.7, early, 0.7 + rng.exponential(1.0, 600))
    frame = pd.DataFrame(x, columns=["fades", "nothing"]).assign(T=time, E=True)
    test = ours(frame).fit_.proportional_hazards()
    assert test.loc["fades", "p"] < 1e-4
    assert test.loc["all", "p"] < 1e-4
    assert test.loc["nothing", "p"] > 0.01


@pytest.mark.parametrize("name", ["whas500", "whas500 in months"])
def test_stratified(name: str) -> None:
    frame = table(name)
    hospital = np.random.default_rng(0).choice(5, len(frame), p=[0.5, 0.2, 0.15, 0.1, 0.05])
    theirs = CoxPHFitter().fit(frame.assign(S=hospital), "T", "E", strata=["S"], fit_options={"precision": 1e-13})
    mine = ours(frame, strata=hospital).fit_
    np.testing.assert_allclose(mine.coefficients, theirs.params_, atol=1e-6)
    np.testing.assert_allclose(mine.standard_errors(), theirs.standard_errors_, atol=1e-6)
    assert mine.log_likelihood == pytest.approx(theirs.log_likelihood_, abs=1e-6)
    assert mine.baseline is None
    assert mine.iterations <= 8
    one = ours(frame, strata=np.zeros(len(frame))).fit_
    np.testing.assert_allclose(one.coefficients, fitted(name).coef_, atol=1e-7)
    np.testing.assert_allclose(one.robust_covariance, fitted(name).fit_.robust_covariance, rtol=1e-5)
    np.testing.assert_allclose(
        one.proportional_hazards()["p"], fitted(name).fit_.proportional_hazards()["p"], rtol=1e-5
    )


# Against scikit-survival and statsmodels -------------------------------------------------------------


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_ridge_equals_scikit_survival(ties: Ties, alpha: float) -> None:
    frame = table("whas500 in months")
    x = frame.drop(columns=["T", "E"])
    theirs = CoxPHSurvivalAnalysis(alpha=alpha, ties=ties, tol=1e-13).fit(x, target(frame))
    mine = ours(frame, ties=ties, alpha=alpha)
    np.testing.assert_allclose(mine.coef_, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(mine.predict(x) - theirs.predict(x), (mine.predict(x) - theirs.predict(x))[0], atol=1e-5)


def test_breslow_errors_equal_statsmodels_also_the_robust_ones() -> None:
    statsmodels = pytest.importorskip("statsmodels.duration.hazard_regression")
    frame = table("whas500 in months")
    x = frame.drop(columns=["T", "E"]).to_numpy()
    model = statsmodels.PHReg(frame["T"], x, status=frame["E"].astype(float), ties="breslow")
    mine = ours(frame, ties="breslow").fit_
    plain = model.fit()
    np.testing.assert_allclose(mine.coefficients, plain.params, atol=1e-6)
    np.testing.assert_allclose(mine.standard_errors(), plain.bse, atol=1e-6)
    residuals = plain.score_residuals
    expected = mine.covariance @ residuals.T @ residuals @ mine.covariance
    np.testing.assert_allclose(mine.robust_covariance, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
@pytest.mark.parametrize("alpha", [5.0, 30.0])
def test_elastic_net_is_optimal_and_that_of_coxnet(alpha: float, l1_ratio: float) -> None:
    frame = table("whas500 untied")
    x = frame.drop(columns=["T", "E"])
    x = (x - x.mean()) / x.std(ddof=0)
    frame = x.assign(T=frame["T"], E=frame["E"])
    model = ours(frame, alpha=alpha, l1_ratio=l1_ratio)
    theirs = CoxnetSurvivalAnalysis(alphas=[alpha / len(x)], l1_ratio=l1_ratio, tol=1e-12, max_iter=10**6)
    coef = theirs.fit(x, target(frame)).coef_[:, 0]
    np.testing.assert_allclose(model.coef_, coef, atol=2e-4)
    if alpha == 30:
        assert (model.coef_ == 0).any()
    # The conditions of optimality, with the gradient by differences.
    cell = np.unique(frame["T"], return_inverse=True)[1]
    cells = np.unique(cell[frame["E"]])
    patients = Patients.at(x.to_numpy(), cell, frame["E"].to_numpy(), cells)
    empty, deaths = np.zeros(0, dtype=np.int64), np.ones(len(cells))
    sums = risk_sums(patients, model.coef_, empty, len(cells))
    gradient = Profile.of(sums, model.coef_, deaths, empty).gradient - alpha * (1 - l1_ratio) * model.coef_
    active = model.coef_ != 0
    np.testing.assert_allclose(gradient[active], alpha * l1_ratio * np.sign(model.coef_[active]), atol=1e-5)
    assert (np.abs(gradient[~active]) <= alpha * l1_ratio + 1e-6).all()
    assert np.isnan(model.fit_.standard_errors()).all()


# Against plain loops ---------------------------------------------------------------------------------


@st.composite
def _small(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    n, seed = draw(st.integers(3, 14)), draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    cell = rng.integers(0, draw(st.integers(1, 6)), n)
    event = rng.random(n) < 0.7
    event[0] = True
    return rng.normal(size=(n, 2)), cell, event, rng.normal(size=2)


def laid_out(x: Any, cell: Any, event: Any, ties: Ties) -> tuple[Patients, Any, Any, int]:
    cells = np.unique(cell[event])
    patients = Patients.at(x, cell, event, cells)
    deaths = np.bincount(patients.position[event] - 1, minlength=len(cells)).astype(float)
    tied = np.flatnonzero(deaths > 1) if ties == "efron" else np.zeros(0, dtype=np.int64)
    return patients, deaths, tied, len(cells)


def loop(x: Any, cell: Any, event: Any, beta: Any, ties: Ties) -> tuple[float, Any, Any, Any]:
    """Value, gradient, information and score residuals, death by death as in the textbooks."""
    e = np.exp(x @ beta)
    value, gradient, information = 0.0, np.zeros(2), np.zeros((2, 2))
    residuals = np.zeros_like(x)
    for t in np.unique(cell[event]):
        risk, dead = np.flatnonzero(cell >= t), np.flatnonzero((cell == t) & event)
        for rank in range(len(dead)):
            f = rank / len(dead) if ties == "efron" else 0.0
            w = e * np.isin(np.arange(len(x)), risk) * np.where(np.isin(np.arange(len(x)), dead), 1 - f, 1)
            mean = w @ x / w.sum()
            value -= np.log(w.sum())
            gradient -= mean
            information += (x * w[:, None]).T @ x / w.sum() - np.outer(mean, mean)
            residuals -= (w / w.sum())[:, None] * (x - mean)
            residuals[dead] += (x[dead] - mean) / len(dead)
        value += (x[dead] @ beta).sum()
        gradient += x[dead].sum(axis=0)
    return value, gradient, information, residuals


@settings(max_examples=40, deadline=None)
@given(case=_small(), ties=st.sampled_from(TIES), parts=st.integers(1, 3))
def test_sums_over_centers_are_the_textbook(case: Any, ties: Ties, parts: int) -> None:
    x, cell, event, beta = case
    patients, deaths, tied, times = laid_out(x, cell, event, ties)
    value, gradient, information, residuals = loop(x, cell, event, beta, ties)
    where = np.arange(len(x)) % parts
    pieces = [Patients(x[where == k], patients.position[where == k], event[where == k]) for k in range(parts)]
    answers = [risk_sums(piece, beta, tied, times) for piece in pieces]
    profile = Profile.of({n: np.sum([a[n] for a in answers], axis=0) for n in answers[0]}, beta, deaths, tied)
    assert profile.value == pytest.approx(value, abs=1e-9)
    np.testing.assert_allclose(profile.gradient, gradient, atol=1e-9)
    steps = profile.steps(times)
    second = np.sum([curvature(piece, beta, *steps) for piece in pieces], axis=0)
    np.testing.assert_allclose(second - profile.products, information, atol=1e-8)
    mine = score_residuals(patients, beta, steps, profile.mean_steps(times))
    np.testing.assert_allclose(mine, residuals, atol=1e-9)
    np.testing.assert_allclose(mine.sum(axis=0), gradient, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(case=_small(), ties=st.sampled_from(TIES))
def test_predicted_steps_err_by_the_square_of_the_change(case: Any, ties: Ties) -> None:
    x, cell, event, beta = case
    patients, deaths, tied, times = laid_out(x, cell, event, ties)

    def steps(at: Any) -> Any:
        return np.stack(Profile.of(risk_sums(patients, at, tied, times), at, deaths, tied).steps(times))

    profile = Profile.of(risk_sums(patients, beta, tied, times), beta, deaths, tied)
    small = np.array([1e-4, -2e-4])
    error = np.abs(np.stack(profile.steps(times, small)) - steps(beta + small))
    assert (error <= 1e-5 * steps(beta + small) ** (1 / 2) * 1e-1 + 1e-6 * np.abs(steps(beta))).all()


# Hard cases ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_features_on_very_different_scales(scale: float) -> None:
    frame = table("whas500")
    factor = np.where(np.arange(7) % 2, scale, 1.0)
    x = frame.drop(columns=["T", "E"]) * factor
    mine = ours(x.assign(T=frame["T"], E=frame["E"]))
    np.testing.assert_allclose(mine.coef_ * factor, fitted("whas500").coef_, rtol=1e-6)


def test_a_strong_effect_needs_halved_steps_and_gets_there() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_t(1.5, size=(300, 3))  # a few patients far out
    time = rng.exponential(np.exp(-np.clip(x @ [2.0, -2.0, 0.0], -30, 30)))
    frame = pd.DataFrame(x, columns=list("abc")).assign(T=time, E=rng.random(300) < 0.8)
    mine = ours(frame)
    gold = CoxPHSurvivalAnalysis(tol=1e-12, ties="efron", n_iter=500).fit(x, target(frame)).coef_
    np.testing.assert_allclose(mine.coef_, gold, atol=1e-5)


def test_separated_data_do_not_converge_and_it_is_said() -> None:
    time = np.arange(1.0, 21.0)
    frame = pd.DataFrame({"a": (time <= 10).astype(float)}).assign(T=time, E=time <= 10)
    with pytest.warns(ConvergenceWarning, match="max_iter=8"):
        ours(frame, max_iter=8)


def test_a_column_twice_has_no_standard_error() -> None:
    frame = table("whas500").assign(again=table("whas500")["age"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        mine = ours(frame)
    assert mine.coef_[0] + mine.coef_[-1] == pytest.approx(fitted("whas500").coef_[0], abs=1e-6)
    assert np.isnan(mine.fit_.standard_errors()).all()
    assert np.isfinite(ours(frame, alpha=1.0).fit_.standard_errors()).all()


def test_nobody_with_an_event() -> None:
    solver = NewtonCox()
    state = solver.update(solver.start(1), {"events": np.zeros(5), "leaving": np.ones(5)})
    assert solver.done(state)
    with pytest.raises(ValueError, match="no patient has an event up to the horizon"):
        CoxFit.of(state, ["x"])
    with pytest.raises(ValueError, match="censored"):
        ours(table("whas500").assign(E=False))


def test_penalties_are_checked() -> None:
    kinds: tuple[Literal["alpha", "l1_ratio"], ...] = ("alpha", "l1_ratio")
    for kind in kinds:
        with pytest.raises(ValueError, match="l1_ratio"):
            ours(table("whas500"), **{kind: -1.0})
