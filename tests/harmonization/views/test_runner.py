"""What a view makes of resources: the processing algorithm of the specification, clause by clause."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonization.views import ViewError, compile_view

Json = dict[str, Any]

PATIENTS: list[Json] = [
    {
        "resourceType": "Patient",
        "id": "p1",
        "active": True,
        "gender": "female",
        "name": [{"family": "A", "given": ["x", "y"]}, {"family": "B"}],
        "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}],
        "contact": [{"telecom": [{"value": "3"}, {"value": "4"}]}],
    },
    {"resourceType": "Patient", "id": "p2", "active": False, "name": [{"family": "C", "given": ["z"]}]},
    {"resourceType": "Patient", "id": "p3"},
    {"resourceType": "Observation", "id": "o1"},
]


def column(name: str, path: str | None = None, type_: str | None = None, **more: Any) -> Json:
    return {"name": name, "path": path or name, **({"type": type_} if type_ else {}), **more}


def view(*select: Json, resource: str = "Patient", **more: Any) -> Json:
    return {"resourceType": "ViewDefinition", "name": "v", "resource": resource, "select": list(select), **more}


def rows(definition: Json, resources: list[Json] | None = None) -> list[tuple[Any, ...]]:
    """The rows as tuples, in the order of the columns."""
    compiled = compile_view(definition)
    names = [c.name for c in compiled.columns]
    found = list(compiled.run(PATIENTS if resources is None else resources))
    assert all(list(row) == names for row in found)
    return [tuple(row.values()) for row in found]


ID = {"column": [column("id")]}


# -- columns and selections ----------------------------------------------------------------------------------------


def test_one_row_for_each_resource_of_the_type() -> None:
    assert rows(view(ID)) == [("p1",), ("p2",), ("p3",)]
    assert rows(view(ID, resource="Observation")) == [("o1",)]
    assert rows(view(ID, resource="Device")) == []
    assert compile_view(view(ID)).rows({}) == []


def test_nested_and_sibling_selections_are_the_same_columns() -> None:
    expected = [(p, p) for p in ("p1", "p2", "p3")]
    a, b = {"column": [column("a", "id")]}, {"column": [column("b", "id")]}
    assert rows(view(a, b)) == expected
    assert rows(view({**a, "select": [b]})) == expected
    assert rows(view({"select": [a, b]})) == expected
    assert rows(view({"select": [{"select": [{"select": [a]}]}, b]})) == expected
    assert rows(view({**a, "select": [b]}, where=[{"path": "id = 'p1'"}])) == [("p1", "p1")]


def test_the_columns_are_known_beforehand_in_the_order_of_the_specification() -> None:
    definition = view(
        {
            "unionAll": [{"column": [column("e"), column("f")]}, {"column": [column("e"), column("f")]}],
            "select": [{"forEach": "name", "column": [column("c"), column("d")]}],
            "column": [
                column("a", "id", "http://hl7.org/fhir/StructureDefinition/id", description="the key"),
                column("b", "id", tag=[{"name": "ansi/type", "value": "CHARACTER"}]),
            ],
        },
        {"column": [column("g", collection=True)]},
    )
    columns = compile_view(definition).columns
    assert [c.name for c in columns] == list("abcdefg")
    assert (columns[0].type, columns[0].description) == ("id", "the key")
    assert columns[1].tags == (("ansi/type", "CHARACTER"),)
    assert [c.collection for c in columns] == [False] * 6 + [True]


# -- forEach, forEachOrNull, repeat --------------------------------------------------------------------------------


def test_for_each_is_an_inner_join_and_for_each_or_null_a_left_one() -> None:
    family = {"column": [column("family")]}
    assert rows(view(ID, {"forEach": "name", **family})) == [("p1", "A"), ("p1", "B"), ("p2", "C")]
    assert rows(view(ID, {"forEachOrNull": "name", **family}))[-1] == ("p3", None)
    assert rows(view({"forEach": "name", **family}, ID))[0] == ("A", "p1")
    assert rows(view(ID, {"forEach": "name.given", "column": [column("given", "$this")]})) == [
        ("p1", "x"),
        ("p1", "y"),
        ("p2", "z"),
    ]


def test_siblings_are_a_product_and_an_empty_one_leaves_nothing() -> None:
    name = {"forEach": "name", "column": [column("family")]}
    tel = {"forEach": "telecom", "column": [column("value")]}
    assert rows(view(name, tel)) == [("A", "1"), ("A", "2"), ("B", "1"), ("B", "2")]
    optional = {"forEachOrNull": "telecom", "column": [column("value")]}
    assert ("C", None) in rows(view(name, optional))
    assert len(rows(view(name, optional))) == 5


def test_nested_iterations_and_the_row_of_nothing() -> None:
    inner = {"forEachOrNull": "given", "column": [column("given", "$this"), column("i", "%rowIndex")]}
    definition = view(
        ID, {"forEachOrNull": "name", "column": [column("family"), column("j", "%rowIndex")], "select": [inner]}
    )
    assert rows(definition) == [
        ("p1", "A", 0, "x", 0),
        ("p1", "A", 0, "y", 1),
        ("p1", "B", 1, None, 0),
        ("p2", "C", 0, "z", 0),
        ("p3", None, 0, None, 0),
    ]


FORM: Json = {
    "resourceType": "QuestionnaireResponse",
    "id": "q",
    "item": [
        {"linkId": "1", "item": [{"linkId": "1.1", "answer": [{"valueString": "a", "item": [{"linkId": "1.1.1"}]}]}]},
        {"linkId": "2", "item": [{"linkId": "2.1"}]},
    ],
}


def test_repeat_goes_to_any_depth_each_node_before_those_below() -> None:
    links = {"column": [column("linkId"), column("i", "%rowIndex")]}
    both = view({"repeat": ["item", "answer.item"], **links}, resource="QuestionnaireResponse")
    assert rows(both, [FORM]) == [("1", 0), ("1.1", 1), ("1.1.1", 2), ("2", 3), ("2.1", 4)]
    one = view({"repeat": ["item"], **links}, resource="QuestionnaireResponse")
    assert [link for link, _ in rows(one, [FORM])] == ["1", "1.1", "2", "2.1"]
    answers = {"forEach": "answer", "column": [column("answer", "value.ofType(string)")]}
    nested = view({"repeat": ["item"], **links, "select": [answers]}, resource="QuestionnaireResponse")
    assert rows(nested, [FORM]) == [("1.1", 1, "a")]
    assert rows(view({"repeat": ["nothing"], **links}, resource="QuestionnaireResponse"), [FORM]) == []


def test_a_repeat_without_end_is_an_error() -> None:
    with pytest.raises(ViewError, match="come to no end"):
        rows(view({"repeat": ["$this"], "column": [column("id")]}))


def test_the_row_index_of_each_level_is_its_own() -> None:
    definition = view(
        {"column": [column("top", "%rowIndex")]},
        {
            "forEach": "contact.telecom",
            "column": [column("i", "%rowIndex"), column("next", "%rowIndex + 1"), column("id", "%resource.id")],
        },
    )
    assert rows(definition) == [(0, 0, 1, "p1"), (0, 1, 2, "p1")]


# -- unionAll ------------------------------------------------------------------------------------------------------


def test_a_union_concatenates_and_keeps_duplicates() -> None:
    tel = {"forEach": "telecom", "column": [column("value")]}
    contact = {"forEach": "contact.telecom", "column": [column("value")]}
    once = [("p1", "1"), ("p1", "2")]
    assert rows(view(ID, {"unionAll": [tel, contact]})) == [*once, ("p1", "3"), ("p1", "4")]
    assert rows(view({**ID, "unionAll": [tel, contact]})) == [*once, ("p1", "3"), ("p1", "4")]
    assert rows(view({**ID, "unionAll": [tel, tel]})) == once * 2
    nested = view(ID, {"unionAll": [tel, {"unionAll": [contact, {"select": [tel]}]}]})
    assert rows(nested) == [*once, ("p1", "3"), ("p1", "4"), *once]
    inside = view({"forEach": "contact", "column": [column("i", "%rowIndex")], "unionAll": [tel, tel]})
    assert rows(inside) == [(0, "3"), (0, "4")] * 2


def test_a_branch_without_iteration_has_the_index_around_it() -> None:
    branches = [
        {"forEach": "given", "column": [column("i", "%rowIndex"), column("value", "$this")]},
        {"column": [column("i", "%rowIndex"), column("value", "family")]},
    ]
    definition = view({"forEach": "name", "select": [{"unionAll": branches}]})
    assert rows(definition, PATIENTS[:1]) == [(0, "x"), (1, "y"), (0, "A"), (1, "B")]


# -- where, constants ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["active"], ["p1"]),
        (["active.not()"], ["p2"]),
        (["active.exists().not()"], ["p3"]),
        (["name.exists()", "gender = 'female'"], ["p1"]),
        (["gender = 'female' or active = false"], ["p1", "p2"]),
        (["gender = 'female' and active = true"], ["p1"]),
        (["(gender = 'female').not()"], []),  # unknown where there is no gender
        (["name.where(family = 'C').empty()"], ["p1", "p3"]),
        (["{}"], []),
        (["true"], ["p1", "p2", "p3"]),
    ],
)
def test_where(conditions: list[str], expected: list[str]) -> None:
    found = rows(view(ID, where=[{"path": path, "description": "why"} for path in conditions]))
    assert found == [(id_,) for id_ in expected]


def test_where_must_be_boolean() -> None:
    with pytest.raises(ViewError, match=r"view 'v', where\[1\].path, Patient/p1: the condition gives 'A'"):
        rows(view(ID, where=[{"path": "true"}, {"path": "name.first().family"}]))
    with pytest.raises(ViewError, match="2 values where one is needed"):
        rows(view(ID, where=[{"path": "name.family"}]))


def test_constants_everywhere() -> None:
    constants = [
        {"name": "who", "valueId": "p1"},
        {"name": "which", "valueInteger": 1},
        {"name": "big", "valueInteger64": 2},
        {"name": "kind", "valueCode": "phone"},
        {"name": "day", "valueDate": "2020-01"},
        {"name": "yes", "valueBoolean": True},
        {"name": "half", "valueDecimal": 0.5},
    ]
    definition = view(
        {"column": [column("second", "name[%which].family"), column("day", "%day"), column("sum", "%half + %big")]},
        {"forEach": "telecom.where(system = %kind)", "column": [column("value")]},
        where=[{"path": "id = %who and active = %yes"}],
        constant=constants,
    )
    assert rows(definition) == [("B", "2020-01", 2.5, "1")]
    dated = view({"column": [column("known", "birthDate > %day")]}, constant=constants)
    births = [{"resourceType": "Patient", "birthDate": b} for b in ("2020-01-02", "2020-02", "2019")]
    assert rows(dated, births) == [(None,), (True,), (False,)]


# -- values and types ----------------------------------------------------------------------------------------------


def test_collections() -> None:
    definition = view({"column": [column("id"), column("given", "name.given", "string", collection=True)]})
    assert rows(definition) == [("p1", ["x", "y"]), ("p2", ["z"]), ("p3", [])]


def test_several_values_for_one_cell_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ViewError) as caught:
        rows(view({"column": [column("id"), column("family", "name.family", "string", collection=False)]}))
    assert str(caught.value) == (
        "view 'v', select[0].column[1], Patient/p1: column 'family': FHIRPath 'name.family', character 6: "
        "2 values where one is needed ('A', 'B'); take first() or use where(); or set collection to true"
    )


@pytest.mark.parametrize(
    ("path", "type_", "found"),
    [
        ("id", "integer", "'p1'"),
        ("active", "string", "True"),
        ("active", "integer", "True"),
        ("name.count()", "string", "2"),
        ("name.count() / 2", "integer", "1.0"),
        ("name.first()", "string", "an object"),
        ("name.first()", None, "an object"),
        ("id", "HumanName", "'p1'"),
        ("id", "boolean", "'p1'"),
        ("gender", "decimal", "'female'"),
    ],
)
def test_a_value_that_is_not_of_its_columns_type_is_an_error(path: str, type_: str | None, found: str) -> None:
    for collection in (False, True):
        with pytest.raises(ViewError, match=r"select\[0\].column\[0\], Patient/p1: column 'c'") as caught:
            rows(view({"column": [column("c", path, type_, collection=collection)]}))
        assert found in str(caught.value)


@pytest.mark.parametrize(
    ("path", "type_", "expected"),
    [
        ("id", "id", "p1"),
        ("id", "http://hl7.org/fhir/StructureDefinition/string", "p1"),
        ("active", "boolean", True),
        ("name.count()", "integer", 2),
        ("name.count()", "decimal", 2),
        ("1.5", "decimal", 1.5),
        ("name[1]", "HumanName", {"family": "B"}),
        ("name[1]", "Patient.name", {"family": "B"}),
        ("id", None, "p1"),
        ("name.count()", None, 2),
        ("nothing", "integer", None),
    ],
)
def test_values_are_as_in_json(path: str, type_: str | None, expected: Any) -> None:
    found = rows(view({"column": [column("c", path, type_)]}), PATIENTS[:1])
    assert found == [(expected,)]
    assert type(found[0][0]) is type(expected)


def test_decimals_keep_their_digits_if_the_parser_keeps_them() -> None:
    text = b'{"resourceType": "Observation", "valueQuantity": {"value": 1.10}}'
    definition = view(
        {
            "column": [
                column("value", "value.ofType(Quantity).value", "decimal"),
                column("low", "value.ofType(Quantity).value.lowBoundary()", "decimal"),
                column("sum", "value.ofType(Quantity).value + 0.1", "decimal"),
            ]
        },
        resource="Observation",
    )
    assert rows(definition, [orjson.loads(text)]) == [(1.1, 1.05, 1.2)]
    kept = rows(definition, [json.loads(text, parse_float=Decimal)])
    assert kept == [(Decimal("1.10"), Decimal("1.095"), Decimal("1.20"))]


def test_keys_join_a_resource_and_its_references() -> None:
    patient = view({"column": [column("key", "getResourceKey()")]})
    observation = view({"column": [column("key", "subject.getReferenceKey(Patient)", "id")]}, resource="Observation")
    subjects = [{"reference": "Patient/p1"}, {"reference": "Group/p1"}, {"display": "somebody"}]
    observed = rows(observation, [{"resourceType": "Observation", "subject": subject} for subject in subjects])
    assert observed == [rows(patient)[0], (None,), (None,)]
    with pytest.raises(ViewError, match=r"outside forEach and repeat"):
        rows(view({"forEach": "name", "column": [column("key", "getResourceKey()")]}))


def test_an_error_names_the_iteration_in_which_it_is() -> None:
    with pytest.raises(ViewError, match=r"select\[0\].select\[0\].forEach, Patient/p1: .*2 values"):
        rows(
            view(
                {
                    **ID,
                    "select": [
                        {
                            "forEach": "telecom.where(%resource.name.family > value)",
                            "column": [column("value")],
                        }
                    ],
                }
            )
        )


def test_a_resource_and_the_definition_stay_as_they_are() -> None:
    definition = view(ID, {"forEachOrNull": "name", "column": [column("given", collection=True)]})
    before = json.dumps([definition, PATIENTS])
    for row in compile_view(definition).run(PATIENTS):
        row["id"] = "changed"
    assert json.dumps([definition, PATIENTS]) == before


def test_a_view_can_be_sent_to_another_process() -> None:
    compiled = compile_view(view(ID, {"forEach": "name", "column": [column("family")]}))
    again = pickle.loads(pickle.dumps(compiled))
    assert again.rows(PATIENTS[0]) == compiled.rows(PATIENTS[0])


# -- against the algorithm as it is written ------------------------------------------------------------------------

_PATHS = st.sampled_from(["name", "telecom", "contact", "contact.telecom", "name.given", "nothing", "$this"])


@st.composite
def _selects(draw: st.DrawFn, depth: int = 2) -> Json:
    select: Json = {}
    iteration = draw(st.sampled_from(["", "", "forEach", "forEachOrNull", "repeat"]))
    if iteration:
        path = draw(_PATHS)
        select[iteration] = (
            [draw(st.sampled_from(["name", "contact", "telecom", "nothing"]))] if iteration == "repeat" else path
        )
    select["column"] = [
        {"path": draw(st.sampled_from(["%rowIndex", "'x'", "name.count()", "%resource.id", "value.first()"]))}
        for _ in range(draw(st.integers(0, 2)))
    ]
    if depth:
        select["select"] = draw(st.lists(_selects(depth - 1), max_size=2))
        if draw(st.booleans()):
            branch = draw(_selects(0))
            select["unionAll"] = (
                [branch, {**branch, "forEach": "telecom"}] if set(branch) == {"column"} else [branch, branch]
            )
    return select


def _named(select: Json, names: Any, fixed: list[str] | None = None) -> Json:
    """The selection with a name for each column; the branches of a union share theirs."""
    given = iter(fixed) if fixed is not None else names
    named = {**select, "column": [{**c, "name": next(given)} for c in select["column"]]}
    named["select"] = [_named(s, names) for s in select.get("select", [])]
    if "unionAll" in select:
        shared = [next(names) for _ in select["unionAll"][0]["column"]]
        named["unionAll"] = [_named(s, names, shared) for s in select["unionAll"]]
    return {k: v for k, v in named.items() if v}


def _process(select: Json, node: Any, resource: Json, index: int) -> list[Json]:
    """``Process(S, N)``, transcribed from the specification with the paths of these tests spelt out."""

    def evaluate(path: str, focus: Any, i: int) -> list[Any]:
        if path in ("%rowIndex", "'x'", "%resource.id", "$this"):
            return [{"%rowIndex": i, "'x'": "x", "%resource.id": resource["id"], "$this": focus}[path]]
        if path == "name.count()":
            return [len(evaluate("name", focus, i))]
        if path == "value.first()":
            return evaluate("value", focus, i)[:1]
        found = [focus]
        for name in path.split("."):
            found = [v for f in found if isinstance(f, dict) for v in _listed(f.get(name))]
        return found

    if "repeat" in select:
        foci: list[Any] = []

        def traverse(at: Any, root: bool) -> None:
            if not root:
                foci.append(at)
            for path in select["repeat"]:
                for child in evaluate(path, at, index):
                    traverse(child, False)

        traverse(node, True)
    elif "forEach" in select or "forEachOrNull" in select:
        foci = evaluate(select.get("forEach", select.get("forEachOrNull")), node, index)
    else:
        foci = [node]
    iterates = {"repeat", "forEach", "forEachOrNull"} & select.keys()
    emitted = []
    for i, focus in enumerate(foci):
        at = i if iterates else index
        parts = [[{c["name"]: next(iter(evaluate(c["path"], focus, at)), None)}] for c in select.get("column", [])]
        parts += [_process(s, focus, resource, at) for s in select.get("select", [])]
        if "unionAll" in select:
            parts.append([row for s in select["unionAll"] for row in _process(s, focus, resource, at)])
        product: list[Json] = [{}]
        for part in parts:
            product = [{**a, **b} for a in product for b in part]
        emitted += product
    if not foci and "forEachOrNull" in select:
        emitted.append({c["name"]: 0 if c["path"] == "%rowIndex" else None for c in _columns(select)})
    return emitted


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _columns(select: Json) -> list[Json]:
    found = list(select.get("column", []))
    for nested in select.get("select", []):
        found += _columns(nested)
    return found + (_columns(select["unionAll"][0]) if "unionAll" in select else [])


@settings(deadline=None)
@given(st.lists(_selects(), min_size=1, max_size=2))
def test_any_view_gives_the_rows_of_the_specifications_algorithm(selects: list[Json]) -> None:
    names = (f"c{i}" for i in range(1000))
    named = [_named(select, names) for select in [{"column": [{"path": "%rowIndex"}]}, *selects]]
    compiled = compile_view(view(*named))
    assert [c.name for c in compiled.columns] == [c["name"] for c in _columns({"select": named})]
    for patient in PATIENTS[:3]:
        assert compiled.rows(patient) == _process({"select": named}, patient, patient, 0)
