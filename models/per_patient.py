"""Gradients patient by patient, clipped: the step of differentially private training (DP-SGD; Abadi et al. 2016).

One patient more or less changes a sum of clipped gradients by no more than the bound, if every patient has a gradient
of their own. That is so where the loss is a sum over patients, and not for Cox's partial likelihood.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call, vmap

from models.steps import TrainingData
from models.survival.network import SurvivalNetwork

_AT_ONCE = 4_000_000
"""Most numbers of the gradients held at a time: bounds memory."""


class NotSeparable(ValueError):
    """A network's loss is no sum over patients; the message says what to use instead."""


def require_separable(network: SurvivalNetwork | type[SurvivalNetwork], name: str) -> None:
    """Raise NotSeparable unless one patient changes one term of the loss only."""
    if not network.separable:
        raise NotSeparable(
            f"model {name!r} has no gradient of a single patient: in Cox's partial likelihood a patient is in the risk "
            "set of every earlier event, so one patient changes many terms and clipping bounds nothing; use "
            "'discrete_hazard', 'piecewise_hazard' or 'savae', or protect whole centers (unit: center)"
        )


def clipped_gradients(
    network: SurvivalNetwork,
    weights: NDArray[np.floating],
    data: TrainingData,
    clip: float,
    rng: np.random.Generator,
    progress: float = 1.0,
) -> NDArray[np.float64]:
    """The sum over patients of each one's gradient, cut to the length `clip`.

    Parameters
    ----------
    network
        With a separable loss, without dropout.
    weights
        Where the gradients are taken, shape (P,).
    clip
        Longest gradient (Euclidean norm).
    rng
        For networks that draw as they train (`SurvivalNetwork.noise`).
    progress
        The part of the training that is done, for these networks.

    Returns
    -------
    array of shape (P,)
        Of norm at most n · clip; one patient more or less changes it by at most clip (and by a
        rounding of float32 for each of the others, whose products depend on their company). A gradient that is not
        finite counts as zero.
    """
    noise = rng.standard_normal((len(data), network.noise)) if network.noise else None
    (total,) = clipped_sums(network, weights, data, np.array([len(data)]), clip, noise, progress)
    return np.asarray(total)


def clipped_sums(
    network: SurvivalNetwork,
    weights: NDArray[np.floating],
    data: TrainingData,
    sizes: NDArray[np.int64],
    clip: float,
    noise: NDArray[np.float64] | None,
    progress: float = 1.0,
) -> NDArray[np.float64]:
    """`clipped_gradients` of many tables at once, one below the other in `data`; `sizes` says how many rows each has.

    Returns
    -------
    array of shape (tables, P)
    """
    require_separable(network, type(network).__name__)
    totals = np.zeros((len(sizes), len(weights)))
    table = np.repeat(np.arange(len(sizes)), sizes)
    chunk = max(1, _AT_ONCE // len(weights))
    for first in range(0, len(data), chunk):
        rows = slice(first, first + chunk)
        part = TrainingData(data.x[rows], data.time[rows], data.event[rows])
        own = gradients(network, weights, part, None if noise is None else noise[rows], progress).astype(np.float64)
        own[~np.isfinite(own).all(axis=1)] = 0.0
        norms = np.sqrt(np.einsum("np,np->n", own, own))
        own *= np.minimum(1.0, clip / np.maximum(norms, 1e-300))[:, None]
        there, starts = np.unique(table[rows], return_index=True)
        totals[there] += np.add.reduceat(own, starts, axis=0)  # row after row, whoever else is there
    return totals


def gradients(
    network: SurvivalNetwork,
    weights: NDArray[np.floating],
    data: TrainingData,
    noise: NDArray[np.float64] | None = None,
    progress: float = 1.0,
) -> NDArray[np.float32]:
    """Each patient's gradient of their own loss, shape (n, P); parameters as `clipped_gradients`."""
    n = len(data)
    network.train()
    flat = torch.as_tensor(weights, dtype=torch.float32).repeat(n, 1).requires_grad_()  # everybody has a copy
    sizes = [p.numel() for p in network.parameters()]
    named = zip(network.named_parameters(), torch.split(flat, sizes, dim=1), strict=True)
    stacked = {name: part.reshape(n, *p.shape) for (name, p), part in named}
    inputs = [torch.as_tensor(data.x, dtype=torch.float32)[:, None]]
    if noise is not None:
        inputs += [torch.as_tensor(noise, dtype=torch.float32)[:, None], torch.full((n,), progress)]

    def forward(parameters: dict[str, torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = functional_call(network, parameters, inputs)
        return output

    output = vmap(forward)(stacked, *inputs)[:, 0]
    own = network.losses(output, network.prepare_many(data.time, data.event, np.arange(n)))
    (found,) = torch.autograd.grad(own.sum(), flat)
    return found.numpy()
