"""Secure aggregation over actors: the same bits as in one process; lost and late hosts are dropouts."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import ray

from actors.center import CenterSpec
from actors.coordinator import Coordinator, Task
from actors.federation import Host, RayFederation, revived
from federation.algorithm import Roster, run
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.privacy import SecureAggregation
from federation.quorum import Quorum, QuorumError
from tests.actors.conftest import Packings, StartHost
from tests.actors.hospitals import NAMES, SCHEMA, averaging, federation_of, patients
from tests.actors.test_backends import ROSTER, SPLIT, algorithms, assert_same

SETTINGS = SecureAggregation()


@pytest.mark.parametrize("name", ["preprocessor", "exact cox", "scaffold"])
def test_the_backends_agree_under_masks(name: str, packings: Packings) -> None:
    algorithm = algorithms()[name]
    centers = [Center(s.name, s.source, s.position, SCHEMA) for s in federation_of()]
    expected = run(algorithm, InProcessFederation(centers, ROSTER.seed, SPLIT, name, secure_aggregation=SETTINGS))
    for packing in ("one host", "two hosts", "one actor per center"):
        federation = RayFederation(packings[packing](), ROSTER, SPLIT, name, secure_aggregation=SETTINGS)
        assert_same(run(algorithm, federation), expected)


def six() -> list[CenterSpec]:
    """The three hospitals twice."""
    names = [*NAMES, *(f"{name} II" for name in NAMES)]
    return [CenterSpec(name, j, partial(patients, name.split()[0])) for j, name in enumerate(names)]


def test_a_host_that_is_lost_is_a_dropout_of_the_round_and_joins_with_new_keys(host: StartHost) -> None:
    specs = six()
    hosts: list[Host] = [host(specs[:4]), host(specs[4:])]
    roster = Roster(tuple(s.name for s in specs))
    algorithm = algorithms()["preprocessor"]
    federation = RayFederation(hosts, roster, SPLIT, secure_aggregation=SETTINGS, timeout=60)
    state = algorithm.start(roster)
    whole = federation.ask(algorithm, state)
    ray.kill(hosts[1].actor, no_restart=False)
    part = federation.ask(algorithm, state)
    assert part.patients < whole.patients
    assert "Celle II" in federation.dropouts.reasons
    assert revived(hosts[1], time.monotonic() + 60)
    again = federation.ask(algorithm, state)
    assert again.patients == whole.patients
    for name in whole:
        np.testing.assert_array_equal(again[name], whole[name])
    ray.kill(hosts[0].actor, no_restart=False)
    with pytest.raises(QuorumError, match="2 centers take part, 3 are needed"):
        replace(federation, quorum=Quorum(0.0)).ask(algorithm, state)


def test_a_coordinator_runs_tasks_under_masks(cluster: None) -> None:
    coordinator = Coordinator(federation_of(), SCHEMA, hosts=2, cpus=0.0, timeout=120, secure_aggregation=SETTINGS)
    try:
        assert coordinator.load() == {}
        *_, last = coordinator.run(Task("masked", averaging(), SPLIT, seed=5))
    finally:
        coordinator.close()
    centers = [Center(s.name, s.source, s.position, SCHEMA) for s in federation_of()]
    masked = InProcessFederation(centers, 5, SPLIT, "masked", secure_aggregation=SETTINGS)
    assert last.final is not None
    assert_same(last.final, run(averaging(), masked))
