"""Which of several records counts: the time window around the diagnosis, and the rule of aggregation.

Records compete within a patient and a feature. In this order: one that is not preliminary before one that is; what the
rule asks for (the last, the closest, the first, one that says present); of records of the same moment the corrected one
before the amended one before the final one, and the one issued last; and of two that still say different things the
lower value (for present or absent: present; for texts: the first in the alphabet). So the result depends on neither the
order nor the ids of the resources. Different values at the same moment are a *contradiction*, and counted.

A value below the limit of detection competes like a number: a later or earlier number is no replacement for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonization.dictionary import Dictionary, Entry, Window
from harmonization.extraction.gathering import Floats, Records
from harmonization.extraction.missing import CENSORED, Missing
from harmonization.extraction.moments import NO_DAY
from harmonization.extraction.records import PRELIMINARY

Bools = NDArray[np.bool_]
Rows = NDArray[np.intp]


@dataclass
class Cells:
    """Values of all features of all patients.

    Parameters
    ----------
    values
        Float64 of shape (patients, features); NaN where missing, and for texts.
    missing
        Reasons, of the same shape.
    rows
        The record that was taken, -1 if none.
    contradicted
        Whether another record of the same moment says something else.
    """

    values: Floats
    missing: NDArray[np.int8]
    rows: NDArray[np.int64]
    contradicted: Bools

    @classmethod
    def empty(cls, patients: int, features: int) -> Cells:
        """Nothing reported."""
        shape = patients, features
        return cls(
            np.full(shape, np.nan),
            np.full(shape, np.int8(Missing.NOT_REPORTED)),
            np.full(shape, -1, np.int64),
            np.zeros(shape, bool),
        )


class Selection:
    """The records of a source by feature, and the choice among them.

    Parameters
    ----------
    records
        Of all patients.
    dictionary
        The features.
    patients
        How many there are.
    """

    def __init__(self, records: Records, dictionary: Dictionary, patients: int) -> None:
        self.records, self.dictionary, self.patients = records, dictionary, patients
        order = np.argsort(records.feature, kind="stable")
        bounds = np.searchsorted(records.feature[order], np.arange(len(dictionary.entries) + 1))
        self.rows = [order[a:b] for a, b in pairwise(bounds)]

    def choose(self, cells: Cells, feature: int, diagnosed: Floats | None, treated: Floats) -> None:
        """Fill the cells of one feature.

        Parameters
        ----------
        cells
            To fill.
        feature
            Its number.
        diagnosed
            Day of diagnosis of each patient, NaN if unknown; None for the diagnosis itself, which has no window.
        treated
            First day of treatment, NaN if there was none.
        """
        rows = self.rows[feature]
        if not len(rows):
            return
        entry, records = self.dictionary.entries[feature], self.records
        patient, day, missing = records.patient[rows], records.day[rows], records.missing[rows]
        inside = np.ones(len(rows), bool)
        distance = np.zeros(len(rows))
        if diagnosed is not None:
            inside, distance = in_window(entry.window, day, diagnosed[patient], missing)
        if entry.aggregate == "last_before_treatment":
            inside &= ~(day > treated[patient])
        self._reasons(cells, feature, patient, missing, inside)
        counts = inside & ((missing == Missing.NONE) | np.isin(missing, CENSORED))
        if entry.kind == "date":
            counts &= ~np.isnan(records.value[rows])
        rows, patient, distance = rows[counts], patient[counts], distance[counts]
        if len(rows):
            if entry.aggregate == "count":
                self._count(cells, feature, rows, patient)
            else:
                self._take(cells, feature, entry, rows, patient, distance)

    @staticmethod
    def _reasons(
        cells: Cells, feature: int, patient: NDArray[np.int32], missing: NDArray[np.int8], inside: Bools
    ) -> None:
        """Why there is no value, as far as records say; a value that is taken takes it back."""
        reason = np.where(inside, np.where(missing == Missing.NONE, np.int8(Missing.UNKNOWN), missing), np.int8(0))
        reason = np.where(inside, reason, np.int8(Missing.OUTSIDE_WINDOW))
        np.minimum.at(cells.missing[:, feature], patient, reason)

    def _count(self, cells: Cells, feature: int, rows: Rows, patient: NDArray[np.int32]) -> None:
        resources = np.unique(self.records.resource.take(rows).to_numpy(), return_inverse=True)[1]
        pairs = np.unique(np.column_stack([patient, resources]), axis=0)[:, 0]
        who, numbers = np.unique(pairs, return_counts=True)
        cells.values[who, feature] = numbers
        cells.missing[who, feature] = Missing.NONE
        first = np.unique(patient, return_index=True)[1]
        cells.rows[patient[first], feature] = rows[first]

    def _take(
        self, cells: Cells, feature: int, entry: Entry, rows: Rows, patient: NDArray[np.int32], distance: Floats
    ) -> None:
        records = self.records
        value, moment = records.value[rows], records.moment[rows]
        status, issued = records.status[rows], records.issued[rows]
        tie = -value if entry.kind == "binary" else value
        preliminary = status >= PRELIMINARY
        rule: dict[str, tuple[Any, ...]] = {
            "last_before_treatment": (-moment,),
            "closest": (np.abs(distance), distance > 0, moment),
            "first": (moment,),
            "any": (np.isnan(value), -value, np.abs(distance), moment),
        }
        keys = [preliminary, *rule[entry.aggregate], status, -issued, tie]
        order = np.lexsort([*reversed(keys), patient])
        starts = np.flatnonzero(np.r_[True, np.diff(patient[order]) > 0])
        best = self._settle(order, starts, keys, rows, entry)
        who = patient[best]
        chosen = rows[best]
        cells.values[who, feature] = records.value[chosen]
        cells.missing[who, feature] = records.missing[chosen]
        cells.rows[who, feature] = chosen
        if entry.aggregate in ("last_before_treatment", "closest"):
            self._contradictions(cells, feature, entry, rows, patient, moment)

    def _settle(self, order: Rows, starts: Rows, keys: list[Any], rows: Rows, entry: Entry) -> Rows:
        """The best record of each patient; among equals the first text, then the first resource, by the alphabet."""
        best = order[starts]
        ends = np.r_[starts[1:], len(order)]
        several = np.flatnonzero(ends - starts > 1)
        second = order[starts[several] + 1]
        equal = np.ones(len(several), bool)
        for key in keys:
            a, b = key[best[several]], key[second]
            equal &= (a == b) | (np.isnan(a) & np.isnan(b) if a.dtype.kind == "f" else False)
        for i in several[equal]:
            tied = [order[starts[i]]]
            for j in order[starts[i] + 1 : ends[i]]:
                if not all(_same(key[j], key[tied[0]]) for key in keys):
                    break
                tied.append(j)
            texts = [(self._text(rows[j]) if entry.kind == "text" else "", self._resource(rows[j]), j) for j in tied]
            best[i] = min(texts)[2]
        return best

    def _contradictions(
        self, cells: Cells, feature: int, entry: Entry, rows: Rows, patient: NDArray[np.int32], moment: Any
    ) -> None:
        records = self.records
        chosen = cells.rows[patient, feature]
        rivals = np.flatnonzero((records.moment[chosen] == moment) & (rows != chosen))
        if entry.kind == "text":
            differ = [self._text(rows[i]) != self._text(chosen[i]) for i in rivals]
        else:
            mine, theirs = records.value[chosen[rivals]], records.value[rows[rivals]]
            differ = list(~((mine == theirs) | (np.isnan(mine) & np.isnan(theirs))))
        # A correction says on purpose something else than what it corrects.
        corrected = records.status[chosen[rivals]] < records.status[rows[rivals]]
        cells.contradicted[patient[rivals[np.array(differ, bool) & ~corrected]], feature] = True

    def _text(self, row: int) -> str:
        return str(self.records.original[int(row)].as_py())

    def _resource(self, row: int) -> str:
        return str(self.records.resource[int(row)].as_py())


def in_window(
    window: Window, day: NDArray[np.int32], diagnosed: Floats, missing: NDArray[np.integer[Any]]
) -> tuple[Bools, Floats]:
    """Whether days lie in a window, and their distance to the diagnosis.

    Parameters
    ----------
    window
        Days before and after the diagnosis; None is no limit.
    day, diagnosed
        Days since 1970. A record without a day is in a window without limits only.
    missing
        Of each record. What was set aside for its date might have been in the window, and counts as if it were.
    """
    distance = np.where(day == NO_DAY, np.nan, day - diagnosed)
    inside = np.ones(len(day), bool)
    if window.before is not None:
        inside &= distance >= -window.before
    if window.after is not None:
        inside &= distance <= window.after
    inside |= (missing == Missing.QUARANTINED) & (day == NO_DAY)
    return inside, np.where(np.isnan(distance), np.inf, distance)


def _same(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b))
