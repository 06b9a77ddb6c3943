"""One piece of a source to records: each resource is read once, checked, flattened by its view, and let go.

Most of what a hospital exports is not asked for: a resource whose codes the dictionary does not know is checked, and
goes no further.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from harmonization.checks import Problem, check, references
from harmonization.dictionary import Dictionary, Entry, Source, Window
from harmonization.extraction.genomics import Genes
from harmonization.extraction.missing import Missing, absent_reason
from harmonization.extraction.moments import NO_DAY, NO_MOMENT, day_of, moment_of
from harmonization.extraction.records import (
    FINAL,
    PRELIMINARY,
    STATUSES,
    DrugRecord,
    PatientRecord,
    Piece,
    Record,
    RegionRecord,
    VariantRecord,
    When,
    table,
    unit_counts,
)
from harmonization.extraction.values import NAN, Reader, Reading, Refused, interpretation, no_value, reader
from harmonization.quarantine import refusal
from harmonization.reading import Chunk, Located, read_chunk
from harmonization.resources import PATIENT_ID
from harmonization.validation import is_sampled, validate
from harmonization.views import View, ViewError, compile_view

Row = dict[str, Any]
Key = tuple[str, str]

_STATED: tuple[Source, ...] = ("observation", "variant", "karyotype", "derived", "patient")
"""Sources of features that an Observation may state."""

_WAS_GIVEN = {
    "MedicationAdministration": frozenset({"in-progress", "on-hold", "completed", "stopped"}),
    "MedicationStatement": frozenset({"active", "completed", "stopped", "on-hold"}),
    "MedicationRequest": frozenset({"active", "on-hold", "completed", "stopped"}),
}
_ORDERS = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order"})
_WAS_DONE = frozenset({"in-progress", "on-hold", "stopped", "completed"})
_NOT_CONFIRMED = frozenset({"unconfirmed", "provisional", "differential"})
_MIGHT_TELL = frozenset({"Patient", "Condition", "Observation", "Procedure", "DiagnosticReport", *_WAS_GIVEN})

_REFERS_TO_NOTHING = frozenset(
    {"meta", "text", "code", "category", "valueQuantity", "valueCodeableConcept", "referenceRange"}
)
"""Elements in which there are no references."""

_LAST_SEEN: dict[str, tuple[tuple[str, str], ...]] = {
    "Observation": (("effectiveDateTime", ""), ("effectivePeriod", "start")),
    "Encounter": (("period", "start"), ("period", "end")),
    "Procedure": (("performedDateTime", ""), ("performedPeriod", "start")),
    "MedicationAdministration": (("effectiveDateTime", ""), ("effectivePeriod", "start")),
    "Condition": (("recordedDate", ""), ("onsetDateTime", "")),
}
"""Dates on which a patient was there."""


@cache
def view(name: str) -> View:
    """A view of this package by name: ``observations``."""
    text = (files("harmonization") / "views" / f"{name}.json").read_bytes()
    return compile_view(orjson.loads(text))


class Extractor:
    """Reads pieces by one dictionary.

    Parameters
    ----------
    dictionary
        The features.
    sample
        Fraction of the resources that fhir.resources validates as well.
    local
        Codes of the hospital's own, (system, code), and the features that they stand for.
    """

    def __init__(self, dictionary: Dictionary, sample: float = 0.0, local: Mapping[Key, Entry] | None = None) -> None:
        self.dictionary, self.sample = dictionary, sample
        codes = {**dictionary.by_code, **{key: (entry,) for key, entry in (local or {}).items()}}
        numbers = {entry.name: i for i, entry in enumerate(dictionary.entries)}
        self.readers: dict[Key, tuple[tuple[int, Reader], ...]] = {}
        self.dated: dict[str, dict[Key, tuple[int, ...]]] = {"condition": {}, "procedure": {}, "medication": {}}
        panel = {key for key, entries in codes.items() if any(e.name == Genes.TESTED for e in entries)}
        cached = {entry.name: reader(entry, dictionary) for entry in dictionary.entries}
        for key, entries in codes.items():
            stated = [e for e in entries if self._stated(e, key) and e.name != Genes.TESTED]
            if stated:
                self.readers[key] = tuple((numbers[e.name], cached[e.name]) for e in stated)
            for source, known in self.dated.items():
                if of_source := tuple(numbers[e.name] for e in entries if e.source == source):
                    known[key] = of_source
        self.windowed = frozenset(i for i, e in enumerate(dictionary.entries) if e.window != Window(None, None))
        self.categories = {
            numbers[e.name]: e for e in dictionary.entries if e.kind == "categorical" and e.source == "condition"
        }
        self.genes = Genes(dictionary)
        self.variant_keys = self.genes.variant_keys
        self.panel_keys = panel | self.genes.region_keys
        self.gene_keys = self.genes.by_key
        self.views: dict[Key, str] = {
            **dict.fromkeys([*self.readers, *self.gene_keys], "observations"),
            **dict.fromkeys(self.panel_keys, "regions"),
            **dict.fromkeys(self.variant_keys, "variants"),
        }
        """By which view an Observation with a code is read; those of other codes are not."""
        self.observations, self.components, self.reports = view("observations"), view("components"), view("reports")

    @staticmethod
    def _stated(entry: Entry, key: Key) -> bool:
        return entry.source in _STATED or key == entry.own_code.key

    def read(self, chunk: Chunk) -> Piece:
        """Read a piece.

        Parameters
        ----------
        chunk
            From `harmonization.reading.chunks`.
        """
        return _Reading(self, chunk).piece()


class _Reading:
    """The state of reading one piece."""

    def __init__(self, extractor: Extractor, chunk: Chunk) -> None:
        self.of = extractor
        self.found = Piece(chunk)
        self.records: list[Record] = []
        self.subjects: dict[str, int] = {}
        self.specimens: dict[str, int] = {}
        self.place = -1
        self.located = Located({}, "", 0)
        self.refusals: list[Problem] = []
        """Values of the resource at hand that were refused."""
        self.quarantined = False
        """Whether the resource at hand was refused: what it says is kept as quarantined."""
        self.misdated = False
        """Whether that was for a date."""

    def piece(self) -> Piece:
        found = self.found
        take = {
            "Patient": self.patient,
            "Observation": self.observation,
            "Condition": self.condition,
            "Procedure": self.procedure,
            "DiagnosticReport": self.report,
            "Specimen": self.specimen,
            "Medication": self.medication,
            **dict.fromkeys(_WAS_GIVEN, self.drug),
        }
        index, resources, seen = found.index, found.resources, found.references
        sample, subjects, earliest, latest = self.of.sample, self.subjects, found.earliest, found.latest
        for located in read_chunk(found.chunk, found.refused.append):
            self.place += 1
            self.located = located
            resource = located.resource
            kind = resource.get("resourceType")
            index.add(located)
            problems = check(resource)
            if not problems and sample and is_sampled(located, sample):
                problems = validate(resource)
            if problems:
                self.refuse(problems)
                continue
            resources[kind] += 1  # type: ignore[index]
            for name, content in resource.items():
                if (content.__class__ is dict or content.__class__ is list) and name not in _REFERS_TO_NOTHING:
                    if (
                        content.__class__ is dict
                        and len(content) == 1
                        and (text := content.get("reference")).__class__ is str
                    ):
                        seen.add(text)
                    else:
                        seen.update([reference for _, reference in references(content)])
            if kind in _LAST_SEEN and (subject := resource.get("subject")) is not None:
                name = subject.get("reference")
                if name is not None:
                    for element, part in _LAST_SEEN[kind]:
                        day = resource.get(element)
                        if day is not None and (not part or (day := day.get(part)) is not None):
                            day = day[:10]
                            if day < earliest.get(name, "9"):
                                earliest[name] = day
                            if day > latest.get(name, ""):
                                latest[name] = day
            if (extract := take.get(kind)) is not None:  # type: ignore[arg-type]
                try:
                    extract(resource)
                except ViewError as error:  # a view asks for one value and there are several
                    self.refuse_value(Refused("structure", "", None, str(error)))
                if self.refusals:
                    found.refused.append(refusal(located, self.refusals))
                    found.refused_places.add(self.place)
                    self.refusals = []
        found.accepted = self.place + 1 - len(found.refused_places)
        found.records = table(self.records)
        found.units = unit_counts(found.records)
        found.subjects, found.specimens = list(subjects), list(self.specimens)
        return found

    # -- refused

    def refuse(self, problems: list[Problem]) -> None:
        """Set a resource aside; what it would have been about is known as quarantined, if it can be told."""
        located = self.located
        self.found.refused.append(refusal(located, problems))
        self.found.refused_places.add(self.place)
        resource = located.resource
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if not isinstance(kind, str) or kind not in _MIGHT_TELL:
            return
        self.quarantined, self.misdated = True, any(problem.kind == "date" for problem in problems)
        try:
            if kind == "Patient":
                self.patient(resource)
            elif kind in _WAS_GIVEN:
                self.drug(resource)
            else:
                {
                    "Observation": self.observation,
                    "Condition": self.condition,
                    "Procedure": self.procedure,
                    "DiagnosticReport": self.report,
                }[kind](resource)
        except (ViewError, ValueError, TypeError, AttributeError, KeyError, IndexError):
            pass  # it is so broken that it does not tell
        finally:
            self.quarantined = self.misdated = False
            self.refusals = []

    def refuse_value(self, refused: Refused, component: int = 0) -> None:
        """Set one value aside."""
        if self.quarantined:
            return
        kind = str(self.located.resource.get("resourceType"))
        place = f"{kind}.component[{component - 1}]" if component else kind
        path = f"{place}.{refused.element}" if refused.element else place
        self.refusals.append(Problem(path, refused.value, refused.reason, refused.kind))

    # -- what every record has

    def subject(self, row: Row) -> int:
        """Number of whom a record is about; -1 and a refusal if nobody."""
        reference = row["subject"]
        if reference is None:
            identifier = row["subject_identifier"]
            if identifier is None or "value" not in identifier:
                self.refuse_value(Refused("reference", "subject", None, "of no patient"))
                return -1
            reference = f"Patient?identifier={identifier.get('system', '')}|{identifier['value']}"
        try:
            return self.subjects[reference]
        except KeyError:
            self.subjects[reference] = number = len(self.subjects)
            return number

    def key(self, row: Row) -> str:
        identity = row["id"]
        if identity is not None:
            return f"{self.located.resource['resourceType']}/{identity}"
        located = self.located
        return located.full_url or f"{located.file}:{located.line}:{located.path}"

    def when(self, row: Row) -> When:
        """When something was observed; of a specimen, when it was taken; at last, when it was reported."""
        if self.misdated:
            return When(NO_DAY, NO_MOMENT)
        text = row["at"] or row["from"] or row["instant"]
        if text is None:
            specimen = row["specimen"]
            text = row["issued"]
            if specimen is not None:
                return When(day_of(text) if text else NO_DAY, moment_of(text) if text else NO_MOMENT, specimen)
            if text is None:
                return When(NO_DAY, NO_MOMENT)
        return When(day_of(text), moment_of(text))

    def add(
        self, subject: int, feature: int, reading: Reading, when: When, issued: int, status: int, resource: str
    ) -> None:
        value, missing, original, unit = reading
        if self.quarantined:
            value, missing = NAN, Missing.QUARANTINED
        specimen = -1
        if when.specimen is not None:
            specimen = self.specimens.setdefault(when.specimen, len(self.specimens))
        self.records.append(
            (subject, feature, value, missing, when[0], when[1], issued, status, self.place, resource, original, unit,
             specimen)
        )  # fmt: skip

    # -- resources

    def patient(self, resource: Row) -> None:
        (row,) = view("patients").rows(resource)
        names = [f"Patient/{row['id']}"] if row["id"] is not None else []
        if self.located.full_url is not None:
            names.append(self.located.full_url)
        identifiers = [i for i in row["identifiers"] if i.get("value")]
        own = [i["value"] for i in identifiers if i.get("system") == PATIENT_ID]
        identity = next(iter([*own, *filter(None, [row["id"]]), *(i["value"] for i in identifiers), *names]), "")
        if not identity:
            self.refuse_value(Refused("reference", "id", None, "neither id nor identifier: nothing can refer to it"))
            return
        if self.quarantined:  # who it is about, and nothing else
            self.found.patients.append(PatientRecord(self.place, tuple(names), str(identity), None, None, None, None))
            return
        replaced_by = tuple(row["replaced_by"])
        self.found.patients.append(
            PatientRecord(
                self.place, tuple(names), identity, row["gender"], row["birth"], row["dead"], row["died"], replaced_by
            )
        )

    def observation(self, resource: Row) -> None:
        code, components = resource.get("code"), resource.get("component")
        keys = _keys(code) if code is not None else []
        views = self.of.views
        by = ""
        for key in keys:
            if key in views:
                by = max(by, views[key])  # variants before regions before observations
        if not by and components is not None and any(key in views for c in components for key in _keys(c["code"])):
            by = "observations"
        if by == "observations":
            rows = self.of.observations.rows(resource)
            if components is None:
                self.results(rows, False)
            else:
                self.results([*rows, *self.of.components.rows(resource)], True)
        elif by == "variants":
            for row in view(by).rows(resource):
                self.variant(row)
        elif by:
            for row in view(by).rows(resource):
                self.region(row)
        elif keys:
            self.found.unknown["|".join(keys[0])] += 1

    def report(self, resource: Row) -> None:
        """A conclusion as a result: that of an Observation with the same code."""
        if "conclusion" not in resource and "conclusionCode" not in resource:
            return
        if any(key in self.of.readers for key in _keys(resource["code"])):
            nothing: Row = dict.fromkeys(("quantity", "boolean", "integer", "date"))
            more: Row = {**nothing, "absent": None, "interpretation": []}
            self.results([{**row, **more} for row in self.of.reports.rows(resource)], False)

    def results(self, rows: Iterable[Row], components: bool) -> None:
        """Values of an Observation and its components."""
        subject = when = None
        status, issued, resource = 0, NO_MOMENT, ""
        for row in rows:
            keys = _keys(row["code"] or {})
            readers = self.readers(keys)
            genes = () if readers else [symbol for key in keys if (symbol := self.of.gene_keys.get(key))]
            if not readers and not genes:
                continue
            component = row.get("component", 0)
            if subject is None or when is None:
                code = row["status"]
                if code == "entered-in-error":
                    return
                status = STATUSES.get(code, PRELIMINARY)
                subject = self.subject(row)
                if subject < 0:
                    return
                when, resource = self.when(row), self.key(row)
                if (at := row["issued"]) is not None:
                    issued = moment_of(at)
            for feature, read in readers:
                try:
                    reading = read(row)
                except Refused as refused:
                    self.refuse_value(refused, component)
                    reading = Reading(NAN, Missing.QUARANTINED, _shown(refused.value), _unit(row))
                if reading is None:
                    if components and not component:
                        continue  # the parts have the values
                    reading = Reading(NAN, Missing.NOT_DONE if row["status"] == "cancelled" else Missing.UNKNOWN)
                elif when[0] == NO_DAY and when[2] is None and not reading.missing and feature in self.of.windowed:
                    self.refuse_value(Refused("date", "effective", None, "no date, and only those of some days count"))
                    reading = Reading(NAN, Missing.QUARANTINED, reading.original, reading.unit)
                self.add(subject, feature, reading, when, issued, status, resource)
            for gene in dict.fromkeys(genes):
                try:
                    present, missing = self.found_or_not(row, said_by_being_there=False)
                except Refused as refused:
                    self.refuse_value(refused, component)
                    present, missing = NAN, Missing.QUARANTINED
                self.add_variant(subject, when, status, resource, gene, present, missing, "", "", gene)

    def readers(self, keys: Sequence[Key]) -> Iterable[tuple[int, Reader]]:
        """Features that codes stand for, each once."""
        readers = self.of.readers
        if len(keys) == 1:
            return readers.get(keys[0], ())
        found: dict[int, Reader] = {}
        for key in keys:
            found.update(readers.get(key, ()))
        return found.items()

    def variant(self, row: Row) -> None:
        """An Observation of a variant: found, not found, or without a result."""
        if row["status"] == "entered-in-error" or self.of.genes.germline(row["source_class"]):
            return
        if (subject := self.subject(row)) < 0:
            return
        genes = self.of.genes.symbols(row["genes"], row["gene_texts"])
        listed = not genes and bool(row["string"])
        if listed:  # a list of mutated genes
            genes = self.of.genes.symbols([], [row["string"]])
        when, resource = self.when(row), self.key(row)
        status = STATUSES.get(row["status"], PRELIMINARY)
        if not genes:
            if not self.quarantined:
                self.refuse_value(Refused("value", "component", None, "a variant of no gene (48018-6)"))
            self.add_variant(subject, when, status, resource, "", NAN, Missing.QUARANTINED, "", "", "")
            return
        coding, protein = _change(row, "coding_change"), _change(row, "protein_change")
        try:
            present, missing = (1.0, Missing.NONE) if listed else self.found_or_not(row)
            frequency = self.of.genes.frequency(row["allele_frequency"])
        except Refused as refused:
            self.refuse_value(refused)
            present, missing, frequency = NAN, Missing.QUARANTINED, ""
        for gene in genes:
            if gene not in self.of.genes.features:
                continue
            shown = " ".join(filter(None, (gene, coding, protein, frequency)))
            self.add_variant(subject, when, status, resource, gene, present, missing, coding, protein, shown)

    def found_or_not(self, row: Row, said_by_being_there: bool = True) -> tuple[float, Missing]:
        """Whether a variant is there: without a word about it, an Observation of a variant would not be there."""
        concept = row["concept"]
        if concept is not None and "coding" in concept:
            said = {value for c in concept["coding"] if (value := self.of.genes.answers.get(_key(c))) is not None}
            if len(said) == 1:
                return said.pop()
            if reason := absent_reason(concept["coding"]):
                return NAN, reason
            raise Refused("code", "valueCodeableConcept.coding", concept["coding"][0].get("code"), "no known result")
        if (flag := row["boolean"]) is not None:
            return float(flag), Missing.NONE
        if (said_so := interpretation(row["interpretation"])) is not None:
            return said_so, Missing.NONE
        if (reading := no_value(row)) is not None:
            return NAN, reading.missing
        if row["status"] == "cancelled":
            return NAN, Missing.NOT_DONE
        if said_by_being_there:
            return 1.0, Missing.NONE
        if row["quantity"] is not None or row["string"] is not None:
            raise Refused("value", "value", row["string"], "neither present nor absent")
        return NAN, Missing.UNKNOWN

    def add_variant(
        self,
        subject: int,
        when: When,
        status: int,
        resource: str,
        gene: str,
        present: float,
        missing: Missing,
        coding: str,
        protein: str,
        original: str,
    ) -> None:
        if self.quarantined:
            present, missing = NAN, Missing.QUARANTINED
        self.found.variants.append(
            VariantRecord(
                subject, self.place, resource, status, when, gene, present, int(missing), coding, protein, original
            )
        )

    def region(self, row: Row) -> None:
        """Genes of a panel; with a reason why there is no result, they failed or were not done."""
        if row["status"] == "entered-in-error" or (subject := self.subject(row)) < 0:
            return
        listed = [row["string"]] if row["string"] else []
        genes = self.of.genes.symbols([*row["genes"], *filter(None, [row["concept"]])], [*row["gene_texts"], *listed])
        reading = no_value(row)
        missing = Missing.NONE if reading is None else reading.missing
        if row["status"] == "cancelled":
            missing = Missing.NOT_DONE
        if self.quarantined:
            missing = Missing.QUARANTINED
        status = STATUSES.get(row["status"], PRELIMINARY)
        if genes or missing:
            self.found.regions.append(
                RegionRecord(subject, self.place, self.key(row), status, self.when(row), genes, int(missing))
            )
        else:
            self.refuse_value(Refused("value", "component", None, "a panel of no gene (48018-6)"))

    def condition(self, resource: Row) -> None:
        known = self.of.dated["condition"]
        code = resource.get("code")
        if code is None or not any(key in known for key in _keys(code)):
            return
        for row in view("conditions").rows(resource):
            verification = row["verification"]
            if "refuted" in verification or "entered-in-error" in verification:
                continue
            text = row["asserted"] or row["onset"] or row["onset_from"] or row["recorded"]
            status = PRELIMINARY if not _NOT_CONFIRMED.isdisjoint(verification) else FINAL
            self.dated(row, "condition", text, status)

    def procedure(self, resource: Row) -> None:
        known = self.of.dated["procedure"]
        code = resource.get("code")
        if code is None or not any(key in known for key in _keys(code)):
            return
        for row in view("procedures").rows(resource):
            if row["status"] in _WAS_DONE or self.quarantined:
                self.dated(row, "procedure", row["at"] or row["from"], FINAL)

    def drug(self, resource: Row) -> None:
        kind = resource["resourceType"]
        if resource.get("status") not in _WAS_GIVEN[kind] and not self.quarantined:
            return
        (row,) = view(_DRUG_VIEWS[kind]).rows(resource)
        if kind == "MedicationRequest" and (row["intent"] not in _ORDERS or resource.get("doNotPerform")):
            return
        text = row["at"] or row.get("from")
        if (reference := row["medication"]) is not None:
            if reference[0] == "#":
                inside = [r for r in resource.get("contained", ()) if f"#{r.get('id')}" == reference]
                row["codings"] = [c for r in inside for c in r.get("code", {}).get("coding", ())]
            elif (subject := self.subject(row)) >= 0 and not self.quarantined:
                day, moment = (day_of(text), moment_of(text)) if text else (NO_DAY, NO_MOMENT)
                at = (subject, day, moment, FINAL, self.place, self.key(row))
                self.found.drugs.append(DrugRecord(reference, at))
                return
        self.dated(row, "medication", text, FINAL)

    def dated(self, row: Row, source: str, text: str | None, status: int) -> None:
        """A diagnosis, procedure or drug: its date is the value, or its code."""
        known = self.of.dated[source]
        features = {f: _key(c) for c in row["codings"] for f in known.get(_key(c), ())}
        if not features or (subject := self.subject(row)) < 0:
            return
        when = When(day_of(text), moment_of(text)) if text and not self.misdated else When(NO_DAY, NO_MOMENT)
        resource = self.key(row)
        for feature, key in features.items():
            entry = self.of.categories.get(feature)
            if entry is None:
                reading = Reading(float(when.day) if when.day != NO_DAY else NAN, original=text or "")
            else:
                value = entry.meaning.get(key)
                if not isinstance(value, str):
                    continue
                reading = Reading(float(entry.categories.index(value)), original=key[1])
            self.add(subject, feature, reading, when, NO_MOMENT, status, resource)

    def specimen(self, resource: Row) -> None:
        for row in view("specimens").rows(resource):
            text = row["at"] or row["from"]
            if text is not None:
                for name in self.names(row, "Specimen"):
                    self.found.sampled[name] = (day_of(text), moment_of(text))

    def medication(self, resource: Row) -> None:
        known = self.of.dated["medication"]
        for row in view("medications").rows(resource):
            features = tuple(dict.fromkeys(f for c in row["codings"] for f in known.get(_key(c), ())))
            if features:
                for name in self.names(row, "Medication"):
                    self.found.medications[name] = features

    def names(self, row: Row, kind: str) -> Iterator[str]:
        if row["id"] is not None:
            yield f"{kind}/{row['id']}"
        if self.located.full_url is not None:
            yield self.located.full_url


_DRUG_VIEWS = {
    "MedicationAdministration": "medication_administrations",
    "MedicationStatement": "medication_statements",
    "MedicationRequest": "medication_requests",
}


def _key(coding: Mapping[str, Any]) -> Key:
    return coding.get("system", ""), coding.get("code", "")


def _keys(concept: Mapping[str, Any]) -> list[Key]:
    return [(coding.get("system", ""), coding.get("code", "")) for coding in concept.get("coding", ())]


def _change(row: Row, part: str) -> str:
    """A change in HGVS: from a code, else from a text."""
    for concept in row[f"{part}s"]:
        codes = [c.get("code") for c in concept.get("coding", ()) if c.get("code")]
        if text := next(iter(codes), concept.get("text")):
            return str(text)
    return next(iter(row[f"{part}_texts"]), "")


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


def _unit(row: Row) -> str:
    quantity = row["quantity"] or {}
    return str(quantity.get("code") or quantity.get("unit") or "")
