"""Reading and writing cohorts as Parquet or CSV, with the schema beside the table.

``aml.parquet`` (or ``aml.csv``) has its schema in ``aml.schema.yaml``. Writing goes to a temporary name first, so that
a file is either whole or absent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from harmonization.cohort import Cohort
from harmonization.errors import CohortError
from harmonization.files import replacing
from harmonization.schema import ID, Schema

if TYPE_CHECKING:  # 70 MB and half a second that centers whose tables are arrays already do without
    import pandas as pd


def schema_path(table: str | Path) -> Path:
    """Where the schema of a table lives: ``aml.parquet`` -> ``aml.schema.yaml``."""
    return Path(table).with_suffix(".schema.yaml")


def read_table(path: str | Path, text: Collection[str] = ()) -> pd.DataFrame:
    """Read a Parquet or CSV table; only empty cells are missing.

    Parameters
    ----------
    path
        A ``.parquet`` or ``.csv`` file.
    text
        Columns that stay text although they look like numbers (``01``), beside the patient ids.

    Raises
    ------
    CohortError
        If the file does not exist, cannot be parsed, or is neither Parquet nor CSV.
    """
    import pandas as pd

    path = _existing(path)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".csv":
            frame = pd.read_csv(
                path,
                dtype=dict.fromkeys((ID, *text), str),
                keep_default_na=False,
                na_values=[""],
                float_precision="round_trip",
                low_memory=False,
            )
            if not isinstance(frame.index, pd.RangeIndex):  # pandas would take the surplus cells for row names
                raise CohortError("rows have more cells than the header; look for stray commas", source=str(path))
            return frame
    except CohortError:
        raise
    except (ValueError, OSError) as error:  # pandas and pyarrow raise subclasses of these on broken files
        raise CohortError(f"cannot be read as {path.suffix[1:]}: {error}", source=str(path)) from None
    raise CohortError("neither .parquet nor .csv; convert the table to one of them", source=str(path))


def text_columns(schema: Schema) -> tuple[str, ...]:
    """Columns of a schema that hold text."""
    return tuple(f.name for f in (*schema.features, *schema.scores) if f.kind == "categorical")


def read_cohort(path: str | Path, schema: Schema | None = None) -> Cohort:
    """Read a cohort and check every value.

    Parameters
    ----------
    path
        A ``.parquet`` or ``.csv`` file.
    schema
        What the table must hold; the schema beside the table by default.

    Raises
    ------
    CohortError
        Naming file, row, column and value of the first problem.
    SchemaError
        If there is no schema beside the table, or it is wrong.
    """
    schema = schema or Schema.read(schema_path(_existing(path)))
    return Cohort.from_frame(read_table(path, text_columns(schema)), schema, source=str(path))


def write_cohort(cohort: Cohort, path: str | Path) -> None:
    """Write a cohort as ``.parquet`` or ``.csv``, and its schema beside it."""
    path = Path(path)
    frame = cohort.to_frame()
    if path.suffix == ".parquet":
        write: Callable[..., object] = frame.to_parquet
    elif path.suffix == ".csv":
        write = frame.to_csv
    else:
        raise CohortError("write to a .parquet or .csv file", source=str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        write(temporary, index=False)
    with replacing(schema_path(path)) as temporary:
        cohort.schema.write(temporary)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise CohortError("no such file", source=str(path))
    return path
