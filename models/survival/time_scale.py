"""What a network may know of the times: constants from sums over all training patients, the same for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TimeScale:
    """Events of all training patients in fine cells, and what follows from them.

    Parameters
    ----------
    horizon
        Until when survival is integrated where a curve has to become one number (restricted mean survival).
    edges
        Upper ends of the cells, shape (cells,); the first cell begins at 0, the last ends with follow-up.
    events
        Events of training patients per cell, summed over centers, shape (cells,).
    patients
        Training patients.
    """

    horizon: float
    edges: Floats
    events: Floats
    patients: int

    @classmethod
    def declared(cls, horizon: float, follow_up: float, cells: int, median: float, patients: int = 1000) -> TimeScale:
        """From a median survival known beforehand: the events of exponential times, as if nobody was censored."""
        edges = follow_up * np.arange(1, cells + 1) / cells
        alive = 0.5 ** (np.append(0.0, edges) / median)
        return cls(horizon, edges, -patients * np.diff(alive), patients)

    @property
    def follow_up(self) -> float:
        """End of the last cell."""
        return float(self.edges[-1])

    @cached_property
    def scale(self) -> float:
        """Mean time of the events, each in the middle of its cell; half of follow-up if there are none."""
        middle = (self.edges + np.concatenate([[0.0], self.edges[:-1]])) / 2
        total = self.events.sum()
        return float(self.events @ middle / total) if total > 0 else self.follow_up / 2

    def cuts(self, intervals: int) -> Floats:
        """Upper ends of intervals with nearly equal numbers of events, the end of follow-up last.

        Returns
        -------
        array of shape (at most `intervals`,)
            Increasing; fewer where one cell holds more events than an interval should.
        """
        cumulative = np.cumsum(self.events)
        levels = cumulative[-1] * np.arange(1, intervals) / intervals
        cells = np.append(np.searchsorted(cumulative, levels, side="left"), len(self.edges) - 1)
        found: Floats = self.edges[np.unique(cells)]
        return found

    def probabilities(self, cuts: Floats) -> Floats:
        """Of an event in each interval that ends at a cut, among those who begin it, were nobody censored.

        A starting value for training, not an estimate: censored patients, whom no sum here tells of, are counted as at
        risk throughout.
        """
        until = np.concatenate([[0.0], np.cumsum(self.events)])
        at_end = until[np.searchsorted(self.edges, cuts, side="right")]
        events = np.diff(at_end, prepend=0.0)
        at_risk = self.patients - np.concatenate([[0.0], at_end[:-1]])
        found: Floats = (events + 0.5) / (at_risk + 1)
        return found
