"""A source of FHIR R4 resources to a cohort: what a hospital exports becomes the same row, or a line that says why not.

Each piece of the source is read once, several at a time (`harmonization.extraction.pieces`); only compact rows of what
the dictionary knows are kept. Then all rows come together, and each cell of the table is one of them, or a reason why
it is missing. The result depends on neither the order of files nor that of resources.
"""

from __future__ import annotations

import gc
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from harmonization.checks import surely_before
from harmonization.cohort import Cohort
from harmonization.dictionary import DIAGNOSIS, Dictionary, Entry
from harmonization.errors import HarmonizationError
from harmonization.extraction.gathering import Floats, Gathered, Place, gather
from harmonization.extraction.lesions import Origins, karyotype_findings, mutations
from harmonization.extraction.missing import Missing
from harmonization.extraction.outcome import Outcomes, gender
from harmonization.extraction.pieces import Extractor
from harmonization.extraction.provenance import provenance, reasons
from harmonization.extraction.records import Piece
from harmonization.extraction.report import Counts, completeness
from harmonization.extraction.windows import Cells, Selection
from harmonization.files import replacing
from harmonization.quarantine import Quarantine, Summary, refusal
from harmonization.reading import CHUNK_BYTES, Chunk, Refusal, chunks, map_chunks, read_chunk
from harmonization.references import Index
from harmonization.schema import EVENT, ID, TIME
from harmonization.storage import write_cohort

TREATMENT = "treatment_start"
"""The feature before which `last_before_treatment` looks."""

COHORT, PROVENANCE, REASONS = "cohort.parquet", "provenance.parquet", "reasons.parquet"
QUARANTINE, REPORT = "quarantine.ndjson", "report.json"

Listen = Callable[[str, float, str], object]
"""Called with a stage, how much of it is done (0 to 1), and words."""


@dataclass(frozen=True)
class Harmonized:
    """What became of a source.

    Parameters
    ----------
    cohort
        The patients, in the order of their ids.
    reasons
        Why values and patients are missing; see `harmonization.extraction.provenance.reasons`.
    provenance
        The record behind each value; see `harmonization.extraction.provenance.provenance`.
    counts
        Numbers about the source and the features, no patients' data: what is written as the report.
    quarantine
        What was read and set aside.
    """

    cohort: Cohort
    reasons: pd.DataFrame
    provenance: pd.DataFrame
    counts: Counts
    quarantine: Summary

    def write(self, directory: str | Path) -> None:
        """Write cohort, schema, provenance, reasons and report; each file is whole or absent."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_cohort(self.cohort, directory / COHORT)
        for name, table in ((PROVENANCE, self.provenance), (REASONS, self.reasons)):
            with replacing(directory / name) as temporary:
                table.to_parquet(temporary, index=False)
        text = orjson.dumps(self.counts, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
        with replacing(directory / REPORT) as temporary:
            temporary.write_bytes(text + b"\n")


def harmonize(
    source: str | Path,
    dictionary: Dictionary | str | Path,
    *,
    quarantine: str | Path | None = None,
    threshold: float = 1.0,
    validated: float = 0.0,
    workers: int = 1,
    local: Mapping[tuple[str, str], Entry] | None = None,
    refused: Iterable[Refusal] = (),
    listen: Listen | None = None,
) -> Harmonized:
    """Read FHIR R4 resources as a cohort.

    Parameters
    ----------
    source
        A file or directory, as for `harmonization.reading.read_resources`.
    dictionary
        The features, or the name or path of a dictionary.
    quarantine
        NDJSON file for what is set aside; it is counted only if None.
    threshold
        Largest fraction of the resources that may be set aside.
    validated
        Fraction of the resources that fhir.resources validates, too.
    workers
        Processes that read.
    local
        Codes of the hospital's own, (system, code), and the features that they stand for.
    refused
        What was set aside before, when the source was made; it is counted with the rest.
    listen
        Is told of the progress.

    Raises
    ------
    ReadingError
        If there is nothing to read.
    QuarantineError
        If more is set aside than the threshold allows; the quarantine file is written.
    HarmonizationError
        If no patient is left, with the reasons why; if the quarantine lies in the source.
    DictionaryError
        If the dictionary is wrong, names no columns, or has an endpoint that cannot be derived.
    """
    if not isinstance(dictionary, Dictionary):
        dictionary = Dictionary.read(dictionary)
    dictionary.schema()  # wrong before an hour of reading, not after it
    if quarantine is not None and Path(source).resolve() in Path(quarantine).resolve().parents:
        raise HarmonizationError(f"{quarantine}: lies in the source {source}, and would be read as a part of it")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / QUARANTINE if quarantine is None else Path(quarantine)
        with Quarantine(path, threshold) as aside:
            for refusal in refused:
                aside.refuse(refusal)
            pieces, index = _read(source, dictionary, validated, local, workers, aside, listen)
            bad = _check_references(pieces, index, aside)
        summary = aside.summary
    if quarantine is None:
        summary = Summary(summary.read, summary.refused, summary.kinds, summary.reasons, None)
    found = gather(pieces, index, bad)
    return _Assembly(found, dictionary, pieces, summary).result()


# -- reading


def _read(
    source: str | Path,
    dictionary: Dictionary,
    validated: float,
    local: Mapping[tuple[str, str], Entry] | None,
    workers: int,
    aside: Quarantine,
    listen: Listen | None,
) -> tuple[list[Piece], Index]:
    todo = chunks(source, CHUNK_BYTES)
    pieces: list[Piece] = []
    index = Index()
    work = partial(_read_piece, dictionary, validated, dict(local or {}))
    for piece in map_chunks(work, todo, min(workers, len(todo))):
        index.merge(piece.index)
        for refused in piece.refused:
            aside.refuse(refused)
        aside.accept(piece.accepted)
        piece.refused.clear()
        pieces.append(piece)
        if listen is not None:
            listen("reading", len(pieces) / len(todo), f"{aside.summary.read} resources")
    return pieces, index


_EXTRACTORS: dict[tuple[object, ...], Extractor] = {}
"""One per process: compiled once, used for all pieces."""


def _read_piece(
    dictionary: Dictionary, validated: float, local: Mapping[tuple[str, str], Entry], chunk: Chunk
) -> Piece:
    key = dictionary.hash, validated, *sorted((*code, entry.name) for code, entry in local.items())
    if key not in _EXTRACTORS:
        _EXTRACTORS.clear()
        _EXTRACTORS[key] = Extractor(dictionary, validated, local)
    collecting = gc.isenabled()
    gc.disable()  # parsed JSON has no cycles: searching them for some costs a twentieth of the time
    try:
        return _EXTRACTORS[key].read(chunk)
    finally:
        if collecting:
            gc.enable()


def _check_references(pieces: Sequence[Piece], index: Index, aside: Quarantine) -> set[Place]:
    """Look again at pieces with references that lead nowhere, dates before a birth, or ids used twice.

    Whether there is any is known from the first reading, so that good data are read once.
    """
    bad: set[Place] = set()
    dangling = {name for piece in pieces for name in piece.references if name not in index.keys}
    dangling = {name for name in dangling if not index.resolves(name)}
    unborn = {
        name
        for piece in pieces
        for name, first in piece.earliest.items()
        if (born := index.births.get(name)) is not None and surely_before(first, born)
    }
    for number, piece in enumerate(pieces):
        suspected = not dangling.isdisjoint(piece.references) or not unborn.isdisjoint(piece.earliest)
        if not (suspected or index.conflicting or index.shared):
            continue
        for place, located in enumerate(read_chunk(piece.chunk, lambda refusal: None)):
            if place not in piece.refused_places and (problems := index.check(located)):
                aside.refuse(refusal(located, problems))
                aside.accept(-1)
                bad.add((number, place))
    return bad


# -- putting together


class _Assembly:
    """From rows to the table."""

    def __init__(self, gathered: Gathered, dictionary: Dictionary, pieces: Sequence[Piece], summary: Summary) -> None:
        self.gathered, self.dictionary, self.pieces, self.summary = gathered, dictionary, pieces, summary
        self.numbers = {entry.name: i for i, entry in enumerate(dictionary.entries)}
        self.cells = Cells.empty(len(gathered.patients), len(dictionary.entries))

    def result(self) -> Harmonized:
        gathered, dictionary, cells = self.gathered, self.dictionary, self.cells
        diagnosed, known, origins = self.choose()
        gender(cells, gathered.patients, dictionary)
        outcome = Outcomes(cells, gathered.patients, dictionary, diagnosed, known).derive()
        self.absences()
        kept = np.flatnonzero(np.array([not words for words in outcome.lost], bool))
        counts = completeness(cells, gathered, dictionary, self.pieces, self.summary, outcome.lost)
        if not len(kept):
            lost = (
                "; ".join(f"{n} {words}" for words, n in Counter(outcome.lost).most_common()) or "no Patient resources"
            )
            aside = f"; {self.summary.refused} resources were set aside" if self.summary.refused else ""
            raise HarmonizationError(
                f"no patient is left for a cohort of dictionary {dictionary.name!r}: {lost}{aside}"
            )
        return Harmonized(
            self.table(kept, outcome.time, outcome.event),
            reasons(cells, gathered, dictionary, outcome.lost),
            provenance(cells, gathered, dictionary, origins, kept),
            counts,
            self.summary,
        )

    def choose(self) -> tuple[Floats, Any, Origins]:
        """Records of every feature; the diagnosis first, then treatment, on which the others' windows depend."""
        n = len(self.gathered.patients)
        selection = Selection(self.gathered.records, self.dictionary, n)
        nothing = np.full(n, np.nan)
        diagnosis = self.numbers[DIAGNOSIS]
        selection.choose(self.cells, diagnosis, None, nothing)
        diagnosed = self.cells.values[:, diagnosis].copy()
        known = np.zeros(n, bool)
        rows = selection.rows[diagnosis]
        known[self.gathered.records.patient[rows]] = True
        treated = nothing
        if TREATMENT in self.numbers:
            selection.choose(self.cells, self.numbers[TREATMENT], diagnosed, nothing)
            treated = self.cells.values[:, self.numbers[TREATMENT]].copy()
        for name, feature in self.numbers.items():
            if name not in (DIAGNOSIS, TREATMENT):
                selection.choose(self.cells, feature, diagnosed, treated)
        karyotypes = karyotype_findings(self.cells, self.gathered, self.dictionary)
        return diagnosed, known, mutations(self.cells, self.gathered, self.dictionary, diagnosed, karyotypes)

    def absences(self) -> None:
        """Where no record means no, and none was set aside."""
        for feature, entry in enumerate(self.dictionary.entries):
            if entry.absence == "no" and entry.kind in ("binary", "count"):
                silent = self.cells.missing[:, feature] >= Missing.OUTSIDE_WINDOW
                self.cells.values[silent, feature] = 0.0
                self.cells.missing[silent, feature] = Missing.NONE

    def table(self, kept: Any, time: Floats, event: Floats) -> Cohort:
        schema = self.dictionary.schema()
        columns: dict[str, Any] = {
            ID: np.array(self.gathered.patients.identities, object)[kept],
            TIME: time[kept],
            EVENT: event[kept].astype(np.int8),
        }
        for feature in (*schema.features, *schema.scores):
            values: Any = self.cells.values[kept, self.numbers[feature.name]]
            if feature.kind == "categorical":
                names = np.array([*feature.categories, None], object)
                values = names[np.where(np.isnan(values), -1, values).astype(int)]
            columns[feature.name] = values
        return Cohort.from_frame(pd.DataFrame(columns), schema, source="the harmonized table")
