"""What it costs when a host dies: the longest round of a federation one of whose hosts is killed."""

from __future__ import annotations

import os
import signal

import numpy as np
import ray

from actors.cluster import ray_session
from actors.coordinator import Coordinator, Task
from experiments.benchmarks.simulated import SCHEMA, averaging, finish, specs_of
from federation.preprocessing import FitPreprocessor, preprocessor_of


def recovery_benchmark(centers: int = 100, rounds: int = 2000) -> dict[str, float]:
    """Kill a host (SIGKILL) in the middle of training.

    Returns
    -------
    dict
        ``round_ms``, median round; ``recovery_s``, the longest one after the kill: Ray starts the host's process again,
        its centers load their data, and it is asked again; ``dropouts`` and ``rounds_lost``, which should be 0.
    """
    with ray_session():
        coordinator = Coordinator(specs_of(centers), SCHEMA)
        coordinator.load()
        preprocessor = preprocessor_of(finish(coordinator, Task("preprocessor", FitPreprocessor(SCHEMA)))["state"])
        finish(coordinator, Task("warm", averaging(preprocessor, 20)))
        hosts = [a for a in ray._private.state.actors().values() if "CenterShell" in a["ActorClassName"]]
        seconds: list[float] = []
        killed_at = 0
        for progress in coordinator.run(Task("killed", averaging(preprocessor, rounds))):
            seconds += progress.seconds
            if not killed_at and len(seconds) > 20:
                os.kill(int(hosts[0]["Pid"]), signal.SIGKILL)
                killed_at = len(seconds)
        dropouts = len(coordinator.dropouts)
        coordinator.close()
    return {
        "centers": centers,
        "round_ms": 1000 * float(np.median(seconds)),
        "recovery_s": max(seconds[killed_at:]),
        "dropouts": dropouts,
        "rounds_lost": rounds + 1 - len(seconds),
        "load": os.getloadavg()[0],
    }
