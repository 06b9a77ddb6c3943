"""What is derived: age, last contact, time and event.

What an Observation states outright goes before what is derived from dates; if they differ by more than a month (an age:
by more than a year), that is a contradiction. A patient of whom nobody says that he died is alive when last seen. The
last contact is the day of death, else the one that is stated, else the last day on which any record shows the patient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harmonization.dictionary import Dictionary, Entry
from harmonization.errors import DictionaryError
from harmonization.extraction.gathering import Floats, Patients
from harmonization.extraction.missing import Missing
from harmonization.extraction.windows import Bools, Cells
from harmonization.schema import DAYS_PER, TimeUnit

ENDPOINTS = {"overall survival": "overall_survival", "leukaemia-free survival": "leukaemia_free_survival"}
"""Endpoint of a dictionary, and the derivation that is its time."""
TRANSFORMATION = "transformation"

_DIFFERENCE = {"age_at_diagnosis": 1.0}
"""Years by which a stated and a derived value may differ; a month for all others."""


@dataclass(frozen=True)
class Outcome:
    """Time and event of each patient; NaN where `lost` says why.

    Parameters
    ----------
    time
        In the time unit of the dictionary.
    event
        1, 0, or NaN.
    lost
        Why a patient has no place in the cohort; empty for those who have.
    """

    time: Floats
    event: Floats
    lost: list[str]


class Outcomes:
    """Derives what a dictionary asks for.

    Parameters
    ----------
    cells
        With what is stated outright; the derived features are filled in.
    patients
        Of the source.
    dictionary
        The features.
    diagnosed
        Day of diagnosis of each patient, NaN if unknown.
    diagnosis_known
        Whether there is a diagnosis, dated or not.
    """

    def __init__(
        self, cells: Cells, patients: Patients, dictionary: Dictionary, diagnosed: Floats, diagnosis_known: Bools
    ) -> None:
        self.cells, self.patients, self.dictionary = cells, patients, dictionary
        self.diagnosed, self.known = diagnosed, diagnosis_known
        if dictionary.endpoint not in ENDPOINTS:
            raise DictionaryError(
                f"harmonization derives {' and '.join(ENDPOINTS)}",
                source=dictionary.source or dictionary.name,
                key="endpoint",
                value=dictionary.endpoint,
            )

    def derive(self) -> Outcome:
        """Fill the derived features, and find time and event."""
        dead, last = self._vital_status()
        transformed = self._values(TRANSFORMATION)
        days = {
            "overall_survival": last - self.diagnosed,
            "leukaemia_free_survival": np.fmin(last, transformed) - self.diagnosed,
        }
        rules: dict[str, Callable[[Entry], Floats]] = {
            "age_at_diagnosis": lambda entry: (self.diagnosed - self.patients.born) / DAYS_PER["years"],
            "last_contact": lambda entry: last,
            "overall_survival": lambda entry: days["overall_survival"] / _days(entry),
            "leukaemia_free_survival": lambda entry: days["leukaemia_free_survival"] / _days(entry),
        }
        for feature, entry in enumerate(self.dictionary.entries):
            if entry.derive is not None:
                self._fill(feature, entry, rules[entry.derive](entry))
        rule = ENDPOINTS[self.dictionary.endpoint]
        per_unit = DAYS_PER[self.dictionary.time_unit]
        said = self._in_unit(rule, self.dictionary.time_unit)
        time = np.where(np.isnan(said), days[rule] / per_unit, said)
        event = dead
        if rule == "leukaemia_free_survival":
            event = np.where(~np.isnan(transformed) & ~(transformed > last), 1.0, dead)
        return Outcome(time, event, self._lost(time, event))

    def _in_unit(self, rule: str, unit: TimeUnit) -> Floats:
        """What is stated of a time, in the unit of the cohort; NaN where it was derived."""
        for feature, entry in enumerate(self.dictionary.entries):
            if entry.derive == rule:
                values = np.where(self.cells.rows[:, feature] >= 0, self.cells.values[:, feature], np.nan)
                own = entry.units.unit if entry.units else "years"
                return values if own == unit else values * _days(entry) / DAYS_PER[unit]
        return np.full(len(self.patients), np.nan)

    def _vital_status(self) -> tuple[Floats, Floats]:
        """Whether each patient died, and the day of death or last contact."""
        patients = self.patients
        dead = np.where(np.isnan(patients.dead), 0.0, patients.dead)
        for feature, entry in enumerate(self.dictionary.entries):
            if entry.patient == "deceased":
                stated = self.cells.values[:, feature]
                self.cells.contradicted[:, feature] |= ~np.isnan(stated) & ~np.isnan(patients.dead) & (stated != dead)
                dead = np.where(np.isnan(stated), dead, stated)
                self.cells.values[:, feature] = dead
                self.cells.missing[:, feature] = Missing.NONE
        stated_last = np.full(len(patients), np.nan)
        for feature, entry in enumerate(self.dictionary.entries):
            if entry.derive == "last_contact":
                stated_last = self.cells.values[:, feature]
        alive = np.where(np.isnan(stated_last), patients.last_seen, stated_last)
        died = np.where(np.isnan(patients.died), stated_last, patients.died)
        return dead, np.where(dead == 1, died, alive)

    def _values(self, name: str) -> Floats:
        if name not in self.dictionary:
            return np.full(len(self.patients), np.nan)
        found: Floats = self.cells.values[:, self.dictionary.entries.index(self.dictionary[name])]
        return found

    def _fill(self, feature: int, entry: Entry, derived: Floats) -> None:
        cells = self.cells
        stated = cells.values[:, feature]
        if entry.kind != "date":
            limit = _DIFFERENCE.get(entry.derive or "", 1 / 12) * DAYS_PER["years"] / _days(entry)
            cells.contradicted[:, feature] |= np.abs(stated - derived) > limit
        low = -np.inf if entry.low is None else entry.low
        high = np.inf if entry.high is None else entry.high
        plausible = (derived >= low) & (derived <= high)
        fill = np.isnan(stated) & plausible
        implausible = np.isnan(stated) & ~np.isnan(derived) & ~plausible
        cells.values[fill, feature] = derived[fill]
        cells.missing[fill, feature] = Missing.NONE
        cells.missing[implausible, feature] = Missing.QUARANTINED

    def _lost(self, time: Floats, event: Floats) -> list[str]:
        """The first reason why a patient cannot be in the cohort."""
        reasons = (
            ("the Patient resource was set aside", self.patients.refused),
            ("no diagnosis of the dictionary's", ~self.known),
            ("a diagnosis without a date", np.isnan(self.diagnosed)),
            ("dead, and nobody says when", np.isnan(time) & (event == 1)),
            ("no follow-up", np.isnan(time)),
            ("last contact before the diagnosis", time < 0),
        )
        lost = np.full(len(self.patients), "", object)
        for words, holds in reversed(reasons):
            lost[holds] = words
        return [str(words) for words in lost]


def gender(cells: Cells, patients: Patients, dictionary: Dictionary) -> None:
    """Fill the features that are the patient's gender."""
    for feature, entry in enumerate(dictionary.entries):
        if entry.patient != "gender":
            continue
        known = {key[1]: float(value) for key, value in entry.meaning.items() if not isinstance(value, str)}
        for i, code in enumerate(patients.gender):
            if np.isnan(cells.values[i, feature]) and code is not None:
                cells.values[i, feature] = known.get(code, np.nan)
                cells.missing[i, feature] = Missing.NONE if code in known else Missing.UNKNOWN


def _days(entry: Entry) -> float:
    """Days of one unit of a feature that is a time."""
    unit = entry.units.unit if entry.units else ""
    return DAYS_PER.get(unit, 1.0)
