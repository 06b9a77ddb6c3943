"""What is kept of the resources: compact rows in columns, one for each value of a feature, and what tells who and when.

A `Piece` is all that remains of one piece of a source (some 32 MB of NDJSON): it travels between processes, and the
resources themselves do not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from harmonization.extraction.missing import Missing
from harmonization.reading import Chunk, Refusal
from harmonization.references import Index

STATUSES = {"corrected": 0, "amended": 1, "final": 2, "completed": 2, "unknown": 3, "preliminary": 4, "partial": 4}
"""Statuses that count, the best first."""
FINAL, PRELIMINARY = 2, 4

Record = tuple[int, int, float, int, int, int, int, int, int, str | None, str, str, int]
"""Subject, feature, value, reason it is missing, day, moment, moment of issue, status, place in the piece, resource,
value and unit as written, and the specimen that tells the day where nothing else does (-1: none)."""

_TYPES: dict[str, pa.DataType] = {
    "subject": pa.int32(),
    "feature": pa.int16(),
    "value": pa.float64(),
    "missing": pa.int8(),
    "day": pa.int32(),
    "moment": pa.int64(),
    "issued": pa.int64(),
    "status": pa.int8(),
    "place": pa.int32(),
    "resource": pa.large_string(),
    "original": pa.large_string(),
    "unit": pa.large_string(),
    "specimen": pa.int32(),
}


def table(records: list[Record]) -> pa.Table:
    """Records in columns."""
    columns = zip(*records, strict=True) if records else ([] for _ in _TYPES)
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, _TYPES.values(), strict=True)]
    return pa.table(arrays, list(_TYPES))


def unit_counts(records: pa.Table) -> Counter[tuple[int, str]]:
    """How often each feature has a value in each unit, as it is written."""
    written = records.filter((pc.field("missing") == int(Missing.NONE)) & (pc.field("unit") != ""))
    groups = written.group_by(["feature", "unit"]).aggregate([([], "count_all")])
    return Counter({(row["feature"], row["unit"]): row["count_all"] for row in groups.to_pylist()})


def column(records: pa.Table, name: str) -> NDArray[Any]:
    """One column as an array; texts as objects."""
    values: NDArray[Any] = records[name].to_numpy()
    return values


class When(NamedTuple):
    """Day and moment of a record, or the specimen that tells them."""

    day: int
    moment: int
    specimen: str | None = None


class PatientRecord(NamedTuple):
    """A patient.

    Parameters
    ----------
    place
        In the piece.
    names
        By which others refer to the patient: ``Patient/1``, the address of the Bundle entry.
    identity
        In the cohort.
    gender, birth, dead, died
        Of the resource.
    replaced_by
        References to the patients that took over.
    """

    place: int
    names: tuple[str, ...]
    identity: str
    gender: str | None
    birth: str | None
    dead: bool | None
    died: str | None
    replaced_by: tuple[str, ...] = ()


class VariantRecord(NamedTuple):
    """A variant of a gene that was looked for.

    Parameters
    ----------
    subject, place, resource, status, when
        As of other records.
    gene
        Approved symbol; empty where a record was set aside and does not tell.
    present
        Whether it was found; NaN where `missing` says why not.
    missing
        Why the result is missing.
    coding, protein
        The change in HGVS, where it is given.
    original
        The change as it is shown.
    """

    subject: int
    place: int
    resource: str
    status: int
    when: When
    gene: str
    present: float
    missing: int
    coding: str
    protein: str
    original: str


class RegionRecord(NamedTuple):
    """Genes that were sequenced.

    Parameters
    ----------
    genes
        Approved symbols; empty for a sequencing of which only is known that it gave nothing.
    missing
        Why there is no result for them.
    """

    subject: int
    place: int
    resource: str
    status: int
    when: When
    genes: tuple[str, ...]
    missing: int


class DrugRecord(NamedTuple):
    """A drug by reference: what it is, a Medication resource says."""

    medication: str
    record: tuple[int, int, int, int, int, str | None]
    """Subject, day, moment, status, place, resource."""


@dataclass
class Piece:
    """What one piece of a source says.

    Parameters
    ----------
    chunk
        The piece.
    records
        Values of features; see `Record`.
    subjects, specimens
        References, by their number in the records.
    patients, variants, regions, drugs
        Records of their kinds.
    sampled
        Day and moment of each specimen, by reference.
    medications
        Features of each Medication, by reference.
    index
        Of the resources, for references between them.
    references
        All references that were met.
    earliest, latest
        First and last date of each subject, as written.
    refused
        What is set aside, in order; the places of these resources.
    accepted
        How many resources are not.
    resources, unknown, units
        Numbers: resources by type, codes that the dictionary has not, units by feature.
    """

    chunk: Chunk
    records: pa.Table = field(default_factory=lambda: table([]))
    subjects: list[str] = field(default_factory=list)
    specimens: list[str] = field(default_factory=list)
    patients: list[PatientRecord] = field(default_factory=list)
    variants: list[VariantRecord] = field(default_factory=list)
    regions: list[RegionRecord] = field(default_factory=list)
    drugs: list[DrugRecord] = field(default_factory=list)
    sampled: dict[str, tuple[int, int]] = field(default_factory=dict)
    medications: dict[str, tuple[int, ...]] = field(default_factory=dict)
    index: Index = field(default_factory=Index)
    references: set[str] = field(default_factory=set)
    earliest: dict[str, str] = field(default_factory=dict)
    latest: dict[str, str] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    refused_places: set[int] = field(default_factory=set)
    accepted: int = 0
    resources: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    units: Counter[tuple[int, str]] = field(default_factory=Counter)


def shifted(records: pa.Table, name: str, mapping: NDArray[np.int32]) -> NDArray[np.int32]:
    """A column of numbers of a piece as numbers of the whole; -1 stays -1."""
    numbers = column(records, name)
    return (
        np.where(numbers < 0, np.int32(-1), mapping[numbers]) if len(mapping) else np.full(len(numbers), -1, np.int32)
    )
