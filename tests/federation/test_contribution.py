"""Contributions add, whatever the order and the packing, in float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contribution import Contribution
from federation.summation import total

numbers = st.floats(-1e6, 1e6)
contributions = st.builds(
    lambda n, a, b: Contribution(n, a=a, b=b),
    st.integers(0, 100),
    st.lists(numbers, min_size=3, max_size=3),
    numbers,
)


def require_close(x: Contribution, y: Contribution) -> None:
    assert x.patients == y.patients
    assert x.keys() == y.keys()
    for name in x:
        np.testing.assert_allclose(x[name], y[name], atol=1e-6)


@given(x=contributions, y=contributions, z=contributions)
def test_addition_is_commutative_and_associative_and_has_a_zero(
    x: Contribution, y: Contribution, z: Contribution
) -> None:
    require_close(x + y, y + x)
    require_close((x + y) + z, x + (y + z))
    for same in (x + Contribution(), Contribution() + x):
        require_close(same, x)
        assert all((same[name] == x[name]).all() for name in x)


def test_adds_names_shapes_and_patients() -> None:
    x = Contribution(3, a=[1, 2], n=1)
    y = Contribution(4, n=10, a=[10, 20])
    summed = total([x, y, Contribution()])
    assert summed.patients == 7
    assert summed["a"].tolist() == [11, 22]
    assert summed["n"].shape == ()
    assert summed["n"] == 11
    assert x["a"].tolist() == [1, 2]  # nothing is added in place
    assert len(total([])) == 0
    assert total([]).patients == 0


def test_a_center_that_withholds_counts_no_patients_and_is_falsy() -> None:
    assert not Contribution()
    assert Contribution(3, a=1)
    assert total([Contribution(), Contribution(), Contribution(5, a=1)]).patients == 5


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Contribution(1, a=[1, 2], c=0), r"differ in \['b', 'c'\]"),
        (Contribution(1, a=[1, 2]), r"differ in \['b'\]"),
        (Contribution(1, a=[1, 2, 3], b=0), r"'a' has shape \(2,\) in one contribution, \(3,\)"),
        (Contribution(1, a=[1, 2], b=[0]), r"'b' has shape"),  # no broadcasting
    ],
)
def test_what_does_not_match_is_refused(other: Contribution, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Contribution(1, a=[1, 2], b=0) + other


def test_everything_is_float64() -> None:
    x = Contribution.of(1, {"weights/0": np.ones(3, np.float32), "n": 2, "mask": np.array([True, False])})
    assert all(x[name].dtype == np.float64 for name in x)
    assert x.nbytes == (3 + 1 + 2) * 8


def test_small_terms_survive_among_large_ones() -> None:
    # In float32 the ones would vanish.
    terms = [Contribution(1, a=np.float32(2**24)), *(Contribution(1, a=np.float32(1)) for _ in range(100))]
    assert total(terms)["a"] == 2**24 + 100


@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 20), max_size=4))
def test_partial_sums_give_the_same_total(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    parts = [Contribution(i, a=rng.normal(size=4)) for i in range(20)]
    edges = [0, *sorted(cuts), 20]
    packed = total(total(parts[i:j]) for i, j in pairwise(edges))
    np.testing.assert_allclose(packed["a"], total(parts)["a"], rtol=0, atol=1e-13)
    assert packed.patients == 190
