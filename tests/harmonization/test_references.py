"""Resources taken together: references, births, ids and identifiers that two have."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonization.reading import Located
from harmonization.references import Index
from tests.harmonization.fhir_examples import examples

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "birthDate": "1950-05-02",
    "identifier": [{"system": "urn:h1", "value": "77"}],
}


def observation(subject: str = "Patient/p1", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"text": "Hb"},
        "subject": {"reference": subject},
        **more,
    }


def located(*resources: dict[str, Any], urls: bool = False) -> list[Located]:
    return [
        Located(r, "a.ndjson", i + 1, "", f"http://h1/fhir/{r['resourceType']}/{r['id']}" if urls else None)
        for i, r in enumerate(resources)
    ]


def faults(*resources: dict[str, Any], urls: bool = False) -> list[tuple[int, str, str]]:
    sources = located(*resources, urls=urls)
    index = Index.of(sources)
    return [(i, p.path, p.kind) for i, one in enumerate(sources) for p in index.check(one)]


@pytest.mark.parametrize(
    "subject",
    [
        "Patient/p1",
        "Patient/p1/_history/3",
        "http://h1/fhir/Patient/p1",
        "http://h1/fhir/Patient/p1/_history/3",
        "http://elsewhere/fhir/Patient/9",
        "http://elsewhere/page",
        "Patient?identifier=urn:h1|77",
        "#inside",
    ],
)
def test_a_reference_that_leads_to_a_patient_or_outside(subject: str) -> None:
    assert faults(PATIENT, observation(subject), urls=True) == []


@pytest.mark.parametrize(
    "subject",
    [
        "Patient/p2",
        "Observation/p1",
        "http://h1/fhir/Patient/p2",
        "urn:uuid:5b1a1f1e-0000-4000-8000-000000000001",
        "Patient?identifier=urn:h1|78",
    ],
)
def test_a_reference_that_leads_nowhere(subject: str) -> None:
    assert faults(PATIENT, observation(subject), urls=True) == [(1, "Observation.subject.reference", "reference")]


def test_a_type_that_the_source_has_not_is_looked_for_elsewhere_but_not_the_patient() -> None:
    encounter = {"encounter": {"reference": "Encounter/e1"}}
    assert faults(PATIENT, observation(**encounter)) == []
    assert faults(observation()) == [(0, "Observation.subject.reference", "reference")]
    other = {"resourceType": "Encounter", "id": "e2"}
    assert faults(PATIENT, other, observation(**encounter)) == [(2, "Observation.encounter.reference", "reference")]


def test_addresses_of_a_bundle() -> None:
    url = "urn:uuid:5b1a1f1e-0000-4000-8000-000000000001"
    entries = [Located(PATIENT, "b.json", 0, "Bundle.entry[0].resource", url), *located(observation(url))]
    index = Index.of(entries)
    assert [index.check(one) for one in entries] == [[], []]
    assert index.births[url] == "1950-05-02"


@pytest.mark.parametrize(
    ("more", "at"),
    [
        ({"effectiveDateTime": "1950-05-01"}, "Observation.effectiveDateTime"),
        ({"effectiveDateTime": "1949"}, "Observation.effectiveDateTime"),
        ({"effectivePeriod": {"start": "1940-01-01", "end": "2000"}}, "Observation.effectivePeriod.start"),
        ({"effectiveDateTime": "1950"}, None),
        ({"effectiveDateTime": "1950-05-02"}, None),
        ({"effectiveDateTime": "1950-05-01T23:30:00Z"}, None),
        ({"effectivePeriod": {"end": "1940"}}, None),
    ],
)
def test_nothing_is_measured_before_birth(more: dict[str, Any], at: str | None) -> None:
    assert faults(PATIENT, observation(**more)) == ([(1, at, "date")] if at else [])


def test_two_with_one_id() -> None:
    assert faults(PATIENT, {**PATIENT, "birthDate": "1951"}) == [
        (0, "Patient.id", "duplicate"),
        (1, "Patient.id", "duplicate"),
    ]
    assert faults(PATIENT, PATIENT) == []
    assert Index.of(located(PATIENT, PATIENT)).repeated == {"Patient/p1"}


def test_two_patients_with_one_identifier() -> None:
    other = {**PATIENT, "id": "p2", "identifier": [{"value": "1"}, {"system": "urn:h1", "value": "77"}]}
    assert faults(PATIENT, other) == [
        (0, "Patient.identifier[0].value", "duplicate"),
        (1, "Patient.identifier[1].value", "duplicate"),
    ]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_indexes_of_pieces_merged_are_the_index_of_the_whole(data: st.DataObject) -> None:
    ids = st.sampled_from(["a", "b", "c", "d"])
    patients = st.builds(
        lambda i, born, number: {
            **PATIENT,
            "id": i,
            "birthDate": born,
            "identifier": [{"system": "s", "value": number}],
        },
        ids,
        st.sampled_from(["1950", "1951"]),
        st.sampled_from(["1", "2", "3"]),
    )
    resources = data.draw(st.lists(patients | ids.map(lambda i: observation(f"Patient/{i}")), max_size=12))
    sources = located(*resources, urls=data.draw(st.booleans()))
    cut = data.draw(st.integers(0, len(sources)))
    merged = Index.of(sources[:cut])
    merged.merge(Index.of(sources[cut:]))
    whole = Index.of(sources)
    assert [merged.check(one) for one in sources] == [whole.check(one) for one in sources]


@pytest.mark.parametrize(
    ("folder", "unresolved"),
    [
        # The NDJSON files beside the Bundles were shipped without their encounters.
        ("synthea-r4", {("enc_Observation.ndjson", "encounter"): 600, ("enc_Condition.ndjson", "encounter"): 71}),
        ("sample-bulk-10", {}),
    ],
)
def test_synthetic_patients_are_whole(data_dir: Path, folder: str, unresolved: dict[tuple[str, str], int]) -> None:
    if not (data_dir / "fhir").is_dir():
        pytest.skip(f"no fhir in {data_dir}")
    ours = [one for one in examples(data_dir / "fhir") if f"/{folder}/" in one.file]
    assert len(ours) > 2500
    index = Index.of(ours)
    found = Counter((Path(one.file).name, p.path.split(".")[1]) for one in ours for p in index.check(one))
    assert found == unresolved
