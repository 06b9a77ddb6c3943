"""Starting Ray quietly, or joining a cluster that runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def ray_session(address: str | None = None, num_cpus: int | None = None) -> Iterator[None]:
    """A Ray session for the length of a ``with`` block; one that runs already is used and left running.

    Parameters
    ----------
    address
        ``auto`` or ``ray://host:port`` to join a cluster; None joins that of the environment variable ``RAY_ADDRESS``
        (set in a Ray job) or else starts Ray on this machine, whatever else runs there.
    num_cpus
        For Ray on this machine; all by default.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about GPUs nobody uses
    # How long Ray keeps a failed call back to learn why: by default a second, half of what a lost host costs.
    os.environ.setdefault("RAY_timeout_ms_task_wait_for_death_info", "50")
    address = address or os.environ.get("RAY_ADDRESS")
    ray.init(
        address=address or "local",  # left out, it would join a cluster that someone else started on this machine
        num_cpus=None if address else num_cpus,
        include_dashboard=None if address else False,
        configure_logging=True,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        yield
    finally:
        ray.shutdown()


def cluster_cpus() -> int:
    """CPUs of the cluster, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]


def cluster_gpus() -> float:
    """GPUs of the cluster."""
    return float(ray.cluster_resources().get("GPU", 0.0))  # type: ignore[no-untyped-call]
