"""Preprocessing, time grid and baseline hazard over centers are those of the pooled training patients, to 1e-9."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from federation.algorithm import run
from federation.baseline import FitBaseline
from federation.policy import DisclosurePolicy
from federation.preprocessing import FitPreprocessor, FitTimeGrid, preprocessor_of
from federation.splits import TRAIN, Split
from harmonization import Cohort
from models.preprocessing import PreprocessingOptions, Preprocessor, feature_sums
from models.survival.baseline import BaselineHazard, breslow_sums
from models.survival.network import build_network
from models.training import predict
from tests.federation.hospitals import SCHEMA, federation_of, hospitals, patients, pooled

SPLIT = Split(n_folds=4, fold=1, validation=0.2)


def scattered(cohort: Cohort, centers: int, seed: int) -> dict[str, Cohort]:
    """The patients dealt out to centers, some of which may be empty."""
    where = np.random.default_rng(seed).integers(centers, size=len(cohort))
    return {f"C{c}": cohort[where == c] for c in range(centers)}


def require_equal(a: Preprocessor, b: Preprocessor) -> None:
    for name, array in vars(a).items():
        np.testing.assert_allclose(array, vars(b)[name], rtol=1e-9, atol=1e-9, err_msg=name)


# Standardization, imputation, filter, indicators -----------------------------------------------------


@pytest.mark.parametrize("split", [Split(), SPLIT])
def test_preprocessor_is_that_of_the_pooled_training_patients(split: Split) -> None:
    state = run(FitPreprocessor(SCHEMA), federation_of(split=split))
    table, _ = pooled(hospitals(), split)
    require_equal(preprocessor_of(state), Preprocessor.fit(feature_sums(table), SCHEMA, PreprocessingOptions()))
    assert state["patients"] == len(table)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 500), centers=st.integers(1, 12))
def test_so_it_is_over_any_partition(seed: int, centers: int) -> None:
    table = patients(90, seed)
    cohorts = scattered(table, centers, seed)
    options = PreprocessingOptions(min_count=2, min_missing=0.04)
    policy = DisclosurePolicy(min_patients=0)
    state = run(FitPreprocessor(SCHEMA, options), federation_of(cohorts, policy=policy))
    require_equal(preprocessor_of(state), Preprocessor.fit(feature_sums(table), SCHEMA, options))


def test_validation_and_test_patients_have_no_say() -> None:
    # A scaler fitted before the split has seen the test patients.
    changed = {}
    for name, cohort in hospitals().items():
        values = cohort.values.copy()
        values[SPLIT.parts(cohort.ids, cohort.event, name) != TRAIN, :2] *= 100
        changed[name] = replace(cohort, values=values)
    first = run(FitPreprocessor(SCHEMA), federation_of(split=SPLIT))
    second = run(FitPreprocessor(SCHEMA), federation_of(changed, split=SPLIT))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    everybody = run(FitPreprocessor(SCHEMA), federation_of(changed))
    assert not np.allclose(everybody["mean"][0], first["mean"][0])


def test_no_center_is_scaled_by_itself() -> None:
    shared = preprocessor_of(run(FitPreprocessor(SCHEMA), federation_of()))
    means = {name: shared.transform(cohort)[:, 0].mean() for name, cohort in hospitals().items()}
    assert means["West"] > 0.5 > 0 > means["North"]


def test_what_travels_are_sums_over_patients() -> None:
    algorithm, federation = FitPreprocessor(SCHEMA), federation_of()
    total = federation.ask(algorithm, algorithm.start(federation.roster))
    expected = feature_sums(pooled(hospitals())[0])
    assert total.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(total[name], array, rtol=1e-12)


# The time grid ---------------------------------------------------------------------------------------


def grid_of(cohorts: dict[str, Cohort], **options: Any) -> NDArray[np.float64]:
    parameters = {"horizon": 5.0, "cells": 100, "points": 10}
    policy = DisclosurePolicy(min_patients=0)
    return np.asarray(run(FitTimeGrid(**parameters | options), federation_of(cohorts, policy=policy))["grid"])


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 500), centers=st.integers(2, 10))
def test_the_grid_is_that_of_the_pooled_patients(seed: int, centers: int) -> None:
    table = patients(80, seed)
    np.testing.assert_array_equal(grid_of(scattered(table, centers, seed)), grid_of({"all": table}))


def test_grid_times_are_quantiles_of_the_event_times() -> None:
    table = patients(4000, 5)
    grid = grid_of({"all": table}, cells=500)
    assert grid[-1] == 5.0  # the declared horizon, not somebody's last visit
    assert (np.diff(grid) > 0).all()
    inside = table.time[table.event & (table.time <= 5)]
    np.testing.assert_allclose(grid[:-1], np.quantile(inside, np.arange(1, 10) / 10), atol=0.02)


def test_the_grid_is_common_to_centers_of_any_follow_up() -> None:
    # With each center's own maximum as the unit of time, averaged weights would mean different things.
    early, late = patients(60, 1, follow_up=1), patients(60, 2, follow_up=20)
    both = grid_of({"early": early, "late": late})
    assert both[0] < 1 < both[-2]
    np.testing.assert_array_equal(both, grid_of({"late": late, "early": early}))


def test_times_in_other_units_give_the_same_grid() -> None:
    cohorts = dict(hospitals())
    algorithm = FitTimeGrid(horizon=5.0, cells=50, points=10)
    expected = run(algorithm, federation_of(cohorts, schema=SCHEMA))["grid"]
    cohorts["South"] = cohorts["South"].in_time_unit("months")
    np.testing.assert_array_equal(run(algorithm, federation_of(cohorts, schema=SCHEMA))["grid"], expected)


def test_few_events_make_a_short_grid_and_none_a_single_cell() -> None:
    few = patients(3, 1)
    assert len(grid_of({"all": few}, points=60)) <= 4
    none = replace(few, event=np.zeros(3, dtype=bool))
    assert grid_of({"all": none}).tolist() == [0.05, 5.0]


def test_only_training_patients_make_the_grid() -> None:
    changed = {}
    for name, cohort in hospitals().items():
        other = SPLIT.parts(cohort.ids, cohort.event, name) != TRAIN
        changed[name] = replace(cohort, time=np.where(other, cohort.time / 50, cohort.time))
    algorithm = FitTimeGrid(horizon=5.0)
    first = run(algorithm, federation_of(split=SPLIT))["grid"]
    np.testing.assert_array_equal(run(algorithm, federation_of(changed, split=SPLIT))["grid"], first)


# The baseline hazard ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["cox", "deepsurv"])
@pytest.mark.parametrize("split", [Split(), SPLIT])
def test_baseline_is_that_of_the_pooled_training_patients(model: str, split: Split) -> None:
    table, _ = pooled(hospitals(), split)
    prepared = Preprocessor.fit(feature_sums(table), SCHEMA, PreprocessingOptions())
    network = build_network(model, prepared.n_features)
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.3, sum(p.numel() for p in network.parameters())).astype(np.float32)
    # The network computes in float32, whose last digit depends on how many patients it is given at once.
    trained = [c[split.parts(c.ids, c.event, name) == TRAIN] for name, c in hospitals().items()]
    log_hazard = np.concatenate([predict(network, weights, prepared.transform(c)) for c in trained])
    np.testing.assert_allclose(log_hazard, predict(network, weights, prepared.transform(table)), atol=1e-6)
    for grid in (np.linspace(0.25, 6, 24), np.unique(table.time)):
        state = run(FitBaseline(model, {}, weights, prepared, grid), federation_of(split=split))
        sums = breslow_sums(table.time, table.event, log_hazard, grid)
        expected = BaselineHazard.fit(grid, sums["events"], sums["risk"])
        np.testing.assert_allclose(state["cumulative"], expected.cumulative, rtol=1e-9)
        np.testing.assert_array_equal(state["times"], grid)
    assert state["cumulative"][-1] > 0.1


def test_baseline_has_not_seen_validation_and_test_patients() -> None:
    table, _ = pooled(hospitals(), SPLIT)
    prepared = Preprocessor.fit(feature_sums(table), SCHEMA, PreprocessingOptions())
    weights = np.full(prepared.n_features, 0.2, np.float32)
    changed = {}
    for name, cohort in hospitals().items():
        other = SPLIT.parts(cohort.ids, cohort.event, name) != TRAIN
        changed[name] = replace(cohort, time=np.where(other, cohort.time / 50, cohort.time))
    algorithm = FitBaseline("cox", {}, weights, prepared, np.linspace(0.25, 6, 24))
    first = run(algorithm, federation_of(split=SPLIT))["cumulative"]
    np.testing.assert_array_equal(run(algorithm, federation_of(changed, split=SPLIT))["cumulative"], first)
