"""The patients of a stratification: their lesions, and what is known of them besides, from one file or several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from clustering.events import EventTable, read_events
from experiments.datasets import load_dataset
from experiments.stratify.config import DataSection
from harmonization.errors import CohortError
from harmonization.schema import DAYS_PER


@dataclass(frozen=True)
class Patients:
    """Patients of a stratification; a value that is not known is empty or not a number.

    Parameters
    ----------
    table
        Lesions.
    truth
        Shape (patients,), strings, empty without a class; None if no column was named.
    years, event
        Shape (patients,), float: time to event or censoring, and 1 or 0. Both or neither are known of a patient; None
        if no columns were named.
    groups
        Shape (patients,), strings: each patient's hospital or trial; None if no column was named.
    """

    table: EventTable
    truth: np.ndarray | None = None
    years: np.ndarray | None = None
    event: np.ndarray | None = None
    groups: np.ndarray | None = None

    def select(self, patients: np.ndarray) -> Patients:
        """Some patients, by mask or index."""
        others = (None if x is None else x[patients] for x in (self.truth, self.years, self.event, self.groups))
        return Patients(self.table.select(patients), *others)


def read_patients(data: DataSection, data_dir: Path | None = None) -> Patients:
    """Read the files of a configuration, and the outcome from a data set in ``data_dir`` if it names one.

    Raises
    ------
    CohortError
        For a wrong cell or an unknown column, which it names, or a file that lists a patient twice.
    """
    if not data.csv.is_file():
        raise CohortError(
            "no such file; correct data.csv (a $NAME that is left: set that variable)", source=str(data.csv)
        )
    from_data_set = data.groups == "center" and data.outcome is not None
    own_groups = None if from_data_set else data.groups
    named = [column for column in (data.truth, data.time, data.event, own_groups) if column is not None]
    heading = list(pd.read_csv(data.csv, dtype=str, nrows=0).columns)
    beside = [column for column in named if column in heading]
    joined = _joined(data)
    for column in named:
        files = [str(data.csv)] * (column in beside) + [str(p) for p, f in joined.items() if column in f.columns]
        if not files:
            files = [str(data.csv), *map(str, data.join)]
            raise CohortError("no such column in any file of the data", source=", ".join(files), column=column)
        if len(files) > 1:
            raise CohortError("the column is in several files; rename all but one", source=files[0], column=column)
    table, _ = read_events(data.csv, exclude=(*data.exclude, *beside))
    table = table.only_genes((table.events == 1).sum(0) >= data.min_events)
    own = pd.read_csv(data.csv, dtype=str, keep_default_na=False)

    def cells(name: str | None) -> tuple[np.ndarray, str] | None:
        if name is None:
            return None
        if name in beside:
            return own[name].str.strip().to_numpy(str), str(data.csv)
        path, frame = next((p, f) for p, f in joined.items() if name in f.columns)
        return frame[name].reindex(table.ids).fillna("").to_numpy(str), str(path)

    truth, time, event, group = cells(data.truth), cells(data.time), cells(data.event), cells(own_groups)
    years = None if time is None else _numbers(*time, str(data.time)) / DAYS_PER["years"] * DAYS_PER[data.time_unit]
    status = None if event is None else _numbers(*event, str(data.event), binary=True)
    groups = None if group is None else group[0]
    if data.outcome is not None:
        years, status, centers = _outcome(data.outcome, data_dir, table.ids)
        groups = centers if from_data_set else groups
    if groups is not None and (groups == "").any():
        raise CohortError(
            "the patient is of no group; fill in the cell or leave the patient out",
            source=str(data.csv if group is None else group[1]),
            column=data.groups,
            value=str(table.ids[int(np.argmax(groups == ""))]),
        )
    if years is not None and status is not None:
        known = np.isfinite(years) & np.isfinite(status)
        years, status = np.where(known, years, np.nan), np.where(known, status, np.nan)
    return Patients(table, None if truth is None else truth[0], years, status, groups)


def _outcome(name: str, data_dir: Path | None, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Years, events and centers of a data set's patients, in the order of ``ids``; not a number, or "", of others."""
    dataset = load_dataset(name, data_dir)
    cohort = dataset.cohort
    years = cohort.time / DAYS_PER["years"] * DAYS_PER[cohort.schema.time_unit]
    known = pd.DataFrame({"years": years, "event": cohort.event.astype(float)}, index=cohort.ids.astype(str))
    found = known.reindex(ids)
    if found["years"].isna().all():
        raise CohortError(f"no patient of the table is in the data set {name!r}; correct data.outcome", source=name)
    centers = pd.Series("" if dataset.center is None else dataset.center, index=known.index)
    return found["years"].to_numpy(), found["event"].to_numpy(), centers.reindex(ids).fillna("").to_numpy(str)


def _joined(data: DataSection) -> dict[Path, pd.DataFrame]:
    """The further files, as strings by patient."""
    frames = {}
    for path in data.join:
        frame = _read(path)
        ids = frame.iloc[:, 0]
        repeated = ids[ids.duplicated()]
        if len(repeated):
            row = int(repeated.index[0]) + 1
            raise CohortError(
                "the patient is listed twice; keep one row", source=str(path), row=row, value=ids[row - 1]
            )
        frames[path] = frame.iloc[:, 1:].set_axis(ids, axis=0)
    return frames


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise CohortError("no such file; correct data.join", source=str(path))
    if path.suffix.lower() == ".csv":
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    elif path.suffix.lower() in (".tsv", ".txt"):
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, sep="\t")
    else:
        raise CohortError("files to join are .csv, .tsv or .txt (tab-separated)", source=str(path))
    if frame.shape[1] < 2:
        raise CohortError("the first column names the patients; there is no other", source=str(path))
    stripped: pd.DataFrame = frame.apply(lambda column: column.str.strip())
    return stripped


def _numbers(cells: np.ndarray, source: str, column: str, binary: bool = False) -> np.ndarray:
    """Numbers >= 0, or 0 and 1; an empty cell or NA is not a number."""
    empty = np.isin(cells, ("", "NA", "NaN", "nan"))
    values = pd.to_numeric(pd.Series(np.where(empty, "nan", cells)), errors="coerce").to_numpy(float)
    wrong = ~empty & (~np.isfinite(values) | ((values != 0) & (values != 1) if binary else values < 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        said = "an event is 1, 0 (censored) or empty" if binary else "a time is a number, not negative, or empty"
        raise CohortError(f"{said}; correct the cell", source=source, row=row + 1, column=column, value=str(cells[row]))
    return np.asarray(values)
