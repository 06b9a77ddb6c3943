"""The mapping of a center: which column of which table is what, in which unit, language and notation.

The format is described in docs/tables.md. Everything in a table is named, if only under `ignore`, so that nothing is
lost unseen; a number has a unit, and no unit is assumed. What ``haemfed harmonize --init`` proposes carries the mark
``confirm``, and a mapping with such a mark is refused until a person has removed it.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Map
from dataclasses import astuple, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml

from harmonization.dictionary import Dictionary, Entry
from harmonization.dictionary_file import _UniqueKeys
from harmonization.resources import REASONS
from harmonization.tables.cells import Locale, Words
from harmonization.tables.errors import MappingError

Layout = Literal["wide", "long", "variants"]
Role = Literal["feature", "birth_date", "death_date", "mutated_genes", "tested_genes"]

_TOP = ("dictionary", "locale", "missing", "tables", "codes", "diagnosis_day")
_LOCALE = ("decimal", "thousands", "date")
_ALL = ("layout", "patient", "date", "delimiter", "encoding", "sheet", "locale", "missing", "ignore", "tested")
_LAYOUTS: dict[str, tuple[str, ...]] = {
    "wide": ("columns",),
    "long": ("name", "value", "unit", "rows", "ignore_rows"),
    "variants": ("gene", "coding_change", "protein_change", "allele_frequency", "allele_frequency_unit"),
}
_NEEDED = {"wide": ("columns",), "long": ("name", "value", "rows"), "variants": ("gene",)}
_FIELD = ("feature", "patient", "genes", "unit", "units", "values", "separator", "confirm")
_CONFIRM = "confirm"
_UNCONFIRMED = "a proposal that nobody has confirmed: check it, then remove this line"
ROLES: dict[tuple[str, str], Role] = {
    ("patient", "birth_date"): "birth_date",
    ("patient", "death_date"): "death_date",
    ("genes", "mutated"): "mutated_genes",
    ("genes", "tested"): "tested_genes",
}


@dataclass(frozen=True)
class Field:
    """What a column of a wide table, or the rows of one name in a long one, hold.

    Parameters
    ----------
    name
        Of the column or concept, as in the table.
    role
        A feature of the dictionary, a date of the patient, or a list of genes.
    entry
        The feature.
    unit
        Of numbers, in a spelling of the dictionary; None where the table says it, or there is none.
    units
        How a column of units spells them, to a spelling of the dictionary.
    values
        Local value (case does not count) to category or number.
    separator
        Between genes.
    """

    name: str
    role: Role
    entry: Entry | None = None
    unit: str | None = None
    units: Map[str, str] | None = None
    values: Map[str, str | float] | None = None
    separator: str = ","


@dataclass(frozen=True)
class Table:
    """One table and its columns.

    Parameters
    ----------
    file
        Its path.
    layout
        ``wide``: a row is a patient or a visit; ``long``: a row is one result; ``variants``: a row is one variant.
    patient, date
        Columns of the patient's id and of the date of the row (the date of diagnosis where there is none).
    fields
        By column, or by the name in the rows of a long table.
    ignored, ignored_rows
        Columns, and names of rows, that are not read.
    tested
        Genes that were sequenced in every patient of the table.
    locale, words
        How cells are written.
    delimiter, encoding, sheet
        Of CSV, and of Excel (the first sheet by default).
    columns
        Of the other layouts: role to column.
    frequency_unit
        ``%`` or ``1``, of the allele frequency.
    """

    file: Path
    layout: Layout
    patient: str
    date: str | None
    fields: Map[str, Field]
    ignored: frozenset[str]
    ignored_rows: frozenset[str]
    tested: tuple[str, ...]
    locale: Locale
    words: Words
    delimiter: str
    encoding: str
    sheet: str | None
    columns: Map[str, str]
    frequency_unit: str = "1"


@dataclass(frozen=True)
class Mapping:
    """The mapping of a center.

    Parameters
    ----------
    dictionary
        The data dictionary that it maps to.
    tables
        All tables.
    codes
        Local codes in FHIR resources, (system, code), to features.
    diagnosis_day
        Taken for the day of diagnosis of patients of whom only times since then are known.
    source
        The file it was read from.
    """

    dictionary: Dictionary
    tables: tuple[Table, ...]
    codes: Map[tuple[str, str], Entry]
    diagnosis_day: str | None
    source: str


def read_mapping(
    path: str | Path, dictionary: Dictionary | None = None, directory: str | Path | None = None
) -> Mapping:
    """Read a mapping.

    Parameters
    ----------
    path
        A YAML file.
    dictionary
        To map to; the one that the mapping names by default.
    directory
        Where the tables are; beside the mapping by default.

    Raises
    ------
    MappingError
        Naming file, table, column, key and value, and the nearest allowed one; also if a proposal is unconfirmed.
    DictionaryError
        If the dictionary cannot be read.
    """
    path = Path(path)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        raise MappingError("no such file; haemfed harmonize --init proposes one", source=str(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise MappingError(f"not YAML: {error}", source=str(path)) from None
    return _Reader(path, data, dictionary, Path(directory or path.parent)).mapping()


class _Reader:
    """From plain data to the dataclasses."""

    def __init__(self, path: Path, data: Any, dictionary: Dictionary | None, directory: Path) -> None:
        self.path, self.directory = path, directory
        self.table: str | None = None
        self.column: str | None = None
        self.data = self.keys(data, "the file", _TOP)
        self.dictionary = dictionary or Dictionary.read(self.text(self.data.get("dictionary"), "dictionary"))

    def fail(self, problem: str, key: str | None = None, value: object = None) -> NoReturn:
        raise MappingError(problem, source=str(self.path), table=self.table, column=self.column, key=key, value=value)

    def mapping(self) -> Mapping:
        locale = self.locale(self.data.get("locale", {}), Locale())
        words = self.words(self.data.get("missing", {}), Words())
        tables = []
        for name, raw in self.keys(self.data.get("tables", {}), "tables").items():
            self.table = self.text(name, "tables")
            tables.append(self.one_table(raw, locale, words))
            self.table = None
        codes = {
            self.code(code): self.entry(feature, "codes")
            for code, feature in self.keys(self.data.get("codes", {}), "codes").items()
        }
        if bool(tables) == bool(codes):
            self.fail("maps tables, or the codes of a FHIR source: one of the two")
        day = self.data.get("diagnosis_day")
        if day is not None:
            day = str(day)
            try:
                Locale().day(day)
            except ValueError as error:
                self.fail(str(error), "diagnosis_day", day)
        return Mapping(self.dictionary, tuple(tables), codes, day, str(self.path))

    def one_table(self, raw: Any, locale: Locale, words: Words) -> Table:
        layout: Layout = self.one_of(self.keys(raw, "").get("layout", "wide"), "layout", tuple(_LAYOUTS))
        data = self.keys(raw, "", (*_ALL, *_LAYOUTS[layout]))
        for key in (
            "patient",
            *{"wide": ("columns",), "long": ("name", "value", "rows"), "variants": ("gene",)}[layout],
        ):
            if key not in data:
                self.fail("is missing", key)
        fields = {}
        for name, field in self.keys(data.get("columns" if layout == "wide" else "rows", {}), "columns").items():
            self.column = name = str(name)
            fields[name] = self.field(name, field, unit_column=layout == "long" and "unit" in data)
            self.column = None
        missing = self.words(data.get("missing", {}), words)
        for name, field in fields.items():
            for word in missing.reasons.keys() & (field.values or {}).keys():
                self.column = name
                self.fail("stands for a value here and for a missing one under missing; keep one", "values", word)
        others = {
            role: self.text(data[role], role)
            for role in ("name", "value", "unit", "gene", "coding_change", "protein_change", "allele_frequency")
            if role in data
        }
        delimiter = data.get("delimiter", ",")
        if not isinstance(delimiter, str) or len(delimiter) != 1:
            self.fail("is one character", "delimiter", delimiter)
        return Table(
            self.directory / str(self.table),
            layout,
            self.text(data["patient"], "patient"),
            self.text(data["date"], "date") if "date" in data else None,
            fields,
            frozenset(str(name) for name in self.sequence(data.get("ignore", []), "ignore")),
            frozenset(str(name) for name in self.sequence(data.get("ignore_rows", []), "ignore_rows")),
            tuple(self.gene(symbol) for symbol in self.sequence(data.get("tested", []), "tested")),
            self.locale(data.get("locale", {}), locale),
            missing,
            delimiter,
            self.text(data.get("encoding", "utf-8"), "encoding"),
            self.text(data["sheet"], "sheet") if "sheet" in data else None,
            others,
            self.one_of(str(data.get("allele_frequency_unit", "1")), "allele_frequency_unit", ("1", "%")),
        )

    def field(self, name: str, raw: Any, *, unit_column: bool) -> Field:
        data = self.keys(raw, "", _FIELD)
        for key, value in data.items():
            if key.startswith(_CONFIRM):
                self.fail(_UNCONFIRMED, key, value)
        what = [key for key in ("feature", "patient", "genes") if key in data]
        if len(what) != 1:
            self.fail("is one of feature, patient, genes; list the column under ignore if it is none", value=raw)
        (kind,) = what
        if kind != "feature":
            allowed = [value for key, value in ROLES if key == kind]
            role = ROLES[kind, self.one_of(data[kind], kind, allowed)]
            self.only(data, kind, "separator" if kind == "genes" else kind)
            return Field(name, role, separator=str(data.get("separator", ",")))
        entry = self.entry(data["feature"], "feature")
        numeric = entry.kind in ("continuous", "count") or (entry.kind == "binary" and "unit" in data)
        if entry.kind in ("date", "text"):
            self.only(data, "feature", "separator")
        if entry.name == "genes_tested":
            return Field(name, "tested_genes", separator=str(data.get("separator", ",")))
        unit = data.get("unit")
        if numeric and entry.units is not None:
            self.unit(entry, unit, unit_column)
        elif unit is not None:
            self.fail(f"{entry.name} has no unit", "unit", unit)
        units = {str(k): str(v) for k, v in self.keys(data.get("units", {}), "units").items()}
        for known in units.values():
            self.unit(entry, known, False)
        values = {}
        for word, value in self.keys(data.get("values", {}), "values").items():
            self.value(entry, value)
            values[str(word).casefold()] = value if isinstance(value, str) else float(value)
        return Field(name, "feature", entry, unit, units or None, values or None)

    def unit(self, entry: Entry, unit: Any, unit_column: bool) -> None:
        known = [spelling.text for spelling in entry.units.spellings] if entry.units else []
        if unit is None:
            if known and entry.units is not None and entry.units.ucum == "1":
                return
            if not unit_column:
                self.fail(f"a number needs its unit, one of {', '.join(known[:12])}; none is assumed", "unit")
        elif not isinstance(unit, str) or (entry.name, unit) not in self.dictionary.factors:
            near = get_close_matches(str(unit), known, n=3) or known[:12]
            self.fail(f"no unit of {entry.name}; there are {', '.join(near)}", "unit", unit)

    def value(self, entry: Entry, value: Any) -> None:
        if entry.kind == "categorical":
            self.one_of(value, "values", entry.categories)
        elif entry.kind == "binary":
            if value not in (0, 1) or isinstance(value, bool):
                self.fail(f"{entry.name} is 0 or 1", "values", value)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            self.fail("is no number", "values", value)

    def entry(self, name: Any, key: str) -> Entry:
        self.one_of(name, key, tuple(self.dictionary.by_name))
        return self.dictionary[name]

    def gene(self, symbol: Any) -> str:
        name = self.text(symbol, "tested")
        known = {gene.symbol: gene.symbol for gene in self.dictionary.genes}
        known |= {old: gene.symbol for gene in self.dictionary.genes for old in gene.formerly}
        return known.get(name, name)

    def code(self, text: Any) -> tuple[str, str]:
        system, bar, code = self.text(text, "codes").rpartition("|")
        if not (bar and system and code):
            self.fail("a local code is system|code", "codes", text)
        return system, code

    def locale(self, raw: Any, base: Locale) -> Locale:
        data = self.keys(raw, "locale", _LOCALE)
        marks = (str(data.get(key, default)) for key, default in zip(_LOCALE, astuple(base), strict=True))
        found = Locale(*marks)
        if found.problem:
            self.fail(found.problem, "locale")
        return found

    def words(self, raw: Any, base: Words) -> Words:
        data = self.keys(raw, "missing")
        for reason in data.values():
            self.one_of(reason, "missing", tuple(REASONS))
        return Words(base.reasons | {str(word).casefold(): reason for word, reason in data.items()})

    # -- plain data

    def keys(self, value: Any, key: str, allowed: Iterable[str] | None = None) -> dict[Any, Any]:
        if not isinstance(value, dict):
            self.fail("must be a mapping (key: value)", key, value)
        for name in value:
            if isinstance(name, bool):
                self.fail("YAML reads this key as true or false; put it in quotes", key, name)
            if allowed is not None and name not in allowed:
                if str(name).startswith(_CONFIRM):
                    self.fail(
                        "a proposal that nobody has confirmed: check it, then remove this line", name, value[name]
                    )
                self.fail(f"unknown key; {_nearest(str(name), allowed)}", str(name))
        return value

    def only(self, data: Map[str, Any], *allowed: str) -> None:
        for key in data:
            if key not in allowed:
                self.fail("does not go with this", key, data[key])

    def sequence(self, value: Any, key: str) -> list[Any]:
        if not isinstance(value, list):
            self.fail("must be a list", key, value)
        return value

    def text(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or not value:
            self.fail("must be text; put it in quotes", key, value)
        return value

    def one_of(self, value: Any, key: str, allowed: Iterable[str]) -> Any:
        if value not in (allowed := tuple(allowed)):
            self.fail(_nearest(str(value), allowed), key, value)
        return value


def _nearest(word: str, allowed: Iterable[str]) -> str:
    allowed = tuple(map(str, allowed))
    close = get_close_matches(word, allowed, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"use one of {', '.join(allowed)}" if len(allowed) <= 30 else "none is like it"
