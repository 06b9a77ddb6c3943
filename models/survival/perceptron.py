"""A Cox perceptron as its declaration says, without torch: what compiled training and measuring need to know of it.

Importing torch takes a process over a second and 150 MB; one that holds hundreds of simulated centers has no other use
for it. `models.survival.network.CoxNetwork` is the same network as a torch module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

NAMES = ("cox", "deepsurv")
"""Declared names of Cox perceptrons."""

DEFAULT_HIDDEN: dict[str, tuple[int, ...]] = {"cox": (), "deepsurv": (32, 32)}


@dataclass(frozen=True)
class CoxPerceptron:
    """See `models.survival.network.CoxNetwork`.

    Parameters
    ----------
    widths
        Of the layers, from the features to the one output.
    activation, ties
        As declared.
    """

    widths: tuple[int, ...]
    activation: str = "relu"
    ties: str = "efron"
    causes: ClassVar[int] = 1

    @classmethod
    def declared(cls, name: str, n_features: int, parameters: Mapping[str, Any] | None = None) -> CoxPerceptron | None:
        """The perceptron of a declaration; None for another network, or one that draws random numbers (dropout).

        Whether the parameters make sense is `models.survival.network.build_network`'s to say.
        """
        given = dict(parameters or {})
        if name not in NAMES or given.pop("dropout", 0.0):
            return None
        hidden = given.pop("hidden", DEFAULT_HIDDEN[name])
        return cls((n_features, *hidden, 1), **given)

    @property
    def n_weights(self) -> int:
        """Length of the flat vector of weights."""
        return len(self.penalized())

    def penalized(self) -> NDArray[np.float32]:
        """1 for weights, 0 for biases, in the order of torch's flat vector; the last layer has no bias."""
        parts = []
        for layer, (wide, out) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            biases = 0 if layer == len(self.widths) - 2 else out
            parts += [np.ones(wide * out, np.float32), np.zeros(biases, np.float32)]
        return np.concatenate(parts)

    def initial(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Weights as `CoxNetwork.initialize` draws them: zero if linear, else Kaiming-uniform; shape (P,)."""
        parts, last = [], len(self.widths) - 2
        for layer, (wide, out) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            bound = 0.0 if last == 0 else 1 / np.sqrt(wide)
            for size in (wide * out, *(() if layer == last else (out,))):
                parts.append(rng.uniform(-bound, bound, size=size).astype(np.float32))
        return np.concatenate(parts)
