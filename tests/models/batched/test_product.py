"""The small matrix product, whatever its sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batched.compiled import _sort
from models.batched.product import LANES, product, transpose


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 40), k=st.integers(0, 20), n=st.integers(1, 70), turned=st.booleans(), one_row=st.booleans())
def test_products_of_all_sizes(m: int, k: int, n: int, turned: bool, one_row: bool) -> None:
    rng = np.random.default_rng([m, k, n])
    a, b = (rng.integers(-9, 9, shape).astype(np.float32) for shape in ((m, k), (k, n)))  # exact in any order
    start = rng.integers(-9, 9, (1 if one_row else m, n)).astype(np.float32)
    flat = np.concatenate([np.zeros(3, dtype=np.float32), (a.T if turned else a).ravel()])
    found = np.full(m * n + 7, -1, dtype=np.float32)
    steps = (1, m) if turned else (k, 1)
    product(start.ravel(), 0, 0 if one_row else n, flat, 3, *steps, b.ravel(), 0, found, 5, m, k, n)
    np.testing.assert_array_equal(found[5:-2].reshape(m, n), start + a @ b)
    np.testing.assert_array_equal(found[[0, 1, 2, 3, 4, -2, -1]], -1)  # nothing beside it is touched


def test_transposes() -> None:
    for m, n in ((LANES, LANES), (2 * LANES, 3 * LANES)):
        a, found = np.arange(m * n + 1, dtype=np.float32), np.empty(m * n + 2, dtype=np.float32)
        transpose(a, 1, m, n, found, 2)
        np.testing.assert_array_equal(found[2:].reshape(n, m), a[1:].reshape(m, n).T)


@given(st.sets(st.integers(0, 500), max_size=80).map(list))
@settings(deadline=None)
def test_rows_are_sorted(rows: list[int]) -> None:
    found, bits = np.array([*rows[::-1], 7], dtype=np.int64), np.zeros(8, dtype=np.uint64)
    _sort(found, len(rows), bits)
    assert found.tolist() == [*sorted(rows), 7]
    assert not bits.any()
