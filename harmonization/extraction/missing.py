"""Why a value is missing: kept beside the cohort, never a zero.

FHIR says it in ``dataAbsentReason`` (or, in translated HL7 v3 messages, as a null flavour in place of the value). What
FHIR does not say is seen here: the value was refused, lies outside the window, the gene was not in the panel, or there
is no record at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any


class Missing(IntEnum):
    """Reasons; of several for one cell, the first in this order is given."""

    NONE = 0
    """Nothing is missing."""
    BELOW_DETECTION = 1
    ABOVE_DETECTION = 2
    QUARANTINED = 3
    """There is a record, and it was set aside."""
    FAILED = 4
    NOT_DONE = 5
    NOT_APPLICABLE = 6
    UNKNOWN = 7
    NOT_TESTED = 8
    """The gene was in none of the panels."""
    OUTSIDE_WINDOW = 9
    NOT_REPORTED = 10
    """There is no record."""

    @property
    def words(self) -> str:
        """As it is written to tables: ``below detection``."""
        return self.name.lower().replace("_", " ") if self else ""


CENSORED = (Missing.BELOW_DETECTION, Missing.ABOVE_DETECTION)
"""A result, although no number: it is chosen among others as a value is."""

ABSENT_REASON = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
NULL_FLAVOR = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"

_ABSENT = {
    "unknown": Missing.UNKNOWN,
    "asked-unknown": Missing.UNKNOWN,
    "temp-unknown": Missing.UNKNOWN,
    "not-asked": Missing.NOT_DONE,
    "asked-declined": Missing.NOT_DONE,
    "masked": Missing.UNKNOWN,
    "not-applicable": Missing.NOT_APPLICABLE,
    "unsupported": Missing.UNKNOWN,
    "as-text": Missing.UNKNOWN,
    "error": Missing.FAILED,
    "not-a-number": Missing.FAILED,
    "negative-infinity": Missing.BELOW_DETECTION,
    "positive-infinity": Missing.ABOVE_DETECTION,
    "not-performed": Missing.NOT_DONE,
    "not-permitted": Missing.UNKNOWN,
}
"""Codes of HL7's data-absent-reason."""

_NULL = {
    "NI": Missing.UNKNOWN,
    "UNK": Missing.UNKNOWN,
    "ASKU": Missing.UNKNOWN,
    "NAV": Missing.UNKNOWN,
    "NASK": Missing.NOT_DONE,
    "NAVU": Missing.UNKNOWN,
    "MSK": Missing.UNKNOWN,
    "NA": Missing.NOT_APPLICABLE,
    "NINF": Missing.BELOW_DETECTION,
    "PINF": Missing.ABOVE_DETECTION,
    "TRC": Missing.BELOW_DETECTION,
}
"""Codes of HL7's v3-NullFlavor."""


def absent_reason(codings: Iterable[Mapping[str, Any]]) -> Missing:
    """The reason that codings of data-absent-reason or v3-NullFlavor give; NONE if there is no such coding."""
    for coding in codings:
        system, code = coding.get("system"), coding.get("code")
        if system == ABSENT_REASON:
            return _ABSENT.get(str(code), Missing.UNKNOWN)
        if system == NULL_FLAVOR:
            return _NULL.get(str(code), Missing.UNKNOWN)
    return Missing.NONE
