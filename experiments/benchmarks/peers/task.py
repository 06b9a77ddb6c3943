"""The benchmark's task for other engines: needs numpy and torch alone, and nothing of haemfed."""

from __future__ import annotations

import numpy as np
import torch

PATIENTS, FEATURES, HIDDEN, BATCH, RATE = 50, 20, (32, 32), 10, 0.05


def center(index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, times and events of 50 patients with exponential survival times."""
    rng = np.random.default_rng([7, index])
    x = rng.standard_normal((PATIENTS, FEATURES))
    death = rng.exponential(np.exp(-0.5 * x[:, 0]))
    censoring = rng.exponential(2.0, PATIENTS)
    found = torch.tensor(x, dtype=torch.float32), torch.tensor(np.minimum(death, censoring))
    return *found, torch.tensor(death <= censoring)


def network() -> torch.nn.Module:
    """20-32-32-1 with rectifiers; the output has no bias."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    width = FEATURES
    for out in HIDDEN:
        layers += [torch.nn.Linear(width, out), torch.nn.ReLU()]
        width = out
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 1, bias=False))


def cox_loss(eta: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    """Negative log partial likelihood per patient, Breslow ties."""
    order = torch.argsort(time, descending=True)
    eta = eta[order]
    return -((eta - torch.logcumsumexp(eta, 0)) * event[order]).sum() / len(order)


def epoch(model: torch.nn.Module, x: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> None:
    """One local epoch of plain gradient descent."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for rows in torch.split(torch.randperm(len(x)), BATCH):
        optimizer.zero_grad()
        cox_loss(model(x[rows]).squeeze(1), time[rows], event[rows]).backward()
        optimizer.step()
