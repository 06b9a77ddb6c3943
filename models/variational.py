"""What variational autoencoders of patients have in common: layers, what the encoder sees, the latent law."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

from models.survival.network import Activation, draw_weights, perceptron


def require_latent_options(latent: int, kl_weight: float, annealing: float) -> None:
    """Raise ValueError, naming it, for an option of the latent law that makes no sense."""
    if not isinstance(latent, int | np.integer) or latent < 1:
        raise ValueError(f"latent is {latent!r}; it is a whole number from 1 on")
    if not kl_weight >= 0:
        raise ValueError(f"kl_weight is {kl_weight!r}; it must not be negative")
    if not 0 <= annealing <= 1:
        raise ValueError(f"annealing is {annealing!r}; it is a part of the training, from 0 to 1")


def layers(
    inputs: int, hidden: Sequence[int], outputs: int, activation: Activation, dropout: float = 0.0
) -> nn.Sequential:
    """A perceptron as `models.survival.network.perceptron`, its last layer with a bias."""
    built = perceptron(inputs, hidden, outputs, activation, dropout)
    last = built[-1]
    built[-1] = nn.Linear(last.in_features, outputs)  # type: ignore[arg-type]
    return built


def initialize(parts: Iterable[nn.Sequential], rng: np.random.Generator) -> None:
    """Draw the weights, Kaiming-uniform as torch does; last biases are 0, where the laws are standard ones."""
    for part in parts:
        draw_weights(part, rng)
        nn.init.zeros_(part[-1].bias)  # type: ignore[arg-type]


def seen(x: torch.Tensor) -> torch.Tensor:
    """What an encoder sees of patients (..., p) with NaN: known values, and which are missing, (..., 2p)."""
    missing = torch.isnan(x)
    return torch.cat([torch.where(missing, 0.0, x), missing.to(x.dtype)], -1)


def drawn(mean: torch.Tensor, log_variance: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Points of the latent laws, by standard normal numbers of their shape (Kingma and Welling 2014, section 2.4)."""
    return mean + (0.5 * log_variance).exp() * noise


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Of the latent laws from the standard normal one, summed over the last axis (there, appendix B)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1)


def annealed(weight: float, annealing: float, progress: torch.Tensor | float) -> torch.Tensor | float:
    """The divergence's weight: it rises linearly from 0 during so large a part of the training."""
    if annealing == 0:
        return weight
    risen = progress / annealing
    return weight * (risen.clamp(max=1.0) if isinstance(risen, torch.Tensor) else min(risen, 1.0))
