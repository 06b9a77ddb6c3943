"""Networks that map a patient's features to survival: what they have in common, and those with a Cox loss.

A network is declared by its name and parameters (`build_network`), and its weights travel as one flat array; a pickle
of a network never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, Literal, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.preprocessing import Design
from models.survival.likelihood import RiskSets, Ties, log_partial_likelihood, log_partial_likelihoods
from models.survival.perceptron import DEFAULT_HIDDEN, CoxPerceptron
from models.survival.time_scale import TimeScale

Activation = Literal["relu", "selu", "tanh", "elu"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "selu": nn.SELU, "tanh": nn.Tanh, "elu": nn.ELU}


class SurvivalNetwork(nn.Module):
    """What training, federation and evaluation ask of a network.

    Besides the methods below a network has ``forward(x)``, from a design matrix of shape (n, p) to an output of shape
    (n,) or (n, k). `prepare_many` and `losses` are for many tables at once (`models.batched`); a network without them
    is trained table by table. `SeparableNetwork` has them for a loss that is a sum over patients.

    Attributes
    ----------
    proportional
        The output is a log relative hazard, shape (n,): survival needs a baseline hazard, fitted after training.
        Otherwise the network answers `survival` itself.
    accepts_missing
        The design matrix may hold NaN for what is not known.
    separable
        The loss is a sum of terms of single patients, so that one patient changes one term and a gradient by no more
        than that term's.
    masks_blocks
        By default NaN are only the columns of modalities of which nothing is known; other missing values are imputed.
    noise
        Standard normal numbers per patient that a training step needs. With any, the training loop draws them from the
        table's own generator and calls ``forward(x, noise, progress)``: noise has shape (n, noise), progress is the
        part of the whole training that is done, 0 to 1.
    causes
        Competing causes that it tells apart. With more than one, the `event` of `prepare` holds 0 for censoring, else
        the cause's number.
    """

    proportional: ClassVar[bool] = False
    accepts_missing: ClassVar[bool] = False
    separable: ClassVar[bool] = False
    masks_blocks: ClassVar[bool] = False
    noise: int = 0
    causes: int = 1

    @classmethod
    def declare(cls, parameters: Mapping[str, Any], design: Design, times: TimeScale) -> dict[str, Any]:
        """Complete a declaration's parameters by constants of the federation (cut points, kinds of columns), as JSON.

        What the parameters say already stays.
        """
        return dict(parameters)

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the weights."""
        raise NotImplementedError

    def prepare(self, time: NDArray[np.float64], event: NDArray[np.bool_]) -> Any:
        """What `loss` needs of the endpoint, computed once per batch; it has a method ``to(device)``."""
        raise NotImplementedError

    def loss(self, output: torch.Tensor, target: Any) -> torch.Tensor:
        """Mean loss per patient, so that weighting centers by their number of patients adds likelihoods."""
        raise NotImplementedError

    def prepare_many(self, time: NDArray[np.float64], event: NDArray[np.bool_], table: NDArray[np.int64]) -> Any:
        """What `losses` needs of the endpoints of many tables; `table` says whose each patient is, from 0 on."""
        raise NotImplementedError

    def losses(self, output: torch.Tensor, target: Any) -> torch.Tensor:
        """The loss of each table, shape (tables,), from the output for all patients."""
        raise NotImplementedError

    def risk(self, output: torch.Tensor) -> torch.Tensor:
        """One number per patient from the output, shape (n,): higher is worse."""
        raise NotImplementedError

    def survival(self, output: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Probability of living beyond each of some times, shape (n, times); not for proportional hazards."""
        raise NotImplementedError

    def incidence(self, output: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Cumulative incidence of each cause at increasing times, shape (n, causes, times); with competing causes."""
        raise NotImplementedError

    def cause_risk(self, output: torch.Tensor) -> torch.Tensor:
        """Risk of each cause, shape (n, causes): higher means sooner or likelier; with competing causes."""
        raise NotImplementedError


def perceptron(
    n_features: int,
    hidden: Sequence[int],
    outputs: int,
    activation: Activation = "relu",
    dropout: float = 0.0,
) -> nn.Sequential:
    """Layers of a multilayer perceptron, the last one without bias.

    There is no normalization layer: batch statistics of one center mean nothing at another.

    Raises
    ------
    ValueError
        If a parameter is none.
    """
    if activation not in get_args(Activation):
        raise ValueError(f"activation is {activation!r}; use one of {', '.join(get_args(Activation))}")
    widths = hidden if isinstance(hidden, list | tuple) else (None,)
    if not all(isinstance(size, int | np.integer) and size > 0 for size in widths):
        raise ValueError(f"hidden is {hidden!r}; it is a list of positive widths, e.g. [32, 32]")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout!r}; it is a probability below 1")
    layers: list[nn.Module] = []
    width = n_features
    for size in hidden:
        layers += [nn.Linear(width, size), _ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout > 0 else []
        width = size
    layers.append(nn.Linear(width, outputs, bias=False))
    return nn.Sequential(*layers)


def draw_weights(layers: nn.Sequential, rng: np.random.Generator) -> None:
    """Weights of a perceptron: zero for a linear model, Kaiming-uniform (as torch does) otherwise."""
    with torch.no_grad():
        linear = [m for m in layers if isinstance(m, nn.Linear)]
        for layer in linear:
            bound = 0.0 if len(linear) == 1 else 1 / np.sqrt(layer.in_features)
            for parameter in layer.parameters():
                draw = rng.uniform(-bound, bound, size=tuple(parameter.shape))
                parameter.copy_(torch.as_tensor(draw, dtype=parameter.dtype))


class CoxNetwork(SurvivalNetwork):
    """Multilayer perceptron with a Cox loss; with no hidden layer it is the linear Cox model.

    The output has no bias, which the partial likelihood cannot see.

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

    proportional = True

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
        dropout: float = 0.0,
        ties: Ties = "efron",
    ) -> None:
        super().__init__()
        if ties not in get_args(Ties):
            raise ValueError(f"ties is {ties!r}; use one of {', '.join(get_args(Ties))}")
        self.ties, self.activation = ties, activation
        self.layers = perceptron(n_features, hidden, 1, activation, dropout)

    def perceptron(self) -> CoxPerceptron:
        """The same without torch."""
        linear = [m for m in self.layers if isinstance(m, nn.Linear)]
        return CoxPerceptron((linear[0].in_features, *(m.out_features for m in linear)), self.activation, self.ties)

    def initialize(self, rng: np.random.Generator) -> None:
        """See `draw_weights`."""
        draw_weights(self.layers, rng)

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

    def risk(self, output: torch.Tensor) -> torch.Tensor:
        """The log relative hazard itself."""
        return output


NETWORKS: dict[str, str] = {
    "cox": "models.survival.network:CoxNetwork",
    "deepsurv": "models.survival.network:CoxNetwork",
    "discrete_hazard": "models.survival.discrete_hazard:DiscreteHazardNetwork",
    "piecewise_hazard": "models.survival.piecewise_hazard:PiecewiseHazardNetwork",
    "multimodal_deepsurv": "models.survival.multimodal:MultimodalCox",
    "multimodal_savae": "models.survival.multimodal_savae:MultimodalSAVAE",
    "savae": "models.survival.savae:SAVAENetwork",
    "vae": "models.generative.vae:VAENetwork",
}
"""Networks by the name they are declared with: where their class is, imported when it is asked for. ``vae`` learns
features alone, for generating patients: it is trained like the others, and says nothing of survival."""

DEFAULTS: dict[str, dict[str, Any]] = {"deepsurv": {"hidden": DEFAULT_HIDDEN["deepsurv"]}}
"""Parameters by name, where they differ from the class's own."""


def network_class(name: str) -> type[SurvivalNetwork]:
    """The class behind a name; raises ValueError for one that is unknown."""
    if name not in NETWORKS:
        raise ValueError(f"unknown model {name!r}; use one of {', '.join(NETWORKS)}")
    module, _, attribute = NETWORKS[name].partition(":")
    found: type[SurvivalNetwork] = getattr(import_module(module), attribute)
    return found


@overload
def build_network(
    name: Literal["cox", "deepsurv"], n_features: int, parameters: Mapping[str, Any] | None = None
) -> CoxNetwork: ...


@overload
def build_network(name: str, n_features: int, parameters: Mapping[str, Any] | None = None) -> SurvivalNetwork: ...


def build_network(name: str, n_features: int, parameters: Mapping[str, Any] | None = None) -> SurvivalNetwork:
    """Build a network from its declaration.

    Raises
    ------
    ValueError
        If the name or a parameter is unknown.
    """
    made = network_class(name)
    merged = {**DEFAULTS.get(name, {}), **(parameters or {})}
    if name == "cox" and merged.get("hidden"):
        raise ValueError("model 'cox' is linear and takes no hidden layers; use 'deepsurv'")
    try:
        return made(n_features, **merged)
    except TypeError as error:
        raise ValueError(f"model {name!r}: {error}") from None
