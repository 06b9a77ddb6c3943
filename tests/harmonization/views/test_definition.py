"""Mistakes in a ViewDefinition: each is one sentence with the place where it is."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from harmonization.views import ViewError, compile_view

Json = dict[str, Any]

GOOD: Json = {
    "resourceType": "ViewDefinition",
    "name": "good",
    "url": "http://example.org/good",
    "status": "active",
    "fhirVersion": ["4.0.1"],
    "resource": "Patient",
    "constant": [{"name": "use", "valueCode": "official"}],
    "where": [{"path": "active", "description": "only those"}],
    "select": [
        {"column": [{"name": "id", "path": "id", "type": "id", "tag": [{"name": "a", "value": "b"}]}]},
        {
            "forEach": "name.where(use = %use)",
            "column": [{"name": "family", "path": "family"}],
            "unionAll": [
                {"column": [{"name": "x", "path": "use", "type": "code"}]},
                {"forEach": "given", "column": [{"name": "x", "path": "$this"}]},
            ],
        },
    ],
}


def changed(*path: Any, to: Any = None) -> Json:
    """The good definition with one place changed, or taken out."""
    definition = copy.deepcopy(GOOD)
    at: Any = definition
    for key in path[:-1]:
        at = at[key]
    if to is None:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return definition


COLUMN, UNION = ("select", 0, "column", 0), ("select", 1, "unionAll")


def test_the_good_one_is_good() -> None:
    view = compile_view(GOOD)
    assert [c.name for c in view.columns] == ["id", "family", "x"]
    assert (view.name, view.resource) == ("good", "Patient")


@pytest.mark.parametrize(
    ("definition", "place", "words"),
    [
        (changed("resource"), "resource", "it is missing; give the type of resource"),
        (changed("resource", to=7), "resource", "it is 7"),
        (changed("resourceType", to="Patient"), "resourceType", "not a ViewDefinition"),
        (changed("select"), "select", "it is missing"),
        (changed("select", to=[]), "select", "it is missing"),
        (changed("select", to=GOOD["select"][0]), "select", "give a list"),
        (changed("select", to=[{"forEach": "name"}]), "select", "no columns"),
        (changed("select", 0, to="id"), "select[0]", "give an object"),
        (changed("where", to={"path": "active"}), "where", "give a list"),
        (changed("where", 0, "path"), "where[0].path", "it is missing; give a FHIRPath condition"),
        (changed("where", 0, "path", to="active ="), "where[0].path", "the expression ends"),
        (changed("wheres", to=[]), "wheres", "no such element"),
        (changed("select", 1, "foreach", to="name"), "select[1].foreach", "no such element"),
        (changed("select", 1, "forEach", to=1), "select[1].forEach", "it is 1; give a FHIRPath expression"),
        (changed("select", 1, "forEach", to="@@"), "select[1].forEach", "starts a date"),
        (changed("select", 1, "forEachOrNull", to="name"), "select[1]", "forEach and forEachOrNull; only one"),
        (changed("select", 1, "repeat", to=["name"]), "select[1]", "forEach and repeat; only one"),
        (changed("select", 0, "repeat", to=[]), "select[0].repeat", "it is empty"),
        (changed("select", 0, "repeat", to="item"), "select[0].repeat", "give a list"),
        (changed("select", 0, "repeat", to=["item", 3]), "select[0].repeat[1]", "it is 3"),
        (changed("select", 0, "repeat", to=["item", "a."]), "select[0].repeat[1]", "after the point"),
        (changed(*COLUMN, "name"), "select[0].column[0].name", "it is missing; give a name"),
        (changed(*COLUMN, "name", to="1st"), "select[0].column[0].name", "starts with a letter"),
        (changed(*COLUMN, "name", to="a b"), "select[0].column[0].name", "letters, digits and underscores only"),
        (changed(*COLUMN, "name", to="family"), "select[1].column[0].name", "'family' is there already"),
        (changed(*COLUMN, "path"), "select[0].column[0].path", "it is missing"),
        (changed(*COLUMN, "path", to="name..x"), "select[0].column[0].path", "after the point"),
        (changed(*COLUMN, "path", to="%nope"), "select[0].column[0].path", "no constant %nope; there are %use"),
        (changed(*COLUMN, "path", to="f()"), "select[0].column[0].path", "no function f()"),
        (changed(*COLUMN, "type", to=3), "select[0].column[0].type", "it is 3"),
        (changed(*COLUMN, "collection", to="yes"), "select[0].column[0].collection", "true or false"),
        (changed(*COLUMN, "tags", to=[]), "select[0].column[0].tags", "no such element"),
        (changed(*COLUMN, "tag", 0, "value"), "select[0].column[0].tag[0].value", "it is missing"),
        (
            changed(*UNION, 1, "column", 0, "name", to="y"),
            "select[1].unionAll[1]",
            "columns are y, those",
        ),
        (changed(*UNION, 1, "column", to=[]), "select[1].unionAll[1]", "columns are none"),
        (
            changed(*UNION, 0, "column", 0, "name", to="id"),
            "select[1].unionAll[0]",
            "'id' is there already",
        ),
        (
            changed(*UNION, 1, "column", 0, "type", to="string"),
            "select[1].unionAll[1].column[0].type",
            "'x' is string here and code in the union's first branch",
        ),
        (
            changed(*UNION, 1, "column", 0, "collection", to=True),
            "select[1].unionAll[1].column[0].collection",
            "in one branch of the union only",
        ),
        (changed("constant", 0, "valueCode"), "constant[0]", "needs one value, e.g. valueString; it has none"),
        (changed("constant", 0, "valueString", to="x"), "constant[0]", "valueCode and valueString"),
        (changed("constant", 0, "valueCode", to=7), "constant[0].valueCode", "7 is no code"),
        (changed("constant", 0, "name"), "constant[0].name", "it is missing"),
        (changed("constant", 0, "name", to="a-b"), "constant[0].name", "starts with a letter"),
        (changed("constant", 0, "name", to="rowIndex"), "constant[0].name", "%rowIndex is there already"),
        (changed("constant", 0, "valueQuantity", to={}), "constant[0].valueQuantity", "no such element"),
        (changed("constant", to=GOOD["constant"] * 2), "constant[1].name", "'use' is there already"),
        ({}, "resource", "it is missing"),
        ([], "", "give an object"),
        (None, "", "give an object"),
    ],
)
def test_a_mistake_is_named_with_its_place(definition: Any, place: str, words: str) -> None:
    with pytest.raises(ViewError) as caught:
        compile_view(definition)
    error = caught.value
    assert error.element.startswith(place)
    assert words in error.problem
    assert str(error).startswith("view 'good'" if isinstance(definition, dict) and definition else "view")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        *(
            (f"value{t}", "x", 1)
            for t in ("Base64Binary", "Canonical", "Code", "Id", "Oid", "String", "Uri", "Url", "Uuid")
        ),
        *((f"value{t}", "2020", 2020) for t in ("Date", "DateTime", "Instant", "Time")),
        *((f"value{t}", 3, "3") for t in ("Integer", "Integer64", "PositiveInt", "UnsignedInt")),
        *((f"value{t}", 3, True) for t in ("Integer", "PositiveInt", "Decimal")),
        ("valueDecimal", 1.5, "1.5"),
        ("valueDecimal", 1, None),
        ("valueBoolean", False, 0),
        ("valueBoolean", True, "true"),
    ],
)
def test_constants_of_every_type(key: str, good: Any, bad: Any) -> None:
    columns = [{"column": [{"name": "c", "path": "%k"}]}]
    view = {"resource": "Patient", "select": columns, "constant": [{"name": "k", key: good}]}
    assert compile_view(view).rows({"resourceType": "Patient"}) == [{"c": good}]
    with pytest.raises(ViewError, match=r"constant\[0\]"):
        compile_view({**view, "constant": [{"name": "k", key: bad}]})


def test_extensions_are_no_mistake() -> None:
    definition = changed("extension", to=[{"url": "u"}])
    definition["_name"] = {"id": "x"}
    definition["select"][0]["id"] = "s"
    definition["select"][0]["column"][0]["extension"] = []
    assert compile_view(definition).name == "good"


def test_the_error_survives_pickling() -> None:
    error = ViewError("a problem", "v", "select[0]", "Patient/1")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.element, again.resource) == (str(error), "select[0]", "Patient/1")
