"""Sums are the same bits in any order and any grouping, and as exact as they claim."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contribution import Contribution, Contributions
from federation.summation import Total, total

finite = st.floats(-1e280, 1e280, allow_nan=False) | st.floats(-1, 1) | st.integers(-1000, 1000).map(float)
terms = st.lists(finite, min_size=1, max_size=30)


def summed(values: list[float], groups: list[list[int]]) -> float:
    """Partial sums of the groups, merged in their order."""
    whole = Total()
    for group in groups:
        part = Total()
        for i in group:
            part.add(Contribution(1, x=values[i]))
        whole.merge(Total.from_arrays(part.patients, part.to_arrays()))
    return float(whole.result()["x"])


@settings(deadline=None)
@given(terms, st.data())
def test_any_order_and_any_grouping_gives_the_same_bits(values: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(values))))
    hosts = data.draw(st.integers(1, 5))
    groups = [order[h::hosts] for h in range(hosts)]
    expected = float(total(Contribution(1, x=v) for v in values)["x"])
    assert summed(values, groups) == expected
    stacked = Total()
    stacked.add_stacked(Contributions(np.ones(len(values), dtype=int), {"x": np.array(values)[order]}))
    assert float(stacked.result()["x"]) == expected


@settings(deadline=None)
@given(terms)
def test_the_sum_is_right(values: list[float]) -> None:
    exact = math.fsum(values)
    found = float(total(Contribution(1, x=v) for v in values)["x"])
    assert abs(found - exact) <= len(values) * 2.0**-63 * max(map(abs, values)) + abs(exact) * 2.0**-52 + 1e-260


@settings(deadline=None)
@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=50))
def test_whole_numbers_are_exact(values: list[int]) -> None:
    assert float(total(Contribution(1, x=float(v)) for v in values)["x"]) == sum(values)


def test_small_entries_of_an_array_are_not_lost_beside_large_ones() -> None:
    arrays = [np.array([1e200, 1e-200, 0.1]), np.array([-3e200, 2e-200, 0.2])]
    found = total(Contribution(5, x=a) for a in arrays)
    np.testing.assert_allclose(found["x"], arrays[0] + arrays[1], rtol=1e-15)
    assert found.patients == 10


def test_centers_that_withhold_are_the_zero() -> None:
    found = Total()
    found.add(Contribution())
    assert not found
    assert not found.result()
    found.add(Contribution(3, x=[1.0, 2.0]))
    found.merge(Total())
    found.add(Contribution())
    np.testing.assert_array_equal(found.result()["x"], [1, 2])
    assert found.result().patients == 3


def test_rows_are_placed() -> None:
    one, other = Total(), Total()
    rows = {"rows": np.array([[1.0, 2.0], [3.0, 4.0]])}
    both = Contributions(np.array([5, 6]), {"x": np.array([1.0, 2.0])}, rows, np.array([2, 0]), 4)
    one.add_stacked(both)
    other.add_stacked(
        Contributions(np.array([7]), {"x": np.ones(1)}, {"rows": np.array([[5.0, 6.0]])}, np.array([3]), 4)
    )
    one.merge(other)
    assert one.result().patients == 18
    np.testing.assert_array_equal(both[0]["rows"], [[0, 0], [0, 0], [1, 2], [0, 0]])
    np.testing.assert_array_equal(one.result()["rows"], [[3, 4], [0, 0], [1, 2], [5, 6]])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Contribution(1, y=1.0), r"contributions differ in \['x', 'y'\]"),
        (Contribution(1, x=[1.0, 2.0]), r"'x' has shape \(\) in one contribution, \(2,\) in another"),
    ],
)
def test_what_differs_is_named(other: Contribution, message: str) -> None:
    for join in ("add", "merge"):
        found, more = Total(), Total()
        found.add(Contribution(1, x=1.0))
        more.add(other)
        argument: Any = other if join == "add" else more
        with pytest.raises(ValueError, match=message):
            getattr(found, join)(argument)
        assert found.patients == 1


def test_what_is_no_partial_sum_is_refused() -> None:
    with pytest.raises(ValueError, match="is no partial sum"):
        Total.from_arrays(1, {"x": np.zeros(3)})
    for rows, message in (
        (np.zeros(3), "no partial sum of rows"),
        (np.array([[0.0, 1.0], [2.0, 1.0]]), "centers that are none of the 2, or several of one"),
        (np.array([[np.nan, 1.0]]), "centers that are none of the 2"),
        (np.array([[1.0, 1.0], [1.0, 1.0]]), "or several of one"),
    ):
        with pytest.raises(ValueError, match=message):
            Total.from_arrays(1, {"/rows/2/x": rows})
    with pytest.raises(ValueError, match="'x' has 9999999 rows; the federation has 2 centers"):
        Total.from_arrays(1, {"/rows/9999999/x": np.zeros((1, 2))}, centers=2)


@settings(deadline=None)
@given(st.integers(2, 9), st.data())
def test_rows_of_centers_are_as_good_as_whole_arrays(centers: int, data: st.DataObject) -> None:
    """However the centers are grouped, and whether they bring their row or an array of zeros around it."""
    values = np.random.default_rng(centers).lognormal(0, 40, (centers, 3))
    whole, expected = Total(), Total()
    for position in data.draw(st.permutations(range(centers))):
        array = np.zeros((centers, 3))
        array[position] = values[position]
        expected.add(Contribution(1, x=array))
        part = Total()
        if data.draw(st.booleans()):
            part.add(Contribution(1, x=array))
        else:
            one = np.array([position])
            part.add_stacked(Contributions(np.ones(1, dtype=int), {}, {"x": values[one]}, one, centers))
        whole.merge(Total.from_arrays(1, part.to_arrays(), centers))
        np.testing.assert_array_equal(whole.result()["x"], expected.result()["x"])
    np.testing.assert_array_equal(whole.result()["x"], values)
    assert (whole.patients, whole.centers) == (centers, centers)
    whole.merge(expected)  # a row that comes twice counts twice
    np.testing.assert_array_equal(whole.result()["x"], 2 * values)
