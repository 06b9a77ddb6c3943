"""Which of several records counts: windows, treatment, statuses, contradictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from harmonization.harmonize import harmonize
from tests.harmonization.hospital import (
    DIAGNOSED,
    FEATURE,
    LOINC,
    SNOMED,
    Resource,
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

ECOG = (LOINC, "89247-1")
CYTARABINE = ("http://www.whocc.no/atc", "L01BC01")


def drug(on: str, status: str = "completed", key: str = "p") -> Resource:
    return {
        "resourceType": "MedicationAdministration",
        "id": f"{key}-drug-{on}-{status}",
        "status": status,
        "medicationCodeableConcept": coded(CYTARABINE),
        "subject": {"reference": f"Patient/{key}"},
        "effectiveDateTime": on,
    }


def ecog(number: int, value: int, on: str) -> Resource:
    return observation("p", number, ECOG, on, valueInteger=value)


def test_the_last_value_before_treatment(tmp_path: Path) -> None:
    days = {"2015-05-09": 7.0, "2015-05-11": 8.0, DIAGNOSED: 9.0, "2015-06-12": 10.0, "2015-06-20": 11.0}
    labs = [lab("p", i, value, on=on) for i, (on, value) in enumerate(days.items())]
    assert cell(harmonized(tmp_path, *labs), "hemoglobin") == 11.0  # nobody was treated
    assert cell(harmonized(tmp_path, *labs, drug("2015-06-12")), "hemoglobin") == 10.0  # that day's is taken before it
    assert cell(harmonized(tmp_path, *labs, drug("2015-06-11")), "hemoglobin") == 9.0
    assert cell(harmonized(tmp_path, *labs, drug("2015-06-11", "not-done")), "hemoglobin") == 11.0
    assert cell(harmonized(tmp_path, *labs, drug("2015-05-01")), "hemoglobin") == 11.0  # of another time
    assert cell(harmonized(tmp_path, labs[0]), "hemoglobin") == "outside window"
    assert cell(harmonized(tmp_path, labs[4], drug("2015-06-11")), "hemoglobin") == "outside window"


def test_windows_include_their_ends(tmp_path: Path) -> None:
    assert cell(harmonized(tmp_path, lab("p", 1, 9.0, on="2015-05-11")), "hemoglobin") == 9.0
    assert cell(harmonized(tmp_path, lab("p", 1, 9.0, on="2015-07-10")), "hemoglobin") == 9.0
    assert cell(harmonized(tmp_path, lab("p", 1, 9.0, on="2015-07-11")), "hemoglobin") == "outside window"


def test_the_day_is_the_hospitals_own(tmp_path: Path) -> None:
    late = lab("p", 1, 9.0, on="2015-07-10T23:30:00-05:00")  # the 11th in Greenwich
    assert cell(harmonized(tmp_path, late), "hemoglobin") == 9.0


def test_the_closest(tmp_path: Path) -> None:
    found = harmonized(tmp_path, ecog(1, 1, "2015-06-01"), ecog(2, 2, "2015-06-15"), ecog(3, 3, "2015-07-01"))
    assert cell(found, "ecog") == 2.0
    found = harmonized(tmp_path, ecog(1, 1, "2015-06-05"), ecog(2, 2, "2015-06-15"))
    assert cell(found, "ecog") == 1.0  # as far away, and before


def test_preliminary_counts_only_alone(tmp_path: Path) -> None:
    early = lab("p", 1, 8.0, on="2015-06-09")
    late = lab("p", 2, 9.0, on=DIAGNOSED, status="preliminary")
    assert cell(harmonized(tmp_path, late), "hemoglobin") == 9.0
    assert cell(harmonized(tmp_path, early, late), "hemoglobin") == 8.0


def test_corrections_and_errors(tmp_path: Path) -> None:
    first = lab("p", 1, 8.0)
    found = harmonized(tmp_path, first, lab("p", 2, 9.0, status="corrected"))
    assert cell(found, "hemoglobin") == 9.0
    assert found.counts["features"]["hemoglobin"]["contradictions"] == 0
    assert cell(harmonized(tmp_path, first, lab("p", 2, 9.0, status="entered-in-error")), "hemoglobin") == 8.0
    assert cell(harmonized(tmp_path, lab("p", 2, 9.0, status="entered-in-error")), "hemoglobin") == "not reported"


@pytest.mark.parametrize("order", [1, -1])
def test_contradictions_are_resolved_by_the_rule_and_counted(tmp_path: Path, order: int) -> None:
    """The same moment: what was issued last; then the lower value."""
    at = "2015-06-10T08:00:00+02:00"
    pair = [lab("p", 1, 9.0, on=at), lab("p", 2, 8.0, on=at)]
    found = harmonized(tmp_path, *pair[::order])
    assert cell(found, "hemoglobin") == 8.0
    assert found.counts["features"]["hemoglobin"]["contradictions"] == 1
    row = found.provenance[found.provenance["feature"] == "hemoglobin"].iloc[0]
    assert row["contradicted"]
    pair[0]["issued"] = "2015-06-11T08:00:00+02:00"
    assert cell(harmonized(tmp_path, *pair[::order]), "hemoglobin") == 9.0
    other_zone = [lab("p", 1, 9.0, on="2015-06-10T06:00:00Z"), lab("p", 2, 9.0, on=at)]
    assert harmonized(tmp_path, *other_zone).counts["features"]["hemoglobin"]["contradictions"] == 0
    another_hour = [lab("p", 1, 9.0, on=at), lab("p", 2, 8.0, on="2015-06-10T07:00:00+02:00")]
    found = harmonized(tmp_path, *another_hour[::order])
    assert cell(found, "hemoglobin") == 9.0
    assert found.counts["features"]["hemoglobin"]["contradictions"] == 0


def test_below_detection_is_not_replaced_by_a_later_number(tmp_path: Path) -> None:
    below = lab("p", 2, 5, "/nL", on=DIAGNOSED, code=(LOINC, "777-3"), comparator="<")
    earlier = lab("p", 1, 60, "/nL", on="2015-06-01", code=(LOINC, "777-3"))
    assert cell(harmonized(tmp_path, below, earlier), "platelets") == "below detection"


def test_a_record_without_a_date_is_set_aside_where_days_count(tmp_path: Path) -> None:
    assert cell(harmonized(tmp_path, lab("p", 1, 9.0, on=None)), "hemoglobin") == "quarantined"
    assert [record["kind"] for record in set_aside(tmp_path)] == ["date"]
    assert cell(harmonized(tmp_path, observation("p", 1, (FEATURE, "eln_2011"), None, valueInteger=2)), "ecog")
    found = harmonized(tmp_path, lab("p", 1, 9.0, on=None, issued="2015-06-11T09:00:00Z"))
    assert cell(found, "hemoglobin") == 9.0


def test_the_specimen_tells_the_day(tmp_path: Path) -> None:
    specimen: Resource = {"resourceType": "Specimen", "id": "s", "collection": {"collectedDateTime": DIAGNOSED}}
    of = lab("p", 1, 9.0, on=None, specimen={"reference": "Specimen/s"})
    assert cell(harmonized(tmp_path, of, specimen), "hemoglobin") == 9.0
    specimen["collection"] = {"collectedDateTime": "2014-01-01"}
    assert cell(harmonized(tmp_path, specimen, of), "hemoglobin") == "outside window"


def test_counts_of_procedures(tmp_path: Path) -> None:
    def transfusion(on: str, status: str = "completed") -> Resource:
        return {
            "resourceType": "Procedure",
            "id": f"t-{on}",
            "status": status,
            "code": coded((SNOMED, "116863004")),
            "subject": {"reference": "Patient/p"},
            "performedDateTime": on,
        }

    days = ["2015-06-09", DIAGNOSED, "2015-07-10", "2015-10-08", "2015-10-09"]
    start = [patient("p"), diagnosis("p", code=(SNOMED, "127225006"))]
    source = write(tmp_path / "source", [*start, *map(transfusion, days), transfusion("2015-08-01", "not-done")])
    assert cell(harmonize(source, "cmml"), "red_cell_transfusions") == 3.0
    assert cell(harmonize(write(tmp_path / "none", start), "cmml"), "red_cell_transfusions") == 0.0
    broken = {**transfusion(DIAGNOSED), "status": "banana"}
    found = harmonize(write(tmp_path / "broken", [*start, broken]), "cmml")
    assert cell(found, "red_cell_transfusions") == "quarantined"


def test_drugs_by_reference(tmp_path: Path) -> None:
    medication = {"resourceType": "Medication", "id": "m", "code": coded(CYTARABINE)}
    given = drug("2015-06-11")
    del given["medicationCodeableConcept"]
    labs = [lab("p", 1, 9.0), lab("p", 2, 10.0, on="2015-06-12")]
    by_reference = {**given, "medicationReference": {"reference": "Medication/m"}}
    assert cell(harmonized(tmp_path, by_reference, *labs, medication), "hemoglobin") == 9.0
    inside = {**given, "contained": [medication], "medicationReference": {"reference": "#m"}}
    assert cell(harmonized(tmp_path, *labs, inside), "hemoglobin") == 9.0
