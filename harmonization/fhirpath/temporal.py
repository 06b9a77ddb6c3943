"""Dates, times and date-times of any precision: comparing them, and their first and last moment.

A value is its components from the year (or hour) down to the last one that is known. Two values of different precision
that agree as far as both go are neither equal nor ordered: the answer is empty (FHIRPath N1, sections 6.1.1 and 6.2).
Offsets from UTC are respected where both values have one; a value without an offset is read in the offset of the
other, because no evaluation here may depend on the time zone of the machine it runs on.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?(Z|[+-]\d\d:\d\d)?)?)?)?")
_TIME = re.compile(r"T?(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?")
_MICRO = 1_000_000
_LEAST, _GREATEST = (0, 1, 1, 0, 0, 0), (9999, 12, 31, 23, 59, 60 * _MICRO - 1)
_DIGITS = {"date": (4, 6, 8), "dateTime": (4, 6, 8, 10, 12, 14, 17), "time": (2, 4, 6, 9)}
"""How many digits each precision has; the argument of the boundary functions counts them."""


@dataclass(frozen=True, slots=True)
class Temporal:
    """A date, time or date-time.

    Parameters
    ----------
    clock
        Whether it is a time of day.
    parts
        Year, month, day, hour, minute and seconds in microseconds (seconds and fraction are one component), as far as
        known; a time begins at the hour.
    offset
        Minutes east of UTC, or None.
    fraction
        Whether the seconds have a fraction. It counts for the boundaries alone: 10:00:00 = 10:00:00.000, and still
        the last moment of 10:00:00 is 10:00:00.999.
    """

    clock: bool
    parts: tuple[int, ...]
    offset: int | None
    fraction: bool


@lru_cache(maxsize=4096)
def read_temporal(text: str) -> Temporal | None:
    """Read a FHIR date, dateTime, instant or time; None if it is none, or no day of the calendar."""
    found = _DATE.fullmatch(text)
    if found is not None:
        *fields, second, fraction, zone = found.groups()
        parts = _parts(fields, second, fraction)
        year, month, day = (*parts, 1, 1)[:3]
        if not year or not 1 <= month <= 12 or not 1 <= day <= monthrange(year, month)[1] or not _of_day(parts[3:]):
            return None
        return Temporal(False, parts, _offset(zone), fraction is not None)
    found = _TIME.fullmatch(text)
    if found is not None:
        hour, minute, second, fraction = found.groups()
        parts = _parts([hour, minute], second, fraction)
        return Temporal(True, parts, None, fraction is not None) if _of_day(parts) else None
    return None


def _parts(fields: list[str | None], second: str | None, fraction: str | None) -> tuple[int, ...]:
    parts = [int(field) for field in fields if field is not None]
    if second is not None:
        parts.append(int(second) * _MICRO + int((fraction or "0")[:6].ljust(6, "0")))
    return tuple(parts)


def _of_day(parts: tuple[int, ...]) -> bool:
    return all(part < limit for part, limit in zip(parts, (24, 60, 61 * _MICRO), strict=False))  # 60: a leap second


def _offset(zone: str | None) -> int | None:
    if zone is None:
        return None
    if zone == "Z":
        return 0
    return (-1 if zone[0] == "-" else 1) * (60 * int(zone[1:3]) + int(zone[4:6]))


def compare(a: Temporal, b: Temporal) -> int | None:
    """-1, 0 or 1; None if the precision does not decide.

    Raises
    ------
    TypeError
        A time of day against a date.
    """
    if a.clock != b.clock:
        raise TypeError("a time of day and a date have no order")
    x, y = a.parts, b.parts
    if a.offset != b.offset and a.offset is not None and b.offset is not None:
        x, y = _utc(a), _utc(b)
    for mine, theirs in zip(x, y, strict=False):
        if mine != theirs:
            return -1 if mine < theirs else 1
    return 0 if len(x) == len(y) else None


def _utc(value: Temporal) -> tuple[int, ...]:
    """The parts in UTC; whole dates stay as they are, because without an hour there is nothing to shift."""
    parts, offset = value.parts, value.offset
    if len(parts) < 4 or not offset:
        return parts
    year, month, day, hour, minute, micro = (*parts, 0, 0)[:6] if len(parts) < 6 else parts
    try:
        moment = datetime(year, month, day, hour, minute) - timedelta(minutes=offset)
    except OverflowError:  # the first or last day of the calendar
        return parts
    return (moment.year, moment.month, moment.day, moment.hour, moment.minute, micro)[: len(parts)]


def boundary(value: Temporal, kind: str, high: bool, precision: int | None) -> str | None:
    """The first or last moment that a value may mean.

    Parameters
    ----------
    value
        The value.
    kind
        ``date``, ``dateTime`` or ``time``: what it is called in FHIR, which a partial date does not show.
    high
        The last moment rather than the first.
    precision
        Digits of the answer (8 is a whole date, 17 a date-time with milliseconds); the type's finest by default.

    Returns
    -------
    str | None
        In FHIR's spelling; None for a precision that the type has not. Where no offset is known, the first moment is
        that of +14:00 and the last that of -12:00, as in the official tests.
    """
    levels = _DIGITS[kind]
    digits = levels[-1] if precision is None else precision
    if digits not in levels:
        return None
    *parts, last = _filled(value, high)
    second, micro = divmod(last, _MICRO)
    texts = [f"{part:02d}" for part in (*parts, second)]
    fraction = f".{micro // 1000:03d}" if kind != "date" and digits == levels[-1] else ""
    shown = levels.index(digits) + (not fraction)
    if value.clock:
        return ":".join(texts[:shown]) + fraction
    texts[0] = texts[0].zfill(4)
    text = "-".join(texts[: min(shown, 3)])
    return text if shown <= 3 else f"{text}T{':'.join(texts[3:shown])}{fraction}{_zone(value.offset, high)}"


def _filled(value: Temporal, high: bool) -> list[int]:
    """All components, those that are not known at their least or greatest."""
    parts = list(value.parts)
    skipped = 3 if value.clock else 0
    for position in range(len(parts) + skipped, 6):
        if high and position == 2:
            parts.append(monthrange(parts[0], parts[1])[1])
        else:
            parts.append((_GREATEST if high else _LEAST)[position])
    if high and not value.fraction and len(value.parts) + skipped == 6:
        parts[-1] += _MICRO - 1
    return parts


def _zone(offset: int | None, high: bool) -> str:
    if offset is None:
        return "-12:00" if high else "+14:00"
    if offset == 0:
        return "Z"
    hours, minutes = divmod(abs(offset), 60)
    return f"{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"
