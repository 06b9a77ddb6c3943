"""Concordant pairs, counted inside one hospital: numpy alone, since every center's process imports it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TIED_RISK = 1e-8  # scikit-survival's tolerance
_ROWS = 256  # events compared at a time: bounds memory


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

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    t, e, r = np.asarray(time, dtype=np.float64), np.asarray(event, dtype=bool), np.asarray(risk, dtype=np.float64)
    if t.ndim != 1 or e.shape != t.shape or r.shape != t.shape:
        raise ValueError(f"risk must have time's shape {t.shape}, and event too; got {r.shape} and {e.shape}")
    order = np.lexsort((~e, t))  # events before censored patients of the same time
    order = order[np.isfinite(r[order])]
    t, e, r = t[order], e[order], r[order]
    cases = np.flatnonzero(e)
    events_at = np.searchsorted(t[cases], t[cases], "right") - np.searchsorted(t[cases], t[cases], "left")
    start = np.searchsorted(t, t[cases], "left") + events_at  # whoever follows a case in this order is comparable
    concordant = 0.0
    for first in range(0, cases.size, _ROWS):
        rows, low = slice(first, first + _ROWS), start[first]
        higher = r[cases[rows], None] - r[low:]
        comparable = np.arange(low, t.size) >= start[rows, None]
        concordant += 0.5 * float((comparable & (higher > TIED_RISK)).sum())
        concordant += 0.5 * float((comparable & (higher >= -TIED_RISK)).sum())
    return concordant, float((t.size - start).sum())
