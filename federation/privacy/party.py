"""A center's side of secure aggregation: its keys, its masks, and the shares by which the masks come off again.

Bonawitz et al. 2017 (double masking), on the graph of Bell et al. 2020. What a center sends is ``x + PRG(b) ±
PRG(s_j)`` over its neighbours j: the pair's masks cancel in the sum, and its own, of seed b, is taken off by shares of
its neighbours. If it drops out before it sent, its neighbours give shares for the pairs' seeds instead. No neighbour
gives both, and more than half are needed for either, so no single center's numbers are ever bare.

Four things differ from the papers, none of them what a center has to trust.

- The keys of a pair are agreed on once; the seeds of a session's rounds are derived from them (HKDF with the session's
  name, and a stream of it). So what is shared for the case of a dropout is not the private key, which would open all
  rounds, but a key of one round, under which the center has sealed that round's seeds for the coordinator.
- Secrets of many rounds are drawn and shared ahead, in one message to each neighbour. Each round has its own, and those
  of a round are given once.
- That all neighbours were told of the same survivors is not confirmed in a step of its own. A center encrypts what it
  reveals under a key of the round, and for each neighbour j a share of that key under a pad that only it and j can
  make, of the survivors that it was told of. With its own shares j sends the pad of the survivors that *it* was told
  of. So the coordinator reads what a center reveals if as many neighbours as the threshold were told the same.
- The pads stand in for signatures: the coordinator knows no key of a pair and can forge none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from federation.privacy.fixed_point import Words, add
from federation.privacy.keys import Identities, KeyRegistryError
from federation.privacy.masks import SEED_BYTES, MaskStream, agree, expand, seal
from federation.privacy.shamir import SHARE_BYTES, Octets, split_many
from federation.privacy.signing import KEY_BYTES

AHEAD = 64
"""Most rounds that are prepared at once."""


class ProtocolError(RuntimeError):
    """A center does not take the next step of secure aggregation; the message says why in one line."""


@dataclass(frozen=True, repr=False)
class Shares:
    """What a center sends before it masks.

    Parameters
    ----------
    sealed
        For each round the seeds of its pairs, in the order of its neighbours, under the key that `shares` can give
        back.
    shares
        For each neighbour, encrypted for it: for each round a share of the center's own seed, and one of that key.
    """

    sealed: bytes
    shares: Mapping[str, bytes]


class Opening(NamedTuple):
    """What a center sends once it knows who survived; everything in the order of its neighbours.

    Parameters
    ----------
    sealed
        Under a key of its own: for each neighbour a share of its seed if it survived, of its pairs' if it did not.
    parts
        Shares of that key, each under a pad that the neighbour sends if it was told of the same survivors.
    pads
        Those that open the neighbours' parts.
    """

    sealed: bytes
    parts: bytes
    pads: bytes

    def __repr__(self) -> str:
        """Nothing of what it holds: it must not come into a log."""
        return f"Opening({len(self.parts) // SHARE_BYTES} neighbours)"


class _Told(NamedTuple):
    """What a center makes of the survivors that it is told of."""

    survivors: frozenset[str]
    alive: NDArray[np.int64]
    """Which neighbours survived."""
    shares: NDArray[np.int64]
    """Which of the shares it received it gives: a neighbour's first if that survived, else its second."""
    keys: Sequence[bytes]
    """Of the pads with those who survived."""
    mine: NDArray[np.int64]
    """Which halves of these pads are over what it sends, and which are those it sends itself."""
    theirs: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"_Told({len(self.survivors)} survivors)"


@dataclass(repr=False)
class _Session:
    """Secrets of all rounds: nothing of it may be seen in a representation."""

    name: str
    threshold: int
    rounds: int
    neighbours: Sequence[str]
    first: NDArray[np.int64]
    """1 where the center comes before a neighbour, by name: then it sends the first half of a pair's pads."""
    own: bytes
    openers: bytes
    parts: Octets
    seeds: Mapping[str, bytes]
    ciphers: Mapping[str, AESGCM]
    confirming: Sequence[bytes]
    received: Octets
    joined: list[str] = field(default_factory=list)
    added: Sequence[bytes] = ()
    """The seeds, of all rounds, of the masks that this center adds: its own and the pairs' in which it comes first."""
    subtracted: Sequence[bytes] = ()
    masked: set[int] = field(default_factory=set)
    revealed: set[int] = field(default_factory=set)
    mask_ahead: tuple[int, Words] | None = None
    """What was drawn before it was asked for: of which round, and the mask."""
    opening_ahead: tuple[bytes, Opening] | None = None
    """The same of what it reveals: if it is told these words."""
    _told: _Told | None = None

    def told(self, survivors: frozenset[str]) -> _Told:
        """What follows from what it is told of survivors; mostly the same as in the last round."""
        if self._told is None or self._told.survivors != survivors:
            joined = set(self.joined)
            gone = np.array([int(n not in survivors or n not in joined) for n in self.neighbours])
            alive = np.flatnonzero(gone == 0)
            mine = 2 * np.arange(len(alive)) + self.first[alive]
            keys = [self.confirming[i] for i in alive.tolist()]
            self._told = _Told(survivors, alive, 2 * np.arange(len(gone)) + gone, keys, mine, mine ^ 1)
        return self._told

    def draw(self, number: int, words: Words, stream: MaskStream) -> None:
        """Add the mask of a round to numbers."""
        here = slice(number * SEED_BYTES, (number + 1) * SEED_BYTES)
        stream.add(words, [seeds[here] for seeds in self.added])
        stream.subtract(words, [seeds[here] for seeds in self.subtracted])

    def opening(self, number: int, told: _Told, said: bytes) -> Opening:
        """What it reveals of a round."""
        halves = _halves(told.keys, said)
        parts, pads = np.zeros((2, len(self.neighbours), SHARE_BYTES), dtype=np.uint8)
        parts[told.alive] = self.parts[number, told.alive] ^ halves[told.mine]
        pads[told.alive] = halves[told.theirs]
        shares = self.received[number].reshape(-1, SHARE_BYTES)[told.shares]
        key = self.openers[number * SEED_BYTES : (number + 1) * SEED_BYTES]
        return Opening(seal(key, shares.tobytes()), parts.tobytes(), pads.tobytes())

    def prepare(self, number: int, stream: MaskStream) -> None:
        """Draw the mask of a round ahead, and what is revealed in case the survivors are those of the last round."""
        mask = np.zeros(stream.shape, dtype=np.uint64)
        self.draw(number, mask, stream)
        self.mask_ahead = number, mask
        if self._told is not None:
            said = _said(self.name, number, self._told.survivors)
            self.opening_ahead = said, self.opening(number, self._told, said)


class Party:
    """One center in secure aggregation. Each step is taken once in a round, and in order.

    Parameters
    ----------
    name
        The center's.
    identities
        Of the centers; None takes any key that the coordinator passes on.

    Attributes
    ----------
    public, announcement
        The key for masks, and what is sent of it: with the center's signature, if there are identities.
    """

    def __init__(self, name: str, identities: Identities | None = None) -> None:
        self.name, self._identities = name, identities
        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()
        self.announcement = self.public if identities is None else identities.announce(name, self.public)
        self._opened: dict[tuple[str, bytes], bytes] = {}
        self._pairs: dict[bytes, bytes] = {}
        self._sessions: set[str] = set()
        self._session: _Session | None = None

    def share(self, session: str, publics: Mapping[str, bytes], threshold: int, rounds: int = 1) -> Shares:
        """Begin a session: draw the secrets of its rounds and share them among the neighbours.

        Parameters
        ----------
        session
            Names one session of one run; never used twice.
        publics
            What the neighbours announced, in alphabetical order of their names.
        threshold
            Shares that give a secret back; more than half of the neighbours.
        rounds
            How many to prepare, up to `AHEAD`.

        Raises
        ------
        ProtocolError
            If the session was used before, the threshold is too low to protect anything, or a key is not its center's.
        """
        if session in self._sessions:
            raise ProtocolError(f"{self.name} has taken part in session {session!r} before")
        k = len(publics)
        if not k // 2 < threshold <= k:
            raise ProtocolError(f"threshold {threshold} of {k} neighbours; {self.name} wants more than half of them")
        publics = {n: self._key(n, announcement) for n, announcement in publics.items()}
        if len(set(publics.values()) | {self.public}) <= k:
            raise ProtocolError(f"{self.name} was sent the same key for two centers")
        if not 1 <= rounds <= AHEAD:
            raise ProtocolError(f"{rounds} rounds; {self.name} prepares from 1 to {AHEAD}")
        pairs = {n: self._pair(p) for n, p in publics.items()}
        self._sessions.add(session)
        about = b"session " + session.encode()
        keys = {n: expand(pair, about, 2 * 16 + 32) for n, pair in pairs.items()}
        seeds = {n: seal(key[:16], bytes(rounds * SEED_BYTES)) for n, key in keys.items()}  # the stream of a pair
        ciphers = {n: AESGCM(key[16:32]) for n, key in keys.items()}
        own, locks, openers = (os.urandom(rounds * SEED_BYTES) for _ in range(3))
        shares = split_many(own + locks + openers, threshold, k).reshape(3, rounds, k, SHARE_BYTES)
        letters = np.ascontiguousarray(shares[:2].transpose(2, 1, 0, 3)).reshape(k, -1)
        self._session = _Session(
            session,
            threshold,
            rounds,
            tuple(publics),
            np.array([int(self.name < n) for n in publics]),
            own,
            openers,
            shares[2],
            seeds,
            ciphers,
            [key[32:] for key in keys.values()],
            np.zeros((rounds, k, 2, SHARE_BYTES), dtype=np.uint8),
        )
        of_round = [slice(r * SEED_BYTES, (r + 1) * SEED_BYTES) for r in range(rounds)]
        return Shares(
            b"".join(seal(locks[r], b"".join(seed[r] for seed in seeds.values())) for r in of_round),
            {n: ciphers[n].encrypt(_nonce(self.name, n), letters[i].tobytes(), None) for i, n in enumerate(publics)},
        )

    def receive(self, session: str, shares: Mapping[str, bytes]) -> None:
        """Take in the shares of those neighbours that sent theirs: they are whom this center masks with."""
        mine = self._at(session)
        if mine.joined:
            raise ProtocolError(f"{self.name} was sent shares twice in session {session!r}")
        found = {}
        for sender, text in shares.items():
            if sender not in mine.ciphers:
                raise ProtocolError(f"{self.name} was sent a share of {sender}, which is no neighbour")
            try:
                found[sender] = mine.ciphers[sender].decrypt(_nonce(sender, self.name), text, None)
            except InvalidTag:
                raise ProtocolError(f"{self.name} was sent a share of {sender} that {sender} did not make") from None
            if len(found[sender]) != mine.rounds * 2 * SHARE_BYTES:
                raise ProtocolError(f"{self.name} was sent shares of {sender} for another number of rounds")
        if len(found) < mine.threshold:
            raise ProtocolError(
                f"{len(found)} of {self.name}'s {len(mine.neighbours)} neighbours take part, "
                f"{mine.threshold} are needed"
            )
        for i, n in enumerate(mine.neighbours):
            if n in found:
                mine.received[:, i] = np.frombuffer(found[n], dtype=np.uint8).reshape(mine.rounds, 2, SHARE_BYTES)
        mine.joined = [n for n in mine.neighbours if n in found]
        mine.added = [mine.own, *(mine.seeds[n] for n in mine.joined if self.name < n)]
        mine.subtracted = [mine.seeds[n] for n in mine.joined if n < self.name]

    def mask(self, session: str, number: int, words: Words, stream: MaskStream) -> None:
        """Mask the center's numbers of a round of the session, in place; once."""
        mine = self._at(session)
        if number in mine.masked or not mine.joined or not 0 <= number < mine.rounds:
            raise ProtocolError(
                f"{self.name} masks once in a round, of the {mine.rounds} it has prepared, after it has the shares of "
                "its neighbours"
            )
        mine.masked.add(number)
        ahead, mine.mask_ahead = mine.mask_ahead, None
        if ahead is not None and ahead[0] == number and ahead[1].shape == words.shape:
            add(words, ahead[1])
        else:
            mine.draw(number, words, stream)

    def prepare(self, session: str, number: int, stream: MaskStream) -> None:
        """Draw what the center will need for a round while nobody waits for it; changes nothing of what it sends."""
        mine = self._session
        if mine is not None and mine.name == session and mine.joined and number < mine.rounds:
            mine.prepare(number, stream)

    def reveal(self, session: str, number: int, survivors: frozenset[str]) -> Opening:
        """Shares of the neighbours' masks of a round, readable if enough neighbours were told of the same survivors.

        Raises
        ------
        ProtocolError
            If it was asked before, or fewer neighbours survived than the threshold.
        """
        mine = self._at(session)
        if number not in mine.masked or number in mine.revealed or self.name not in survivors:
            raise ProtocolError(f"{self.name} reveals once in a round, after it has masked and if it is a survivor")
        told = mine.told(survivors)
        if len(told.alive) < mine.threshold:
            raise ProtocolError(
                f"{len(told.alive)} of {self.name}'s neighbours are said to have survived, {mine.threshold} are needed"
            )
        mine.revealed.add(number)
        said = _said(session, number, survivors)
        ahead, mine.opening_ahead = mine.opening_ahead, None
        return ahead[1] if ahead is not None and ahead[0] == said else mine.opening(number, told, said)

    def _key(self, center: str, announcement: bytes) -> bytes:
        """The mask key of a neighbour, checked once."""
        if self._identities is None:
            return announcement[:KEY_BYTES]
        if (center, announcement) not in self._opened:
            try:
                self._opened[center, announcement] = self._identities.opened(center, announcement)
            except KeyRegistryError as error:
                raise ProtocolError(f"{self.name}: {error}") from None
        return self._opened[center, announcement]

    def _pair(self, public: bytes) -> bytes:
        if public not in self._pairs:
            try:
                self._pairs[public] = agree(self._private, public)
            except ValueError:  # not 32 bytes, or a point of low order
                raise ProtocolError(f"{self.name} was sent a public key that is none: {public.hex()}") from None
        return self._pairs[public]

    def _at(self, session: str) -> _Session:
        if self._session is None or self._session.name != session:
            raise ProtocolError(f"{self.name} is not in session {session!r}")
        return self._session


def _nonce(sender: str, receiver: str) -> bytes:
    """Of the one message that goes this way under the pair's key of the session."""
    return bytes(11) + (b"\1" if sender < receiver else b"\2")


@lru_cache(maxsize=8)
def _said(session: str, number: int, survivors: frozenset[str]) -> bytes:
    """What a center was told."""
    text = b"".join(len(n.encode()).to_bytes(4, "big") + n.encode() for n in sorted(survivors))
    return hashlib.sha256(text + session.encode() + number.to_bytes(4, "big")).digest()


def _halves(keys: Sequence[bytes], said: bytes) -> Octets:
    """Two pads of each pair, one for each direction: BLAKE2b with a key (RFC 7693), a pseudorandom function."""
    drawn = b"".join([hashlib.blake2b(said, key=key, digest_size=2 * SHARE_BYTES).digest() for key in keys])
    return np.frombuffer(drawn, dtype=np.uint8).reshape(-1, SHARE_BYTES)
