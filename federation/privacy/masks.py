"""Keys and masks: key agreement (X25519), key derivation (HKDF), and masks (AES-128 in counter mode).

The counter mode is that of GCM (NIST SP 800-38D, GCTR: counters from 2 for a nonce of zeros), whose tag is thrown away:
the library's one call for it costs a quarter of its three for a bare cipher, and a round takes thousands.
"""

from __future__ import annotations

import hmac

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from federation.privacy.fixed_point import Words, add, subtract

SEED_BYTES = 16
"""Of AES-128: the security level of X25519."""

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
        self._zeros = bytes(8 * int(np.prod(shape)))
        self._buffer = np.empty(len(self._zeros) + TAG_BYTES, dtype=np.uint8)
        self._words: Words = self._buffer[:-TAG_BYTES].view(np.uint64).reshape(shape)

    def add(self, total: Words, seed: bytes) -> None:
        """Add the mask of a seed. Every seed is used once (for one round), so the nonce is always the same."""
        add(total, self._draw(seed))

    def subtract(self, total: Words, seed: bytes) -> None:
        """Take it off again."""
        subtract(total, self._draw(seed))

    def _draw(self, seed: bytes) -> Words:
        AESGCM(seed).encrypt_into(NONCE, self._zeros, None, self._buffer.data)
        return self._words


def seal(key: bytes, plain: bytes) -> bytes:
    """Encrypt under a key that is used once; its own inverse."""
    return AESGCM(key).encrypt(NONCE, plain, None)[:-TAG_BYTES]
