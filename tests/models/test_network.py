"""Networks: built from declarations, without batch statistics, and the same as one flat vector of weights."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from models.flat import bind, get_weights, penalty_mask
from models.survival.likelihood import RiskSets, log_partial_likelihood
from models.survival.network import NETWORKS, CoxNetwork, build_network
from models.training import predict

DEEP = {"hidden": (5, 4), "activation": "tanh", "dropout": 0.5}


def deep(seed: int = 0) -> CoxNetwork:
    network = build_network("deepsurv", 3, DEEP)
    network.initialize(np.random.default_rng(seed))
    return network


# Built from a declaration ----------------------------------------------------------------------------


def test_linear_cox_has_one_weight_per_feature() -> None:
    network = build_network("cox", 3)
    bind(network, np.array([1.0, -2.0, 0.5]))
    assert network(torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 4.0]])).tolist() == [-0.5, 0.0]


def test_layers_are_as_declared() -> None:
    shapes = [tuple(p.shape) for p in build_network("deepsurv", 3, {"hidden": [5, 4]}).parameters()]
    assert shapes == [(5, 3), (5,), (4, 5), (4,), (1, 4)]
    kinds = [type(layer) for layer in deep().layers]
    assert kinds == [nn.Linear, nn.Tanh, nn.Dropout, nn.Linear, nn.Tanh, nn.Dropout, nn.Linear]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("coxnet", {}, "unknown model 'coxnet'; use one of cox, deepsurv"),
        ("deepsurv", {"widths": [3]}, "deepsurv.*widths"),
        ("deepsurv", {"activation": "swish"}, "activation is 'swish'; use one of relu"),
        ("deepsurv", {"ties": "exact"}, "ties is 'exact'; use one of breslow, efron"),
        ("deepsurv", {"hidden": 32}, "hidden is 32; it is a list"),
        ("deepsurv", {"hidden": "32"}, "hidden is '32'; it is a list"),
        ("deepsurv", {"hidden": [8, 0]}, r"hidden is \[8, 0\]; it is a list of positive widths"),
        ("deepsurv", {"dropout": 1.0}, "dropout is 1.0; it is a probability below 1"),
        ("deepsurv", {"dropout": -0.1}, "dropout is -0.1"),
        ("cox", {"hidden": [8]}, "'cox' is linear"),
    ],
)
def test_wrong_declarations_are_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(name, 3, parameters)


def test_declared_ties_are_those_of_the_likelihood() -> None:
    time, event, eta = np.array([1.0, 1.0, 2.0]), np.array([True, True, False]), torch.tensor([0.5, -1.0, 0.2])
    losses = set()
    for ties in ("breslow", "efron"):
        network = build_network("cox", 1, {"ties": ties})
        loss = network.loss(eta, network.prepare(time, event)).item()
        expected = -log_partial_likelihood(eta, RiskSets.of(time, event, ties=ties)).item() / 3
        assert loss == pytest.approx(expected, rel=1e-6)
        losses.add(loss)
    assert len(losses) == 2


# What must not be in it ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_everything_a_network_knows_is_in_its_weights(name: str) -> None:
    # Running statistics (BatchNorm's) would be local to a center and stay out of the average, or spoil it.
    network = build_network(name, 4)
    assert not list(network.buffers())
    assert set(network.state_dict()) == {key for key, _ in network.named_parameters()}
    assert not any("norm" in type(module).__name__.lower() for module in network.modules())
    before = get_weights(network)
    network.train()
    normal = torch.Generator().manual_seed(0)
    noise = (torch.randn(20, network.noise, generator=normal),) if network.noise else ()
    network(torch.randn(20, 4, generator=normal), *noise)
    np.testing.assert_array_equal(get_weights(network), before)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_patients_output_does_not_depend_on_the_batch(name: str) -> None:
    network = build_network(name, 4)
    network.initialize(np.random.default_rng(0))
    network.eval()
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(x)[:3], network(x[:3]))


@pytest.mark.parametrize("name", ["cox", "deepsurv"])
def test_the_output_of_a_cox_network_has_no_bias(name: Literal["cox", "deepsurv"]) -> None:
    # The partial likelihood cannot see one: it would only drift, differently at each center.
    last = build_network(name, 4).layers[-1]
    assert isinstance(last, nn.Linear)
    assert last.bias is None


# Initial weights -------------------------------------------------------------------------------------


def test_initial_weights_come_from_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = get_weights(deep(seed=3))
    torch.manual_seed(2)
    np.testing.assert_array_equal(get_weights(deep(seed=3)), first)
    assert not np.array_equal(get_weights(deep(seed=4)), first)


def test_initial_weights_are_uniform_as_in_torch() -> None:
    network = build_network("deepsurv", 50, {"hidden": (400,)})
    network.initialize(np.random.default_rng(0))
    theirs = nn.Linear(50, 400)
    ours = network.layers[0]
    for mine, torchs in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.abs().max() <= 1 / np.sqrt(50)
        assert mine.std().item() == pytest.approx(torchs.std().item(), rel=0.15)


def test_the_linear_model_starts_at_zero() -> None:
    network = build_network("cox", 5)
    network.initialize(np.random.default_rng(0))
    assert not get_weights(network).any()


# One flat vector -------------------------------------------------------------------------------------


def test_weights_survive_the_round_trip() -> None:
    weights = np.random.default_rng(1).normal(size=len(get_weights(deep()))).astype(np.float32)
    network = deep()
    bind(network, weights)
    again = get_weights(network)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, weights)
    x = np.random.default_rng(2).normal(size=(6, 3))
    np.testing.assert_array_equal(predict(deep(seed=8), weights, x), predict(network, again, x))


def test_weights_taken_out_are_a_copy() -> None:
    network = deep()
    flat, _ = bind(network, get_weights(network))
    kept = get_weights(network)
    before = kept.copy()
    flat += 1
    np.testing.assert_array_equal(kept, before)


def test_binding_copies_what_it_is_given() -> None:
    network, given_weights = deep(), get_weights(deep())
    before = given_weights.copy()
    flat, _ = bind(network, given_weights)
    flat += 1
    np.testing.assert_array_equal(given_weights, before)


def test_parameters_and_gradients_are_views() -> None:
    network = deep()
    flat, gradient = bind(network, get_weights(network))
    network.eval()
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    before = network(x).detach()
    flat.mul_(2)
    assert not torch.allclose(network(x), before)
    for parameter in network.parameters():
        assert parameter.data.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()

    (network(x) ** 2).sum().backward()
    fresh = build_network("deepsurv", 3, DEEP).eval()
    for mine, theirs in zip(fresh.parameters(), network.parameters(), strict=True):
        mine.data.copy_(theirs.data)
    parts = torch.autograd.grad((fresh(x) ** 2).sum(), list(fresh.parameters()))
    torch.testing.assert_close(gradient, torch.cat([p.reshape(-1) for p in parts]))
    (network(x) ** 2).sum().backward()  # adds, as backward does
    torch.testing.assert_close(gradient, 2 * torch.cat([p.reshape(-1) for p in parts]))


def test_wrong_number_of_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the model has 48 weights, the array has shape \(47,\)"):
        bind(deep(), np.zeros(47))


def test_decay_acts_on_weights_and_not_on_biases() -> None:
    assert penalty_mask(deep()).tolist() == [1.0] * 15 + [0.0] * 5 + [1.0] * 20 + [0.0] * 4 + [1.0] * 4


# The loss --------------------------------------------------------------------------------------------


def test_loss_is_per_patient_so_that_weighting_by_patients_sums_likelihoods() -> None:
    rng = np.random.default_rng(0)
    network = build_network("cox", 2)
    eta, time, event = torch.tensor(rng.normal(size=30)), rng.exponential(size=30), rng.random(30) < 0.5
    hospital = np.repeat([0, 1], [22, 8])
    total = 0.0
    for h in (0, 1):
        here = hospital == h
        total += here.sum() * network.loss(eta[here], network.prepare(time[here], event[here])).item()
    stratified = log_partial_likelihood(eta, RiskSets.of(time, event, hospital)).item()
    assert -total == pytest.approx(stratified, rel=1e-12)


# Prediction ------------------------------------------------------------------------------------------


def test_prediction_is_the_mean_network_and_not_one_random_draw() -> None:
    network = deep()
    weights, x = get_weights(network), np.random.default_rng(0).normal(size=(40, 3))
    network.train()
    first = predict(network, weights, x)
    np.testing.assert_array_equal(predict(network, weights, x), first)
    without = build_network("deepsurv", 3, {**DEEP, "dropout": 0.0})
    np.testing.assert_array_equal(predict(without, weights, x), first)
    assert first.dtype == np.float64
