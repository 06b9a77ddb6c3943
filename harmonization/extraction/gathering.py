"""All pieces of a source together: who is who, and every record with its patient and its day.

Bulk exports are sorted by type, so that a patient's resources are anywhere; and a result may get its day from a
specimen, a drug its name from a Medication, that lie in another file. Nothing here depends on the order of pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harmonization.extraction.missing import Missing
from harmonization.extraction.moments import NO_DAY, NO_MOMENT, day_of
from harmonization.extraction.records import PatientRecord, Piece, RegionRecord, VariantRecord, When, column, shifted
from harmonization.references import Index

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Place = tuple[int, int]
"""Number of a piece, and of a resource in it."""


@dataclass(frozen=True)
class Patients:
    """The patients of a source, by identity.

    Parameters
    ----------
    identities
        In alphabetical order.
    gender, born, dead, died
        Of each; days since 1970, NaN where unknown; 1, 0 or NaN.
    refused
        Whether the Patient resource was set aside.
    last_seen
        Last day on which a record shows the patient alive, NaN if there is none.
    numbers
        From every name, also of those that another patient took over.
    """

    identities: tuple[str, ...]
    gender: tuple[str | None, ...]
    born: Floats
    dead: Floats
    died: Floats
    refused: NDArray[np.bool_]
    last_seen: Floats
    numbers: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.identities)

    def number(self, reference: str, index: Index) -> int:
        """Whom a reference means; -1 if nobody of the source."""
        found = self.numbers.get(reference)
        if found is None:
            reference = reference.partition("/_history/")[0]
            name = index.identifiers.get(reference, reference)
            found = self.numbers.get(name)
        if found is None and name.startswith("http") and "/Patient/" in name:
            server, _, key = name.rpartition("/Patient/")
            if f"{server}/" in index.servers:
                found = self.numbers.get(f"Patient/{key}")
        return -1 if found is None else found


@dataclass(frozen=True)
class Records:
    """Values of features, one element of each array per record.

    Parameters
    ----------
    patient, feature
        Numbers.
    value, missing, day, moment, issued, status
        As in `harmonization.extraction.records.Record`.
    resource, original, unit
        Texts.
    """

    patient: NDArray[np.int32]
    feature: NDArray[np.int16]
    value: Floats
    missing: NDArray[np.int8]
    day: NDArray[np.int32]
    moment: Ints
    issued: Ints
    status: NDArray[np.int8]
    resource: pa.ChunkedArray
    original: pa.ChunkedArray
    unit: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.patient)


@dataclass(frozen=True)
class Gathered:
    """All that a source says.

    Parameters
    ----------
    patients, records
        See there.
    variants, regions
        Records of each patient's genes; their subject is the patient's number.
    of_nobody
        Records about nobody of the source.
    """

    patients: Patients
    records: Records
    variants: Sequence[VariantRecord]
    regions: Sequence[RegionRecord]
    of_nobody: int


def gather(pieces: Sequence[Piece], index: Index, bad: Iterable[Place]) -> Gathered:
    """Put pieces together.

    Parameters
    ----------
    pieces
        All of a source.
    index
        Theirs, merged.
    bad
        Resources that were refused after they had been read; what they say is quarantined.
    """
    bad_of: dict[int, set[int]] = {}
    for number, place in bad:
        bad_of.setdefault(number, set()).add(place)
    patients = _patients(pieces, bad_of, index)
    sampled: dict[str, tuple[int, int]] = {}
    medications: dict[str, tuple[int, ...]] = {}
    for piece in pieces:
        sampled |= piece.sampled
        medications |= piece.medications
    tables: list[dict[str, Any]] = []
    variants: list[VariantRecord] = []
    regions: list[RegionRecord] = []
    of_nobody = 0
    for i, piece in enumerate(pieces):
        refused = bad_of.get(i, set())
        who = np.array([patients.number(name, index) for name in piece.subjects], np.int32)
        found = _columns(piece, who, refused, sampled, medications)
        known = found["patient"] >= 0
        of_nobody += int((~known).sum())
        tables.append(found if known.all() else {name: _kept(values, known) for name, values in found.items()})
        for variant in piece.variants:
            if (patient := int(who[variant.subject])) >= 0:
                when = _sampled(variant.when, sampled)
                one = variant._replace(subject=patient, when=when)
                if variant.place in refused:
                    nothing = when._replace(day=NO_DAY)
                    one = one._replace(present=float("nan"), missing=int(Missing.QUARANTINED), when=nothing)
                variants.append(one)
        for region in piece.regions:
            if (patient := int(who[region.subject])) >= 0:
                when = _sampled(region.when, sampled)
                missing = region.missing
                if region.place in refused:
                    when, missing = when._replace(day=NO_DAY), int(Missing.QUARANTINED)
                regions.append(region._replace(subject=patient, when=when, missing=missing))
    names = [name for name in Records.__dataclass_fields__]
    columns = {name: _concatenated([found[name] for found in tables]) for name in names}
    return Gathered(patients, Records(**columns), variants, regions, of_nobody)


def _sampled(when: When, sampled: Mapping[str, tuple[int, int]]) -> When:
    """The day of the specimen, if that is the one."""
    return when if when.specimen is None or when.specimen not in sampled else When(*sampled[when.specimen])


def _columns(
    piece: Piece,
    who: NDArray[np.int32],
    refused: set[int],
    sampled: Mapping[str, tuple[int, int]],
    medications: Mapping[str, tuple[int, ...]],
) -> dict[str, Any]:
    """Records of a piece with their patients and days."""
    records = piece.records
    found: dict[str, Any] = {
        name: column(records, name)
        for name in ("feature", "value", "missing", "day", "moment", "issued", "status", "place", "specimen")
    }
    found["patient"] = shifted(records, "subject", who)
    found |= {name: records[name] for name in ("resource", "original", "unit")}
    if piece.specimens:
        days = np.array([sampled.get(name, (NO_DAY, NO_MOMENT)) for name in piece.specimens], np.int64)
        of = found["specimen"]
        taken = (of >= 0) & (days[of, 0] != NO_DAY)
        found["day"] = np.where(taken, days[of, 0], found["day"]).astype(np.int32)
        found["moment"] = np.where(taken, days[of, 1], found["moment"])
    drugs = [(feature, *d.record) for d in piece.drugs for feature in medications.get(d.medication, ())]
    if drugs:
        found = _with_drugs(found, drugs, who)
    if refused:
        at = np.isin(found["place"], np.fromiter(refused, np.int64))
        found["value"] = np.where(at, np.nan, found["value"])
        found["missing"] = np.where(at, np.int8(Missing.QUARANTINED), found["missing"])
        found["day"] = np.where(at, np.int32(NO_DAY), found["day"])  # it may be what is wrong
    return found


def _with_drugs(found: dict[str, Any], drugs: Sequence[tuple[Any, ...]], who: NDArray[np.int32]) -> dict[str, Any]:
    feature, subject, day, moment, status, place, resource = zip(*drugs, strict=True)
    n = len(drugs)
    value = np.where(np.array(day) == NO_DAY, np.nan, np.array(day, float))
    more = {
        "patient": who[np.array(subject)],
        "feature": np.array(feature, np.int16),
        "value": value,
        "missing": np.zeros(n, np.int8),
        "day": np.array(day, np.int32),
        "moment": np.array(moment, np.int64),
        "issued": np.full(n, NO_MOMENT),
        "status": np.array(status, np.int8),
        "place": np.array(place, np.int32),
        "specimen": np.full(n, -1, np.int32),
        "resource": pa.chunked_array([pa.array(resource, pa.large_string())]),
        "original": pa.chunked_array([pa.array([""] * n, pa.large_string())]),
        "unit": pa.chunked_array([pa.array([""] * n, pa.large_string())]),
    }
    return {name: _concatenated([found[name], more[name]]) for name in more}


def _kept(values: Any, keep: NDArray[np.bool_]) -> Any:
    return values.filter(pa.array(keep)) if isinstance(values, pa.ChunkedArray) else values[keep]


def _concatenated(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], pa.ChunkedArray):
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.large_string())
    return np.concatenate(parts)


def _patients(pieces: Sequence[Piece], bad_of: Mapping[int, set[int]], index: Index) -> Patients:
    """One patient for all resources that have a name in common; who was replaced is the one who took over."""
    found = [
        (record, record.place in piece.refused_places or record.place in bad_of.get(i, ()))
        for i, piece in enumerate(pieces)
        for record in piece.patients
    ]
    found.sort(key=lambda pair: (pair[0].identity, pair[0].names, pair[1]))
    kept: list[tuple[PatientRecord, bool]] = []
    numbers: dict[str, int] = {}
    for record, refused in found:
        same = next((numbers[name] for name in record.names if name in numbers), None)
        if same is None and kept and kept[-1][0].identity == record.identity:
            same = len(kept) - 1
        if same is None:
            same = len(kept)
            kept.append((record, refused))
        for name in record.names:
            numbers.setdefault(name, same)
    target = _taken_over(kept, numbers)
    survivors = sorted(set(target))
    place = {old: new for new, old in enumerate(survivors)}
    numbers = {name: place[target[old]] for name, old in numbers.items()}
    records = [kept[old][0] for old in survivors]
    patients = Patients(
        tuple(record.identity for record in records),
        tuple(record.gender for record in records),
        np.array([np.nan if r.birth is None else float(day_of(r.birth)) for r in records]),
        np.array(
            [np.nan if r.dead is None and r.died is None else float(r.dead or r.died is not None) for r in records]
        ),
        np.array([np.nan if r.died is None else float(day_of(r.died)) for r in records]),
        np.array([kept[old][1] for old in survivors], bool),
        np.full(len(records), np.nan),
        numbers,
    )
    for piece in pieces:
        for name, latest in piece.latest.items():
            if (i := patients.number(name, index)) >= 0:
                patients.last_seen[i] = np.fmax(patients.last_seen[i], float(day_of(latest)))
    return patients


def _taken_over(kept: Sequence[tuple[PatientRecord, bool]], numbers: Mapping[str, int]) -> list[int]:
    """For each patient the one whose records they are: the end of the chain of ``replaced-by``."""
    target = list(range(len(kept)))
    for i, (record, _) in enumerate(kept):
        for name in sorted(record.replaced_by):
            if name in numbers and numbers[name] != i:
                target[i] = numbers[name]
                break
    for i in range(len(target)):
        seen = {i}
        while target[target[i]] != target[i] and target[i] not in seen:
            seen.add(target[i])
            target[i] = target[target[i]]
    return target
