"""Days and moments of FHIR's dates: whole numbers to compare and subtract.

The day is the one written, whatever the time zone: that of the hospital. Of a month or a year it is the middle, which
errs by half of it at most and is right on average.
"""

from __future__ import annotations

from datetime import date, datetime
from functools import lru_cache

NO_DAY = -(2**31)
"""Where there is no date."""
NO_MOMENT = -(2**62)

_EPOCH = date(1970, 1, 1).toordinal()


@lru_cache(maxsize=65536)  # the days of some lifetimes
def _day(text: str) -> int:
    if len(text) == 4:
        return date(int(text), 7, 2).toordinal() - _EPOCH
    if len(text) == 7:
        return date(int(text[:4]), int(text[5:]), 15).toordinal() - _EPOCH
    return date.fromisoformat(text).toordinal() - _EPOCH


def day_of(text: str) -> int:
    """Days since 1970 of a FHIR date, dateTime or instant.

    Parameters
    ----------
    text
        Of any precision.
    """
    return _day(text[:10])


@lru_cache(maxsize=65536)
def moment_of(text: str) -> int:
    """Milliseconds since 1970 of a FHIR date, dateTime or instant; a day begins at midnight, Greenwich."""
    if len(text) <= 10:
        return _day(text) * 86_400_000
    if ":60" in text:  # a leap second
        text = text.replace(":60", ":59", 1)
    return round(datetime.fromisoformat(text).timestamp() * 1000)
