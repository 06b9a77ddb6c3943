"""A first mapping of a table, from the names of its columns and the distribution of their values.

All of it is a guess, and says so: each guess has a line ``confirm``, with what speaks for it, and `read_mapping`
refuses the file as long as there is one. A unit that is not written in the name of its column is guessed from the
values, with the units that would fit as well beside it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from math import log
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from harmonization.dictionary import Dictionary, Entry
from harmonization.tables.cells import CellError, Locale, Value
from harmonization.tables.errors import MappingError
from harmonization.tables.files import EXCEL, read_rows

ROWS = 2000
"""Rows that are looked at."""

FITS = 0.99
"""Fraction of the values that lie in the plausible range, if a unit fits."""

FEW = 12
"""Different values of a column whose values are words."""

_UNIT_IN_NAME = re.compile(r"^(.*?)\s*[\[(]\s*(\S.*?)\s*[\])]\s*$")
_NUMERIC = re.compile(r"[+-]?\d[\d.,' ]*")
_DATE = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})(?:[ T]\d.*)?")


def propose_mapping(path: str | Path, dictionary: Dictionary) -> str:
    """A mapping of one table, as YAML for a person to complete.

    Parameters
    ----------
    path
        A CSV or Excel file.
    dictionary
        To map to.

    Raises
    ------
    MappingError
        If the file cannot be read.
    """
    path = Path(path)
    delimiter, encoding = _form(path)
    header, rows = read_rows(path, delimiter, encoding)
    content = _Table(header, [row.cells for row, _ in zip(rows, range(ROWS), strict=False)], dictionary).content()
    if path.suffix.lower() not in EXCEL:
        content = {"delimiter": delimiter, "encoding": encoding} | content
    text = yaml.safe_dump(
        {"dictionary": dictionary.name, "tables": {path.name: content}}, sort_keys=False, allow_unicode=True, width=110
    )
    return (
        f"# Proposed from {path.name}. Check every guess, then remove its line confirm; with one left this mapping is\n"
        f"# refused. What each key means: docs/tables.md\n{text}"
    )


class _Table:
    """One table and what is guessed of it."""

    def __init__(self, header: Sequence[str], rows: Sequence[Mapping[str, Value]], dictionary: Dictionary) -> None:
        self.rows, self.dictionary = rows, dictionary
        self.columns = {name: [row[name] for row in rows if name in row] for name in header}
        self.names = _names(dictionary)
        self.missing = {word: reason for reason, words in _synonyms()["missing"].items() for word in _plain(words)}
        self.reasons: dict[str, str] = {}
        for values in self.columns.values():
            for value in values:
                if isinstance(value, str) and (reason := self.missing.get(_key(value))):
                    self.reasons.setdefault(value, reason)
        self.locale, self.why = _locale(self._texts())

    def _texts(self) -> Iterable[str]:
        return (v for values in self.columns.values() for v in values if isinstance(v, str) and v not in self.reasons)

    def content(self) -> dict[str, Any]:
        roles = self._roles()
        long = {"name", "value"} <= roles.keys()
        found: dict[str, Any] = {"layout": "long" if long else "wide"}
        found["locale"] = {
            "decimal": self.locale.decimal,
            "thousands": self.locale.thousands,
            "date": self.locale.order,
        }
        found["confirm_locale"] = self.why
        if self.reasons:
            found["missing"] = dict(self.reasons)
            found["confirm_missing"] = "these words were met in place of values; is that why?"
        used = ["patient", "date", *(("name", "value", "unit") if long else ())]
        found |= {role: roles[role] for role in used if role in roles}
        if "patient" not in roles:
            found["patient"] = next(iter(self.columns), "")
            found["confirm_patient"] = "no column resembles a patient's id; this is the first"
        taken = {roles[role] for role in used if role in roles} | {found["patient"]}
        blocks = self._by_name(roles) if long else {n: v for n, v in self.columns.items() if n not in taken}
        fields, ignored = {}, []
        for name, values in blocks.items():
            field = self._field(name, values, unit_column=long and "unit" in roles)
            if field is None:
                ignored.append(name)
            else:
                fields[name] = field
        found["rows" if long else "columns"] = fields
        if long and (surplus := [n for n in self.columns if n not in taken]):
            found["ignore"] = surplus
            found["confirm_ignore"] = "no role of a long table"
        if ignored:
            key = "ignore_rows" if long else "ignore"
            found[key] = ignored
            found[f"confirm_{key}"] = "these resemble nothing that the dictionary has"
        return found

    def _roles(self) -> dict[str, str]:
        """Role to column."""
        roles: dict[str, str] = {}
        for role, words in _synonyms()["roles"].items():
            for word in _plain(words):
                if match := next((n for n in self.columns if _key(n) == word and n not in roles.values()), None):
                    roles[role] = match
                    break
        return roles

    def _by_name(self, roles: Mapping[str, str]) -> dict[str, list[Value]]:
        """Values of a long table by the name in their row."""
        blocks: dict[str, list[Value]] = {}
        for row in self.rows:
            if (name := row.get(roles["name"])) is not None:
                values = blocks.setdefault(str(name), [])
                if (value := row.get(roles["value"])) is not None:
                    values.append(value)
        return blocks

    def _field(self, name: str, values: Sequence[Value], *, unit_column: bool) -> dict[str, Any] | None:
        match = _UNIT_IN_NAME.match(name)
        bare, written = (match[1], match[2]) if match else (name, "")
        what = self.names.get(_key(bare)) or self.names.get(_key(name))
        if what is None:
            return None
        kind, target = what
        if kind != "feature":
            return {kind: target, "confirm": f"by its name; for instance {_examples(values)}"}
        entry = self.dictionary[target]
        found: dict[str, Any] = {"feature": target}
        why = f"{entry.label or target}, by its name"
        known = [v for v in values if not (isinstance(v, str) and v in self.reasons)]
        if entry.kind in ("continuous", "count") and entry.units is not None and entry.units.ucum != "1":
            if (target, written) in self.dictionary.factors:
                found["unit"] = written
                why += "; the unit is written there"
            elif not unit_column:
                unit, reason = self._unit(entry, known)
                found["unit"] = unit
                found["confirm_unit"] = reason
        elif entry.kind in ("binary", "categorical"):
            guessed, open_words = self._values(entry, known)
            if guessed:
                found["values"] = guessed
                found["confirm_values"] = "by the words; 0 is no or female, 1 is yes or male"
            if open_words:
                found["confirm_open"] = f"say under values what these stand for: {', '.join(open_words)}"
        found["confirm"] = f"{why}; for instance {_examples(known)}"
        return found

    def _unit(self, entry: Entry, values: Sequence[Value]) -> tuple[str, str]:
        """The likeliest unit, and what speaks for it."""
        assert entry.units is not None
        numbers = []
        for value in values:
            try:
                numbers.append(self.locale.number(value.lstrip("<>≤≥= ") if isinstance(value, str) else value))
            except CellError:
                continue
        if not numbers:
            return entry.units.ucum, "no number to guess it from"
        low = float("-inf") if entry.low is None else entry.low
        high = float("inf") if entry.high is None else entry.high
        middle = median(numbers)
        fitting: dict[float, tuple[float, str]] = {}
        for spelling in entry.units.spellings:
            factor = float(spelling.factor)
            inside = sum(low <= number * factor <= high for number in numbers) / len(numbers)
            if inside >= FITS and factor not in fitting:
                distance = abs(log(middle * factor / entry.reference)) if middle > 0 < entry.reference else 0.0
                fitting[factor] = (distance, spelling.text)
        if not fitting:
            unit = entry.units.ucum
            return unit, f"no unit makes these values plausible (median {middle:g}): look at the column"
        ranked = sorted(fitting.items(), key=lambda item: item[1][0])
        factor, (_, unit) = ranked[0]
        reason = f"guessed: the median {middle:g} would be {middle * factor:.3g} {entry.units.unit}"
        others = [f"{text} ({middle * f:.3g})" for f, (_, text) in ranked[1:]]
        return unit, reason + (
            f"; plausible as well: {', '.join(others)}" if others else "; no other unit is plausible"
        )

    def _values(self, entry: Entry, values: Sequence[Value]) -> tuple[dict[str, Any], list[str]]:
        """Words of a column to categories or 0 and 1, and the words of which nothing is known."""
        words = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values]
        different = [word for word, _ in Counter(words).most_common(FEW)]
        if entry.kind == "binary" and set(different) <= {"0", "1"}:
            return {}, []
        meaning: dict[str, Any] = {}
        if entry.kind == "categorical":
            meaning = {_key(category): category for category in entry.categories}
        else:
            second = ("male", "female") if entry.patient == "gender" else ("dead", "alive")
            for one, zero in (("positive", "negative"), second):
                meaning |= dict.fromkeys(_plain(_synonyms()[zero]), 0) | dict.fromkeys(_plain(_synonyms()[one]), 1)
        guessed = {word: meaning[_key(word)] for word in different if _key(word) in meaning}
        return guessed, [word for word in different if word not in guessed]


def _names(dictionary: Dictionary) -> dict[str, tuple[str, str]]:
    """What a normalized name stands for: a feature, a date of the patient, a list of genes."""
    found: dict[str, tuple[str, str]] = {}
    for block in ("patient", "genes"):
        for target, words in _synonyms()[block].items():
            found |= dict.fromkeys(_plain(words), (block, target))
    for target, words in _synonyms()["features"].items():
        if target in dictionary:
            found |= dict.fromkeys(_plain(words), ("feature", target))
    for entry in dictionary.entries:
        found[_key(entry.name)] = ("feature", entry.name)
        for code in entry.codes:
            found.setdefault(_key(code.code), ("feature", entry.name))
    for gene in dictionary.genes:
        plain = [e.name for e in dictionary.by_gene[gene.symbol] if e.variant and e.variant.alteration == "any"]
        if len(plain) == 1 and len(dictionary.by_gene[gene.symbol]) == 1:
            for name in (gene.symbol, *gene.formerly):
                found.setdefault(_key(name), ("feature", plain[0]))
    return found


def _locale(texts: Iterable[str]) -> tuple[Locale, str]:
    """Marks and order of dates, and what speaks for them."""
    marks: Counter[str] = Counter()
    orders: Counter[str] = Counter()
    thousands = ""
    for text in texts:
        if match := _DATE.fullmatch(text):
            first, mark, second, last = match.groups()
            if len(first) == 4:
                orders[f"YYYY{mark}MM{mark}DD"] += 1
            elif len(last) == 4:
                day_first = int(first) > 12 or (int(second) <= 12 and mark == ".")
                orders[f"DD{mark}MM{mark}YYYY" if day_first else f"MM{mark}DD{mark}YYYY"] += (
                    int(first) > 12 or int(second) > 12
                )
                orders[f"?{mark}"] += 1
        elif _NUMERIC.fullmatch(text):
            found = re.findall(r"[.,' ]", text)
            if len(set(found)) == 2:
                marks[found[-1]] += 2
                thousands = found[0]
            elif found and not re.fullmatch(r"[+-]?\d{1,3}([.,' ]\d{3})+", text):
                marks[found[-1]] += 1
    decimal = next((mark for mark, _ in marks.most_common() if mark in ".,"), ".")
    seen = (
        f"decimal mark {decimal!r} in {marks[decimal]} numbers" if marks[decimal] else "no number with a decimal mark"
    )
    sure = {order: n for order, n in orders.items() if order[0] != "?" and n}
    if sure:
        order = max(sure, key=lambda name: sure[name])
        seen += f"; {order} in {sure[order]} dates that can be read in one way only"
        if len(sure) > 1:
            seen += f", but also {', '.join(o for o in sure if o != order)}"
    elif unsure := next((name for name in orders if name[0] == "?"), None):
        mark = unsure[1]
        order = f"DD{mark}MM{mark}YYYY"
        seen += "; whether day or month comes first, no date tells"
    else:
        order = "YYYY-MM-DD"
        seen += "; no date as text"
    return Locale(decimal, thousands if thousands != decimal else "", order), seen


def _form(path: Path) -> tuple[str, str]:
    """Delimiter and encoding of a text file."""
    if path.suffix.lower() in EXCEL or not path.is_file():
        return ",", "utf-8"
    with path.open("rb") as file:
        start = file.read(1 << 20)
    try:
        text, encoding = start.decode("utf-8-sig", errors="strict"), "utf-8"
    except UnicodeDecodeError as error:
        if error.start > len(start) - 4:  # cut within a character
            text, encoding = start[: error.start].decode("utf-8-sig"), "utf-8"
        else:
            text, encoding = start.decode("cp1252", errors="replace"), "cp1252"
    line = text.partition("\n")[0]
    if not line.strip():
        raise MappingError("is empty; the first row has the names of the columns", source=str(path))
    return max(",;\t|", key=line.count), encoding


@cache
def _synonyms() -> dict[str, Any]:
    text = (files("harmonization.tables") / "synonyms.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.load(text, Loader=yaml.BaseLoader)  # yes and no are words here
    return found


def _plain(words: Iterable[str]) -> list[str]:
    return [_key(word) for word in words]


_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})


def _key(word: str) -> str:
    """A name without case, accents, blanks and punctuation (which stay if there is nothing else)."""
    folded = unicodedata.normalize("NFC", word).casefold().translate(_UMLAUTS)
    bare = "".join(c for c in unicodedata.normalize("NFKD", folded) if c.isalnum())
    return bare or word.strip()


def _examples(values: Sequence[Value]) -> str:
    return ", ".join(str(value) for value in list(dict.fromkeys(map(str, values)))[:3]) or "no value"
