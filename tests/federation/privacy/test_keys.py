"""Identities of centers: a coordinator that puts in keys of its own is caught."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from federation.in_process import InProcessFederation
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
from federation.privacy.secure import Parties, SecureAggregation
from federation.privacy.signing import Signer
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
    assert parties.share("session", keys, 1).keys() == set(NAMES)


def test_a_coordinator_that_invents_centers_is_caught(identities: Identities) -> None:
    parties, keys = announced(identities)
    with pytest.raises(ProtocolError, match="'Nowhere' is not in the registry of centers"):
        parties.share("session", keys | {"Nowhere": Party("Nowhere").public}, 1)


def test_a_center_without_its_own_key_takes_no_part(identities: Identities) -> None:
    key_file(identities.directory, "Bonn").unlink()
    parties = Parties(InProcessFederation(centers())._group, SecureAggregation(), identities)
    keys, failed = parties.join(question_of(), ())
    assert keys.keys() == {"Aachen", "Celle"}
    assert "no identity key of 'Bonn'; make one with 'haemfed keys make'" in failed["Bonn"]
    Signer(key_file(identities.directory, "Bonn"))
    _, failed = parties.join(question_of(), ())
    assert "is not the key that the registry has for 'Bonn'" in failed["Bonn"]


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
