"""A small hospital by hand: its resources as plain JSON, written as NDJSON and harmonized."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from harmonization.dictionary import Dictionary
from harmonization.extraction.missing import ABSENT_REASON
from harmonization.harmonize import Harmonized, harmonize
from harmonization.resources import Resource

LOINC, SNOMED, HGNC = "http://loinc.org", "http://snomed.info/sct", "http://www.genenames.org/geneId"
FEATURE, UCUM = "urn:haemfed:feature", "http://unitsofmeasure.org"
DIAGNOSED = "2015-06-10"

HEMOGLOBIN, PLATELETS = (LOINC, "718-7"), (LOINC, "777-3")
VARIANT, REGION, KARYOTYPE = (LOINC, "69548-6"), (LOINC, "53041-0"), (LOINC, "81861-7")


def coded(*codes: tuple[str, str]) -> Resource:
    return {"coding": [{"system": system, "code": code} for system, code in codes]}


def patient(key: str, **more: Any) -> Resource:
    plain = {"gender": "female", "birthDate": "1955-03-01", "deceasedDateTime": "2016-06-09"}
    return {"resourceType": "Patient", "id": key, **plain, **more}


def diagnosis(key: str, on: str | None = DIAGNOSED, code: tuple[str, str] = (SNOMED, "91861009")) -> Resource:
    subject = {"reference": f"Patient/{key}"}
    found: Resource = {"resourceType": "Condition", "id": f"{key}-dx", "subject": subject, "code": coded(code)}
    return found if on is None else {**found, "onsetDateTime": on}


def observation(
    key: str, number: int | str, code: tuple[str, str], on: str | None = DIAGNOSED, **more: Any
) -> Resource:
    found: Resource = {
        "resourceType": "Observation",
        "id": f"{key}-{number}",
        "status": "final",
        "code": coded(code),
        "subject": {"reference": f"Patient/{key}"},
    }
    return found | ({} if on is None else {"effectiveDateTime": on}) | more


def lab(
    key: str,
    number: int | str,
    value: float,
    unit: str | None = "g/dL",
    on: str | None = DIAGNOSED,
    code: tuple[str, str] = HEMOGLOBIN,
    **more: Any,
) -> Resource:
    quantity: Resource = {"value": value}
    if unit is not None:
        quantity |= {"unit": unit}
    if "comparator" in more:
        quantity["comparator"] = more.pop("comparator")
    return observation(key, number, code, on, valueQuantity=quantity, **more)


def absent(reason: str) -> Resource:
    return {"dataAbsentReason": coded((ABSENT_REASON, reason))}


def variant(key: str, number: int | str, gene: str, on: str = DIAGNOSED, **parts: Any) -> Resource:
    """Parts: coding, protein (HGVS), answer (LOINC answer code), vaf (Quantity), germline."""
    components: list[Resource] = [{"code": coded((LOINC, "48018-6")), "valueCodeableConcept": {"text": gene}}]
    for part, code in (("coding", "48004-6"), ("protein", "48005-3")):
        if part in parts:
            concept = coded(("http://varnomen.hgvs.org", parts[part]))
            components.append({"code": coded((LOINC, code)), "valueCodeableConcept": concept})
    if "vaf" in parts:
        components.append({"code": coded((LOINC, "81258-6")), "valueQuantity": parts["vaf"]})
    if parts.get("germline"):
        concept = coded((LOINC, "LA6683-2"))
        components.append({"code": coded((LOINC, "48002-0")), "valueCodeableConcept": concept})
    answer = coded((LOINC, parts.get("answer", "LA9633-4")))
    return observation(key, number, VARIANT, on, valueCodeableConcept=answer, component=components)


def panel(key: str, number: int | str, *genes: str, on: str = DIAGNOSED, **more: Any) -> Resource:
    components = [{"code": coded((LOINC, "48018-6")), "valueCodeableConcept": {"text": gene}} for gene in genes]
    return observation(key, number, REGION, on, **({"component": components} if components else {}), **more)


def karyotype(key: str, number: int | str, text: str, on: str = DIAGNOSED) -> Resource:
    return observation(key, number, KARYOTYPE, on, valueString=text)


def write(directory: Path, resources: Iterable[Resource], name: str = "export.ndjson") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(b"".join(orjson.dumps(resource) + b"\n" for resource in resources))
    return directory


AML = Dictionary.read("aml")


def harmonized(directory: Path, *resources: Resource) -> Harmonized:
    """One patient ``p`` with a diagnosis, and these."""
    source = write(directory / "source", [patient("p"), diagnosis("p"), *resources])
    return harmonize(source, AML, quarantine=directory / "quarantine.ndjson")


def cell(found: Harmonized, feature: str, key: str = "p") -> float | str:
    """The value of a cell, or the reason why there is none."""
    reasons = found.reasons
    said = reasons[(reasons["patient_id"] == key) & (reasons["feature"] == feature)]["reason"].tolist()
    value = float(found.cohort.column(feature)[found.cohort.ids.tolist().index(key)])
    assert (value != value) == bool(said), (value, said)
    return said[0] if said else value


def set_aside(directory: Path) -> list[Resource]:
    path = directory / "quarantine.ndjson"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
