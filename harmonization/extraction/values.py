"""Rows of a view to values of features: units, codes, comparators, plausible ranges.

Nothing is guessed. A unit, a code or a text that the dictionary does not know is a `Refused` value with its reason; a
decimal comma is refused as well (``12,5`` is 12.5 to one reader and 125 to another).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from harmonization.checks import Kind
from harmonization.dictionary import Dictionary, Entry, Factor
from harmonization.extraction.missing import Missing, absent_reason
from harmonization.extraction.moments import day_of
from harmonization.karyotype import KaryotypeError, parse_karyotype

Row = Mapping[str, Any]

NAN = float("nan")

POSITIVE = frozenset({"POS", "DET"})
NEGATIVE = frozenset({"NEG", "ND"})
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"


class Reading(NamedTuple):
    """What a record says of a feature.

    Parameters
    ----------
    value
        In the canonical unit; the index of a category; 0 or 1; days since 1970 of a date; NaN for a text and where
        there is none.
    missing
        Why there is none.
    original, unit
        As the hospital wrote them.
    """

    value: float
    missing: Missing = Missing.NONE
    original: str = ""
    unit: str = ""


class Refused(Exception):
    """A value that cannot be used.

    Parameters
    ----------
    kind
        The sort of problem, to count by: ``unit``, ``value``, ``code``, ``range``, ``date``.
    element
        Element of the Observation or component.
    value
        What stands there.
    reason
        What is wrong with it.
    """

    def __init__(self, kind: Kind, element: str, value: Any, reason: str) -> None:
        super().__init__(reason)
        self.kind: Kind = kind
        self.element, self.value, self.reason = element, value, reason


Reader = Callable[[Row], Reading | None]
"""From a row of the views ``observations`` and ``components`` to what it says; None if it says nothing."""

_NUMBER = re.compile(r"\s*([<>]=?)?\s*([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(.*?)\s*", re.DOTALL)
_COMMA = re.compile(r"\d,\d")


def reader(entry: Entry, dictionary: Dictionary) -> Reader:
    """How a feature is read from an Observation, a component, or a report's conclusion.

    Parameters
    ----------
    entry
        The feature.
    dictionary
        It belongs to.
    """
    read: Reader
    if entry.kind in ("continuous", "count"):
        read = _Numbers(entry, dictionary).read
    elif entry.kind == "binary":
        read = _Flags(entry, dictionary).read
    elif entry.kind == "categorical":
        read = _Categories(entry).read
    elif entry.kind == "date":
        read = _date
    else:
        read = _karyotype if entry.name == "karyotype" else _text
    return read


def no_value(row: Row) -> Reading | None:
    """What a row without a value says."""
    absent = row["absent"]
    return None if absent is None else Reading(NAN, absent_reason(absent.get("coding", ())) or Missing.UNKNOWN)


class _Numbers:
    def __init__(self, entry: Entry, dictionary: Dictionary) -> None:
        self.entry = entry
        name = entry.name
        self.factors = {unit: f for (feature, unit), f in dictionary.factors.items() if feature == name}
        if entry.units is None:  # a group, a number of something
            self.factors = {"": Factor(1.0, 1.0), "1": Factor(1.0, 1.0)}
        if entry.units is None:  # a rank or a count
            self.factors = dict.fromkeys(("", "1"), Factor(1.0, 1.0))
        self.pairs: dict[tuple[str | None, str | None], Factor] = {}
        self.low = float("-inf") if entry.low is None else entry.low
        self.high = float("inf") if entry.high is None else entry.high
        self.whole = entry.kind == "count"
        self.limit = entry.present_from

    def read(self, row: Row) -> Reading | None:
        quantity = row["quantity"]
        if quantity is not None:
            return self.quantity(quantity, "valueQuantity")
        if (number := row["integer"]) is not None:
            factor = self.factor(None, None, "valueInteger")
            return Reading(self.plausible(factor.convert(float(number)), number, "valueInteger"), original=str(number))
        if (concept := row["concept"]) is not None:
            return _coded(self.entry, concept)
        if (text := row["string"]) is not None:
            return self.text(text)
        _nothing_else(row)
        return no_value(row)

    def quantity(self, quantity: Mapping[str, Any], element: str) -> Reading:
        number, code, unit = quantity.get("value"), quantity.get("code"), quantity.get("unit")
        if number is None:
            return Reading(NAN, Missing.UNKNOWN)
        factor = self.pairs.get((code, unit)) or self.factor(code, unit, element)
        value = factor.convert(float(number))
        written = code if code is not None else unit or ""
        if (comparator := quantity.get("comparator")) is not None:
            return self.compared(comparator, value, f"{comparator}{number}", written)
        if self.low <= value <= self.high and not (self.whole and value % 1):
            return Reading(value, Missing.NONE, str(number), written)
        self.plausible(value, number, f"{element}.value", written)
        return Reading(value, Missing.NONE, str(number), written)

    def factor(self, code: str | None, unit: str | None, element: str) -> Factor:
        """How a unit converts: by its code, by its text if it has no code; the two must not contradict each other."""
        written = code if code is not None else unit or ""
        found = self.factors.get(written)
        where = f"{element}.code" if code is not None else f"{element}.unit"
        name = self.entry.name
        if found is None:
            wrong = f"a unit that the dictionary has not for {name}" if written else f"no unit, and {name} needs one"
            raise Refused("unit", where, written or None, wrong)
        said = self.factors.get(unit) if unit is not None else None
        if said is not None and said.multiplier * found.divisor != found.multiplier * said.divisor:
            raise Refused("unit", where, written, f"the unit's text says {unit}, which is another one")
        self.pairs[code, unit] = found
        return found

    def plausible(self, value: float, original: Any, element: str, written: str = "") -> float:
        entry = self.entry
        if not self.low <= value <= self.high:
            span = f"{self.low:g} to {self.high:g} {entry.units.unit if entry.units else ''}".strip()
            shown = f"{original} {written}".strip()
            raise Refused("range", element, original, f"{shown} is {value:g}, outside the plausible range {span}")
        if self.whole and value % 1:
            raise Refused("value", element, original, f"{entry.name} is a whole number")
        return value

    def compared(self, comparator: str, value: float, original: str, unit: str) -> Reading:
        """``<0.1``: a result, but no number."""
        self.plausible(min(max(value, self.low), self.high), original, "valueQuantity.value", unit)
        reason = Missing.BELOW_DETECTION if comparator[0] == "<" else Missing.ABOVE_DETECTION
        return Reading(NAN, reason, original, unit)

    def text(self, text: str) -> Reading:
        """A number as text, with a comparator and a unit perhaps."""
        if _COMMA.search(text):
            reason = "a number with a comma, which may be its decimal sign or not; send it as valueQuantity"
            raise Refused("value", "valueString", text, reason)
        match = _NUMBER.fullmatch(text)
        if not match:
            raise Refused("value", "valueString", text, "no number; send a missing value as dataAbsentReason")
        quantity: dict[str, Any] = {"value": float(match[2])}
        if match[1]:
            quantity["comparator"] = match[1]
        if match[3]:
            quantity["unit"] = match[3]
        return self.quantity(quantity, "valueString")._replace(original=text)


class _Flags:
    """Present or absent: coded, as true or false, as an interpretation, or as a number from a limit on."""

    def __init__(self, entry: Entry, dictionary: Dictionary) -> None:
        self.entry = entry
        self.numbers = _Numbers(entry, dictionary)

    def read(self, row: Row) -> Reading | None:
        if (concept := row["concept"]) is not None:
            return _coded(self.entry, concept)
        if (flag := row["boolean"]) is not None:
            return Reading(float(flag), original=str(flag).lower())
        if (number := row["integer"]) is not None:
            return self.number({"value": number}, "valueInteger")
        if (quantity := row["quantity"]) is not None:
            return self.number(quantity, "valueQuantity")
        _nothing_else(row, "string")
        if (said := interpretation(row["interpretation"])) is not None:
            return Reading(said, original="positive" if said else "negative")
        return no_value(row)

    def number(self, quantity: Mapping[str, Any], element: str) -> Reading:
        number, comparator = quantity.get("value"), quantity.get("comparator")
        limit = self.entry.present_from
        if limit is None:
            if number in (0, 1) and comparator is None and quantity.get("code", quantity.get("unit", "1")) == "1":
                return Reading(float(number), original=str(number))
            raise Refused("value", element, number, f"{self.entry.name} is present or absent, 1 or 0")
        if number is None:
            return Reading(NAN, Missing.UNKNOWN)
        code, unit = quantity.get("code"), quantity.get("unit")
        value = self.numbers.factor(code, unit, element).convert(float(number))
        written, original = code if code is not None else unit or "", f"{comparator or ''}{number}"
        if comparator is None:
            self.numbers.plausible(value, number, element, written)
            return Reading(float(value >= limit), Missing.NONE, original, written)
        if comparator[0] == "<" and (value < limit or (value == limit and comparator == "<")):
            return Reading(0.0, Missing.NONE, original, written)
        if comparator[0] == ">" and value >= limit:
            return Reading(1.0, Missing.NONE, original, written)
        return Reading(NAN, Missing.UNKNOWN, original, written)  # <20% of cells: from 10% on it would be present


class _Categories:
    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def read(self, row: Row) -> Reading | None:
        if (concept := row["concept"]) is not None:
            return _coded(self.entry, concept)
        if (text := row["string"]) is not None:
            if text in self.entry.categories:
                return Reading(float(self.entry.categories.index(text)), original=text)
            raise Refused("code", "valueString", text, f"none of {', '.join(self.entry.categories)}")
        _nothing_else(row)
        return no_value(row)


def _coded(entry: Entry, concept: Mapping[str, Any]) -> Reading:
    """A value by its codes; several of them must say the same."""
    codings = concept.get("coding", ())
    found = {
        entry.meaning[key]: f"{coding.get('code')}"
        for coding in codings
        if (key := (coding.get("system", ""), coding.get("code", ""))) in entry.meaning
    }
    if len(found) == 1:
        ((value, code),) = found.items()
        index = float(entry.categories.index(value)) if isinstance(value, str) else value
        return Reading(index, Missing.NONE, code)
    if len(found) > 1:
        codes = " and ".join(sorted(found.values()))
        raise Refused("code", "valueCodeableConcept.coding", codes, "codes of different values")
    if reason := absent_reason(codings):
        return Reading(NAN, reason)
    if codings:
        first = codings[0]
        shown = f"{first.get('system', '')}|{first.get('code', '')}"
        raise Refused("code", "valueCodeableConcept.coding", shown, f"no value that the dictionary has of {entry.name}")
    reason_ = f"a text without a code; the dictionary knows codes of {entry.name} only"
    raise Refused("code", "valueCodeableConcept.text", concept.get("text"), reason_)


def interpretation(codings: Any) -> float | None:
    """1 or 0 if an interpretation says positive or negative."""
    for coding in codings:
        if coding.get("system") == INTERPRETATION:
            if coding.get("code") in POSITIVE:
                return 1.0
            if coding.get("code") in NEGATIVE:
                return 0.0
    return None


def _date(row: Row) -> Reading | None:
    if (text := row["date"]) is not None:
        return Reading(float(day_of(text)), original=text)
    if (text := row["string"]) is not None:
        raise Refused("date", "valueString", text, "a date as text; send it as valueDateTime")
    return no_value(row)


def _text(row: Row) -> Reading | None:
    if (text := row["string"]) is not None:
        return Reading(NAN, original=text.strip())
    if (concept := row["concept"]) is not None:
        codings = concept.get("coding", ())
        if reason := absent_reason(codings):
            return Reading(NAN, reason)
        shown = concept.get("text") or next((c.get("display") or c.get("code") for c in codings), None)
        if shown:
            return Reading(NAN, original=str(shown).strip())
    return no_value(row)


def _karyotype(row: Row) -> Reading | None:
    found = _text(row)
    if found is None or found.missing:
        return found
    try:
        karyotype = parse_karyotype(found.original)
    except KaryotypeError as error:
        raise Refused("karyotype", "valueString", found.original, str(error)) from None
    if karyotype.clones:
        return found
    return found._replace(missing=Missing.FAILED if karyotype.failed else Missing.NOT_DONE)


_KINDS = {"boolean": "valueBoolean", "string": "valueString", "date": "valueDateTime"}


def _nothing_else(row: Row, *kinds: str) -> None:
    """A value of a type that the feature cannot have."""
    for kind in kinds or ("boolean", "date"):
        if row[kind] is not None:
            raise Refused("value", _KINDS[kind], row[kind], "a value of another type than the feature's")
