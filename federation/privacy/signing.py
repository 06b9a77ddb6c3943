"""Signed questions and answers: who sent them to whom, in which run and round, and that each counts once (Ed25519).

A center answers only questions that its coordinator signed for it, each once and none older than the last; the
coordinator takes only answers that the center's own key has signed, to this question (RFC 8032). What is signed is a
digest of the arguments themselves, type by type, so that no two messages share one and nobody has to serialize an array
twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_BYTES = 32


class BadSignature(RuntimeError):
    """A message is not what its sender signed, or comes a second time; the message says which in one line."""


@dataclass(frozen=True)
class Seal:
    """What goes with a message.

    Parameters
    ----------
    run, round
        What it belongs to.
    sequence
        Rises from question to question, over all runs; an answer has its question's.
    signature
        Over these, the kind of message and its digest.
    """

    run: str
    round: int
    sequence: int
    signature: bytes


class Signer:
    """Signs with a key of its own.

    Parameters
    ----------
    path
        Where the key is kept, readable to its owner only, and made at the first time; None for a key as long as the
        process.
    key
        The 32 bytes of a key that was made elsewhere; they are the secret.
    """

    def __init__(self, path: Path | None = None, key: bytes | None = None) -> None:
        self._key = Ed25519PrivateKey.generate() if key is None else Ed25519PrivateKey.from_private_bytes(key)
        if path is not None:
            if path.exists():
                raw = path.read_bytes()
                if len(raw) != KEY_BYTES:
                    raise ValueError(f"{path}: {len(raw)} bytes are no key, which has {KEY_BYTES}")
                self._key = Ed25519PrivateKey.from_private_bytes(raw)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f".{path.name}.{os.getpid()}")
                with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(self._key.private_bytes_raw())
                os.replace(temporary, path)
        self.public = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"Signer({self.public.hex()[:16]}…)"

    def sign(self, kind: str, run: str, round: int, sequence: int, content: object) -> Seal:
        """Sign a message; its `kind` keeps an answer from being taken for a question."""
        return Seal(run, round, sequence, self._key.sign(_message(kind, run, round, sequence, content)))

    def sign_bytes(self, content: bytes) -> bytes:
        """The bare signature of bytes that say themselves what they are for."""
        return self._key.sign(content)


def asked_of(recipient: str, call: str, arguments: Sequence[object]) -> list[object]:
    """What is signed of a question: a call and its arguments, and whom it is for, so that nobody else takes it."""
    return [recipient, call, *map(digest, arguments)]


def verify(public: bytes, seal: Seal, kind: str, content: object) -> None:
    """Raise BadSignature unless the owner of a key has signed this."""
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(seal.signature, _message(kind, seal.run, seal.round, seal.sequence, content))
    except (InvalidSignature, ValueError):
        raise BadSignature(
            f"the {kind} of run {seal.run!r}, round {seal.round} is not what {public.hex()[:16]}… has signed"
        ) from None


class Freshness:
    """Lets every question pass once, and none that is older than one before it.

    Parameters
    ----------
    path
        Keeps the number of the last question over a restart; None forgets it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._last = path, -1
        if path is not None and path.exists():
            text = path.read_text(errors="replace")
            if not text.isdecimal():
                raise ValueError(
                    f"{path}, line 1: {text[:40]!r} is not the number of a question; put the whole file back, since "
                    "without it old questions would pass again"
                )
            self._last = int(text)

    def require(self, seal: Seal) -> None:
        """Raise BadSignature for a question that is replayed or stale."""
        if seal.sequence <= self._last:
            raise BadSignature(
                f"question {seal.sequence} of run {seal.run!r}, round {seal.round} is a replay: question {self._last} "
                "has been answered"
            )
        self._last = seal.sequence
        if self._path is not None:
            temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            temporary.write_text(str(self._last))
            os.replace(temporary, self._path)


class Rising:
    """Numbers that rise, even from one process to the next: nanoseconds since 1970, or one more than the last."""

    def __init__(self) -> None:
        self._last = -1

    def __next__(self) -> int:
        self._last = max(self._last + 1, time.time_ns())
        return self._last


def _message(kind: str, run: str, round: int, sequence: int, content: object) -> bytes:
    return digest(("haemfed", kind, run, round, sequence, content))


def digest(content: object) -> bytes:
    """SHA-256 of plain data: text, numbers, arrays, and sequences, mappings and data classes of them.

    Raises
    ------
    TypeError
        For anything else.
    """
    found = hashlib.sha256()
    _feed(found, content)
    return found.digest()


def _feed(into: Any, content: Any) -> None:
    """Type, length and content, so that what is fed can be read in one way only."""

    def item(kind: str, size: int, data: Any = b"") -> None:
        into.update(f"{kind}{size}:".encode())
        into.update(data)

    match content:
        case None | bool():
            item("c", 0, repr(content).encode())
        case int() | float() | np.generic():
            text = repr(content.item() if isinstance(content, np.generic) else content).encode()
            item("n", len(text), text)
        case str():
            item("s", len(content.encode()), content.encode())
        case bytes():
            item("b", len(content), content)
        case np.ndarray():
            if content.dtype.hasobject:
                raise TypeError(f"an array of {content.dtype} cannot be signed")
            _feed(into, (content.dtype.str, content.shape))
            item("a", content.nbytes, np.ascontiguousarray(content).tobytes())
        case Mapping():
            item("m", len(content))
            for key in sorted(content):
                _feed(into, key)
                _feed(into, content[key])
        case Sequence():
            item("l", len(content))
            for part in content:
                _feed(into, part)
        case _ if dataclasses.is_dataclass(content) and not isinstance(content, type):
            _feed(
                into, (type(content).__name__, {f.name: getattr(content, f.name) for f in dataclasses.fields(content)})
            )
        case _:
            raise TypeError(f"{type(content).__name__} cannot be signed")
