"""Hosts of one node are added up there: the same bits, fewer messages, and nobody's fault is anybody else's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ray

import actors.federation
from actors.federation import Host, RayFederation
from actors.tree import sums_of_nodes
from federation.algorithm import Roster, run
from tests.actors.conftest import Packings
from tests.actors.hospitals import NAMES, averaging

ROSTER = Roster(NAMES, seed=5)


def hosts_on_nodes(packings: Packings) -> list[Host]:
    """Three hosts, two of them said to be neighbours."""
    hosts = packings["one actor per center"]()
    for host, node in zip(hosts, ("here", "here", "there"), strict=True):
        host.node = node
    return hosts


def test_sums_by_node_change_no_bit(packings: Packings, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run(averaging(rounds=2), RayFederation(packings["one host"](), ROSTER, task="tree"))
    monkeypatch.setattr(actors.federation, "INLINE_BYTES", 0)
    seen: list[int] = []

    def watched(pending: dict[Any, Any], timeout: float) -> Any:
        found = sums_of_nodes(pending, timeout)
        seen.append(sum(len(references) for references, _ in found))
        return found

    monkeypatch.setattr(actors.federation, "sums_of_nodes", watched)
    tree = run(averaging(rounds=2), RayFederation(hosts_on_nodes(packings), ROSTER, task="tree"))
    assert seen
    assert set(seen) == {2}  # the two neighbours'; the third came by itself
    np.testing.assert_array_equal(tree["weights"], plain["weights"])


def test_where_one_of_a_node_failed_each_answer_is_left_to_be_fetched(packings: Packings) -> None:
    @ray.remote(num_cpus=0)
    def failed() -> None:
        raise OSError("no such file")

    @ray.remote(num_cpus=0)
    def answered() -> tuple[int, dict[str, Any], dict[str, str]]:
        return 3, {}, {"Bonn": "late"}

    hosts = hosts_on_nodes(packings)
    pending = dict(zip((answered.remote(), failed.remote(), answered.remote()), hosts, strict=True))
    assert sums_of_nodes(pending, 60.0) == []
    pending = dict(zip((answered.remote(), answered.remote(), failed.remote()), hosts, strict=True))
    ((references, answer),) = sums_of_nodes(pending, 60.0)
    assert references == list(pending)[:2]
    assert answer == (6, {}, {"Bonn": "late"})
