"""Masked and signed rounds at level DEBUG: no key, seed or token is in a log, an audit line, a result, or a text."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actors.center import CenterShell, CenterSpec
from federation.algorithm import Algorithm, Roster, run
from federation.contribution import Contribution
from federation.in_process import question_for
from federation.policy import DisclosurePolicy
from federation.privacy.masks import SEED_BYTES
from federation.privacy.party import Party
from federation.privacy.secure import SecureAggregation, SecureRounds
from federation.privacy.signing import Rising, Signer, asked_of, verify
from federation.splits import Split
from federation.state import State
from tests.actors.hospitals import NAMES, SCHEMA, averaging, federation_of, lost_file

ROSTER = Roster((*NAMES, "Dorsten"), 5)


class Hosts:
    """Hosts in this process that take signed questions alone, and the coordinator's half."""

    def __init__(self, directory: Path) -> None:
        specs = [*federation_of(), CenterSpec("Dorsten", 3, partial(lost_file, "Dorsten"))]
        self.signer, self.numbers, self.roster = Signer(), Rising(), ROSTER
        self.shells = {
            spec.name: CenterShell([spec], SCHEMA, DisclosurePolicy(), directory, "cpu", self.signer.public)
            for spec in specs
        }
        self.rounds = SecureRounds(SecureAggregation(), hosts=tuple(self.shells))
        self.failed: dict[str, str] = {}
        self.messages: list[Any] = []

    @property
    def parties(self) -> list[Party]:
        """Of the centers that joined."""
        return [p for shell in self.shells.values() if shell._parties for p in shell._parties._parties.values()]

    def ask(self, algorithm: Algorithm, state: State) -> Contribution:
        question = question_for(algorithm, state, "run", Split(), ROSTER, 1)

        def call(step: str, arguments: Mapping[Any, tuple[Any, ...]]) -> Mapping[Any, Any]:
            found = {}
            for host, given in arguments.items():
                settings = self.rounds.settings if step in ("join", "share") else None
                extra = {"join": (question.to_json(),), "answer": (question.to_json(), dict(question.state))}
                sent = (step, given, settings, *extra.get(step, ()))
                content = asked_of(host, "secure", sent)
                seal = self.signer.sign("question", "run", question.round, next(self.numbers), content)
                found[host], answer = self.shells[host].signed(seal, "secure", *sent)
                verify(self.shells[host].key(), answer, "answer", found[host])
                self.messages += [seal, answer, found[host]]
            return found

        return self.rounds.ask(algorithm, question, call, self.failed, lambda: None)


def secrets_of(hosts: Hosts) -> set[bytes]:
    """The keys, and the seeds of a few rounds."""
    found = {b"token-of-the-ray-cluster", hosts.signer._key.private_bytes_raw()}
    for shell in hosts.shells.values():
        found.add(shell._signer._key.private_bytes_raw())
    for party in hosts.parties:
        session = party._session
        assert session is not None
        many = [session.own, session.openers, *session.seeds.values()]
        found |= {seeds[i : i + SEED_BYTES] for seeds in many for i in range(0, 4 * SEED_BYTES, SEED_BYTES)}
        found |= {party._private.private_bytes_raw(), *party._pairs.values(), *session.confirming}
    return found


def leaked(secrets: set[bytes], text: bytes) -> bool:
    """Whether a secret is in a text, in one of the ways it would be written."""
    ways = (bytes.hex, lambda s: repr(s)[2:-1], lambda s: base64.b64encode(s).decode()[:20])
    return any(secret in text or any(way(secret).encode() in text for way in ways) for secret in secrets)


def test_no_secret_is_in_a_log_a_line_or_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token-of-the-ray-cluster")
    hosts = Hosts(tmp_path)
    with caplog.at_level(logging.DEBUG):
        final = run(averaging(rounds=2), hosts)
    secrets = secrets_of(hosts)
    assert len(secrets) > 30
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".key"]
    assert {path.parent.name for path in files} >= {"audit", "keys"}
    shown = [hosts.signer, hosts.messages, hosts.rounds, vars(hosts.rounds), hosts.failed, final]
    for shell in hosts.shells.values():
        shown += [shell, vars(shell), vars(shell._parties)]
    for party in hosts.parties:
        assert party._session is not None
        shown += [party, party._session, party._session._told]
        assert leaked(secrets, party._session.own)
    assert "CohortError" in caplog.text  # a center that failed had its say
    for text in (caplog.text.encode(), *(repr(thing).encode() for thing in shown), *(p.read_bytes() for p in files)):
        assert not leaked(secrets, text)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("haemfed").debug("the session is %s", vars(hosts.parties[0]._session))
    assert leaked(secrets, caplog.text.encode())  # or this would find nothing
