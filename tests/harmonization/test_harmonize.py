"""From files to the cohort: who is lost and why, time and event, references, any order, and the way back from FHIR."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonization import Cohort, Dictionary, DictionaryError, read_cohort
from harmonization.errors import HarmonizationError, QuarantineError, ReadingError
from harmonization.harmonize import COHORT, PROVENANCE, REASONS, REPORT, Harmonized, harmonize
from harmonization.resources import PATIENT_ID
from harmonization.writing import write_fhir
from tests.harmonization.hospital import (
    DIAGNOSED,
    FEATURE,
    HEMOGLOBIN,
    SNOMED,
    Resource,
    cell,
    coded,
    diagnosis,
    harmonized,
    karyotype,
    lab,
    observation,
    panel,
    patient,
    set_aside,
    variant,
    write,
)
from tests.harmonization.rows import draw_cohort, same_cells

AML, MDS = Dictionary.read("aml"), Dictionary.read("mds")


def alive(key: str, **more: Any) -> Resource:
    found = patient(key, **more)
    del found["deceasedDateTime"]
    return found


def hospital() -> list[Resource]:
    """Four patients, one of them lost, with everything that depends on other resources."""
    found = []
    for i in range(4):
        key = f"p{i}"
        found += [patient(key) if i % 2 else alive(key, deceasedBoolean=False), lab(key, 1, 8.0 + i)]
        found += [lab(key, 2, 80.0 + i, "g/L", on="2015-06-12", status="corrected"), lab(key, 3, 9, "stone")]
        found += [variant(key, 4, "NPM1", protein="p.Trp288fs"), panel(key, 5, "NPM1", "TP53", "KIT")]
        found += [karyotype(key, 6, "47,XX,+8[20]"), lab(key, 7, 7.0, on="2016-01-10")]
        found += [diagnosis(key)] if i else []
    return found


def same_tables(a: Harmonized, b: Harmonized) -> bool:
    return same_cells(a.cohort, b.cohort) and a.provenance.equals(b.provenance) and a.reasons.equals(b.reasons)


def same(a: Harmonized, b: Harmonized) -> bool:
    return same_tables(a, b) and orjson.dumps(a.counts) == orjson.dumps(b.counts)


# -- time and event


def test_death_and_last_contact(tmp_path: Path) -> None:
    found = harmonize(
        write(
            tmp_path,
            [
                *(patient("dead"), diagnosis("dead")),  # 365 days after the diagnosis
                *(alive("seen"), diagnosis("seen"), lab("seen", 1, 9.0, on="2015-06-20")),
                *(alive("stated"), diagnosis("stated"), lab("stated", 1, 9.0)),
                observation("stated", 2, (FEATURE, "last_contact"), "2018-01-01", valueDateTime="2017-06-10"),
                *(alive("visit"), diagnosis("visit")),
                {
                    "resourceType": "Encounter",
                    "id": "e",
                    "status": "finished",
                    "class": {"code": "AMB"},
                    "subject": {"reference": "Patient/visit"},
                    "period": {"start": "2015-07-01", "end": "2015-07-10"},
                },
            ],
        ),
        "aml",
    )
    assert found.cohort.ids.tolist() == ["dead", "seen", "stated", "visit"]
    assert (found.cohort.time * 365.25).tolist() == [365, 10, 731, 30]
    assert found.cohort.event.tolist() == [True, False, False, False]
    assert (found.cohort.column("age") * 365.25).tolist() == [22016.0] * 4  # since 1 March 1955
    assert found.cohort.column("male").tolist() == [0.0] * 4


def test_stated_outright_goes_before_derived_and_differences_are_counted(tmp_path: Path) -> None:
    age = observation("p", 1, ("http://loinc.org", "30525-0"), valueQuantity={"value": 57.3, "unit": "a"})
    survival = observation("p", 2, (FEATURE, "overall_survival"), valueQuantity={"value": 24, "unit": "mo"})
    found = harmonized(tmp_path, age, survival)
    assert cell(found, "age") == 57.3
    assert found.cohort.time.tolist() == [2.0]
    assert found.counts["features"]["age"]["contradictions"] == 1
    assert found.counts["features"]["overall_survival"]["contradictions"] == 1


def test_leukaemia_free_survival(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "name: own\nversion: '1'\nextends: mds\ncohort: {endpoint: leukaemia-free survival, columns: [age]}\n"
    )
    mds, acute = (SNOMED, "109995007"), (SNOMED, "91861009")
    found = harmonize(
        write(
            tmp_path / "source",
            [
                *(patient("a"), diagnosis("a", code=mds)),
                *(patient("b"), diagnosis("b", code=mds)),
                {**diagnosis("b", on="2015-06-20", code=acute), "id": "b-aml"},
                *(alive("c"), diagnosis("c", code=mds), lab("c", 1, 9.0, on="2015-06-30")),
            ],
        ),
        tmp_path / "own.yaml",
    )
    assert (found.cohort.time * 365.25).round(9).tolist() == [365, 10, 20]
    assert found.cohort.event.tolist() == [True, True, False]


# -- who is lost


def test_why_patients_are_lost(tmp_path: Path) -> None:
    lost = {
        "a": ("no diagnosis of the dictionary's", [patient("a"), diagnosis("a", code=(SNOMED, "254637007"))]),
        "b": ("a diagnosis without a date", [patient("b"), diagnosis("b", on=None)]),
        "c": ("dead, and nobody says when", [alive("c", deceasedBoolean=True), diagnosis("c")]),
        "d": ("last contact before the diagnosis", [patient("d", deceasedDateTime="2015-06-09"), diagnosis("d")]),
        "e": ("the Patient resource was set aside", [patient("e", gender="banana"), diagnosis("e")]),
        "f": ("no diagnosis of the dictionary's", [patient("f"), {**diagnosis("f"), "verificationStatus": refuted()}]),
    }
    kept = [patient("z"), diagnosis("z")]
    found = harmonize(write(tmp_path, [*kept, *(r for _, some in lost.values() for r in some)]), AML)
    assert found.cohort.ids.tolist() == ["z"]
    of_patients = found.reasons[found.reasons["feature"] == "patient"]
    assert dict(zip(of_patients["patient_id"], of_patients["reason"], strict=True)) == {
        key: words for key, (words, _) in lost.items()
    }
    assert found.counts["patients"]["found"] == 7
    assert sum(found.counts["patients"]["lost"].values()) == 6


def refuted() -> Resource:
    return coded(("http://terminology.hl7.org/CodeSystem/condition-ver-status", "refuted"))


def test_nobody_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(HarmonizationError, match=r"'aml': 1 no diagnosis of the dictionary's"):
        harmonize(write(tmp_path, [patient("p")]), AML)
    with pytest.raises(HarmonizationError, match="no Patient resources"):
        harmonize(write(tmp_path, [observation("p", 1, HEMOGLOBIN)]), AML)
    with pytest.raises(ReadingError):
        harmonize(tmp_path / "nothing", AML)
    with pytest.raises(DictionaryError, match="names no columns"):
        harmonize(tmp_path, "core")
    with pytest.raises(HarmonizationError, match="lies in the source"):
        harmonize(tmp_path, "aml", quarantine=tmp_path / "out" / "quarantine.ndjson")


def test_too_much_set_aside_is_an_error_and_the_quarantine_is_there(tmp_path: Path) -> None:
    source = write(tmp_path / "source", [patient("p"), diagnosis("p"), lab("p", 1, 9.0, "stone")])
    with pytest.raises(QuarantineError, match="1 of 3 resources"):
        harmonize(source, "aml", quarantine=tmp_path / "quarantine.ndjson", threshold=0.3)
    assert len(set_aside(tmp_path)) == 1
    harmonize(source, "aml", threshold=0.34)


# -- who is who


def test_ids_and_names_of_patients(tmp_path: Path) -> None:
    own = {"identifier": [{"system": "urn:mrn", "value": "77"}, {"system": PATIENT_ID, "value": "study 1"}]}
    by_identifier = lab("x", 1, 9.0)
    by_identifier["subject"] = {"identifier": {"system": "urn:mrn", "value": "77"}}
    conditional = lab("x", 2, 60, "/nL", code=("http://loinc.org", "777-3"))
    conditional["subject"] = {"reference": "Patient?identifier=urn:mrn|77"}
    old = alive("old", link=[{"other": {"reference": "Patient/x"}, "type": "replaced-by"}])
    spleen = observation("old", 3, (FEATURE, "splenomegaly"), valueBoolean=True)
    found = harmonize(
        write(tmp_path, [by_identifier, conditional, spleen, old, patient("x", **own), diagnosis("x")]), "aml"
    )
    assert found.cohort.ids.tolist() == ["study 1"]
    assert [cell(found, name, "study 1") for name in ("hemoglobin", "platelets", "splenomegaly")] == [9.0, 60.0, 1.0]


def test_bundles_with_addresses_of_their_own(tmp_path: Path) -> None:
    person = patient("p")
    del person["id"]
    urn = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"
    inside = []
    for resource in (diagnosis("p"), lab("p", 1, 9.0)):
        inside.append({**resource, "subject": {"reference": urn}})
    entries = [{"resource": r} for r in inside] + [{"fullUrl": urn, "resource": person}]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    (tmp_path / "bundle.json").write_bytes(orjson.dumps(bundle))
    found = harmonize(tmp_path / "bundle.json", AML)
    assert found.cohort.ids.tolist() == [urn]
    assert cell(found, "hemoglobin", urn) == 9.0


def test_what_refers_to_nobody_or_lies_before_birth_is_set_aside(tmp_path: Path) -> None:
    found = harmonized(
        tmp_path,
        lab("nobody", 1, 9.0),
        lab("p", 2, 9.0, on="1949-06-10"),
        {**lab("p", 3, 9.0), "specimen": {"reference": "Specimen/none"}},
        {"resourceType": "Specimen", "id": "some", "collection": {"collectedDateTime": DIAGNOSED}},
    )
    kinds = {record["resource"]["id"]: (record["kind"], record["path"]) for record in set_aside(tmp_path)}
    assert kinds == {
        "nobody-1": ("reference", "Observation.subject.reference"),
        "p-2": ("date", "Observation.effectiveDateTime"),
        "p-3": ("reference", "Observation.specimen.reference"),
    }
    assert (found.quarantine.read, found.quarantine.refused) == (6, 3)
    assert cell(found, "hemoglobin") == "quarantined"


def test_two_contents_under_one_id_are_both_set_aside(tmp_path: Path) -> None:
    found = harmonized(tmp_path, lab("p", 1, 9.0), lab("p", 1, 9.5), lab("p", 2, 60, "/nL"), lab("p", 3, 8.0, "bad"))
    assert [record["kind"] for record in set_aside(tmp_path)].count("duplicate") == 2
    assert cell(found, "hemoglobin") == "quarantined"
    again = harmonized(tmp_path, lab("p", 1, 9.0), lab("p", 1, 9.0))
    assert cell(again, "hemoglobin") == 9.0


# -- the same whatever the order, the files, and the number of processes


def test_any_order_and_any_files(tmp_path: Path) -> None:
    resources = hospital()
    expected = harmonize(write(tmp_path / "plain", resources), AML)
    assert len(expected.cohort) == 3
    shuffled = list(resources)
    for seed in range(4):
        random.Random(seed).shuffle(shuffled)
        directory = tmp_path / str(seed)
        for i in range(seed + 1):
            write(directory, shuffled[i :: seed + 1], f"part{i}.ndjson")
        assert same(harmonize(directory, AML), expected)
    packed = tmp_path / "packed"
    packed.mkdir()
    with gzip.open(packed / "all.ndjson.gz", "wb") as file:
        file.write((tmp_path / "plain" / "export.ndjson").read_bytes())
    assert same(harmonize(packed, AML), expected)
    entries = [{"resource": resource} for resource in shuffled]
    (tmp_path / "bundle.json").write_bytes(
        orjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})
    )
    assert same_tables(harmonize(tmp_path / "bundle.json", AML), expected)  # the Bundle is a resource more


def test_any_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = hospital()
    expected = harmonize(write(tmp_path / "one", resources), AML)
    monkeypatch.setattr("harmonization.harmonize.CHUNK_BYTES", 1500)
    told: list[float] = []
    source = write(tmp_path / "one", resources)
    assert same(harmonize(source, "aml", listen=lambda stage, done, words: told.append(done)), expected)
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert same(harmonize(source, "aml", workers=2), expected)


# -- whatever stands in a resource

JUNK: tuple[Any, ...] = (
    None, "", 0, -1, 1e308, True, [], {}, "2015", "2015-13-45", "<", [{}], [None], "9999-12-31", {"value": None},
    {"reference": "Patient/p1"}, {"coding": [{"system": "http://loinc.org"}]},
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9))
def test_spoiled_resources_are_an_error_of_theirs_and_not_ours(tmp_path: Path, seed: int) -> None:
    """Each is read, or set aside, and what is read and set aside adds up."""
    rng = random.Random(seed)
    resources = orjson.loads(orjson.dumps(hospital()))
    for _ in range(rng.randint(1, 8)):
        spoil(rng.choice(resources), rng)
    try:
        found = harmonize(write(tmp_path / "source", resources), AML, quarantine=tmp_path / "quarantine.ndjson")
    except HarmonizationError:
        return
    assert found.quarantine.read == len(resources)
    assert len(set_aside(tmp_path)) == found.quarantine.refused


def spoil(resource: Resource, rng: random.Random) -> None:
    """Replace one element, at any depth, or take it away."""
    at: Any = resource
    while True:
        key = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
        inside = at[key]
        if not (isinstance(inside, dict | list) and inside) or rng.random() < 0.2:
            break
        at = inside
    if rng.random() < 0.2:
        del at[key]
    else:
        at[key] = rng.choice(JUNK)


# -- files


def test_files_of_a_harmonized_source(tmp_path: Path) -> None:
    found = harmonize(write(tmp_path / "source", hospital()), AML)
    found.write(tmp_path / "out")
    assert same_cells(read_cohort(tmp_path / "out" / COHORT), found.cohort)
    provenance = pd.read_parquet(tmp_path / "out" / PROVENANCE)
    row = provenance[(provenance["patient_id"] == "p1") & (provenance["feature"] == "hemoglobin")].iloc[0]
    assert (row["value"], row["resource"], row["original"], row["unit"]) == (8.1, "Observation/p1-2", "81.0", "g/L")
    assert str(row["date"])[:10] == "2015-06-12"
    reasons = pd.read_parquet(tmp_path / "out" / REASONS)
    assert set(reasons["patient_id"]) == {"p0", "p1", "p2", "p3"}
    report = orjson.loads((tmp_path / "out" / REPORT).read_bytes())
    assert report["dictionary"]["hash"] == AML.hash
    assert report["schema"]["hash"] == found.cohort.schema.hash == AML.schema().hash
    hemoglobin = report["features"]["hemoglobin"]
    assert hemoglobin["units"] == {"g/L": 4, "g/dL": 8}
    assert hemoglobin["present"] == 3
    assert sum(hemoglobin["histogram"]["counts"]) == 3
    assert report["quarantine"]["reasons"] == {"unit Observation.valueQuantity.unit": 4}
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_every_value_has_a_provenance_and_every_missing_one_a_reason(tmp_path: Path) -> None:
    found = harmonize(write(tmp_path, hospital()), AML)
    frame = found.cohort.to_frame().set_index("patient_id")
    said = set(zip(found.provenance["patient_id"], found.provenance["feature"], strict=True))
    why = set(zip(found.reasons["patient_id"], found.reasons["feature"], strict=True))
    for name in (*AML.columns, *AML.scores):
        for key in found.cohort.ids:
            assert ((key, name) in said) != ((key, name) in why)
            assert ((key, name) in said) == bool(pd.notna(frame.loc[key, name]))


# -- there and back


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), decimals=st.sampled_from([None, 0, 2]), dictionary=st.sampled_from([AML, MDS]))
def test_a_cohort_comes_back_from_fhir(tmp_path: Path, seed: int, decimals: int | None, dictionary: Dictionary) -> None:
    cohort = draw_cohort(dictionary, 4, seed, decimals=decimals)
    write_fhir(cohort, dictionary, tmp_path / "fhir", seed)
    found = harmonize(tmp_path / "fhir", dictionary)
    assert found.quarantine.refused == 0
    if not same_cells(found.cohort, sorted_by_id(cohort)):  # as an assertion it would be shown, all of it
        pytest.fail("another cohort came back")


def sorted_by_id(cohort: Cohort) -> Cohort:
    return cohort[np.argsort(cohort.ids)]


@pytest.mark.parametrize("name", ["aml_amlsg", pytest.param("mds_iwg", marks=pytest.mark.slow)])
def test_real_patients_come_back_from_fhir(tmp_path: Path, data_dir: Path, name: str) -> None:
    """Values, karyotype, mutations, time and event of every patient, to the bit."""
    pytest.importorskip("rdata")
    from experiments.datasets import load_dataset

    cohort = load_dataset(name, data_dir=data_dir).cohort
    dictionary = Dictionary.read({"aml_amlsg": "aml", "mds_iwg": "mds"}[name])
    write_fhir(cohort, dictionary, tmp_path / "fhir")
    found = harmonize(tmp_path / "fhir", dictionary)
    assert found.quarantine.refused == 0
    assert same_cells(found.cohort, sorted_by_id(cohort))
