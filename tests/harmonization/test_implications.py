"""Implications: any table obeys them or says which rows cannot; they travel with schema and dictionary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonization import Dictionary, Feature, Schema, SchemaError
from harmonization.schema import KNOWN, MISSING, NOT_FOUND, Implication

FEATURES = (
    Feature("karyotyped", "binary"),
    Feature("del5q", "binary", "genomic"),
    Feature("stage", "categorical", categories=("I", "II")),
    Feature("blasts", "count", low=0, high=20),
)
PLAIN = Schema("demo", "1", FEATURES)


def statements(index: int) -> st.SearchStrategy[tuple[str, float | str]]:
    values = {"binary": (0, 1, NOT_FOUND), "categorical": ("I", "II"), "count": (0, 3)}[FEATURES[index].kind]
    return st.sampled_from([MISSING, KNOWN, *values]).map(lambda value: (FEATURES[index].name, value))


statement = st.integers(0, 3).flatmap(statements)
implications = st.builds(Implication, statement, st.lists(statement, min_size=1, max_size=3).map(tuple))
rows = st.tuples(*[st.sampled_from([np.nan, 0.0, 1.0])] * 3, st.sampled_from([np.nan, 0.0, 3.0, 7.0]))


@given(
    st.lists(implications, max_size=4).map(tuple), st.lists(rows, min_size=1, max_size=20), st.sets(st.integers(0, 3))
)
def test_rows_obey_or_are_named(
    declared: tuple[Implication, ...], table: list[tuple[float, ...]], fixed: set[int]
) -> None:
    schema, values = replace(PLAIN, implications=declared), np.array(table)
    found, obeys = schema.obey(values, tuple(fixed))
    np.testing.assert_array_equal(obeys, schema.obeyed(found))
    np.testing.assert_array_equal(found[:, list(fixed)], values[:, list(fixed)])
    right = schema.obeyed(values)
    np.testing.assert_array_equal(found[right], values[right])  # who obeys stays as they are
    assert obeys[right].all()
    again, _ = schema.obey(found[obeys], tuple(fixed))
    np.testing.assert_array_equal(again, found[obeys])


def test_what_follows_is_written() -> None:
    declared = (
        Implication(("karyotyped", 0), (("del5q", MISSING),)),
        Implication(("del5q", MISSING), (("stage", "I"),)),
        Implication(("blasts", 3), (("stage", KNOWN),)),
    )
    schema = replace(PLAIN, implications=declared)
    values = np.array([[0, 1, 1, 7], [1, 1, 1, 7], [1, 0, np.nan, 3.0]])
    found, obeys = schema.obey(values)
    np.testing.assert_array_equal(found[0], [0, np.nan, 0, 7])
    np.testing.assert_array_equal(found[1:], values[1:])
    np.testing.assert_array_equal(obeys, [True, True, False])
    assert not schema.obey(values, fixed=(1,))[1][0]


def test_not_found_is_absent_or_missing() -> None:
    schema = replace(PLAIN, implications=(Implication(("karyotyped", NOT_FOUND), (("del5q", NOT_FOUND),)),))
    values = np.array([[0, 1, 1, 7], [np.nan, 1, 1, 7], [0, np.nan, 1, 7], [0, 0, 1, 7], [1, 1, 1, 7.0]])
    found, obeys = schema.obey(values)
    np.testing.assert_array_equal(schema.obeyed(values), [False, False, True, True, True])
    np.testing.assert_array_equal(found[:, 1], [0, 0, np.nan, 0, 1])
    assert obeys.all()


def test_they_travel_with_the_schema() -> None:
    declared = (Implication(("karyotyped", 0), (("del5q", MISSING), ("stage", "I"))),)
    schema = replace(PLAIN, implications=declared)
    again = Schema.from_dict(schema.to_dict())
    assert again == schema
    assert again.hash == schema.hash != PLAIN.hash
    assert "implications" not in PLAIN.to_dict()
    assert (schema.difference(PLAIN) or "").startswith("implications")
    assert schema.select(("clinical",)).implications == (Implication(("karyotyped", 0), (("stage", "I"),)),)


@pytest.mark.parametrize(
    ("when", "then", "message"),
    [
        ({"eyes": 1}, {"del5q": 0}, "'eyes' is 1; there is no such feature"),
        ({"stage": "III"}, {"del5q": 0}, "one of I, II"),
        ({"del5q": 2}, {"stage": "I"}, "binary feature"),
        ({"del5q": True}, {"stage": "I"}, "use known, missing"),
        ({"del5q": 1}, {"blasts": "not found"}, "only a binary one"),
        ({"del5q": 1, "stage": "I"}, {"blasts": 3}, "`when` has one feature"),
        ({"del5q": 1}, {}, "one or more"),
    ],
)
def test_what_is_no_implication_is_refused(when: object, then: object, message: str) -> None:
    plain = {**PLAIN.to_dict(), "implications": [{"when": when, "then": then}]}
    with pytest.raises(SchemaError, match=message):
        Schema.from_dict(plain)


def test_a_lesion_needs_a_karyotype() -> None:
    schema = Dictionary.read("mds").schema()
    values = np.zeros((1, len(schema.features)))
    values[0, schema.index("complex_karyotype")] = np.nan
    values[0, schema.index("TP53multi")] = 1
    found, obeys = schema.obey(values)
    assert obeys.all()
    assert np.isnan(found[0, schema.index("del5q")])
    assert found[0, schema.index("TP53")] == 1
    assert not schema.obey(values, fixed=(schema.index("del5q"),))[1].any()


def test_a_leukaemia_is_of_one_allele_count_and_one_karyotype() -> None:
    schema = Dictionary.read("aml").schema()

    def patient(**known: float) -> tuple[dict[str, float], bool]:
        values = np.zeros((1, len(schema.features)))
        for name, value in known.items():
            values[0, schema.index(name)] = value
        found, obeys = schema.obey(values)
        return dict(zip(schema.names, found[0], strict=True)), bool(obeys[0])

    found, obeys = patient(CEBPA_mono=1, CEBPA_bi=1, minusY=1, t_8_21=1, complex=1)  # a woman
    assert obeys
    assert [found[name] for name in ("CEBPA_mono", "CEBPA_bi", "minusY", "t_8_21", "complex")] == [1, 0, 0, 1, 0]
    found, obeys = patient(CEBPA_bi=np.nan, t_v_11=np.nan, minus7=1)
    assert obeys
    assert np.isnan([found["CEBPA_mono"], found["plus13"]]).all()
    assert found["minus7"] == 1
    assert not patient(plus8_8q=np.nan)[1]  # a karyotype shows chromosome 8
