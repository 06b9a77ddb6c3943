"""One hospital's patients as FHIR R4 resources, in its own conventions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np

from experiments.harmonize.conventions import Convention
from experiments.harmonize.genomes import report_karyotype, report_variants
from harmonization.codes import Code
from harmonization.dictionary import DIAGNOSIS, Dictionary, Entry
from harmonization.resources import (
    REASONS,
    Resource,
    concept,
    condition,
    fhir_id,
    missing,
    observation,
    patient,
    quantity,
    tested_genes,
    value_of,
    variant,
)
from harmonization.writing import LAST_CONTACT, SURVIVAL, Record

PROFILES = {
    "us-core": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-{}",
    "mii": "https://www.medizininformatik-initiative.de/fhir/core/StructureDefinition/{}",
}
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_NAMES = {
    "us-core": {"Patient": "patient", "Condition": "condition", "Observation": "observation-lab"},
    "mii": {"Patient": "Patient", "Condition": "Diagnose", "Observation": "ObservationLab"},
}
_HOURS = ("08:15:00", "09:41:30", "13:02:00", "16:48:10")


class FhirExport:
    """Makes a hospital's resources.

    Parameters
    ----------
    dictionary
        The features.
    convention
        The hospital's.
    rng
        Draws what differs from patient to patient.
    """

    def __init__(self, dictionary: Dictionary, convention: Convention, rng: np.random.Generator) -> None:
        self.dictionary, self.convention, self.rng = dictionary, convention, rng
        schema = dictionary.schema()
        self.entries = [dictionary[f.name] for f in (*schema.features, *schema.scores)]
        self.mutations = [e for e in self.entries if e.variant]
        self.findings = [e for e in self.entries if e.karyotype]

    def resources(self, record: Record) -> list[Resource]:
        """All resources of one patient, the Patient first."""
        found = [self.dressed(resource) for resource in self._plain(record)]
        if self.convention.references == "relative":
            return found
        address = self.address(found[0]["id"])
        for resource in found[1:]:
            resource["subject"]["reference"] = address
        return found

    def address(self, key: str, kind: str = "Patient") -> str:
        """``fullUrl`` of a resource in a Bundle."""
        if self.convention.references == "urn":
            return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{self.convention.local}/{kind}/{key}')}"
        return f"{self.convention.local.removesuffix('/codes')}/fhir/{kind}/{key}"

    def _plain(self, record: Record) -> Iterator[Resource]:
        who, on, ended = record.identity, record.diagnosed, record.ended.isoformat()
        values = dict(record.values)
        yield patient(
            who,
            gender=record.gender,
            born=record.born.isoformat() if record.born else None,
            died=ended if record.dead else None,
            dead=None if record.dead or self.rng.random() < 0.5 else False,
        )
        yield condition(fhir_id(who, DIAGNOSIS), who, self.dictionary[DIAGNOSIS].concept, on.isoformat())
        if not record.dead:
            entry = self.dictionary[LAST_CONTACT]
            yield observation(fhir_id(who, LAST_CONTACT), who, concept(entry.own_code), ended, value_of(entry, ended))
        if SURVIVAL in values:
            entry = self.dictionary[SURVIVAL]
            value = values.pop(SURVIVAL)
            yield observation(fhir_id(who, SURVIVAL), who, concept(entry.own_code), ended, value_of(entry, value))
        yield from self._sequencing(record, values, on)
        karyotype = None
        if self.convention.cytogenetics == "karyotypes":
            karyotype = report_karyotype(self.dictionary, self.findings, values, record.gender)
        if karyotype is not None:
            for entry in self.findings:
                del values[entry.name]
            code = concept(self.dictionary["karyotype"].concept)
            yield observation(fhir_id(who, "karyotype"), who, code, self.when(on), {"valueString": karyotype})
        for entry in self.entries:
            key = fhir_id(who, entry.name)
            if entry.name in values:
                yield observation(key, who, self.code(entry), self.when(on), self.value(entry, values[entry.name]))
            elif self._unknown(entry, record, karyotype) and (body := self._missing(entry)) is not None:
                yield observation(key, who, self.code(entry), self.when(on), body)

    def _sequencing(self, record: Record, values: dict[str, Any], on: date) -> Iterator[Resource]:
        """Variants and tested genes, taken out of the values."""
        for gene in record.tested:  # the record says it by genes; here it is drawn anew
            found = any(call.gene == gene for call in record.calls)
            values |= {e.name: float(found) for e in self.mutations if e.variant and e.variant.gene == gene}
        if self.convention.genomics == "findings":
            return
        who = record.identity
        calls, tested = report_variants(self.mutations, values, self.convention.genomics == "variants")
        if self.convention.genomics == "variants":
            for i, call in enumerate(calls):
                call = replace(call, allele_frequency=round(float(self.rng.uniform(0.02, 0.98)), 3))
                yield self._genes(variant(self.dictionary, fhir_id(who, "variant", i), who, self.when(on), call))
        elif calls:
            names = ", ".join(sorted(self._symbol(call.gene) for call in calls))
            code = concept(self.dictionary.concepts["variant"][0])
            yield observation(fhir_id(who, "mutations"), who, code, self.when(on), {"valueString": names})
        if tested:
            yield self._genes(tested_genes(self.dictionary, fhir_id(who, "panel"), who, self.when(on), tested))

    def _symbol(self, gene: str) -> str:
        """A gene as the hospital calls it."""
        if self.convention.genes != "former":
            return gene
        return next((g.formerly[0] for g in self.dictionary.genes if g.symbol == gene and g.formerly), gene)

    def _genes(self, resource: Resource) -> Resource:
        """The genes of a report named in the hospital's way."""
        if self.convention.genes != "hgnc":
            for part in resource["component"]:
                if part["code"]["coding"][0]["code"] == self.dictionary.concepts["gene"][0].code:
                    part["valueCodeableConcept"] = concept(text=self._symbol(part["valueCodeableConcept"]["text"]))
        return resource

    # -- what is stated outright

    def code(self, entry: Entry) -> Resource:
        """The code of a feature: the hospital's own, or one of a terminology."""
        if entry.name in self.convention.local_features:
            return concept(Code(self.convention.local, entry.name.upper(), entry.label))
        return concept(self.convention.codes.get(entry.name, entry.concept), text=entry.label)

    def value(self, entry: Entry, value: str | float) -> Resource:
        """``value[x]`` in the hospital's unit and code; the canonical unit where another would change the value."""
        how = self.convention
        if (entry.name, value) in how.answers and (entry.kind == "categorical" or how.flags == "coded"):
            return {"valueCodeableConcept": concept(how.answers[entry.name, value])}
        if entry.kind == "binary":
            if how.flags == "interpretation":
                return {"interpretation": [concept(Code(INTERPRETATION, "POS" if value else "NEG"))]}
            return {"valueBoolean": value == 1}
        if isinstance(value, str) or entry.units is None:
            return value_of(entry, value)
        number, unit = self.measured(entry, value)
        return {"valueQuantity": quantity(number, unit)}

    def measured(self, entry: Entry, value: float) -> tuple[float, str]:
        """A number and its unit, from which the reader gets the very same value again."""
        return in_unit(self.dictionary, entry, value, self.convention.units.get(entry.name))

    def when(self, on: date) -> str:
        """The date of a record; see also `dressed` for periods."""
        if self.convention.dates in ("day", "period"):
            return on.isoformat()
        hour = _HOURS[int(self.rng.integers(len(_HOURS)))]
        return f"{on.isoformat()}T{hour}{'Z' if self.convention.dates == 'utc' else '+01:00'}"

    # -- what is not known

    @staticmethod
    def _unknown(entry: Entry, record: Record, karyotype: str | None) -> bool:
        """Whether nothing in the export says a feature."""
        if entry.patient is not None or entry.name in record.values:
            return False
        by_genes = entry.variant is not None and entry.variant.gene in record.tested
        return not by_genes and not (entry.karyotype is not None and karyotype is not None)

    def _missing(self, entry: Entry) -> Resource | None:
        """What stands in place of a missing value; None if nothing does."""
        how = self.convention.missing
        if how == "absent":
            return None
        if how == "below detection" and entry.kind == "continuous" and entry.units and entry.low == 0:
            unit = self.convention.units[entry.name]
            factor = self.dictionary.factors[entry.name, unit]
            return {"valueQuantity": quantity(float(f"{factor.divisor / factor.multiplier:.3g}"), unit, "<")}
        return missing(tuple(REASONS)[int(self.rng.integers(len(REASONS)))])

    # -- how resources look

    def dressed(self, resource: Resource) -> Resource:
        """A resource with what the profile wants, and its date as the hospital writes it."""
        profile, kind = self.convention.profile, resource["resourceType"]
        if profile == "plain":
            resource.pop("category", None)
        else:
            resource["meta"] = {"profile": [PROFILES[profile].format(_NAMES[profile][kind])]}
        if profile == "mii" and kind == "Patient":
            resource["identifier"].append({"system": f"{self.convention.local}/pid", "value": resource["id"]})
        if self.convention.dates == "period" and kind == "Observation" and "valueDateTime" not in resource:
            day = resource.pop("effectiveDateTime")
            resource["effectivePeriod"] = {"start": day, "end": day}
        return resource


def in_unit(dictionary: Dictionary, entry: Entry, value: float, unit: str | None) -> tuple[float, str]:
    """A number and a unit that read as a value again, to the bit: in a given unit if that can be.

    Parameters
    ----------
    dictionary
        Has the factors.
    entry
        The feature.
    value
        In the canonical unit.
    unit
        A spelling of the feature's units.
    """
    assert entry.units is not None, entry.name
    if unit is not None:
        factor = dictionary.factors[entry.name, unit]
        exact = value * factor.divisor / factor.multiplier
        for number in (float(f"{exact:.6g}"), float(f"{exact:.15g}"), exact):
            if factor.convert(number) == value:
                return number, unit
    return value, entry.units.ucum
