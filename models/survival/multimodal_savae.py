"""SAVAE of several blocks of features: a sub-encoder per block, summed over the blocks a patient has.

Only the encoder differs from `SAVAENetwork`. In training blocks are dropped from what the encoder sees, not from what
is to be reconstructed, so the latent variables learn to say of an absent block what the others tell of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from models.preprocessing import Design
from models.survival.multimodal import BlockEncoder, Ranges, initialize_uniform, ranges_of
from models.survival.network import Activation
from models.survival.savae import SAVAENetwork
from models.survival.time_scale import TimeScale


class MultimodalSAVAE(SAVAENetwork):
    """SAVAE whose encoder is a `BlockEncoder` that also sees which values within a block are missing.

    Parameters
    ----------
    n_features
        Width of the design matrix, in which NaN is missing.
    blocks
        Modality -> its columns; set by `declare`. None: one block of all columns.
    block_dropout
        Probability of dropping a block in a training step.
    latent, hidden, activation, dropout, options
        As of `SAVAENetwork`; every sub-encoder has a hidden layer of width `hidden`.
    """

    encoder: BlockEncoder  # type: ignore[assignment]

    def __init__(
        self,
        n_features: int,
        blocks: Mapping[str, Ranges] | None = None,
        block_dropout: float = 0.2,
        latent: int = 5,
        hidden: int = 50,
        activation: Activation = "relu",
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(n_features, latent=latent, hidden=hidden, activation=activation, dropout=dropout, **options)
        self.encoder = BlockEncoder(
            [[[0, n_features]]] if blocks is None else list(blocks.values()),
            2 * latent,
            (hidden,),
            activation,
            dropout,
            block_dropout,
            missing=True,
        )
        self.encoder.require(n_features)
        self.noise = latent + self.encoder.noise

    @classmethod
    def declare(cls, parameters: Mapping[str, Any], design: Design, times: TimeScale) -> dict[str, Any]:
        """As SAVAE, and the columns of each modality."""
        blocks = ranges_of([column.modality for column in design])
        return {"blocks": blocks, **super().declare(parameters, design, times)}

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the weights, Kaiming-uniform as torch does; last biases are 0, where the laws are standard ones."""
        initialize_uniform(self, rng)
        with torch.no_grad():
            for part in (*self.encoder.encoders, self.decoder, self.time_decoder):
                nn.init.zeros_(part[-1].bias)

    def encode(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the latent law, each (n, latent): sums over the blocks that are there."""
        drawn = noise if noise is not None and self.encoder.noise else None
        mean, log_variance = self.encoder(x, drawn).chunk(2, -1)
        return mean, log_variance
