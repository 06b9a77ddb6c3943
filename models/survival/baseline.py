"""Breslow's baseline hazard from sums that add over centers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def breslow_sums(time: Floats, event: NDArray[np.bool_], log_hazard: Floats, grid: Floats) -> dict[str, Floats]:
    """Events and summed relative hazard at risk at each grid time.

    A time between two grid times counts as the later one, so with every event time on the grid nothing is lost.

    Parameters
    ----------
    time, event, log_hazard
        Shape (n,).
    grid
        Increasing times, shape (K,).

    Returns
    -------
    dict
        ``events`` and ``risk``, each of shape (K,).
    """
    cell = np.searchsorted(grid, time, side="left")  # time is in (grid[cell-1], grid[cell]]
    size = len(grid) + 1
    events = np.bincount(cell, weights=event, minlength=size)[:-1]
    hazard = np.bincount(cell, weights=np.exp(log_hazard), minlength=size)
    risk = np.cumsum(hazard[::-1], dtype=np.float64)[::-1][:-1]
    return {"events": events.astype(np.float64), "risk": risk}


@dataclass(frozen=True, eq=False)
class BaselineHazard:
    """Cumulative baseline hazard, a step function.

    Parameters
    ----------
    times
        Increasing, shape (K,).
    cumulative
        Cumulative hazard of a patient with log relative hazard 0, shape (K,).

    References
    ----------
    Breslow (1972), J R Stat Soc B 34:216.
    """

    times: Floats
    cumulative: Floats

    @classmethod
    def fit(cls, grid: Floats, events: Floats, risk: Floats) -> BaselineHazard:
        """From (a total of) `breslow_sums`."""
        steps = np.divide(events, risk, out=np.zeros_like(events), where=risk > 0)
        return cls(grid, np.cumsum(steps))

    def at(self, times: ArrayLike) -> Floats:
        """Cumulative baseline hazard at any times; 0 before the first, constant after the last."""
        position = np.searchsorted(self.times, np.asarray(times, dtype=np.float64), side="right")
        return np.concatenate([[0.0], self.cumulative])[position]

    def survival(self, log_hazard: Floats, times: ArrayLike) -> Floats:
        """S(t | x) = exp(−H₀(t)·exp(log hazard)), shape (n, number of times)."""
        return np.exp(-np.exp(log_hazard)[:, None] * self.at(times)[None, :])
