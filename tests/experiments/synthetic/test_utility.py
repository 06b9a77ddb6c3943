"""Utility against lifelines and closed forms, and what real, and useless, patients in place of synthetic ones give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.statistics import logrank_test
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored
from sksurv.util import Surv

from experiments.synthetic import subgroups
from experiments.synthetic.subgroups import agreement, clusters, subgroup_accuracy, subgroup_feature
from experiments.synthetic.survival_utility import (
    RIDGE,
    HazardRatios,
    compared_curves,
    trained_concordance,
    trained_cox,
)
from experiments.synthetic.utility import RealModels, utility
from harmonization import Cohort
from models.preprocessing import PreprocessingOptions, Preprocessor, feature_sums

Draw = Callable[[int, int], Cohort]


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subgroups, "TREES", 30)
    monkeypatch.setattr(subgroups, "SWEEPS", 120)


def scrambled(cohort: Cohort, seed: int) -> Cohort:
    """Every column shuffled on its own; time and event together."""
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(len(cohort)), (cohort.values.shape[1], 1)), axis=1).T
    k = rng.permutation(len(cohort))
    values = np.take_along_axis(cohort.values, order, axis=0)
    return replace(cohort, values=values, time=cohort.time[k], event=cohort.event[k])


def test_patients_of_one_law_are_as_good_as_the_real_ones_and_scrambled_ones_useless(draw_patients: Draw) -> None:
    train, heldout = draw_patients(300, 1), draw_patients(200, 2)
    real = RealModels.fit(train, heldout, seed=0)
    good = utility(train, heldout, draw_patients(300, 3), 0, real)
    bad = utility(train, heldout, scrambled(train, 4), 0, real)
    assert list(good) == [
        "tstr_c",
        "trtr_c",
        "tstr_deepsurv_c",
        "trtr_deepsurv_c",
        "subgroup_accuracy",
        "subgroup_accuracy_real",
        "km_distance",
        "logrank_p",
        "hazard_ratio_coverage",
        "hazard_ratio_overlap",
        "cluster_ari",
        "cluster_ari_real",
    ]
    assert good["trtr_c"] > 0.65
    assert abs(good["tstr_c"] - good["trtr_c"]) < 0.03
    assert abs(good["tstr_deepsurv_c"] - good["trtr_deepsurv_c"]) < 0.05
    assert bad["tstr_c"] < good["tstr_c"] - 0.05
    assert abs(good["subgroup_accuracy"] - good["subgroup_accuracy_real"]) < 0.06
    assert bad["subgroup_accuracy"] < 0.65 < good["subgroup_accuracy"]
    assert good["hazard_ratio_overlap"] > bad["hazard_ratio_overlap"]
    assert good["cluster_ari"] > 0.5 > bad["cluster_ari"]
    assert good["cluster_ari_real"] > 0.7
    assert good["km_distance"] < 0.06


def test_training_patients_as_synthetic_ones_give_the_real_results(draw_patients: Draw) -> None:
    train, heldout = draw_patients(150, 1), draw_patients(100, 2)
    found = utility(train, heldout, train, seed=5)
    assert found["tstr_c"] == found["trtr_c"]
    assert found["tstr_deepsurv_c"] == found["trtr_deepsurv_c"]
    assert found["subgroup_accuracy"] == found["subgroup_accuracy_real"]
    assert (found["hazard_ratio_coverage"], found["cluster_ari"]) == (1, 1)
    assert found["hazard_ratio_overlap"] == pytest.approx(1)
    assert utility(train, heldout, train, seed=5) == found


def test_generated_patients_without_an_event_or_a_feature_give_no_model(draw_patients: Draw) -> None:
    train, heldout = draw_patients(80, 1), draw_patients(60, 2)
    no_events = replace(train, event=np.zeros(80, dtype=bool))
    nothing = replace(train, values=np.full_like(train.values, np.nan))
    for synthetic in (no_events, nothing):
        assert np.isnan(trained_concordance(synthetic, heldout, 0)).all()
    found = HazardRatios.fit(train)
    assert found is not None
    assert np.isnan(found.recovered(no_events)["hazard_ratio_coverage"])
    assert HazardRatios.fit(no_events) is None
    assert HazardRatios.fit(nothing) is None
    assert clusters(nothing, heldout, np.ones(6, dtype=bool), 0) is None
    assert np.isnan(agreement(None, np.zeros(3, dtype=int)))


# Curves --------------------------------------------------------------------------------------------------------------


def test_curves_are_lifelines(draw_patients: Draw) -> None:
    real, synthetic = draw_patients(80, 1), draw_patients(150, 2)
    synthetic = replace(synthetic, time=synthetic.time * 0.6)
    found = compared_curves(real, synthetic)
    expected = logrank_test(real.time, synthetic.time, real.event, synthetic.event)
    assert found["logrank_p"] == pytest.approx(expected.p_value, rel=1e-9)
    horizon = np.sort(real.time)[int(0.9 * 79)]
    at = np.linspace(0, horizon, 20001)[:-1] + horizon / 40000
    curves = [
        KaplanMeierFitter().fit(c.time, c.event).survival_function_at_times(at).to_numpy() for c in (real, synthetic)
    ]
    assert found["km_distance"] == pytest.approx(np.abs(curves[0] - curves[1]).mean(), abs=1e-4)


def test_curves_that_never_meet_are_at_distance_one(draw_patients: Draw) -> None:
    real = draw_patients(50, 1)
    alive = replace(real, time=np.full(50, 5.0), event=np.zeros(50, dtype=bool))
    dead = replace(real, time=np.zeros(50), event=np.ones(50, dtype=bool))
    assert compared_curves(alive, dead)["km_distance"] == pytest.approx(1)
    assert compared_curves(alive, alive)["km_distance"] == 0


# Hazard ratios -------------------------------------------------------------------------------------------------------


def test_hazard_ratios_are_lifelines(draw_patients: Draw) -> None:
    cohort = draw_patients(200, 1)
    found = HazardRatios.fit(cohort)
    assert found is not None
    x = found.preprocessor.transform(cohort)

    frame = pd.DataFrame(x).assign(time=cohort.time, event=cohort.event)
    n = len(cohort)
    fitter = CoxPHFitter(penalizer=1 / n).fit(frame, "time", "event")  # the same prior: its penalty is per patient
    np.testing.assert_allclose(found.coefficients, fitter.params_.to_numpy(), atol=1e-3)
    low, high = found.interval()
    np.testing.assert_allclose(high - low, 2 * 1.959964 * found.errors)
    np.testing.assert_allclose(found.errors, fitter.standard_errors_.to_numpy(), rtol=0.02)


def test_overlap_of_intervals_in_closed_form(draw_patients: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = draw_patients(50, 1)
    preprocessor = Preprocessor.fit(feature_sums(cohort), cohort.schema, PreprocessingOptions(missing="impute"))
    z = 1.959963984540054
    real = HazardRatios(preprocessor, np.array([0.0, 0.0, 0.0]), np.ones(3) / z)  # [-1, 1]
    other = HazardRatios(preprocessor, np.array([0.0, 0.5, 9.0]), np.array([2.0, 1.0, 1.0]) / z)
    monkeypatch.setattr(HazardRatios, "fit", classmethod(lambda cls, cohort, preprocessor=None: other))
    found = real.recovered(cohort)
    assert found["hazard_ratio_coverage"] == pytest.approx(2 / 3)
    # [-2, 2]: all of the real one, half of the other; [-.5, 1.5]: three quarters of both; [8, 10]: none.
    assert found["hazard_ratio_overlap"] == pytest.approx(((1 + 0.5) / 2 + 0.75 + 0) / 3)


# Models and subgroups ------------------------------------------------------------------------------------------------


def test_concordance_is_harrells(draw_patients: Draw) -> None:
    train, heldout = draw_patients(120, 1), draw_patients(90, 2)
    found, _ = trained_concordance(train, heldout, 0)
    cox = trained_cox(train)
    assert cox is not None
    preprocessor, coefficients = cox
    x, outcome = preprocessor.transform(train), Surv.from_arrays(train.event, train.time)
    model = CoxPHSurvivalAnalysis(alpha=RIDGE * len(train), ties="efron").fit(x, outcome)
    np.testing.assert_allclose(coefficients, model.coef_, atol=1e-5)
    risk = model.predict(preprocessor.transform(heldout))
    assert found == pytest.approx(concordance_index_censored(heldout.event, heldout.time, risk)[0])


def test_the_subgroup_is_the_lesion_nearest_to_half_that_is_known(draw_patients: Draw) -> None:
    train = draw_patients(200, 1)
    rates = np.abs(train.values[:, 5:].mean(axis=0) - 0.5)
    known = ~np.isnan(train.values[:, 5:]).any(axis=0)
    expected = train.schema.names[5:][np.nanargmin(np.where(known, rates, np.nan))]
    assert subgroup_feature(train) == expected
    train.values[:50, train.schema.index(expected)] = np.nan
    assert subgroup_feature(train) != expected
    assert subgroup_feature(train.select(["clinical"])) == "male"
    constant = train.select(["clinical"])
    constant.values[:, 3] = 1.0
    assert subgroup_feature(constant) is None


def test_a_subgroup_that_is_never_generated_is_found_by_chance_only(draw_patients: Draw) -> None:
    train, heldout = draw_patients(100, 1), draw_patients(80, 2)
    j = train.schema.index("NPM1")
    train.values[:, j] = 0.0
    assert subgroup_accuracy(train, heldout, "NPM1", 0) == 0.5
    train.values[:, j] = np.nan
    assert np.isnan(subgroup_accuracy(train, heldout, "NPM1", 0))


def test_agreement_is_among_patients_with_a_lesion() -> None:
    a, b = np.array([0, 0, 1, 1, -1]), np.array([5, 5, 2, 2, 3])
    assert agreement(a, b) == 1
    assert agreement(a, np.array([0, 1, 0, 1, -1])) < 0.1
