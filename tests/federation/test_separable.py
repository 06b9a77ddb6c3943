"""Hazards by interval are sums over patients: what centers make of them together is what pooled patients give."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from federation.algorithm import run
from federation.averaging import ParameterAveraging, validation_metrics
from federation.preprocessing import FitTimeGrid, time_scale_of
from federation.splits import VALIDATION, Split
from federation.strategies import STRATEGIES, Strategy, build_strategy
from models.survival.concordance import concordance_counts
from models.survival.network import SurvivalNetwork, build_network, network_class
from models.training import TrainingOptions, mean_loss, predict, train
from tests.federation.hospitals import SCHEMA, averaging, design, federation_of, hospitals, pooled, preprocessor, states
from tests.models.test_hazards import Table, regression

NAMES = ("discrete_hazard", "piecewise_hazard")
LAYERS: dict[str, dict[str, Any]] = {
    "linear": {"intervals": 4},
    "perceptron": {"intervals": 4, "hidden": [4], "activation": "tanh", "time_varying": True},
}


@cache
def declared(name: str, layers: str = "linear") -> dict[str, Any]:
    """Complete with the hospitals' cut points, asked in one round."""
    state = run(FitTimeGrid(horizon=12.0, cells=240, points=8), federation_of())
    times = time_scale_of(state, horizon=5.0)
    return network_class(name).declare(LAYERS[layers], preprocessor().design(SCHEMA), times)


def algorithm(
    name: str, layers: str = "linear", strategy: Strategy | None = None, **changes: Any
) -> ParameterAveraging:
    return averaging(strategy, model=name, model_parameters=declared(name, layers), **changes)


def network_of(algorithm: ParameterAveraging) -> SurvivalNetwork:
    return build_network(algorithm.model, preprocessor().n_features, algorithm.model_parameters)


def test_cut_points_are_those_of_the_pooled_patients() -> None:
    table, _ = pooled(hospitals())
    cuts = declared("discrete_hazard")["cuts"]
    assert len(cuts) == 4
    assert cuts[-1] == 12.0
    seen = table.time[table.event & (table.time <= 12.0)]
    parts = np.histogram(seen, [0.0, *cuts])[0] / len(seen)
    np.testing.assert_allclose(parts, 0.25, atol=0.03)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("name", NAMES)
def test_one_local_step_is_one_step_on_the_pooled_patients(name: str, layers: str) -> None:
    # Not so for a partial likelihood, of which a risk set never spans two hospitals.
    options = TrainingOptions(steps=1, learning_rate=0.3, weight_decay=0.1)
    found = algorithm(name, layers, training=options, rounds=4)
    data, network = design(pooled(hospitals())[0]), network_of(found)
    for before, after in pairwise(states(found, federation_of())[:5]):
        expected, _ = train(network, before["weights"], data, options, np.random.default_rng(0))
        np.testing.assert_allclose(after["weights"], expected, atol=1e-6)
        assert np.abs(after["weights"] - before["weights"]).max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_it_comes_to_rest_at_statsmodels_regression_on_the_pooled_patients(name: str) -> None:
    # The likelihood is concave: where a round does not move, it has its maximum.
    found = algorithm(name, training=TrainingOptions(steps=1, learning_rate=1.0), rounds=1)
    federation, data = federation_of(), design(pooled(hospitals())[0])
    table = Table(data.x, data.time, data.event, None)
    coefficients, levels = regression(table, np.array(found.model_parameters["cuts"]), name, time_varying=False)
    start = found.start(federation.roster)
    best = {**start, "weights": np.concatenate([levels, coefficients]).astype(np.float32)}
    moved = []
    for state in (start, best):
        after = found.server_update(state, federation.ask(found, state))
        moved.append(np.abs(after["weights"] - state["weights"]).max())
    assert moved[0] > 1e-2
    assert moved[1] < 2e-6


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_trains_them(name: str, strategy: str) -> None:
    options = TrainingOptions(steps=3, learning_rate=0.1)
    found = algorithm(name, "perceptron", build_strategy(strategy, {}), training=options, rounds=8)
    first, *_, last = states(found, federation_of())
    data, network = design(pooled(hospitals())[0]), network_of(found)
    assert mean_loss(network, last["weights"], data) < mean_loss(network, first["weights"], data)


@pytest.mark.parametrize("name", NAMES)
def test_validation_ranks_by_restricted_mean_survival(name: str) -> None:
    split = Split(n_folds=5, validation=0.3)
    found = algorithm(name, rounds=2)
    seen = states(found, federation_of(split=split))
    network, weights = network_of(found), seen[1]["weights"]
    pairs, losses, n = np.zeros(2), 0.0, 0
    for hospital, cohort in hospitals().items():
        rows = split.parts(cohort.ids, cohort.event, hospital) == VALIDATION
        if rows.any():
            data = design(cohort[rows])
            pairs += concordance_counts(data.time, data.event, predict(network, weights, data.x))
            losses, n = losses + len(data) * mean_loss(network, weights, data), n + len(data)
    metrics = validation_metrics(seen[-1]["history"][1])
    assert metrics["concordance"] == pytest.approx(pairs[0] / pairs[1])
    assert metrics["loss"] == pytest.approx(losses / n, rel=1e-5)
