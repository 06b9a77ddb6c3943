"""Made-up hospitals behind actors. Starting one takes seconds, so most tests share the same five."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import ray
import torch

from actors.center import CenterActor, CenterSpec
from actors.federation import Host
from federation.policy import DisclosurePolicy
from tests.actors.hospitals import SCHEMA, federation_of

StartHost = Callable[..., Host]
"""Called with centers, and the class of their actor if it is another than `CenterActor`."""
Packings = Mapping[str, Callable[[], list[Host]]]


@pytest.fixture(scope="session")
def packings(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packings]:
    """The same three hospitals behind one, two and three actors; call an entry for hosts that are not busy."""
    torch.set_num_threads(1)  # as actors do: the last bit of a product depends on it
    directory = tmp_path_factory.mktemp("centers")
    specs = federation_of()
    groups = {"a": specs[:1], "b": specs[1:2], "c": specs[2:], "ab": specs[:2], "abc": specs}
    options = {"num_cpus": 0, "max_restarts": -1}
    actors: dict[str, Any] = {
        name: CenterActor.options(**options).remote(group, SCHEMA, DisclosurePolicy(), directory / name)
        for name, group in groups.items()
    }
    assert ray.get([actor.load.remote() for actor in actors.values()], timeout=300) == [{}] * len(actors)

    def hosts(*chosen: str) -> Callable[[], list[Host]]:
        return lambda: [Host(actors[name], tuple(s.name for s in groups[name])) for name in chosen]

    yield {"one host": hosts("abc"), "two hosts": hosts("ab", "c"), "one actor per center": hosts("a", "b", "c")}
    for actor in actors.values():
        ray.kill(actor)


@pytest.fixture
def host(cluster: None) -> Iterator[StartHost]:
    """Starts an actor that holds the given centers; every one is stopped at the end."""
    started: list[Any] = []

    def start(specs: Sequence[CenterSpec], kind: Any = CenterActor) -> Host:
        policy, options = DisclosurePolicy(), {"num_cpus": 0, "max_restarts": -1}
        started.append(kind.options(**options).remote(specs, SCHEMA, policy, None))
        return Host(started[-1], tuple(spec.name for spec in specs))

    yield start
    for actor in started:
        ray.kill(actor)


def lose(host: Host, seconds: float = 60) -> None:
    """Kill a host's process, and return once it is gone: no answer can come from it any more, only from a new one.

    `ray.kill` returns before the process has died, so that a question asked right after may still be answered.
    """
    actor: Any = host.actor
    pid: int = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()), timeout=seconds)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + seconds
    while exists(pid):
        assert time.monotonic() < deadline, f"process {pid} has not died"
        time.sleep(0.01)


def exists(pid: int) -> bool:
    """Whether there is a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
