"""Competing causes of the event: the endpoint of one of them, as a concordance sees it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray


def times_of_cause(
    time: npt.ArrayLike, cause: npt.ArrayLike, wanted: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Time and event as the concordance of one cause sees them: who had another cause never has this one.

    Such a patient's time becomes one after all others', so that whoever has the cause comes before.

    Parameters
    ----------
    time
        Of the first event or of censoring, shape (n,).
    cause
        0 for censoring, else the number of the cause, shape (n,).
    wanted
        The cause.

    Returns
    -------
    time, event
        Of shape (n,).

    References
    ----------
    Wolbers et al. (2009), Prognostic models with competing risks, Epidemiology 20:555.
    """
    t, c = np.asarray(time, dtype=np.float64), np.asarray(cause)
    other = (c > 0) & (c != wanted)
    return np.where(other, t.max(initial=0.0) + 1, t), c == wanted
