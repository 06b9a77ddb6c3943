"""Many tables of patients end to end: what a batched computation works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.steps import TrainingData


@dataclass(frozen=True, eq=False)
class Tables:
    """Ragged tables, each with its patients sorted by descending time, so that a risk set is a prefix.

    Parameters
    ----------
    x
        Design matrices, float32 of shape (N, p), N being the patients of all tables.
    time, event
        Shape (N,); `event` as in `TrainingData`.
    place
        Where in its sorted table a patient of the original table is, shape (N,).
    starts
        First row of each table, and N; shape (k + 1,).
    """

    x: NDArray[np.float32]
    time: NDArray[np.float64]
    event: NDArray[Any]
    place: NDArray[np.int32]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, data: Sequence[TrainingData], n_features: int) -> Tables:
        """Lay tables end to end; `n_features` is their width, also where there is none."""
        sizes = np.array([len(d) for d in data], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        x = np.empty((starts[-1], n_features), dtype=np.float32)
        time = np.empty(starts[-1])
        event = np.empty(starts[-1], dtype=np.result_type(np.bool_, *{d.event.dtype for d in data}))
        for d, first, last in zip(data, starts[:-1], starts[1:], strict=True):
            x[first:last], time[first:last], event[first:last] = d.x, d.time, d.event
        table = np.repeat(np.arange(len(sizes)), sizes)
        order = np.lexsort((-time, table))
        place = np.empty(len(order), dtype=np.int32)
        place[order] = np.arange(len(order)) - np.repeat(starts[:-1], sizes)
        return cls(x[order], time[order], event[order], place, starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Patients of each table, shape (k,)."""
        return np.diff(self.starts)

    @property
    def events(self) -> NDArray[np.int64]:
        """Events of each table, shape (k,)."""
        counts = np.concatenate([[0], np.cumsum(self.event > 0)])
        found: NDArray[np.int64] = counts[self.starts[1:]] - counts[self.starts[:-1]]
        return found

    def table(self, j: int) -> TrainingData:
        """One table with its patients in their original order."""
        rows = self.starts[j] + self.place[self.starts[j] : self.starts[j + 1]]
        return TrainingData(self.x[rows], self.time[rows], self.event[rows])
