"""Values by the dictionary: units, comparators, texts, codes; what is refused, and what its cell says then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harmonization.harmonize import harmonize
from tests.harmonization.hospital import (
    FEATURE,
    LOINC,
    SNOMED,
    UCUM,
    absent,
    cell,
    coded,
    diagnosis,
    harmonized,
    lab,
    observation,
    patient,
    set_aside,
    write,
)

ECOG, SPLEEN, AML_TYPE = (LOINC, "89247-1"), (FEATURE, "splenomegaly"), (FEATURE, "aml_type")
HB = (LOINC, "718-7")


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(12.5, "g/dL", 12.5), (125, "g/L", 12.5), (7.5, "mmol/L", 12.0825), (12.5, "gm%", 12.5)],
)
def test_one_haemoglobin_written_in_four_ways(tmp_path: Path, value: float, unit: str, expected: float) -> None:
    assert cell(harmonized(tmp_path, lab("p", 1, value, unit)), "hemoglobin") == expected


@pytest.mark.parametrize(
    ("quantity", "kind", "says"),
    [
        ({"value": 12.5, "unit": "g/cL"}, "unit", "has not for hemoglobin"),
        ({"value": 12.5}, "unit", "no unit"),
        ({"value": 12.5, "unit": "g/L", "system": UCUM, "code": "g/dL"}, "unit", "the unit's text says g/L"),
        ({"value": 125, "unit": "g/dL"}, "range", "outside the plausible range 2 to 25 g/dL"),
        ({"value": 12.5, "system": UCUM, "code": "K/uL"}, "unit", "kelvin"),
    ],
)
def test_what_is_not_clear_is_set_aside_with_its_reason(
    tmp_path: Path, quantity: dict[str, Any], kind: str, says: str
) -> None:
    found = harmonized(tmp_path, observation("p", 1, HB, valueQuantity=quantity))
    assert cell(found, "hemoglobin") == "quarantined"
    (record,) = set_aside(tmp_path)
    assert record["kind"] == kind
    assert says in record["reason"]
    assert record["path"].startswith("Observation.valueQuantity")
    assert (record["line"], record["resource"]["id"]) == (3, "p-1")
    assert found.quarantine.read == 3
    assert found.quarantine.refused == 1
    assert found.counts["features"]["hemoglobin"]["quarantined"] == 1


def test_a_refused_value_does_not_hide_a_good_one(tmp_path: Path) -> None:
    found = harmonized(tmp_path, lab("p", 1, 9.1), lab("p", 2, 9100.0, "mg/dL", on="2015-06-11"))
    assert cell(found, "hemoglobin") == 9.1
    found = harmonized(tmp_path, lab("p", 1, 9.1), lab("p", 2, 9.4, "zz", on="2015-06-11"))
    assert cell(found, "hemoglobin") == 9.1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.5 g/dL", 12.5),
        ("125 g/L", 12.5),
        ("< 3 g/dL", "below detection"),
        ("12,5 g/dL", "quarantined"),
        ("1,250 g/dL", "quarantined"),
        ("12.5", "quarantined"),
        ("low", "quarantined"),
        ("12.5 g/dL (repeat)", "quarantined"),
    ],
)
def test_numbers_as_text(tmp_path: Path, text: str, expected: float | str) -> None:
    assert cell(harmonized(tmp_path, observation("p", 1, HB, valueString=text)), "hemoglobin") == expected


def test_comparators_are_results_and_no_numbers(tmp_path: Path) -> None:
    below = lab("p", 1, 10, "/nL", code=(LOINC, "777-3"), comparator="<")
    above = lab("p", 2, 10000, "U/L", code=(LOINC, "2532-0"), comparator=">")
    found = harmonized(tmp_path, below, above)
    assert cell(found, "platelets") == "below detection"
    assert cell(found, "ldh") == "above detection"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("not-performed", "not done"),
        ("unknown", "unknown"),
        ("not-applicable", "not applicable"),
        ("error", "failed"),
        ("masked", "unknown"),
    ],
)
def test_absent_reasons(tmp_path: Path, reason: str, expected: str) -> None:
    assert cell(harmonized(tmp_path, observation("p", 1, HB, **absent(reason))), "hemoglobin") == expected


def test_other_ways_to_have_no_value(tmp_path: Path) -> None:
    null = coded(("http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "NASK"))
    found = harmonized(
        tmp_path,
        observation("p", 1, ECOG, valueCodeableConcept=null),
        observation("p", 2, HB),
        observation("p", 3, (LOINC, "777-3"), status="cancelled"),
    )
    assert cell(found, "ecog") == "not done"
    assert cell(found, "hemoglobin") == "unknown"
    assert cell(found, "platelets") == "not done"
    assert cell(found, "wbc") == "not reported"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"valueCodeableConcept": coded((SNOMED, "422894000"))}, 2.0),
        ({"valueInteger": 2}, 2.0),
        ({"valueQuantity": {"value": 2, "unit": "{score}", "system": UCUM, "code": "{score}"}}, 2.0),
        ({"valueString": "2"}, 2.0),
        ({"valueInteger": 7}, "quarantined"),
        ({"valueQuantity": {"value": 1.5, "unit": "{score}"}}, "quarantined"),
        ({"valueBoolean": True}, "quarantined"),
        ({"valueCodeableConcept": coded((SNOMED, "10828004"))}, "quarantined"),
        (
            {"valueCodeableConcept": coded((SNOMED, "422894000"), (SNOMED, "422512005"))},
            "quarantined",
        ),
        ({"valueCodeableConcept": {"text": "ECOG 2"}}, "quarantined"),
    ],
)
def test_counts_by_code_and_number(tmp_path: Path, value: dict[str, Any], expected: float | str) -> None:
    assert cell(harmonized(tmp_path, observation("p", 1, ECOG, **value)), "ecog") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"valueBoolean": True}, 1.0),
        ({"valueCodeableConcept": coded((LOINC, "LA33-6"))}, 1.0),
        ({"valueCodeableConcept": coded((SNOMED, "260385009"))}, 0.0),
        ({"valueInteger": 0}, 0.0),
        ({"valueInteger": 2}, "quarantined"),
        ({"valueString": "ja"}, "quarantined"),
        (
            {"interpretation": [coded(("http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "POS"))]},
            1.0,
        ),
    ],
)
def test_present_or_absent(tmp_path: Path, value: dict[str, Any], expected: float | str) -> None:
    assert cell(harmonized(tmp_path, observation("p", 1, SPLEEN, **value)), "splenomegaly") == expected


def test_categories(tmp_path: Path) -> None:
    own = coded(("urn:haemfed:value", "aml_type:secondary"))
    assert cell(harmonized(tmp_path, observation("p", 1, AML_TYPE, valueCodeableConcept=own)), "aml_type") == 1.0
    assert cell(harmonized(tmp_path, observation("p", 1, AML_TYPE, valueString="secondary")), "aml_type") == 1.0
    found = harmonized(tmp_path, observation("p", 1, AML_TYPE, valueString="Secondary"))
    assert cell(found, "aml_type") == "quarantined"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"value": 12, "unit": "%"}, 1.0),
        ({"value": 9.9, "unit": "%"}, 0.0),
        ({"value": 5, "comparator": "<", "unit": "%"}, 0.0),
        ({"value": 10, "comparator": ">=", "unit": "%"}, 1.0),
        ({"value": 30, "comparator": "<", "unit": "%"}, "unknown"),
        ({"value": 12, "unit": "cells"}, "quarantined"),
    ],
)
def test_fish_in_per_cent_of_cells(tmp_path: Path, value: dict[str, Any], expected: float | str) -> None:
    fish = observation("p", 1, (LOINC, "84916-6"), valueQuantity=value)
    source = write(tmp_path / "mm", [patient("p"), diagnosis("p", code=(SNOMED, "109989006")), fish])
    assert cell(harmonize(source, "mm"), "fish_del17p") == expected


def test_components_and_several_codes(tmp_path: Path) -> None:
    count = observation(
        "p",
        1,
        (LOINC, "58410-2"),
        component=[
            {"code": coded(HB), "valueQuantity": {"value": 9.5, "unit": "g/dL"}},
            {"code": coded(("urn:local", "PLT"), (LOINC, "777-3")), "valueQuantity": {"value": 50, "unit": "furlong"}},
            {"code": coded((LOINC, "6690-2")), **absent("error")},
        ],
    )
    found = harmonized(tmp_path, count)
    assert cell(found, "hemoglobin") == 9.5
    assert cell(found, "platelets") == "quarantined"
    assert cell(found, "wbc") == "failed"
    (record,) = set_aside(tmp_path)
    assert record["path"] == "Observation.component[1].valueQuantity.unit"
