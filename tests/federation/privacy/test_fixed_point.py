"""Fixed point against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.privacy.fixed_point import FixedPoint, OutOfRange, add, subtract

FORMATS = st.sampled_from([FixedPoint(), FixedPoint(1, 24), FixedPoint(2, 100), FixedPoint(2, 3), FixedPoint(1, 0)])


def fixed(x: float, fraction: int) -> int:
    """Nearest whole number of 2^-fraction, ties to even."""
    return round(Fraction(x) * 2**fraction)


@st.composite
def terms(draw: st.DrawFn) -> tuple[FixedPoint, list[list[float]]]:
    chosen = draw(FORMATS)
    k, size = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    bound = float(np.nextafter(chosen.bound(k), 0))
    number = st.floats(-bound, bound) | st.floats(-10, 10) | st.sampled_from([bound, -bound, 0.0, -0.0, 2.0**-60])
    return chosen, draw(st.lists(st.lists(number, min_size=size, max_size=size), min_size=k, max_size=k))


@settings(deadline=None)
@given(terms())
def test_a_sum_is_the_exact_sum_of_the_rounded_terms_rounded_once(drawn: tuple[FixedPoint, list[list[float]]]) -> None:
    chosen, rows = drawn
    total = chosen.encode(np.zeros(len(rows[0])), len(rows))
    for row in rows:
        add(total, chosen.encode(np.array(row), len(rows)))
    exact = [
        Fraction(sum(fixed(x, chosen.fraction) for x in column), 2**chosen.fraction)
        for column in zip(*rows, strict=True)
    ]
    np.testing.assert_array_equal(chosen.decode(total), [float(x) for x in exact])


@settings(deadline=None)
@given(terms())
def test_words_are_whole_numbers_modulo_a_power_of_two(drawn: tuple[FixedPoint, list[list[float]]]) -> None:
    chosen, rows = drawn
    words = chosen.encode(np.array(rows[0]), len(rows))
    found = [sum(int(limb) << 64 * i for i, limb in enumerate(column)) for column in words.T]
    assert found == [fixed(x, chosen.fraction) % 2 ** (64 * chosen.limbs) for x in rows[0]]


@settings(deadline=None)
@given(st.sampled_from([1, 2]), st.data())
def test_subtracting_undoes_adding_whatever_the_words(limbs: int, data: st.DataObject) -> None:
    word = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**64 - 1])
    a, b = (np.array(data.draw(st.lists(word, min_size=limbs, max_size=limbs)), np.uint64)[:, None] for _ in range(2))
    total = a.copy()
    add(total, b)
    whole = sum(int(x) << 64 * i for i, x in enumerate(a[:, 0])) + sum(int(x) << 64 * i for i, x in enumerate(b[:, 0]))
    assert sum(int(x) << 64 * i for i, x in enumerate(total[:, 0])) == whole % 2 ** (64 * limbs)
    subtract(total, b)
    np.testing.assert_array_equal(total, a)


@settings(deadline=None)
@given(st.floats(2.0**-11, 2.0**50) | st.floats(-(2.0**50), -(2.0**-11)))
def test_the_usual_format_keeps_every_digit_of_what_is_not_tiny(x: float) -> None:
    assert FixedPoint().decode(FixedPoint().encode(np.array([x]), 1000))[0] == x


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**40, -(2.0**40)])
def test_a_number_that_could_overflow_the_sum_is_refused(value: float) -> None:
    chosen = FixedPoint(1, 24)
    assert chosen.bound(45) == 2.0**33
    with pytest.raises(OutOfRange, match=r"a number does not fit.*45 centers of numbers below 8\.58993e") as caught:
        chosen.encode(np.array([0.0, value]), 45)
    assert caught.value.index == 1
    np.testing.assert_equal(caught.value.value, value)


def test_a_format_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="fraction is 64; with 1 limbs it is from 0 to 39"):
        FixedPoint(1, 64)
