"""Survival networks of several blocks of features (modalities), any of which a patient, or a whole center, may lack.

Each block has a sub-encoder of its own; what it says of a patient is added up over the blocks that the patient has:

    fused(x) = Σ_b present_b(x) · (encoder_b(x_b) + bias_b)

A block that is absent adds nothing, and nothing flows back to its sub-encoder. The bias of its last layer, which only
patients with the block receive, is the block's embedding: through it the network knows who has what. In the design
matrix an absent block is NaN throughout; a value missing within a block that is there is imputed by the preprocessor,
or taken as the mean (zero).

In training blocks are dropped at random (modality dropout), so that those left learn to do without. Every patient keeps
at least one. The draws are standard normal numbers that the training loop hands over, one per patient and block.

References
----------
Cheerla & Gevaert (2019), Deep learning with multimodal representation for pancancer prognosis prediction,
Bioinformatics 35:i446 (sub-encoders, modality dropout).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import nn

from models.preprocessing import Design
from models.survival.likelihood import Ties
from models.survival.network import _ACTIVATIONS, Activation, CoxNetwork
from models.survival.time_scale import TimeScale

Ranges = Sequence[Sequence[int]]
"""Columns of a block in the design matrix, as [first, last + 1] of each run of neighbours."""


class BlockEncoder(nn.Module):
    """A sub-encoder per block, summed over the blocks that are there.

    Parameters
    ----------
    blocks
        The columns of each block.
    size
        Width of the sum.
    hidden
        Width of each hidden layer of every sub-encoder; empty for a linear one.
    activation
        Between layers.
    dropout
        Probability of dropping a hidden unit in training.
    block_dropout
        Probability of dropping a block in training.
    missing
        Whether a sub-encoder also sees which of its values are missing (NaN).
    """

    def __init__(
        self,
        blocks: Sequence[Ranges],
        size: int,
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
        dropout: float = 0.0,
        block_dropout: float = 0.0,
        missing: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= block_dropout < 1:
            raise ValueError(f"block_dropout is {block_dropout!r}; it is a probability below 1")
        self.blocks, self.missing = [[(int(a), int(b)) for a, b in ranges] for ranges in blocks], missing
        self.noise = len(blocks) if block_dropout > 0 and len(blocks) > 1 else 0
        self._threshold = NormalDist().inv_cdf(block_dropout) if self.noise else -math.inf
        encoders = []
        for ranges in self.blocks:
            layers: list[nn.Module] = []
            width = sum(b - a for a, b in ranges) * (2 if missing else 1)
            for units in hidden:
                layers += [nn.Linear(width, units), _ACTIVATIONS[activation]()]
                layers += [nn.Dropout(dropout)] if dropout > 0 else []
                width = units
            encoders.append(nn.Sequential(*layers, nn.Linear(width, size)))
        self.encoders = nn.ModuleList(encoders)

    def require(self, n_features: int) -> None:
        """Raise ValueError unless each of so many columns is in exactly one block."""
        covered = sorted(j for ranges in self.blocks for a, b in ranges for j in range(a, b))
        if covered != list(range(n_features)):
            raise ValueError(f"blocks {self.blocks!r} do not share out the {n_features} columns of the design matrix")

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the weights, Kaiming-uniform as torch does."""
        initialize_uniform(self, rng)

    def present(self, x: torch.Tensor) -> torch.Tensor:
        """Which blocks each patient has, (n, blocks): those with any value."""
        return torch.stack([~torch.isnan(self._columns(x, b)).all(dim=-1) for b in range(len(self.blocks))], dim=-1)

    def kept(self, present: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Which of the blocks a patient has are left in a training step; all of them without noise.

        A block is dropped if its standard normal number is low; of a patient of whom nothing would be left the block
        with the highest is kept.
        """
        if noise is None or not self.noise:
            return present
        kept = present & (noise >= self._threshold)
        highest = torch.where(present, noise, -math.inf)
        last = present & (highest == highest.amax(dim=-1, keepdim=True))
        return torch.where(kept.any(dim=-1, keepdim=True), kept, last)

    def encode(self, x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """The sum over the blocks kept, (n, size); what stands in the columns of the others has no say."""
        total = x.new_zeros((*x.shape[:-1], self.encoders[0][-1].out_features))  # type: ignore[index]
        for b, encoder in enumerate(self.encoders):
            columns = self._columns(x, b)
            inputs = torch.nan_to_num(columns, nan=0.0)
            if self.missing:
                inputs = torch.cat([inputs, torch.isnan(columns).to(x.dtype)], dim=-1)
            here = kept[..., b : b + 1]
            total = total + torch.where(here, encoder(torch.where(here, inputs, 0.0)), 0.0)
        return total

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """The sum over the blocks that are there, (n, size), of patients of shape (n, p)."""
        return self.encode(x, self.kept(self.present(x), noise))

    def _columns(self, x: torch.Tensor, block: int) -> torch.Tensor:
        parts = [x[..., a:b] for a, b in self.blocks[block]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


class MultimodalCox(CoxNetwork):
    """Multimodal DeepSurv: blocks fused by a `BlockEncoder`, then a perceptron with a Cox loss.

    With no hidden layer after the fusion the log relative hazard is a sum over blocks, each contributing what it knows.

    Parameters
    ----------
    n_features
        Width of the design matrix.
    blocks
        Modality -> its columns (`ranges_of`); set by `declare`. None: one block of all columns.
    encoder
        Width of each hidden layer of the sub-encoders.
    size
        Width of what is summed.
    hidden
        Width of each hidden layer after the fusion.
    activation, dropout, ties
        As of `CoxNetwork`.
    block_dropout
        Probability of dropping a block in a training step.
    """

    accepts_missing = True
    masks_blocks = True

    def __init__(
        self,
        n_features: int,
        blocks: Mapping[str, Ranges] | None = None,
        encoder: Sequence[int] = (16,),
        size: int = 8,
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
        dropout: float = 0.0,
        block_dropout: float = 0.2,
        ties: Ties = "efron",
    ) -> None:
        super().__init__(size, hidden, activation, dropout, ties)
        found = {"all": [[0, n_features]]} if blocks is None else blocks
        self.encoder = BlockEncoder(list(found.values()), size, encoder, activation, dropout, block_dropout)
        self.encoder.require(n_features)
        self.noise = self.encoder.noise

    @classmethod
    def declare(cls, parameters: Mapping[str, Any], design: Design, times: TimeScale) -> dict[str, Any]:
        """With the columns of each modality."""
        return {"blocks": ranges_of([column.modality for column in design]), **parameters}

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the weights, Kaiming-uniform as torch does."""
        initialize_uniform(self, rng)

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None, progress: float = 1.0) -> torch.Tensor:
        """Log relative hazard, shape (n,), of patients of shape (n, n_features), absent blocks NaN."""
        return super().forward(self.encoder(x, noise))


def initialize_uniform(module: nn.Module, rng: np.random.Generator) -> None:
    """Draw weights and biases of all linear layers, in order: uniform within 1/√inputs, as torch does."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(max(layer.in_features, 1))
                for parameter in layer.parameters():
                    draw = rng.uniform(-bound, bound, size=tuple(parameter.shape))
                    parameter.copy_(torch.as_tensor(draw, dtype=parameter.dtype))


def ranges_of(modality: Sequence[str]) -> dict[str, list[list[int]]]:
    """Modality -> its columns, as runs of neighbours, from the modality of each column."""
    found: dict[str, list[list[int]]] = {}
    for j, name in enumerate(modality):
        runs = found.setdefault(name, [])
        if runs and runs[-1][1] == j:
            runs[-1][1] = j + 1
        else:
            runs.append([j, j + 1])
    return found
