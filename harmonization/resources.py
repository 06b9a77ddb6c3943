"""FHIR R4 resources as plain JSON: the shapes in which this project writes patients.

Cohorts (`harmonization.writing`) and a hospital's own tables (`harmonization.tables`) become resources here and nowhere
else, so that what is read from either looks the same. Variants and tested genes follow HL7 genomics-reporting (profiles
variant and region-studied).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harmonization.codes import UCUM, Code
from harmonization.dictionary import Dictionary, Entry, Gene
from harmonization.errors import UnitError
from harmonization.units import parse_unit

Resource = dict[str, Any]

ABSENT_REASON = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
CLINICAL_STATUS = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
HGVS = "http://varnomen.hgvs.org"
PATIENT_ID = "urn:haemfed:patient"
"""System of the identifier that holds a patient's id as the cohort has it."""

REASONS = {
    "not_done": ("not-performed", "Not Performed"),
    "unknown": ("unknown", "Unknown"),
    "not_applicable": ("not-applicable", "Not Applicable"),
    "failed": ("error", "Error"),
}
"""Why a value is missing, and how FHIR says so. Below detection is a value with a comparator."""

PRESENT = Code("http://loinc.org", "LA9633-4", "Present")

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}").fullmatch
_NOT_OF_AN_ID = re.compile(r"[^A-Za-z0-9\-.]")


@dataclass(frozen=True)
class Call:
    """A somatic variant that was found.

    Parameters
    ----------
    gene
        Approved symbol.
    coding_change, protein_change
        In HGVS, with or without the reference sequence; empty if not known.
    allele_frequency
        Fraction of the reads, 0 to 1.
    """

    gene: str
    coding_change: str = ""
    protein_change: str = ""
    allele_frequency: float | None = None


def fhir_id(*parts: object) -> str:
    """An id that FHIR allows: the parts joined, or a digest of them where that is too long or has other characters."""
    plain = ".".join(str(part) for part in parts)
    text = plain.replace("_", "-")
    if _ID(text):
        return text
    return f"{_NOT_OF_AN_ID.sub('-', text)[:31]}.{hashlib.sha256(plain.encode()).hexdigest()[:32]}"


def patient_key(patient: str) -> str:
    """``Patient.id`` of a patient: the id itself where FHIR allows it."""
    return patient if _ID(patient) else fhir_id("p", patient + "\n")  # a line feed: always a digest


def coding(code: Code) -> Resource:
    """A Coding."""
    return {"system": code.system, "code": code.code} | ({"display": code.display} if code.display else {})


def concept(*codes: Code, text: str = "") -> Resource:
    """A CodeableConcept."""
    found: Resource = {"coding": [coding(code) for code in codes]} if codes else {}
    return found | ({"text": text} if text else {})


def quantity(value: float, unit: str, comparator: str = "") -> Resource:
    """A Quantity: a unit of UCUM with its code, any other as text only; none without a unit."""
    whole = float(value).is_integer() and abs(value) < 2**53 and str(value) != "-0.0"
    found: Resource = {"value": int(value) if whole else value}
    if comparator:
        found["comparator"] = comparator
    if unit and unit != "1":
        found["unit"] = unit
    if unit and _surely_ucum(unit):
        found |= {"system": UCUM, "code": unit}
    return found


def subject(patient: str) -> Resource:
    """A Reference to a patient."""
    return {"reference": f"Patient/{patient_key(patient)}"}


def patient(
    identity: str,
    *,
    gender: str | None = None,
    born: str | None = None,
    died: str | None = None,
    dead: bool | None = None,
) -> Resource:
    """A Patient.

    Parameters
    ----------
    identity
        The patient's id.
    gender
        Code of FHIR.
    born, died
        Dates.
    dead
        If no date of death is given.
    """
    found: Resource = {
        "resourceType": "Patient",
        "id": patient_key(identity),
        "identifier": [{"system": PATIENT_ID, "value": identity}],
    }
    if gender is not None:
        found["gender"] = gender
    if born is not None:
        found["birthDate"] = born
    if died is not None:
        found["deceasedDateTime"] = died
    elif dead is not None:
        found["deceasedBoolean"] = dead
    return found


def condition(key: str, patient: str, code: Code, onset: str) -> Resource:
    """A confirmed Condition with the date of its diagnosis as onset."""
    return {
        "resourceType": "Condition",
        "id": key,
        "clinicalStatus": concept(Code(CLINICAL_STATUS, "active")),
        "verificationStatus": concept(Code(VERIFICATION, "confirmed")),
        "code": concept(code),
        "subject": subject(patient),
        "onsetDateTime": onset,
    }


def procedure(key: str, patient: str, code: Code, performed: str) -> Resource:
    """A completed Procedure."""
    return {
        "resourceType": "Procedure",
        "id": key,
        "status": "completed",
        "code": concept(code),
        "subject": subject(patient),
        "performedDateTime": performed,
    }


def medication(key: str, patient: str, code: Code, start: str) -> Resource:
    """A MedicationStatement from its first day on."""
    return {
        "resourceType": "MedicationStatement",
        "id": key,
        "status": "completed",
        "medicationCodeableConcept": concept(code),
        "subject": subject(patient),
        "effectivePeriod": {"start": start},
    }


def observation(key: str, patient: str, code: Resource, on: str | None, value: Mapping[str, Any]) -> Resource:
    """A final Observation.

    Parameters
    ----------
    key
        Its id.
    patient
        The patient's id.
    code
        A CodeableConcept.
    on
        Date or dateTime, if known.
    value
        ``value[x]``, ``dataAbsentReason`` or ``component``.
    """
    found: Resource = {
        "resourceType": "Observation",
        "id": key,
        "status": "final",
        "category": [concept(Code(CATEGORY, "laboratory"))],
        "code": code,
        "subject": subject(patient),
    }
    if on is not None:
        found["effectiveDateTime"] = on
    return found | dict(value)


def missing(reason: str) -> Resource:
    """``dataAbsentReason`` of an Observation, for one of `REASONS`."""
    code, display = REASONS[reason]
    return {"dataAbsentReason": concept(Code(ABSENT_REASON, code, display))}


def value_of(entry: Entry, value: str | float, unit: str | None = None) -> Resource:
    """``value[x]`` of an Observation that states a feature.

    Parameters
    ----------
    entry
        The feature.
    value
        Number, or text of a categorical or text feature, or a date.
    unit
        In which the number is; the canonical one by default.

    Raises
    ------
    DictionaryError
        If the feature has no such value.
    """
    if entry.kind == "date":
        return {"valueDateTime": value}
    if entry.kind == "text":
        return {"valueString": value}
    if entry.kind == "categorical" or (entry.kind == "binary" and entry.answers and unit is None):
        return {"valueCodeableConcept": concept(entry.answer(value))}
    assert not isinstance(value, str), entry.name
    if entry.units is not None:
        return {"valueQuantity": quantity(value, entry.units.ucum if unit is None else unit)}
    return {"valueBoolean": value == 1} if entry.kind == "binary" else {"valueInteger": int(value)}


def statement(entry: Entry, key: str, patient: str, on: str | None, value: str | float) -> Resource:
    """The resource that states a feature outright: an Observation, Condition, Procedure or MedicationStatement.

    Features of the Patient resource itself are no resources: see `patient`.

    Parameters
    ----------
    entry
        The feature.
    key
        Id of the resource.
    patient
        The patient's id.
    on
        Date of the record; of a feature that is a date, the date itself.
    value
        As for `value_of`.

    Raises
    ------
    DictionaryError
        If the feature has no such value.
    """
    if entry.source == "condition" and on is not None:
        return condition(key, patient, entry.answer(value) if entry.kind == "categorical" else entry.concept, on)
    if entry.source == "procedure" and on is not None:
        return procedure(key, patient, entry.concept, on)
    if entry.source == "medication" and on is not None:
        return medication(key, patient, entry.concept, on)
    return observation(key, patient, concept(entry.concept, text=entry.label), on, value_of(entry, value))


def gene_concept(gene: Gene) -> Resource:
    """A gene by its HGNC id and symbol."""
    return concept(gene.code, text=gene.symbol)


def variant(dictionary: Dictionary, key: str, patient: str, on: str | None, call: Call) -> Resource:
    """A variant that was found (genomics-reporting, profile variant).

    Parameters
    ----------
    dictionary
        Has the codes of the report's parts, and the genes.
    key, patient, on
        As for `statement`.
    call
        The variant.
    """
    genes = {gene.symbol: gene for gene in dictionary.genes}
    gene = genes.get(call.gene)
    parts: list[tuple[str, Resource]] = [
        ("gene", {"valueCodeableConcept": gene_concept(gene) if gene else concept(text=call.gene)})
    ]
    for role, change in (("coding_change", call.coding_change), ("protein_change", call.protein_change)):
        if change:
            parts.append((role, {"valueCodeableConcept": concept(Code(HGVS, change), text=change)}))
    if call.allele_frequency is not None:
        parts.append(("allele_frequency", {"valueQuantity": quantity(call.allele_frequency, "1")}))
    body = {"valueCodeableConcept": concept(PRESENT), "component": [_part(dictionary, *part) for part in parts]}
    return observation(key, patient, concept(dictionary.concepts["variant"][0]), on, body)


def tested_genes(dictionary: Dictionary, key: str, patient: str, on: str | None, symbols: Sequence[str]) -> Resource:
    """Which genes were sequenced, whatever was found (genomics-reporting, profile region-studied).

    Parameters
    ----------
    dictionary
        As for `variant`.
    key, patient, on
        As for `statement`.
    symbols
        Approved symbols.
    """
    genes = {gene.symbol: gene for gene in dictionary.genes}
    parts = [
        _part(dictionary, "gene", {"valueCodeableConcept": gene_concept(genes[s]) if s in genes else concept(text=s)})
        for s in symbols
    ]
    body = {"component": parts} if parts else missing("unknown")
    return observation(key, patient, concept(dictionary.concepts["region_studied"][0]), on, body)


@lru_cache(maxsize=4096)
def _surely_ucum(unit: str) -> bool:
    """Whether a unit means in UCUM what was meant: ``K/uL`` is kelvin there, and stays a text."""
    try:
        parse_unit(unit)
    except UnitError:
        return False
    return True


def _part(dictionary: Dictionary, role: str, value: Resource) -> Resource:
    return {"code": concept(dictionary.concepts[role][0])} | value
