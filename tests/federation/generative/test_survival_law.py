"""Laws of times over centers are those of the pooled patients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from federation import Algorithm, DisclosurePolicy, State, run
from federation.generative import (
    FitBayesianNetwork,
    fit_ctgan,
    fit_survival_law,
    fit_vae_bgm,
    network_of,
)
from harmonization import Cohort
from models.generative import (
    CTGANOptions,
    LawOptions,
    MixtureOptions,
    PatientGenerator,
    SearchOptions,
    SurvivalLaw,
    VAEBGMOptions,
)
from models.steps import TrainingOptions
from tests.federation.generative.test_bayesian_network import dealt
from tests.federation.hospitals import federation_of
from tests.models.generative.tables import SCHEMA, patients

MIXTURES = MixtureOptions(components=3, max_iter=10)


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


@pytest.mark.parametrize("model", ["bayesian_network", "vae_bgm", "ctgan"])
@pytest.mark.parametrize("died", [True, False])
def test_where_everybody_or_nobody_died_all_generators_draw_such_patients(model: str, died: bool) -> None:
    everybody, options = patients(90, seed=12), LawOptions(resolution=7.0, horizon=3652)
    cohorts = dealt(replace(everybody, event=np.full(len(everybody), died)), 3)

    def run_task(name: str, algorithm: Algorithm) -> State:
        return run(algorithm, federation_of(cohorts, policy=DisclosurePolicy(min_patients=0), task=name))

    if model == "ctgan":
        pytest.importorskip("ctgan")
        small = CTGANOptions(8, (16,), (16,), batch_size=40, steps=2, rounds=2, mixtures=MIXTURES)
        generator: PatientGenerator = fit_ctgan(run_task, SCHEMA, small, options)
    elif model == "vae_bgm":
        tiny = VAEBGMOptions({"latent": 2, "hidden": [8]}, TrainingOptions(steps=1), 1, MIXTURES, options)
        generator = fit_vae_bgm(run_task, SCHEMA, tiny)
    else:
        algorithm = FitBayesianNetwork(SCHEMA, SearchOptions(bins=3))
        generator = network_of(run_task("network", algorithm), algorithm, fit_survival_law(run_task, SCHEMA, options))
    drawn = generator.sample(200, seed=1)
    assert (drawn.event == died).all()
    assert drawn.time.max() <= everybody.time.max() + 7 / 365
    assert np.median(drawn.time) == pytest.approx(np.median(everybody.time), rel=0.3)
