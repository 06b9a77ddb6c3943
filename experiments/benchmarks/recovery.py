"""What a long run costs: the longest round when a host is killed, and how memory grows."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import ray

from actors.cluster import ray_session
from actors.coordinator import Coordinator, Task
from actors.standby import AFTER
from experiments.benchmarks.simulated import SCHEMA, averaging, finish, specs_of
from federation.preprocessing import FitPreprocessor, preprocessor_of
from models.preprocessing import Preprocessor

KILLS = 3
"""Hosts killed while another actor stands by, one after the other."""


def recovery_benchmark(centers: int = 100, rounds: int = 1000) -> dict[str, float]:
    """Kill hosts (SIGKILL) in the middle of training.

    Returns
    -------
    dict
        ``round_ms``, median round; ``recovery_s``, the longest round after a kill, the worst of `KILLS`: a process that
        stood by holds the host's centers, which load their data, and is asked again; ``young_recovery_s``, the same in
        a run too young for one, so that Ray has to start the host's process again; ``dropouts`` and ``rounds_lost``,
        which should be 0; ``hosts_kb_per_round`` and ``coordinator_kb_per_round``, how their resident memory grows.
    """
    with ray_session():
        coordinator = Coordinator(specs_of(centers), SCHEMA)
        coordinator.load()
        preprocessor = preprocessor_of(finish(coordinator, Task("preprocessor", FitPreprocessor(SCHEMA)))["state"])
        finish(coordinator, Task("warm", averaging(preprocessor, 20)))
        young = _killed(coordinator, preprocessor, "young", rounds)
        late = []
        for kill in range(KILLS):
            began = time.monotonic()
            while time.monotonic() < began + 2 * AFTER:  # the actor that stands by is started and rehearses
                finish(coordinator, Task("meanwhile", averaging(preprocessor, 100)))
            late.append(_killed(coordinator, preprocessor, f"kill {kill}", rounds))
        growth = _growth(coordinator, preprocessor, rounds)
        dropouts = len(coordinator.dropouts)
        coordinator.close()
    after = [max(seconds[at:]) for seconds, at in late]
    return {
        "centers": centers,
        "round_ms": 1000 * float(np.median(np.concatenate([seconds for seconds, _ in late]))),
        "recovery_s": max(after),
        "fastest_recovery_s": min(after),
        "young_recovery_s": max(young[0][young[1] :]),
        "hosts_kb_per_round": growth["CenterShell"],
        "coordinator_kb_per_round": growth["CoordinatorShell"],
        "dropouts": dropouts,
        "rounds_lost": (1 + KILLS) * (rounds + 1) - sum(len(seconds) for seconds, _ in [young, *late]),
        "load": os.getloadavg()[0],
    }


def _killed(coordinator: Coordinator, preprocessor: Preprocessor, name: str, rounds: int) -> tuple[list[float], int]:
    """Train and kill a host on the way: what each round took, and the first one after the kill."""
    seconds: list[float] = []
    killed_at = 0
    for progress in coordinator.run(Task(name, averaging(preprocessor, rounds))):
        seconds += progress.seconds
        if not killed_at and len(seconds) > 20:
            os.kill(_pid_of_a_host(), signal.SIGKILL)
            killed_at = len(seconds)
    return seconds, killed_at


def _growth(coordinator: Coordinator, preprocessor: Preprocessor, rounds: int) -> dict[str, float]:
    """KB of resident memory that actors gain a round, by class: the slope over the second half of a run."""
    at, sizes = [], []
    for progress in coordinator.run(Task("growth", averaging(preprocessor, rounds))):
        if progress.round >= rounds // 2:
            at.append(progress.round)
            sizes.append(_resident())
    return {kind: float(np.polyfit(at, [size[kind] for size in sizes], 1)[0]) for kind in sizes[0]}


def _resident() -> dict[str, float]:
    """KB of resident memory of all actors, by class."""
    found = {"CenterShell": 0.0, "CoordinatorShell": 0.0}
    for actor in ray._private.state.actors().values():
        if actor["State"] == "ALIVE":
            pages = int(Path(f"/proc/{actor['Pid']}/statm").read_text().split()[1])
            kind = next(kind for kind in found if kind in actor["ActorClassName"])
            found[kind] += pages * os.sysconf("SC_PAGE_SIZE") / 1024
    return found


def _pid_of_a_host() -> int:
    """Of the oldest actor that holds centers; one that stands by is younger."""
    actors = ray._private.state.actors().values()
    hosts = [a for a in actors if "CenterShell" in a["ActorClassName"] and a["State"] == "ALIVE"]
    return int(min(hosts, key=lambda a: a["StartTime"])["Pid"])
