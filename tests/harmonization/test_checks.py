"""Checks: every valid example passes, and every fault that is put into one is found with its path."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harmonization.checks import UCUM, check, references, surely_before
from harmonization.r4 import BINDINGS, RESOURCES, TYPES, elements
from tests.harmonization.fhir_examples import NOT_VALID, Examples, examples, is_valid

HAEMOGLOBIN: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "hb",
    "status": "final",
    "category": [
        {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}
    ],
    "code": {"coding": [{"system": "http://loinc.org", "code": "718-7", "display": "Hemoglobin"}]},
    "subject": {"reference": "Patient/p1"},
    "effectiveDateTime": "2021-03-05T08:30:00+01:00",
    "issued": "2021-03-05T12:00:00.000Z",
    "valueQuantity": {"value": 9.8, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
}


@pytest.fixture(scope="module")
def fhir(data_dir: Path) -> Examples:
    if not (data_dir / "fhir").is_dir():
        pytest.skip(f"no fhir in {data_dir}")
    return examples(data_dir / "fhir")


def broken(resource: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with a value put at a path such as ``component[1].code`` (None takes it away)."""
    copied = copy.deepcopy(resource)
    at: Any = copied
    *steps, last = [int(s) if s.isdigit() else s for s in path.replace("[", ".").replace("]", "").split(".")]
    for step in steps:
        at = at[step]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return copied


def found(resource: dict[str, Any]) -> list[tuple[str, str]]:
    return [(problem.path.partition(".")[2], problem.kind) for problem in check(resource)]


# -- valid ones pass


def test_every_valid_example_passes(fhir: Examples) -> None:
    assert len(fhir) > 7200
    refused = {f"{one.file}:{one.line} {one.path}": check(one.resource) for one in fhir if is_valid(one)}
    assert {place: problems for place, problems in refused.items() if problems} == {}


def test_examples_that_are_not_valid_are_found_out(fhir: Examples) -> None:
    seen = {}
    for one in fhir:
        if not is_valid(one):
            (problem,) = check(one.resource)
            seen[Path(one.file).name] = (problem.path, problem.value)
    assert seen == NOT_VALID


def test_a_laboratory_value_passes() -> None:
    assert check(HAEMOGLOBIN) == []


# -- seeded faults


@pytest.mark.parametrize(
    ("path", "value", "at", "kind"),
    [
        ("status", "banana", "status", "binding"),
        ("status", None, "status", "structure"),
        ("status", "", "status", "binding"),
        ("code", None, "code", "structure"),
        ("code", {}, "code", "structure"),
        ("code.coding", [], "code.coding", "structure"),
        ("code.coding[0].code", " 718-7", "code.coding[0].code", "structure"),
        ("code.text", 5, "code.text", "structure"),
        ("id", "a b", "id", "structure"),
        ("id", "x" * 65, "id", "structure"),
        ("valueQuantity.code", "K/uL", "valueQuantity.code", "unit"),
        ("valueQuantity.code", "G/L", "valueQuantity.code", "unit"),
        ("valueQuantity.code", "gramm", "valueQuantity.code", "unit"),
        ("valueQuantity.system", None, "valueQuantity.system", "invariant"),
        ("valueQuantity.comparator", "~", "valueQuantity.comparator", "binding"),
        ("valueQuantity.value", "9.80", "valueQuantity.value", "structure"),
        ("valueQuantity.value", "9,8", "valueQuantity.value", "structure"),
        ("valueString", "9.8", "valueString", "structure"),
        ("dataAbsentReason", {"text": "unknown"}, "dataAbsentReason", "invariant"),
        ("effectiveDateTime", "2021-02-30", "effectiveDateTime", "date"),
        ("effectiveDateTime", "2021-02-30T08:30:00Z", "effectiveDateTime", "date"),
        ("effectiveDateTime", "2021-13", "effectiveDateTime", "date"),
        ("effectiveDateTime", "0000-01-01", "effectiveDateTime", "date"),
        ("effectiveDateTime", "0001-01-01T00:00:00Z", "effectiveDateTime", "date"),
        ("effectiveDateTime", "9999-12-31", "effectiveDateTime", "date"),
        ("effectiveDateTime", "05.03.2021", "effectiveDateTime", "date"),
        ("effectiveDateTime", "20210305", "effectiveDateTime", "date"),
        ("effectiveDateTime", "2021-03-05T08:30:00", "effectiveDateTime", "date"),
        ("effectiveDateTime", "2021-03-05 08:30:00Z", "effectiveDateTime", "date"),
        ("effectiveDateTime", "2021-03-05T08:30Z", "effectiveDateTime", "date"),
        ("effectiveDateTime", "2021-W09-5", "effectiveDateTime", "date"),
        ("effectiveDateTime", 20210305, "effectiveDateTime", "date"),
        ("issued", "2021-03-05", "issued", "date"),
        ("subject.reference", "Patient", "subject.reference", "reference"),
        ("subject.reference", "patient/p1", "subject.reference", "reference"),
        ("subject.reference", "Patinet/p1", "subject.reference", "reference"),
        ("subject.reference", "#p1", "subject.reference", "reference"),
        ("subject.reference", "Transport/1", "subject.reference", "reference"),  # of R5
        ("triggeredBy", [{"type": "reflex"}], "triggeredBy", "version"),
        ("bodyStructure", {"reference": "BodyStructure/1"}, "bodyStructure", "version"),
        ("subject.foo", 1, "subject.foo", "version"),
        ("identifier", [{"system": "u:a", "value": "1"}] * 2, "identifier[1].value", "duplicate"),
        ("extension", [{"valueString": "x"}], "extension[0].url", "structure"),
        ("extension", [{"url": "u", "valueInteger64": "1"}], "extension[0].valueInteger64", "version"),
        ("contained", [{"resourceType": "Transport"}], "contained[0].resourceType", "version"),
        ("component", [{"valueInteger": 1}], "component[0].code", "structure"),
        ("meta", {"lastUpdated": "2021"}, "meta.lastUpdated", "date"),
        ("text", {"status": "good", "div": "<div/>"}, "text.status", "binding"),
        ("resourceType", "Observatoin", "resourceType", "version"),
        ("resourceType", None, "", "structure"),
    ],
)
def test_a_fault_in_a_laboratory_value_is_found(path: str, value: Any, at: str, kind: str) -> None:
    faults = found(broken(HAEMOGLOBIN, path, value))
    assert (at, kind) in faults or (path == "resourceType" and faults)


def test_what_has_happened_lies_not_ahead() -> None:
    ahead = (date.today() + timedelta(days=3)).isoformat()
    assert found(broken(HAEMOGLOBIN, "effectiveDateTime", ahead)) == [("effectiveDateTime", "date")]
    assert found(broken(HAEMOGLOBIN, "effectiveDateTime", date.today().isoformat())) == []
    planned = {"resourceType": "Procedure", "status": "preparation", "subject": {"reference": "Patient/p1"}}
    assert found({**planned, "performedDateTime": ahead}) == []
    assert found({**planned, "status": "completed", "performedDateTime": ahead}) == [("performedDateTime", "date")]


@pytest.mark.parametrize(
    ("resource", "at"),
    [
        ({"resourceType": "Patient", "birthDate": "1950-05-02", "deceasedDateTime": "1949"}, "deceasedDateTime"),
        ({"resourceType": "Patient", "birthDate": "1950-05-02", "deceasedDateTime": "1950-05-01"}, "deceasedDateTime"),
        (
            {
                "resourceType": "Condition",
                "subject": {"reference": "Patient/1"},
                "onsetDateTime": "2020-05",
                "abatementDateTime": "2020-04-30",
            },
            "abatementDateTime",
        ),
        (
            {
                "resourceType": "Encounter",
                "status": "finished",
                "class": {"code": "AMB"},
                "period": {"start": "2020-05-01T12:00:00+02:00", "end": "2020-05-01T09:30:00Z"},
            },
            "period.end",
        ),
    ],
)
def test_reversed_dates(resource: dict[str, Any], at: str) -> None:
    assert found(resource) == [(at, "date")]


def test_vital_signs_have_the_units_of_their_profile() -> None:
    pulse = broken(HAEMOGLOBIN, "code.coding[0].code", "8867-4")
    assert found(pulse) == [("valueQuantity.code", "binding")]
    assert found(broken(pulse, "valueQuantity.code", "/min")) == []


def test_estimated_filtration_rate_has_a_unit() -> None:
    assert found(broken(HAEMOGLOBIN, "valueQuantity.code", "mL/min/{1.73_m2}")) == []


def test_a_contained_resource_is_found() -> None:
    inside = broken(HAEMOGLOBIN, "contained", [{"resourceType": "Patient", "id": "p1"}])
    assert found(broken(inside, "subject.reference", "#p1")) == []
    assert found(broken(inside, "subject.reference", "#p2")) == [("subject.reference", "reference")]


def test_a_value_may_be_missing_with_a_reason() -> None:
    no_birth: dict[str, Any] = {
        "resourceType": "Patient",
        "_birthDate": {"extension": [{"url": "u", "valueCode": "unknown"}]},
    }
    assert check(no_birth) == []
    assert check(broken(no_birth, "_birthDate.extension[0].url", None))[0].path == "Patient._birthDate.extension[0].url"
    names = {"resourceType": "Patient", "name": [{"given": [None, "Ada"], "_given": [{"id": "a"}, None]}]}
    assert check(names) == []


def test_a_bundle_names_each_address_once() -> None:
    entry = {"fullUrl": "urn:uuid:5b1a1f1e-0000-4000-8000-000000000001", "resource": {"resourceType": "Patient"}}
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "collection", "entry": [entry, entry]}
    assert found(bundle) == [("entry[1].fullUrl", "duplicate")]
    assert found(broken(bundle, "type", "bundel")) == [("type", "binding")]


def test_nothing_but_a_resource_passes() -> None:
    assert check([]) != []  # type: ignore[arg-type]
    assert check({}) != []
    deep: dict[str, Any] = {"url": "u"}
    for _ in range(900):
        deep = {"url": "u", "extension": [deep]}
    assert check({"resourceType": "Patient", "extension": [deep]})[0].reason == "nested too deeply"


# -- faults seeded into the examples, wherever they can be


def typed(kind: str, value: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """Path, type and binding of every value in a resource, by the tables."""
    known = {name: (element, of) for element in elements(kind) for name, of in element.json_names.items()}
    for name, content in value.items():
        if name not in known:
            continue
        element, of = known[name]
        for i, one in enumerate(content if element.repeats else [content]):
            at = f"{path}{name}[{i}]" if element.repeats else f"{path}{name}"
            yield at, of, element.binding
            if of in TYPES and isinstance(one, dict):
                yield from typed(of, one, f"{at}.")


FAULTS: dict[str, tuple[Callable[[str, str], bool], Any, str]] = {
    "binding": (lambda of, binding: bool(binding) and of == "code", "banana", "binding"),
    "date": (lambda of, _: of in ("date", "dateTime", "instant"), "2021-02-30", "date"),
    "year": (lambda of, _: of in ("date", "dateTime", "instant"), "0000-01-01", "date"),
    "far": (lambda of, _: of in ("date", "dateTime", "instant"), "2917-04-05", "date"),
    "reference": (lambda of, _: of == "reference", "Patinet/1", "reference"),
    "contained": (lambda of, _: of == "reference", "#nobody", "reference"),
    "decimal": (lambda of, _: of == "decimal", "1.10", "structure"),
    "version": (lambda of, _: of in TYPES, {"ofR5": True}, "version"),
    "unit": (lambda of, _: of == "Quantity", {"value": 1, "system": UCUM, "code": "K/uL"}, "unit"),
    "any": (lambda *_: True, 0, "structure"),
}
JUNK = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner | st.none(), max_size=2) | st.dictionaries(st.sampled_from(["code", "reference", "id"]), inner)
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def places(fhir: Examples) -> Callable[[int, str], list[tuple[str, str, str]]]:
    """Path, type and binding of the values in an example, by its number; only of the types that are read."""

    @cache
    def of_example(i: int, matching: str) -> list[tuple[str, str, str]]:
        resource = fhir[i].resource
        return [place for place in typed(resource["resourceType"], resource, "") if FAULTS[matching][0](*place[1:])]

    return of_example


@pytest.fixture(scope="module")
def usable(fhir: Examples) -> list[int]:
    found = [i for i, one in enumerate(fhir) if is_valid(one) and one.resource["resourceType"] in RESOURCES]
    return found[::7]  # every type is among them


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_fault_put_anywhere_into_a_valid_example_is_found_at_its_place(
    fhir: Examples, usable: list[int], places: Any, data: st.DataObject
) -> None:
    i = data.draw(st.sampled_from(usable))
    fault = data.draw(st.sampled_from(sorted(FAULTS.keys() - {"any"})))
    _, value, kind = FAULTS[fault]
    where = [at for at, _, _ in places(i, fault)]
    assume(where)
    at = data.draw(st.sampled_from(where))
    expected = {"version": f"{at}.ofR5", "unit": f"{at}.code"}.get(kind, at)
    assert (expected, kind) in found(broken(fhir[i].resource, at, value))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_resource_it_is_checked(
    fhir: Examples, usable: list[int], places: Any, data: st.DataObject
) -> None:
    i = data.draw(st.sampled_from(usable))
    at, _, _ = data.draw(st.sampled_from(places(i, "any")))
    check(broken(fhir[i].resource, at, data.draw(JUNK)))


# -- dates, references, speed


@pytest.mark.parametrize(
    ("first", "second", "before"),
    [
        ("2020", "2021", True),
        ("2020", "2020-05-03", False),
        ("2020-05-03", "2020", False),
        ("2020-04", "2020-05-03", True),
        ("2020-05-02", "2020-05-03", True),
        ("2020-05-03", "2020-05-03", False),
        ("2020-05-03T10:00:00Z", "2020-05-03T10:00:01Z", True),
        ("2020-05-03T10:00:00+02:00", "2020-05-03T09:00:00Z", True),
        ("2020-05-03T10:00:00+02:00", "2020-05-03T08:00:00Z", False),
        ("2020-05-03T23:59:60Z", "2020-05-03T23:59:59Z", False),
        ("2020-05-02T23:30:00Z", "2020-05-03", False),  # in Berlin it was the third
        ("2020-05-01T23:30:00Z", "2020-05-03", True),
        ("2019-12-31T23:30:00Z", "2020", True),
    ],
)
def test_surely_before(first: str, second: str, before: bool) -> None:
    assert surely_before(first, second) is before
    assert not (surely_before(first, second) and surely_before(second, first))


def test_references_have_paths() -> None:
    resource = {**HAEMOGLOBIN, "performer": [{"display": "x"}, {"reference": "Practitioner/7"}]}
    assert list(references(resource)) == [
        (".subject.reference", "Patient/p1"),
        (".performer[1].reference", "Practitioner/7"),
    ]


def test_references_of_the_examples_are_all_found(fhir: Examples) -> None:
    def every(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, content in value.items():
                if name == "reference" and isinstance(content, str):
                    yield content
                yield from every(content)
        elif isinstance(value, list):
            for one in value:
                yield from every(one)

    for one in fhir[:1500]:
        assert [text for _, text in references(one.resource)] == list(every(one.resource))


def test_a_check_takes_microseconds() -> None:
    """8 to 10 are usual; the limit leaves room for a machine that is busy."""
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(200):
            check(HAEMOGLOBIN)
        best = min(best, (time.perf_counter() - start) / 200)
    assert best < 40e-6


def test_codes_of_every_binding_pass_where_it_is_bound() -> None:
    for code in BINDINGS["observation-status"]:
        assert found(broken(HAEMOGLOBIN, "status", code)) == []
