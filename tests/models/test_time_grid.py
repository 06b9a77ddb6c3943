"""The declared time grid: exact where times are whole cells, honest about the horizon."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.survival.time_grid import TimeGrid, at_risk, event_counts


@given(days=st.lists(st.integers(0, 36525), min_size=1, max_size=30))
def test_whole_days_in_years_come_back(days: list[int]) -> None:
    cell, event = TimeGrid().cells(np.array(days) / 365.25, np.ones(len(days), dtype=bool), "years")
    assert cell.tolist() == days
    assert event.all()
    np.testing.assert_allclose(TimeGrid().times(cell, "years"), np.array(days) / 365.25)


def test_who_is_followed_beyond_the_horizon_counts_as_censored_after_it() -> None:
    grid = TimeGrid(resolution=30, horizon=360)
    cell, event = grid.cells(np.array([0.0, 44.0, 46.0, 360.0, 374.0, 376.0, 9999.0]), np.ones(7, dtype=bool), "days")
    assert grid.size == 14
    assert cell.tolist() == [0, 1, 2, 12, 12, 13, 13]
    assert event.tolist() == [True] * 5 + [False] * 2


def test_counts_add_up() -> None:
    counts = event_counts(np.array([0, 2, 2, 3]), np.array([True, True, False, False]), 5)
    assert counts["events"].tolist() == [1, 0, 1, 0, 0]
    assert counts["leaving"].tolist() == [1, 0, 2, 1, 0]
    assert at_risk(counts["leaving"]).tolist() == [4, 3, 3, 1, 0]


@pytest.mark.parametrize(("resolution", "horizon"), [(0.0, 10.0), (-1.0, 10.0), (20.0, 10.0)])
def test_a_grid_has_cells(resolution: float, horizon: float) -> None:
    with pytest.raises(ValueError, match=f"resolution is {resolution} days"):
        TimeGrid(resolution, horizon)
