"""How good are survival predictions that were made out of fold, in many hospitals?

The answers equal scikit-survival's on one test set. What is added is what a federated experiment
needs: several folds and repeats, arms that predict only some patients, values per center, and
bootstrap intervals for all of it in milliseconds per arm.

Let ``w`` be how often each patient counts (all ones, or one bootstrap draw). Then

- Harrell's C, Uno's C and the cumulative/dynamic AUC are ratios ``w'Aw / w'Bw`` over pairs of patients,
- the Brier score and its integral are ratios ``w'b / w'1`` over patients,
- the Kaplan-Meier estimate behind calibration needs only weighted counts at risk,

and one matrix of draws (see `models.survival.resampling`) serves every arm and metric.

A pair is compared only if the same model made both predictions, so pairs never cross folds: ``A`` and
``B`` are made of one block per fold (per fold and center in `evaluate_by_center`), and blocks add
before the ratio is taken. With several repeats (complete sets of out-of-fold predictions of the same
patients) the ratio is averaged over the repeats in which it exists.

A patient drawn twice does not form a pair with its own copy. This needs no special care: the copies
die, or are censored, at the same time, which no pair statistic here compares. A replicate therefore
equals scikit-survival on the physically duplicated patients. The censoring distribution belongs to
the training patients and stays as it is.

This module is the public face and turns sums into estimates; the statistics of pairs and the Brier losses
are in `models.survival.statistics`, calibration in `models.survival.calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from models.survival.calibration import CalibrationCurve, calibrate, calibration_curve
from models.survival.concordance import concordance_counts
from models.survival.predictions import Prediction, TestSet, chosen_patients
from models.survival.resampling import Estimate, percentile_interval, spread_over_folds
from models.survival.statistics import auc, batches, brier_losses, concordance, ratio, sum_by

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

__all__ = [
    "CalibrationCurve",
    "Prediction",
    "TestSet",
    "calibration_curve",
    "concordance_counts",
    "evaluate",
    "evaluate_by_center",
]


def evaluate(
    tests: Sequence[TestSet],
    predictions: Sequence[Prediction],
    weights: npt.ArrayLike,
    horizons: Sequence[float],
    *,
    subset: npt.ArrayLike | None = None,
    ibs_times: npt.ArrayLike | None = None,
) -> dict[str, Estimate]:
    """Discrimination, accuracy and calibration of one arm, with bootstrap intervals.

    Parameters
    ----------
    tests, predictions : sequences of equal length
        One entry per repeat. All repeats hold the same patients in the same order; folds may differ.
    weights : array-like, shape = (n_replicates, n)
        How often each patient counts in each replicate, see `bootstrap_weights`. Give all arms the
        same weights. The point estimate needs no row: it counts each patient once.
    horizons : sequence of float
        Increasing, in years. Cases after the last one do not count in Uno's C, and the integrated
        Brier score ends there.
    subset : array-like of bool, shape = (n,), optional
        Evaluate on these patients only.
    ibs_times : array-like, optional
        Times over which the Brier score is integrated; by default 100 evenly spaced ones up to the
        last horizon, from a hundredth of it. The same for all arms, whatever their curves' times.

    Returns
    -------
    dict of str to Estimate
        For every arm:

        - ``harrell_c``
        - ``uno_c``, up to the last horizon
        - ``auc_{h:g}y``: cumulative/dynamic AUC at each horizon

        and, if the predictions have survival curves,

        - ``ibs``, ``brier_{h:g}y``: lower is better
        - ``calibration_ratio_{h:g}y``: observed risk (1 - Kaplan-Meier) over the mean predicted risk
        - ``calibration_error_{h:g}y``: absolute difference of observed and mean predicted risk in
          fifths of the predicted risk, averaged by the number of patients. The fifths are those of
          the patients counted once. Resampling adds noise to each fifth, which an absolute value
          cannot average out: the interval lies high, and may miss a very small estimate.

        What cannot be computed is NaN, with ``n`` and ``events`` reported: no comparable pair; no
        case or no control; no patient whose status at the horizon is known (Brier); no event before
        the horizon or no follow-up until it (calibration); curves that end before it. A patient of
        unknown weight, a case after the training follow-up of its fold or where G is zero, makes the
        metrics it enters NaN, where scikit-survival raises. (For the Brier score scikit-survival
        gives weight zero where G is zero, and so does this function.) Choose the last horizon within
        the training follow-up and neither happens: later cases are not looked at.

    Raises
    ------
    ValueError
        If shapes do not fit, repeats differ in their patients, or only some have survival curves.

    References
    ----------
    Harrell et al., "Multivariable prognostic models", Statistics in Medicine 15, 1996.
    Uno et al., "On the C-statistics for evaluating overall adequacy of risk prediction procedures
    with censored survival data", Statistics in Medicine 30, 2011.
    Uno et al., "Evaluating prediction rules for t-year survivors with censored regression models",
    JASA 102, 2007 (the AUC).
    Graf et al., "Assessment and comparison of prognostic classification schemes for survival data",
    Statistics in Medicine 18, 1999 (the Brier score).
    """
    chosen = chosen_patients(tests, subset)
    one_group = np.zeros(chosen.size, dtype=np.intp)
    return _evaluate(tests, predictions, weights, horizons, ibs_times, chosen, one_group, 1, pooled=True)[0]


def evaluate_by_center(
    tests: Sequence[TestSet],
    predictions: Sequence[Prediction],
    weights: npt.ArrayLike,
    horizons: Sequence[float],
    *,
    subset: npt.ArrayLike | None = None,
    ibs_times: npt.ArrayLike | None = None,
) -> dict[str | int, dict[str, Estimate]]:
    """`evaluate` for each center by itself: pairs are compared within the same center and fold.

    Returns
    -------
    dict of center to dict of str to Estimate
        The centers of ``subset``, sorted. The metrics are those of `evaluate` less
        ``calibration_error``, for which a center is too small. In a small center much is NaN.
    """
    chosen = chosen_patients(tests, subset)
    centers, group = np.unique(tests[0].center[chosen], return_inverse=True)
    of_all = np.zeros(chosen.size, dtype=np.intp)
    of_all[chosen] = group
    result = _evaluate(tests, predictions, weights, horizons, ibs_times, chosen, of_all, centers.size, pooled=False)
    return dict(zip(centers.tolist(), result, strict=True))


# From tables to estimates ----------------------------------------------------------------------------


class _Table(NamedTuple):
    """One metric in one repeat."""

    values: FloatArray  # [groups, 1 + replicates], the first column counts each patient once
    fold_values: FloatArray  # [groups, folds]
    counted: BoolArray  # [n], the patients it speaks of


def _evaluate(
    tests: Sequence[TestSet],
    predictions: Sequence[Prediction],
    weights: npt.ArrayLike,
    horizons: Sequence[float],
    ibs_times: npt.ArrayLike | None,
    chosen: BoolArray,
    group: IntArray,
    n_groups: int,
    pooled: bool,
) -> list[dict[str, Estimate]]:
    """One dict of estimates per group of patients."""
    at = np.asarray(horizons, dtype=np.float64)
    if at.ndim != 1 or not at.size or not (at > 0).all() or not (np.diff(at) > 0).all():
        raise ValueError(f"horizons must be positive and increasing, got {horizons!r}")
    grid = np.linspace(at[-1] / 100, at[-1], 100) if ibs_times is None else np.asarray(ibs_times, dtype=np.float64)
    if grid.ndim != 1 or grid.size < 2 or not (np.diff(grid) > 0).all():
        raise ValueError(f"ibs_times must be at least two increasing times, got {ibs_times!r}")
    _check_repeats(tests, predictions)
    draws = np.asarray(weights, dtype=np.float64)
    if draws.ndim != 2 or draws.shape[1] != chosen.size or not (draws >= 0).all():
        raise ValueError(f"weights must be [replicates, {chosen.size}] and not negative, got shape {draws.shape}")
    # One patient per row: a patient's replicates lie side by side, and sums over patients run along them.
    w = np.empty((chosen.size, 1 + draws.shape[0]))
    w[:, 0] = 1.0
    w[:, 1:] = draws.T

    repeats: list[dict[str, _Table]] = []
    # The matrix products are small: on a busy machine, threads would wait for each other most of the time.
    with _thread_pools().limit(limits=1, user_api="blas"):
        for test, prediction in zip(tests, predictions, strict=True):
            tables = _discrimination(test, prediction, w, at, chosen, group, n_groups)
            if prediction.survival is not None:
                tables |= _accuracy(test, prediction, w, at, grid, chosen, group, n_groups)
                tables |= _calibration(test, prediction, w, at, chosen, group, n_groups, pooled)
            repeats.append(tables)

    result: list[dict[str, Estimate]] = [{} for _ in range(n_groups)]
    for name in repeats[0]:
        values = _mean_where_known([tables[name].values for tables in repeats])
        fold_values = np.concatenate([tables[name].fold_values for tables in repeats], axis=1)
        counted = np.any([tables[name].counted for tables in repeats], axis=0)
        n = np.bincount(group[counted], minlength=n_groups)
        events = np.bincount(group[counted & tests[0].event], minlength=n_groups)
        low, high = percentile_interval(values[:, 1:])
        spread = spread_over_folds(fold_values)
        for g, estimates in enumerate(result):
            known = math.isfinite(values[g, 0])
            estimates[name] = Estimate(
                mean=float(values[g, 0]),
                low=float(low[g]) if known else math.nan,
                high=float(high[g]) if known else math.nan,
                spread=float(spread[g]),
                n=int(n[g]),
                events=int(events[g]),
                replicates=values[g, 1:],
                fold_values=fold_values[g],
            )
    return result


class _Sums:
    """A metric's numerator and denominator per unit, and their ratios.

    A unit is the patients of one group in one fold: unit = group * n_folds + fold.
    """

    def __init__(self, n_groups: int, n_folds: int, n_columns: int) -> None:
        self.shape = (n_groups, n_folds, n_columns)
        self.top = np.zeros((n_groups * n_folds, n_columns))
        self.bottom = np.zeros((n_groups * n_folds, n_columns))

    def table(self, counted: BoolArray) -> _Table:
        top, bottom = self.top.reshape(self.shape), self.bottom.reshape(self.shape)
        return _Table(ratio(top.sum(axis=1), bottom.sum(axis=1)), ratio(top[:, :, 0], bottom[:, :, 0]), counted)


def _discrimination(
    test: TestSet,
    prediction: Prediction,
    w: FloatArray,
    horizons: FloatArray,
    chosen: BoolArray,
    group: IntArray,
    n_groups: int,
) -> dict[str, _Table]:
    """Harrell's C, Uno's C and AUC(t)."""
    names = ["harrell_c", "uno_c", *(f"auc_{h:g}y" for h in horizons)]
    sums = {name: _Sums(n_groups, test.folds.size, w.shape[1]) for name in names}
    counted = chosen & np.isfinite(prediction.risk)
    free = test.uncensored_until_own_time
    case_weight = np.divide(1.0, free, out=np.full(free.size, np.nan), where=free > 0)

    for members, unit, units in batches(test, counted, group):
        time, event, risk = test.time[members], test.event[members], prediction.risk[members]
        ipcw, w_batch = case_weight[members], w[members]
        uno = np.where(time < horizons[-1], ipcw**2, 0.0)
        pairs = concordance(unit, time, event, risk, w_batch, [np.ones_like(uno), uno])
        pairs += [auc(unit, time, event, risk, ipcw, w_batch, h) for h in horizons]
        for name, (top, bottom) in zip(names, pairs, strict=True):
            sums[name].top[units], sums[name].bottom[units] = top, bottom
    return {name: s.table(counted) for name, s in sums.items()}


def _accuracy(
    test: TestSet,
    prediction: Prediction,
    w: FloatArray,
    horizons: FloatArray,
    ibs_times: FloatArray,
    chosen: BoolArray,
    group: IntArray,
    n_groups: int,
) -> dict[str, _Table]:
    """Brier scores and their integral."""
    at = np.concatenate((horizons, ibs_times))
    counted = _with_curves(prediction, chosen)
    losses = brier_losses(test, prediction.survival_at(at), at)
    integrated = np.trapezoid(losses[:, horizons.size :], ibs_times, axis=1) / (ibs_times[-1] - ibs_times[0])
    losses = np.column_stack((losses[:, : horizons.size], integrated))
    status_known = (test.event[:, None] | (test.time[:, None] > np.append(horizons, ibs_times[-1]))).astype(np.float64)

    names = [*(f"brier_{h:g}y" for h in horizons), "ibs"]
    sums = {name: _Sums(n_groups, test.folds.size, w.shape[1]) for name in names}
    known = np.zeros((n_groups * test.folds.size, len(names)))
    for members, unit, units in batches(test, counted, group):
        w_batch = w[members]
        bottom = sum_by(unit, w_batch)
        known[units] = sum_by(unit, status_known[members])
        for j, name in enumerate(names):
            sums[name].top[units] = sum_by(unit, w_batch, losses[members, j])
            sums[name].bottom[units] = bottom

    tables = {name: s.table(counted) for name, s in sums.items()}
    for table, in_unit in zip(tables.values(), known.T.reshape(len(names), n_groups, test.folds.size), strict=True):
        # Where no status is known every loss is zero, which would look like perfection.
        table.values[in_unit.sum(axis=1) == 0] = np.nan
        table.fold_values[in_unit == 0] = np.nan
    return tables


def _calibration(
    test: TestSet,
    prediction: Prediction,
    w: FloatArray,
    horizons: FloatArray,
    chosen: BoolArray,
    group: IntArray,
    n_groups: int,
    with_error: bool,
) -> dict[str, _Table]:
    """Observed over predicted risk and, if asked, the error over fifths of the predicted risk."""
    counted = _with_curves(prediction, chosen)
    n_folds = test.folds.size
    in_fold = group * n_folds + np.searchsorted(test.folds, test.fold)
    tables = {}
    for h, survival in zip(horizons, prediction.survival_at(horizons).T, strict=True):
        whole = calibrate(test, counted, 1 - survival, w, h, group, n_groups, with_error)
        folds = calibrate(test, counted, 1 - survival, w[:, :1], h, in_fold, n_groups * n_folds, with_error)
        for kind in whole:
            fold_values = folds[kind].reshape(n_groups, n_folds)
            tables[f"calibration_{kind}_{h:g}y"] = _Table(whole[kind], fold_values, counted)
    return tables


# Small things ----------------------------------------------------------------------------------------


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


def _mean_where_known(arrays: Sequence[FloatArray]) -> FloatArray:
    if len(arrays) == 1:
        return arrays[0]
    stacked = np.stack(arrays)
    known = np.isfinite(stacked)
    return ratio(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def _with_curves(prediction: Prediction, chosen: BoolArray) -> BoolArray:
    if prediction.survival is None:
        return np.zeros_like(chosen)
    return chosen & np.isfinite(prediction.survival).all(axis=1)


def _check_repeats(tests: Sequence[TestSet], predictions: Sequence[Prediction]) -> None:
    if len(tests) != len(predictions):
        raise ValueError(f"tests and predictions need one entry per repeat, got {len(tests)} and {len(predictions)}")
    if len({p.survival is None for p in predictions}) > 1:
        raise ValueError("predictions must have survival curves in all repeats or in none")
    for i, (test, prediction) in enumerate(zip(tests, predictions, strict=True)):
        for name in ("time", "event", "center"):
            if not np.array_equal(getattr(test, name), getattr(tests[0], name)):
                raise ValueError(f"tests[{i}].{name} differs from tests[0].{name}: repeats must share their patients")
        if prediction.risk.shape != test.time.shape:
            raise ValueError(f"predictions[{i}].risk must have shape {test.time.shape}, got {prediction.risk.shape}")
