"""Keys and masks: key agreement (X25519), key derivation (HKDF), and masks (AES-128 in counter mode).

The counter mode is that of GCM (NIST SP 800-38D, GCTR: counters from 2 for a nonce of zeros), whose tag is thrown away:
the library's one call for it costs a quarter of its three for a bare cipher, and a round takes thousands.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from federation.privacy.fixed_point import Words, add, subtract

SEED_BYTES = 16
"""Of AES-128: the security level of X25519."""

DRAWN_BYTES = 2**17
"""Masks are drawn together and added in one go, as many as stay in the processor's cache."""

NONCE, TAG_BYTES = bytes(12), 16


def extract(material: bytes, salt: bytes = b"") -> bytes:
    """HKDF-Extract with SHA-256 (RFC 5869, 2.2)."""
    return hmac.digest(salt or bytes(32), material, "sha256")


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869, 2.3): a few microseconds, of which a round takes a hundred thousand."""
    found = block = b""
    while len(found) < length:
        block = hmac.digest(key, block + info + bytes([len(found) // 32 + 1]), "sha256")
        found += block
    return found[:length]


def agree(private: X25519PrivateKey, public: bytes) -> bytes:
    """The secret of a pair (RFC 7748), the same from both sides, made even by HKDF."""
    mine = private.public_key().public_bytes_raw()
    both = min(mine, public) + max(mine, public)
    return extract(private.exchange(X25519PublicKey.from_public_bytes(public)), salt=both)


class MaskStream:
    """Adds and subtracts masks of one shape.

    Parameters
    ----------
    shape
        (limbs, size) of what is masked.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        size = 8 * int(np.prod(shape))
        rows = max(1, DRAWN_BYTES // size)
        self._zeros = bytes(size)
        buffer = np.empty(rows * size + TAG_BYTES, dtype=np.uint8)
        self._words: Words = buffer[:-TAG_BYTES].view(np.uint64).reshape(rows, *shape)
        self._places = [buffer.data[i * size : (i + 1) * size + TAG_BYTES] for i in range(rows)]
        """Where each mask is written; what is left of a tag behind it is overwritten by the next."""

    @property
    def nbytes(self) -> int:
        """Size of a mask."""
        return len(self._zeros)

    def add(self, total: Words, seeds: Sequence[bytes]) -> None:
        """Add the masks of seeds. Every seed is used once (for one round), so the nonce is always the same."""
        for words in self._drawn(seeds):
            add(total, words)

    def subtract(self, total: Words, seeds: Sequence[bytes]) -> None:
        """Take them off again."""
        for words in self._drawn(seeds):
            subtract(total, words)

    def _drawn(self, seeds: Sequence[bytes]) -> Iterator[Words]:
        """The masks, some at a time."""
        zeros, places = self._zeros, self._places
        for begin in range(0, len(seeds), len(places)):
            some = seeds[begin : begin + len(places)]
            for seed, place in zip(some, places, strict=False):
                AESGCM(seed).encrypt_into(NONCE, zeros, None, place)
            yield self._words[: len(some)]


def seal(key: bytes, plain: bytes) -> bytes:
    """Encrypt under a key that is used once; its own inverse."""
    return AESGCM(key).encrypt(NONCE, plain, None)[:-TAG_BYTES]
