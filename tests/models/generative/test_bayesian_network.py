"""Patients drawn from a network are distributed as the real ones: values, missing values, times, censoring."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter

from harmonization import Cohort
from models.generative import BayesianNetwork, FittedNetwork, SearchOptions
from tests.models.generative.tables import SCHEMA, patients


@cache
def real() -> Cohort:
    return patients(1500, seed=3)


@cache
def network() -> FittedNetwork:
    return BayesianNetwork(SearchOptions(required=(("grade", "event_time"),)), law=None).fit(real()).fitted_


@cache
def drawn() -> Cohort:
    return network().sample(6000, seed=1)


def test_what_is_drawn_is_a_cohort_of_the_same_schema() -> None:
    again = Cohort.from_frame(drawn().to_frame(), SCHEMA)
    np.testing.assert_array_equal(again.values, drawn().values)
    np.testing.assert_array_equal(network().sample(50, seed=2).values, network().sample(50, seed=2).values)
    assert (network().sample(50, seed=2).values != network().sample(50, seed=3).values).any()
    assert (np.round(drawn().column("age")) == drawn().column("age")).all()  # as whole years, as in the table


@settings(max_examples=30, deadline=None, phases=[Phase.generate])
@given(data=st.data())
def test_any_cohort_can_be_learned_and_what_is_drawn_is_valid(data: st.DataObject, cohorts: Any) -> None:
    """Features of every kind, all missing or constant ones among them, few patients, no event."""
    cohort = data.draw(cohorts)
    found = BayesianNetwork(SearchOptions(bins=3, time_bins=3), law=None).fit(cohort).sample(15, seed=1)
    again = Cohort.from_frame(found.to_frame(), cohort.schema)
    np.testing.assert_array_equal(again.values, found.values)
    # Numbers that nobody has are not made up; of categories the prior gives each a chance.
    never = np.isnan(cohort.values).all(axis=0) & [feature.numeric for feature in cohort.schema.features]
    assert np.isnan(found.values[:, never]).all()
    assert not np.isnan(found.values[:, ~np.isnan(cohort.values).any(axis=0)]).any()
    assert found.event.any() <= cohort.event.any()


def test_values_and_missing_values_come_at_their_rates() -> None:
    for name in SCHEMA.names:
        a, b = real().column(name), drawn().column(name)
        assert np.isnan(b).mean() == pytest.approx(np.isnan(a).mean(), abs=0.025)
        for level in np.nanquantile(a, [0.1, 0.3, 0.5, 0.7, 0.9]):
            assert (b[~np.isnan(b)] <= level).mean() == pytest.approx((a[~np.isnan(a)] <= level).mean(), abs=0.035)


def test_dependence_is_kept() -> None:
    for cohort in (real(), drawn()):
        many, grade = cohort.column("blasts") > 10, cohort.column("grade")
        assert np.isnan(cohort.column("wbc"))[many].mean() > 0.33
        assert np.isnan(cohort.column("wbc"))[~many].mean() < 0.15
        assert cohort.column("mutated")[grade == 2].mean() > 0.9
        assert cohort.column("mutated")[grade == 0].mean() < 0.1


@pytest.mark.parametrize("grade", [0, 2])
def test_events_and_censoring_come_when_they_do(grade: int) -> None:
    times = np.array([0.25, 0.5, 1, 2, 3, 4])
    curves = []
    for cohort in (real(), drawn()):
        chosen = cohort[cohort.column("grade") == grade]
        fits = [KaplanMeierFitter().fit(chosen.time, e) for e in (chosen.event, ~chosen.event)]
        curves.append([fit.predict(times).to_numpy() for fit in fits])
    np.testing.assert_allclose(curves[1][0], curves[0][0], atol=0.07)
    np.testing.assert_allclose(curves[1][1], curves[0][1], atol=0.08)
    assert drawn().event.mean() == pytest.approx(real().event.mean(), abs=0.03)


def test_conditions_are_met_and_the_rest_follows() -> None:
    exact = network().sample(3000, seed=5, conditions={"grade": "high", "age": 71})
    assert (exact.column("grade") == 2).all()
    assert (exact.column("age") == 71).all()
    # Against patients drawn without conditions, of whom those in the same bin of age are kept.
    free = network().sample(60_000, seed=6)
    state = network().discretizer.encode(free)[:, 0] == network().discretizer.encode(exact)[0, 0]
    kept = free[state & (free.column("grade") == 2)]
    assert len(kept) > 1000
    assert exact.column("mutated").mean() == pytest.approx(kept.column("mutated").mean(), abs=0.03)
    assert np.isnan(exact.column("wbc")).mean() == pytest.approx(np.isnan(kept.column("wbc")).mean(), abs=0.04)
    assert np.median(exact.time) == pytest.approx(np.median(kept.time), rel=0.15)


def test_hardly_anybody_is_met_again() -> None:
    """With five features a real patient's values come up now and then by chance, as whole numbers do."""
    rows = {tuple(row) for row in real().values[~np.isnan(real().values).any(axis=1)]}
    assert sum(tuple(row) in rows for row in drawn().values) < 0.02 * len(drawn())
