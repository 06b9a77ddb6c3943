"""What is wrong with one FHIR R4 resource: structure, required bindings, units, dates, references into itself.

`check` is for the hot path: the tables of `harmonization.r4` become closures once, a correct resource costs a few
microseconds and no object. Paths are made only where something is wrong. What needs other resources (references that
resolve, an effective date before birth, an id used twice) is in `harmonization.references`.

Resource types that harmonization does not read are passed over, but for their name and id.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from harmonization.errors import UnitError
from harmonization.r4 import (
    BINDINGS,
    EXTENSION_VALUES,
    RESOURCE_TYPES,
    RESOURCES,
    TYPES,
    VITAL_SIGN_UNITS,
    Element,
    elements,
)
from harmonization.units import parse_unit

Kind = Literal[
    "json", "structure", "version", "binding", "unit", "date", "reference", "duplicate", "precision", "invariant",
    "value", "code", "range", "karyotype",
]  # fmt: skip

UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"

EARLIEST_YEAR = "1850"
LATEST_YEARS_AHEAD = 100
"""A date of a plan may lie ahead, but not so far."""


class Problem(NamedTuple):
    """Something wrong in a resource.

    Parameters
    ----------
    path
        FHIRPath-like place: ``Observation.component[1].valueQuantity.code``.
    value
        What stands there.
    reason
        What is wrong with it.
    kind
        The sort of problem, to count by.
    """

    path: str
    value: Any
    reason: str
    kind: Kind = "structure"


Found = list[Problem] | None
"""Problems with paths relative to the value that was checked; None if there is none."""
Check = Callable[[Any], Found]


def check(resource: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a resource, taken by itself.

    Parameters
    ----------
    resource
        Parsed JSON.

    Returns
    -------
    list of Problem
        Empty if nothing is.
    """
    try:
        found = _resource(resource)
    except RecursionError:
        found = _bad(None, "nested too deeply")
    if found is None:
        return []
    kind = resource.get("resourceType", "") if isinstance(resource, dict) else ""
    return [p._replace(path=f"{kind}{p.path}") for p in _outside(resource, found)]


# -- values of primitive types


def _bad(value: Any, reason: str, kind: Kind = "structure") -> Found:
    return [Problem("", value, reason, kind)]


def _string(value: Any) -> Found:
    if value.__class__ is str and value:
        return None
    return _bad(value, "not a text" if value != "" else "an empty text; leave the element out")


def _code(value: Any) -> Found:
    if value.__class__ is str and value and value[0] > " " and value[-1] > " ":
        return None
    return _bad(value, "not a code (text without blanks around it)")


def _boolean(value: Any) -> Found:
    return None if value is True or value is False else _bad(value, "neither true nor false")


def _whole(low: int) -> Check:
    def check_whole(value: Any) -> Found:
        if value.__class__ is int and low <= value <= 2**31 - 1:
            return None
        return _bad(value, f"not a whole number from {low} to 2147483647")

    return check_whole


def _decimal(value: Any) -> Found:
    if value.__class__ is float or value.__class__ is int:
        return None
    return _bad(value, "not a number" + (" but a text" if value.__class__ is str else ""))


_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}").fullmatch


def _id(value: Any) -> Found:
    if value.__class__ is str and _ID(value):
        return None
    return _bad(value, "not an id (1 to 64 letters, digits, '-' and '.')")


def _uri(value: Any) -> Found:
    if value.__class__ is str and value and " " not in value:
        return None
    return _bad(value, "not a URI")


_REFERENCE = re.compile(
    r"#.*|urn:(uuid|oid):\S+|https?://\S+|([A-Za-z]+)(/[A-Za-z0-9\-.]{1,64}(/_history/\S+)?|\?\S+)"
).fullmatch


def _reference(value: Any) -> Found:
    reason = _reference_problem(value) if value.__class__ is str else "no reference (a text is expected)"
    return _bad(value, reason, "reference") if reason else None


@lru_cache(maxsize=65536)  # most resources name one of the same patients
def _reference_problem(text: str) -> str | None:
    match = _REFERENCE(text)
    if not match or (match[2] and match[2] not in RESOURCE_TYPES):
        return "no reference (Type/id with a type of R4, #id, urn:uuid:..., an address)"
    if text[0] == "#":  # `_outside` takes it back if the resource contains it
        return "no contained resource has this id"
    return None


# -- dates

_DAY = re.compile(r"\d{4}-\d\d-\d\d").fullmatch
_MONTH = re.compile(r"\d{4}(-(0[1-9]|1[0-2]))?").fullmatch
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?").fullmatch
_FORMS = "YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss and a time zone"


def _today() -> int:
    """Days since 1970, of the middle of the Pacific: a day is left for time zones."""
    return int(time.time() // 86400) + 1


@lru_cache(maxsize=2)
def _limits(today: int) -> tuple[str, str]:
    """The first day that lies ahead, and the first that lies too far ahead."""
    day = date(1970, 1, 1) + timedelta(days=today + 1)
    return day.isoformat(), str(day.year + LATEST_YEARS_AHEAD)


@lru_cache(maxsize=65536)  # the days of some lifetimes
def _day_problem(text: str) -> str | None:
    """Of a date, or of the first ten characters of a dateTime."""
    if _DAY(text):
        try:
            date.fromisoformat(text)
        except ValueError:
            return "a day that no calendar has"
    elif not _MONTH(text):
        return f"not a date ({_FORMS})"
    if text < EARLIEST_YEAR:
        return f"before {EARLIEST_YEAR}"
    return "in the far future" if text >= _limits(_today())[1] else None


def _moment_problem(text: str) -> str | None:
    """Of a dateTime with a time."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        if ":60" in text:  # a leap second
            return _moment_problem(text.replace(":60", ":59", 1))
        return _day_problem(text[:10]) or f"no moment ({_FORMS})"
    # Python reads more forms of ISO 8601 than FHIR has.
    if len(text) < 20 or not (text[4] == text[7] == "-" and text[10] == "T" and text[13] == text[16] == ":"):
        return f"not a dateTime ({_FORMS})"
    if not (text[-1] == "Z" or (text[-6] in "+-" and text[-3] == ":" and len(text) > 24)) or text[19] not in ".Z+-":
        return f"not a dateTime ({_FORMS})"
    return _day_problem(text[:10])


def _date(value: Any) -> Found:
    reason = _day_problem(value) if value.__class__ is str else f"not a date ({_FORMS})"
    return _bad(value, reason, "date") if reason else None


def _date_time(value: Any) -> Found:
    if value.__class__ is not str:
        return _bad(value, f"not a dateTime ({_FORMS})", "date")
    reason = _moment_problem(value) if len(value) > 10 else _day_problem(value)
    return _bad(value, reason, "date") if reason else None


def _instant(value: Any) -> Found:
    if value.__class__ is not str or len(value) < 20:
        return _bad(value, "not an instant (YYYY-MM-DDThh:mm:ss and a time zone)", "date")
    reason = _moment_problem(value)
    return _bad(value, reason, "date") if reason else None


def _time(value: Any) -> Found:
    return None if value.__class__ is str and _TIME(value) else _bad(value, "not a time (hh:mm:ss)", "date")


def surely_before(first: str, second: str) -> bool:
    """Whether one date or dateTime lies before another, whatever time of day or time zone was left out.

    Parameters
    ----------
    first, second
        Valid dates or dateTimes of any precision.
    """
    n = min(len(first), len(second), 10)
    if first[:n] > second[:n]:
        return False
    if len(first) > 10 and len(second) > 10:
        return _moment(first) < _moment(second)
    if n == 10 and len(first) != len(second):
        # One has a time zone, the other is a day somewhere: they may differ by a day and mean the same.
        return date.fromisoformat(first[:10]) + timedelta(days=1) < date.fromisoformat(second[:10])
    return first[:n] < second[:n]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace(":60", ":59", 1) if ":60" in text else text)


PRIMITIVES: dict[str, Check] = {
    "string": _string,
    "code": _code,
    "boolean": _boolean,
    "integer": _whole(-(2**31)),
    "positiveInt": _whole(1),
    "unsignedInt": _whole(0),
    "decimal": _decimal,
    "id": _id,
    "uri": _uri,
    "canonical": _uri,
    "base64Binary": _string,
    "reference": _reference,
    "date": _date,
    "dateTime": _date_time,
    "instant": _instant,
    "time": _time,
}


def _bound(binding: str) -> Check:
    codes = BINDINGS[binding]

    def check_code(value: Any) -> Found:
        if value.__class__ is str and value in codes:
            return None
        return _bad(value, f"not a code of {binding} ({', '.join(sorted(codes))})", "binding")

    return check_code


# -- rules: what relates several elements of one value. They run on values whose elements are all right.


def _unit(quantity: Mapping[str, Any]) -> Found:
    code = quantity.get("code")
    if code is None:
        return None
    system = quantity.get("system")
    if system is None:
        return [Problem(".system", None, f"a code ({code}) without its system", "invariant")]
    if system == UCUM and (reason := _ucum_problem(code)):
        return [Problem(".code", code, reason, "unit")]
    return None


@lru_cache(maxsize=4096)
def _ucum_problem(code: str) -> str | None:
    try:
        parse_unit(code)
    except UnitError as error:
        return str(error)
    return None


def _period(period: Mapping[str, Any]) -> Found:
    start, end = period.get("start"), period.get("end")
    if start and end and surely_before(end, start):
        return [Problem(".end", end, f"before the start ({start})", "date")]
    return None


def _range(value: Mapping[str, Any]) -> Found:
    low, high = value.get("low", {}), value.get("high", {})
    if low.get("code", low.get("unit")) == high.get("code", high.get("unit")):
        a, b = low.get("value"), high.get("value")
        if a is not None and b is not None and a > b:
            return [Problem(".low.value", a, f"above the high end ({b})", "invariant")]
    return None


def _patient(patient: Mapping[str, Any]) -> Found:
    born, died = patient.get("birthDate"), patient.get("deceasedDateTime")
    found = _happened(patient, "birthDate", "deceasedDateTime")
    if born and died and surely_before(died, born):
        return [*(found or []), Problem(".deceasedDateTime", died, f"before the birth ({born})", "date")]
    return found


def _condition(condition: Mapping[str, Any]) -> Found:
    found = _happened(condition, "recordedDate", "onsetDateTime") or []
    onset, end = condition.get("onsetDateTime"), condition.get("abatementDateTime")
    if onset and end and surely_before(end, onset):
        found.append(Problem(".abatementDateTime", end, f"before the onset ({onset})", "date"))
    return found or None


def _observation(observation: Mapping[str, Any]) -> Found:
    found = _happened(observation, "effectiveDateTime", "issued")
    if "dataAbsentReason" in observation:
        found = [*(found or ()), *(_value_or_reason(observation) or ())]
    if "valueQuantity" in observation:
        found = [*(found or ()), *(_vital_sign(observation) or ())]
    return found or None


def _happened(resource: Mapping[str, Any], *names: str) -> Found:
    """Dates that are no plan do not lie ahead."""
    found: Found = None
    for name in names:
        value = resource.get(name)
        if value is not None and value[:10] >= _limits(_today())[0][: len(value)] and len(value) >= 10:
            found = [*(found or ()), Problem(f".{name}", value, "in the future", "date")]
    return found


def _value_or_reason(observation: Mapping[str, Any]) -> Found:
    """obs-6: a reason for a missing value stands only where the value is missing."""
    if "dataAbsentReason" in observation:
        for name in observation:
            if name.startswith("value"):
                return [Problem(".dataAbsentReason", name, f"beside a value ({name})", "invariant")]
    return None


def _vital_sign(observation: Mapping[str, Any]) -> Found:
    quantity = observation.get("valueQuantity")
    if quantity is None or quantity.get("system") != UCUM:
        return None
    for coding in observation["code"].get("coding", ()) if "code" in observation else ():
        units = VITAL_SIGN_UNITS.get(coding.get("code"))
        if units and coding.get("system") == LOINC and quantity.get("code") not in units:
            reason = f"the vital sign {coding['code']} is in {' or '.join(sorted(units))}"
            return [Problem(".valueQuantity.code", quantity.get("code"), reason, "binding")]
    return None


def _bundle(bundle: Mapping[str, Any]) -> Found:
    """bdl-7: a full address is there once (or with another version)."""
    seen: set[tuple[str, Any]] = set()
    found = []
    for i, entry in enumerate(bundle.get("entry", ())):
        address = entry.get("fullUrl")
        if address is None or bundle["type"] == "history":
            continue
        meta = entry.get("resource", {}).get("meta")
        key = (address, meta.get("versionId") if isinstance(meta, dict) else None)
        if key in seen:
            found.append(Problem(f".entry[{i}].fullUrl", address, "used by two entries", "duplicate"))
        seen.add(key)
    return found or None


def _happened_at(*names: str) -> Check:
    return lambda resource: _happened(resource, *names)


RULES: dict[str, Callable[[Mapping[str, Any]], Found]] = {
    "Quantity": _unit,
    "Age": _unit,
    "Duration": _unit,
    "Period": _period,
    "Range": _range,
    "Patient": _patient,
    "Condition": _condition,
    "Observation": _observation,
    "Observation.component": _value_or_reason,
    "DiagnosticReport": _happened_at("issued", "effectiveDateTime"),
    "Procedure": lambda p: _happened(p, "performedDateTime") if p.get("status") == "completed" else None,
    "MedicationAdministration": lambda m: _happened(m, "effectiveDateTime") if m.get("status") == "completed" else None,
    "Specimen.collection": _happened_at("collectedDateTime"),
    "Bundle": _bundle,
}


# -- values of composed types: closures over a table of fields. Types contain each other, so all tables are made first.

Field = tuple[Check | None, int, int]
"""The check of an element (None for a plain text), a bit if it is required or of a choice, and the bit again if of a
choice: who comes second is noticed."""

_FIELDS: dict[str, dict[str, Field]] = {}
_CHECKS: dict[str, Check] = {}


def _compile(kind: str) -> Check:
    """A closure that checks values of one type, once `_fill` has filled its table."""
    fields = _FIELDS[kind] = {}
    required = {1 << i: element.name for i, element in enumerate(_flagged(kind)) if element.required}
    needed = sum(required)
    rule = RULES.get(kind)

    def check_value(value: Any) -> Found:
        """The way of all that is right; who finds anything starts again and says what."""
        if value.__class__ is not dict or not value:
            return say(value)
        seen = 0
        for name, content in value.items():
            field = fields.get(name)
            if field is None:
                return say(value)
            one, flag, once = field
            if one is None:
                if content.__class__ is not str or not content:
                    return say(value)
            elif one(content) is not None:
                return say(value)
            if flag:
                if once & seen:
                    return say(value)
                seen |= flag
        if seen & needed != needed:
            return say(value)
        return None if rule is None else rule(value)

    def say(value: Any) -> Found:
        if value.__class__ is not dict:
            return _bad(value, "not an object")
        found: Found = None
        seen = 0
        for name, content in value.items():
            try:
                one, flag, once = fields[name]
            except KeyError:
                reason = f"{kind} has no such element in R4 (one of R5, or a misspelling)"
                found = [*(found or ()), Problem(f".{name}", _short(content), reason, "version")]
                continue
            bad = None if one is None and content.__class__ is str and content else (one or _string)(content)
            if flag:
                if once & seen:
                    bad = [*(bad or ()), Problem("", _short(content), "a second value of a choice")]
                seen |= flag
            if bad is not None:
                found = [*(found or ()), *(p._replace(path=f".{name}{p.path}") for p in bad)]
        if seen & needed != needed:
            missed = [
                Problem(f".{name}", None, "required, and missing") for bit, name in required.items() if not bit & seen
            ]
            found = [*(found or ()), *missed]
        if not value:
            return _bad(value, "an empty object; leave the element out")
        return rule(value) if rule is not None and found is None else found

    return check_value


def _fill(kind: str) -> None:
    flags = {element.name: 1 << i for i, element in enumerate(_flagged(kind))}
    for element in elements(kind):
        flag = flags.get(element.name, 0)
        for name, of in element.json_names.items():
            one = _check_of(of, element.binding)
            whole = _list_of(one or _string, of in PRIMITIVES) if element.repeats else one
            if of == "Identifier" and element.repeats:
                whole = _identifiers
            _FIELDS[kind][name] = (whole, flag, flag if len(element.types) > 1 else 0)
            if of in PRIMITIVES:
                _FIELDS[kind][f"_{name}"] = (_primitive_extension, flag, 0)


def _flagged(kind: str) -> list[Element]:
    return [element for element in elements(kind) if element.required or len(element.types) > 1]


def _check_of(kind: str, binding: str) -> Check | None:
    if kind == "string":
        return None
    if binding:
        return _bound(binding) if kind == "code" else _concept(binding)
    special: dict[str, Check] = {"Extension": _extension, "Resource": _resource, "any": _anything}
    return special.get(kind) or PRIMITIVES.get(kind) or _CHECKS[kind]


def _list_of(one: Check, primitive: bool) -> Check:
    def check_list(values: Any) -> Found:
        if values.__class__ is not list or not values:
            return _bad(values, "not a list" if values != [] else "an empty list; leave the element out")
        found: Found = None
        for i, value in enumerate(values):
            if value is None and primitive:
                continue  # its extensions stand in the list beside, _name
            bad = one(value)
            if bad is not None:
                found = [*(found or ()), *(p._replace(path=f"[{i}]{p.path}") for p in bad)]
        return found

    return check_list


def _identifiers(values: Any) -> Found:
    found = _list_of(_CHECKS["Identifier"], False)(values)
    if found is not None or len(values) == 1:
        return found
    seen = set()
    for i, identifier in enumerate(values):
        key = (identifier.get("system"), identifier.get("value"), identifier.get("use"))
        if key in seen and key[1] is not None:
            return [Problem(f"[{i}].value", key[1], "the same identifier twice", "duplicate")]
        seen.add(key)
    return None


def _concept(binding: str) -> Check:
    """A required binding of a CodeableConcept: one of its codes is of the value set."""
    codes = BINDINGS[binding]

    def check_concept(value: Any) -> Found:
        bad = _CHECKS["CodeableConcept"](value)
        if bad is not None:
            return bad
        codings = value.get("coding", ())
        if any(coding.get("code") in codes for coding in codings) or "extension" in value:
            return None
        given = codings[0].get("code") if codings else value.get("text")
        return [Problem(".coding[0].code", given, f"not a code of {binding} ({', '.join(sorted(codes))})", "binding")]

    return check_concept


def _primitive_extension(value: Any) -> Found:
    """``_birthDate``: the id and extensions of a primitive value, or a list of them."""
    if value.__class__ is list:
        return _list_of(_primitive_extension, True)(value)
    if value.__class__ is not dict or not value.keys() <= {"id", "extension"}:
        return _bad(value, "neither id nor extension")
    bad = _extensions(value["extension"]) if "extension" in value else None
    return None if bad is None else [p._replace(path=f".extension{p.path}") for p in bad]


def _extension(value: Any) -> Found:
    if value.__class__ is not dict:
        return _bad(value, "not an object")
    found: list[Problem] = []
    values = 0
    for name, content in value.items():
        bad: Found = None
        if name == "url":
            bad = _string(content)
        elif name == "extension":
            bad = _extensions(content)
        elif name.startswith("value"):
            values += 1
            kind = name[5:]
            kind = kind if kind in EXTENSION_VALUES else kind[:1].lower() + kind[1:]
            if kind not in EXTENSION_VALUES:
                bad = _bad(_short(content), "no type that an extension can have in R4", "version")
            elif one := PRIMITIVES.get(kind) or _CHECKS.get(kind):
                bad = one(content)
        elif name not in ("id", "_url") and not name.startswith("_value"):
            bad = _bad(_short(content), "an extension has no such element in R4", "version")
        if bad:
            found += [p._replace(path=f".{name}{p.path}") for p in bad]
    if "url" not in value and "_url" not in value:
        found.append(Problem(".url", None, "required, and missing"))
    if values > 1 or (values and "extension" in value):
        found.append(Problem("", None, "an extension has one value, or extensions", "invariant"))
    return found or None


_extensions = _list_of(_extension, False)


def _anything(value: Any) -> Found:
    return None if value.__class__ is dict else _bad(value, "not a resource (no object)")


def _resource(value: Any) -> Found:
    if value.__class__ is not dict:
        return _bad(value, "not a resource (no object)")
    kind = value.get("resourceType")
    if kind.__class__ is not str:
        return [Problem(".resourceType", _short(kind), "required, and missing")]
    if kind in RESOURCES:
        return _CHECKS[kind](value)
    if kind not in RESOURCE_TYPES:
        return [Problem(".resourceType", kind, "no resource type of R4 (one of R5, or a misspelling)", "version")]
    bad = _id(value["id"]) if "id" in value else None
    return [p._replace(path=".id") for p in bad] if bad else None


def _outside(resource: Mapping[str, Any], found: list[Problem]) -> list[Problem]:
    """Problems without references to what the resource contains."""
    if not any(p.kind == "reference" for p in found):
        return found
    contained = resource.get("contained")
    inside = {"#"}
    if isinstance(contained, list):
        inside |= {f"#{r.get('id')}" for r in contained if isinstance(r, dict)}
    return [p for p in found if not (p.kind == "reference" and isinstance(p.value, str) and p.value in inside)]


def _short(value: Any) -> Any:
    """Large contents are not repeated in a report."""
    return value if isinstance(value, str | int | float | bool | None) else type(value).__name__


for _kind in (*TYPES, *RESOURCES):
    _CHECKS[_kind] = _compile(_kind)
for _kind in _CHECKS:
    _fill(_kind)


_WITHOUT_REFERENCES = frozenset(
    {
        "text",
        "meta",
        "code",
        "category",
        "valueQuantity",
        "valueCodeableConcept",
        "bodySite",
        "interpretation",
        "name",
        "referenceRange",
    }
)


def references(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of every reference in a resource.

    Parameters
    ----------
    value
        Parsed JSON.
    path
        Put in front of the paths.
    """
    if value.__class__ is dict:
        for name, content in value.items():
            if content.__class__ is dict or content.__class__ is list:
                if name not in _WITHOUT_REFERENCES:
                    yield from references(content, f"{path}.{name}")
            elif name == "reference" and content.__class__ is str:
                yield f"{path}.{name}", content
    else:
        for i, content in enumerate(value):
            if content.__class__ is dict:
                yield from references(content, f"{path}[{i}]")
