"""A cohort as FHIR: valid R4, the same bytes for the same seed, and every cell comes back to the bit."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonization import Cohort, CohortError, Dictionary, DictionaryError, SchemaError
from harmonization.checks import check
from harmonization.dictionary import DIAGNOSIS
from harmonization.reading import Refusal, read_resources
from harmonization.references import Index
from harmonization.resources import PATIENT_ID, fhir_id, patient_key, quantity
from harmonization.schema import DAYS_PER
from harmonization.validation import validate
from harmonization.writing import write_fhir
from tests.harmonization.rows import draw_cohort, same_cells

AML = Dictionary.read("aml")
MDS = Dictionary.read("mds")


def inverse(directory: Path, dictionary: Dictionary) -> Cohort:
    """The cohort that the files say, read as plainly as can be."""
    refused: list[Refusal] = []
    everything = [located.resource for located in read_resources(directory, refused.append)]
    assert not refused
    patients = {r["id"]: r for r in everything if r["resourceType"] == "Patient"}
    said: dict[str, dict[str, Any]] = defaultdict(dict)
    for r in everything:
        if r["resourceType"] == "Patient":
            continue
        values = said[r["subject"]["reference"].removeprefix("Patient/")]
        code = (r["code"]["coding"][0]["system"], r["code"]["coding"][0]["code"])
        entries = dictionary.by_code.get(code, ())
        if r["resourceType"] == "Condition":
            assert dictionary[DIAGNOSIS] in entries
            values[DIAGNOSIS] = r["onsetDateTime"]
        elif code[1] == "69548-6":
            (gene,) = (c["valueCodeableConcept"]["coding"][0]["code"] for c in r["component"])
            values.setdefault("found", set()).add(gene)
        elif code[1] == "53041-0":
            values["tested"] = {c["valueCodeableConcept"]["coding"][0]["code"] for c in r["component"]}
        else:
            for entry in entries:
                if "valueQuantity" in r:
                    q = r["valueQuantity"]
                    values[entry.name] = dictionary.factors[entry.name, q["code"]].convert(float(q["value"]))
                elif "valueCodeableConcept" in r:
                    coding = r["valueCodeableConcept"]["coding"][0]
                    values[entry.name] = entry.meaning[coding["system"], coding["code"]]
                else:
                    (values[entry.name],) = (r[key] for key in r if key.startswith("value"))
    schema = dictionary.schema()
    ids, time, event, rows = [], [], [], []
    for key, patient in patients.items():
        values = said[key]
        for gene in dictionary.genes:
            for entry in dictionary.by_gene[gene.symbol] if gene.code.code in values.get("tested", ()) else ():
                values[entry.name] = float(gene.code.code in values.get("found", ()))
        values["male"] = {"male": 1.0, "female": 0.0, None: np.nan}[patient.get("gender")]
        died = patient.get("deceasedDateTime")
        end = date.fromisoformat(died or values["last_contact"])
        days = (end - date.fromisoformat(values[DIAGNOSIS])).days
        ids.append(patient["identifier"][0]["value"])
        time.append(values.get("overall_survival", days / DAYS_PER[schema.time_unit]))
        event.append(died is not None)
        row = [values.get(f.name, np.nan) for f in (*schema.features, *schema.scores)]
        rows.append(
            [
                f.categories.index(v) if isinstance(v, str) else float(v)
                for f, v in zip((*schema.features, *schema.scores), row, strict=True)
            ]
        )
    table, p = np.array(rows, dtype=float), len(schema.features)
    return Cohort(schema, np.array(ids), table[:, :p], np.array(time), np.array(event), table[:, p:])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), decimals=st.sampled_from([None, 0, 2]), dictionary=st.sampled_from([AML, MDS]))
def test_every_cell_comes_back(tmp_path: Path, seed: int, decimals: int | None, dictionary: Dictionary) -> None:
    cohort = draw_cohort(dictionary, 4, seed, decimals=decimals)
    write_fhir(cohort, dictionary, tmp_path, seed)
    assert same_cells(inverse(tmp_path, dictionary), cohort)


def test_real_patients_come_back(data_dir: Path, tmp_path: Path) -> None:
    """Whole days in one data set, days over 365 rounded to 8 decimals in the other."""
    from experiments.datasets import load_dataset

    for name, dictionary in (("aml_amlsg", AML), ("mds_iwg", MDS)):
        cohort = load_dataset(name, data_dir).cohort[np.arange(0, 1500, 25)]
        write_fhir(cohort, dictionary, tmp_path / name)
        assert same_cells(inverse(tmp_path / name, dictionary), cohort)


def test_valid_r4(tmp_path: Path) -> None:
    pytest.importorskip("fhir.resources")
    write_fhir(draw_cohort(AML, 5, 1, decimals=1), AML, tmp_path)
    everything = list(read_resources(tmp_path, pytest.fail))
    index = Index.of(everything)
    for located in everything:
        assert not validate(located.resource), located
        assert not check(located.resource), located
        assert not index.check(located), located
    assert not index.repeated


def test_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    cohort = draw_cohort(AML, 3, 2)
    counts = write_fhir(cohort, AML, tmp_path / "a", seed=1)
    write_fhir(cohort[np.array([2, 0, 1])], AML, tmp_path / "b", seed=1)
    write_fhir(cohort, AML, tmp_path / "c", seed=2)
    for kind, count in counts.items():
        lines = [(tmp_path / d / f"{kind}.ndjson").read_bytes().splitlines() for d in "abc"]
        assert len(lines[0]) == count
        assert sorted(lines[0]) == sorted(lines[1])  # a patient's dates do not depend on who else is written
        assert lines[0] != lines[2]
    assert not list(tmp_path.rglob("*.tmp"))


def test_dates_say_the_time(tmp_path: Path) -> None:
    """A whole number of days is said by dates alone."""
    cohort = draw_cohort(AML, 20, 3, decimals=1)
    write_fhir(cohort, AML, tmp_path)
    assert b"overall_survival" not in (tmp_path / "Observation.ndjson").read_bytes()
    write_fhir(draw_cohort(AML, 20, 3), AML, tmp_path)
    assert (tmp_path / "Observation.ndjson").read_bytes().count(b'"overall_survival"') == 20


def test_no_variant_is_invented(tmp_path: Path) -> None:
    """CEBPA with two variants, a codon of IDH2, a duplication: stated outright, and the gene is no tested gene."""
    cohort = draw_cohort(AML, 1, 4, missing=0)
    for name in ("CEBPA_bi", "IDH2_p140", "MLL_PTD", "NPM1"):
        cohort.values[0, cohort.schema.index(name)] = 1
    write_fhir(cohort, AML, tmp_path)
    lines = [orjson.loads(line) for line in (tmp_path / "Observation.ndjson").read_bytes().splitlines()]
    genes = {
        code: {
            c["valueCodeableConcept"]["text"]
            for r in lines
            if r["code"]["coding"][0]["code"] == code
            for c in r["component"]
        }
        for code in ("69548-6", "53041-0")
    }
    assert "NPM1" in genes["69548-6"]
    assert genes["69548-6"] <= genes["53041-0"]
    assert not genes["53041-0"] & {"CEBPA", "IDH2", "KMT2A"}


def test_refusals(tmp_path: Path) -> None:
    cohort = draw_cohort(AML, 2, 5, decimals=1)
    with pytest.raises(SchemaError, match="aml"):
        write_fhir(cohort, MDS, tmp_path)
    cohort.time[1] = 101
    with pytest.raises(CohortError, match=r"row 2, column 'time', value 101"):
        write_fhir(cohort, AML, tmp_path)
    assert not list(tmp_path.iterdir())
    other = replace(AML, endpoint="relapse")
    cohort = replace(cohort, schema=other.schema())
    with pytest.raises(DictionaryError, match="relapse"):
        write_fhir(cohort, other, tmp_path)


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
def test_ids_that_fhir_allows(a: str, b: str) -> None:
    for text in (a, b):
        for key in (patient_key(text), fhir_id(text, "hemoglobin"), fhir_id(text, "variant", 2)):
            assert not check(
                {"resourceType": "Patient", "id": key, "identifier": [{"system": PATIENT_ID, "value": "x"}]}
            )
    assert (patient_key(a) == patient_key(b)) == (a == b)


def test_units_that_ucum_understands_otherwise_stay_text() -> None:
    assert quantity(3.2, "K/uL") == {"value": 3.2, "unit": "K/uL"}
    assert quantity(3.0, "10*9/L") == {
        "value": 3,
        "unit": "10*9/L",
        "system": "http://unitsofmeasure.org",
        "code": "10*9/L",
    }
    assert repr(quantity(-0.0, "1")["value"]) == "-0.0"
