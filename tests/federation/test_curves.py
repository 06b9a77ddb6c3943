"""Survival curves and log-rank over centers are those of the pooled patients at every time of the grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifelines import KaplanMeierFitter, NelsonAalenFitter
from lifelines.statistics import multivariate_logrank_test
from lifelines.utils import restricted_mean_survival_time

from experiments.datasets import load_dataset
from federation.algorithm import run
from federation.survival import FitCurves, curves_of, log_rank_of
from federation.survival.curves import group_names
from harmonization import Cohort
from tests.federation.hospitals import SCHEMA, federation_of, hospitals, pooled

YEAR = 365.25


def grouped(cohort: Cohort, feature: str) -> tuple[Any, Any, Any]:
    """Day, event and group of the patients whose group is known."""
    values = cohort.column(feature)
    known = ~np.isnan(values)
    return np.rint(cohort.time * YEAR)[known], cohort.event[known], values[known]


def test_one_curve_for_all() -> None:
    algorithm = FitCurves.of(SCHEMA)
    state = run(algorithm, federation_of())
    (mine,) = curves_of(state, algorithm, SCHEMA).values()
    table, _ = pooled(hospitals())
    day = np.rint(table.time * YEAR)
    km, na = KaplanMeierFitter().fit(day, table.event), NelsonAalenFitter(nelson_aalen_smoothing=False)
    na = na.fit(day, table.event)
    frame = mine.to_frame()
    grid = np.linspace(day[table.event].min(), day.max(), 40)
    row = np.searchsorted(frame["time"] * YEAR, grid + 1e-6) - 1
    np.testing.assert_allclose(frame["survival"][row], km.survival_function_at_times(grid), atol=1e-12)
    np.testing.assert_allclose(frame["cumulative_hazard"][row], na.cumulative_hazard_at_times(grid), atol=1e-12)
    band = km.confidence_interval_survival_function_
    at = band.index.get_indexer(np.round(frame["time"][row] * YEAR))
    np.testing.assert_allclose(frame["survival_low"][row], band.iloc[at, 0], atol=1e-12)
    np.testing.assert_allclose(frame["survival_high"][row], band.iloc[at, 1], atol=1e-12)
    mean = restricted_mean_survival_time(km, t=2 * YEAR) / YEAR
    assert mine.restricted_mean(2.0)[0] == pytest.approx(mean, abs=1e-9)
    assert mine.at_risk[0] == len(table)


@pytest.mark.parametrize("feature", ["mutated", "grade"])
def test_groups_and_log_rank(feature: str) -> None:
    algorithm = FitCurves.of(SCHEMA, feature)
    state = run(algorithm, federation_of())
    table, _ = pooled(hospitals())
    day, event, group = grouped(table, feature)
    theirs = multivariate_logrank_test(day, group, event)
    mine = log_rank_of(state)
    assert mine.statistic == pytest.approx(theirs.test_statistic, abs=1e-9)
    assert mine.p == pytest.approx(theirs.p_value, abs=1e-9)
    assert state["unknown"] == len(table) - len(day) > 0
    curves = curves_of(state, algorithm, SCHEMA)
    assert list(curves) == group_names(SCHEMA, feature)
    for code, curve in enumerate(curves.values()):
        km = KaplanMeierFitter().fit(day[group == code], event[group == code])
        expected = km.survival_function_at_times(np.round(curve.times * YEAR))
        np.testing.assert_allclose(curve.survival, expected, atol=1e-12)


def test_log_rank_stratified_by_center() -> None:
    survdiff = pytest.importorskip("statsmodels.duration.survfunc").survdiff
    state = run(FitCurves.of(SCHEMA, "mutated", strata="center"), federation_of())
    table, hospital = pooled(hospitals())
    known = ~np.isnan(table.column("mutated"))
    day, event, group = grouped(table, "mutated")
    statistic, p = survdiff(day, event.astype(int), group, strata=hospital[known])
    mine = log_rank_of(state)
    assert mine.statistic == pytest.approx(statistic, abs=1e-9)
    assert mine.p == pytest.approx(p, abs=1e-9)
    assert abs(mine.statistic - log_rank_of(run(FitCurves.of(SCHEMA, "mutated"), federation_of())).statistic) > 1e-3


def test_ranges_of_a_number_are_groups() -> None:
    algorithm = FitCurves.of(SCHEMA, "age", edges=(55.0, 65.0), resolution=30, horizon=3652)
    curves = curves_of(run(algorithm, federation_of()), algorithm, SCHEMA)
    assert list(curves) == ["age<=55", "55<age<=65", "age>65"]
    age = pooled(hospitals())[0].column("age")
    assert [c.at_risk[0] for c in curves.values()] == [
        (age <= 55).sum(),
        ((age > 55) & (age <= 65)).sum(),
        (age > 65).sum(),
    ]


def test_groups_need_a_sensible_declaration() -> None:
    for feature, edges in (("age", ()), ("grade", (1.0,))):
        with pytest.raises(ValueError, match="edges are for numbers"):
            FitCurves.of(SCHEMA, feature, edges)
    with pytest.raises(ValueError, match="must increase"):
        FitCurves.of(SCHEMA, "age", (65.0, 55.0))


def test_the_45_hospitals_together(data_dir: Path) -> None:
    dataset = load_dataset("aml_amlsg", data_dir)
    labels = np.asarray(dataset.center)
    names, sizes = np.unique(labels, return_counts=True)
    federation = federation_of({str(n): dataset.cohort[labels == n] for n in names})
    schema = dataset.cohort.schema
    algorithm = FitCurves.of(schema, "NPM1", horizon=25 * YEAR)
    state = run(algorithm, federation)
    day, event, group = grouped(dataset.cohort[np.isin(labels, names[sizes >= 3])], "NPM1")
    theirs = multivariate_logrank_test(day, group, event)
    assert log_rank_of(state).statistic == pytest.approx(theirs.test_statistic, abs=1e-8)
    curve = curves_of(state, algorithm, schema)["NPM1=1"]
    km = KaplanMeierFitter().fit(day[group == 1], event[group == 1])
    np.testing.assert_allclose(curve.survival, km.survival_function_at_times(np.round(curve.times * YEAR)), atol=1e-12)
    assert curve.median() * YEAR == pytest.approx(km.median_survival_time_)
