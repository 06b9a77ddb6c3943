"""Gradient inversion is exact where it must be, and knows nothing but the mean where it must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from experiments.attacks.inversion import Seen, _cox, measure, pieces, reconstruct, summarize
from models.flat import bind, get_weights
from models.survival.likelihood import RiskSets, log_partial_likelihood
from models.survival.network import SurvivalNetwork, build_network


def gradient(network: SurvivalNetwork, x: Any, time: Any, event: Any, noise: Any = None) -> Seen:
    """What a coordinator sees of one full-batch step."""
    weights = get_weights(network).astype(np.float64)
    network = network.to(torch.float64).train()
    _, slope = bind(network, weights)
    data = torch.as_tensor(x)
    output = network(data) if noise is None else network(data, torch.as_tensor(noise), 1.0)
    network.loss(output, network.prepare(time, event)).backward()  # type: ignore[no-untyped-call]
    return Seen(weights, slope.numpy().copy(), noise, 1.0)


def test_the_likelihood_written_anew_is_the_models_own() -> None:
    rng = np.random.default_rng(0)
    risk = torch.as_tensor(rng.normal(size=30))
    time, event = rng.integers(1, 8, 30).astype(float), rng.random(30) < 0.6
    own = -log_partial_likelihood(risk, RiskSets.of(time, event, ties="efron")) / 30
    torch.testing.assert_close(_cox(risk, time, event), own)


def test_two_patients_follow_from_their_sum_and_a_linear_gradient() -> None:
    """With weights of 0; where the risks differ, two differences between patients can have the same gradient."""
    rng = np.random.default_rng(0)
    x, time, event = rng.normal(size=(2, 9)), np.array([1.0, 2.0]), np.array([True, False])
    network = build_network("cox", 9)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    seen = gradient(network, x, time, event)
    mean = np.tile(x.mean(axis=0), (2, 1))
    found = reconstruct(build_network("cox", 9), [seen], time, event, np.zeros(2, dtype=int), mean, np.ones(9))
    np.testing.assert_allclose(found, x, atol=1e-5)


def test_one_patient_follows_from_a_gradient_of_savae() -> None:
    network = build_network("savae", 6, {"hidden": 8, "latent": 2})
    network.initialize(np.random.default_rng(1))
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(1, 6)), rng.normal(size=(1, 2))
    seen = gradient(network, x, np.array([1.5]), np.array([True]), noise)
    again = build_network("savae", 6, {"hidden": 8, "latent": 2})
    start = np.zeros((1, 6))
    found = reconstruct(
        again, [seen], np.array([1.5]), np.array([True]), np.zeros(1, dtype=int), start, np.ones(6), 200
    )
    np.testing.assert_allclose(found, x, atol=1e-3)


def test_secure_aggregation_leaves_the_mean(attacked: Callable[..., Any]) -> None:
    config, study = attacked(inversion={"models": {"cox": {}}, "rounds": 1, "iterations": 8})
    bare = [row for k in range(4) for row in measure(config, study, f"cox/none/{k}")]
    masked = measure(config, study, "cox/secure aggregation/0")
    assert len(masked) == 7
    table = {row["name"]: row for row in summarize(config, study, bare + masked)["table"]}
    assert (
        table["cox, secure aggregation"]["error"]["mean"] > 0.93
    )  # outcomes, which are given, say something of features
    assert table["cox, secure aggregation"]["5 to 19"] > table["cox, none"]["5 to 19"] + 0.05
    assert table["cox, none"]["5 to 19"] < 0.9 < table["cox, none"]["20 to 49"] < 1
    assert table["cox, secure aggregation"]["exposed"] == 0


def test_noise_on_whole_updates_leaves_no_more_than_guessing(attacked: Callable[..., Any]) -> None:
    ranges = {"age": [20, 100], "blasts": [0, 40]}
    of_centers = {"epsilon": 8, "delta": 1e-3, "unit": "center", "ranges": ranges}
    section = {"rounds": 1, "iterations": 8, "privacy": [{"epsilon": 8, "ranges": ranges}, of_centers]}
    config, study = attacked(inversion={**section, "models": {"cox": {}}})
    defence = "differential privacy of centers"
    assert f"cox/{defence}/3" in pieces(config, study)
    assert "cox/differential privacy of patients/3" not in pieces(config, study)  # its loss is no sum over patients
    rows = [row for k in range(4) for row in measure(config, study, f"cox/{defence}/{k}")]
    (row,) = summarize(config, study, rows)["table"]
    assert row["name"] == f"cox, {defence}"
    assert row["patients"] == 280
    assert row["exposed"] == 0
    assert row["error"]["low"] > 0.95


def test_a_clipped_update_without_noise_still_gives_two_patients_away() -> None:
    """It is the noise that protects: a bound on the length leaves the direction."""
    rng = np.random.default_rng(0)
    x, time, event = rng.normal(size=(2, 9)), np.array([1.0, 2.0]), np.array([True, False])
    network = build_network("cox", 9)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    seen = gradient(network, x, time, event)
    clipped = replace(seen, gradient=seen.gradient * 0.1 / np.linalg.norm(seen.gradient))
    mean = np.tile(x.mean(axis=0), (2, 1))
    found = reconstruct(
        build_network("cox", 9), [clipped], time, event, np.zeros(2, dtype=int), mean, np.ones(9), direction=True
    )
    true, guess = x[0] - x[1], found[0] - found[1]
    assert true @ guess > 0.999 * np.linalg.norm(true) * np.linalg.norm(guess)
