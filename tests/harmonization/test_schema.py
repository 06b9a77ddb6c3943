"""The schema: what it refuses, and that equal schemas, and only these, have equal hashes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonization import CohortError, Feature, Schema, SchemaError

AGE = Feature("age", "continuous", unit="years", low=0, high=120, reference=60)
STAGE = Feature("stage", "categorical", categories=("I", "II"))
TP53 = Feature("TP53", "binary", "genomic")
SCHEMA = Schema("demo", "1", (AGE, STAGE, TP53), (Feature("points", "count", low=0, high=4),))

YAML = """
name: demo
version: "1"
features:
  - {name: age, kind: continuous, unit: years, low: 0, high: 120, reference: 60}
  - {name: stage, kind: categorical, categories: [I, II]}
  - {name: TP53, kind: binary, modality: genomic}
scores:
  - {name: points, kind: count, low: 0, high: 4}
"""


def test_yaml_equals_code(tmp_path: Path) -> None:
    (tmp_path / "demo.schema.yaml").write_text(YAML)
    read = Schema.read(tmp_path / "demo.schema.yaml")
    assert read == SCHEMA
    assert read.hash == SCHEMA.hash


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_writing_keeps_the_hash(
    tmp_path_factory: pytest.TempPathFactory, schemas: st.SearchStrategy[Schema], data: st.DataObject
) -> None:
    schema = data.draw(schemas)
    path = tmp_path_factory.mktemp("schema") / "a.yaml"
    schema.write(path)
    read = Schema.read(path)
    assert read == schema
    assert read.hash == schema.hash
    assert read.difference(schema) is None
    assert pickle.loads(pickle.dumps(schema)).hash == schema.hash


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_hash_and_difference_agree(schemas: st.SearchStrategy[Schema], data: st.DataObject) -> None:
    one, other = data.draw(schemas), data.draw(schemas)
    assert (one.hash == other.hash) == (one.difference(other) is None) == (one == other)


def test_edges_are_part_of_the_schema_where_there_are_any(tmp_path: Path) -> None:
    counted = replace(SCHEMA, features=(replace(AGE, edges=(50, 64.5)), STAGE, TP53))
    assert counted.hash != SCHEMA.hash
    assert "edges" not in str(SCHEMA.to_dict())  # and so older schemas keep their hash
    assert counted.difference(SCHEMA) == "'age': edges is (50.0, 64.5) here and () there"
    counted.write(tmp_path / "a.yaml")
    assert Schema.read(tmp_path / "a.yaml") == counted
    for feature, edges in ((AGE, (50, 40)), (AGE, (50, 50)), (STAGE, (1,))):
        with pytest.raises(SchemaError, match=rf"'{feature.name}': edges are .*; they increase, and are of numbers"):
            replace(feature, edges=edges)
    with pytest.raises(SchemaError, match="'age': edges"):
        replace(AGE, edges=("old",))


def test_integer_and_float_limits_are_the_same_limit() -> None:
    other = replace(SCHEMA, features=(replace(AGE, low=0.0, high=120.0, reference=60.0), STAGE, TP53))
    assert other.hash == SCHEMA.hash


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(SCHEMA, version="2"), "version is '1' here and '2' there"),
        (replace(SCHEMA, time_unit="days"), "time_unit is 'years' here and 'days' there"),
        (replace(SCHEMA, endpoint="relapse"), "endpoint"),
        (replace(SCHEMA, features=(AGE, STAGE)), "features: 'TP53' exists here only"),
        (replace(SCHEMA, features=(*SCHEMA.features, Feature("NPM1", "binary"))), "features: 'NPM1' exists there only"),
        (replace(SCHEMA, features=(STAGE, AGE, TP53)), "features are in another order"),
        (replace(SCHEMA, features=(replace(AGE, unit="months"), STAGE, TP53)), "'age': unit is 'years' here"),
        (replace(SCHEMA, features=(AGE, replace(STAGE, categories=("II", "I")), TP53)), "'stage': categories"),
        (replace(SCHEMA, features=(AGE, STAGE, replace(TP53, modality="clinical"))), "'TP53': modality"),
        (replace(SCHEMA, scores=()), "scores: 'points' exists here only"),
    ],
)
def test_difference_is_named(other: Schema, named: str) -> None:
    assert other.hash != SCHEMA.hash
    assert named in str(SCHEMA.difference(other))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("name: demo -> name: 5", "schema 5: name is 5"),
        ('version: "1" -> version: 1.0', "version is 1.0; it must be text"),
        ("kind: continuous -> kind: real", "feature 'age': kind is 'real'; use one of continuous"),
        ("modality: genomic -> modality: omics", "feature 'TP53': modality is 'omics'"),
        ("name: TP53 -> name: age", "two columns are called 'age'"),
        ("name: TP53 -> name: time", "'time', which every table has"),
        ("name: TP53 -> name: no", "a feature's name is False; it must be text"),
        ("categories: [I, II] -> categories: [yes, no]", "feature 'stage': a category is True"),
        ("categories: [I, II] -> categories: [1, 2]", "feature 'stage': a category is 1; it must be text"),
        ("categories: [I, II] -> categories: [I, I]", "feature 'stage': a category is listed twice"),
        ("categories: [I, II] -> categories: []", "feature 'stage': categories are for categorical"),
        ("categories: [I, II] -> categories: I II", "'I II' is not a list"),
        ("high: 120 -> high: 1e2", "feature 'age': high is '1e2'; it must be a finite number"),
        ("high: 120 -> high: .inf", "feature 'age': high is inf"),
        ("low: 0, high: 120 -> low: 120, high: 0", "feature 'age': low 120.0 is above high 0.0"),
        ("unit: years -> units: years", "units"),
        ("scores: -> comparators:", "comparators"),
        ("name: demo -> [", "not YAML"),
        ("name: demo -> name: demo\ntime_unit: weeks", "time_unit is 'weeks'; use one of days"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, change: str, named: str) -> None:
    old, new = change.split(" -> ")
    path = tmp_path / "demo.schema.yaml"
    assert YAML.count(old) >= 1
    path.write_text(YAML.replace(old, new, 1))
    with pytest.raises(SchemaError) as caught:
        Schema.read(path)
    assert str(path) in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "5", "features: 3", "name: x\nversion: 'y'\nfeatures: []"])
def test_what_is_not_a_schema_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(SchemaError, match=r"a\.yaml"):
        Schema.read(path)


def test_a_file_that_is_missing_or_binary_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"nothing\.yaml.*write one beside the table"):
        Schema.read(tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SchemaError, match=r"binary\.yaml"):
        Schema.read(tmp_path / "binary.yaml")


def test_select_keeps_order_and_scores() -> None:
    genomic = SCHEMA.select(("genomic",))
    assert genomic.names == ("TP53",)
    assert genomic.scores == SCHEMA.scores
    with pytest.raises(SchemaError, match="has no features"):
        SCHEMA.select(("radiology",))
    with pytest.raises(SchemaError, match="no feature 'NPM1'"):
        SCHEMA.index("NPM1")


def test_errors_survive_a_process_boundary() -> None:
    error = CohortError("too old", source="a.csv", row=3, column="age", value=130.0)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "a.csv, row 3, column 'age', value 130.0: too old"
    assert (copy.source, copy.row, copy.column, copy.value) == ("a.csv", 3, "age", 130.0)


def test_causes_are_part_of_the_hash_only_where_there_are_any() -> None:
    # The hash that centers without causes have agreed upon.
    assert Schema("demo", "1", (TP53,)).hash == "c97f2381c2bce99c02ef96fea3ed1918cb54cfa16e72d18e3ff4a75de2b45c32"
    assert "causes" not in SCHEMA.to_dict()
    several = replace(SCHEMA, causes=("relapse", "death"))
    assert Schema.from_dict(several.to_dict()) == several
    assert several.hash != SCHEMA.hash
    assert several.difference(SCHEMA) == "causes is ('relapse', 'death') here and () there"
    assert several.hash != replace(SCHEMA, causes=("death", "relapse")).hash


@pytest.mark.parametrize("causes", [("death",), ("death", "death"), ("death", " "), ("death", 1), "death"])
def test_causes_are_two_names_or_more(causes: object) -> None:
    with pytest.raises(SchemaError, match=r"a cause is|causes are|'death' is not a list"):
        Schema.from_dict({**SCHEMA.to_dict(), "causes": causes})
