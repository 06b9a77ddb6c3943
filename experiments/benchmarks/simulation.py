"""Rounds of large simulated federations, beside what anyone would write for the same task.

The task is that of `experiments.benchmarks.simulated`. haemfed runs in a process of its own, so that its start
and memory are its own too; then, on the same data, from the same weights and with the same mini-batches, run a plain
PyTorch loop, one thread of `torch.func.vmap`, and gradients written by hand in numpy (a bound: nothing but arithmetic).
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.benchmarks.simulated import (
    BATCH,
    COMPARED_ROUNDS,
    FEATURES,
    HIDDEN,
    RATE,
    SCHEMA,
    averaging,
    simulated_center,
    specs_of,
    worker,
)
from federation.algorithm import Roster, run
from federation.averaging import ParameterAveraging
from federation.center import Center
from federation.checkpoint import load_state
from federation.in_process import InProcessFederation
from federation.randomness import entropies, entropy
from models.batched.streams import Streams
from models.preprocessing import Preprocessor

Floats = NDArray[np.float32]
Engine = Callable[["Problem", Floats, int], Floats]

DEFAULT_CENTERS = (10, 100, 500, 2000, 10_000)


# -- haemfed, in a process of its own ---------------------------------------------------------------------------------


def measured(centers: int, rounds: int, ragged: bool = False) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
    """Run `worker` and watch the memory of its process and all below it."""
    with tempfile.TemporaryDirectory() as scratch:
        arguments = f"{centers}, {rounds}, {ragged}, Path({scratch!r}), {time.time()!r}"
        call = f"from {worker.__module__} import *; worker({arguments})"
        root = Path(__file__).resolve().parents[2]
        paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        process = subprocess.Popen([sys.executable, "-c", call], env=environment)
        rss, pss, hosts = [0.0], [0.0], []
        while process.poll() is None:
            time.sleep(0.5)
            seen = list(memory(process.pid))
            rss.append(sum(r for _, r, _ in seen))
            pss.append(sum(p for _, _, p in seen))
            hosts.append(sum(r for name, r, _ in seen if "Center" in name))
        if process.returncode:
            raise RuntimeError(f"the simulation of {centers} centers ended with code {process.returncode}")
        figures = json.loads((Path(scratch) / "figures.json").read_text())
        figures |= {"peak_rss_mb": max(rss), "peak_pss_mb": max(pss)}
        return figures, dict(load_state(Path(scratch) / "compared.npz"))


def memory(root: int) -> Iterator[tuple[str, float, float]]:
    """Command, resident and proportional memory (MB) of a process and all its descendants."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:  # it has just ended
            continue
        parents[int(path.parent.name)] = int(text.rpartition(")")[2].split()[1])
    mine = {root}
    while new := {p for p, parent in parents.items() if parent in mine} - mine:
        mine |= new
    for pid in mine:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines[1:] if line.endswith("kB")}
        yield command, sizes.get("Rss", 0.0), sizes.get("Pss", 0.0)


# -- the others -------------------------------------------------------------------------------------------------------


class Problem:
    """The same task as plain arrays.

    Attributes
    ----------
    x, time, event
        Shape (centers, patients, features) and (centers, patients).
    """

    def __init__(self, centers: int, preprocessor: Preprocessor) -> None:
        cohorts = [simulated_center(j) for j in range(centers)]
        self.x = np.array([preprocessor.transform(c) for c in cohorts]).astype(np.float32)
        self.time, self.event = np.array([c.time for c in cohorts]), np.array([c.event for c in cohorts])
        self._names = np.array([entropy(f"{j}") for j in range(centers)], dtype=np.uint64)

    def batches(self, r: int) -> NDArray[np.int64]:
        """Patients of each step of round r, latest first, shape (steps, centers, batch)."""
        centers, patients = self.time.shape
        streams = Streams(entropies(0, ParameterAveraging.name, "compared", r), self._names)
        drawn = streams.permutations(np.full(centers, patients), np.ones(centers, dtype=np.int64))
        rows = drawn.reshape(centers, -1, BATCH).astype(np.int64)
        late = np.argsort(-np.take_along_axis(self.time[:, None], rows, 2), axis=2)
        return np.take_along_axis(rows, late, 2).swapaxes(0, 1)


def layers() -> list[tuple[int, ...]]:
    """Shapes of the parameters, in torch's order."""
    shapes: list[tuple[int, ...]] = []
    width = FEATURES
    for out in HIDDEN:
        shapes += [(out, width), (out,)]
        width = out
    return [*shapes, (1, width)]


def split(flat: Any) -> list[Any]:
    """Stacked parameters (centers, P) as one array per parameter."""
    parts, at = [], 0
    for shape in layers():
        size = int(np.prod(shape))
        parts.append(flat[:, at : at + size].reshape(-1, *shape))
        at += size
    return parts


def plain_torch(problem: Problem, weights: Floats, r: int) -> Floats:
    """One round of the loop without any framework: modules, torch.optim, a mean."""
    modules: list[torch.nn.Module] = []
    width = FEATURES
    for out in HIDDEN:
        modules += [torch.nn.Linear(width, out), torch.nn.ReLU()]
        width = out
    model = torch.nn.Sequential(*modules, torch.nn.Linear(width, 1, bias=False))
    x, event = torch.from_numpy(problem.x), torch.from_numpy(problem.event)
    rows = torch.from_numpy(problem.batches(r))
    update = np.zeros(len(weights))
    for center in range(len(x)):
        torch.nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), model.parameters())
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        for step in range(len(rows)):
            order = rows[step, center]
            optimizer.zero_grad()
            eta = model(x[center][order]).squeeze(1)
            loss = -((eta - torch.logcumsumexp(eta, 0)) * event[center][order]).sum() / BATCH
            loss.backward()
            optimizer.step()
        update += torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy().astype(np.float64) - weights
    return (weights + update / len(x)).astype(np.float32)


def vmapped(problem: Problem, weights: Floats, r: int) -> Floats:
    """One round by torch.func: a gradient for one center, vmapped over centers."""

    def loss(flat: torch.Tensor, x: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
        hidden, parts = x, [part[0] for part in split(flat[None])]
        for weight, bias in zip(parts[0:-1:2], parts[1:-1:2], strict=True):
            hidden = torch.relu(hidden @ weight.T + bias)
        eta = (hidden @ parts[-1].T).squeeze(1)
        value: torch.Tensor = -((eta - torch.logcumsumexp(eta, 0)) * event).sum() / BATCH
        return value

    slope = torch.func.vmap(torch.func.grad(loss))
    x, event = torch.from_numpy(problem.x), torch.from_numpy(problem.event)
    flat = torch.from_numpy(weights).repeat(len(x), 1)
    every = torch.arange(len(x))[:, None]
    for rows in torch.from_numpy(problem.batches(r)):
        flat -= RATE * slope(flat, x[every, rows], event[every, rows])
    moved: Floats = (weights + (flat.to(torch.float64).numpy() - weights).mean(axis=0)).astype(np.float32)
    return moved


def by_hand(problem: Problem, weights: Floats, r: int) -> Floats:
    """One round of stacked gradients written out in numpy."""
    every = np.arange(len(problem.x))[:, None]
    flat = np.repeat(weights[None], len(problem.x), axis=0)
    w1, b1, w2, b2, w3 = split(flat)  # views
    for rows in problem.batches(r):
        x, event = problem.x[every, rows], problem.event[every, rows]
        h1 = np.maximum(x @ w1.swapaxes(1, 2) + b1[:, None], 0)
        h2 = np.maximum(h1 @ w2.swapaxes(1, 2) + b2[:, None], 0)
        eta = (h2 @ w3.swapaxes(1, 2))[..., 0].astype(np.float64)
        hazard = np.exp(eta - eta.max(axis=1, keepdims=True))
        later = np.cumsum((event / np.cumsum(hazard, axis=1))[:, ::-1], axis=1)[:, ::-1]
        g = (-(event - hazard * later) / BATCH).astype(np.float32)[..., None]
        d2 = g * w3 * (h2 > 0)
        d1 = (d2 @ w2) * (h1 > 0)
        w3 -= RATE * (g.swapaxes(1, 2) @ h2)
        w2 -= RATE * (d2.swapaxes(1, 2) @ h1)
        b2 -= RATE * d2.sum(axis=1)
        w1 -= RATE * (d1.swapaxes(1, 2) @ x)
        b1 -= RATE * d1.sum(axis=1)
    moved: Floats = (weights + (flat.astype(np.float64) - weights).mean(axis=0)).astype(np.float32)
    return moved


PEERS: dict[str, tuple[Engine, int]] = {
    "vmap": (vmapped, 10**9),
    "plain": (plain_torch, 500),
    "numpy": (by_hand, 10**9),
}
"""Each with the most centers it is run for."""


def peers(centers: int, arrays: dict[str, NDArray[Any]]) -> dict[str, float]:
    """Median ms per round of the other engines, and how far all weights lie apart after `COMPARED_ROUNDS`."""
    torch.set_num_threads(1)
    preprocessor = Preprocessor.from_arrays(arrays, "preprocessor/")
    problem, figures = Problem(centers, preprocessor), {}
    start = averaging(preprocessor, 1).start(Roster(tuple(f"{j}" for j in range(centers))))["weights"]
    moved = np.linalg.norm(arrays["weights"] - start)
    apart = 0.0
    for name, (engine, most) in PEERS.items():
        if centers > most:
            continue
        weights, seconds = start, []
        for r in range(COMPARED_ROUNDS):
            began = time.perf_counter()
            weights = engine(problem, weights, r)
            seconds.append(time.perf_counter() - began)
        apart = max(apart, float(np.linalg.norm(weights - arrays["weights"]) / moved))
        while sum(seconds) < 1.0 and len(seconds) < 30:
            began = time.perf_counter()
            engine(problem, weights, 0)
            seconds.append(time.perf_counter() - began)
        figures[f"{name}_ms"] = 1000 * float(np.median(seconds[1:]))
    return figures | {"weights_apart": apart}


# -- together ---------------------------------------------------------------------------------------------------------


def simulation_benchmark(
    centers: Sequence[int] = DEFAULT_CENTERS, rounds: int | None = None, profile: bool = False
) -> dict[str, dict[str, float]]:
    """Figures per number of centers.

    Returns
    -------
    dict
        ``haemfed_ms`` median of a round after the first, ``haemfed_spread_ms`` its interquartile range,
        ``first_round_s`` from the start of the process to the end of round 1, ``peak_rss_mb`` and ``peak_pss_mb`` of
        all its processes;
        ``vmap_ms``, ``plain_ms`` (up to 500 centers) and ``numpy_ms`` of the other engines on one thread;
        ``weights_apart`` the largest distance of their weights from haemfed's over how far training went;
        ``ragged_ms`` (500 centers and fewer) with log-normal sizes and as many patients; ``load`` of the machine.
    """
    found = {}
    for n in centers:
        timed = rounds or int(np.clip(40_000 / n, 20, 200))
        figures, arrays = measured(n, timed)
        figures |= peers(n, arrays)
        if 100 <= n <= 500:
            figures["ragged_ms"] = measured(n, timed, ragged=True)[0]["haemfed_ms"]
        if profile:
            figures |= {
                f"profile_{name}_ms": ms
                for name, ms in profiled(n, Preprocessor.from_arrays(arrays, "preprocessor/")).items()
            }
        found[str(n)] = figures | {"load": os.getloadavg()[0]}
    return found


STAGES = {
    "training": "_compiled",
    "shuffles": "permutations",
    "wall": "check_all",
    "sum": "add_stacked",
    "audit and memory": "_write",
    "update": "server_update",
}
"""What a round is made of, and the function that does it."""


def profiled(centers: int, preprocessor: Preprocessor, rounds: int = 20) -> dict[str, float]:
    """Milliseconds a round of each stage, in one process without Ray."""
    local = InProcessFederation([Center(s.name, s.source, s.position, SCHEMA) for s in specs_of(centers)])
    run(averaging(preprocessor, 1), local)
    watched = cProfile.Profile()
    watched.runcall(run, averaging(preprocessor, rounds), local)
    by_name: dict[str, float] = {}
    statistics: Any = pstats.Stats(watched)
    for (_, _, function), (*_, cumulative, _) in statistics.stats.items():
        by_name[function] = max(by_name.get(function, 0.0), cumulative)
    found = {stage: 1000 * by_name.get(function, 0.0) / rounds for stage, function in STAGES.items()}
    whole = 1000 * statistics.total_tt / rounds
    return found | {"rest": whole - sum(found.values()), "whole": whole}
