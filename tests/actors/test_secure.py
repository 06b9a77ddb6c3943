"""Secure aggregation over actors: the same bits as in one process; lost and late hosts are dropouts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from scipy import stats

from actors.center import CenterActor, CenterSpec
from actors.coordinator import Coordinator, Task
from actors.federation import Host, RayFederation, gather, revived
from federation.algorithm import Roster, run
from federation.center import Center
from federation.contribution import Contribution
from federation.in_process import InProcessFederation, question_for
from federation.policy import DisclosurePolicy
from federation.privacy.masks import MaskStream
from federation.privacy.secure import SecureAggregation
from federation.privacy.signing import BadSignature, Signer, asked_of
from federation.quorum import Quorum, QuorumError
from federation.splits import Split
from harmonization import Cohort
from tests.actors.conftest import Packings, StartHost, lose
from tests.actors.hospitals import NAMES, SCHEMA, averaging, federation_of, patients
from tests.actors.leaking import NormBesideActor, ShortMasksActor, short
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
    federation = RayFederation(hosts, roster, SPLIT, secure_aggregation=SETTINGS, timeout=300)
    state = algorithm.start(roster)
    whole = federation.ask(algorithm, state)
    lose(hosts[1])  # even if it starts again at once: its keys are gone, and the session is over for it
    part = federation.ask(algorithm, state)
    assert part.patients < whole.patients
    assert "Celle II" in federation.dropouts.reasons
    assert revived(hosts[1], time.monotonic() + 300)
    again = federation.ask(algorithm, state)
    assert again.patients == whole.patients
    for name in whole:
        np.testing.assert_array_equal(again[name], whole[name])
    lose(hosts[0])
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
            seal = signer.sign("question", "run", 0, sequence, asked_of("Aachen", "answer", arguments))
            with pytest.raises(BadSignature, match=message):
                ray.get(actor.signed.remote(seal, "answer", *arguments))
        hosts[0].key = forger.public
        with pytest.raises(QuorumError, match="the answer of run 'run', round 0 is not what"):
            run(algorithm, RayFederation(hosts, ROSTER, SPLIT, signer=coordinator))
        with pytest.raises(QuorumError, match="signed questions only"):
            run(algorithm, RayFederation([Host(actor, NAMES)], ROSTER, SPLIT))
    finally:
        ray.kill(actor)


SESSIONS = 40


def transcript(message: Any) -> Iterator[tuple[str, bytes]]:
    """Every number, text and array of a message, and where it is."""
    match message:
        case bytes() | str():
            yield "text", message.encode() if isinstance(message, str) else message
        case np.ndarray():
            yield f"array {message.dtype} {message.shape}", message.tobytes()
        case Mapping():
            for key in sorted(message):
                yield from ((f"{key}/{where}", found) for where, found in transcript(message[key]))
        case Sequence():
            for i, part in enumerate(message):
                yield from ((f"{i}/{where}", found) for where, found in transcript(part))
        case _ if is_dataclass(message):
            yield from transcript({field.name: getattr(message, field.name) for field in fields(message)})
        case _:
            yield "value", repr(message).encode()


def moved(name: str, other: str, patient: int) -> Cohort:
    """A center's patients, of whom one is another center's."""
    cohort, donor = patients(name), patients(other)
    return Cohort.concatenate([cohort[np.arange(len(cohort)) != patient], donor[[patient]]])


def two_inputs() -> tuple[list[CenterSpec], list[CenterSpec]]:
    """The hospitals, and again with two patients of different hospitals in each other's place."""
    inputs = (federation_of(), federation_of())
    for i, (name, other) in enumerate((NAMES[:2], NAMES[1::-1])):
        inputs[1][i] = replace(inputs[1][i], source=partial(moved, name, other, 3))
    return inputs


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All that the coordinator receives, message by message."""
    heard: list[Any] = []

    def overheard(pending: dict[Any, Host], *rest: Any) -> dict[int, Any]:
        order = {id(host): i for i, host in enumerate(pending.values())}
        answers = gather(pending, *rest)
        heard.append({order[host]: answer for host, answer in answers.items()})
        return answers

    monkeypatch.setattr("actors.federation.gather", overheard)
    monkeypatch.setattr("federation.privacy.secure.rounds_ahead", lambda *_: 1)
    return heard


Heard = list[dict[str, bytes]]
"""Of each session, every part of every message by its place."""


def listen(hosts: list[Host], received: list[Any], sessions: int) -> tuple[Heard, Contribution]:
    """What is heard in many sessions, and their sum."""
    algorithm, heard = algorithms()["preprocessor"], []
    for i in range(sessions):
        received.clear()
        fresh = replace(SETTINGS, colluding=0.05 + 0.001 * (i % 2))  # other settings: hosts make new keys
        federation = RayFederation(hosts, ROSTER, Split(), secure_aggregation=fresh)
        total = federation.ask(algorithm, algorithm.start(ROSTER))
        heard.append(dict(transcript(received)))
    return heard, total


def require_alike(zero: Heard, one: Heard) -> None:
    """Fail if sessions of two inputs can be told apart, byte by byte or by a classifier."""
    lengths = [{where: len(found) for where, found in parts.items()} for parts in [*zero, *one]]
    assert all(found == lengths[0] for found in lengths)  # the same messages, as long, every time
    a, b = (np.array([np.frombuffer(b"".join(p.values()), np.uint8) for p in h], dtype=float) for h in (zero, one))
    varying = (a.std(axis=0) > 0) & (b.std(axis=0) > 0)
    np.testing.assert_array_equal(a[:, ~varying], b[:, ~varying])  # names and shapes are no secret
    a, b = a[:, varying], b[:, varying]
    assert a.shape[1] > 1000
    z = (a.mean(axis=0) - b.mean(axis=0)) / np.sqrt((a.var(axis=0) + b.var(axis=0)) / len(a))
    assert abs(z).max() < stats.norm.isf(1e-4 / z.size / 2) * 1.15  # Bonferroni; the variances are estimates
    assert abs(np.square(z).mean() - 1) < 0.15
    half = len(a) // 2  # a classifier that has learned from half of the sessions
    direction = a[:half].mean(axis=0) - b[:half].mean(axis=0)
    assert stats.mannwhitneyu(a[half:] @ direction, b[half:] @ direction).pvalue > 1e-3


@pytest.mark.slow
def test_nothing_that_the_coordinator_receives_tells_two_neighbouring_inputs_apart(
    host: StartHost, received: list[Any]
) -> None:
    """Every message of every center, byte by byte, over many sessions: two patients have changed places or not.

    The sum is the same, so whatever told them apart would be in the messages. A center's bare answer does.
    """
    algorithm = algorithms()["preprocessor"]
    heard, sums, bare = [], [], []
    for specs in two_inputs():
        hosts = [host([spec]) for spec in specs]
        every, total = listen(hosts, received, SESSIONS)
        heard.append(every)
        sums.append(total)
        received.clear()
        RayFederation(hosts[:2], ROSTER, Split(), quorum=Quorum(0.0)).ask(algorithm, algorithm.start(ROSTER))
        bare.append(list(transcript(received)))
    for name, array in sums[0].items():  # but for the rounding of each center's own sum
        np.testing.assert_allclose(sums[1][name], array, rtol=1e-12, err_msg=name)
    assert bare[0] != bare[1]
    assert len(received) == 1 < len(heard[0][0])
    require_alike(*heard)


@pytest.mark.slow
@pytest.mark.parametrize("leak", [ShortMasksActor, NormBesideActor], ids=["short masks", "a norm beside"])
def test_an_actor_that_lets_out_too_much_is_told_apart(
    leak: Any, host: StartHost, received: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same test, of actors that leak: it fails, though the sum is right."""
    if leak is ShortMasksActor:
        monkeypatch.setattr(MaskStream, "_drawn", short)  # the coordinator takes the same off
    heard, sums = [], []
    for specs in two_inputs():
        every, total = listen([host([spec], leak) for spec in specs], received, SESSIONS)
        heard.append(every)
        sums.append(total)
    for name, array in sums[0].items():
        np.testing.assert_allclose(sums[1][name], array, rtol=1e-12, err_msg=name)
    with pytest.raises(AssertionError):
        require_alike(*heard)
