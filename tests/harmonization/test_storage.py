"""Files: CSV and Parquet give back every bit, and a bad file is named with row, column and value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonization import Cohort, CohortError, Feature, Schema, SchemaError, read_cohort, write_cohort
from harmonization.storage import read_table, schema_path

SCHEMA = Schema(
    "demo",
    "1",
    (
        Feature("age", "continuous", low=0, high=120),
        Feature("grade", "categorical", categories=("1", "2")),
        Feature("NPM1", "binary", "genomic"),
    ),
)

GOOD = """patient_id,time,event,age,grade,NPM1
007,1.5,1,50,1,0
008,0,0,,2,
NA,3,1,71.5,,1
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A good CSV file with its schema."""
    path = tmp_path / "hospital.csv"
    path.write_text(GOOD)
    SCHEMA.write(schema_path(path))
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, cohorts: st.SearchStrategy[Cohort], suffix: str, data: st.DataObject
) -> None:
    cohort = data.draw(cohorts)
    path = tmp_path_factory.mktemp("cohort") / f"table.{suffix}"
    write_cohort(cohort, path)
    read = read_cohort(path)
    assert read.schema.hash == cohort.schema.hash
    np.testing.assert_array_equal(read.ids, cohort.ids)
    for name in ("values", "time", "event", "scores"):
        np.testing.assert_array_equal(getattr(read, name), getattr(cohort, name))
    assert {p.name for p in path.parent.iterdir()} == {"table.schema.yaml", f"table.{suffix}"}


def test_ids_and_categories_are_text_and_empty_is_missing(table: Path) -> None:
    cohort = read_cohort(table)
    assert cohort.ids.tolist() == ["007", "008", "NA"]
    nan = np.nan
    np.testing.assert_array_equal(cohort.values, [[50, 0, 0], [nan, 1, nan], [71.5, nan, 1]])


@pytest.mark.parametrize(
    ("change", "row", "column", "value", "problem"),
    [
        ("007,1.5 -> 007,-1.5", 1, "time", -1.5, "negative"),
        ("008,0,0 -> 008,,0", 2, "time", None, "missing"),
        ("008,0,0 -> 008,0,2", 2, "event", 2, "0 (censored) or 1"),
        ("008,0,0 -> 008,0,", 2, "event", None, "0 (censored) or 1"),
        ("NA,3 -> 007,3", 3, "patient_id", "007", "twice"),
        ("NA,3 -> ,3", 3, "patient_id", None, "missing"),
        ("50,1,0 -> 50,3,0", 1, "grade", "3", "unknown category; the schema allows 1, 2"),
        ("71.5 -> 715", 3, "age", 715.0, "outside the plausible range 0 to 120"),
        ("71.5 -> 71y", 3, "age", "71y", "not a number"),
        ("50,1,0 -> 50,1,7", 1, "NPM1", 7, "0, 1 or empty"),
    ],
)
def test_bad_value_is_named(table: Path, change: str, row: int, column: str, value: object, problem: str) -> None:
    old, new = change.split(" -> ")
    assert GOOD.count(old) == 1
    table.write_text(GOOD.replace(old, new))
    with pytest.raises(CohortError) as caught:
        read_cohort(table)
    error, text = caught.value, str(caught.value)
    assert (error.source, error.row, error.column) == (str(table), row, column)
    assert text.startswith(f"{table}, row {row}, column {column!r}")
    assert problem in text
    if value is not None:
        assert error.value == value
        assert repr(error.value) in text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (GOOD.splitlines()[0] + "\n", "the table has no patients"),
        ("", "cannot be read as csv"),
        (GOOD.replace(",age", ",Age"), "column 'age': column is missing"),
        (GOOD.replace("age,grade", "age,age"), "column 'grade': column is missing"),
        (GOOD.replace("\n007", "\n007,007").replace("\n008", "\n008,008").replace("\nNA", "\nNA,NA"), "stray commas"),
        (GOOD.replace("008,0,0,,2,", "008,0,0,,2,,,"), "cannot be read as csv"),
    ],
)
def test_bad_file_is_named(table: Path, content: str, problem: str) -> None:
    table.write_text(content)
    with pytest.raises(CohortError, match=problem) as caught:
        read_cohort(table)
    assert str(table) in str(caught.value)


def test_files_that_are_not_there_or_not_tables(table: Path) -> None:
    with pytest.raises(CohortError, match=r"other\.csv: no such file"):
        read_cohort(table.with_name("other.csv"))
    (table.with_name("broken.parquet")).write_bytes(b"PAR1 nonsense")
    with pytest.raises(CohortError, match=r"broken\.parquet: cannot be read as parquet"):
        read_table(table.with_name("broken.parquet"))
    (table.with_name("table.xlsx")).write_bytes(b"")
    with pytest.raises(CohortError, match=r"neither \.parquet nor \.csv"):
        read_table(table.with_name("table.xlsx"))
    with pytest.raises(CohortError, match=r"\.parquet or \.csv"):
        write_cohort(read_cohort(table), table.with_name("table.xlsx"))
    schema_path(table).unlink()
    with pytest.raises(SchemaError, match=r"hospital\.schema\.yaml.*no such schema file"):
        read_cohort(table)


def test_a_failed_write_leaves_the_old_file(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = read_cohort(table)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="disk full"):
        write_cohort(cohort, table)
    assert table.read_text() == GOOD
    assert sorted(p.name for p in table.parent.iterdir()) == ["hospital.csv", "hospital.schema.yaml"]
