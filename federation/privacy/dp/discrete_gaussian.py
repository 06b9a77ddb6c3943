"""Exact samples of the discrete Gaussian law, from whole numbers only.

Noise that is drawn and added in floating point leaks through its last digits (Mironov 2012, CCS). The discrete Gaussian
N_Z(0, σ²) has P(x) ∝ exp(−x²/2σ²) on the whole numbers; it is drawn here without a single rounding, by rejection from a
discrete Laplace law (for a whole number σ, of that scale; Canonne, Kamath & Steinke 2020, The Discrete Gaussian for
Differential Privacy, algorithms 1-3).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numba import njit
from numpy.typing import NDArray

LARGEST = 2**24
"""Up to this standard deviation every product below fits into 64 bits."""

Source = Callable[[int], NDArray[np.uint64]]
"""Gives so many random words of 64 bits."""

_WORDS = 64
"""Random words fetched for each number still wanted; about 30 are used on average."""


def system_source() -> Source:
    """Words of a ChaCha20 key stream, its key from the operating system's secure source: nobody can repeat it."""
    stream = Cipher(algorithms.ChaCha20(os.urandom(32), bytes(16)), None).encryptor()
    return lambda count: np.frombuffer(stream.update(bytes(8 * count)), dtype=np.uint64)


def seeded_source(*entropy: int) -> Source:
    """Words that follow from a path of numbers: for simulation alone, since who knows the path knows the noise."""
    generator = np.random.default_rng(np.random.SeedSequence(entropy))
    return lambda count: generator.integers(0, 2**64, count, dtype=np.uint64)


def discrete_gaussian(size: int, deviation: int, source: Source) -> NDArray[np.int64]:
    """Independent samples of the discrete Gaussian law.

    Parameters
    ----------
    deviation
        σ, a whole number from 1 to 2^24. The law's own variance is σ² up to a factor 1 + 8π²σ²·exp(−2π²σ²).
    source
        Random words.

    Returns
    -------
    array of shape (size,)
    """
    if not 1 <= deviation <= LARGEST:
        raise ValueError(f"deviation is {deviation}; it is a whole number from 1 to {LARGEST}")
    found = np.empty(size, dtype=np.int64)
    done, words = 0, np.empty(0, dtype=np.uint64)
    while done < size:
        # A number for which the words did not suffice goes on from its own: dropped, long ways would be too rare.
        words = np.concatenate([words, source(_WORDS * (size - done + 4))])
        done, used = _fill(found, done, deviation, words)
        words = words[used:]
    return found


@njit(cache=True)
def _below(words: Any, at: int, bound: Any) -> Any:
    """A whole number evenly from 0 to bound − 1, and the place of the next word; −1 if there are not enough words."""
    mask = np.uint64(1)
    while mask < bound:
        mask = mask << np.uint64(1)
    mask -= np.uint64(1)
    while at < len(words):
        value = words[at] & mask
        at += 1
        if value < bound:
            return value, at
    return np.uint64(0), -1


@njit(cache=True)
def _exponential(words: Any, at: int, numerator: Any, denominator: Any) -> Any:
    """True with probability exp(−numerator/denominator), the fraction at most 1; and the next place."""
    k = np.uint64(1)
    while True:
        value, at = _below(words, at, denominator * k)
        if at < 0:
            return False, at
        if value >= numerator:  # a coin of probability numerator / (denominator·k) shows tails
            return k % np.uint64(2) == np.uint64(1), at
        k += np.uint64(1)


@njit(cache=True)
def _sample(words: Any, at: int, deviation: Any) -> Any:
    """One number, and the next place."""
    one = np.uint64(1)
    while True:
        fraction, at = _below(words, at, deviation)
        if at < 0:
            return 0, at
        accepted, at = _exponential(words, at, fraction, deviation)
        if at < 0:
            return 0, at
        if not accepted:
            continue
        whole = np.uint64(0)
        while True:
            more, at = _exponential(words, at, one, one)
            if at < 0:
                return 0, at
            if not more:
                break
            whole += one
        sign, at = _below(words, at, np.uint64(2))
        if at < 0:
            return 0, at
        magnitude = fraction + deviation * whole  # |Y|, Y of the discrete Laplace law with scale σ
        if sign == one and magnitude == np.uint64(0):
            continue
        distance = magnitude - deviation if magnitude > deviation else deviation - magnitude
        numerator, denominator = distance * distance, np.uint64(2) * deviation * deviation
        accepted = True
        while accepted and numerator > denominator:  # exp(−γ) = exp(−1)^⌊γ⌋ · exp(−rest)
            accepted, at = _exponential(words, at, one, one)
            if at < 0:
                return 0, at
            numerator -= denominator
        if accepted:
            accepted, at = _exponential(words, at, numerator, denominator)
            if at < 0:
                return 0, at
        if accepted:
            found = np.int64(magnitude)
            return (-found if sign == one else found), at


@njit(cache=True)
def _fill(found: Any, done: int, deviation: int, words: Any) -> Any:
    """Fill in numbers from a place on as far as the words reach; how many there are now, and the words they took."""
    used = 0
    while done < len(found):
        value, at = _sample(words, used, np.uint64(deviation))
        if at < 0:
            break
        found[done] = value
        used = at
        done += 1
    return done, used
