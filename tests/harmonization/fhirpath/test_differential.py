"""The same expressions on the same resources as fhirpathpy, an engine of the whole language.

Both read floats as decimals, so results are compared as JSON with numbers to 12 digits. An expression that both refuse
counts as agreement. The draws are the same in every run: what is new should fail, not what is rare in the oracle.
Where the two differ, `DIFFERENCES` says how and why, and tests that it is still so.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from harmonization.fhirpath import FHIRPathError, compile_path
from tests.harmonization.fhirpath.strategies import DATES, MOMENTS, Resource, expressions, observations

fhirpathpy = pytest.importorskip("fhirpathpy")
R4 = pytest.importorskip("fhirpathpy.models").models["r4"]
REFUSED = "refused"


def plain(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float | Decimal):
        return ("number", float(f"{value:.12g}"))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value)


def ours(expression: str, resource: Resource) -> Any:
    try:
        return plain(compile_path(expression)(resource))
    except FHIRPathError:
        return REFUSED


def theirs(expression: str, resource: Resource) -> Any:
    try:
        return plain(fhirpathpy.evaluate(copy.deepcopy(resource), expression, {}, R4))
    except Exception:  # it raises bare exceptions of many kinds
        return REFUSED


def agree(mine: Any, other: Any) -> bool:
    # The one difference that drawn expressions meet: see join() below.
    return bool(mine == other) or (mine == [""] and other == [])


@settings(max_examples=400, deadline=None, derandomize=True)
@given(observations(DATES), expressions(DATES))
def test_drawn_expressions_with_partial_dates(resource: Resource, expression: str) -> None:
    assert agree(ours(expression, resource), theirs(expression, resource))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(observations(MOMENTS), expressions(MOMENTS))
def test_drawn_expressions_with_full_moments(resource: Resource, expression: str) -> None:
    assert agree(ours(expression, resource), theirs(expression, resource))


OBSERVATION: Resource = {
    "resourceType": "Observation",
    "extension": [{"url": "u", "valueInteger": 1}, {"url": "u", "valueString": "x"}],
    "issued": "2020-02-01T10:00:00Z",
    "effectiveDateTime": "2020-02-01T12:00:00+02:00",
    "note": [{"time": "2020-02"}],
}
# expression, ours, theirs, why
DIFFERENCES: list[tuple[str, Any, Any, str]] = [
    ("nothing.join(',')", [""], [], "the official tests of SQL on FHIR ask for the empty text"),
    ("-7 mod 2", [-1], [1], "mod belongs to div, which truncates: -7 = 2 * -3 - 1 (N1, 6.6.6)"),
    ("true = 1", [False], [True], "values of different types are not equal (N1, 6.1.1); in Python true is 1"),
    ("('a' | 'b') = ('a' | 'c')", [False], [True], "all items count, not the first alone (N1, 6.1.1)"),
    ("('a' | 'b') ~ ('b' | 'a')", [True], [False], "equivalence does not depend on order (N1, 6.1.2)"),
    ("('a' | 'b').not()", REFUSED, [], "not() takes one value (N1, 5.5 and 6.5.3)"),
    (
        "@2020-02-01 = @2020-02-01T10:00:00Z",
        [],
        [False],
        "equal as far as both go: empty (N1, 6.1.1)",
    ),
    ("@2020-02 != @2020-02-01T10:00:00Z", [], [True], "the same"),
    (
        "@2020-02-01T23:30:00-05:00 < @2020-02-02",
        [True],
        [],
        "a date has no offset and is read in that of the other side, not in UTC; N1 leaves the choice to the engine",
    ),
    ("@2020-02-01T10:30 < @2020-02-01T12:00:00+02:00", [True], [False], "the same"),
    (
        "extension('u').value.ofType(string)",
        ["x"],
        [],
        "fhirpathpy takes the type of all extensions from the first",
    ),
    (
        "issued = effective.ofType(dateTime)",
        [True],
        [False],
        "elements whose names say dateTime are compared as such; fhirpathpy does so beside a literal only",
    ),
    ("issued > note.time", [], [True], "the same, of order"),
    (
        "1.0.lowBoundary()",
        [0.95],
        REFUSED,
        "not in fhirpathpy; see the tests of functions",
    ),
    ("@2020.highBoundary()", ["2020-12-31"], REFUSED, "the same"),
    ("1 'mg' = 1 'mg'", REFUSED, [True], "quantities are not in the subset of views"),
    ("('a' | 'b').where($index = 1)", REFUSED, ["b"], "neither is $index"),
    ("today() > @2020", REFUSED, [True], "nor anything that depends on the day of the run"),
]


@pytest.mark.parametrize(("expression", "mine", "other", "why"), DIFFERENCES)
def test_known_differences(expression: str, mine: Any, other: Any, why: str) -> None:
    assert ours(expression, OBSERVATION) == plain(mine), why
    assert theirs(expression, OBSERVATION) == plain(other), why


PATHS = """
id ; meta.profile ; meta.lastUpdated ; extension.url ; extension.value ; status ; language ; text.status
identifier.value ; identifier.where(system.exists()).value.first() ; identifier.type.coding.code ; name.family
name.given ; name.where(use = 'official').family ; birthDate ; birthDate >= @1960-01-01 ; deceased.exists()
deceased.ofType(dateTime) ; multipleBirth.ofType(boolean) ; gender = 'male' ; code.coding.system
code.coding.where(system = 'http://loinc.org').code ; code.coding.count() > 1 ; code.text
code.coding.where(system = 'http://loinc.org').code.first() ; category.coding.code
category.coding.display.distinct() ; subject.reference ; subject.reference.startsWith('Patient/')
encounter.reference.substring(10) ; issued ; value ; value.ofType(Quantity).value ; value.ofType(Quantity).unit
value.ofType(Quantity).value > 10 ; value.ofType(Quantity).value * 10 / 3 ; value.ofType(CodeableConcept).coding.code
value.ofType(string) ; value.ofType(dateTime) ; value is Quantity ; value.unit
component.value.ofType(Quantity).value ; component.where(code.coding.code = '8480-6').value.ofType(Quantity).value
component.select(code.text) ; effective.ofType(dateTime) ; effective.ofType(Period).start
effective.ofType(dateTime) > @2010-01-01T00:00:00Z ; onset.ofType(dateTime) ; recordedDate
performed.ofType(Period).start ; medication.ofType(CodeableConcept).coding.code ; clinicalStatus.coding.code
clinicalStatus.coding.where(code = 'active').exists() ; verificationStatus.coding.code ; contained.id
contained.ofType(Patient).name.family ; contact.telecom.value ; address.line ; address.city.distinct()
telecom.where(system = 'phone' and use = 'home').value ; telecom.all(system.exists()) ; referenceRange.low.value
interpretation.coding.code ; note.text ; dosageInstruction.timing.repeat.frequency
dosageInstruction.doseAndRate.dose.ofType(Quantity).value ; entry.resource.id
entry.resource.ofType(Patient).birthDate ; Patient.name.family ; Observation.value.ofType(Quantity).unit
iif(status = 'final', 'f', 'n') ; stage.summary.coding.code ; (active.exists() and active) or status = 'final'
text.`div`.exists() ; item.linkId ; item.item.text ; bodySite.coding.display ; evidence.detail.reference
component[1].code.coding[0].code ; extension.extension.url
"""


@pytest.fixture(scope="module")
def real(data_dir: Path) -> list[Resource]:
    """One resource of every HL7 example, of every German oncology one, and some lines of each bulk export."""

    def read() -> Iterator[Resource]:
        for folder in ("hl7-r4-examples", "mii-onkologie", "mii-molekulares-tumorboard"):
            for file in sorted((data_dir / "fhir" / folder).glob("*.json")):
                yield json.loads(file.read_text(encoding="utf-8"))
        for folder in ("synthea-r4", "sample-bulk-10"):
            for file in sorted((data_dir / "fhir" / folder).glob("*.ndjson")):
                with file.open(encoding="utf-8") as lines:
                    yield from (json.loads(line) for line, _ in zip(lines, range(15), strict=False))

    found = list(read())
    if not found:
        pytest.skip(f"no FHIR resources in {data_dir / 'fhir'}")
    return found


def test_real_resources(real: list[Resource]) -> None:
    texts = [text.strip() for text in PATHS.replace("\n", ";").split(";") if text.strip()]
    pairs: list[tuple[str, Callable[..., Any], Callable[..., Any]]] = [
        (text, compile_path(text), fhirpathpy.compile(text, R4)) for text in texts
    ]
    values = 0
    for resource in real:
        for text, mine, other in pairs:
            found = plain(mine(resource))
            assert found == plain(other(resource, {})), (text, resource["resourceType"], resource.get("id"))
            values += found != []
    assert values > 10 * len(real)  # the comparison is not one of empty with empty
