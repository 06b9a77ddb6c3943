"""Kaplan-Meier, Nelson-Aalen, restricted mean and log-rank from counts, against lifelines and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines import KaplanMeierFitter, NelsonAalenFitter
from lifelines.statistics import multivariate_logrank_test
from lifelines.utils import restricted_mean_survival_time
from numpy.typing import NDArray

from models.survival.descriptive import LogRank, SurvivalCurve, log_rank_sums
from models.survival.time_grid import event_counts


def sample(n: int = 300, seed: int = 0, tied: bool = True) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    died, left = rng.exponential(200, n), rng.uniform(20, 400, n)
    time = np.minimum(died, left)
    return np.ceil(time / 10 if tied else time * 100).astype(np.int64), died <= left


def curve(cell: NDArray[np.int64], event: NDArray[np.bool_]) -> SurvivalCurve:
    size = int(cell.max()) + 1
    counts = event_counts(cell, event, size)
    return SurvivalCurve.of(np.arange(size, dtype=float), counts["events"], counts["leaving"])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_kaplan_meier_with_its_band(tied: bool, level: float) -> None:
    cell, event = sample(tied=tied)
    theirs = KaplanMeierFitter(alpha=1 - level).fit(cell, event)
    mine = curve(cell, event)
    at = theirs.survival_function_.index > 0
    np.testing.assert_allclose(mine.times, theirs.survival_function_.index[at])
    np.testing.assert_allclose(mine.survival, theirs.survival_function_[at].iloc[:, 0], atol=1e-12)
    low, high = mine.survival_band(level)
    # lifelines has no limits before the first event.
    known = mine.survival < 1
    expected = theirs.confidence_interval_survival_function_[at]
    np.testing.assert_allclose(low[known], expected.iloc[:, 0][known], atol=1e-12)
    np.testing.assert_allclose(high[known], expected.iloc[:, 1][known], atol=1e-12)
    assert mine.median() == theirs.median_survival_time_


def test_nelson_aalen_with_its_band() -> None:
    cell, event = sample()
    theirs = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(cell, event)
    mine = curve(cell, event)
    expected = theirs.cumulative_hazard_.iloc[1:, 0]
    np.testing.assert_allclose(mine.cumulative_hazard, expected, atol=1e-12)
    low, high = mine.cumulative_hazard_band()
    some = mine.cumulative_hazard > 0
    np.testing.assert_allclose(low[some], theirs.confidence_interval_.iloc[1:, 0][some], atol=1e-12)
    np.testing.assert_allclose(high[some], theirs.confidence_interval_.iloc[1:, 1][some], atol=1e-12)


@pytest.mark.parametrize("horizon", [7.0, 12.5, 30.0])
def test_restricted_mean(horizon: float) -> None:
    cell, event = sample()
    mean, error = curve(cell, event).restricted_mean(horizon)
    kaplan_meier = KaplanMeierFitter().fit(cell, event)
    assert mean == pytest.approx(restricted_mean_survival_time(kaplan_meier, t=horizon), abs=1e-9)
    # The jackknife knows nothing of the formula.
    n = len(cell)
    keep = ~np.eye(n, dtype=bool)
    others = np.array([curve(cell[k], event[k]).restricted_mean(horizon)[0] for k in keep])
    assert error == pytest.approx(np.sqrt((n - 1) / n * ((others - others.mean()) ** 2).sum()), rel=0.03)


def test_a_mean_beyond_the_last_patient_is_unknown_unless_all_died() -> None:
    with pytest.raises(ValueError, match="last patient was seen at 3; choose a horizon no later"):
        curve(np.array([1, 2, 3]), np.array([True, True, False])).restricted_mean(4.0)
    dead = curve(np.array([1, 2, 3]), np.array([True, True, True]))
    assert dead.restricted_mean(10.0)[0] == pytest.approx(2)
    low, high = dead.survival_band()
    assert low[-1] == high[-1] == dead.survival[-1] == 0
    assert np.isnan(curve(np.array([1, 2]), np.array([False, False])).median())
    frame = dead.to_frame()
    assert len(frame) == 3
    assert frame.notna().all(axis=None)


def groups(n: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).choice(3, n, p=[0.5, 0.3, 0.2])


def counted(
    cell: NDArray[np.int64], event: NDArray[np.bool_], group: NDArray[np.int64], size: int
) -> dict[str, object]:
    parts = [event_counts(cell[group == g], event[group == g], size) for g in range(3)]
    return {name: np.stack([part[name] for part in parts]) for name in ("events", "leaving")}


def test_log_rank() -> None:
    cell, event = sample()
    group = groups(len(cell), 1)
    cell = np.where(group == 2, np.ceil(cell / 2).astype(int), cell)
    sums = log_rank_sums(**counted(cell, event, group, int(cell.max()) + 1))  # type: ignore[arg-type]
    mine, theirs = LogRank.of(sums["excess"], sums["variance"]), multivariate_logrank_test(cell, group, event)
    assert mine.statistic == pytest.approx(theirs.test_statistic, abs=1e-9)
    assert mine.p == pytest.approx(theirs.p_value, abs=1e-12)
    assert mine.degrees_of_freedom == 2


def test_stratified_log_rank() -> None:
    duration = pytest.importorskip("statsmodels.duration.survfunc")
    cell, event = sample()
    group, stratum = groups(len(cell), 1), np.random.default_rng(5).integers(4, size=len(cell))
    total = {"excess": np.zeros(3), "variance": np.zeros((3, 3))}
    for s in range(4):
        here = stratum == s
        sums = log_rank_sums(**counted(cell[here], event[here], group[here], int(cell.max()) + 1))  # type: ignore
        total = {name: total[name] + sums[name] for name in total}
    statistic, p = duration.survdiff(cell, event.astype(int), group, strata=stratum)
    mine = LogRank.of(total["excess"], total["variance"])
    assert mine.statistic == pytest.approx(statistic, abs=1e-9)
    assert mine.p == pytest.approx(p, abs=1e-9)


def test_a_group_of_nobody_takes_no_part() -> None:
    events, leaving = np.array([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]]), np.array([[1.0, 0, 2], [0, 0, 0], [0, 2, 1]])
    sums = log_rank_sums(events, leaving)
    mine = LogRank.of(sums["excess"], sums["variance"])
    two = log_rank_sums(events[[0, 2]], leaving[[0, 2]])
    assert mine == LogRank.of(two["excess"], two["variance"])
    assert mine.degrees_of_freedom == 1
    alone = log_rank_sums(events[:1], leaving[:1])
    assert LogRank.of(alone["excess"], alone["variance"]).degrees_of_freedom == 0
