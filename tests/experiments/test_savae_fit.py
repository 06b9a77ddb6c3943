"""SAVAE as an experiment fits it: constants of the federation, missing values kept, survival of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored

from experiments.config import Config, parse_config
from experiments.fitting import Fit, fit_model
from experiments.settings import ConfigError
from federation.algorithm import Algorithm, run
from federation.splits import Split
from federation.state import State
from harmonization import Cohort
from models.survival.savae import SAVAENetwork
from tests.federation.hospitals import SCHEMA, federation_of, hospitals, pooled

SPLIT = Split(seed=1, validation=0.2)


def config(rounds: int = 12, **parameters: object) -> Config:
    return parse_config(
        {
            "dataset": {"name": "whas500"},
            "model": {"name": "savae", "parameters": {"latent": 3, "hidden": 12, "draws": 32, **parameters}},
            "training": {"epochs": 1, "batch_size": 16, "optimizer": "adam", "learning_rate": 0.01, "clip_norm": 5},
            "rounds": rounds,
        }
    )


def fit(cohorts: Mapping[str, Cohort], settings: Config) -> Fit:
    def run_task(step: str, algorithm: Algorithm) -> State:
        return run(algorithm, federation_of(cohorts, split=SPLIT, task=step))

    return fit_model(settings, settings.strategies[0], SCHEMA, run_task)


@cache
def federated() -> Fit:
    return fit(hospitals(), config())


def test_constants_are_the_federations() -> None:
    # Three hospitals, and one that has the training and validation patients of all of them.
    parts = {name: SPLIT.parts(c.ids, c.event, name) for name, c in hospitals().items()}
    everybody = Cohort.concatenate(list(hospitals().values()))

    def run_task(step: str, algorithm: Algorithm) -> State:
        drawn = {"all": np.concatenate(list(parts.values()))}
        return run(algorithm, federation_of({"all": everybody}, drawn, split=SPLIT, task=step))

    settings = config(rounds=1)
    alone = fit_model(settings, None, SCHEMA, run_task).parameters
    assert alone == federated().parameters
    assert [v["kind"] for v in alone["variables"]] == ["gaussian", "count", "bernoulli", "categorical"]
    assert 0.5 < alone["time_scale"] < 3
    assert alone["horizon"] == settings.evaluation.horizons[-1]


def test_it_learns_over_hospitals_and_predicts_without_a_baseline(tmp_path: Path) -> None:
    found, (everybody, _) = federated(), pooled(hospitals())
    assert found.baseline is None
    times = np.array([0.0, 0.5, 1.0, 3.0])
    survival = found.survival(config(), everybody, times)
    assert survival.shape == (len(everybody), 4)
    assert (survival[:, 0] == 1).all()
    assert (np.diff(survival, axis=1) <= 0).all()
    risk = found.risk(config(), everybody)
    assert concordance_index_censored(everybody.event, everybody.time, risk)[0] > 0.65
    found.save(tmp_path / "fit.safetensors")
    again = Fit.load(tmp_path / "fit.safetensors")
    np.testing.assert_array_equal(again.survival(config(), everybody, times), survival)


def test_missing_values_are_kept() -> None:
    everybody, _ = pooled(hospitals())
    x = federated().preprocessor.transform(everybody)
    assert np.isnan(x).any()
    assert x.shape[1] == len(SAVAENetwork(5).likelihoods.variables)  # no missingness indicators


def test_cut_points_follow_the_events_of_all() -> None:
    found = fit(hospitals(), config(rounds=1, head="piecewise", pieces=4))
    everybody, _ = pooled(hospitals(), SPLIT)
    expected = np.quantile(everybody.time[everybody.event], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(found.parameters["cuts"], expected, atol=0.15)


def test_a_wrong_parameter_is_named() -> None:
    with pytest.raises(ConfigError, match="'gompertz'"):
        config(head="gompertz")
