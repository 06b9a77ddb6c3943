"""What a cell of a table means: numbers and dates of a declared locale, and nothing that two people might read apart.

A number has the declared decimal mark and, in groups of three, the declared thousands mark; a date has the declared
order and a year of four digits. Everything else is a `CellError`: "12.5" in a table with a decimal comma is no number.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property

Value = str | float | date | bool
"""A cell: text in CSV, any of them in Excel."""

_ORDERS = {"DD": r"(?P<day>\d{1,2})", "MM": r"(?P<month>\d{1,2})", "YYYY": r"(?P<year>\d{4})"}
_TIME = r"(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?)?"

MARKS = {".": "point", ",": "comma", "'": "apostrophe", " ": "blank", "": "none"}


class CellError(ValueError):
    """A cell does not say what its column should."""


@dataclass(frozen=True)
class Locale:
    """How numbers and dates are written.

    Parameters
    ----------
    decimal, thousands
        The marks; an empty one for none.
    order
        Of ``DD``, ``MM`` and ``YYYY`` in a date, and what stands between them.
    """

    decimal: str = "."
    thousands: str = ""
    order: str = "YYYY-MM-DD"

    def number(self, value: Value) -> float:
        """A finite number.

        Raises
        ------
        CellError
            Saying what is expected.
        """
        if isinstance(value, bool | date):
            raise CellError(f"a {type(value).__name__} where a number is expected; format the column as text")
        if isinstance(value, float | int):
            number = float(value)
        else:
            match = self._number.fullmatch(value.replace("−", "-"))
            if not match:
                marks = f"decimal {MARKS.get(self.decimal, self.decimal)}, thousands {MARKS[self.thousands]}"
                raise CellError(f"not a number ({marks})")
            text = match[0].replace(self.thousands, "") if self.thousands else match[0]
            number = float(text.replace(self.decimal, "."))
        if not math.isfinite(number):
            raise CellError("not a finite number")
        return number

    def day(self, value: Value) -> date:
        """A day of the calendar; the time of day is left away.

        Raises
        ------
        CellError
            Saying what is expected.
        """
        if isinstance(value, datetime):
            return value.date()
        if isinstance(value, date):
            return value
        match = self._date.fullmatch(value) if isinstance(value, str) else None
        if not match:
            raise CellError(f"not a date ({self.order})")
        try:
            return date(int(match["year"]), int(match["month"]), int(match["day"]))
        except ValueError:
            raise CellError(f"a day that no calendar has ({self.order})") from None

    @cached_property
    def _number(self) -> re.Pattern[str]:
        grouped = rf"\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})+|" if self.thousands else ""
        fraction = rf"(?:{re.escape(self.decimal)}\d+)?"
        return re.compile(rf"[+-]?(?:{grouped}\d+){fraction}(?:[eE][+-]?\d+)?", re.ASCII)

    @cached_property
    def _date(self) -> re.Pattern[str]:
        pattern = re.escape(self.order).replace(r"\-", "-")
        for name, group in _ORDERS.items():
            pattern = pattern.replace(name, group, 1)
        return re.compile(pattern + _TIME, re.ASCII)

    @property
    def problem(self) -> str | None:
        """What is wrong with the locale itself."""
        if self.decimal not in (".", ","):
            return f"decimal is {self.decimal!r}; it is . or ,"
        if self.thousands not in MARKS or self.thousands == self.decimal:
            return f"thousands is {self.thousands!r}; it is one of . , ' a blank, or empty, and not the decimal mark"
        parts = sorted(re.findall(r"D+|M+|Y+", self.order))
        if parts != ["DD", "MM", "YYYY"]:
            return f"date is {self.order!r}; it has DD, MM and YYYY once each (years of two digits are not read)"
        return None


@dataclass(frozen=True)
class Words:
    """Words that stand for a missing value, whatever their case, and why it is missing.

    Parameters
    ----------
    reasons
        Word in small letters to a reason of `harmonization.resources.REASONS`.
    """

    reasons: dict[str, str] = field(default_factory=dict)

    def missing(self, value: Value) -> str | None:
        """Why a cell holds no value, or None if it holds one."""
        return self.reasons.get(value.casefold()) if isinstance(value, str) else None
