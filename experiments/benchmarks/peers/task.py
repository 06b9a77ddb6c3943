"""The benchmark's task for other engines: needs numpy and torch alone, and nothing of haemfed."""

from __future__ import annotations

from time import perf_counter

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


def order(index: int, r: int) -> torch.Tensor:
    """In which order a center goes through its patients in round r."""
    return torch.as_tensor(np.random.default_rng([11, r, index]).permutation(PATIENTS))


def epoch(model: torch.nn.Module, x: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> None:
    """One local epoch of plain gradient descent over patients in the order given."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for rows in torch.split(torch.arange(len(x)), BATCH):
        optimizer.zero_grad()
        cox_loss(model(x[rows]).squeeze(1), time[rows], event[rows]).backward()
        optimizer.step()


def flat(model: torch.nn.Module) -> np.ndarray:
    """All weights, float64."""
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy().astype(np.float64)


def plain(centers: int, rounds: int) -> tuple[np.ndarray, float]:
    """The weights after some rounds of a loop without any framework, and its median milliseconds a round."""
    torch.set_num_threads(1)
    data, model = [center(j) for j in range(centers)], network()
    weights, seconds = flat(model), []
    for r in range(rounds):
        began, update = perf_counter(), np.zeros_like(weights)
        for j, tables in enumerate(data):
            vector = torch.tensor(weights, dtype=torch.float32)
            torch.nn.utils.vector_to_parameters(vector, model.parameters())
            epoch(model, *(table[order(j, r)] for table in tables))
            update += flat(model) - weights
        weights = (weights + update / centers).astype(np.float32).astype(np.float64)
        seconds.append(perf_counter() - began)
    return weights, 1000 * float(np.median(seconds))


def report(centers: int, rounds: int, marks: list[float], weights: np.ndarray) -> dict[str, float]:
    """Median milliseconds between the ends of rounds, those of the plain loop, and how far apart the weights are over
    how far training went."""
    expected, alone = plain(centers, rounds)
    apart = np.linalg.norm(weights - expected) / np.linalg.norm(expected - flat(network()))
    return {"ms": 1000 * float(np.median(np.diff(marks))), "plain_ms": alone, "weights_apart": float(apart)}
