"""The cells that histograms of numbers have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.generative import cells

NUMBERS = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=30)


@given(NUMBERS)
def test_cells_are_in_the_order_of_numbers_and_hold_them(numbers: list[float]) -> None:
    x = np.sort(np.array(numbers))
    place = cells.cell_of(x)
    assert (np.diff(place) >= 0).all()
    assert ((place >= 0) & (place < cells.SIZE)).all()
    low, high = cells.bounds(place, place)
    tiny = np.abs(x) < 2.0**cells.LOWEST
    assert ((low <= x) & (x <= high))[~tiny].all()
    assert ((low == 0) & (high == 0))[tiny].all()
    large = np.abs(x) >= 1
    assert (high - low <= np.abs(x) / cells.PER_OCTAVE * 1.001)[large].all()


def test_small_whole_numbers_have_a_cell_each() -> None:
    assert len(np.unique(cells.cell_of(np.arange(-64.0, 65)))) == 129


@given(st.lists(st.integers(0, 12), min_size=5, max_size=40), st.integers(1, 6))
def test_no_run_stands_for_fewer_patients(counts: list[int], least: int) -> None:
    histogram = np.array(counts, dtype=float)
    first, last = cells.runs(histogram, least)
    held = [histogram[a : b + 1].sum() for a, b in zip(first, last, strict=True)]
    assert sum(held) == histogram.sum()
    assert (first[1:] > last[:-1]).all()
    if histogram.sum() >= least:
        assert min(held) >= least


def test_numbers_are_drawn_as_they_are_distributed() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([np.zeros(400), np.round(rng.gamma(2, 10, 1600), 1)])
    drawn = cells.draw(np.bincount(cells.cell_of(x), minlength=cells.SIZE).astype(float), 20_000, 1, 5, rng)
    assert (drawn == 0).mean() == pytest.approx((x == 0).mean(), abs=0.01)
    np.testing.assert_allclose(np.round(drawn * 10), drawn * 10, atol=1e-9)
    for q in np.quantile(x, [0.3, 0.5, 0.7, 0.9, 0.97]):
        assert (drawn <= q).mean() == pytest.approx((x <= q).mean(), abs=0.015)


def test_decimals() -> None:
    np.testing.assert_array_equal(cells.decimals_of(np.array([3.0, 17.60000038, 0.25, 0.123, -2.5])), [0, 1, 2, 3, 1])
