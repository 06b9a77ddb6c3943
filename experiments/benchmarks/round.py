"""What a federated round costs beyond its arithmetic.

The task: a 20-32-32-1 perceptron with Cox loss, 50 patients per center, one local epoch per round (5 steps of plain
gradient descent on batches of 10), every center every round. Beside the in-process and the Ray backend runs the loop
that anyone would write in plain PyTorch, from the same start on the same data.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from actors.center import CenterSpec
from actors.cluster import ray_session
from actors.coordinator import Coordinator, Task
from experiments.benchmarks.simulated import BATCH, FEATURES, HIDDEN, RATE, SCHEMA, simulated_center
from federation.algorithm import run
from federation.averaging import ParameterAveraging
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.preprocessing import FitPreprocessor, preprocessor_of
from federation.strategies import FedAvg
from harmonization import Cohort
from models.steps import TrainingOptions


def round_benchmark(centers: int = 100, rounds: int = 10) -> dict[str, float]:
    """Milliseconds per round of each backend (difference of two runs, so start-up does not count), and ratios."""
    torch.set_num_threads(1)
    cohorts = [simulated_center(j) for j in range(centers)]
    local = InProcessFederation([Center(f"{j}", partial(simulated_center, j), j, SCHEMA) for j in range(centers)])
    preprocessor = preprocessor_of(run(FitPreprocessor(SCHEMA), local))

    def algorithm(n: int) -> ParameterAveraging:
        return ParameterAveraging.create(
            FedAvg(),
            model="deepsurv",
            model_parameters={"hidden": HIDDEN, "ties": "breslow"},
            training=TrainingOptions(epochs=1, batch_size=BATCH, learning_rate=RATE),
            rounds=n,
            preprocessor=preprocessor,
        )

    plain = per_round(lambda n: plain_torch(cohorts, n), rounds)
    in_process = per_round(lambda n: run(algorithm(n), local), rounds)
    with ray_session():
        specs = [CenterSpec(f"{j}", j, partial(simulated_center, j)) for j in range(centers)]
        coordinator = Coordinator(specs, SCHEMA)
        coordinator.load()
        on_ray = per_round(lambda n: list(coordinator.run(Task("benchmark", algorithm(n)))), rounds)
        coordinator.close()
    return {
        "centers": centers,
        "plain_torch_ms": plain,
        "in_process_ms": in_process,
        "ray_ms": on_ray,
        "in_process_over_plain": in_process / plain,
        "ray_over_plain": on_ray / plain,
    }


def per_round(work: Callable[[int], object], rounds: int) -> float:
    """Milliseconds per round: the median, over three pairs, of (time of 1 + rounds) − (time of 1)."""
    work(1)
    differences = []
    for _ in range(3):
        times = []
        for n in (1, 1 + rounds):
            began = time.perf_counter()
            work(n)
            times.append(time.perf_counter() - began)
        differences.append(1000 * (times[1] - times[0]) / rounds)
    return float(np.median(differences))


def plain_torch(cohorts: list[Cohort], rounds: int) -> torch.Tensor:
    """The loop without any framework: modules, torch.optim, a weighted mean."""
    torch.manual_seed(0)
    sizes = (FEATURES, *HIDDEN)
    layers: list[torch.nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 1, bias=False))
    data = [
        (torch.as_tensor(c.values, dtype=torch.float32), torch.as_tensor(c.time), torch.as_tensor(c.event))
        for c in cohorts
    ]
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    for _ in range(rounds):
        update = torch.zeros_like(weights, dtype=torch.float64)
        for x, t, d in data:
            torch.nn.utils.vector_to_parameters(weights.clone(), model.parameters())
            optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
            for rows in torch.split(torch.randperm(len(x)), BATCH):
                order = rows[torch.argsort(t[rows], descending=True)]
                optimizer.zero_grad()
                eta = model(x[order]).squeeze(1)
                loss = -((eta - torch.logcumsumexp(eta, 0)) * d[order]).sum() / len(order)
                loss.backward()
                optimizer.step()
            trained = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
            update += (trained - weights) * len(x)
        weights = weights + (update / sum(len(x) for x, _, _ in data)).float()
    return weights
