"""Many networks of any kind trained at once: parameters stacked [tables, parameters], forward passes by torch.func.

Tables are padded to common widths in buckets of similar size. The width of a bucket depends on its place in a fixed
ladder and not on who is in it, so that a table's result does not depend on its company.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call, vmap

from models.batched.tables import Tables
from models.flat import penalty_mask
from models.steps import TrainingOptions, done_before
from models.survival.network import SurvivalNetwork

PADDING = 0.25
"""Padded rows over real ones, at most."""

_AT_ONCE = 4_000_000
"""Most numbers of a stacked parameter matrix: bounds memory."""


@dataclass(frozen=True)
class Bucket:
    """Tables that are trained together.

    Parameters
    ----------
    members
        Positions among the tables asked for; those with most steps first.
    width
        Rows of every padded mini-batch.
    """

    members: NDArray[np.int64]
    width: int


def ladder(n: int) -> int:
    """The width that a batch of n patients is padded to: the next rung, at most `PADDING` above."""
    rung = 1
    while rung < n:
        rung = max(rung + 1, math.floor(rung * (1 + PADDING)))
    return rung


def buckets(largest: NDArray[np.int64], steps: NDArray[np.int64], parameters: int) -> Iterator[Bucket]:
    """Tables by the width of their largest mini-batch, those that are ready first last; in parts that fit in memory."""
    widths = np.array([ladder(int(n)) for n in largest], dtype=np.int64)
    for width in np.unique(widths):
        members = np.flatnonzero(widths == width)
        members = members[np.argsort(-steps[members], kind="stable")]
        for part in np.array_split(members, math.ceil(len(members) * parameters / _AT_ONCE)):
            yield Bucket(part, int(width))


def train_bucket(
    network: SurvivalNetwork,
    start: NDArray[np.float32],
    tables: Tables,
    which: NDArray[np.int64],
    batches: list[list[NDArray[np.int64]]],
    width: int,
    options: TrainingOptions,
    proximal: float,
    corrections: NDArray[np.float32] | None,
    noise: list[NDArray[np.float64]] | None,
    progress: tuple[float, float],
    device: str,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Train the tables of a bucket; see `models.batched.training.train_many`.

    Parameters
    ----------
    which
        The tables, shape (k,); those with most steps first.
    batches
        Per table and step, rows of `tables`.
    noise
        Per table, the normal numbers of the patients of all its steps, shape (patients, network.noise).
    """
    k, size = len(which), len(start)
    origin = torch.as_tensor(start, device=device)
    flat = origin.repeat(k, 1)
    first, second = torch.zeros_like(flat), torch.zeros_like(flat)
    decay = options.weight_decay * penalty_mask(network).to(device)
    shift = None if corrections is None else torch.as_tensor(corrections, device=device)
    x = torch.as_tensor(tables.x, device=device)
    shapes = {name: p.shape for name, p in network.named_parameters()}
    sizes = [p.numel() for p in network.parameters()]
    network.to(device).train()
    losses, steps = np.zeros(k), np.array([len(b) for b in batches])

    def forward(parameters: dict[str, torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = functional_call(network, parameters, inputs)
        return output

    drawn = np.zeros(k, dtype=np.int64)  # patients in the steps so far
    for step in range(int(steps.max(initial=0))):
        active = int((steps > step).sum())
        rows = [batches[j][step] for j in range(active)]
        counts = np.array([len(r) for r in rows])
        valid = np.arange(width) < counts[:, None]
        index = np.repeat([r[0] for r in rows], width).reshape(active, width)  # padding repeats a patient
        index[valid] = np.concatenate(rows)
        table = np.repeat(np.arange(active), counts)
        target = network.prepare_many(tables.time[index[valid]], tables.event[index[valid]], table).to(device)
        inputs = [x[torch.as_tensor(index, device=device)]]
        if noise is not None:
            normal = np.zeros((active, width, network.noise), dtype=np.float32)
            for j, n in enumerate(counts):
                normal[j, :n] = noise[j][drawn[j] : drawn[j] + n]
            drawn[:active] += counts
            done = [done_before(step + 1, int(s), progress) for s in steps[:active]]
            inputs += [torch.as_tensor(normal, device=device), torch.tensor(done, device=device)]

        w = flat[:active].detach().requires_grad_()
        parts = zip(shapes.items(), torch.split(w, sizes, dim=1), strict=True)
        stacked = {name: part.reshape(active, *shape) for (name, shape), part in parts}
        output = vmap(forward)(stacked, *inputs)
        loss = network.losses(output[torch.as_tensor(valid, device=device)], target)
        (gradient,) = torch.autograd.grad(loss.sum(), w)
        losses[:active] += loss.detach().cpu().numpy()

        w = w.detach()  # shares memory with flat
        gradient += decay * w + proximal * (w - origin)
        if shift is not None:
            gradient += shift[:active]
        if options.clip_norm is not None:
            gradient *= (options.clip_norm / (gradient.norm(dim=1, keepdim=True) + 1e-12)).clamp(max=1.0)
        direction = gradient
        if options.optimizer == "momentum":
            direction = first[:active].mul_(options.momentum).add_(gradient)
        elif options.optimizer == "adam":
            one, two = first[:active].mul_(0.9).add_(gradient, alpha=0.1), second[:active]
            two.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            direction = (one / (1 - 0.9 ** (step + 1))) / ((two / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        w.sub_(direction, alpha=options.learning_rate)
    assert flat.shape == (k, size)
    mean = np.divide(losses, steps, out=np.full(k, np.nan), where=steps > 0)
    return flat.cpu().numpy(), mean
