"""Networks whose loss is a sum over patients: what a center computes of its own patients adds to the pooled loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.survival.network import SurvivalNetwork


@dataclass(frozen=True)
class Endpoints:
    """Endpoints in the terms of a loss.

    Parameters
    ----------
    parts
        Tensors whose first axis is patients.
    table
        Whose each patient is, from 0 on, shape (n,).
    """

    parts: tuple[torch.Tensor, ...]
    table: torch.Tensor

    def to(self, device: torch.device | str) -> Endpoints:
        """The same on another device."""
        return Endpoints(tuple(part.to(device) for part in self.parts), self.table.to(device))


class SeparableNetwork(SurvivalNetwork):
    """A network with `endpoint` and `terms` instead of a loss."""

    separable = True

    def endpoint(self, time: NDArray[np.float64], event: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
        """What `terms` needs of each patient's endpoint, shapes (n, ...)."""
        raise NotImplementedError

    def terms(self, output: torch.Tensor, *endpoint: torch.Tensor) -> torch.Tensor:
        """Each patient's loss, shape (n,)."""
        raise NotImplementedError

    def prepare(self, time: NDArray[np.float64], event: NDArray[np.bool_]) -> Endpoints:
        """`endpoint` as tensors."""
        return self.prepare_many(time, event, np.zeros(len(time), dtype=np.int64))

    def prepare_many(self, time: NDArray[np.float64], event: NDArray[np.bool_], table: NDArray[np.int64]) -> Endpoints:
        """`endpoint` as tensors, with whose each patient is."""
        dtype = next(self.parameters()).dtype
        parts = tuple(torch.as_tensor(part, dtype=dtype) for part in self.endpoint(time, event))
        return Endpoints(parts, torch.as_tensor(table))

    def loss(self, output: torch.Tensor, target: Endpoints) -> torch.Tensor:
        """Mean of the patients' terms."""
        return self.terms(output, *target.parts).mean()

    def losses(self, output: torch.Tensor, target: Endpoints) -> torch.Tensor:
        """Mean of the terms of each table's patients, shape (tables,)."""
        terms = self.terms(output, *target.parts)
        counts = torch.bincount(target.table)
        return terms.new_zeros(len(counts)).index_add(0, target.table, terms) / counts.to(terms.dtype)
