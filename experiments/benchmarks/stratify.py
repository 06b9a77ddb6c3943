"""Speed of the stratification's kernels and chains, beside a dense sampler and a peer.

Cohorts are simulated to the published ones' shapes: 1,540 patients by 80 lesions with 4.45 events on average in twelve
classes (the AML cohort's), and 1,000 by 50 in five. Chains are timed after a burn-in, where they stay. tomotopy's
hierarchical Dirichlet process (C++, one worker), whose sweep also is one scan of all events, takes part if installed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from actors.chains import Plan, Progress, run_chains
from actors.cluster import ray_session
from clustering.chain import Sampler, State
from clustering.conditional_bernoulli import logpmf
from clustering.events import EventTable
from clustering.hdmm import HDMMSampler
from clustering.mixture import MixtureSampler
from clustering.mixture.data import prepare
from clustering.mixture.groups import Prior
from clustering.mixture.partition_prior import log_new_weights
from clustering.mixture.sweep import assign
from clustering.simulation import simulate

Clock = Callable[[], float]
"""Does a fixed amount of work and returns how much a second."""


def stratify_benchmark(seconds: float = 1.0, repeats: int = 5) -> dict[str, float]:
    """Work per second, medians over ``repeats`` rounds that take the competitors in turn, ``seconds`` each.

    Returns
    -------
    dict
        ``hdmm_sweeps_per_s`` and ``hdmm_sweeps_per_s_10`` with one and with ten updates of the concentrations a sweep,
        ``dense_sweeps_per_s`` of the reference; ``cb_sweeps_per_s`` complete sweeps and ``cb_assign_per_s`` patients
        assigned by the conditional-Bernoulli mixture (1,000 x 50); ``logpmf_us`` microseconds per patient and component
        (80 genes, 5 events); ``two_chain_speedup`` steps a second of two chains on Ray over those of one;
        ``hdmm_over_dense`` and, with tomotopy, ``hdmm_over_tomotopy``.
    """
    aml = cohort(12, 4.45, patients=1540, genes=80, seed=1)
    five = cohort(5, 5.0, patients=1000, genes=50, seed=2)
    once = HDMMSampler(aml, initial_clusters=30)
    clocks = {
        "hdmm_sweeps_per_s": of_chain(once, seconds),
        "hdmm_sweeps_per_s_10": of_chain(HDMMSampler(aml, initial_clusters=30, concentration_updates=10), seconds),
        "dense_sweeps_per_s": of_chain(HDMMSampler(aml, initial_clusters=30, method="dense"), seconds),
        "cb_sweeps_per_s": of_chain(MixtureSampler(five), seconds),
        "cb_assign_per_s": of_assignments(MixtureSampler(five), seconds),
        "logpmf_us": of_logpmf(seconds),
    }
    if find_spec("tomotopy") is not None:
        clocks["tomotopy_sweeps_per_s"] = of_tomotopy(aml, seconds)
    rounds = [{name: clock() for name, clock in clocks.items()} for _ in range(repeats)]
    found = {name: float(np.median([one[name] for one in rounds])) for name in clocks}
    found["logpmf_us"] = 1e6 / found["logpmf_us"]
    found["hdmm_over_dense"] = found["hdmm_sweeps_per_s"] / found["dense_sweeps_per_s"]
    if "tomotopy_sweeps_per_s" in found:
        found["hdmm_over_tomotopy"] = found["hdmm_sweeps_per_s"] / found["tomotopy_sweeps_per_s"]
    with ray_session():
        pairs = [(side_by_side(once, 1, seconds), side_by_side(once, 2, seconds)) for _ in range(3)]
    found["two_chain_speedup"] = float(np.median([two / one for one, two in pairs]))
    return found


def cohort(clusters: int, events: float, patients: int, genes: int, seed: int) -> EventTable:
    """Patients with at least one event, a = 1/genes."""
    rng = np.random.default_rng(seed)
    return simulate(clusters, events, 1 / genes, rng, patients=patients, genes=genes, fewest=1).table


def of_chain(sampler: Sampler, seconds: float, burn_in: int = 1000) -> Clock:
    """Complete sweeps a second of one chain, from after its burn-in."""
    rng = np.random.default_rng(0)
    state: list[State] = [sampler.advance(sampler.start(rng), burn_in, rng)]
    began = time.perf_counter()
    state[0] = sampler.advance(state[0], 100, rng)
    sweeps = max(int(100 * seconds / (time.perf_counter() - began)), 1)

    def clock() -> float:
        began = time.perf_counter()
        state[0] = sampler.advance(state[0], sweeps, rng)
        return sweeps / (time.perf_counter() - began)

    return clock


def of_assignments(sampler: MixtureSampler, seconds: float) -> Clock:
    """Patients a second of the Gibbs scan over assignments alone, at a state after burn-in."""
    rng = np.random.default_rng(0)
    state = sampler.advance(sampler.start(rng), 300, rng)
    data, patients = prepare(sampler.table), len(sampler.table)
    log_new = log_new_weights(patients, sampler.capacity + 1, sampler.gamma, sampler.geometric).copy()
    offset = np.full(sampler.capacity, sampler.gamma)
    prior = Prior(np.zeros(patients, np.int64), offset, log_new, np.full(2, -1.0), sampler.gamma)
    labels, theta = state["labels"].copy(), state["theta"]

    def clock() -> float:
        nonlocal theta
        began, scans = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            theta = assign(data, labels, theta, float(state["scale"]), prior, 1.0, rng)
            scans += 1
        return scans * patients / (time.perf_counter() - began)

    return clock


def of_logpmf(seconds: float, patients: int = 2000, components: int = 10, genes: int = 80, n: int = 5) -> Clock:
    """Patients times components a second of the conditional Bernoulli law, normalizers included."""
    rng = np.random.default_rng(0)
    events = np.zeros((patients, genes), np.int8)
    for row in events:
        row[rng.choice(genes, n, replace=False)] = 1
    log_odds = rng.normal(0, 3, (components, genes))
    logpmf(events, log_odds)

    def clock() -> float:
        began, calls = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            logpmf(events, log_odds)
            calls += 1
        return calls * patients * components / (time.perf_counter() - began)

    return clock


def of_tomotopy(table: EventTable, seconds: float) -> Clock:
    """Scans of all events a second of tomotopy's HDP, one worker, after 200 iterations."""
    import tomotopy

    model = tomotopy.HDPModel(initial_k=30, eta=0.5, alpha=1.0, gamma=1.0, seed=0)
    for row in table.events:
        model.add_doc([str(g) for g in np.flatnonzero(row == 1)])

    def clock() -> float:
        began, sweeps = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            model.train(20, workers=1, show_progress=False)
            sweeps += 20
        return sweeps / (time.perf_counter() - began)

    model.train(200, workers=1, show_progress=False)
    return clock


def recorder(seen: list[tuple[float, tuple[int, ...]]]) -> Callable[[Progress], None]:
    """A listener that notes when how many steps were done."""

    def listen(progress: Progress) -> None:
        seen.append((time.perf_counter(), progress.steps))

    return listen


def side_by_side(sampler: Sampler, chains: int, seconds: float) -> float:
    """Steps a second of chains on Ray together, checkpoints and scheduling included, from when all of them run."""
    for patience in (1, 4, 16):  # on a busy machine workers start late
        seen: list[tuple[float, tuple[int, ...]]] = []
        budget = patience * (8 * seconds + 4)
        plan = Plan(chains=chains, spacing=20, sweeps=10**9, seconds=budget, target=None, block_seconds=seconds)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:  # a worker may still write
            run_chains(sampler, plan, Path(scratch) / "chains", listen=recorder(seen))
        running = [(at, steps) for at, steps in seen if min(steps) > 0]
        if len(running) > 2 * chains:
            (first, before), (last, after) = running[0], running[-1]
            return (sum(after) - sum(before)) / (last - first)
    raise RuntimeError(f"{chains} chains did not get to run side by side within {budget:.0f} s")
