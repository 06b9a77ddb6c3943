"""Markov chains side by side on Ray: in time slices, checkpointed, diagnosed across chains, resumed to the same bits.

A slice of a chain is a pure function of its directory: read the checkpoint, take steps for some seconds, write them.
So any worker can take any chain on, more chains than CPUs all advance, and a killed worker costs one slice. Nothing of
a chain depends on how its steps were cut into slices, since every step has a stream of its own (`clustering.chain`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray

from actors.chain_files import (
    IDENTITY,
    ChainsError,
    claim,
    draws_of,
    drop_unknown_blocks,
    home_of,
    read_checkpoint,
    read_trace,
    write_slice,
)
from actors.cluster import cluster_cpus
from actors.coordinator import unwrap
from clustering import diagnostics
from clustering.chain import SCALARS, Sampler, State, steps

TOGETHER = "together"
"""Name of the trace of the watched pairs among a chain's scalars, shape (steps, pairs)."""

LONGEST_BLOCK = 10_000  # steps: bounds the memory of a slice


@dataclass(frozen=True)
class Target:
    """When chains agree well enough: rank-normalized R-hat below, and bulk ESS above, on every watched scalar."""

    r_hat: float = 1.05
    ess: float = 400.0
    min_steps: int = 100
    watched: tuple[str, ...] = SCALARS


@dataclass(frozen=True)
class Plan:
    """How chains run.

    Parameters
    ----------
    chains, seed
        Chain c of a seed is the same wherever it runs.
    spacing
        Sweeps per step; one draw is kept a step.
    sweeps, seconds
        Budgets: sweeps of each chain, and seconds of this call (null: none).
    target
        Chains also stop here; null: only at a budget.
    burn_in
        Fraction of the steps left out of diagnostics and results.
    pairs
        So many pairs of patients, chosen by the seed, are watched for sharing a cluster (0: none).
    block_seconds
        Length of a time slice.
    timeout
        Seconds without an answer after which a worker is given up and its slice repeated.
    """

    chains: int = 4
    seed: int = 0
    spacing: int = 10
    sweeps: int = 20_000
    seconds: float | None = None
    target: Target | None = field(default_factory=Target)
    burn_in: float = 0.5
    pairs: int = 100
    block_seconds: float = 2.0
    timeout: float = 300.0

    def __post_init__(self) -> None:
        for name in ("chains", "spacing", "sweeps", "block_seconds", "timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be positive (found {getattr(self, name)})")
        if not 0 <= self.burn_in < 1:
            raise ValueError(f"burn_in: a fraction in [0, 1) (found {self.burn_in})")
        if self.pairs < 0:
            raise ValueError(f"pairs: must not be negative (found {self.pairs})")
        if self.sweeps < self.spacing:
            raise ValueError(f"sweeps: at least one step of {self.spacing} sweeps (found {self.sweeps})")

    @property
    def steps(self) -> int:
        """Steps of each chain that the budget of sweeps allows."""
        return self.sweeps // self.spacing

    @property
    def identity(self) -> dict[str, int]:
        """What fixes the bits of the chains, beside the sampler."""
        return {"seed": self.seed, "spacing": self.spacing, "pairs": self.pairs}


@dataclass(frozen=True)
class Progress:
    """What the driver knows after a slice: steps of each chain, and the last diagnostics at a common length."""

    steps: tuple[int, ...]
    r_hat: float
    ess: float


@dataclass(frozen=True)
class ChainsResult:
    """Chains of one common length.

    Parameters
    ----------
    directory
        Where their draws are (`ChainsResult.draws`).
    scalars
        Name -> shape (chains, steps), burn-in included.
    first
        Steps of burn-in.
    together
        Whether the patients of each watched pair share a cluster, int8 of shape (chains, steps, pairs).
    r_hat, ess
        Worst of the watched scalars and pairs after burn-in.
    reached
        Whether the target was.
    sweeps_per_second
        Of one chain while it runs, mean over chains.
    """

    directory: Path
    scalars: dict[str, np.ndarray]
    together: np.ndarray
    first: int
    r_hat: float
    ess: float
    reached: bool
    sweeps_per_second: float

    @property
    def shape(self) -> tuple[int, int]:
        """Chains and steps."""
        chains, length = next(iter(self.scalars.values())).shape
        return chains, length

    def draws(self, chain: int) -> Iterator[State]:
        """The draws of a chain after burn-in, one at a time from its files."""
        return islice(draws_of(home_of(self.directory, chain)), self.first, self.shape[1])


def diagnose(scalars: dict[str, np.ndarray], watched: tuple[str, ...] = SCALARS) -> tuple[float, float]:
    """Worst rank-normalized R-hat and bulk ESS of some scalars and of the watched pairs (`clustering.diagnostics`).

    A scalar with one value everywhere has converged: it counts as R-hat 1 and is left out of the ESS.

    Parameters
    ----------
    scalars
        Name -> shape (chains, steps), burn-in already removed; `TOGETHER`, if there, (chains, steps, pairs).

    Returns
    -------
    r_hat, ess
        Infinity and 0 with fewer than 2 chains or 4 steps, or where a scalar is not finite: nothing is known then.
    """
    traces = {name: scalars[name] for name in watched}
    if any(t.shape[0] < 2 or t.shape[1] < 4 or not np.isfinite(t).all() for t in traces.values()):
        return np.inf, 0.0
    if TOGETHER in scalars:
        traces |= diagnostics.uncertain_pairs(scalars[TOGETHER])
    found = diagnostics.diagnose(traces)
    varying = found.loc[~found["constant"], "ess_bulk"]
    fewest = float(next(iter(scalars.values())).size) if varying.empty else float(varying.fillna(0.0).min())
    return float(found["r_hat"].fillna(np.inf).max()), fewest


def run_chains(
    sampler: Sampler,
    plan: Plan,
    directory: Path,
    *,
    resume: bool = False,
    listen: Callable[[Progress], None] | None = None,
) -> ChainsResult:
    """Run chains until the target or a budget; needs a Ray session.

    Stopped by Ctrl-C or a crash, the directory holds all finished slices: call again with ``resume``. On a cluster the
    directory must be on a file system that all machines share. The target is looked at when all chains have reached
    lengths fixed in advance, so that what is returned depends on the plan alone, except under a budget of seconds.

    Raises
    ------
    ChainsError
        If the directory holds chains and ``resume`` is not set, or chains of another plan; or if a chain's slice is
        lost again and again.
    """
    directory = directory.absolute()
    claim(directory, plan.identity, resume)
    traces, busy = zip(*(read_trace(home_of(directory, c)) for c in range(plan.chains)), strict=True)
    chains = _Chains(list(traces), sum(busy))
    milestones = _milestones(plan)
    r_hat, ess, common = np.inf, 0.0, 0
    end = None if plan.seconds is None else time.monotonic() + plan.seconds
    shared = ray.put(sampler)
    pool = _Pool(min(plan.chains, cluster_cpus()), shared, plan, directory)
    try:
        while True:
            shortest = min(chains.lengths)
            while milestones and milestones[0] <= shortest:
                common = milestones.pop(0)
                r_hat, ess = diagnose(chains.upto(common, int(plan.burn_in * common)), _watched(plan))
                if plan.target is not None and r_hat < plan.target.r_hat and ess > plan.target.ess:
                    return chains.result(plan, directory, common, r_hat, ess, reached=True)
            if shortest >= plan.steps or (end is not None and time.monotonic() >= end and shortest > 0):
                break
            pool.fill(chains.lengths, plan.steps)
            for chain, trace, seconds in pool.collect():
                chains.extend(chain, trace, seconds)
            if listen is not None:
                listen(Progress(tuple(chains.lengths), r_hat, ess))
    finally:
        pool.close()
    if common < shortest:
        r_hat, ess = diagnose(chains.upto(shortest, int(plan.burn_in * shortest)), _watched(plan))
    return chains.result(plan, directory, shortest, r_hat, ess, reached=False)


def read_chains(plan: Plan, directory: Path) -> ChainsResult:
    """What chains have reached, up to their common length, without going on with them; needs no Ray session.

    Raises
    ------
    ChainsError
        If the directory lacks a step of a chain, or holds chains of another plan.
    """
    directory = directory.absolute()
    if not (directory / IDENTITY).exists():
        raise ChainsError(f"{directory}: holds no chains")
    claim(directory, plan.identity, resume=True)
    traces, busy = zip(*(read_trace(home_of(directory, c)) for c in range(plan.chains)), strict=True)
    chains = _Chains(list(traces), sum(busy))
    length = min(chains.lengths)
    if length == 0:
        raise ChainsError(f"{directory}: chain {chains.lengths.index(0)} has no steps yet")
    r_hat, ess = diagnose(chains.upto(length, int(plan.burn_in * length)), _watched(plan))
    reached = plan.target is not None and r_hat < plan.target.r_hat and ess > plan.target.ess
    return chains.result(plan, directory, length, r_hat, ess, reached=reached)


def _watched(plan: Plan) -> tuple[str, ...]:
    return plan.target.watched if plan.target is not None else SCALARS


def _milestones(plan: Plan) -> list[int]:
    """Common lengths at which the target is looked at: 10% apart, so that looking costs little."""
    if plan.target is None:
        return []
    found, length = [], max(4, plan.target.min_steps)
    while length < plan.steps:
        found.append(length)
        length = max(length + 1, int(length * 1.1))
    return [*found, plan.steps]


class _Chains:
    """The scalars of all chains, as they come in."""

    def __init__(self, traces: list[dict[str, np.ndarray]], busy: float) -> None:
        self.traces = traces
        self.busy = busy

    @property
    def lengths(self) -> list[int]:
        return [len(next(iter(t.values()))) if t else 0 for t in self.traces]

    def extend(self, chain: int, trace: dict[str, np.ndarray], seconds: float) -> None:
        old = self.traces[chain]
        self.traces[chain] = {k: np.concatenate([old[k], v]) if old else v for k, v in trace.items()}
        self.busy += seconds

    def upto(self, length: int, first: int = 0) -> dict[str, np.ndarray]:
        return {name: np.stack([t[name][first:length] for t in self.traces]) for name in self.traces[0]}

    def result(self, plan: Plan, directory: Path, length: int, r_hat: float, ess: float, reached: bool) -> ChainsResult:
        speed = sum(self.lengths) * plan.spacing / max(self.busy, 1e-9)
        scalars = self.upto(length)
        together = scalars.pop(TOGETHER)
        return ChainsResult(directory, scalars, together, int(plan.burn_in * length), r_hat, ess, reached, speed)


class _Pool:
    """Workers, each with at most one slice under way; a lost or silent one is replaced and its slice repeated."""

    def __init__(self, size: int, sampler: Any, plan: Plan, directory: Path) -> None:
        self.sampler, self.plan, self.directory = sampler, plan, directory
        self.idle = [_RemoteWorker.remote(sampler) for _ in range(size)]
        self.under_way: dict[Any, tuple[Any, int, float]] = {}  # reference -> worker, chain, deadline
        self.lost: dict[int, int] = {}

    def fill(self, lengths: list[int], longest: int) -> None:
        """Give every idle worker the shortest chain that nobody advances."""
        running = {chain for _, chain, _ in self.under_way.values()}
        waiting = sorted((n, c) for c, n in enumerate(lengths) if c not in running and n < longest)
        for _, chain in waiting[: len(self.idle)]:
            worker = self.idle.pop()
            reference = worker.slice.remote(self.plan, str(home_of(self.directory, chain)), chain)
            self.under_way[reference] = (worker, chain, time.monotonic() + self.plan.timeout)

    def collect(self) -> Iterator[tuple[int, dict[str, np.ndarray], float]]:
        """What the next finished slices hold: chain, scalars, seconds."""
        ready, _ = ray.wait(list(self.under_way), num_returns=1, timeout=1.0)
        for reference in ready:
            worker, chain, _ = self.under_way.pop(reference)
            try:
                trace, seconds = unwrap(lambda ref=reference: ray.get(ref, timeout=60))
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
                self._replace(worker, chain, error)
                continue
            self.idle.append(worker)
            self.lost.pop(chain, None)
            yield chain, trace, seconds
        now = time.monotonic()
        for reference, (worker, chain, deadline) in list(self.under_way.items()):
            if now > deadline:
                del self.under_way[reference]
                self._replace(worker, chain, TimeoutError(f"no answer for {self.plan.timeout:g} s"))

    def _replace(self, worker: Any, chain: int, why: Exception) -> None:
        ray.kill(worker)  # a silent one must not write on
        self.lost[chain] = self.lost.get(chain, 0) + 1
        if self.lost[chain] > 3:
            raise ChainsError(f"chain {chain}: its worker was lost {self.lost[chain]} times in a row ({why})") from why
        self.idle.append(_RemoteWorker.remote(self.sampler))

    def close(self) -> None:
        for worker in [*self.idle, *(worker for worker, _, _ in self.under_way.values())]:
            ray.kill(worker)


class _Worker:
    """Advances whichever chain it is given."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def slice(self, plan: Plan, home: str, chain: int) -> tuple[dict[str, np.ndarray], float]:
        """One time slice of a chain, written before it is returned."""
        return advance_chain(self.sampler, plan, Path(home), chain)


_RemoteWorker: Any = ray.remote(num_cpus=1, max_restarts=0)(_Worker)


def advance_chain(sampler: Sampler, plan: Plan, home: Path, chain: int) -> tuple[dict[str, np.ndarray], float]:
    """Take steps of a chain for a time slice, from its checkpoint to its next.

    Returns
    -------
    scalars, seconds
        Name -> shape (steps,) of the new steps, and the seconds they took.
    """
    begun = time.monotonic()
    home.mkdir(parents=True, exist_ok=True)
    after = read_checkpoint(home)
    done = after[0] if after is not None else 0
    drop_unknown_blocks(home, done)
    taken = []
    for step in islice(steps(sampler, plan.seed, chain, plan.spacing, after), min(plan.steps - done, LONGEST_BLOCK)):
        taken.append(step)
        if time.monotonic() - begun >= plan.block_seconds:
            break
    scalars = {name: np.array([step.scalars[name] for step in taken]) for name in taken[0].scalars}
    labels = np.array([step.draw["labels"] for step in taken])
    scalars[TOGETHER] = diagnostics.co_clustering(labels, watched_pairs(plan, labels.shape[1])).T
    seconds = time.monotonic() - begun
    draws, last = [step.draw for step in taken], taken[-1]
    write_slice(home, done, last.number, last.state, scalars, draws, seconds)
    return scalars, seconds


def watched_pairs(plan: Plan, patients: int) -> np.ndarray:
    """The pairs of patients that a plan watches, shape (pairs, 2)."""
    if plan.pairs == 0 or patients < 2:
        return np.empty((0, 2), np.int64)
    return diagnostics.choose_pairs(patients, plan.pairs, plan.seed)
