"""Any CSV or Parquet table with a YAML schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.datasets.dataset import Card, DatasetError, Labels
from harmonization import Cohort, CohortError, Schema
from harmonization.schema import CENTER
from harmonization.storage import read_table, schema_path, text_columns

CARD = Card(
    description="Your own CSV or Parquet table, one row a patient, with a schema in YAML beside it (docs/data.md).",
    source="your own file: option path, and where needed schema and center_column",
    licence="your own",
    options=("path", "schema", "center_column"),
)


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, Labels | None]:
    """The table's patients, and their centers if it has a column for them (``center`` by default)."""
    if "path" not in options:
        raise DatasetError("data set 'table' needs the option path: a .csv or .parquet file")
    path = locate(options["path"], data_dir)
    schema = Schema.read(locate(options["schema"], data_dir) if "schema" in options else schema_path(path))
    column = str(options.get("center_column", CENTER))
    frame = read_table(path, text=(*text_columns(schema), column))
    if column not in frame.columns:
        if "center_column" in options:
            raise CohortError(
                "column is missing; it was to name each patient's center", source=str(path), column=column
            )
        return Cohort.from_frame(frame, schema, source=str(path)), None
    unnamed = np.flatnonzero(frame[column].isna())
    if len(unnamed):
        raise CohortError("center is missing", source=str(path), row=int(unnamed[0]) + 1, column=column)
    return Cohort.from_frame(frame.drop(columns=column), schema, source=str(path)), frame[column].to_numpy(dtype=str)


def locate(file: str | Path, data_dir: Path | None, *, folder: bool = False) -> Path:
    """A file by absolute path, in the data directory, or in the working directory, in this order.

    Parameters
    ----------
    folder
        Whether it may be a folder.

    Raises
    ------
    DatasetError
        Naming every place that was tried.
    """
    path = Path(file).expanduser()
    places = [path] if path.is_absolute() or data_dir is None else [data_dir / path, path]
    for place in places:
        if place.is_file() or (folder and place.is_dir()):
            return place
    tried = " or ".join(str(place.absolute()) for place in places)
    raise DatasetError(f"no such file{' or folder' if folder else ''}: {tried}")
