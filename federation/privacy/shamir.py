"""Shamir's secret sharing: any `threshold` shares give a secret of 16 bytes back, fewer say nothing about it.

The secret is cut into eight numbers of 16 bits, each the constant of its own polynomial over the prime field of
2^31 - 1 with evenly drawn coefficients (Shamir 1979).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

PRIME = 2**31 - 1
SECRET_BYTES = 16
SHARE_BYTES = 32


class InconsistentShares(ValueError):
    """Shares do not come from one secret."""


def split(secret: bytes, threshold: int, shares: int) -> list[bytes]:
    """Shares number 1, 2, … of a secret of 16 bytes; `threshold` of them are needed."""
    if not 1 <= threshold <= shares:
        raise ValueError(f"threshold {threshold} is not between 1 and the number of shares, {shares}")
    polynomials = np.empty((threshold, 8), dtype=np.int64)
    polynomials[0] = np.frombuffer(secret, dtype="<u2")
    polynomials[1:] = _uniform((threshold - 1) * 8).reshape(-1, 8)
    values = _evaluate(polynomials, shares).astype("<u4").tobytes()
    return [values[i : i + SHARE_BYTES] for i in range(0, len(values), SHARE_BYTES)]


def combine(numbers: Sequence[int], shares: Sequence[bytes]) -> bytes:
    """The secret, from as many shares as the threshold, and their numbers.

    Raises
    ------
    InconsistentShares
        If what comes out is no secret (some share is wrong).
    """
    values = np.frombuffer(b"".join(shares), dtype="<u4").reshape(-1, 8).astype(np.int64)
    found = _at_zero(np.array(numbers, dtype=np.int64), values)
    if (found >= 2**16).any():
        raise InconsistentShares("the shares do not belong together")
    secret: bytes = found.astype("<u2").tobytes()
    return secret


def _uniform(count: int) -> NDArray[np.int64]:
    """Numbers drawn evenly from the field by the operating system's generator."""
    drawn = np.frombuffer(os.urandom(4 * count), dtype="<u4").astype(np.int64) & PRIME
    while (drawn == PRIME).any():  # one of 2^31 is none of the field's
        again = drawn == PRIME
        drawn[again] = _uniform(int(again.sum()))
    return drawn


@njit(cache=True)
def _evaluate(polynomials: Any, shares: Any) -> Any:
    values = np.zeros((shares, polynomials.shape[1]), dtype=np.int64)
    for s in range(shares):
        for j in range(len(polynomials) - 1, -1, -1):
            for c in range(polynomials.shape[1]):
                values[s, c] = (values[s, c] * (s + 1) + polynomials[j, c]) % PRIME
    return values


@njit(cache=True)
def _at_zero(x: Any, values: Any) -> Any:
    """Lagrange's interpolation at 0."""
    found = np.zeros(values.shape[1], dtype=np.int64)
    for i in range(len(x)):
        above, below = 1, 1
        for j in range(len(x)):
            if j != i:
                above = above * x[j] % PRIME
                below = below * ((x[j] - x[i]) % PRIME) % PRIME
        weight, power, base = above, PRIME - 2, below  # 1 / below by Fermat
        while power:
            if power & 1:
                weight = weight * base % PRIME
            base = base * base % PRIME
            power >>= 1
        for c in range(values.shape[1]):
            found[c] = (found[c] + weight * values[i, c]) % PRIME
    return found
