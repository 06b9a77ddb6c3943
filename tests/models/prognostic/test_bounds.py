"""Bounds hold every value that the missing inputs may have, and are exact where each is used once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.prognostic.bounds import Bounds, any_of, decide

_VALUES = st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=4, max_size=4)


def expression(a: Bounds, b: Bounds, c: Bounds, d: Bounds) -> Bounds:
    return decide([(a & ~b, 0), (any_of([b, c]) & d, 2), (~a | d, 1)], 2)


@settings(max_examples=60, deadline=None)
@given(values=_VALUES)
def test_every_completion_is_within_the_bounds(values: list[float]) -> None:
    bounds = expression(*(Bounds.of(np.array([v])) for v in values))
    choices = [[0.0, 1.0] if np.isnan(v) else [v] for v in values]
    found = [
        float(expression(*(Bounds.of(np.array([v])) for v in row)).value[0]) for row in itertools.product(*choices)
    ]
    assert bounds.low[0] <= min(found)
    assert max(found) <= bounds.high[0]
    if len(found) == 1:
        assert bounds.known.all()


@settings(max_examples=40, deadline=None)
@given(values=_VALUES)
def test_sums_and_single_uses_are_exact(values: list[float]) -> None:
    a, b, c, d = (Bounds.of(np.array([v])) for v in values)
    total = (a | b) + (c & ~d) * 0.5
    choices = [[0.0, 1.0] if np.isnan(v) else [v] for v in values]
    found = [max(w, x) + 0.5 * min(y, 1 - z) for w, x, y, z in itertools.product(*choices)]
    assert (total.low[0], total.high[0]) == (min(found), max(found))


def test_thresholds_say_on_which_side_they_are_closed() -> None:
    x = Bounds.of(np.array([1.9, 2.0, 2.1, np.nan]), 0, 9)
    np.testing.assert_array_equal(x.at_least(2).value, [0, 1, 1, np.nan])
    np.testing.assert_array_equal(x.above(2).value, [0, 0, 1, np.nan])
    np.testing.assert_array_equal(x.below(2).value, [1, 0, 0, np.nan])


def test_the_first_rule_that_holds_decides() -> None:
    yes, no, unknown = (Bounds.of(np.array([v])) for v in (1.0, 0.0, np.nan))
    assert decide([(no, 5), (yes, 3), (yes, 1)], 0).value[0] == 3
    assert decide([(no, 5)], 0).value[0] == 0
    either = decide([(unknown, 5), (yes, 3), (yes, 9)], 0)
    assert (either.low[0], either.high[0]) == (3, 5)
    assert decide([(unknown, 3), (yes, 3)], 0).value[0] == pytest.approx(3)  # it does not matter
