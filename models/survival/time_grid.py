"""A time grid that is declared rather than found: every center counts on the same cells without asking for a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmonization.schema import DAYS_PER, TimeUnit

Floats = NDArray[np.float64]
Cells = NDArray[np.int64]


@dataclass(frozen=True)
class TimeGrid:
    """Times 0, r, 2r, ... up to a horizon; a patient's time is the nearest of them.

    With the resolution at which times were recorded (a day) nothing is lost; a coarser one ties events that were apart,
    and says less about each of them.

    Parameters
    ----------
    resolution
        r, in days.
    horizon
        Days of follow-up to consider; who is followed longer counts as censored after it. Declared, since a maximum
        over patients would disclose one of them.
    """

    resolution: float = 1.0
    horizon: float = 36525.0

    def __post_init__(self) -> None:
        if not 0 < self.resolution <= self.horizon:
            raise ValueError(
                f"resolution is {self.resolution} days; it lies above 0 and up to the horizon {self.horizon}"
            )

    @property
    def size(self) -> int:
        """Number of cells, of which the last is for everybody followed beyond the horizon."""
        return int(np.floor(self.horizon / self.resolution * (1 + 1e-12))) + 2

    def cells(self, time: Floats, event: NDArray[np.bool_], unit: TimeUnit) -> tuple[Cells, NDArray[np.bool_]]:
        """The cell of each patient, and whether the event was seen up to the horizon; shapes (n,)."""
        nearest = np.rint(time * (DAYS_PER[unit] / self.resolution))
        cell = np.minimum(nearest, self.size - 1).astype(np.int64)
        return cell, event & (cell < self.size - 1)

    def times(self, cells: Cells, unit: TimeUnit) -> Floats:
        """The time that each cell stands for."""
        return cells.astype(np.float64) * (self.resolution / DAYS_PER[unit])


def event_counts(cell: Cells, event: NDArray[np.bool_], size: int) -> dict[str, Floats]:
    """Events, and all who leave (by event or censoring), per cell: what adds over centers; each of shape (size,)."""
    return {
        "events": np.bincount(cell[event], minlength=size).astype(np.float64),
        "leaving": np.bincount(cell, minlength=size).astype(np.float64),
    }


def at_risk(leaving: Floats) -> Floats:
    """Patients at risk just before each cell's time: who leaves then or later; over the last axis."""
    running: Floats = np.cumsum(leaving[..., ::-1], axis=-1)[..., ::-1]
    return running
