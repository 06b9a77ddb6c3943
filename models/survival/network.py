"""Networks that map a patient's features to a log relative hazard: linear Cox and DeepSurv.

A network is declared by its name and parameters (`build_network`), and its weights travel as one flat array; a pickle
of a network never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.survival.likelihood import RiskSets, Ties, log_partial_likelihood, log_partial_likelihoods

Activation = Literal["relu", "selu", "tanh", "elu"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "selu": nn.SELU, "tanh": nn.Tanh, "elu": nn.ELU}


class CoxNetwork(nn.Module):
    """Multilayer perceptron with a Cox loss; with no hidden layer it is the linear Cox model.

    There is no normalization layer: batch statistics of one center mean nothing at another. The output has no bias,
    which the partial likelihood cannot see.

    Parameters
    ----------
    n_features
        Width of the design matrix.
    hidden
        Width of each hidden layer; empty for the linear model.
    activation
        Between layers.
    dropout
        Probability of dropping a hidden unit in training.
    ties
        Handling of tied event times.

    References
    ----------
    Katzman et al. (2018), DeepSurv, BMC Med Res Methodol 18:24.
    """

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
        dropout: float = 0.0,
        ties: Ties = "efron",
    ) -> None:
        super().__init__()
        for name, value, allowed in (("activation", activation, Activation), ("ties", ties, Ties)):
            if value not in get_args(allowed):
                raise ValueError(f"{name} is {value!r}; use one of {', '.join(get_args(allowed))}")
        widths = hidden if isinstance(hidden, list | tuple) else (None,)
        if not all(isinstance(size, int | np.integer) and size > 0 for size in widths):
            raise ValueError(f"hidden is {hidden!r}; it is a list of positive widths, e.g. [32, 32]")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout!r}; it is a probability below 1")
        self.ties = ties
        layers: list[nn.Module] = []
        width = n_features
        for size in hidden:
            layers += [nn.Linear(width, size), _ACTIVATIONS[activation]()]
            layers += [nn.Dropout(dropout)] if dropout > 0 else []
            width = size
        layers.append(nn.Linear(width, 1, bias=False))
        self.layers = nn.Sequential(*layers)

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the weights: zero for the linear model, Kaiming-uniform (as torch does) otherwise."""
        with torch.no_grad():
            linear = [m for m in self.layers if isinstance(m, nn.Linear)]
            for layer in linear:
                bound = 0.0 if len(linear) == 1 else 1 / np.sqrt(layer.in_features)
                for parameter in layer.parameters():
                    draw = rng.uniform(-bound, bound, size=tuple(parameter.shape))
                    parameter.copy_(torch.as_tensor(draw, dtype=parameter.dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Log relative hazard, shape (n,), of patients of shape (n, n_features)."""
        risk: torch.Tensor = self.layers(x).squeeze(-1)
        return risk

    def prepare(self, time: NDArray[np.float64], event: NDArray[np.bool_]) -> RiskSets:
        """What `loss` needs of the endpoint, computed once per batch."""
        return RiskSets.of(time, event, ties=self.ties)

    def prepare_many(self, time: NDArray[np.float64], event: NDArray[np.bool_], table: NDArray[np.int64]) -> RiskSets:
        """What `losses` needs of the endpoints of many tables; `table` says whose each patient is, from 0 on."""
        return RiskSets.of(time, event, strata=table, ties=self.ties)

    def losses(self, output: torch.Tensor, target: RiskSets) -> torch.Tensor:
        """The loss of each table, shape (tables,), from the output for all patients, shape (n,)."""
        return -log_partial_likelihoods(output, target) / target.valid.sum(-1).to(output.dtype)

    def loss(self, output: torch.Tensor, target: RiskSets) -> torch.Tensor:
        """Negative log partial likelihood per patient (not per event), so that weighting centers by their number of
        patients sums their likelihoods."""
        return -log_partial_likelihood(output, target) / output.shape[0]


NETWORKS: dict[str, type[CoxNetwork]] = {"cox": CoxNetwork, "deepsurv": CoxNetwork}
"""Networks by the name they are declared with."""

DEFAULTS: dict[str, dict[str, Any]] = {"cox": {"hidden": ()}, "deepsurv": {"hidden": (32, 32)}}


def build_network(name: str, n_features: int, parameters: Mapping[str, Any] | None = None) -> CoxNetwork:
    """Build a network from its declaration.

    Raises
    ------
    ValueError
        If the name or a parameter is unknown.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown model {name!r}; use one of {', '.join(NETWORKS)}")
    merged = {**DEFAULTS[name], **(parameters or {})}
    if name == "cox" and merged["hidden"]:
        raise ValueError("model 'cox' is linear and takes no hidden layers; use 'deepsurv'")
    try:
        return NETWORKS[name](n_features, **merged)
    except TypeError as error:
        raise ValueError(f"model {name!r}: {error}") from None
