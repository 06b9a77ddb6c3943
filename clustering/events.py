"""The table that every model of this floor reads: patients by lesions, present, absent or not tested."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harmonization.errors import CohortError

MISSING = -1
"""Code of a lesion that was not tested."""


@dataclass(frozen=True)
class EventTable:
    """Binary lesions of patients.

    Parameters
    ----------
    ids
        Shape (patients,), unique names.
    genes
        Names of the columns: mutated genes, chromosomal lesions.
    events
        Shape (patients, genes), int8: 1 present, 0 absent, -1 not tested.
    """

    ids: np.ndarray
    genes: tuple[str, ...]
    events: np.ndarray

    def __post_init__(self) -> None:
        if self.events.shape != (len(self.ids), len(self.genes)):
            raise ValueError(f"events: shape {self.events.shape}, but {len(self.ids)} ids and {len(self.genes)} genes")
        if not np.isin(self.events, (MISSING, 0, 1)).all():
            raise ValueError("events: only 1 (present), 0 (absent) and -1 (not tested) are allowed")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def counts(self) -> np.ndarray:
        """Events of each patient among the tested genes, shape (patients,)."""
        return np.asarray((self.events == 1).sum(1))

    @cached_property
    def patterns(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct sets of tested genes, bool (patterns, genes), and each patient's, (patients,)."""
        patterns, which = np.unique(self.events != MISSING, axis=0, return_inverse=True)
        return patterns, which.reshape(-1)

    def select(self, patients: np.ndarray) -> EventTable:
        """Some patients, by mask or index."""
        return EventTable(self.ids[patients], self.genes, self.events[patients])

    def only_genes(self, keep: np.ndarray) -> EventTable:
        """Some genes, by mask."""
        return EventTable(self.ids, tuple(np.array(self.genes)[keep]), self.events[:, keep])


def as_events(X: Any) -> EventTable:
    """An event table from an array or DataFrame of 1 (present), 0 (absent) and NaN or -1 (not tested).

    Parameters
    ----------
    X
        Shape (patients, genes). A DataFrame names genes and patients; an event table is returned as it is.

    Raises
    ------
    ValueError
        For other values or another shape.
    """
    if isinstance(X, EventTable):
        return X
    values = np.asarray(X, float)
    if values.ndim != 2:
        raise ValueError(f"X: shape {values.shape}, but must be (patients, genes)")
    events = np.where(np.isnan(values), MISSING, values)
    wrong = ~np.isin(events, (MISSING, 0, 1))
    if wrong.any():
        i, j = (int(k) for k in np.argwhere(wrong)[0])
        raise ValueError(f"X: row {i}, column {j} is {values[i, j]}; lesions are 1, 0, or NaN / -1 for not tested")
    named = hasattr(X, "columns")  # a data frame
    ids = X.index.to_numpy(str) if named else np.arange(1, len(values) + 1).astype(str)
    genes = tuple(map(str, X.columns)) if named else tuple(f"gene {g}" for g in range(1, values.shape[1] + 1))
    return EventTable(ids, genes, events.astype(np.int8))


def read_events(
    path: Path, truth: str | None = None, exclude: tuple[str, ...] = ()
) -> tuple[EventTable, np.ndarray | None]:
    """Read a CSV of 0/1 columns (empty: not tested); its first column may name the patients.

    Parameters
    ----------
    path
        Comma-separated, one row a patient. The first column is taken for names if its heading is empty or ``id`` or
        it holds anything but 0, 1 and empty cells; without names, patients are numbered from 1.
    truth
        Column of a known classification, returned beside the table.
    exclude
        Columns that are neither.

    Returns
    -------
    EventTable, classification
        The classification as strings, shape (patients,), or None.

    Raises
    ------
    CohortError
        For a cell that is not 0, 1 or empty, a repeated name, an unknown ``truth`` column, or an empty table.
    """
    import pandas as pd

    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column in (truth, *exclude):
        if column is not None and column not in frame.columns:
            known = ", ".join(map(str, frame.columns[:10]))
            raise CohortError(f"no such column; the file has {known} …", source=str(path), column=column)
    known_classes = None if truth is None else frame[truth].to_numpy(str)
    frame = frame.drop(columns=[c for c in {truth, *exclude} if c is not None])
    frame = frame.apply(lambda column: column.str.strip())
    first = str(frame.columns[0]) if len(frame.columns) else ""
    named = first.startswith("Unnamed") or first.lower() == "id" or not frame.iloc[:, 0].isin(["0", "1", ""]).all()
    if named and len(frame.columns):
        ids = frame.iloc[:, 0].to_numpy(str)
        frame = frame.iloc[:, 1:]
    else:
        ids = np.arange(1, len(frame) + 1).astype(str)
    if frame.empty:
        raise CohortError("no patients or no 0/1 columns", source=str(path))
    repeated = pd.Series(ids).duplicated().to_numpy()
    if repeated.any():
        row = int(np.argmax(repeated))
        raise CohortError("the patient is listed twice; keep one row", source=str(path), row=row + 1, value=ids[row])
    codes = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "": MISSING}
    wrong = ~frame.isin(list(codes)).to_numpy()
    if wrong.any():
        i, j = (int(k) for k in np.argwhere(wrong)[0])
        raise CohortError(
            "lesions are 1 (present), 0 (absent) or empty (not tested); correct the cell or exclude the column",
            source=str(path),
            row=i + 1,
            column=str(frame.columns[j]),
            value=frame.iloc[i, j],
        )
    events = np.select([frame.isin(["1", "1.0"]).to_numpy(), frame.isin(["0", "0.0"]).to_numpy()], [1, 0], MISSING)
    return EventTable(ids, tuple(map(str, frame.columns)), events.astype(np.int8)), known_classes
