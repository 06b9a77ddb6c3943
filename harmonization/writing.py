"""A cohort as FHIR R4: bulk-export NDJSON that a center loads into its own server, and that harmonization reads back.

What comes back is the same table, bit for bit. Time is written as dates: the day of diagnosis is invented per patient
(from the seed), the day of death or last contact lies a whole number of days later, and days over the days of a unit is
the time again (365.25 a year). Where a time is no whole number of days, the dates say the nearest day and the feature
``overall_survival`` is stated beside them; so is the age, which no date of birth gives exactly. What is stated outright
goes before what is derived.

Nothing is written that the table does not say. A mutation becomes a variant of its gene, and a gene all of whose
features are known a tested gene, where they follow from these; a feature that asks for more (a codon, a duplication,
the number of hits) is stated outright, with the dictionary's own code if there is no other. Missing values are not
written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson

from harmonization.cohort import Cohort, require_same_schema
from harmonization.dictionary import DIAGNOSIS, Dictionary, Entry, Variant
from harmonization.errors import CohortError, DictionaryError
from harmonization.resources import (
    Call,
    Resource,
    condition,
    fhir_id,
    observation,
    patient,
    statement,
    tested_genes,
    value_of,
    variant,
)
from harmonization.resources import concept as concept_of
from harmonization.schema import DAYS_PER

FIRST_DIAGNOSIS, LAST_DIAGNOSIS = date(1990, 1, 1), date(2009, 12, 31)
LAST_DAY = date(2020, 12, 31)
"""Invented dates: nothing lies in the future, whenever it is read."""

LONGEST_DAYS = 36525
"""A longer follow-up or life than a century is no date."""

LAST_CONTACT, SURVIVAL, DEAD, AGE = "last_contact", "overall_survival", "vital_status", "age"


@dataclass(frozen=True)
class Record:
    """One patient of a cohort, with dates.

    Parameters
    ----------
    identity
        The patient's id.
    gender
        As FHIR has it, if known.
    born, diagnosed, ended
        Days of birth (if the age is known), diagnosis, and death or last contact.
    dead
        Whether the last day is that of death.
    values
        What is known of each feature that is stated outright, by name.
    calls
        Variants that were found.
    tested
        Symbols of the genes that were sequenced.
    karyotype
        In ISCN, if the findings are said in this way.
    """

    identity: str
    gender: str | None
    born: date | None
    diagnosed: date
    ended: date
    dead: bool
    values: Mapping[str, str | float]
    calls: tuple[Call, ...] = ()
    tested: tuple[str, ...] = ()
    karyotype: str | None = None


def write_fhir(cohort: Cohort, dictionary: Dictionary, directory: str | Path, seed: int = 0) -> dict[str, int]:
    """Write a cohort as ``Patient.ndjson``, ``Condition.ndjson`` and ``Observation.ndjson``.

    The same arguments write the same bytes. Patients are written one at a time; the files get their names when all are.

    Parameters
    ----------
    cohort
        Patients of the dictionary's schema.
    dictionary
        What the features are called in FHIR.
    directory
        Where the files go; made if it does not exist.
    seed
        Of the invented dates.

    Returns
    -------
    dict
        Number of resources of each type.

    Raises
    ------
    SchemaError
        If the cohort is of another schema than the dictionary's.
    CohortError, DictionaryError
        If a time is longer than a century, or the endpoint is none that FHIR resources tell.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(("Patient", "Condition", "Observation"), 0)
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for kind in counts:
            temporary = directory / f".{kind}.ndjson.{os.getpid()}.tmp"
            stack.callback(temporary.unlink, missing_ok=True)
            files[kind] = stack.enter_context(temporary.open("wb"))
        for record in records(cohort, dictionary, seed):
            for resource in resources(record, dictionary):
                kind = resource["resourceType"]
                counts[kind] += 1
                files[kind].write(orjson.dumps(resource, option=orjson.OPT_APPEND_NEWLINE))
        for kind, file in files.items():
            file.close()
            os.replace(file.name, directory / f"{kind}.ndjson")
    return counts


def records(cohort: Cohort, dictionary: Dictionary, seed: int = 0) -> Iterator[Record]:
    """The patients of a cohort, one by one; see `write_fhir`."""
    require_same_schema(dictionary.schema(), cohort.schema, f"dictionary {dictionary.name!r}")
    if dictionary.endpoint != "overall survival":
        raise DictionaryError(
            "only overall survival is written as FHIR: of another endpoint the table does not say which event it was",
            source=dictionary.source or dictionary.name,
            key="endpoint",
            value=dictionary.endpoint,
        )
    entries = [dictionary[f.name] for f in (*cohort.schema.features, *cohort.schema.scores)]
    genes = _genes(entries)
    table = np.concatenate([cohort.values, cohort.scores], axis=1)
    per_unit = DAYS_PER[cohort.schema.time_unit]
    for i, identity in enumerate(cohort.ids.tolist()):
        values: dict[str, str | float] = {
            entry.name: entry.categories[int(value)] if entry.kind == "categorical" else value
            for entry, value in zip(entries, table[i].tolist(), strict=True)
            if value == value
        }
        time = float(cohort.time[i])
        days = round(time * per_unit)
        if days > LONGEST_DAYS:
            raise CohortError(
                f"longer than {LONGEST_DAYS} days: no dates can be invented for it",
                row=i + 1,
                column="time",
                value=time,
            )
        diagnosed = _diagnosis(seed, identity, days)
        age = values.get(AGE)
        born = None
        if isinstance(age, float):
            if age * DAYS_PER["years"] > 1.3 * LONGEST_DAYS:
                raise CohortError("no date of birth can be invented for it", row=i + 1, column=AGE, value=age)
            born = diagnosed - timedelta(days=round(age * DAYS_PER["years"]))
        gender = None
        for entry in entries:
            if entry.patient == "gender" and entry.name in values:
                gender = entry.answer(values.pop(entry.name)).code
        if days / per_unit != time:
            values[SURVIVAL] = time if cohort.schema.time_unit == "years" else time * per_unit / DAYS_PER["years"]
        calls, tested = _sequencing(genes, values)
        ended = diagnosed + timedelta(days=days)
        yield Record(identity, gender, born, diagnosed, ended, bool(cohort.event[i]), values, calls, tested)


def resources(record: Record, dictionary: Dictionary) -> Iterator[Resource]:
    """The resources of one patient.

    Parameters
    ----------
    record
        The patient.
    dictionary
        Has the codes.
    """
    who, on = record.identity, record.diagnosed.isoformat()
    ended = record.ended.isoformat()
    yield patient(
        who,
        gender=record.gender,
        born=record.born.isoformat() if record.born else None,
        died=ended if record.dead else None,
        dead=record.dead,
    )
    diagnosis = dictionary[DIAGNOSIS]
    yield condition(fhir_id(who, DIAGNOSIS), who, diagnosis.concept, on)
    if not record.dead:
        entry = dictionary[LAST_CONTACT]
        code = concept_of(entry.concept, text=entry.label)
        yield observation(fhir_id(who, LAST_CONTACT), who, code, ended, value_of(entry, ended))
    for name, value in record.values.items():
        yield statement(dictionary[name], fhir_id(who, name), who, ended if name == SURVIVAL else on, value)
    for i, call in enumerate(record.calls, start=1):
        yield variant(dictionary, fhir_id(who, "variant", i), who, on, call)
    if record.tested:
        yield tested_genes(dictionary, fhir_id(who, "panel"), who, on, record.tested)
    if record.karyotype is not None:
        yield statement(dictionary["karyotype"], fhir_id(who, "karyotype"), who, on, record.karyotype)


def _diagnosis(seed: int, identity: str, days: int) -> date:
    """A day that depends on the seed and the patient alone, and early enough for the follow-up."""
    digest = hashlib.sha256(f"{seed} {identity}".encode()).digest()
    span = (LAST_DIAGNOSIS - FIRST_DIAGNOSIS).days + 1
    day = FIRST_DIAGNOSIS + timedelta(days=int.from_bytes(digest[:8], "big") % span)
    return min(day, LAST_DAY - timedelta(days=days))


def _genes(entries: Sequence[Entry]) -> dict[str, list[tuple[str, Variant]]]:
    """Mutation features of each gene."""
    found: dict[str, list[tuple[str, Variant]]] = {}
    for entry in entries:
        if entry.variant is not None:
            found.setdefault(entry.variant.gene, []).append((entry.name, entry.variant))
    return found


def _sequencing(
    genes: Mapping[str, Sequence[tuple[str, Variant]]], values: dict[str, str | float]
) -> tuple[tuple[Call, ...], tuple[str, ...]]:
    """Takes out of the values what variants and tested genes say."""
    calls, tested = [], []
    for gene, features in genes.items():
        known = [values.get(name) for name, _ in features]
        if None in known or any(rule.loss for _, rule in features):
            continue
        if any(known):
            if len(features) > 1 or features[0][1] != Variant(gene):
                continue
            calls.append(Call(gene))
        tested.append(gene)
        for name, _ in features:
            del values[name]
    return tuple(calls), tuple(tested)
