"""Shared by the data sets that scikit-survival brings along."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harmonization.schema import DAYS_PER, EVENT, ID, TIME

SOURCE = "comes with scikit-survival (https://scikit-survival.readthedocs.io/en/stable/api/datasets.html)"
LICENCE = "public; see the publication named by scikit-survival"


def endpoint(outcome: NDArray[np.void]) -> pd.DataFrame:
    """Ids (row numbers, since the publishers give none), time in years and event.

    Parameters
    ----------
    outcome
        scikit-survival's structured array: the event field first, then the time in days.
    """
    event, time = outcome.dtype.names or ()
    return pd.DataFrame(
        {
            ID: [f"{row:05d}" for row in range(1, len(outcome) + 1)],
            TIME: outcome[time] / DAYS_PER["years"],
            EVENT: outcome[event],
        }
    )


def flag(column: pd.Series, positive: str) -> pd.Series:
    """A two-category column as 0/1 (missing stays missing)."""
    return (column.astype(object) == positive).astype(float).where(column.notna())
