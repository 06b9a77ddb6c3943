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
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from sksurv.nonparametric import kaplan_meier_estimator
from threadpoolctl import ThreadpoolController

from models.survival.resampling import Estimate, percentile_interval, spread_over_folds

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

TIED_RISK = 1e-8  # scikit-survival's tolerance
_ROWS = 256  # events compared at a time: bounds memory, and skips most pairs that are not comparable
_BATCH = 256  # patients handled together, at least


# What is evaluated -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TestSet:
    """The test patients of one repeat: each is tested once, by the model of its fold.

    Parameters
    ----------
    time : ndarray, shape = (n,)
        Time of event or censoring, in years.
    event : ndarray of bool, shape = (n,)
        True for an event, False for censoring.
    fold : ndarray of int, shape = (n,)
        The fold in which the patient was tested.
    center : ndarray of str or int, shape = (n,)
    training : mapping of int to (time, event)
        For each fold the outcomes of its *training* patients. The censoring distribution G is theirs:
        taken from the test patients, it would depend on what is being evaluated.

    Raises
    ------
    ValueError
        If shapes do not fit, a time is negative or missing, or a fold has no training patients.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    time: FloatArray
    event: BoolArray
    fold: IntArray
    center: npt.NDArray[np.generic]
    training: Mapping[int, tuple[npt.ArrayLike, npt.ArrayLike]]

    def __post_init__(self) -> None:
        time, event = _outcome(self.time, self.event, "")
        object.__setattr__(self, "time", time)
        object.__setattr__(self, "event", event)
        object.__setattr__(self, "fold", np.asarray(self.fold, dtype=np.intp))
        object.__setattr__(self, "center", np.asarray(self.center))
        for name in ("fold", "center"):
            if getattr(self, name).shape != time.shape:
                raise ValueError(f"{name} must have time's shape {time.shape}, got {getattr(self, name).shape}")
        training = {}
        for fold in self.folds.tolist():
            if fold not in self.training:
                raise ValueError(f"training has no patients for fold {fold}")
            training[fold] = _outcome(*self.training[fold], f"training[{fold}] ")
            if not training[fold][0].size:
                raise ValueError(f"training has no patients for fold {fold}")
        object.__setattr__(self, "training", training)

    @cached_property
    def folds(self) -> IntArray:
        """The folds there are, shape (n_folds,)."""
        return np.unique(self.fold)

    @cached_property
    def uncensored_until_own_time(self) -> FloatArray:
        """G(time) under each patient's fold, shape (n,); NaN beyond the training follow-up."""
        result = np.empty(self.time.size)
        for fold, curve in self._censoring.items():
            result[self.fold == fold] = curve.at(self.time[self.fold == fold])
        return result

    def uncensored_until(self, times: FloatArray) -> FloatArray:
        """G(t) under each patient's fold, shape (n, len(times)); NaN beyond the training follow-up."""
        result = np.empty((self.time.size, times.size))
        for fold, curve in self._censoring.items():
            result[self.fold == fold] = curve.at(times)
        return result

    @cached_property
    def _censoring(self) -> dict[int, _Censoring]:
        return {fold: _Censoring.fit(*self.training[fold]) for fold in self.folds.tolist()}


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one arm predicted for the patients of one `TestSet`, in the same order.

    Parameters
    ----------
    risk : ndarray, shape = (n,)
        Higher is worse. NaN where the arm has no prediction: only pairs with both predicted count.
    survival : ndarray, shape = (n, n_times), optional
        Probability of being event-free at ``times``; a row with a NaN counts as not predicted.
    times : ndarray, shape = (n_times,), optional
        Increasing, in years. Between them the curve is read by linear interpolation, from S(0) = 1;
        after the last it is unknown.

    Raises
    ------
    ValueError
        If shapes do not fit, a risk is infinite, or a probability lies outside [0, 1].
    """

    risk: FloatArray
    survival: FloatArray | None = None
    times: FloatArray | None = None

    def __post_init__(self) -> None:
        risk = np.asarray(self.risk, dtype=np.float64)
        if risk.ndim != 1 or np.isinf(risk).any():
            raise ValueError(f"risk must have shape (n,) and no infinite value, got shape {risk.shape}")
        object.__setattr__(self, "risk", risk)
        if (self.survival is None) != (self.times is None):
            raise ValueError("survival and times go together: give both or neither")
        if self.survival is None:
            return
        survival = np.asarray(self.survival, dtype=np.float64)
        times = np.asarray(self.times, dtype=np.float64)
        if times.ndim != 1 or not times.size or not (times >= 0).all() or not (np.diff(times) > 0).all():
            raise ValueError(f"times must be increasing and not negative, got {times}")
        if survival.shape != (risk.size, times.size):
            raise ValueError(f"survival must have shape {(risk.size, times.size)}, got {survival.shape}")
        if (survival < -1e-6).any() or (survival > 1 + 1e-6).any():
            raise ValueError(f"survival must lie in [0, 1], got {np.nanmin(survival)} to {np.nanmax(survival)}")
        object.__setattr__(self, "survival", survival)
        object.__setattr__(self, "times", times)

    def survival_at(self, times: FloatArray) -> FloatArray:
        """Survival at any times, shape (n, len(times)); NaN after the curves' last time."""
        if self.survival is None or self.times is None:
            raise ValueError("this prediction has no survival curves")
        grid, curves = self.times, self.survival
        if grid[0] > 0:
            grid = np.concatenate(([0.0], grid))
            curves = np.concatenate((np.ones((curves.shape[0], 1)), curves), axis=1)
        right = np.clip(np.searchsorted(grid, times, side="left"), 0, grid.size - 1)
        left = np.maximum(right - 1, 0)
        width = np.where(right > left, grid[right] - grid[left], 1.0)
        share = np.minimum((times - grid[left]) / width, 1.0)
        result: FloatArray = curves[:, left] * (1 - share) + curves[:, right] * share
        result[:, times > grid[-1] * (1 + 1e-9)] = np.nan
        return result


# The answers -----------------------------------------------------------------------------------------


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
    chosen = _chosen(tests, subset)
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
    chosen = _chosen(tests, subset)
    centers, group = np.unique(tests[0].center[chosen], return_inverse=True)
    of_all = np.zeros(chosen.size, dtype=np.intp)
    of_all[chosen] = group
    result = _evaluate(tests, predictions, weights, horizons, ibs_times, chosen, of_all, centers.size, pooled=False)
    return dict(zip(centers.tolist(), result, strict=True))


def concordance_counts(time: npt.ArrayLike, event: npt.ArrayLike, risk: npt.ArrayLike) -> tuple[float, float]:
    """Concordant and comparable pairs among one center's patients.

    Both add over centers: the ratio of the sums is Harrell's C stratified by center, and no patient
    left its center for it.

    Parameters
    ----------
    time, event, risk : array-like, shape = (n,)
        Patients whose risk is NaN are left out.

    Returns
    -------
    concordant, comparable : float
        Pairs of equal risk count one half. As in scikit-survival, two events at the same time are
        not comparable, an event and a censoring at the same time are. (0, 0) if there is no pair.
    """
    t, e = _outcome(time, event, "")
    r = np.asarray(risk, dtype=np.float64)
    if r.shape != t.shape:
        raise ValueError(f"risk must have time's shape {t.shape}, got {r.shape}")
    order = np.lexsort((~e, t))
    order = order[np.isfinite(r[order])]
    once, one_unit = np.ones((order.size, 1)), np.zeros(order.size, dtype=np.intp)
    concordant, comparable = _concordance(one_unit, t[order], e[order], r[order], once, [once[:, 0]])[0]
    return float(concordant.sum()), float(comparable.sum())


@dataclass(frozen=True)
class CalibrationCurve:
    """Observed against predicted risk at a horizon, in groups of rising predicted risk.

    Attributes
    ----------
    predicted, observed : ndarray, shape = (n_groups,)
        Mean predicted risk; 1 - Kaplan-Meier.
    low, high : ndarray, shape = (n_groups,)
        95% interval of ``observed`` by Greenwood's variance of log(-log S); NaN where nobody or
        everybody had the event, for the variance says nothing there.
    n, events : ndarray of int, shape = (n_groups,)
        Patients, and events up to the horizon.
    """

    predicted: FloatArray
    observed: FloatArray
    low: FloatArray
    high: FloatArray
    n: IntArray
    events: IntArray


def calibration_curve(
    test: TestSet,
    prediction: Prediction,
    horizon: float,
    *,
    groups: int = 5,
    subset: npt.ArrayLike | None = None,
) -> CalibrationCurve:
    """The points of a calibration plot, for one repeat.

    Groups are quantiles of the predicted risk; patients of equal risk share a group, so there may be
    fewer. A group not followed until the horizon keeps its last Kaplan-Meier value.
    """
    predicted = 1 - prediction.survival_at(np.array([horizon]))[:, 0]
    if predicted.shape != test.time.shape:
        raise ValueError(f"prediction must have {test.time.size} patients, got {predicted.size}")
    known = np.flatnonzero(_chosen([test], subset) & np.isfinite(predicted))
    label = _risk_groups(predicted[known], groups)
    rows = []
    for members in (known[label == g] for g in np.unique(label)):
        time, event = test.time[members], test.event[members]
        steps, curve, bounds = kaplan_meier_estimator(event, time, conf_type="log-log")
        last = int(np.searchsorted(steps, horizon, side="right")) - 1
        alive = curve[last] if last >= 0 else 1.0
        low, high = 1 - bounds[::-1, last] if 0 < alive < 1 else (math.nan, math.nan)
        cases = int((event & (time <= horizon)).sum())
        rows.append((predicted[members].mean(), 1 - alive, low, high, members.size, cases))
    means, observed, lows, highs, sizes, events = np.array(rows).reshape(-1, 6).T
    return CalibrationCurve(means, observed, lows, highs, sizes.astype(np.intp), events.astype(np.intp))


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
        return _Table(_ratio(top.sum(axis=1), bottom.sum(axis=1)), _ratio(top[:, :, 0], bottom[:, :, 0]), counted)


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

    for members, unit, units in _batches(test, counted, group):
        time, event, risk = test.time[members], test.event[members], prediction.risk[members]
        ipcw, w_batch = case_weight[members], w[members]
        uno = np.where(time < horizons[-1], ipcw**2, 0.0)
        pairs = _concordance(unit, time, event, risk, w_batch, [np.ones_like(uno), uno])
        pairs += [_auc(unit, time, event, risk, ipcw, w_batch, h) for h in horizons]
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
    losses = _brier_losses(test, prediction.survival_at(at), at)
    integrated = np.trapezoid(losses[:, horizons.size :], ibs_times, axis=1) / (ibs_times[-1] - ibs_times[0])
    losses = np.column_stack((losses[:, : horizons.size], integrated))
    status_known = (test.event[:, None] | (test.time[:, None] > np.append(horizons, ibs_times[-1]))).astype(np.float64)

    names = [*(f"brier_{h:g}y" for h in horizons), "ibs"]
    sums = {name: _Sums(n_groups, test.folds.size, w.shape[1]) for name in names}
    known = np.zeros((n_groups * test.folds.size, len(names)))
    for members, unit, units in _batches(test, counted, group):
        w_batch = w[members]
        bottom = _sum_by(unit, w_batch)
        known[units] = _sum_by(unit, status_known[members])
        for j, name in enumerate(names):
            sums[name].top[units] = _sum_by(unit, w_batch, losses[members, j])
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
        whole = _calibrate(test, counted, 1 - survival, w, h, group, n_groups, with_error)
        folds = _calibrate(test, counted, 1 - survival, w[:, :1], h, in_fold, n_groups * n_folds, with_error)
        for kind in whole:
            fold_values = folds[kind].reshape(n_groups, n_folds)
            tables[f"calibration_{kind}_{h:g}y"] = _Table(whole[kind], fold_values, counted)
    return tables


# The statistics --------------------------------------------------------------------------------------
# Each is computed for many units at once. Patients come sorted by (unit, time), events before
# censorings at the same time; unit counts 0, 1, ... and w is [patients, replicates].


def _concordance(
    unit: IntArray,
    time: FloatArray,
    event: BoolArray,
    risk: FloatArray,
    w: FloatArray,
    case_weights: Sequence[FloatArray],
) -> list[tuple[FloatArray, FloatArray]]:
    """Weighted concordant and comparable pairs within units.

    An event is comparable to everyone who follows it in its unit, except events at its own time.

    Parameters
    ----------
    case_weights : sequence of ndarray, shape = (n,)
        One per statistic: ones for Harrell's C, G(t)^-2 up to tau for Uno's. Read at events only.

    Returns
    -------
    list of (concordant, comparable), each of shape (n_units, n_replicates)
        One entry per statistic.
    """
    cases = np.flatnonzero(event)
    moment = np.cumsum(_changes(unit) | _changes(time))  # rises with (unit, time)
    at = moment[cases]
    tied_events = np.searchsorted(at, at, "right") - np.searchsorted(at, at, "left")
    start = np.searchsorted(moment, at, "left") + tied_events
    stop = np.searchsorted(unit, unit[cases], "right")

    agreeing = np.zeros((cases.size, w.shape[1]))  # weight of the patients each case is concordant with
    for first in range(0, cases.size, _ROWS):
        rows = slice(first, first + _ROWS)
        low, high = start[first], stop[rows][-1]
        columns = np.arange(low, high)
        higher = risk[cases[rows], None] - risk[columns]
        agree = 0.5 * (higher > TIED_RISK) + 0.5 * (higher >= -TIED_RISK)  # 1, or 1/2 where tied
        agree *= (columns >= start[rows, None]) & (columns < stop[rows, None])
        np.matmul(agree, w[low:high], out=agreeing[rows])

    up_to = _up_to(w)
    w_cases, unit_of_case, n_units = w[cases], unit[cases], _count(unit)
    agreeing *= w_cases
    comparable = w_cases * (up_to[stop] - up_to[start])
    return [
        (_sum_by(unit_of_case, agreeing, c, n_units), _sum_by(unit_of_case, comparable, c, n_units))
        for c in (weight[cases] for weight in case_weights)
    ]


def _auc(
    unit: IntArray,
    time: FloatArray,
    event: BoolArray,
    risk: FloatArray,
    case_weight: FloatArray,
    w: FloatArray,
    horizon: float,
) -> tuple[FloatArray, FloatArray]:
    """Weighted concordant and all pairs of a case (event by t) and a control (followed beyond t).

    Any case is comparable to any control, so ranks suffice: how much control weight lies below each
    case's risk in its unit.

    Returns
    -------
    concordant, pairs : ndarray, shape = (n_units, n_replicates)
    """
    by_risk = np.lexsort((risk, unit))
    # Ties are chains of near neighbours, as in scikit-survival's ROC curve.
    rank = np.empty(risk.size, dtype=np.intp)
    rank[by_risk] = np.cumsum(_changes(unit[by_risk]) | (np.diff(risk[by_risk], prepend=-np.inf) > TIED_RISK))

    cases = np.flatnonzero(event & (time <= horizon))
    controls = by_risk[time[by_risk] > horizon]
    up_to = _up_to(w[controls])
    lower, not_higher = (np.searchsorted(rank[controls], rank[cases], side) for side in ("left", "right"))
    in_other_units = np.searchsorted(unit[controls], unit[cases], "left")
    below = 0.5 * (up_to[lower] + up_to[not_higher]) - up_to[in_other_units]

    w_cases, n_units = w[cases], _count(unit)
    concordant = _sum_by(unit[cases], w_cases * below, case_weight[cases], n_units)
    all_cases = _sum_by(unit[cases], w_cases, case_weight[cases], n_units)
    bounds = np.searchsorted(unit[controls], np.arange(n_units + 1), "left")
    return concordant, all_cases * np.diff(up_to[bounds], axis=0)


def _brier_losses(test: TestSet, survival: FloatArray, at: FloatArray) -> FloatArray:
    """Each patient's censoring-weighted squared error at each time, shape (n, n_times).

    A patient censored before t has weight zero, as has one where G is zero; a weight that is unknown
    stays NaN.
    """
    time, case = test.time[:, None], test.event[:, None]
    free_own, free_at = test.uncensored_until_own_time[:, None], test.uncensored_until(at)
    own = np.divide(1.0, free_own, out=free_own.copy(), where=free_own != 0)
    then = np.divide(1.0, free_at, out=free_at, where=free_at != 0)
    early = time <= at
    return np.where(early, np.where(case, survival**2 * own, 0.0), (1 - survival) ** 2 * then)


def _calibrate(
    test: TestSet,
    counted: BoolArray,
    predicted: FloatArray,
    w: FloatArray,
    horizon: float,
    unit: IntArray,
    n_units: int,
    with_error: bool,
) -> dict[str, FloatArray]:
    """Calibration ratio and, if asked, error: each of shape (n_units, n_replicates).

    The patients may come in any order here.
    """
    order = np.lexsort((~test.event, test.time, unit))
    order = order[counted[order]]
    time, event, unit, predicted = test.time[order], test.event[order], unit[order], predicted[order]
    observed, size = _observed_risk(time, event, unit, order, w, horizon, n_units)
    expected = _sum_by(unit, w, predicted, n_units, rows=order)
    result = {"ratio": _ratio(observed * size, expected)}
    if with_error:
        fifth = np.zeros_like(unit)
        for here in (unit == u for u in np.unique(unit)):
            fifth[here] = _risk_groups(predicted[here], 5)
        label = 5 * unit + fifth
        again = np.argsort(label, kind="stable")
        label, members = label[again], order[again]
        observed, size_of_fifth = _observed_risk(time[again], event[again], label, members, w, horizon, 5 * n_units)
        expected = _sum_by(label, w, predicted[again], 5 * n_units, rows=members)
        off = np.abs(observed * size_of_fifth - expected)  # weighted by the fifth's size
        result["error"] = _ratio(off.reshape(n_units, 5, w.shape[1]).sum(axis=1), size)

    # Known where there are events, and the curve reaches the horizon or ends at zero before it.
    has_events = np.bincount(unit[event & (time <= horizon)], minlength=n_units) > 0
    last = np.searchsorted(unit, np.arange(n_units), "right") - 1
    known = has_events & ((time[last] >= horizon) | event[last]) if unit.size else has_events
    for values in result.values():
        values[~known] = np.nan
    return result


def _observed_risk(
    time: FloatArray,
    event: BoolArray,
    unit: IntArray,
    members: IntArray,
    w: FloatArray,
    horizon: float,
    n_units: int,
) -> tuple[FloatArray, FloatArray]:
    """1 - Kaplan-Meier at the horizon, and the weight of each unit; both (n_units, n_replicates).

    Successive events with no censoring between them make one factor, tied or not:
    (n - 1)/n (n - 2)/(n - 1) = (n - 2)/n. So it is enough to add up the weights of runs of events,
    and of runs of censorings. Past the follow-up the last value is carried on.

    Parameters
    ----------
    members : ndarray, shape = (n,)
        The row of ``w`` of each patient: here w is not copied in the patients' order.
    """
    kind = np.where(time > horizon, 2, np.where(event, 0, 1))
    run = np.cumsum(_changes(unit) | _changes(kind)) - 1
    begins = np.flatnonzero(_changes(run))
    unit_of_run, is_events = unit[begins], kind[begins] == 0
    lost = _sum_by(run, w, None, begins.size, rows=members)
    up_to = _up_to(lost)
    bounds = np.searchsorted(unit_of_run, np.arange(n_units + 1), "left")
    size = np.diff(up_to[bounds], axis=0)

    runs, lost = np.flatnonzero(is_events), lost[is_events]
    at_risk = up_to[bounds[unit_of_run[runs] + 1]] - up_to[runs]
    survived = 1 - np.divide(lost, at_risk, out=np.zeros_like(lost), where=lost > 0)
    alive = np.ones((n_units, w.shape[1]))
    present, first = np.unique(unit_of_run[runs], return_index=True)
    if present.size:
        alive[present] = np.multiply.reduceat(survived, first, axis=0)
    return 1 - alive, size


def _risk_groups(predicted: FloatArray, groups: int) -> IntArray:
    """Quantile group of each patient; equal risks share a group."""
    if not predicted.size:
        return np.zeros(0, dtype=np.intp)
    edges = np.quantile(predicted, np.arange(1, groups) / groups)
    return np.searchsorted(edges, predicted, side="left")


@dataclass(frozen=True, eq=False)
class _Censoring:
    """G(t), the probability of not being censored until t: a Kaplan-Meier step function."""

    times: FloatArray
    values: FloatArray

    @classmethod
    def fit(cls, time: npt.ArrayLike, event: npt.ArrayLike) -> _Censoring:
        times, values = kaplan_meier_estimator(event, time, reverse=True)
        return cls(times, np.concatenate(([1.0], values)))

    def at(self, times: FloatArray) -> FloatArray:
        result: FloatArray = self.values[np.searchsorted(self.times, times, side="right")]
        if self.values[-1] > 0:
            result[times > self.times[-1]] = np.nan
        return result


# Small things ----------------------------------------------------------------------------------------


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


def _batches(test: TestSet, counted: BoolArray, group: IntArray) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """The counted patients, sorted by (unit, time) with events first, in batches of whole units.

    A batch is small enough for its arrays to stay in the processor's cache and large enough to
    spread Python's cost over many small units.

    Yields
    ------
    members, unit : ndarray, shape = (n_batch,)
        Patients, and their unit counted from 0 within the batch.
    units : ndarray, shape = (n_units,)
        The number (group * n_folds + fold) of each of these units.
    """
    members = np.flatnonzero(counted)
    unit = group[members] * test.folds.size + np.searchsorted(test.folds, test.fold[members])
    order = np.lexsort((~test.event[members], test.time[members], unit))
    members, unit = members[order], unit[order]
    begins = np.flatnonzero(_changes(unit))
    batch = begins // _BATCH  # of the unit, by its first patient
    for part in np.split(begins, np.flatnonzero(_changes(batch))[1:]):
        if not part.size:
            return
        stop = begins[begins > part[-1]]
        rows = slice(part[0], stop[0] if stop.size else members.size)
        yield members[rows], np.cumsum(_changes(unit[rows])) - 1, unit[part]


def _changes(x: npt.NDArray[np.generic]) -> BoolArray:
    """Where an element differs from the one before; True at the first."""
    result = np.ones(x.size, dtype=np.bool_)
    result[1:] = x[1:] != x[:-1]
    return result


def _up_to(x: FloatArray) -> FloatArray:
    """Sums of the first 0, 1, ..., n rows, shape (n + 1, n_replicates)."""
    result = np.zeros((x.shape[0] + 1, x.shape[1]))
    np.cumsum(x, axis=0, out=result[1:])
    return result


def _count(unit: IntArray) -> int:
    return int(unit[-1]) + 1 if unit.size else 0


def _sum_by(
    unit: IntArray,
    x: FloatArray,
    weight: FloatArray | None = None,
    n_units: int | None = None,
    rows: IntArray | None = None,
) -> FloatArray:
    """Add up rows of ``x`` by unit (rising), each times its weight: shape (n_units, n_replicates).

    With ``rows``, the i-th term is ``x[rows[i]]``; nothing is copied.
    """
    n_units = _count(unit) if n_units is None else n_units
    weight = np.ones(unit.size) if weight is None else weight
    rows = np.arange(unit.size) if rows is None else rows
    begins = np.searchsorted(unit, np.arange(n_units + 1), "left")
    return np.asarray(csr_array((weight, rows, begins), shape=(n_units, x.shape[0])) @ x)


def _ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
    result: FloatArray = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return result


def _mean_where_known(arrays: Sequence[FloatArray]) -> FloatArray:
    if len(arrays) == 1:
        return arrays[0]
    stacked = np.stack(arrays)
    known = np.isfinite(stacked)
    return _ratio(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def _with_curves(prediction: Prediction, chosen: BoolArray) -> BoolArray:
    if prediction.survival is None:
        return np.zeros_like(chosen)
    return chosen & np.isfinite(prediction.survival).all(axis=1)


def _chosen(tests: Sequence[TestSet], subset: npt.ArrayLike | None) -> BoolArray:
    if not tests:
        raise ValueError("tests must hold at least one repeat")
    n = tests[0].time.size
    mask = np.ones(n, dtype=np.bool_) if subset is None else np.asarray(subset)
    if mask.dtype != np.bool_ or mask.shape != (n,):
        raise ValueError(f"subset must be a mask of shape ({n},), got {mask.dtype} {mask.shape}")
    return mask


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


def _outcome(time: npt.ArrayLike, event: npt.ArrayLike, where: str) -> tuple[FloatArray, BoolArray]:
    t, e = np.asarray(time, dtype=np.float64), np.asarray(event)
    if t.ndim != 1 or e.shape != t.shape:
        raise ValueError(f"{where}time and event must have one shape (n,), got {t.shape} and {e.shape}")
    if not np.isfinite(t).all() or (t < 0).any():
        raise ValueError(f"{where}time must be finite and not negative")
    if e.dtype != np.bool_:
        if not np.isin(e, (0, 1)).all():
            raise ValueError(f"{where}event must be boolean, got {e.dtype}")
        e = e.astype(np.bool_)
    return t, e
