"""The federated mixture is the same chain in one process and on actors, however centers are packed: bit for bit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from actors.center import CenterActor, CenterSpec
from actors.coordinator import Coordinator, Task
from actors.federation import Host, RayFederation
from federation.algorithm import Roster, rounds
from federation.center import Center
from federation.checkpoint import save_state
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.stratification import FederatedMixture, trace
from harmonization import Cohort, Feature, Schema
from tests.actors.test_backends import assert_same

GENES = tuple(f"g{g}" for g in range(8))
SCHEMA = Schema("lesions", "1", tuple(Feature(g, "binary", "genomic") for g in GENES))
SIZES = {"Aachen": 40, "Bonn": 25, "Celle": 60, "Düren": 7}
ROSTER = Roster(tuple(SIZES), seed=5)


def patients(name: str) -> Cohort:
    """A hospital's patients with a few lesions, some of them not tested."""
    rng = np.random.default_rng([3, list(SIZES).index(name)])
    n = SIZES[name]
    values = (rng.random((n, len(GENES))) < 0.3).astype(float)
    values[rng.random(n) < 0.2, :3] = np.nan
    return Cohort(SCHEMA, np.array([f"{name}-{i}" for i in range(n)]), values, np.ones(n), np.zeros(n, dtype=bool))


SPECS = [CenterSpec(name, j, partial(patients, name), SIZES[name]) for j, name in enumerate(SIZES)]
PACKINGS = {"one host": [SPECS], "two hosts": [SPECS[:1] + SPECS[2:3], SPECS[1:2] + SPECS[3:]]}
PACKINGS["one actor per center"] = [[spec] for spec in SPECS]


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_backends_run_the_same_chain(packing: str, cluster: None) -> None:
    algorithm = FederatedMixture(GENES, rounds=30, annealing=10)
    centers = [Center(s.name, s.source, s.position, SCHEMA) for s in SPECS]
    expected = list(rounds(algorithm, InProcessFederation(centers, ROSTER.seed)))
    pooled = Center("pooled", lambda: Cohort.concatenate([patients(name) for name in SIZES]), 0, SCHEMA)
    actors = [_actor(specs) for specs in PACKINGS[packing]]
    try:
        hosts = [
            Host(actor, tuple(s.name for s in specs)) for actor, specs in zip(actors, PACKINGS[packing], strict=True)
        ]
        found = list(rounds(algorithm, RayFederation(hosts, ROSTER)))
    finally:
        for actor in actors:
            ray.kill(actor)
    for other in (expected, list(rounds(algorithm, InProcessFederation([pooled], ROSTER.seed)))):
        assert len(other) == len(found)
        for a, b in zip(found, other, strict=True):
            assert_same(a, b)
    assert len(set(trace(found[-1])[:, 0])) > 20


def _actor(specs: list[CenterSpec]) -> Any:
    options = {"num_cpus": 0, "max_restarts": -1}
    return CenterActor.options(**options).remote(specs, SCHEMA, DisclosurePolicy(), None)


def test_a_coordinator_resumes_the_chain(cluster: None, tmp_path: Path) -> None:
    """A task cut in two by a checkpoint ends with the same bits."""
    algorithm = FederatedMixture(GENES, rounds=24, annealing=5)
    short, whole = tmp_path / "short.npz", tmp_path / "whole.npz"
    coordinator = Coordinator(SPECS, SCHEMA, hosts=2, cpus=0.0, timeout=120)
    try:
        assert coordinator.load() == {}
        *_, last = coordinator.run(Task("chain", algorithm, seed=5, checkpoint=whole))
        states = list(rounds(algorithm, InProcessFederation([Center(s.name, s.source, s.position) for s in SPECS], 5)))
        save_state(short, states[9])
        *_, resumed = coordinator.run(Task("chain", algorithm, seed=5, checkpoint=short))
    finally:
        coordinator.close()
    assert last.final is not None
    assert resumed.final is not None
    assert last.metrics == algorithm.metrics(states[-1])
    assert_same(resumed.final, last.final)
    assert_same(resumed.final, states[-1])
