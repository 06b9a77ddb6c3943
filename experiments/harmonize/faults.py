"""Faults as hospitals make them, seeded into an export on top of what is right, each with where it must be found.

Every fault is a resource, or a row of a table, of its own: what it spoils is lost, and the patient's row must be the
same as without it. A fault of a whole patient makes a patient of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import orjson

from experiments.harmonize.fhir_export import FhirExport
from harmonization.codes import LOINC, UCUM, Code
from harmonization.dictionary import Dictionary, Entry
from harmonization.resources import Resource, concept, observation, patient, quantity, value_of
from harmonization.writing import Record


@dataclass(frozen=True)
class Fault:
    """One seeded fault, and where it must be found.

    Parameters
    ----------
    center
        The hospital.
    name
        What is wrong.
    kind
        The kind under which it must be set aside.
    file
        Of the export, without its directory.
    path
        Element of the resource, or column of the table.
    resource
        ``Type/id`` of the resource, or None.
    row
        Row of the table, or None.
    """

    center: str
    name: str
    kind: str
    file: str
    path: str
    resource: str | None = None
    row: int | None = None

    def plain(self) -> dict[str, Any]:
        """Plain data, without what there is not."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Seeded:
    """Resources that together are one fault.

    Parameters
    ----------
    resources
        As they are exported.
    kind, path
        As of the fault.
    found
        ``Type/id`` of those that must be set aside.
    raw
        What replaces a text in their JSON, for what no parsed resource can say.
    broken
        Whether the JSON itself is broken.
    """

    resources: tuple[Resource, ...]
    kind: str
    path: str
    raw: tuple[bytes, bytes] | None = None
    broken: bool = False

    def lines(self) -> list[bytes]:
        """JSON of each resource."""
        texts = [orjson.dumps(resource) for resource in self.resources]
        if self.raw is not None:
            texts = [text.replace(*self.raw) for text in texts]
        return [text[: len(text) // 2] if self.broken else text for text in texts]


class Faults:
    """Makes the faults of a hospital that exports FHIR.

    Parameters
    ----------
    export
        Its resources.
    records
        Its patients.
    rng
        Draws whose record is spoiled.
    """

    def __init__(self, export: FhirExport, records: Sequence[Record], rng: np.random.Generator) -> None:
        self.export, self.records, self.rng = export, records, rng
        self.dictionary: Dictionary = export.dictionary
        self.measured = [e for e in export.entries if e.source == "observation" and e.kind == "continuous" and e.units]
        self.count = 0

    def make(self, name: str) -> Seeded:
        """One fault of `FAULTS`."""
        self.count += 1
        return FAULTS[name](self)

    # -- the parts of a fault

    def key(self) -> str:
        """An id that no other resource has."""
        return f"fault.{self.count}"

    def someone(self) -> Record:
        """A patient of the hospital."""
        return self.records[int(self.rng.integers(len(self.records)))]

    def entry(self) -> Entry:
        """A measured feature with a plausible range that ends."""
        bounded = [e for e in self.measured if e.high is not None]
        return bounded[int(self.rng.integers(len(bounded)))]

    def said(self, record: Record, code: Resource, on: str, body: Resource) -> Resource:
        """An Observation of a patient."""
        made = observation(self.key(), record.identity, code, on, body)
        if self.export.convention.references != "relative":
            made["subject"]["reference"] = self.export.address(made["subject"]["reference"].removeprefix("Patient/"))
        return made

    def result(self, body: Resource, entry: Entry) -> Resource:
        """An Observation of a feature, with a body of its own."""
        record = self.someone()
        return self.said(record, self.export.code(entry), record.diagnosed.isoformat(), body)

    def sound(self, entry: Entry | None = None) -> tuple[Entry, Resource]:
        """An Observation in which nothing is wrong yet."""
        entry = entry or self.entry()
        return entry, self.result(value_of(entry, self.typical(entry)), entry)

    @staticmethod
    def typical(entry: Entry) -> float:
        """A plausible value."""
        return entry.reference or 1.0


def _wrong_unit_label(of: Faults) -> Seeded:
    """A value in another unit, with the label of the canonical one: 121 g/dL."""
    entry = of.entry()
    assert entry.units is not None
    assert entry.high is not None
    return Seeded(
        (of.result({"valueQuantity": quantity(10 * entry.high + 1, entry.units.ucum)}, entry),),
        "range",
        "Observation.valueQuantity.value",
    )


def _implausible(of: Faults) -> Seeded:
    """A value that no patient has."""
    entry = of.entry()
    assert entry.units is not None
    value = -1.0 if entry.low is None else entry.low - 1
    body = {"valueQuantity": quantity(value, entry.units.ucum)}
    return Seeded((of.result(body, entry),), "range", "Observation.valueQuantity.value")


def _unit_is_another_in_ucum(of: Faults) -> Seeded:
    """``G/L`` with the system of UCUM: gauss."""
    _, made = of.sound()
    made["valueQuantity"] = {"value": 4.1, "unit": "G/L", "system": UCUM, "code": "G/L"}
    return Seeded((made,), "unit", "Observation.valueQuantity.code")


def _unit_unknown(of: Faults) -> Seeded:
    """A unit that the dictionary has not for the feature."""
    entry, made = of.sound()
    made["valueQuantity"] = {"value": of.typical(entry), "unit": "drops"}
    return Seeded((made,), "unit", "Observation.valueQuantity.unit")


def _no_unit(of: Faults) -> Seeded:
    """A number and nothing else."""
    entry, made = of.sound(next(e for e in of.measured if e.units and "" not in {s.text for s in e.units.spellings}))
    made["valueQuantity"] = {"value": of.typical(entry)}
    return Seeded((made,), "unit", "Observation.valueQuantity.unit")


def _decimal_comma(of: Faults) -> Seeded:
    """``12,5`` as a text."""
    _, made = of.sound()
    del made["valueQuantity"]
    return Seeded((made | {"valueString": "12,5"},), "value", "Observation.valueString")


def _word_for_a_number(of: Faults) -> Seeded:
    """``n/a`` as a text."""
    _, made = of.sound()
    del made["valueQuantity"]
    return Seeded((made | {"valueString": "n/a"},), "value", "Observation.valueString")


def _status(of: Faults) -> Seeded:
    """A status that is none."""
    _, made = of.sound()
    return Seeded((made | {"status": "validated"},), "binding", "Observation.status")


def _gender(of: Faults) -> Seeded:
    """A gender in another language."""
    return Seeded((patient(of.key(), gender="maennlich"),), "binding", "Patient.gender")


def _dates_swapped(of: Faults) -> Seeded:
    """Dates of birth and death in each other's place."""
    record = of.someone()
    born, died = record.diagnosed + timedelta(days=700), record.diagnosed - timedelta(days=9000)
    made = patient(of.key(), gender="female", born=born.isoformat(), died=died.isoformat())
    return Seeded((made,), "date", "Patient.deceasedDateTime")


def _no_such_day(of: Faults) -> Seeded:
    """The 30th of February."""
    _, made = of.sound()
    return Seeded((made | {"effectiveDateTime": "2009-02-30"},), "date", "Observation.effectiveDateTime")


def _before_birth(of: Faults) -> Seeded:
    """A result from before the patient was born."""
    known = [record for record in of.records if record.born is not None]
    if not known:
        return _no_such_day(of)
    record = known[int(of.rng.integers(len(known)))]
    entry = of.entry()
    assert record.born is not None
    day = (record.born - timedelta(days=90)).isoformat()
    made = of.said(record, of.export.code(entry), day, value_of(entry, of.typical(entry)))
    return Seeded((made,), "date", "Observation.effectiveDateTime")


def _reference(of: Faults) -> Seeded:
    """A patient who is not in the export."""
    _, made = of.sound()
    return Seeded((made | {"subject": {"reference": "Patient/nobody"}},), "reference", "Observation.subject.reference")


def _duplicate(of: Faults) -> Seeded:
    """Two results with one id."""
    entry, made = of.sound()
    other = made | value_of(entry, of.typical(entry) * 0.9)
    return Seeded((made, other), "duplicate", "Observation.id")


def _r5_element(of: Faults) -> Seeded:
    """An element that R4 has not."""
    _, made = of.sound()
    trigger = [{"observation": made["subject"], "type": "reflex"}]
    return Seeded((made | {"triggeredBy": trigger},), "version", "Observation.triggeredBy")


def _r5_resource(of: Faults) -> Seeded:
    """A resource type that R4 has not."""
    made = {"resourceType": "GenomicStudy", "id": of.key(), "status": "available"}
    return Seeded((made,), "version", "GenomicStudy.resourceType")


def _precision(of: Faults) -> Seeded:
    """A decimal with more digits than are kept."""
    _, made = of.sound()
    made["valueQuantity"]["value"] = 7.25
    return Seeded(
        (made,), "precision", "Observation.valueQuantity.value", raw=(b":7.25", b":7.2500000000000000000000013")
    )


def _truncated(of: Faults) -> Seeded:
    """A line that ends in the middle."""
    _, made = of.sound()
    return Seeded((made,), "json", "", broken=True)


def _empty_panel(of: Faults) -> Seeded:
    """Genes were sequenced, and nobody says which."""
    record = of.someone()
    code = concept(of.dictionary.concepts["region_studied"][0])
    made = of.said(record, code, record.diagnosed.isoformat(), {})
    return Seeded((made,), "value", "Observation.component")


def _unknown_answer(of: Faults) -> Seeded:
    """An answer that the dictionary has not."""
    entry = next(e for e in of.export.entries if e.source == "observation" and e.kind in ("binary", "categorical"))
    made = of.result({"valueCodeableConcept": concept(Code(LOINC, "LA12688-0", "Other"))}, entry)
    return Seeded((made,), "code", "Observation.valueCodeableConcept.coding")


FAULTS: dict[str, Callable[[Faults], Seeded]] = {
    "wrong unit label": _wrong_unit_label,
    "implausible value": _implausible,
    "unit means another one in UCUM": _unit_is_another_in_ucum,
    "unknown unit": _unit_unknown,
    "no unit": _no_unit,
    "decimal comma": _decimal_comma,
    "word for a number": _word_for_a_number,
    "invalid status": _status,
    "invalid gender": _gender,
    "dates swapped": _dates_swapped,
    "no such day": _no_such_day,
    "result before birth": _before_birth,
    "unresolved reference": _reference,
    "duplicate id": _duplicate,
    "element of R5": _r5_element,
    "resource of R5": _r5_resource,
    "lost precision": _precision,
    "truncated line": _truncated,
    "empty panel": _empty_panel,
    "unknown answer": _unknown_answer,
}
"""Every fault of a FHIR export, by name."""

LINES_ONLY = frozenset({"lost precision", "truncated line"})
"""Faults of the JSON text, which would spoil the whole document in a Bundle."""
