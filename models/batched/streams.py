"""The random numbers of many numpy generators, drawn by compiled code.

A center's random numbers belong to a generator of its own (`federation.randomness`). Building ten thousand of them
costs more than training with what they draw, so the shuffles of mini-batches are computed here without them: seed
sequence (O'Neill's seed_seq, as numpy has it), PCG64 (O'Neill 2014, XSL-RR 128/64), and Fisher-Yates with bounded
numbers by masks and rejection, bit for bit what numpy draws. Should an installed numpy draw otherwise, its own serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

U32, U64 = np.uint32, np.uint64
_LOW = U64(0xFFFFFFFF)
_MULTIPLIER = (U64(0x2360ED051FC65DA4), U64(0x4385DF649FCCF645))  # PCG64's, high and low half


@dataclass(frozen=True)
class Streams:
    """Generators whose seeds begin alike: ``default_rng(SeedSequence([*prefix, last[i]]))``.

    Parameters
    ----------
    prefix
        Non-negative whole numbers of any size.
    last
        What tells the generators apart, uint64 of shape (k,).
    """

    prefix: tuple[int, ...]
    last: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.last)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Streams:
        """Some of the generators."""
        return Streams(self.prefix, self.last[rows])

    def generator(self, i: int) -> np.random.Generator:
        """One of them, as numpy's."""
        return np.random.default_rng(np.random.SeedSequence([*self.prefix, int(self.last[i])]))

    def permutations(self, sizes: NDArray[np.int64], passes: NDArray[np.int64]) -> NDArray[np.int32]:
        """What ``passes[i]`` calls of ``generator(i).permutation(sizes[i])`` give, all end to end."""
        if _as_numpy():
            words = np.array([w for part in self.prefix for w in _words(part)], dtype=U32)
            found: NDArray[np.int32] = _permutations(words, self.last, sizes, passes)
            return found
        drawn: list[NDArray[np.int64]] = []
        for i, (n, count) in enumerate(zip(sizes, passes, strict=True)):
            rng = self.generator(i)
            drawn += [rng.permutation(n) for _ in range(count)]
        return np.concatenate([np.empty(0, dtype=np.int64), *drawn]).astype(np.int32)


@cache
def _as_numpy() -> bool:
    """Whether the compiled generators draw what the installed numpy draws."""
    streams = Streams((0, 3, 2**63 + 1, 2**32), np.array([0, 7, 2**40, 2**64 - 1], dtype=U64))
    words = np.array([w for part in streams.prefix for w in _words(part)], dtype=U32)
    sizes, passes = np.array([1, 2, 9, 300]), np.array([2, 3, 2, 2])
    ours = _permutations(words, streams.last, sizes, passes)
    theirs: list[NDArray[np.int64]] = []
    for i in range(4):
        rng = streams.generator(i)
        theirs += [rng.permutation(int(sizes[i])) for _ in range(passes[i])]
    return bool(np.array_equal(ours, np.concatenate(theirs)))


def _words(part: int) -> Sequence[int]:
    """A number's 32-bit words, lowest first."""
    words = [part & 0xFFFFFFFF]
    while part := part >> 32:
        words.append(part & 0xFFFFFFFF)
    return words


@njit(cache=True)
def _seed(words, pool, state):  # type: ignore[no-untyped-def]
    """Four 64-bit numbers from entropy words: ``SeedSequence(words).generate_state(4, np.uint64)``."""
    mixing = U32(0x43B0D7E5)
    for i in range(4):
        value = words[i] if i < len(words) else U32(0)
        value = U32(value ^ mixing)
        mixing = U32(mixing * U32(0x931E8875))
        value = U32(value * mixing)
        pool[i] = U32(value ^ (value >> U32(16)))
    for source in range(max(4, len(words))):
        for target in range(4):
            if source == target:
                continue
            value = pool[source] if source < 4 else words[source]
            value = U32(value ^ mixing)
            mixing = U32(mixing * U32(0x931E8875))
            value = U32(value * mixing)
            value = U32(value ^ (value >> U32(16)))
            mixed = U32(U32(U32(0xCA01F9DD) * pool[target]) - U32(U32(0x4973F715) * value))
            pool[target] = U32(mixed ^ (mixed >> U32(16)))
    mixing = U32(0x8B51F9DD)
    for i in range(8):
        value = U32(pool[i % 4] ^ mixing)
        mixing = U32(mixing * U32(0x58F38DED))
        value = U32(value * mixing)
        value = U32(value ^ (value >> U32(16)))
        if i % 2 == 0:
            state[i // 2] = U64(value)
        else:
            state[i // 2] |= U64(value) << U64(32)


@njit(cache=True)
def _multiply(a, b):  # type: ignore[no-untyped-def]
    """High and low half of the 128-bit product."""
    a0, a1, b0, b1 = a & _LOW, a >> U64(32), b & _LOW, b >> U64(32)
    p00, p01, p10 = a0 * b0, a0 * b1, a1 * b0
    middle = (p00 >> U64(32)) + (p01 & _LOW) + (p10 & _LOW)
    high = a1 * b1 + (p01 >> U64(32)) + (p10 >> U64(32)) + (middle >> U64(32))
    return high, (p00 & _LOW) | ((middle & _LOW) << U64(32))


@njit(cache=True)
def _step(high, low, inc_high, inc_low):  # type: ignore[no-untyped-def]
    """state * multiplier + increment, modulo 2^128."""
    carry, new_low = _multiply(low, _MULTIPLIER[1])
    new_high = carry + high * _MULTIPLIER[1] + low * _MULTIPLIER[0]
    new_low2 = new_low + inc_low
    return new_high + inc_high + U64(new_low2 < inc_low), new_low2


@njit(cache=True)
def _permutations(prefix, last, sizes, passes):  # type: ignore[no-untyped-def]
    drawn = np.empty((sizes * passes).sum(), dtype=np.int32)
    words = np.empty(len(prefix) + 2, dtype=U32)
    words[: len(prefix)] = prefix
    pool, state = np.empty(4, dtype=U32), np.empty(4, dtype=U64)
    at = 0
    for i in range(len(last)):
        words[len(prefix)] = U32(last[i] & _LOW)
        words[len(prefix) + 1] = U32(last[i] >> U64(32))
        count = len(prefix) + (2 if last[i] >> U64(32) else 1)
        _seed(words[:count], pool, state)
        inc_high = (state[2] << U64(1)) | (state[3] >> U64(63))
        inc_low = (state[3] << U64(1)) | U64(1)
        high, low = _step(U64(0), U64(0), inc_high, inc_low)
        low2 = low + state[1]
        high = high + state[0] + U64(low2 < low)
        high, low = _step(high, low2, inc_high, inc_low)
        spare, has_spare = U64(0), False
        for _ in range(passes[i]):
            n, mask = sizes[i], _LOW
            for j in range(n):
                drawn[at + j] = j
            for j in range(n - 1, 0, -1):
                while j <= mask >> U64(1):
                    mask >>= U64(1)
                while True:
                    if has_spare:
                        word, has_spare = spare, False
                    else:
                        high, low = _step(high, low, inc_high, inc_low)
                        mixed, turn = high ^ low, high >> U64(58)
                        out = (mixed >> turn) | (mixed << ((U64(64) - turn) & U64(63)))
                        word, spare, has_spare = out & _LOW, out >> U64(32), True
                    other = np.int64(word & mask)
                    if other <= j:
                        break
                drawn[at + j], drawn[at + other] = drawn[at + other], drawn[at + j]
            at += n
    return drawn
