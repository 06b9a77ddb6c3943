"""Rows to resources: every mapped cell becomes an Observation, Condition, ... of its patient, or a refusal.

Two passes over the tables. The first collects what a patient is (sex, dates of birth, diagnosis, death or last
contact), which may stand in any table and must not contradict itself; the second makes the resources. A resource comes
with the table, the row and the column it came from, as one of FHIR with its file, line and path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from harmonization import writing
from harmonization.dictionary import DIAGNOSIS
from harmonization.files import replacing
from harmonization.reading import Located, Refusal, Refuse
from harmonization.resources import (
    Call,
    Resource,
    concept,
    condition,
    fhir_id,
    missing,
    observation,
    patient,
    statement,
    tested_genes,
    value_of,
    variant,
)
from harmonization.resources import quantity as quantity_of
from harmonization.tables.cells import CellError, Value
from harmonization.tables.errors import MappingError
from harmonization.tables.files import Row, read_rows
from harmonization.tables.mapping import Field, Mapping, Table

PERSONAL = (DIAGNOSIS, writing.LAST_CONTACT, writing.DEAD, writing.SURVIVAL)
"""Features that are about the patient as a whole; sex is the one with an element of its own."""


@dataclass
class Person:
    """What the tables say of a patient as such: by what, the value and where it was said first."""

    facts: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def get(self, what: str) -> Any:
        return self.facts[what][0] if what in self.facts else None


class Cell(NamedTuple):
    """A cell that means something."""

    patient: str
    field: Field
    value: Value
    unit: Value | None
    on: date | None
    row: int


def read_tables(mapping: Mapping, refuse: Refuse) -> Iterator[Located]:
    """All tables of a mapping as FHIR R4 resources: first the patients, then what is known of them.

    Parameters
    ----------
    mapping
        From `read_mapping`.
    refuse
        Is called with every cell or row that cannot be read: file, row, column, value and reason.

    Raises
    ------
    MappingError
        If a table is missing, or has a column that the mapping does not name, or lacks one that it names.
    """
    people: dict[str, Person] = {}
    first: dict[str, tuple[str, int]] = {}
    for table in mapping.tables:
        for cell in _cells(table, refuse):
            first.setdefault(cell.patient, (str(table.file), cell.row))
            _collect(people, table, cell, refuse)
        for who, number in _others(table):
            first.setdefault(who, (str(table.file), number))
    for who, (file, number) in first.items():
        person = people.setdefault(who, Person())
        _complete(person, mapping)
        yield from (Located(r, file, number, "patient") for r in _personal(who, person, mapping))
    for table in mapping.tables:
        convert = _Converter(mapping, table, people, refuse)
        if table.layout == "variants":
            yield from convert.variants()
        else:
            for cell in _cells(table, lambda _: None):  # refused in the first pass
                yield from convert.cell(cell)
        if table.tested:
            yield from convert.tested_everywhere()


def convert_tables(mapping: Mapping, directory: str | Path, refuse: Refuse) -> int:
    """Write the tables of a mapping as one NDJSON file, ``tables.ndjson``; see `read_tables`.

    ``meta.source`` of a resource says where it came from: ``lab.csv#row=12&column=Hb``.

    Returns
    -------
    int
        Number of resources.
    """
    from urllib.parse import quote

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    count = 0
    with replacing(directory / "tables.ndjson") as temporary, temporary.open("wb") as file:
        for resource, table, row, column, _ in read_tables(mapping, refuse):
            source = f"{quote(Path(table).name)}#row={row}&column={quote(column)}"
            file.write(orjson.dumps({**resource, "meta": {"source": source}}, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


# -- the first pass: what a patient is


def _collect(people: dict[str, Person], table: Table, cell: Cell, refuse: Refuse) -> None:
    entry, role = cell.field.entry, cell.field.role
    if entry is not None and entry.name not in PERSONAL and entry.patient is None:
        return
    if entry is None and role not in ("birth_date", "death_date"):
        return
    if table.words.missing(cell.value):
        return
    what = entry.name if entry is not None else role
    try:
        known = _personal_value(table, cell)
    except CellError as error:
        refuse(_refusal(table, cell, str(error)))
        return
    if known is None:
        return
    facts = people.setdefault(cell.patient, Person()).facts
    before = facts.setdefault(what, (known, f"{table.file.name}, row {cell.row}"))
    if before[0] != known:
        refuse(_refusal(table, cell, f"{what} is {before[0]} in {before[1]}; correct one of them"))


def _personal_value(table: Table, cell: Cell) -> Any:
    entry = cell.field.entry
    if entry is None or entry.kind == "date":
        return table.locale.day(cell.value)
    if entry.name == writing.SURVIVAL:
        days = _unit(table, cell) == "d"
        number = table.locale.number(cell.value)
        return int(number) if days and number.is_integer() else None
    return _word(table, cell)


def _complete(person: Person, mapping: Mapping) -> None:
    """The last day, from the day of diagnosis and a survival of whole days, where no date says it."""
    if person.get(DIAGNOSIS) is None and mapping.diagnosis_day is not None:
        person.facts[DIAGNOSIS] = (date.fromisoformat(mapping.diagnosis_day), mapping.source)
    days, start = person.get(writing.SURVIVAL), person.get(DIAGNOSIS)
    if days is not None and start is not None and person.get(writing.LAST_CONTACT) is None:
        person.facts[writing.LAST_CONTACT] = (start + timedelta(days=days), person.facts[writing.SURVIVAL][1])


def _personal(who: str, person: Person, mapping: Mapping) -> Iterator[Resource]:
    dictionary = mapping.dictionary
    died, dead, last = person.get("death_date"), person.get(writing.DEAD), person.get(writing.LAST_CONTACT)
    if died is None and dead == 1:
        died, last = last, None
    gender = None
    for entry in dictionary.entries:
        if entry.patient == "gender" and person.get(entry.name) is not None:
            gender = entry.answer(person.get(entry.name)).code
    born = person.get("birth_date")
    yield patient(
        who,
        gender=gender,
        born=born.isoformat() if born else None,
        died=died.isoformat() if died else None,
        dead=None if dead is None else bool(dead),
    )
    if (diagnosed := person.get(DIAGNOSIS)) is not None:
        yield condition(fhir_id(who, DIAGNOSIS), who, dictionary[DIAGNOSIS].concept, diagnosed.isoformat())
    if last is not None and died is None:
        entry = dictionary[writing.LAST_CONTACT]
        on = last.isoformat()
        yield observation(
            fhir_id(who, entry.name), who, concept(entry.concept, text=entry.label), on, value_of(entry, on)
        )


# -- cells of the layouts


def _cells(table: Table, refuse: Refuse) -> Iterator[Cell]:
    """The mapped cells of a wide or long table, in order; of a table of variants, none."""
    if table.layout == "variants":
        return
    for row, who, on in _rows(table, refuse):
        if table.layout == "wide":
            for name, value in row.cells.items():
                if name in table.fields:
                    yield Cell(who, table.fields[name], value, None, on, row.number)
            continue
        name = str(row.cells.get(table.columns["name"], ""))
        if name in table.fields:
            result = row.cells.get(table.columns["value"])
            if result is not None:
                unit = row.cells.get(table.columns["unit"]) if "unit" in table.columns else None
                yield Cell(who, table.fields[name], result, unit, on, row.number)
        elif name not in table.ignored_rows:
            problem = "is not in the mapping; name it under rows, or under ignore_rows" if name else "is empty"
            column = table.columns["name"]
            refuse(Refusal(str(table.file), row.number, column, "table", problem, name, row.cells))


def _others(table: Table) -> Iterator[tuple[str, int]]:
    """Patients of whom no mapped cell may tell."""
    if table.layout == "variants" or table.tested:
        for row, who, _ in _rows(table, lambda _: None):
            yield who, row.number


def _rows(table: Table, refuse: Refuse) -> Iterator[tuple[Row, str, date | None]]:
    """Rows with the patient and the date."""
    header, rows = read_rows(table.file, table.delimiter, table.encoding, table.sheet)
    _require_columns(table, header)
    for row in rows:
        if not row.cells:
            continue
        who = row.cells.get(table.patient)
        if isinstance(who, float) and who.is_integer():
            who = int(who)  # Excel keeps whole numbers as floats
        if who is None or row.surplus:
            column, problem = table.patient, "no patient"
            if row.surplus:
                column, problem = "", "more cells than the header; look for a stray delimiter or decimal comma"
            refuse(Refusal(str(table.file), row.number, column, "table", problem, None, _plain(row.cells)))
            continue
        on = None
        if table.date is not None and (value := row.cells.get(table.date)) is not None:
            try:
                on = None if table.words.missing(value) else table.locale.day(value)
            except CellError as error:
                refuse(
                    Refusal(str(table.file), row.number, table.date, "table", str(error), str(value), _plain(row.cells))
                )
                continue
        yield row, str(who), on


def _require_columns(table: Table, header: tuple[str, ...]) -> None:
    wanted = [table.patient, *([table.date] if table.date else []), *table.columns.values()]
    wanted += list(table.fields) if table.layout == "wide" else []
    for name in wanted:
        if name not in header:
            problem = f"no such column; there are {', '.join(header)}"
            raise MappingError(problem, source=str(table.file), column=name)
    for name in header:
        if name not in wanted and name not in table.ignored:
            problem = "is not in the mapping; say what it is, or list it under ignore"
            raise MappingError(problem, source=str(table.file), column=name)


def _plain(cells: dict[str, Value]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in cells.items()}


def _refusal(table: Table, cell: Cell, problem: str) -> Refusal:
    value = cell.value.isoformat() if isinstance(cell.value, date) else cell.value
    return Refusal(str(table.file), cell.row, cell.field.name, "table", problem, value, {"patient": cell.patient})


# -- the second pass: what is known of a patient


class _Converter:
    """Makes the resources of one table."""

    def __init__(self, mapping: Mapping, table: Table, people: dict[str, Person], refuse: Refuse) -> None:
        self.mapping, self.table, self.people, self.refuse = mapping, table, people, refuse
        # The same feature in two columns of a row makes two resources.
        names = [f.entry.name if f.entry is not None else f.role for f in table.fields.values()]
        self.again = {name: (i,) for i, name in enumerate(table.fields) if names[i] in names[:i]}
        self.genes = {gene.symbol: gene.symbol for gene in mapping.dictionary.genes}
        for gene in mapping.dictionary.genes:
            self.genes |= dict.fromkeys((gene.code.code, *gene.formerly), gene.symbol)

    def cell(self, cell: Cell) -> Iterator[Located]:
        entry, role = cell.field.entry, cell.field.role
        if role in ("birth_date", "death_date"):
            return
        if entry is not None and (entry.patient or (entry.name in PERSONAL and not self._survival(cell))):
            return
        try:
            for i, resource in enumerate(self._resources(cell)):
                if i:
                    resource["id"] = fhir_id(resource["id"], i + 1)
                yield Located(resource, str(self.table.file), cell.row, cell.field.name)
        except CellError as error:
            self.refuse(_refusal(self.table, cell, str(error)))

    def _survival(self, cell: Cell) -> bool:
        """A survival that dates do not say: no whole number of days, or the day of diagnosis is unknown."""
        entry = cell.field.entry
        if entry is None or entry.name != writing.SURVIVAL or self.table.words.missing(cell.value):
            return False
        try:
            days = _personal_value(self.table, cell)
        except CellError:
            return False  # refused before
        return days is None or self._person(cell.patient).get(DIAGNOSIS) is None

    def _resources(self, cell: Cell) -> Iterator[Resource]:
        table, dictionary, entry = self.table, self.mapping.dictionary, cell.field.entry
        name = entry.name if entry is not None else cell.field.role
        key = fhir_id(cell.patient, name, table.file.stem, cell.row, *self.again.get(cell.field.name, ()))
        on: date | None = cell.on or self._person(cell.patient).get(DIAGNOSIS)
        when = on.isoformat() if on is not None else None
        reason = table.words.missing(cell.value)
        if entry is None:
            symbols = [] if reason else self._symbols(cell)
            if cell.field.role == "tested_genes":
                yield tested_genes(dictionary, key, cell.patient, when, symbols)
            else:
                yield from (variant(dictionary, key, cell.patient, when, Call(symbol)) for symbol in symbols)
            return
        code = concept(entry.concept, text=entry.label)
        if reason is not None:
            if entry.source not in ("condition", "procedure", "medication"):
                yield observation(key, cell.patient, code, when, missing(reason))
            return
        if entry.kind == "date":
            yield statement(entry, key, cell.patient, table.locale.day(cell.value).isoformat(), "")
        elif entry.kind == "text":
            yield statement(entry, key, cell.patient, when, str(cell.value))
        elif entry.kind == "categorical" or (entry.kind == "binary" and cell.field.unit is None):
            yield statement(entry, key, cell.patient, when, _word(table, cell))
        else:
            yield observation(key, cell.patient, code, when, self._number(cell))

    def _number(self, cell: Cell) -> Resource:
        """``value[x]`` of a number, also of one below or above what can be measured."""
        entry, value = cell.field.entry, cell.value
        assert entry is not None
        comparator = ""
        if isinstance(value, str):
            folded = value.casefold()
            if cell.field.values and folded in cell.field.values:
                value = float(cell.field.values[folded])
            elif value[:1] in "<>≤≥":
                comparator = value[0].replace("≤", "<").replace("≥", ">")
                comparator += "=" if value[:1] in "≤≥" or value[1:2] == "=" else ""
                value = value[1:].removeprefix("=").strip()
        number = self.table.locale.number(value)
        if entry.units is not None:
            return {"valueQuantity": quantity_of(number, _unit(self.table, cell), comparator)}
        if comparator or not number.is_integer():
            raise CellError("not a whole number")
        return {"valueInteger": int(number)}

    def _symbols(self, cell: Cell) -> list[str]:
        words = [word.strip() for word in str(cell.value).split(cell.field.separator)]
        for word in words:
            if not word or " " in word:
                raise CellError(f"not a list of genes with {cell.field.separator!r} between them")
        return [self.genes.get(word, word) for word in words]

    def variants(self) -> Iterator[Located]:
        """A table of variants, one a row."""
        table, columns = self.table, self.table.columns
        for row, who, day in _rows(table, self.refuse):
            on: date | None = day or self._person(who).get(DIAGNOSIS)
            gene = row.cells.get(columns["gene"])
            if gene is None:
                problem, where = "no gene", columns["gene"]
                self.refuse(Refusal(str(table.file), row.number, where, "table", problem, None, _plain(row.cells)))
                continue
            frequency = None
            try:
                share = row.cells.get(columns.get("allele_frequency", ""))
                if share is not None and not table.words.missing(share):
                    frequency = table.locale.number(share) / (100 if table.frequency_unit == "%" else 1)
                    if not 0 <= frequency <= 1:
                        raise CellError(f"no allele frequency in {table.frequency_unit!r}")
            except CellError as error:
                where = columns["allele_frequency"]
                self.refuse(
                    Refusal(str(table.file), row.number, where, "table", str(error), str(share), _plain(row.cells))
                )
                continue
            changes = [str(row.cells.get(columns.get(c, ""), "")) for c in ("coding_change", "protein_change")]
            call = Call(self.genes.get(str(gene), str(gene)), changes[0], changes[1], frequency)
            key = fhir_id(who, "variant", table.file.stem, row.number)
            resource = variant(self.mapping.dictionary, key, who, on.isoformat() if on else None, call)
            yield Located(resource, str(table.file), row.number, columns["gene"])

    def tested_everywhere(self) -> Iterator[Located]:
        """The genes that were sequenced in every patient of a table, once for each."""
        seen = set()
        for row, who, _ in _rows(self.table, lambda _: None):
            if who not in seen:
                seen.add(who)
                on = self._person(who).get(DIAGNOSIS)
                key = fhir_id(who, "tested", self.table.file.stem)
                when = on.isoformat() if on else None
                resource = tested_genes(self.mapping.dictionary, key, who, when, self.table.tested)
                yield Located(resource, str(self.table.file), row.number, "tested")

    def _person(self, who: str) -> Person:
        return self.people.get(who) or Person()


def _unit(table: Table, cell: Cell) -> str:
    """The unit of a number: as the row has it, else as the mapping says."""
    entry = cell.field.entry
    assert entry is not None
    if cell.unit is None:
        if cell.field.unit is not None:
            return cell.field.unit
        if entry.units is not None and entry.units.ucum == "1":
            return "1"
        raise CellError(f"no unit in this row, and none in the mapping for {cell.field.name!r}")
    unit = (cell.field.units or {}).get(str(cell.unit), str(cell.unit))
    known = [spelling.text for spelling in entry.units.spellings] if entry.units else []
    if unit not in known:
        raise CellError(f"unit {unit!r} is none of {entry.name}; spell it under units ({', '.join(known[:8])})")
    return unit


def _word(table: Table, cell: Cell) -> str | float:
    """Category or 0/1 that a cell stands for."""
    entry, value = cell.field.entry, cell.value
    assert entry is not None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    if cell.field.values is not None:
        if text.casefold() in cell.field.values:
            return cell.field.values[text.casefold()]
        raise CellError(f"stands for nothing; the mapping has {', '.join(cell.field.values)}")
    if entry.kind == "categorical" and text in entry.categories:
        return text
    if entry.kind == "binary" and text in ("0", "1"):
        return float(text)
    allowed = ", ".join(entry.categories) if entry.kind == "categorical" else "0, 1"
    raise CellError(f"stands for nothing; say what under values ({allowed})")
