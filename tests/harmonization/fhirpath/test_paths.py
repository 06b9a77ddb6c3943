"""Paths: members, choice elements, indexers, types, extensions, keys, constants."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest

from harmonization.fhirpath import FHIRPathError, Value, compile_path

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "active": True,
    "name": [
        {"use": "official", "family": "Curie", "given": ["Marie", "Salomea"]},
        {"use": "maiden", "family": "Skłodowska"},
    ],
    "birthDate": "1867-11-07",
    "_birthDate": {"extension": [{"url": "urn:time", "valueDateTime": "1867-11-07T12:00:00Z"}]},
    "gender": "female",
    "deceasedDateTime": "1934-07-04",
    "multipleBirthInteger": 5,
    "extension": [
        {"url": "urn:sex", "valueCode": "F"},
        {"url": "urn:race", "extension": [{"url": "omb", "valueCoding": {"code": "2106-3"}}]},
        {"url": "urn:race", "extension": [{"url": "text", "valueString": "white"}]},
    ],
    "contact": [{"name": {"family": "C"}, "telecom": [{"value": "1"}, {"value": "2"}]}, {"telecom": [{"value": "3"}]}],
    "contained": [{"resourceType": "Organization", "id": "o"}, {"resourceType": "Practitioner", "id": "d"}],
    "link": [{"other": {"reference": "Patient/p2"}}],
}


def evaluate(expression: str, resource: Any = PATIENT, **constants: Any) -> list[Any]:
    return compile_path(expression, constants)(resource)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("id", ["p1"]),
        ("active", [True]),
        ("name.family", ["Curie", "Skłodowska"]),
        ("name.given", ["Marie", "Salomea"]),
        ("$this.name.use", ["official", "maiden"]),
        ("Patient.name.family", ["Curie", "Skłodowska"]),
        ("Resource.id", ["p1"]),
        ("DomainResource.id", ["p1"]),
        ("Observation.id", []),
        ("Patient", [PATIENT]),
        ("nothing", []),
        ("nothing.at.all", []),
        ("id.deeper", []),
        ("name.family.deeper", []),
        ("contact.telecom.value", ["1", "2", "3"]),
        ("contact.name.family", ["C"]),
        ("name[0].family", ["Curie"]),
        ("name[1].family", ["Skłodowska"]),
        ("name[2].family", []),
        ("name[-1]", []),
        ("name[{}]", []),
        ("name.given[1]", ["Salomea"]),
        ("contact.telecom[2].value", ["3"]),  # of the whole collection, not of each contact
        ("name[name.count() - 1].family", ["Skłodowska"]),
        ("(name).family", ["Curie", "Skłodowska"]),
        ("name.first().family", ["Curie"]),
        ("name.where(use = 'maiden').family", ["Skłodowska"]),
        ("%resource.id", ["p1"]),
        ("name.select(%resource.id)", ["p1", "p1"]),
        ("%rootResource.id", ["p1"]),
        ("%rowIndex", [0]),
    ],
)
def test_paths(expression: str, expected: list[Any]) -> None:
    assert evaluate(expression) == expected


def test_nothing_is_changed_in_the_resource() -> None:
    before = copy.deepcopy(PATIENT)
    found = evaluate("name")
    found.append("x")
    evaluate("name.given").append("x")
    assert before == PATIENT


def test_nulls_are_no_values() -> None:
    resource = {"given": ["a", None, "b"], "family": None, "one": [None, "x"], "no": [None]}
    assert evaluate("given", resource) == ["a", "b"]
    assert evaluate("family", resource) == []
    assert evaluate("one.first()", resource) == ["x"]
    assert compile_path("one").one(resource, (resource, 0)) == "x"
    assert compile_path("no").one(resource, (resource, 0)) is None


def test_the_environment_says_the_row_and_the_resource() -> None:
    assert compile_path("%rowIndex + 1")({}, ({}, 3)) == [4]
    assert compile_path("%resource.id")({"id": "inner"}, (PATIENT, 0)) == ["p1"]


def test_one_gives_the_item_none_or_an_error() -> None:
    environment = (PATIENT, 0)
    for expression, expected in {
        "id": "p1",
        "name[0].given[0]": "Marie",
        "name[1].given": None,
        "contact.name.family": "C",
        "nothing": None,
        "Patient.gender": "female",
    }.items():
        assert compile_path(expression).one(PATIENT, environment) == expected
    for expression in ("name", "name.family", "contact.telecom.value", "name.where(true).use", "id | gender"):
        with pytest.raises(FHIRPathError, match="values where one is needed"):
            compile_path(expression).one(PATIENT, environment)


# -- choice elements and types -------------------------------------------------------------------------------------

QUANTITY = {"value": 7.2, "unit": "g/dL"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("deceased", ["1934-07-04"]),
        ("deceased.ofType(dateTime)", ["1934-07-04"]),
        ("deceased.ofType(FHIR.dateTime)", ["1934-07-04"]),
        ("deceased.ofType(boolean)", []),
        ("(deceased as dateTime)", ["1934-07-04"]),
        ("deceased.as(dateTime)", ["1934-07-04"]),
        ("deceased is dateTime", [True]),
        ("deceased.is(dateTime)", [True]),
        ("deceased is boolean", [False]),
        ("nothing is boolean", []),
        ("multipleBirth is integer", [True]),
        ("multipleBirth + 1", [6]),
        ("extension.value", ["F"]),
        ("extension.value.ofType(code)", ["F"]),
        ("extension.value.ofType(string)", ["F"]),  # a code is a string
        ("extension.value.ofType(System.String)", ["F"]),
        ("extension.value.ofType(String)", ["F"]),
        ("extension.value.ofType(uri)", []),
        ("extension.value.first().ofType(code)", ["F"]),
        ("extension.where(url = 'urn:sex').value.ofType(code)", ["F"]),
        ("extension.value.where($this = 'F').ofType(code)", ["F"]),
        ("extension[0].value[0].ofType(code)", ["F"]),
        ("extension.value.last().ofType(boolean)", []),
        ("extension.value.tail().ofType(code)", []),
        ("contained.ofType(Organization).id", ["o"]),
        ("contained.ofType(Resource).id", ["o", "d"]),
        ("contained.ofType(DomainResource).id", ["o", "d"]),
        ("contained.where($this is Practitioner).id", ["d"]),
        ("$this is Patient", [True]),
        ("active is boolean", [True]),
        ("birthDate is date", [True]),
        ("birthDate is dateTime", [True]),  # nothing in JSON says otherwise
        ("birthDate is time", [False]),
        ("id is boolean", [False]),
        ("(1 = 1) is Boolean", [True]),
        ("1 is Integer", [True]),
        ("1.5 is Decimal", [True]),
        ("1.5 is Integer", [False]),
        ("'a' is String", [True]),
        ("@2020 is Date", [True]),
        ("name.count() is Integer", [True]),
        ("(true | 'a' | 3).ofType(string)", ["a"]),
    ],
)
def test_types(expression: str, expected: list[Any]) -> None:
    assert evaluate(expression) == expected


def test_quantities_and_their_subtypes() -> None:
    resource = {
        "valueQuantity": QUANTITY,
        "onsetAge": {"value": 3},
        "component": [{"valueQuantity": QUANTITY}, {"valueInteger": 3}, {"valueString": "x"}],
    }
    assert evaluate("value.ofType(Quantity).value", resource) == [7.2]
    assert evaluate("value.unit", resource) == ["g/dL"]
    assert evaluate("onset.ofType(Age).value", resource) == [3]
    assert evaluate("onset.ofType(Quantity).value", resource) == [3]  # an Age is a Quantity
    assert evaluate("component.value.ofType(Quantity).unit", resource) == ["g/dL"]
    assert evaluate("component.value.ofType(integer)", resource) == [3]
    assert evaluate("component.value", resource) == [QUANTITY, 3, "x"]
    assert evaluate("component.value.first().ofType(integer)", resource) == []
    assert evaluate("value.ofType(Quantity).value.ofType(decimal)", resource) == [7.2]
    assert evaluate("valueQuantity.value", resource) == [7.2]
    with pytest.raises(FHIRPathError, match="3 values where one is needed"):
        evaluate("component.value is Quantity", resource)


def test_the_value_of_an_element_that_is_no_choice_is_judged_by_its_json_type() -> None:
    resource = {"value": [1, 2.5, Decimal("1.5"), "x", "2020-01-01", True]}
    assert evaluate("value.ofType(integer)", resource) == [1]
    assert evaluate("value.ofType(decimal)", resource) == [1, 2.5, Decimal("1.5")]
    assert evaluate("value.ofType(string)", resource) == ["x", "2020-01-01"]
    assert evaluate("value.ofType(date)", resource) == ["2020-01-01"]
    assert evaluate("value.ofType(instant)", resource) == []
    assert evaluate("value.ofType(boolean)", resource) == [True]


def test_an_object_that_could_be_anything_is_no_guess() -> None:
    with pytest.raises(FHIRPathError, match="does not show in JSON"):
        evaluate("name.first() is HumanName")
    with pytest.raises(FHIRPathError, match="does not show in JSON"):
        evaluate("name.ofType(HumanName)")
    assert evaluate("name.ofType(string)") == []


# -- extensions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("extension('urn:sex').value.ofType(code).first()", ["F"]),
        ("extension('urn:race').extension('omb').value.ofType(Coding).code", ["2106-3"]),
        ("extension('urn:race').extension('text').value", ["white"]),
        ("extension('urn:none')", []),
        ("extension.url", ["urn:sex", "urn:race", "urn:race"]),
        ("extension.extension.url", ["omb", "text"]),
        ("Patient.extension('urn:sex').value", ["F"]),
        ("birthDate.extension('urn:time').value.ofType(dateTime)", ["1867-11-07T12:00:00Z"]),
        ("birthDate.extension.url", ["urn:time"]),
        ("birthDate.extension('urn:sex')", []),
        ("name.extension('x')", []),
        ("name.first().extension('x')", []),
        ("birthDate.extension(%url).exists()", [True]),
    ],
)
def test_extensions(expression: str, expected: list[Any]) -> None:
    assert evaluate(expression, url="urn:time") == expected


def test_extensions_of_lists_of_primitives_and_of_choices() -> None:
    reason = {"extension": [{"url": "u", "valueCode": "unknown"}]}
    assert evaluate("given.extension('u').value", {"given": ["a", None], "_given": [None, reason]}) == ["unknown"]
    assert evaluate("value.extension('u').value", {"_valueString": reason}) == ["unknown"]
    assert evaluate("value.ofType(string).extension('u').value", {"_valueString": reason}) == ["unknown"]
    assert evaluate("value.ofType(dateTime).extension('u').value", {"_valueString": reason}) == []


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "any_type", "patient"),
    [
        ({"reference": "Patient/p2"}, ["p2"], ["p2"]),
        ({"reference": "Patient/p2/_history/3"}, ["p2"], ["p2"]),
        ({"reference": "https://example.org/fhir/Patient/p2"}, ["p2"], ["p2"]),
        ({"reference": "http://a.b/Patient/p2/_history/1"}, ["p2"], ["p2"]),
        ({"reference": "Group/g"}, ["g"], []),
        ({"reference": "http://a.b/Group/g"}, ["g"], []),
        ({"reference": "urn:uuid:9-8"}, ["9-8"], ["9-8"]),
        ({"reference": "urn:uuid:9-8", "type": "Patient"}, ["9-8"], ["9-8"]),
        ({"reference": "urn:uuid:9-8", "type": "Group"}, ["9-8"], []),
        ({"reference": "#inside"}, [], []),
        ({"reference": "Patient?identifier=7"}, [], []),
        ({"reference": "Patient/"}, [], []),
        ({"reference": 3}, [], []),
        ({"identifier": {"value": "7"}}, [], []),
        ({"display": "somebody"}, [], []),
    ],
)
def test_reference_keys(reference: dict[str, Any], any_type: list[str], patient: list[str]) -> None:
    resource = {"subject": reference}
    assert evaluate("subject.getReferenceKey()", resource) == any_type
    assert evaluate("subject.getReferenceKey(Patient)", resource) == patient
    assert evaluate("subject.getReferenceKey(FHIR.Patient)", resource) == patient


def test_keys_of_a_resource_and_of_references_to_it_are_the_same() -> None:
    assert evaluate("getResourceKey()") == ["p1"]
    assert evaluate("link.other.getReferenceKey() = getResourceKey()") == [False]
    assert evaluate("link.other.getReferenceKey(Patient)", {**PATIENT}) == ["p2"]
    assert evaluate("getResourceKey()", {"resourceType": "Patient"}) == []
    several = {"performer": [{"reference": "A/1"}, {"display": "x"}, {"reference": "B/2"}]}
    assert evaluate("performer.getReferenceKey()", several) == ["1", "2"]
    with pytest.raises(FHIRPathError, match=r"%resource.getResourceKey\(\)"):
        evaluate("name.first().getResourceKey()")
    with pytest.raises(FHIRPathError, match="ask it of a Reference"):
        evaluate("id.getReferenceKey()")


# -- constants -----------------------------------------------------------------------------------------------------


def test_constants() -> None:
    assert evaluate("name.where(use = %use).family", use="maiden") == ["Skłodowska"]
    assert evaluate("name[%i].family", i=1) == ["Skłodowska"]
    assert evaluate("active = %on", on=True) == [True]
    assert evaluate("%half + %half", half=0.5) == [1.0]
    assert evaluate("%exact + 1", exact=Decimal("0.10")) == [Decimal("1.10")]
    assert evaluate("birthDate = %day", day=Value("1867-11-07", "date")) == [True]
    assert evaluate("birthDate < %day", day=Value("1867-12", "date")) == [True]
    assert evaluate("%day < @1867-12", day=Value("1867-11-07", "date")) == [True]
    assert evaluate("%`use` & %'use'", use="x") == ["xx"]
    assert evaluate("%day.lowBoundary()", day=Value("1867", "date")) == ["1867-01-01"]
    assert evaluate("%d.lowBoundary()", d=Value(Decimal("1.00"), "decimal")) == [Decimal("0.995")]
