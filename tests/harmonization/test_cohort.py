"""The cohort: tables in and out without loss, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonization import Cohort, CohortError, Feature, Schema, SchemaError, require_same_schema

SCHEMA = Schema(
    "demo",
    "1",
    (
        Feature("age", "continuous", low=0, high=120),
        Feature("stage", "categorical", categories=("I", "II")),
        Feature("nodes", "count"),
        Feature("TP53", "binary", "genomic"),
    ),
    (Feature("points", "count", low=0, high=4),),
)


def frame(**columns: Any) -> pd.DataFrame:
    """Three good patients, with some columns replaced."""
    good = {
        "patient_id": ["a", "b", "c"],
        "time": [1.0, 0.0, 2.5],
        "event": [1, 0, 1],
        "age": [50.0, None, 71.0],
        "stage": ["I", "II", None],
        "nodes": [0, 3, None],
        "TP53": [0, None, 1],
        "points": [None, 1, 2],
    }
    return pd.DataFrame({**good, **columns})


def assert_same(one: Cohort, other: Cohort) -> None:
    assert one.schema == other.schema
    np.testing.assert_array_equal(one.ids, other.ids)
    assert (one.cause is None) == (other.cause is None)
    for name in ("values", "time", "event", "scores", *(() if one.cause is None else ("cause",))):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype


def test_missing_stays_missing() -> None:
    cohort = Cohort.from_frame(frame(), SCHEMA)
    nan = np.nan
    np.testing.assert_array_equal(cohort.values, [[50, 0, 0, 0], [nan, 1, 3, nan], [71, nan, nan, 1]])
    np.testing.assert_array_equal(cohort.scores, [[nan], [1], [2]])
    assert cohort.event.tolist() == [True, False, True]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_frame_round_trip(cohorts: st.SearchStrategy[Cohort], data: st.DataObject) -> None:
    cohort = data.draw(cohorts)
    assert_same(Cohort.from_frame(cohort.to_frame(), cohort.schema), cohort)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("event", [True, False, True]),
        ("event", pd.array([1, 0, 1], dtype="Int64")),
        ("event", ["True", "False", "1"]),
        ("TP53", pd.array([False, None, True], dtype="boolean")),
        ("TP53", [False, None, True]),
        ("nodes", pd.array([0, 3, None], dtype="Int32")),
        ("nodes", ["0", " 3 ", ""]),
        ("age", ["50", " ", "71.0"]),
        ("stage", pd.Categorical(["I", "II", None])),
        ("stage", pd.array([" I", "II ", None], dtype="string")),
        ("patient_id", pd.Categorical(["a", "b", "c"])),
    ],
)
def test_every_way_pandas_writes_a_column(column: str, values: Any) -> None:
    assert_same(Cohort.from_frame(frame(**{column: values}), SCHEMA), Cohort.from_frame(frame(), SCHEMA))


def test_text_becomes_the_exact_number() -> None:
    numbers = np.random.default_rng(0).random(3) * 1e-3
    cohort = Cohort.from_frame(frame(time=[repr(x) for x in numbers.tolist()]), SCHEMA)
    np.testing.assert_array_equal(cohort.time, numbers)


BAD = [
    ({"time": [1, -0.5, -1]}, 2, "time", -0.5, r"negative.*\(1 more rows"),
    ({"time": [1, 2, None]}, 3, "time", np.nan, "missing"),
    ({"time": [1, np.inf, 2]}, 2, "time", np.inf, "not finite"),
    ({"time": ["1,5", 2, 3]}, 1, "time", "1,5", "not a number"),
    ({"time": ["1_5", 2, 3]}, 1, "time", "1_5", "not a number"),
    ({"time": pd.to_datetime(["2020-01-01"] * 3)}, 1, "time", pd.Timestamp("2020-01-01"), "not a number"),
    ({"event": [1, 2, 0]}, 2, "event", 2, "0 .censored. or 1"),
    ({"event": [1, 0, None]}, 3, "event", np.nan, "0 .censored. or 1"),
    ({"event": ["dead", 0, 1]}, 1, "event", "dead", "not a number"),
    ({"patient_id": ["a", "b", "a"]}, 3, "patient_id", "a", "twice"),
    ({"patient_id": ["a", None, "c"]}, 2, "patient_id", None, "missing"),
    ({"patient_id": ["a", " ", "c"]}, 2, "patient_id", " ", "missing"),
    ({"stage": ["I", "III", None]}, 2, "stage", "III", "unknown category; the schema allows I, II"),
    ({"age": [50, 121, 3]}, 2, "age", 121, "outside the plausible range 0 to 120"),
    ({"age": [50, -1, 3]}, 2, "age", -1, "outside the plausible range"),
    ({"age": ["old", 1, 3]}, 1, "age", "old", "not a number"),
    ({"nodes": [0, 1.5, 2]}, 2, "nodes", 1.5, "not a count"),
    ({"nodes": [0, -1, 2]}, 2, "nodes", -1, "not a count"),
    ({"TP53": [0, 1, 0.5]}, 3, "TP53", 0.5, "0, 1 or empty"),
    ({"points": [0, 5, 1]}, 2, "points", 5, "outside the plausible range"),
]


@pytest.mark.parametrize(("columns", "row", "column", "value", "problem"), BAD)
def test_bad_value_is_named(columns: Any, row: int, column: str, value: object, problem: str) -> None:
    with pytest.raises(CohortError, match=problem) as caught:
        Cohort.from_frame(frame(**columns), SCHEMA, source="hospital.csv")
    error = caught.value
    assert (error.source, error.row, error.column) == ("hospital.csv", row, column)
    assert error.value == value or (pd.isna(error.value) and pd.isna(value))  # type: ignore[call-overload]
    if value is not None:
        assert str(error).startswith(f"hospital.csv, row {row}, column {column!r}, value {error.value!r}: ")


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (frame().drop(columns="age"), "column 'age': column is missing"),
        (frame().assign(note="x"), "column 'note': column is not in the schema"),
        (frame().iloc[:0], "the table has no patients"),
        (pd.concat([frame(), frame()["age"]], axis=1), "column 'age': column occurs twice"),
    ],
)
def test_bad_table_is_named(table: pd.DataFrame, problem: str) -> None:
    with pytest.raises(CohortError, match=problem) as caught:
        Cohort.from_frame(table, SCHEMA, source="hospital.csv")
    assert str(caught.value).startswith("hospital.csv")


def test_arrays_that_do_not_fit_are_refused() -> None:
    cohort = Cohort.from_frame(frame(), SCHEMA)
    with pytest.raises(CohortError, match=r"values has shape \(3, 3\); 3 patients need \(3, 4\)"):
        replace(cohort, values=cohort.values[:, :3])
    with pytest.raises(CohortError, match="time has shape"):
        replace(cohort, time=cohort.time[:2])


def test_a_cohort_without_scores_can_be_sliced() -> None:
    schema = replace(SCHEMA, scores=())
    full = Cohort.from_frame(frame().drop(columns="points"), schema)
    bare = Cohort(schema, full.ids, full.values, full.time, full.event)
    assert bare[np.array([True, False, True])].scores.shape == (2, 0)
    assert len(Cohort.concatenate([bare, bare])) == 6


def test_slicing_selecting_and_units() -> None:
    cohort = Cohort.from_frame(frame(), SCHEMA)
    some = cohort[np.array([2, 0])]
    assert some.ids.tolist() == ["c", "a"]
    np.testing.assert_array_equal(some.column("age"), [71, 50])
    np.testing.assert_array_equal(some.scores, [[2], [np.nan]])
    genomic = cohort.select(["genomic"])
    assert genomic.schema.names == ("TP53",)
    np.testing.assert_array_equal(genomic.values[:, 0], cohort.column("TP53"))
    days = cohort.in_time_unit("days")
    np.testing.assert_allclose(days.time, cohort.time * 365.25)
    np.testing.assert_allclose(days.in_time_unit("months").time, cohort.time * 12)


def test_other_schemas_are_refused() -> None:
    cohort = Cohort.from_frame(frame(), SCHEMA)
    other = Cohort.from_frame(frame(), replace(SCHEMA, version="2"))
    with pytest.raises(SchemaError, match=r"hospital B: the schema differs.*version is '2' here and '1' there"):
        require_same_schema(SCHEMA, other.schema, "hospital B")
    with pytest.raises(SchemaError, match="the schema differs"):
        Cohort.concatenate([cohort, other])
    assert_same(Cohort.concatenate([cohort[np.array([0])], cohort[np.array([1, 2])]]), cohort)


# Competing causes ----------------------------------------------------------------------------------------------------

CAUSES = replace(SCHEMA, causes=("relapse", "death"))


def test_causes_follow_their_patients() -> None:
    cohort = Cohort.from_frame(frame(event=[2, 0, 1]), CAUSES)
    assert cohort.event.tolist() == [True, False, True]
    both = Cohort.concatenate([cohort[np.array([2, 0])], cohort[np.array([1])]])
    assert both.cause is not None
    assert both.cause.tolist() == [1, 2, 0]
    assert both.select(["genomic"]).in_time_unit("days").cause is both.cause
    assert both.schema.select(("genomic",)).causes == CAUSES.causes


@pytest.mark.parametrize("event", [[3, 0, 1], [-1, 0, 1], [1.5, 0, 1]])
def test_a_cause_that_the_schema_has_not_is_named(event: list[float]) -> None:
    with pytest.raises(CohortError, match=r"0 .censored. or 1 .relapse. or 2 .death.") as caught:
        Cohort.from_frame(frame(event=event), CAUSES)
    assert (caught.value.row, caught.value.value) == (1, event[0])


@pytest.mark.parametrize(
    ("schema", "cause", "problem"),
    [
        (CAUSES, None, "names 2 competing causes"),
        (SCHEMA, [1, 0, 1], "names 0 competing causes"),
        (CAUSES, [1, 1, 1], "0 for censored patients"),
        (CAUSES, [0, 0, 1], "0 for censored patients"),
        (CAUSES, [1, 0], "0 for censored patients"),
        (CAUSES, [3, 0, 1], "causes 1 to 2"),
    ],
)
def test_causes_fit_schema_and_events(schema: Schema, cause: list[int] | None, problem: str) -> None:
    good = Cohort.from_frame(frame(), SCHEMA)
    codes = None if cause is None else np.array(cause)
    with pytest.raises(CohortError, match=problem):
        replace(good, schema=schema, cause=codes)
