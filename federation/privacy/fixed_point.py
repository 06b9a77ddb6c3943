"""Numbers as whole numbers modulo 2^64 or 2^128, in which a sum can be masked.

A mask hides a number only if it is drawn evenly from all there are, so sums under masks are sums in a finite group. Two
limbs of 64 bits with 64 binary places hold every sum of the project as it is: a float64 of 2^-11 or more has no digit
below 2^-64, and up to 2^63 divided by the number of centers there is no overflow, not even of squares of laboratory
values. One limb is half the work for those who know the range of their sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Words = NDArray[np.uint64]


class OutOfRange(ValueError):
    """A number is too large for the fixed point of the sum; the message has the bound.

    Attributes
    ----------
    index, value
        Which number, and what it is; they are the center's own.
    """

    def __init__(self, message: str, index: int, value: float) -> None:
        super().__init__(message)
        self.index, self.value = index, value


@dataclass(frozen=True)
class FixedPoint:
    """Fixed-point arithmetic modulo 2^(64·limbs), negative numbers in two's complement.

    Parameters
    ----------
    limbs
        Words of 64 bits a number: 1 or 2.
    fraction
        Binary places. A number is rounded to the nearest multiple of 2^-fraction.
    """

    limbs: Literal[1, 2] = 2
    fraction: int = 64

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 64 * self.limbs - 24:
            raise ValueError(
                f"fraction is {self.fraction}; with {self.limbs} limbs it is from 0 to {64 * self.limbs - 25}"
            )

    def bound(self, centers: int) -> float:
        """Numbers below this (in absolute value) of so many centers add up without overflow: a power of two."""
        return float(2.0 ** (64 * self.limbs - 1 - self.fraction - centers.bit_length()))

    def encode(self, values: Floats, centers: int) -> Words:
        """Numbers of shape (size,) as words of shape (limbs, size), the lowest limb first.

        Raises
        ------
        OutOfRange
            If a number is not finite, or so large that a sum over `centers` could overflow.
        """
        words: Words = self.encode_rows(values[None], centers)[0]
        return words

    def encode_rows(self, rows: Floats, centers: int) -> Words:
        """Those of many centers, shape (k, size), as words of shape (k, limbs, size); as `encode`."""
        bound = self.bound(centers)
        if not (np.abs(rows) < bound).all():  # NaN compares false
            i, j = np.argwhere(~(np.abs(rows) < bound))[0].tolist()
            raise OutOfRange(
                f"a number does not fit: the fixed point of secure aggregation (limbs {self.limbs}, fraction "
                f"{self.fraction}) holds sums over {centers} centers of numbers below {bound:.6g}",
                j,
                float(rows[i, j]),
            )
        words = np.empty((len(rows), self.limbs, rows.shape[1]), dtype=np.uint64)
        _encode(np.ascontiguousarray(rows), 2.0**self.fraction, words)
        return words

    def decode(self, words: Words) -> Floats:
        """Inverse of `encode`, each number rounded once to the nearest float64."""
        values = np.empty(words.shape[1])
        _decode(words, 2.0**-self.fraction, values)
        return values


def add(total: Words, terms: Words) -> None:
    """Add a term, or many of shape (k, limbs, size), in place, modulo 2^(64·limbs)."""
    _add(total, terms.reshape(-1, *total.shape))


def subtract(total: Words, terms: Words) -> None:
    """Subtract a term, or many, in place, modulo 2^(64·limbs)."""
    _subtract(total, terms.reshape(-1, *total.shape))


@njit(cache=True)
def _encode(values: Any, scale: Any, words: Any) -> None:
    many, limbs, size = words.shape
    for c in range(many):
        for i in range(size):
            magnitude = abs(values[c, i]) * scale  # a power of two: exact
            if limbs == 1:
                low = np.uint64(np.rint(magnitude))
                words[c, 0, i] = ~low + np.uint64(1) if values[c, i] < 0 else low
                continue
            top = np.floor(magnitude * 2.0**-64)
            low, high = np.uint64(np.rint(magnitude - top * 2.0**64)), np.uint64(top)  # what is subtracted is a prefix
            if values[c, i] < 0:
                low = ~low + np.uint64(1)
                high = ~high + np.uint64(1) if low == 0 else ~high
            words[c, 0, i], words[c, 1, i] = low, high


@njit(cache=True)
def _decode(words: Any, scale: Any, values: Any) -> None:
    limbs, size = words.shape
    one, sign = np.uint64(1), np.uint64(2**63)
    for i in range(size):
        low = words[0, i]
        high = words[1, i] if limbs == 2 else np.uint64(0)
        negative = (high if limbs == 2 else low) >= sign
        if negative:
            low = ~low + one
            high = (~high + one if low == 0 else ~high) if limbs == 2 else high
        shift = np.uint64(0)
        while high >> shift:
            shift += one
        if shift > 0:  # the 64 highest bits, the last of them set if anything below is: rounded once, to nearest
            rest = low << (np.uint64(64) - shift) if shift < 64 else low
            head = (high << (np.uint64(64) - shift)) | (low >> shift) if shift < 64 else high
            low = head | one if rest != 0 else head
        value = float(low) * 2.0 ** float(shift) * scale
        values[i] = -value if negative else value


@njit(cache=True)
def _add(total: Any, terms: Any) -> None:
    for term in terms:
        if len(total) == 1:
            for i in range(total.shape[1]):
                total[0, i] += term[0, i]
            continue
        low, high, a, b = total[0], total[1], term[0], term[1]
        for i in range(len(low)):
            s = low[i] + a[i]
            high[i] += b[i] + np.uint64(s < a[i])
            low[i] = s


@njit(cache=True)
def _subtract(total: Any, terms: Any) -> None:
    for term in terms:
        if len(total) == 1:
            for i in range(total.shape[1]):
                total[0, i] -= term[0, i]
            continue
        low, high, a, b = total[0], total[1], term[0], term[1]
        for i in range(len(low)):
            high[i] -= b[i] + np.uint64(low[i] < a[i])
            low[i] -= a[i]
