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

Octets = NDArray[np.uint8]

PRIME = 2**31 - 1
SECRET_BYTES = 16
SHARE_BYTES = 32


class InconsistentShares(ValueError):
    """Shares do not come from one secret."""


def split(secret: bytes, threshold: int, shares: int) -> list[bytes]:
    """Shares number 1, 2, … of a secret of 16 bytes; `threshold` of them are needed."""
    return [share.tobytes() for share in split_many(secret, threshold, shares)[0]]


def split_many(secrets: bytes, threshold: int, shares: int) -> Octets:
    """Shares of secrets that lie one after the other, shape (secrets, shares, `SHARE_BYTES`)."""
    if not 1 <= threshold <= shares:
        raise ValueError(f"threshold {threshold} is not between 1 and the number of shares, {shares}")
    constants = np.frombuffer(secrets, dtype="<u2")
    polynomials = np.empty((threshold, len(constants)), dtype=np.int64)
    polynomials[0] = constants
    polynomials[1:] = _uniform((threshold - 1) * len(constants)).reshape(-1, len(constants))
    values = _evaluate(polynomials, shares).astype("<u4").reshape(shares, -1, 8)
    return np.ascontiguousarray(values.transpose(1, 0, 2)).view(np.uint8)


def combine(numbers: Sequence[int], shares: Sequence[bytes]) -> bytes:
    """The secret, from as many shares as the threshold, and their numbers.

    Raises
    ------
    InconsistentShares
        If what comes out is no secret (some share is wrong).
    """
    given = np.frombuffer(b"".join(shares), dtype=np.uint8).reshape(1, -1, SHARE_BYTES)
    (secret,), (whole,) = combine_many(np.array([numbers]), given)
    if not whole:
        raise InconsistentShares("the shares do not belong together")
    return secret


def combine_many(numbers: NDArray[np.int64], shares: Octets) -> tuple[list[bytes], NDArray[np.bool_]]:
    """Many secrets at once.

    Parameters
    ----------
    numbers
        Of the shares, shape (secrets, threshold).
    shares
        Shape (secrets, threshold, `SHARE_BYTES`).

    Returns
    -------
    tuple
        The secrets, and which of them are secrets: not where a share was wrong, but with probability 2^-120.
    """
    values = np.ascontiguousarray(shares).view("<u4").astype(np.int64)
    found = _at_zero(np.ascontiguousarray(numbers, dtype=np.int64), values)
    whole = (found < 2**16).all(axis=1)
    text = found.astype("<u2").tobytes()
    return [text[i : i + SECRET_BYTES] for i in range(0, len(text), SECRET_BYTES)], whole


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
def _at_zero(numbers: Any, values: Any) -> Any:
    """Lagrange's interpolation at 0, secret by secret."""
    secrets, count = numbers.shape
    found = np.zeros((secrets, values.shape[2]), dtype=np.int64)
    weights = np.zeros(count, dtype=np.int64)
    for s in range(secrets):
        x = numbers[s]
        if s == 0 or (x != numbers[s - 1]).any():  # mostly the same shares of all
            for i in range(count):
                above, below = 1, 1
                for j in range(count):
                    if j != i:
                        above = above * x[j] % PRIME
                        below = below * ((x[j] - x[i]) % PRIME) % PRIME
                weight, power, base = above, PRIME - 2, below  # 1 / below by Fermat
                while power:
                    if power & 1:
                        weight = weight * base % PRIME
                    base = base * base % PRIME
                    power >>= 1
                weights[i] = weight
        for i in range(count):
            for c in range(values.shape[2]):
                found[s, c] = (found[s, c] + weights[i] * values[s, i, c]) % PRIME
    return found
