"""Laws of times over centers are those of the pooled patients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from federation import Algorithm, DisclosurePolicy, State, run
from federation.generative import fit_survival_law
from harmonization import Cohort
from models.generative import LawOptions, SurvivalLaw
from tests.federation.generative.test_bayesian_network import dealt
from tests.federation.hospitals import federation_of
from tests.models.generative.tables import SCHEMA, patients


def fitted(cohorts: dict[str, Cohort], options: LawOptions) -> SurvivalLaw:
    names: list[str] = []

    def run_task(name: str, algorithm: Algorithm) -> State:
        names.append(name)
        return run(algorithm, federation_of(cohorts, policy=DisclosurePolicy(min_patients=0), task=name))

    law = fit_survival_law(run_task, SCHEMA, options)
    assert len(set(names)) == 3
    return law


def test_the_laws_are_the_pooled_ones() -> None:
    cohort, options = patients(300, seed=11), LawOptions(resolution=7.0, horizon=3652)
    mine, pooled = fitted(dealt(cohort, 5), options), SurvivalLaw.fit(cohort, options)
    for a, b in ((mine.event, pooled.event), (mine.censoring, pooled.censoring)):
        np.testing.assert_allclose(a.coefficients, b.coefficients, atol=1e-8)
        np.testing.assert_allclose(a.cumulative, b.cumulative, rtol=1e-8)
        np.testing.assert_array_equal(a.cells, b.cells)
    assert np.abs(mine.event.coefficients - mine.censoring.coefficients).max() > 0.1
    drawn = [law.draw(cohort, np.random.default_rng(1)) for law in (mine, pooled)]
    np.testing.assert_allclose(drawn[0].time, drawn[1].time)


def test_without_censoring_there_is_no_law_of_it() -> None:
    everybody = patients(60, seed=12)
    cohort = replace(everybody, event=np.ones(len(everybody), bool))
    with pytest.raises(ValueError, match="no patient has an event up to the horizon"):
        fitted({"only": cohort}, LawOptions(resolution=7.0, horizon=3652))
