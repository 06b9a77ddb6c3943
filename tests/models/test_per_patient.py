"""Clipped gradients: one patient changes the sum by no more than the bound, where the loss is a sum over patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.flat import bind, get_weights
from models.per_patient import NotSeparable, clipped_gradients, gradients
from models.steps import TrainingData
from models.survival.network import SurvivalNetwork, build_network

NETWORKS: dict[str, dict[str, Any]] = {
    "discrete_hazard": {"cuts": [0.3, 1.0, 3.0], "hidden": [3], "activation": "tanh"},
    "piecewise_hazard": {"cuts": [0.5, 2.0], "time_varying": True},
    "savae": {"hidden": 6, "latent": 2},
    "vae": {"hidden": [4], "latent": 2},
}


def made(name: str, n: int = 12, seed: int = 0) -> tuple[SurvivalNetwork, np.ndarray, TrainingData]:
    rng = np.random.default_rng(seed)
    network = build_network(name, 4, NETWORKS[name])
    network.initialize(rng)
    data = TrainingData(rng.normal(size=(n, 4)), rng.exponential(size=n), rng.random(n) < 0.6)
    return network, get_weights(network), data


def without(data: TrainingData, i: int) -> TrainingData:
    kept = np.arange(len(data)) != i
    return TrainingData(data.x[kept], data.time[kept], data.event[kept])


@pytest.mark.parametrize("name", NETWORKS)
def test_their_mean_is_the_gradient_of_the_loss(name: str) -> None:
    network, weights, data = made(name)
    noise = np.random.default_rng(1).normal(size=(len(data), network.noise)) if network.noise else None
    own = gradients(network, weights, data, noise, 0.4)
    flat, slope = bind(network, weights)
    x = torch.as_tensor(data.x, dtype=flat.dtype)
    output = network(x) if noise is None else network(x, torch.as_tensor(noise, dtype=flat.dtype), 0.4)
    network.loss(output, network.prepare(data.time, data.event)).backward()
    np.testing.assert_allclose(own.mean(axis=0), slope.numpy(), atol=2e-6)


@pytest.mark.parametrize("name", ["discrete_hazard", "piecewise_hazard"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), clip=st.floats(1e-3, 10), outlier=st.floats(0, 1e6))
def test_one_patient_changes_the_sum_by_no_more_than_the_bound(
    name: str, seed: int, clip: float, outlier: float
) -> None:
    network, weights, data = made(name, seed=seed)
    data.x[3] *= outlier
    rng = np.random.default_rng(0)
    everybody, others = (clipped_gradients(network, weights, d, clip, rng) for d in (data, without(data, 3)))
    assert np.linalg.norm(everybody - others) <= clip * (1 + 1e-5)  # float32 rounds the others by their company


def test_below_the_bound_it_is_the_sum_and_above_all_are_as_long_as_the_bound() -> None:
    network, weights, data = made("discrete_hazard")
    own, rng = gradients(network, weights, data).astype(float), np.random.default_rng(0)
    np.testing.assert_allclose(clipped_gradients(network, weights, data, 1e3, rng), own.sum(axis=0), rtol=1e-6)
    unit = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)  # of some it is zero
    np.testing.assert_allclose(clipped_gradients(network, weights, data, 1e-4, rng), 1e-4 * unit.sum(axis=0), rtol=1e-5)


def test_a_gradient_that_is_not_finite_counts_as_nothing() -> None:
    network, weights, data = made("discrete_hazard")
    data.x[2] = np.inf
    rng = np.random.default_rng(0)
    spoilt, clean = (clipped_gradients(network, weights, d, 1.0, rng) for d in (data, without(data, 2)))
    np.testing.assert_allclose(spoilt, clean, atol=1e-6)


def test_cox_is_refused_since_one_patient_is_in_many_terms() -> None:
    """The reason is not a formality: leaving out one patient moves the gradient by far more than its own term would."""
    rng = np.random.default_rng(0)
    n = 200
    x, time = rng.normal(size=(n, 4)), rng.exponential(size=n)
    x[0], time[0] = 5.0, 100.0  # at risk at every event
    data = TrainingData(x, time, np.ones(n, dtype=bool))
    network = build_network("cox", 4)
    with pytest.raises(NotSeparable, match=r"risk set of every earlier event.*use 'discrete_hazard'"):
        clipped_gradients(network, np.zeros(4), data, 1.0, rng)

    def total(d: TrainingData) -> np.ndarray:
        _, slope = bind(network, np.zeros(4))
        loss = network.loss(network(torch.as_tensor(d.x, dtype=torch.float32)), network.prepare(d.time, d.event))
        (loss * len(d)).backward()
        return slope.numpy().copy()

    moved = np.linalg.norm(total(data) - total(without(data, 0)))
    assert moved > 4 * np.linalg.norm(x[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_what_says_it_is_separable_is_a_mean_of_single_losses(name: str) -> None:
    network, _, data = made(name)
    assert network.separable
    network.train()
    noise = torch.as_tensor(np.random.default_rng(1).normal(size=(len(data), network.noise)), dtype=torch.float32)
    x = torch.as_tensor(data.x, dtype=torch.float32)

    def loss(rows: np.ndarray) -> float:
        output = network(x[rows], noise[rows], 0.5) if network.noise else network(x[rows])
        return float(network.loss(output, network.prepare(data.time[rows], data.event[rows])).detach())

    single = [loss(np.array([i])) for i in range(len(data))]
    assert loss(np.arange(len(data))) == pytest.approx(np.mean(single), rel=1e-5)
