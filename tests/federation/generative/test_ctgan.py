"""CTGAN over centers: with one center it is CTGAN on that table, and the average is that of the centers' weights."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from federation import Algorithm, DisclosurePolicy, State, run
from federation.algorithm import Roster, build
from federation.generative.ctgan import FitCTGAN, fit_ctgan
from federation.randomness import generator
from harmonization import Cohort
from models.generative.ctgan import CTGANModel
from models.generative.variational_mixture import fit_mixture
from tests.federation.generative.test_bayesian_network import dealt
from tests.federation.hospitals import federation_of
from tests.models.generative.tables import SCHEMA, patients
from tests.models.generative.test_ctgan import LAW, MIXTURES, NUMERIC, TINY

pytest.importorskip("ctgan")

EVERYBODY = DisclosurePolicy(min_patients=0)


def algorithm(cohort: Cohort, **changes: object) -> FitCTGAN:
    mixture = fit_mixture(cohort.values[:, NUMERIC, None], MIXTURES)
    return FitCTGAN(replace(TINY, **changes), SCHEMA, mixture)  # type: ignore[arg-type]


def test_one_center_is_one_table_bit_for_bit() -> None:
    cohort = patients(120, seed=1)

    def run_task(name: str, task: Algorithm) -> State:
        return run(task, federation_of({"only": cohort}, task=name, seed=5))

    mine = fit_ctgan(run_task, SCHEMA, TINY, LAW)
    stream = CTGANModel(TINY, LAW).fit(cohort, 5, lambda r: generator(5, "ctgan", "ctgan", r, "only"))
    pooled = stream.fitted_
    assert mine.state.keys() - {"round"} == pooled.state.keys()
    for key in ("weights", "counts", "kept", "decimals"):
        np.testing.assert_array_equal(mine.state[key], pooled.state[key], err_msg=key, strict=True)
    np.testing.assert_allclose(mine.state["losses"], pooled.state["losses"], rtol=1e-12)
    np.testing.assert_array_equal(mine.sample(20, 1).values, pooled.sample(20, 1).values)


@pytest.mark.parametrize("weighting", ["patients", "similarity"])
def test_the_average_is_that_of_the_centers_weights(weighting: str) -> None:
    whole = patients(150, seed=2)
    cohorts = {"a": whole[:100], "b": whole[100:]}
    fit = algorithm(whole, weighting=weighting, rounds=1)
    before = fit.start(Roster(("a", "b"), 3))
    federation = federation_of(cohorts, seed=3)
    before = fit.server_update(before, federation.ask(fit, before))
    both = federation.ask(fit, before)
    state = fit.server_update(before, both)
    trained, weights, updates = [], [], []
    for name, cohort in cohorts.items():
        answer = fit.training.answer(before, cohort, generator(3, "ctgan", "run", 1, name))
        weights.append(float(answer["weight"]))
        updates.append(answer["update"])
        trained.append(before["weights"].astype(float) + answer["update"] / answer["weight"])
    assert both["weight"] == pytest.approx(sum(weights))
    if weighting == "patients":
        assert weights == [100, 50]
    exact = before["weights"].astype(float) + (updates[0] + updates[1]) / (weights[0] + weights[1])
    np.testing.assert_array_equal(state["weights"], exact.astype(np.float32))
    expected = np.average(trained, axis=0, weights=weights)
    np.testing.assert_allclose(state["weights"], expected, atol=1e-7)
    assert np.abs(trained[0] - trained[1]).max() > 1e-4
    assert np.abs(state["weights"] - before["weights"]).max() > 1e-4


def test_many_centers_of_any_size() -> None:
    """Small ones are counted and do not train; a question asked again has the same answer."""
    whole = patients(200, seed=3)
    cohorts = dealt(whole, 8)
    fit = algorithm(whole)
    states = [run(fit, federation_of(cohorts, policy=EVERYBODY, seed=1)) for _ in range(2)]
    np.testing.assert_array_equal(states[0]["weights"], states[1]["weights"])
    assert np.isfinite(states[0]["losses"]).all()
    assert len(states[0]["losses"]) == TINY.rounds
    sizes = [len(c) for c in cohorts.values()]
    assert min(sizes) < TINY.least < max(sizes)
    assert fit.metrics(states[0]).keys() == {"generator_loss", "discriminator_loss"}
    per_feature = np.add.reduceat(states[0]["counts"], fit.training.encoding(states[0]).starts)
    np.testing.assert_array_equal(per_feature, 200)
    with pytest.raises(ValueError, match="no center has the 300 training patients"):
        run(algorithm(whole, least=300), federation_of(cohorts, policy=EVERYBODY))


def test_a_center_builds_it_from_its_declaration() -> None:
    fit = algorithm(patients(60, seed=4), weighting="similarity")
    built = build(fit.declare())
    assert isinstance(built, FitCTGAN)
    assert built.options == fit.options
    assert built.schema is None
    assert "schema" not in json.loads(fit.declare())["parameters"]
