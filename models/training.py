"""The gradient loop that trains a network on one table: the same inside a center and for pooled data.

It works on one flat weight vector, so the update rules below are three lines each; they equal torch.optim's (tested).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from models.flat import bind, penalty_mask
from models.steps import Optimizer as Optimizer
from models.steps import TrainingData as TrainingData
from models.steps import TrainingOptions as TrainingOptions
from models.steps import batches as batches
from models.steps import done_before
from models.survival.network import SurvivalNetwork


def train(
    network: SurvivalNetwork,
    weights: NDArray[np.floating],
    data: TrainingData,
    options: TrainingOptions,
    rng: np.random.Generator,
    *,
    proximal: float = 0.0,
    correction: NDArray[np.floating] | None = None,
    progress: tuple[float, float] = (0.0, 1.0),
) -> tuple[NDArray[np.float32], float]:
    """Take gradient steps from `weights`.

    Parameters
    ----------
    network
        Gives the loss; on return its parameters hold the result.
    weights
        Start, shape (P,).
    proximal
        FedProx's μ: μ/2 · ‖w − weights‖² is added to the loss (Li et al. 2020, eq. 2).
    correction
        SCAFFOLD's c − cᵢ, added to every gradient, shape (P,).
    progress
        Which part of the whole training this is.

    Returns
    -------
    weights : float32 array of shape (P,)
    loss : float
        Mean over steps of the data term of the loss, before each step; NaN without steps.
    """
    w, gradient = bind(network, weights)
    start = w.clone()
    decay = options.weight_decay * penalty_mask(network).to(w.dtype)
    x = torch.as_tensor(data.x, dtype=w.dtype)
    shift = None if correction is None else torch.as_tensor(correction, dtype=w.dtype)
    network.train()
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    losses = []
    chosen = batches(len(data), options, rng)
    full = network.prepare(data.time, data.event) if options.batch_size is None and chosen else None
    with _seeded(int(rng.integers(2**63))):
        for step, rows in enumerate(chosen, start=1):
            target = full or network.prepare(data.time[rows], data.event[rows])
            gradient.zero_()
            patients = x if full else x[rows]
            if network.noise:
                noise = torch.as_tensor(rng.standard_normal((len(rows), network.noise)), dtype=w.dtype)
                output = network(patients, noise, done_before(step, len(chosen), progress))
            else:
                output = network(patients)
            loss = network.loss(output, target)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            gradient += decay * w + proximal * (w - start)
            if shift is not None:
                gradient += shift
            if options.clip_norm is not None:
                gradient *= min(1.0, options.clip_norm / (float(gradient.norm()) + 1e-12))
            direction = gradient
            if options.optimizer == "momentum":
                direction = first.mul_(options.momentum).add_(gradient)
            elif options.optimizer == "adam":
                first.mul_(0.9).add_(gradient, alpha=0.1)
                second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                direction = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
            w.sub_(direction, alpha=options.learning_rate)
    return w.to(torch.float32).numpy().copy(), float(torch.stack(losses).mean()) if losses else math.nan


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator, which dropout draws from, and put it back (`fork_rng` takes a hundred times longer)."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


@torch.no_grad()
def predict(network: SurvivalNetwork, weights: NDArray[np.floating], x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Each patient's risk (log relative hazard of a Cox network; higher is worse), float64 of shape (n,).

    `x` has shape (n, p); the network is evaluated without drawing anything.
    """
    risk: NDArray[np.float64] = network.risk(_output(network, weights, x).to(torch.float64)).numpy()
    return risk


@torch.no_grad()
def predict_survival(
    network: SurvivalNetwork, weights: NDArray[np.floating], x: NDArray[np.floating], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Survival at some times by a network without proportional hazards, shape (n, times)."""
    output = _output(network, weights, x).to(torch.float64)
    survival: NDArray[np.float64] = network.survival(output, torch.as_tensor(times, dtype=torch.float64)).numpy()
    return survival


@torch.no_grad()
def predict_causes(
    network: SurvivalNetwork, weights: NDArray[np.floating], x: NDArray[np.floating], times: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Risk of each cause (n, causes) and its cumulative incidence at increasing times (n, causes, times)."""
    output = _output(network, weights, x).to(torch.float64)
    incidence = network.incidence(output, torch.as_tensor(times, dtype=torch.float64))
    return network.cause_risk(output).numpy(), incidence.numpy()


@torch.no_grad()
def mean_loss(network: SurvivalNetwork, weights: NDArray[np.floating], data: TrainingData) -> float:
    """The loss per patient on `data`, without penalties, in evaluation mode."""
    output = _output(network, weights, data.x)
    return float(network.loss(output, network.prepare(data.time, data.event)))


def _output(network: SurvivalNetwork, weights: NDArray[np.floating], x: NDArray[np.floating]) -> torch.Tensor:
    flat, _ = bind(network, weights)
    network.eval()
    output: torch.Tensor = network(torch.as_tensor(x, dtype=flat.dtype))
    return output
