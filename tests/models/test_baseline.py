"""Breslow's baseline hazard: against scikit-survival and lifelines, and additive over any partition of the patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter, NelsonAalenFitter
from lifelines.datasets import load_rossi
from numpy.typing import NDArray
from sksurv.linear_model.coxph import BreslowEstimator

from models.survival.baseline import BaselineHazard, breslow_sums


def patients(seed: int, n: int = 80) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    log_hazard = rng.normal(size=n)
    time = np.ceil(rng.exponential(5 * np.exp(-log_hazard)) * 2) / 2
    return time, rng.random(n) < 0.7, log_hazard


def fit(time: Any, event: Any, log_hazard: Any, grid: Any) -> BaselineHazard:
    sums = breslow_sums(np.asarray(time), np.asarray(event, dtype=bool), np.asarray(log_hazard), np.asarray(grid))
    return BaselineHazard.fit(np.asarray(grid), sums["events"], sums["risk"])


# Against other packages ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_survival(seed: int) -> None:
    time, event, log_hazard = patients(seed)
    ours = fit(time, event, log_hazard, np.unique(time))
    theirs = BreslowEstimator().fit(log_hazard, event, time)
    np.testing.assert_array_equal(ours.times, theirs.cum_baseline_hazard_.x)
    np.testing.assert_allclose(ours.cumulative, theirs.cum_baseline_hazard_.y, rtol=1e-12)
    curves = np.array([f.y for f in theirs.get_survival_function(log_hazard[:9])])
    np.testing.assert_allclose(ours.survival(log_hazard[:9], ours.times), curves, atol=1e-12)


def test_equals_lifelines() -> None:
    frame = load_rossi()
    fitted = CoxPHFitter().fit(frame, "week", "arrest")
    log_hazard = fitted.predict_log_partial_hazard(frame).to_numpy()  # relative to the mean, as its baseline
    theirs = fitted.baseline_cumulative_hazard_.iloc[:, 0]
    ours = fit(frame["week"], frame["arrest"], log_hazard, theirs.index.to_numpy(float))
    np.testing.assert_allclose(ours.cumulative, theirs.to_numpy(), rtol=1e-9)


def test_with_equal_hazards_it_is_nelson_aalens_estimator() -> None:
    time, event, _ = patients(4)
    theirs = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(time, event).cumulative_hazard_.iloc[:, 0]
    ours = fit(time, event, np.zeros(80), np.unique(time))
    np.testing.assert_allclose(ours.at(theirs.index.to_numpy()), theirs.to_numpy(), rtol=1e-12)


# Sums ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1000), centers=st.integers(1, 6), points=st.integers(1, 12))
def test_sums_over_any_partition_add_up(seed: int, centers: int, points: int) -> None:
    time, event, log_hazard = patients(seed, n=30)
    grid = np.linspace(0, 8, points + 1)[1:]
    center = np.random.default_rng(seed).integers(centers, size=30)
    pooled = breslow_sums(time, event, log_hazard, grid)
    parts = [breslow_sums(time[center == c], event[center == c], log_hazard[center == c], grid) for c in range(centers)]
    for name in ("events", "risk"):
        assert pooled[name].shape == (points,)
        np.testing.assert_allclose(sum(part[name] for part in parts), pooled[name], atol=1e-9)


def test_a_coarse_grid_counts_a_time_at_the_end_of_its_cell() -> None:
    grid = np.array([1.0, 2.0, 4.0])
    time, event = np.array([0.5, 1.0, 1.5, 3.0, 4.5]), np.array([1, 0, 1, 1, 1], dtype=bool)
    hazard = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    sums = breslow_sums(time, event, np.log(hazard), grid)
    np.testing.assert_allclose(sums["events"], [1, 1, 1])  # the last event lies beyond the grid
    np.testing.assert_allclose(sums["risk"], [15, 12, 9])  # but its patient is at risk until then
    np.testing.assert_allclose(
        BaselineHazard.fit(grid, sums["events"], sums["risk"]).cumulative, np.cumsum([1 / 15, 1 / 12, 1 / 9])
    )


def test_a_finer_grid_changes_nothing_and_a_coarse_one_little() -> None:
    time, event, log_hazard = patients(5, n=2000)
    exact = fit(time, event, log_hazard, np.unique(time))
    finer = fit(time, event, log_hazard, np.unique(np.concatenate([time, time + 0.1])))
    at = np.linspace(0.5, 8, 40)
    np.testing.assert_allclose(finer.at(at), exact.at(at), rtol=1e-12)
    coarse = fit(time, event, log_hazard, np.arange(1.0, 20.0))
    at = np.arange(1.0, 9.0)
    np.testing.assert_allclose(coarse.at(at), exact.at(at), rtol=0.15)


def test_nobody_at_risk_adds_no_hazard() -> None:
    baseline = fit([1.0, 2.0], [1, 1], [0.0, 0.0], [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(baseline.cumulative, [0.5, 1.5, 1.5, 1.5])


def test_without_patients_the_sums_are_zero() -> None:
    sums = breslow_sums(np.empty(0), np.empty(0, dtype=bool), np.empty(0), np.array([1.0, 2.0]))
    assert not sums["events"].any()
    assert not sums["risk"].any()


# The step function -----------------------------------------------------------------------------------


def test_steps_are_continuous_from_the_right_and_flat_outside() -> None:
    baseline = BaselineHazard(np.array([1.0, 3.0]), np.array([0.2, 0.7]))
    np.testing.assert_array_equal(baseline.at([0, 0.99, 1, 2.9, 3, 99]), [0, 0, 0.2, 0.2, 0.7, 0.7])
    survival = baseline.survival(np.array([0.0, np.log(2)]), [0, 1, 3])
    np.testing.assert_allclose(survival, np.exp([[0, -0.2, -0.7], [0, -0.4, -1.4]]))


def test_moving_all_log_hazards_moves_the_baseline_and_no_survival() -> None:
    time, event, log_hazard = patients(6)
    grid = np.unique(time)
    here, there = fit(time, event, log_hazard, grid), fit(time, event, log_hazard + 3, grid)
    np.testing.assert_allclose(there.cumulative * np.exp(3), here.cumulative)
    np.testing.assert_allclose(there.survival(log_hazard + 3, grid), here.survival(log_hazard, grid))
