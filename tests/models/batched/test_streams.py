"""Compiled generators draw numpy's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batched import streams
from models.batched.streams import Streams

numbers = st.integers(0, 2**64 - 1) | st.integers(0, 5) | st.sampled_from([2**32 - 1, 2**32, 2**63])


def by_numpy(found: Streams, sizes: np.ndarray, passes: np.ndarray) -> np.ndarray:
    drawn = [np.empty(0, dtype=np.int64)]
    for i in range(len(found)):
        rng = found.generator(i)
        drawn += [rng.permutation(int(sizes[i])) for _ in range(passes[i])]
    return np.concatenate(drawn)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=6), st.lists(st.tuples(numbers, st.integers(0, 70), st.integers(0, 4))))
def test_permutations_are_numpys(prefix: list[int], rows: list[tuple[int, int, int]]) -> None:
    found = Streams(tuple(prefix), np.array([r[0] for r in rows], dtype=np.uint64))
    sizes, passes = (np.array([r[j] for r in rows], dtype=np.int64) for j in (1, 2))
    np.testing.assert_array_equal(found.permutations(sizes, passes), by_numpy(found, sizes, passes))


def test_the_compiled_ones_are_in_use() -> None:
    assert streams._as_numpy()


def test_without_them_numpys_own_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Streams((1, 2), np.arange(5, dtype=np.uint64))
    sizes, passes = np.array([3, 1, 0, 50, 7]), np.array([2, 2, 1, 1, 0])
    expected = found.permutations(sizes, passes)
    monkeypatch.setattr(streams, "_as_numpy", lambda: False)
    np.testing.assert_array_equal(found.permutations(sizes, passes), expected)
    assert expected.dtype == found.permutations(sizes, passes).dtype


def test_a_part_of_the_streams() -> None:
    found = Streams((1,), np.arange(5, dtype=np.uint64))
    assert found[1:3].generator(0).random() == found.generator(1).random()
