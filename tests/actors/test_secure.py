"""Secure aggregation over actors: the same bits as in one process; lost and late hosts are dropouts."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray

from actors.center import CenterActor, CenterSpec
from actors.coordinator import Coordinator, Task
from actors.federation import Host, RayFederation, revived
from federation.algorithm import Roster, run
from federation.center import Center
from federation.in_process import InProcessFederation, question_for
from federation.policy import DisclosurePolicy
from federation.privacy.secure import SecureAggregation
from federation.privacy.signing import BadSignature, Signer, digest
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
    with pytest.raises(QuorumError, match="are needed"):
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


def test_signed_questions_and_answers(cluster: None, tmp_path: Path) -> None:
    """The same bits; no unsigned, replayed or forged question is answered, no foreign answer taken."""
    coordinator, forger = Signer(), Signer()
    options = {"num_cpus": 0, "max_restarts": -1}
    actor = CenterActor.options(**options).remote(
        federation_of(), SCHEMA, DisclosurePolicy(), tmp_path, "cpu", coordinator.public
    )
    hosts = [Host(actor, NAMES)]
    algorithm, plain = algorithms()["preprocessor"], [Center(s.name, s.source, s.position) for s in federation_of()]
    signed = RayFederation(hosts, ROSTER, SPLIT, signer=coordinator)
    expected = run(algorithm, InProcessFederation(plain, ROSTER.seed, SPLIT))
    try:
        assert_same(run(algorithm, signed), expected)
        both = RayFederation(hosts, ROSTER, SPLIT, signer=coordinator, secure_aggregation=SETTINGS)
        assert run(algorithm, both).keys() == expected.keys()
        question = question_for(algorithm, algorithm.start(ROSTER), "run", SPLIT, ROSTER, 1)
        arguments = (question.to_json(), dict(question.state), ())
        with pytest.raises(BadSignature, match="signed questions only"):
            ray.get(actor.answer.remote(*arguments))
        for signer, sequence, message in ((coordinator, 5, "is a replay"), (forger, 2**62, "is not what")):
            seal = signer.sign("question", "run", 0, sequence, ["answer", *map(digest, arguments)])
            with pytest.raises(BadSignature, match=message):
                ray.get(actor.signed.remote(seal, "answer", *arguments))
        hosts[0].key = forger.public
        with pytest.raises(QuorumError, match="the answer of run 'run', round 0 is not what"):
            run(algorithm, RayFederation(hosts, ROSTER, SPLIT, signer=coordinator))
        with pytest.raises(QuorumError, match="signed questions only"):
            run(algorithm, RayFederation([Host(actor, NAMES)], ROSTER, SPLIT))
    finally:
        ray.kill(actor)
