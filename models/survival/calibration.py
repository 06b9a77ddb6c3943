"""Observed against predicted risk at a horizon: the points of a plot, and its summaries under many weightings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sksurv.nonparametric import kaplan_meier_estimator

from models.survival.predictions import Prediction, TestSet, chosen_patients
from models.survival.statistics import changes, ratio, running_sums, sum_by

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]


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
    known = np.flatnonzero(chosen_patients([test], subset) & np.isfinite(predicted))
    label = risk_groups(predicted[known], groups)
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


def calibrate(
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
    observed, size = observed_risk(time, event, unit, order, w, horizon, n_units)
    expected = sum_by(unit, w, predicted, n_units, rows=order)
    result = {"ratio": ratio(observed * size, expected)}
    if with_error:
        fifth = np.zeros_like(unit)
        for here in (unit == u for u in np.unique(unit)):
            fifth[here] = risk_groups(predicted[here], 5)
        label = 5 * unit + fifth
        again = np.argsort(label, kind="stable")
        label, members = label[again], order[again]
        observed, size_of_fifth = observed_risk(time[again], event[again], label, members, w, horizon, 5 * n_units)
        expected = sum_by(label, w, predicted[again], 5 * n_units, rows=members)
        off = np.abs(observed * size_of_fifth - expected)  # weighted by the fifth's size
        result["error"] = ratio(off.reshape(n_units, 5, w.shape[1]).sum(axis=1), size)

    # Known where there are events, and the curve reaches the horizon or ends at zero before it.
    has_events = np.bincount(unit[event & (time <= horizon)], minlength=n_units) > 0
    last = np.searchsorted(unit, np.arange(n_units), "right") - 1
    known = has_events & ((time[last] >= horizon) | event[last]) if unit.size else has_events
    for values in result.values():
        values[~known] = np.nan
    return result


def observed_risk(
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
    run = np.cumsum(changes(unit) | changes(kind)) - 1
    begins = np.flatnonzero(changes(run))
    unit_of_run, is_events = unit[begins], kind[begins] == 0
    lost = sum_by(run, w, None, begins.size, rows=members)
    up_to = running_sums(lost)
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


def risk_groups(predicted: FloatArray, groups: int) -> IntArray:
    """Quantile group of each patient; equal risks share a group."""
    if not predicted.size:
        return np.zeros(0, dtype=np.intp)
    edges = np.quantile(predicted, np.arange(1, groups) / groups)
    return np.searchsorted(edges, predicted, side="left")
