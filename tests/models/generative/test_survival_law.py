"""Times that two Cox models give: hazards, censoring and the effect of features are those of the real patients."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter

from harmonization import Cohort
from models.generative import BayesianNetwork, LawOptions, SurvivalLaw
from models.preprocessing import PreprocessingOptions
from tests.models.generative.tables import patients


@cache
def real() -> Cohort:
    return patients(1500, seed=5)


@cache
def law() -> SurvivalLaw:
    return SurvivalLaw.fit(real(), LawOptions(ridge=0.0))


def test_the_laws_are_cox_models_of_event_and_of_censoring() -> None:
    names = law().preprocessor.names(real().schema)
    import pandas as pd

    frame = pd.DataFrame(law().preprocessor.transform(real()), columns=names)
    for mine, happened in ((law().event, real().event), (law().censoring, ~real().event)):
        table = frame.assign(T=np.rint(real().time * 365.25), E=happened)
        expected = CoxPHFitter().fit(table, "T", "E").params_
        np.testing.assert_allclose(mine.coefficients, expected, atol=1e-5)


@pytest.mark.parametrize("grade", [0.0, 2.0])
def test_hazards_and_censoring_of_redrawn_patients_are_those_of_the_real(grade: float) -> None:
    rng, times, curves = np.random.default_rng(0), np.array([0.25, 0.5, 1, 2, 3, 4, 6]), []
    redrawn = [law().draw(real(), rng) for _ in range(3)]
    for cohort in (real(), Cohort.concatenate(redrawn)):
        chosen = cohort[cohort.column("grade") == grade]
        fits = [KaplanMeierFitter().fit(chosen.time, e) for e in (chosen.event, ~chosen.event)]
        curves.append(np.stack([fit.predict(times).to_numpy() for fit in fits]))
    np.testing.assert_allclose(curves[1][0], curves[0][0], atol=0.05)
    np.testing.assert_allclose(curves[1][1][:-1], curves[0][1][:-1], atol=0.07)
    for cohort in redrawn:
        np.testing.assert_array_equal(cohort.values, real().values)
        assert cohort.event.mean() == pytest.approx(real().event.mean(), abs=0.04)
        assert (cohort.time >= 0).all()
        assert cohort.time.max() <= real().time.max() + 1e-9


def test_what_generated_patients_teach_holds_for_real_ones() -> None:
    """Log hazard ratios found on synthetic patients are those found on real ones."""
    drawn = BayesianNetwork().fit(real()).sample(6000, seed=1)
    column = law().preprocessor.names(real().schema).index("grade=high")
    found = SurvivalLaw.fit(drawn, LawOptions(ridge=0.0)).event.coefficients[column]
    assert found == pytest.approx(law().event.coefficients[column], rel=0.25)
    assert found > 0.2


def test_nobody_censored_and_nobody_with_an_event() -> None:
    """A law without events gives times without end."""
    for event in (True, False):
        cohort = replace(real(), event=np.full(len(real()), event))
        drawn = SurvivalLaw.fit(cohort).draw(cohort, np.random.default_rng(1))
        assert (drawn.event == event).all()
        times = [KaplanMeierFitter().fit(c.time).predict([1.0, 2.0, 4.0]).to_numpy() for c in (drawn, cohort)]
        np.testing.assert_allclose(times[0], times[1], atol=0.05)
        assert drawn.time.max() <= cohort.time.max() + 1e-9
    with pytest.raises(ValueError, match="no patient's time lies within the horizon"):
        SurvivalLaw.fit(real(), LawOptions(resolution=0.001, horizon=0.001))


def test_options() -> None:
    with pytest.raises(ValueError, match="ridge is -1"):
        LawOptions(ridge=-1.0)
    assert LawOptions().preprocessing == PreprocessingOptions(missing="impute")
