"""The coordinator: an actor that runs the loop of federated algorithms over center actors."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.center import CenterActor, CenterSpec, balance
from actors.cluster import cluster_cpus, cluster_gpus
from actors.federation import INLINE_BYTES, Host, RayFederation, gather, revived
from actors.standby import Standby
from actors.threads import one_thread
from federation.algorithm import Algorithm, Roster, rounds
from federation.checkpoint import load_state, save_state
from federation.policy import DisclosurePolicy
from federation.privacy.secure import SecureAggregation, SecureRounds
from federation.privacy.signing import KEY_BYTES, Signer
from federation.quorum import DropoutLog, Quorum, describe
from federation.splits import Split
from federation.state import State
from harmonization import Schema

logger = logging.getLogger("haemfed")

PINNED = 0.001
"""How much of its node's resource a center's actor takes: any number of actors fit."""


@dataclass(frozen=True)
class Task:
    """One run of an algorithm.

    Parameters
    ----------
    name
        Unique in the experiment; names the task's random numbers, memory and checkpoint.
    algorithm
        What to run.
    split
        Which patients train.
    seed
        Of the run.
    left_out
        Centers that take no part.
    checkpoint
        File to save the state to and to go on from; None for neither.
    checkpoint_every
        Rounds between checkpoints.
    report_seconds
        Progress is reported at most this often, so that reporting never slows a round.
    """

    name: str
    algorithm: Algorithm
    split: Split = Split()
    seed: int = 0
    left_out: tuple[str, ...] = ()
    checkpoint: Path | None = None
    checkpoint_every: int = 10
    report_seconds: float = 0.2


@dataclass(frozen=True)
class Progress:
    """What the driver hears while a task runs; the last one has the final state.

    Parameters
    ----------
    seconds
        What each round since the last progress took.
    """

    task: str
    round: int
    metrics: Mapping[str, float]
    dropouts: Mapping[str, str]
    final: State | None = None
    seconds: tuple[float, ...] = ()


class CoordinatorShell:
    """Runs tasks one after the other over the same center actors.

    Parameters
    ----------
    hosts
        The center actors.
    names
        The roster.
    quorum, timeout, secure_aggregation
        See `actors.federation.RayFederation`.
    key
        With which it signs questions; None for unsigned ones.
    start
        Starts an actor without centers, to take over those of a lost host; None if nobody could.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        names: tuple[str, ...],
        quorum: Quorum,
        timeout: float,
        secure_aggregation: SecureAggregation | None = None,
        key: bytes | None = None,
        start: Callable[[], Any] | None = None,
    ) -> None:
        self._standby = None if start is None else Standby(start)
        self._secure_aggregation = secure_aggregation
        self._secure_rounds = None if secure_aggregation is None else SecureRounds(secure_aggregation)
        self._signer = None if key is None else Signer(key=key)
        one_thread()
        self._hosts, self._names, self._quorum, self._timeout = hosts, names, quorum, timeout
        self._dropouts = DropoutLog()
        self._absent: dict[str, str] = {}
        self._seconds: list[float] = []

    def load(self) -> dict[str, str]:
        """Let every center load its data: why centers cannot take part, by name.

        Raises
        ------
        QuorumError
            If too few can.
        """
        self._load(self._hosts)
        self._quorum.check(len(self._names), self._absent)
        return self._absent

    def _load(self, hosts: Sequence[Host]) -> None:
        """Let hosts load what they have not loaded yet."""
        failed: dict[str, str] = {}
        answers = gather({host.actor.load.remote(): host for host in hosts}, self._timeout, failed)
        for host in hosts:
            failed |= answers.get(id(host), {})  # type: ignore[arg-type]
            everybody = (*host.centers, *host.absent)
            host.centers = tuple(name for name in everybody if name not in failed)
            # A host that did not survive the attempt is not asked to load again.
            host.absent = tuple(name for name in everybody if name in failed) if id(host) in answers else ()
            failed |= {name: why for name, why in self._absent.items() if name not in everybody}
        for host in hosts:
            if id(host) in answers:
                revived(host, time.monotonic() + self._timeout)  # says on which node it is
        self._absent = {name: failed[name] for name in self._names if name in failed}

    def run(self, task: Task) -> Iterator[Progress]:
        """Run a task from its checkpoint or its start; yields progress, and last the final state."""
        if late := [host for host in self._hosts if host.absent]:
            self._load(late)  # a center whose data have come meanwhile joins
        federation = RayFederation(
            [host for host in self._hosts if host.centers],
            Roster(self._names, task.seed),
            split=task.split,
            task=task.name,
            quorum=self._quorum,
            timeout=self._timeout,
            checkpoint_every=task.checkpoint_every if task.checkpoint else 1,
            left_out=task.left_out,
            absent=self._absent,
            dropouts=self._dropouts,
            secure_aggregation=self._secure_aggregation,
            secure_rounds=self._secure_rounds,
            signer=self._signer,
            standby=self._standby,
        )
        start = state = load_state(task.checkpoint) if task.checkpoint and task.checkpoint.exists() else None
        reported = time.monotonic()
        self._seconds, began = [], time.perf_counter()
        try:
            for state in rounds(task.algorithm, federation, start):
                self._seconds.append(time.perf_counter() - began)
                if task.checkpoint and int(state["round"]) % task.checkpoint_every == 0:
                    try:
                        save_state(task.checkpoint, state)
                    except OSError as error:  # a full disk; the last checkpoint is whole, and the next may succeed
                        logger.warning("round %d: no checkpoint: %s", int(state["round"]), describe(error))
                if time.monotonic() - reported >= task.report_seconds:
                    reported = time.monotonic()
                    yield self._progress(task, state)
                began = time.perf_counter()
        finally:  # also when the quorum is lost: what was trained so far is on disk
            if task.checkpoint and state is not None:
                save_state(task.checkpoint, state)
        assert state is not None
        yield self._progress(task, state, final=state)

    def _progress(self, task: Task, state: State, final: State | None = None) -> Progress:
        metrics = task.algorithm.metrics(state)
        seconds, self._seconds = tuple(self._seconds), []
        return Progress(task.name, int(state["round"]), metrics, dict(self._dropouts.reasons), final, seconds)


class Coordinator:
    """The driver's handle on a federation of actors: starts them, runs tasks, stops them.

    Parameters
    ----------
    specs
        The centers, in roster order.
    schema
        The federation's; a center whose own differs is left out, and its log names the difference.
    policy, directory
        Disclosure policy, and where centers keep audit log and memory (on their own node).
    quorum, timeout, secure_aggregation
        See `actors.federation.RayFederation`.
    hosts
        Number of actors; 0 for one per center. By default one per CPU.
    cpus, coordinator_cpus
        CPUs that each center actor and the coordinator reserve.
    device
        Where hosts compute: ``cpu``, or ``cuda`` with a share of a GPU each (Ray has to know of one).
    signed
        Sign questions and answers, by keys made at the start (hosts keep theirs in ``keys/`` of `directory`).

    Attributes
    ----------
    dropouts
        Why centers dropped out so far, by name.
    """

    def __init__(
        self,
        specs: Sequence[CenterSpec],
        schema: Schema,
        policy: DisclosurePolicy | None = None,
        directory: Path | None = None,
        quorum: Quorum | None = None,
        timeout: float = 600.0,
        hosts: int | None = None,
        cpus: float = 1.0,
        coordinator_cpus: float = 0.0,
        device: str = "cpu",
        secure_aggregation: SecureAggregation | None = None,
        signed: bool = False,
    ) -> None:
        key = os.urandom(KEY_BYTES) if signed else None
        count = len(specs) if hosts == 0 else hosts or cluster_cpus()
        cpus = cpus if count <= cluster_cpus() else 0.0  # one actor per center may outnumber the CPUs
        groups, rules = balance(specs, count), policy or DisclosurePolicy()
        gpus = cluster_gpus() / len(groups) if device == "cuda" else 0.0
        self._actors: list[Any] = []
        given: list[list[Any]] = []
        self._specs: list[ray.ObjectRef[Any]] = []  # as long as this lives, actors can be started again
        for group in groups:
            resources = {group[0].resource: PINNED} if group[0].resource else {}
            start = CenterActor.options(
                num_cpus=cpus, num_gpus=gpus, resources=resources, max_restarts=-1, max_concurrency=1
            )
            held: list[Any] = list(group)
            if len(ray.cloudpickle.dumps(group)) > INLINE_BYTES:  # type: ignore[no-untyped-call]
                self._specs.append(ray.put(group))
                held = self._specs[-1:]
            given.append(held)
            self._actors.append(start.remote(held, schema, rules, directory, device, key and Signer(key=key).public))
        hosts_ = [
            Host(a, tuple(s.name for s in g), specs=() if g[0].resource else h)
            for a, g, h in zip(self._actors, groups, given, strict=True)
        ]
        alike = not (signed or secure_aggregation or device == "cuda")  # keys and GPUs are an actor's own
        empty = partial(_empty, schema, rules, directory) if alike and any(h.specs for h in hosts_) else None
        options: dict[str, Any] = {"num_cpus": coordinator_cpus}
        if ray.util.get_current_placement_group() is None:  # else the group decides
            node = ray.get_runtime_context().get_node_id()
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=True)
        shell = ray.remote(CoordinatorShell).options(**options)
        names = tuple(s.name for s in specs)
        self.dropouts: dict[str, str] = {}
        quorum = quorum or Quorum()
        quorum = replace(quorum, min_centers=max(quorum.min_centers, rules.min_centers))
        self._coordinator: Any = shell.remote(hosts_, names, quorum, timeout, secure_aggregation, key, empty)

    def load(self) -> dict[str, str]:
        """Let every center load its data: why centers cannot take part, by name; raises QuorumError if too few can."""
        failed: dict[str, str] = unwrap(lambda: ray.get(self._coordinator.load.remote()))
        return failed

    def run(self, task: Task) -> Iterator[Progress]:
        """Run a task; the last progress has the final state. Raises QuorumError as the coordinator does."""
        stream = self._coordinator.run.options(num_returns="streaming").remote(task)
        for reference in stream:
            progress: Progress = unwrap(lambda ref=reference: ray.get(ref))
            self.dropouts = dict(progress.dropouts)
            yield progress

    def close(self) -> None:
        """Stop all actors."""
        for actor in [self._coordinator, *self._actors]:
            ray.kill(actor)


def _empty(schema: Schema, policy: DisclosurePolicy, directory: Path | None) -> Any:
    """An actor that takes over the centers of another when it is told to (`actors.standby`)."""
    return CenterActor.options(num_cpus=0, max_restarts=-1, max_concurrency=1).remote([], schema, policy, directory)


def unwrap(get: Any) -> Any:
    """Call a function that fetches from Ray; an error inside an actor is raised as itself."""
    try:
        return get()
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, Exception) else error) from None
