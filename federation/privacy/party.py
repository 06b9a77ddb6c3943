"""A center's side of secure aggregation: its keys, its masks, and the shares by which the masks come off again.

Bonawitz et al. 2017 (double masking), on the graph of Bell et al. 2020. What a center sends is ``x + PRG(b) ±
PRG(s_j)`` over its neighbours j: the pair's masks cancel in the sum, and its own, of seed b, is taken off by shares of
its neighbours. If it drops out before it sent, its neighbours give shares for the pairs' seeds instead. No neighbour
gives both, and more than half are needed for either, so no single center's numbers are ever bare.

Two things differ from the papers. The keys of a pair are agreed on once, and each round's seeds are derived from them
(HKDF with the session's name); so what is shared for the case of a dropout is not the private key, which would open all
other rounds too, but a key of one round, under which the center has sealed that round's seeds for the coordinator. And
the survivors are confirmed by message authentication codes between neighbours instead of signatures: the coordinator
knows no key of a pair and can forge none.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from federation.privacy.fixed_point import Words
from federation.privacy.masks import SEED_BYTES, MaskStream, agree, expand, seal
from federation.privacy.shamir import SHARE_BYTES, split


class ProtocolError(RuntimeError):
    """A center does not take the next step of secure aggregation; the message says why in one line."""


@dataclass(frozen=True)
class Shares:
    """What a center sends before it masks.

    Parameters
    ----------
    sealed
        The seeds of its pairs, in the order of its neighbours, under the key that `shares` can give back.
    shares
        For each neighbour, encrypted for it: a share of the center's own seed, and one of that key.
    """

    sealed: bytes
    shares: Mapping[str, bytes]


@dataclass
class _Round:
    session: str
    threshold: int
    neighbours: Sequence[str]
    own: bytes
    seeds: Mapping[str, bytes]
    ciphers: Mapping[str, AESGCM]
    pairs: Mapping[str, bytes]
    received: dict[str, bytes] = field(default_factory=dict)
    masked: bool = False
    survivors: frozenset[str] | None = None
    revealed: bool = False


class Party:
    """One center in secure aggregation. Each step of a session is taken once and in order.

    Parameters
    ----------
    name
        The center's.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()
        self._pairs: dict[bytes, bytes] = {}
        self._sessions: set[str] = set()
        self._round: _Round | None = None

    def share(self, session: str, publics: Mapping[str, bytes], threshold: int) -> Shares:
        """Begin a session: draw this round's secrets and share them among the neighbours.

        Parameters
        ----------
        session
            Names one attempt of one round of one run; never used twice.
        publics
            The neighbours' public keys, in alphabetical order of their names.
        threshold
            Shares that give a secret back; more than half of the neighbours.

        Raises
        ------
        ProtocolError
            If the session was used before, or the threshold is too low to protect anything.
        """
        if session in self._sessions:
            raise ProtocolError(f"{self.name} has taken part in session {session!r} before")
        if not len(publics) // 2 < threshold <= len(publics):
            raise ProtocolError(
                f"threshold {threshold} of {len(publics)} neighbours; {self.name} wants more than half of them"
            )
        if len(set(publics.values()) | {self.public}) <= len(publics):
            raise ProtocolError(f"{self.name} was sent the same key for two centers")
        self._sessions.add(session)
        pairs = {n: self._pair(p) for n, p in publics.items()}
        keys = {n: expand(pair, b"round " + session.encode(), 16 + SEED_BYTES) for n, pair in pairs.items()}
        seeds = {n: key[16:] for n, key in keys.items()}
        ciphers = {n: AESGCM(key[:16]) for n, key in keys.items()}
        own, lock = os.urandom(SEED_BYTES), os.urandom(SEED_BYTES)
        self._round = _Round(session, threshold, tuple(publics), own, seeds, ciphers, pairs)
        shares = zip(publics, split(own, threshold, len(publics)), split(lock, threshold, len(publics)), strict=True)
        return Shares(
            seal(lock, b"".join(seeds.values())),
            {n: ciphers[n].encrypt(_nonce(self.name, n), a + b, None) for n, a, b in shares},
        )

    def receive(self, session: str, shares: Mapping[str, bytes]) -> None:
        """Take in the shares of those neighbours that sent theirs: they are whom this center masks with."""
        mine = self._at(session)
        if mine.received:
            raise ProtocolError(f"{self.name} was sent shares twice in session {session!r}")
        for sender, text in shares.items():
            if sender not in mine.ciphers:
                raise ProtocolError(f"{self.name} was sent a share of {sender}, which is no neighbour")
            try:
                found = mine.ciphers[sender].decrypt(_nonce(sender, self.name), text, None)
            except InvalidTag:
                raise ProtocolError(f"{self.name} was sent a share of {sender} that {sender} did not make") from None
            mine.received[sender] = found
        if len(mine.received) < mine.threshold:
            raise ProtocolError(
                f"{len(mine.received)} of {self.name}'s {len(mine.neighbours)} neighbours take part, "
                f"{mine.threshold} are needed"
            )

    def mask(self, session: str, words: Words, stream: MaskStream) -> None:
        """Mask the center's numbers, in place; once in a session."""
        mine = self._at(session)
        if mine.masked or not mine.received:
            raise ProtocolError(f"{self.name} masks once in a session, after it has the shares of its neighbours")
        mine.masked = True
        stream.add(words, mine.own)
        for other in mine.received:
            apply = stream.add if self.name < other else stream.subtract
            apply(words, mine.seeds[other])

    def confirm(self, session: str, survivors: Collection[str]) -> dict[str, bytes]:
        """Tell each neighbour, so that only it can read from whom it is, which centers are said to have survived."""
        mine = self._at(session)
        if not mine.masked or mine.survivors is not None or self.name not in survivors:
            raise ProtocolError(f"{self.name} confirms once who survived, after it has masked and if it is among them")
        mine.survivors = frozenset(survivors)
        said = _said(session, survivors)
        return {n: _tag(mine.pairs[n], self.name, said) for n in mine.received if n in mine.survivors}

    def reveal(self, session: str, confirmations: Mapping[str, bytes]) -> dict[str, bytes]:
        """A share for each neighbour: of its own seed if it survived, of its pairs' seeds if it did not.

        Parameters
        ----------
        confirmations
            What neighbours sent in `confirm`.

        Raises
        ------
        ProtocolError
            If a neighbour was told of other survivors, or too few neighbours confirm.
        """
        mine = self._at(session)
        if mine.survivors is None or mine.revealed:
            raise ProtocolError(f"{self.name} reveals once, after it has confirmed who survived")
        said = _said(session, mine.survivors)
        for other, tag in confirmations.items():
            if other not in mine.received or not hmac.compare_digest(tag, _tag(mine.pairs[other], other, said)):
                raise ProtocolError(f"{other} was told of other survivors than {self.name}")
        if len(confirmations) < mine.threshold:
            raise ProtocolError(
                f"{len(confirmations)} of {self.name}'s neighbours confirm who survived, {mine.threshold} are needed"
            )
        mine.revealed = True
        return {
            n: found[:SHARE_BYTES] if n in mine.survivors else found[SHARE_BYTES:] for n, found in mine.received.items()
        }

    def _pair(self, public: bytes) -> bytes:
        if public not in self._pairs:
            try:
                self._pairs[public] = agree(self._private, public)
            except ValueError:  # not 32 bytes, or a point of low order
                raise ProtocolError(f"{self.name} was sent a public key that is none: {public.hex()}") from None
        return self._pairs[public]

    def _at(self, session: str) -> _Round:
        if self._round is None or self._round.session != session:
            raise ProtocolError(f"{self.name} is not in session {session!r}")
        return self._round


def _nonce(sender: str, receiver: str) -> bytes:
    """Of the one message that goes this way under the pair's key of the session."""
    return bytes(11) + (b"\1" if sender < receiver else b"\2")


def _said(session: str, survivors: Collection[str]) -> bytes:
    """What a neighbour was told."""
    text = b"".join(len(n.encode()).to_bytes(4, "big") + n.encode() for n in sorted(survivors))
    return hashlib.sha256(text).digest() + session.encode()


def _tag(pair: bytes, sender: str, said: bytes) -> bytes:
    """Of a pair's secret, as the keys of a round are, under another heading."""
    return hmac.digest(pair, b"confirm " + said + b"\0" + sender.encode(), "sha256")
