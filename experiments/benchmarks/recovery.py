"""What it costs when a host dies: the longest round of a federation one of whose hosts is killed."""

from __future__ import annotations

import os
import signal
import time

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
        stood by holds the host's centers, which load their data, and is asked again; ``young_recovery_s``, the same in a
        run too young for one, so that Ray has to start the host's process again; ``dropouts`` and ``rounds_lost``,
        which should be 0.
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
        dropouts = len(coordinator.dropouts)
        coordinator.close()
    after = [max(seconds[at:]) for seconds, at in late]
    return {
        "centers": centers,
        "round_ms": 1000 * float(np.median(np.concatenate([seconds for seconds, _ in late]))),
        "recovery_s": max(after),
        "fastest_recovery_s": min(after),
        "young_recovery_s": max(young[0][young[1] :]),
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


def _pid_of_a_host() -> int:
    """Of the oldest actor that holds centers; one that stands by is younger."""
    actors = ray._private.state.actors().values()
    hosts = [a for a in actors if "CenterShell" in a["ActorClassName"] and a["State"] == "ALIVE"]
    return int(min(hosts, key=lambda a: a["StartTime"])["Pid"])
