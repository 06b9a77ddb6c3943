"""The declaration of a Cox perceptron and the torch module say the same."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from models.flat import get_weights, penalty_mask
from models.survival.network import CoxNetwork, build_network
from models.survival.perceptron import CoxPerceptron

DECLARED: list[tuple[str, dict[str, Any]]] = [
    ("cox", {}),
    ("cox", {"ties": "breslow"}),
    ("deepsurv", {}),
    ("deepsurv", {"hidden": [5], "activation": "selu"}),
    ("deepsurv", {"hidden": [4, 3, 2], "activation": "tanh", "ties": "breslow"}),
]


@pytest.mark.parametrize(("name", "parameters"), DECLARED)
def test_weights_penalties_and_declaration_are_those_of_the_torch_module(name: str, parameters: dict[str, Any]) -> None:
    network = build_network(name, 7, parameters)
    declared = CoxPerceptron.declared(name, 7, parameters)
    assert isinstance(network, CoxNetwork)
    assert declared is not None
    assert network.perceptron() == declared
    network.initialize(np.random.default_rng(3))
    np.testing.assert_array_equal(declared.initial(np.random.default_rng(3)), get_weights(network), strict=True)
    np.testing.assert_array_equal(declared.penalized(), penalty_mask(network).numpy(), strict=True)
    assert declared.n_weights == len(get_weights(network))


def test_other_networks_are_no_perceptrons() -> None:
    assert CoxPerceptron.declared("deepsurv", 7, {"dropout": 0.2}) is None
    assert CoxPerceptron.declared("savae", 7, {}) is None


def test_a_process_that_holds_centers_starts_without_torch() -> None:
    code = "import sys, actors.coordinator; print('torch' in sys.modules, 'pandas' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.split() == ["False", "False"]
