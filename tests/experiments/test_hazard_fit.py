"""Hazards by interval as an experiment fits them: over hospitals what it fits to their pooled patients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored

from experiments.config import Config, parse_config
from experiments.fitting import Fit, fit_model
from experiments.served_model import SurvivalModel
from experiments.settings import ConfigError
from federation.algorithm import Algorithm, run
from federation.state import State
from harmonization import Cohort
from tests.federation.hospitals import SCHEMA, federation_of, hospitals, pooled

NAMES = ("discrete_hazard", "piecewise_hazard")
TIMES = np.array([0.0, 0.5, 1.0, 3.0, 8.0])


def config(name: str, **changes: object) -> Config:
    return parse_config(
        {
            "dataset": {"name": "whas500"},
            "model": {"name": name, "parameters": {"intervals": 5}},
            "training": {"steps": 1, "learning_rate": 1.0},
            "ridge": 1.0,
            "rounds": 25,
            **changes,
        }
    )


def fit(cohorts: Mapping[str, Cohort], settings: Config) -> Fit:
    def run_task(step: str, algorithm: Algorithm) -> State:
        return run(algorithm, federation_of(cohorts, task=step))

    return fit_model(settings, settings.strategies[0], SCHEMA, run_task)


@pytest.mark.parametrize("name", NAMES)
def test_over_hospitals_it_is_the_fit_to_pooled_patients(name: str, tmp_path: Path) -> None:
    settings, everybody = config(name), pooled(hospitals())[0]
    federated, central = fit(hospitals(), settings), fit({"all": everybody}, settings)
    assert federated.baseline is None
    assert federated.parameters["cuts"] == central.parameters["cuts"]
    np.testing.assert_allclose(federated.weights, central.weights, atol=1e-5)
    survival = federated.survival(settings, everybody, TIMES)
    np.testing.assert_allclose(survival, central.survival(settings, everybody, TIMES), atol=1e-5)
    assert (survival[:, 0] == 1).all()
    risk = federated.risk(settings, everybody)
    assert concordance_index_censored(everybody.event, everybody.time, risk)[0] > 0.65
    federated.save(tmp_path / "fit.safetensors")
    again = Fit.load(tmp_path / "fit.safetensors")
    np.testing.assert_array_equal(again.survival(settings, everybody, TIMES), survival)


def test_stratified_partial_likelihoods_are_not_the_pooled_one() -> None:
    settings = config("cox", model={"name": "cox"})
    federated, central = fit(hospitals(), settings), fit({"all": pooled(hospitals())[0]}, settings)
    assert np.abs(federated.weights - central.weights).max() > 1e-3


def test_the_served_model_has_survival_of_its_own(tmp_path: Path) -> None:
    settings, everybody = config("piecewise_hazard"), pooled(hospitals())[0]
    found = fit(hospitals(), settings)
    found.save(tmp_path / "fit.safetensors")
    card = {"model": {"name": "piecewise_hazard"}, "horizons": [1.0, 3.0], "schema": SCHEMA.to_dict()}
    (tmp_path / "card.json").write_text(json.dumps(card))
    served = SurvivalModel.of(tmp_path / "card.json", tmp_path / "fit.safetensors")
    predicted = served.predict(None, everybody.to_frame()[list(SCHEMA.names)])
    assert list(predicted.columns) == ["risk", "survival_1y", "survival_3y"]
    np.testing.assert_allclose(predicted["risk"], found.risk(settings, everybody))
    survival = found.survival(settings, everybody, np.array([1.0, 3.0]))
    np.testing.assert_allclose(predicted[["survival_1y", "survival_3y"]], survival)


def test_missing_values_are_kept_only_for_networks_that_take_them() -> None:
    with pytest.raises(ConfigError, match=r"model 'cox' takes no missing values; set preprocessing\.missing to impute"):
        config("cox", model={"name": "cox"}, preprocessing={"missing": "keep"})
    assert config("savae", model={"name": "savae"}, preprocessing={"missing": "keep"}).preprocessing.missing == "keep"
