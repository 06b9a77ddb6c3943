"""The exact Cox model over centers is that of the pooled patients: coefficients, errors, p values, baseline hazard."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter
from lifelines.statistics import proportional_hazard_test
from sksurv.util import Surv

from experiments.datasets import load_dataset
from federation.algorithm import rounds, run
from federation.checkpoint import load_state, save_state
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.preprocessing import FitPreprocessor, preprocessor_of
from federation.quorum import QuorumError
from federation.splits import Split
from federation.survival import FitCox, cox_fit
from harmonization import Cohort
from models.preprocessing import PreprocessingOptions, Preprocessor
from models.survival.cox_fit import CoxFit
from models.survival.exact_cox import ExactCox
from tests.federation.hospitals import SCHEMA, federation_of, hospitals, patients, pooled, preprocessor

EVERYBODY = DisclosurePolicy(min_patients=0)


def dealt(cohort: Cohort, labels: Any) -> dict[str, Cohort]:
    return {str(label): cohort[labels == label] for label in np.unique(labels)}


def on_grid(cohort: Cohort, algorithm: FitCox, fitted: Preprocessor, names: list[str]) -> pd.DataFrame:
    """The pooled table that the federation's result must be that of: times in days, as the grid has them."""
    cell, event = algorithm.grid.cells(cohort.time, cohort.event, cohort.schema.time_unit)
    return pd.DataFrame(fitted.transform(cohort), columns=names).assign(T=cell * algorithm.resolution, E=event)


def pooled_fit(frame: pd.DataFrame, **options: Any) -> Any:
    return CoxPHFitter().fit(frame, "T", "E", fit_options={"precision": 1e-13}, **options)


def require_equal(mine: CoxFit, theirs: Any) -> None:
    """To 1e-6: coefficients, standard errors, p values, log likelihood."""
    summary = mine.summary()
    assert mine.converged
    assert list(summary.index) == list(theirs.params_.index)
    np.testing.assert_allclose(summary["coefficient"], theirs.params_, atol=1e-6)
    np.testing.assert_allclose(summary["standard_error"], theirs.standard_errors_, atol=1e-6)
    np.testing.assert_allclose(summary["p"], theirs.summary["p"], atol=1e-6)
    assert mine.log_likelihood == pytest.approx(theirs.log_likelihood_, abs=1e-6)


def require_equal_baseline(mine: CoxFit, theirs: Any, frame: pd.DataFrame, days: float) -> None:
    assert mine.baseline is not None
    mean = frame.drop(columns=["T", "E"]).mean().to_numpy()
    expected = theirs.baseline_cumulative_hazard_.iloc[:, 0]
    at = mine.baseline.at(expected.index.to_numpy() / days + 1e-9) * np.exp(mean @ mine.coefficients)
    np.testing.assert_allclose(at, expected, atol=1e-6)


# Real patients -----------------------------------------------------------------------------------------

BUNDLED = ("gbsg2", "whas500", "flchain")


@cache
def study(name: str, folder: Path | None = None) -> tuple[Cohort, Any]:
    dataset = load_dataset(name, folder)
    labels = dataset.center
    if labels is None:
        labels = np.random.default_rng(0).choice(6, len(dataset.cohort), p=[0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    return dataset.cohort, np.asarray(labels)


def fit_both(cohort: Cohort, labels: Any, **options: Any) -> tuple[CoxFit, pd.DataFrame, Any, int]:
    """The federation's fit, the pooled table, its centers, and the number of broadcasts."""
    federation = federation_of(dealt(cohort, labels))
    wanted = PreprocessingOptions(min_count=10, min_frequency=0.03)
    fitted = preprocessor_of(run(FitPreprocessor(cohort.schema, wanted), federation))
    algorithm = FitCox(preprocessor=fitted, **options)
    states = list(rounds(algorithm, federation))
    names, sizes = np.unique(labels, return_counts=True)
    present = np.isin(labels, names[sizes >= 3])  # smaller ones withhold
    frame = on_grid(cohort[present], algorithm, fitted, fitted.names(cohort.schema))
    return cox_fit(states[-1], algorithm, cohort.schema), frame, labels[present], len(states)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_data(name: str) -> None:
    mine, frame, _, broadcasts = fit_both(*study(name))
    theirs = pooled_fit(frame)
    require_equal(mine, theirs)
    require_equal_baseline(mine, theirs, frame, 365.25)
    assert broadcasts <= 15
    test = proportional_hazard_test(theirs, frame, "km")
    np.testing.assert_allclose(mine.proportional_hazards("km")["p"].iloc[:-1], np.ravel(test.p_value), atol=1e-6)


@pytest.mark.parametrize("name", ["aml_amlsg", "mds_iwg"])
def test_haematology(name: str, data_dir: Path) -> None:
    mine, frame, labels, broadcasts = fit_both(*study(name, data_dir))
    theirs = pooled_fit(frame)
    assert len(mine.names) > 40
    require_equal(mine, theirs)
    require_equal_baseline(mine, theirs, frame, 365.25)
    assert broadcasts <= 15
    assert len(np.unique(labels)) >= 5


@pytest.mark.parametrize("name", ["gbsg2", "whas500"])
def test_stratified_by_center(name: str) -> None:
    mine, frame, labels, broadcasts = fit_both(*study(name), strata="center")
    require_equal(mine, pooled_fit(frame.assign(S=labels), strata=["S"]))
    assert broadcasts <= 15
    assert mine.baseline is None


def test_stratified_by_the_45_hospitals(data_dir: Path) -> None:
    mine, frame, labels, broadcasts = fit_both(*study("aml_amlsg", data_dir), strata="center")
    require_equal(mine, pooled_fit(frame.assign(S=labels), strata=["S"]))
    assert broadcasts <= 15


def test_robust_errors() -> None:
    cohort, labels = study("whas500")
    # Without ties: lifelines' residuals depend on the order of tied rows.
    apart = replace(cohort, time=np.argsort(np.argsort(cohort.time, kind="stable")) / 365.25)
    mine, frame, _, _ = fit_both(apart, labels)
    theirs = pooled_fit(frame, robust=True)
    np.testing.assert_allclose(mine.standard_errors(robust=True), theirs.standard_errors_, atol=1e-6)
    np.testing.assert_allclose(mine.summary(robust=True)["p"], theirs.summary["p"], atol=1e-6)


# Made-up hospitals -------------------------------------------------------------------------------------


def states_of(algorithm: FitCox, federation: InProcessFederation) -> list[Any]:
    return list(rounds(algorithm, federation))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 500), centers=st.integers(2, 8), breslow=st.booleans(), l1_ratio=st.sampled_from([0.0, 0.7]))
def test_however_the_patients_are_dealt_out(seed: int, centers: int, breslow: bool, l1_ratio: float) -> None:
    table = patients(90, seed)
    algorithm = FitCox(
        "breslow" if breslow else "efron", resolution=30, preprocessor=preprocessor(), alpha=2.0, l1_ratio=l1_ratio
    )
    labels = np.random.default_rng(seed).integers(centers, size=len(table))
    over_centers = cox_fit(
        states_of(algorithm, federation_of(dealt(table, labels), policy=EVERYBODY))[-1], algorithm, SCHEMA
    )
    cell, event = algorithm.grid.cells(table.time, table.event, "years")
    model = ExactCox(algorithm.ties, alpha=2.0, l1_ratio=l1_ratio)
    alone = model.fit(preprocessor().transform(table), Surv.from_arrays(event, cell.astype(float))).fit_
    np.testing.assert_allclose(over_centers.coefficients, alone.coefficients, atol=1e-7)
    np.testing.assert_allclose(over_centers.covariance, alone.covariance, atol=1e-7)
    np.testing.assert_allclose(over_centers.robust_covariance, alone.robust_covariance, atol=1e-7)
    for transform in ("km", "identity", "rank"):
        here, there = (fit.proportional_hazards(transform)["statistic"] for fit in (over_centers, alone))
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6)


def test_a_coarse_grid_is_the_model_of_the_rounded_times() -> None:
    algorithm = FitCox(resolution=91, horizon=1000, preprocessor=preprocessor())
    mine = cox_fit(states_of(algorithm, federation_of())[-1], algorithm, SCHEMA)
    table, _ = pooled(hospitals())
    names = preprocessor().names(SCHEMA)
    frame = on_grid(table, algorithm, preprocessor(), names)
    assert frame["T"].nunique() <= 12
    assert frame["E"].sum() < table.event.sum()  # some died after the horizon
    require_equal(mine, pooled_fit(frame))


def test_only_training_patients_count() -> None:
    split = Split(n_folds=4, fold=1, validation=0.2)
    algorithm = FitCox(resolution=7, preprocessor=preprocessor())
    first = states_of(algorithm, federation_of(split=split))[-1]
    table, _ = pooled(hospitals(), split)
    mine = cox_fit(first, algorithm, SCHEMA)
    require_equal(mine, pooled_fit(on_grid(table, algorithm, preprocessor(), preprocessor().names(SCHEMA))))


def test_a_run_goes_on_from_any_round(tmp_path: Path) -> None:
    algorithm = FitCox(resolution=7, preprocessor=preprocessor())
    through = states_of(algorithm, federation_of())
    for at in (0, 2, len(through) - 2):
        save_state(tmp_path / "state.npz", through[at])
        again = run(algorithm, federation_of(), load_state(tmp_path / "state.npz"))
        for name, array in through[-1].items():
            np.testing.assert_array_equal(again[name], array)


class Leaving:
    """A federation in which South does not answer in some rounds."""

    def __init__(self, absent: Any) -> None:
        self.full, self.rest = federation_of(), federation_of({n: c for n, c in hospitals().items() if n != "South"})
        self.roster, self.absent = self.full.roster, absent

    def ask(self, algorithm: FitCox, state: Any) -> Any:
        return (self.rest if self.absent(int(state["round"])) else self.full).ask(algorithm, state)


@pytest.mark.parametrize("strata", ["none", "center"])
def test_a_center_that_leaves_or_comes_back_starts_the_fit_over(strata: Any) -> None:
    algorithm = FitCox(resolution=7, strata=strata, preprocessor=preprocessor())
    everybody = cox_fit(run(algorithm, federation_of()), algorithm, SCHEMA)
    rest = federation_of({name: cohort for name, cohort in hospitals().items() if name != "South"})
    without = cox_fit(run(algorithm, rest), algorithm, SCHEMA)
    gone = run(algorithm, Leaving(lambda r: r >= 4))  # for good: the model of those who stay
    np.testing.assert_allclose(cox_fit(gone, algorithm, SCHEMA).coefficients, without.coefficients, atol=1e-9)
    back = run(algorithm, Leaving(lambda r: r == 3))  # for a round
    np.testing.assert_allclose(cox_fit(back, algorithm, SCHEMA).coefficients, everybody.coefficients, atol=1e-9)
    assert (int(gone["restarts"]), int(back["restarts"])) == (1, 1)
    with pytest.raises(ValueError, match=r"came and went 6 times.*77 patients|came and went 6 times.*114 patients"):
        run(algorithm, Leaving(lambda r: r % 4 == 1))


# What leaves a center ----------------------------------------------------------------------------------


def contributions(algorithm: FitCox) -> list[dict[str, tuple[int, ...]]]:
    federation = federation_of()
    found, state = [], algorithm.start(federation.roster)
    while not algorithm.done(state):
        total = federation.ask(algorithm, state)
        found.append({name: array.shape for name, array in total.items()})
        state = algorithm.server_update(state, total)
    return found


def test_no_center_sends_a_matrix_per_event_time() -> None:
    p = preprocessor().n_features
    algorithm = FitCox(resolution=7, horizon=365 * 12, preprocessor=preprocessor())
    counts, *newton, variance = contributions(algorithm)
    assert counts == {"events": (algorithm.grid.size,), "leaving": (algorithm.grid.size,)}
    times = newton[0]["risk"][0]
    for shapes in newton:
        tied = shapes.pop("tied")
        assert tied[0] < times
        assert shapes == {"risk": (times, 1 + p), "event_x": (p,), "curvature": (p, p)}
    assert variance == {"curvature": (p, p), "meat": (p, p), "event_x": (times, p)}


def test_by_center_nothing_about_event_times_leaves_after_the_first_round() -> None:
    p = preprocessor().n_features
    algorithm = FitCox(strata="center", resolution=7, preprocessor=preprocessor())
    _, *newton, variance = contributions(algorithm)
    assert all(shapes == {"value": (), "gradient": (p,), "information": (p, p)} for shapes in newton)
    assert variance == {"information": (p, p), "meat": (p, p), "slopes": (4, p)}


def test_a_center_may_refuse() -> None:
    algorithm = FitCox(preprocessor=preprocessor())  # a count for each day of a century
    with pytest.raises(QuorumError, match="more than the 100000 bytes that the policy allows"):
        run(algorithm, federation_of(policy=DisclosurePolicy(max_bytes=100_000)))


def test_parameters_are_checked_where_they_are_given() -> None:
    with pytest.raises(ValueError, match="resolution is 0 days"):
        FitCox(resolution=0)
    with pytest.raises(ValueError, match="alpha is -1"):
        FitCox(alpha=-1.0)
