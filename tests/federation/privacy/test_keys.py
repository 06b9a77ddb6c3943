"""Identities of centers: a coordinator that puts in keys of its own is caught."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.algorithm import Roster
from federation.center import Center, Question
from federation.contribution import Contribution
from federation.group import CenterGroup
from federation.in_process import InProcessFederation, question_for
from federation.policy import LOG, DisclosurePolicy, read_audit
from federation.preprocessing import FitTimeGrid
from federation.privacy.dp.statistics import Noisy
from federation.privacy.keys import (
    IDENTITIES,
    REGISTRY,
    Identities,
    KeyRegistryError,
    key_file,
    public_keys,
    read_registry,
)
from federation.privacy.party import Party, ProtocolError
from federation.privacy.secure import Parties, SecureAggregation, SecureRounds
from federation.privacy.signing import Signer
from federation.quorum import QuorumError
from federation.splits import Split
from tests.actors.hospitals import SCHEMA, patients
from tests.federation.privacy.test_secure import centers, question_of

NAMES = ("Aachen", "Bonn", "Celle")


@pytest.fixture
def identities(tmp_path: Path) -> Identities:
    """Of three centers."""
    registry = {name: Signer(key_file(tmp_path, name)).public for name in NAMES}
    return Identities(registry, tmp_path)


def announced(identities: Identities | None) -> tuple[Parties, dict[str, bytes]]:
    parties = Parties(InProcessFederation(centers())._group, SecureAggregation(), identities)
    keys, failed = parties.join(question_of(), ())
    assert failed == {}
    return parties, keys


def test_a_coordinator_that_swaps_a_key_is_caught(identities: Identities) -> None:
    """The man in the middle: without identities it holds a pair's secret, with them no center goes on."""
    spy = Party("Bonn")
    parties, keys = announced(None)
    parties.share("session", keys | {"Bonn": spy.public}, 1)
    assert spy._pair(keys["Aachen"]) == parties._parties["Aachen"]._pair(spy.public)  # the coordinator knows it
    parties, keys = announced(identities)
    for forged in (
        spy.public,
        spy.public + keys["Bonn"][32:],  # the signature of another key
        keys["Celle"],  # another center's
        spy.public + Signer().sign_bytes(b"haemfed mask key\0" + spy.public + b"Bonn"),  # another identity's
        keys["Bonn"][:40],
        b"",
    ):
        with pytest.raises(ProtocolError, match="the key that came for 'Bonn' is not signed by the identity"):
            parties.share("session", keys | {"Bonn": forged}, 1)
    assert parties.share("session", keys, 1)[0].keys() == set(NAMES)


def test_a_coordinator_that_invents_centers_is_caught(identities: Identities) -> None:
    parties, keys = announced(identities)
    with pytest.raises(ProtocolError, match="'Nowhere' is not in the registry of centers"):
        parties.share("session", keys | {"Nowhere": Party("Nowhere").public}, 1)


class Liar(Center):
    """A center that the coordinator has invented: it sends zeros, and no noise."""

    def answer(self, question: Question, fits: Any = None) -> Contribution:
        return Contribution(50, events=np.zeros(CELLS))


CELLS, NOISE = 4000, 5.0


def noise_of_a_sum(
    policy: DisclosurePolicy, identities: Identities | None = None, invented: int = 0
) -> tuple[float, dict[str, str]]:
    """Standard deviation of the noise that the three honest centers add together, and who dropped out."""
    liars = [Liar(f"Liar {i}", lambda: patients("Bonn"), 3 + i, SCHEMA) for i in range(invented)]
    settings = SecureAggregation(threshold=0.9, colluding=0.0)
    hosts = {
        "honest": Parties(InProcessFederation(centers(policy))._group, settings, identities),
        "coordinator": Parties(CenterGroup(liars), settings),
    }
    algorithm, failed = Noisy.of(FitTimeGrid(10.0, CELLS), NOISE, distributed=True), dict[str, str]()
    roster = Roster((*NAMES, *(liar.name for liar in liars)), 1)
    question = question_for(algorithm, algorithm.start(roster), "task", Split(), roster, 1)

    def call(step: str, arguments: Mapping[Any, tuple[Any, ...]]) -> dict[str, Any]:
        extra = (question,) if step in ("join", "answer") else ()
        return {host: getattr(hosts[host], step)(*extra, *given) for host, given in arguments.items()}

    asked = SecureRounds(settings, hosts=tuple(hosts) if liars else ("honest",))
    noisy = asked.ask(algorithm, question, call, failed, lambda: None)
    exact = InProcessFederation(centers()).ask(algorithm.algorithm, algorithm.start(roster))  # type: ignore[arg-type]
    return float((noisy["events"] - exact["events"]).std()), failed


def test_invented_centers_take_away_the_noise_of_the_others(identities: Identities) -> None:
    """Each would add a share that is the smaller the more there are; those invented add none."""
    simulation = DisclosurePolicy(secure_noise=False, simulation=True)
    real = DisclosurePolicy(secure_noise=False)
    assert noise_of_a_sum(simulation) == (pytest.approx(NOISE, rel=0.05), {})
    few, _ = noise_of_a_sum(simulation, invented=30)
    assert few == pytest.approx(NOISE * np.sqrt(3 / 30), rel=0.05)
    _, failed = noise_of_a_sum(real, invented=30)
    assert failed.keys() == set(NAMES)
    assert all("rule simulation: 'noisy' asks for a share of the noise, and no registry" in w for w in failed.values())
    with pytest.raises(QuorumError, match="'Liar 0' is not in the registry of centers"):
        noise_of_a_sum(real, identities, invented=30)
    assert noise_of_a_sum(real, identities) == (pytest.approx(NOISE, rel=0.05), {})


def test_survivors_that_never_took_part_are_not_counted(identities: Identities) -> None:
    parties, keys = announced(identities)
    parties.share("session", keys, 1)
    with pytest.raises(ProtocolError, match="2 centers survived; the noise of a sum needs 3"):
        parties.reveal("session", 0, ["Aachen", "Bonn", "Nobody"])


def test_a_center_without_its_own_key_takes_no_part(identities: Identities, tmp_path: Path) -> None:
    key_file(identities.directory, "Bonn").unlink()
    parties = Parties(InProcessFederation(centers(directory=tmp_path))._group, SecureAggregation(), identities)
    keys, failed = parties.join(question_of(), ())
    assert keys.keys() == {"Aachen", "Celle"}
    assert failed == {"Bonn": f"KeyRegistryError; {LOG}"}
    Signer(key_file(identities.directory, "Bonn"))
    parties.join(question_of(), ())
    lacks, other = (line["details"] for line in read_audit(tmp_path / "audit")["Bonn"])
    assert "no identity key of 'Bonn'; make one with 'haemfed keys make'" in lacks
    assert "is not the key that the registry has for 'Bonn'" in other


def test_a_node_is_set_up_by_two_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Identities.of_this_node() is None
    for name in NAMES:
        Signer(key_file(tmp_path / "private", name))
    registry = tmp_path / "registry.json"
    registry.write_text(json.dumps(public_keys(tmp_path / "private")))
    monkeypatch.setenv(REGISTRY, str(registry))
    with pytest.raises(KeyRegistryError, match="HAEMFED_REGISTRY is set and HAEMFED_IDENTITIES is not"):
        Identities.of_this_node()
    monkeypatch.setenv(IDENTITIES, str(tmp_path / "private"))
    found = Identities.of_this_node()
    assert found is not None
    assert found.registry == read_registry(registry)
    assert tuple(found.registry) == NAMES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "cannot be read as JSON"),
        ("{}", "is no object of names and keys"),
        ('["Ulm"]', "is no object of names and keys"),
        ('{"Ulm": "zz"}', "the key of 'Ulm' is 'zz'; it has 64 hex digits"),
        ('{"Ulm": 1}', "the key of 'Ulm' is 1; it has 64 hex digits"),
        (json.dumps({"Ulm": "ab" * 32, "Bonn": "ab" * 32}), "'Ulm' and 'Bonn' have the same key"),
    ],
)
def test_a_wrong_registry_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    path.write_text(text)
    with pytest.raises(KeyRegistryError, match=rf"registry\.json: {message}"):
        read_registry(path)
