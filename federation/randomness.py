"""Every random number of a run comes from a path of names: same path, same numbers, whoever draws and whenever."""

from __future__ import annotations

import hashlib

import numpy as np


def entropy(part: int | str) -> int:
    """A number for a part of a path; a text becomes 64 bits of its BLAKE2b digest."""
    if isinstance(part, str):
        return int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
    return int(part)


def entropies(seed: int, *path: int | str) -> tuple[int, ...]:
    """What a generator is seeded with."""
    return (seed, *map(entropy, path))


def generator(seed: int, *path: int | str) -> np.random.Generator:
    """A generator for e.g. ``(seed, algorithm, round, center)``, independent of all other paths."""
    return np.random.default_rng(np.random.SeedSequence(entropies(seed, *path)))
