"""Made-up hospitals behind actors. Starting one takes seconds, so most tests share the same five."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from actors.center import CenterActor
from actors.coordinator import Coordinator
from actors.federation import Host
from federation.policy import DisclosurePolicy
from tests.actors.hospitals import SCHEMA, federation_of

Start = Callable[..., Coordinator]
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
def start(cluster: None) -> Iterator[Start]:
    """Starts a coordinator, with actors that reserve no CPU unless told; every one is stopped at the end."""
    started = []

    def begin(specs: Any = None, **options: Any) -> Coordinator:
        coordinator = Coordinator(specs or federation_of(), SCHEMA, **{"cpus": 0.0, "hosts": 1, **options})
        started.append(coordinator)
        return coordinator

    yield begin
    for coordinator in started:
        coordinator.close()
