"""Statistics of pairs of patients and Brier losses, under many weightings of the patients at once.

Each is computed for many units at once. Patients come sorted by (unit, time), events before censorings
at the same time (see `batches`); unit counts 0, 1, ... and w is [patients, replicates].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from models.survival.concordance import TIED_RISK
from models.survival.predictions import TestSet

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

_ROWS = 256  # events compared at a time: bounds memory, and skips most pairs that are not comparable
_BATCH = 256  # patients handled together, at least


def batches(test: TestSet, counted: BoolArray, group: IntArray) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
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
    begins = np.flatnonzero(changes(unit))
    batch = begins // _BATCH  # of the unit, by its first patient
    for part in np.split(begins, np.flatnonzero(changes(batch))[1:]):
        if not part.size:
            return
        stop = begins[begins > part[-1]]
        rows = slice(part[0], stop[0] if stop.size else members.size)
        yield members[rows], np.cumsum(changes(unit[rows])) - 1, unit[part]


def concordance(
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
    moment = np.cumsum(changes(unit) | changes(time))  # rises with (unit, time)
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

    up_to = running_sums(w)
    w_cases, unit_of_case, n_units = w[cases], unit[cases], count_units(unit)
    agreeing *= w_cases
    comparable = w_cases * (up_to[stop] - up_to[start])
    return [
        (sum_by(unit_of_case, agreeing, c, n_units), sum_by(unit_of_case, comparable, c, n_units))
        for c in (weight[cases] for weight in case_weights)
    ]


def auc(
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
    rank[by_risk] = np.cumsum(changes(unit[by_risk]) | (np.diff(risk[by_risk], prepend=-np.inf) > TIED_RISK))

    cases = np.flatnonzero(event & (time <= horizon))
    controls = by_risk[time[by_risk] > horizon]
    up_to = running_sums(w[controls])
    lower, not_higher = (np.searchsorted(rank[controls], rank[cases], side) for side in ("left", "right"))
    in_other_units = np.searchsorted(unit[controls], unit[cases], "left")
    below = 0.5 * (up_to[lower] + up_to[not_higher]) - up_to[in_other_units]

    w_cases, n_units = w[cases], count_units(unit)
    concordant = sum_by(unit[cases], w_cases * below, case_weight[cases], n_units)
    all_cases = sum_by(unit[cases], w_cases, case_weight[cases], n_units)
    bounds = np.searchsorted(unit[controls], np.arange(n_units + 1), "left")
    return concordant, all_cases * np.diff(up_to[bounds], axis=0)


def brier_losses(test: TestSet, survival: FloatArray, at: FloatArray) -> FloatArray:
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


# Sums over units -------------------------------------------------------------------------------------


def changes(x: npt.NDArray[np.generic]) -> BoolArray:
    """Where an element differs from the one before; True at the first."""
    result = np.ones(x.size, dtype=np.bool_)
    result[1:] = x[1:] != x[:-1]
    return result


def running_sums(x: FloatArray) -> FloatArray:
    """Sums of the first 0, 1, ..., n rows, shape (n + 1, n_replicates)."""
    result = np.zeros((x.shape[0] + 1, x.shape[1]))
    np.cumsum(x, axis=0, out=result[1:])
    return result


def count_units(unit: IntArray) -> int:
    """How many units there are."""
    return int(unit[-1]) + 1 if unit.size else 0


def sum_by(
    unit: IntArray,
    x: FloatArray,
    weight: FloatArray | None = None,
    n_units: int | None = None,
    rows: IntArray | None = None,
) -> FloatArray:
    """Add up rows of ``x`` by unit (rising), each times its weight: shape (n_units, n_replicates).

    With ``rows``, the i-th term is ``x[rows[i]]``; nothing is copied.
    """
    n_units = count_units(unit) if n_units is None else n_units
    weight = np.ones(unit.size) if weight is None else weight
    rows = np.arange(unit.size) if rows is None else rows
    begins = np.searchsorted(unit, np.arange(n_units + 1), "left")
    return np.asarray(csr_array((weight, rows, begins), shape=(n_units, x.shape[0])) @ x)


def ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """top / bottom, NaN where there is nothing to divide by."""
    result: FloatArray = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return result
