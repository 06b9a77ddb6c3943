"""Whether centers mean the same by the same column: one question, answered with histograms and counts.

In a federation nobody looks at the pooled table and sees that one hospital's haemoglobin is in another unit. So every
center counts its patients in bins that the data dictionary declares, and the coordinator compares the counts
(`federation.deviations`). A count of fewer patients than the center's disclosure policy allows leaves as zero, and so
do others from which it would follow: how many patients there are is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, register
from federation.contribution import Contribution
from federation.kinds import COUNT, SUM, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.preprocessing import OneRound
from federation.privacy.disclosure import suppress
from federation.state import State
from harmonization import Cohort, Dictionary, Schema
from harmonization.dictionary import Entry

Floats = NDArray[np.float64]

COMMON_RATIOS = (10.0, 100.0, 1000.0)
"""A lost decimal comma, a percentage as a fraction, a metric prefix: possible whatever the unit."""
VALUES, PRESENT, ALTERED, CALLS, LEAST = "values/", "present", "altered", "calls", "least"


@dataclass(frozen=True)
class Bins:
    """Bins of a positive number, equally wide in the logarithm, counted down from the largest plausible value.

    Parameters
    ----------
    feature
        The feature.
    first, last
        Range; the lowest bin may reach a little below `first`. What lies lower still, zeros too, is counted apart.
    width
        In decades.
    """

    feature: str
    first: float
    last: float
    width: float

    @property
    def edges(self) -> Floats:
        """Shape (bins + 1,), increasing."""
        bins = int(np.ceil(np.log10(self.last / self.first) / self.width - 1e-9))
        decades: Floats = -np.arange(bins + 1, dtype=np.float64)[::-1] * self.width
        return np.asarray(self.last * 10.0**decades, np.float64)


@dataclass(frozen=True)
class Family:
    """Binary features that one test covers together: a panel of genes, a karyotype."""

    name: str
    features: tuple[str, ...]


@register
@dataclass(frozen=True)
class CompareCenters(OneRound):
    """Counts per center: values in bins, patients with and without a value, altered and not among tested.

    Parameters
    ----------
    measured
        Numbers, and their bins.
    families
        Of binary features.
    ratios
        For each number the ratios of two units in which it may be reported.
    alpha
        Chance of any false alarm in a federation of centers alike.
    """

    name = "compare-centers"
    kinds = declare({LEAST: SUM, VALUES + "*": COUNT, PRESENT: COUNT, ALTERED: COUNT, CALLS: SUM})
    needs_single_contributions = True

    measured: tuple[Bins, ...] = ()
    families: tuple[Family, ...] = ()
    ratios: Mapping[str, tuple[float, ...]] = field(default_factory=dict, metadata=SERVER)
    alpha: float = field(default=0.01, metadata=SERVER)

    @classmethod
    def of(cls, dictionary: Dictionary, alpha: float = 0.01) -> CompareCenters:
        """What a dictionary's columns can be compared by; bins and ratios are the dictionary's.

        A bin is half as wide as the smallest ratio of two units of the feature: fine enough to tell them, and coarse
        enough for most counts to be large enough to leave.
        """
        entries = [dictionary[name] for name in dictionary.columns]
        measured, ratios = [], {}
        for entry in entries:
            if entry.kind == "continuous" and entry.high is not None and entry.reference > 0:
                ratios[entry.name] = unit_ratios(entry)
                first = max(entry.low or 0.0, entry.reference * min(ratios[entry.name]) / 100)
                width = float(np.abs(np.log10(ratios[entry.name])).min() / 2)
                measured.append(Bins(entry.name, first, entry.high, width))
        binary = [entry for entry in entries if entry.kind == "binary"]
        genes = Family("mutations", tuple(entry.name for entry in binary if entry.source == "variant"))
        karyotype = Family("karyotype", tuple(entry.name for entry in binary if entry.source == "karyotype"))
        families = tuple(family for family in (genes, karyotype) if family.features)
        return cls(tuple(measured), families, ratios, alpha)

    @property
    def alterations(self) -> tuple[str, ...]:
        """The features of all families, in order."""
        return tuple(name for family in self.families for name in family.features)

    def cuts(self, state: State, schema: Schema) -> dict[str, list[float]]:
        """The ends of the bins."""
        return {bins.feature: bins.edges.tolist() for bins in self.measured}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """This center's row of every array; counts too small to leave are zero."""
        least = patients.min_patients
        arrays = {LEAST: np.array(float(least)), **self.shown(self.count(patients.train), len(patients.train), least)}
        rows = {name: np.zeros((patients.centers, *array.shape)) for name, array in arrays.items()}
        for name, array in arrays.items():
            rows[name][patients.position] = array
        return Contribution.of(len(patients.train), rows)

    def count(self, cohort: Cohort) -> dict[str, Floats]:
        """All counts of a cohort.

        Returns
        -------
        dict
            ``values/<feature>``: below the bins and in each bin, shape (bins + 1,). ``present``: patients with a value
            and without one, shape (measured, 2). ``altered``: patients with an alteration, and tested without it, shape
            (alterations, 2). ``calls``: alterations of all patients by family, shape (families,).
        """
        counts: dict[str, Any] = {PRESENT: [], ALTERED: [], CALLS: []}
        for bins in self.measured:
            values = cohort.column(bins.feature)
            known = values[~np.isnan(values)]
            place = np.searchsorted(bins.edges[:-1], known, side="right")
            counts[VALUES + bins.feature] = np.bincount(place, minlength=len(bins.edges)).astype(float)
            counts[PRESENT].append([len(known), len(values) - len(known)])
        for family in self.families:
            columns = [cohort.column(name) for name in family.features]
            pairs = [[(column == 1).sum(), (column == 0).sum()] for column in columns]
            counts[ALTERED] += pairs
            counts[CALLS].append(sum(altered for altered, _ in pairs))
        shapes = {PRESENT: (len(self.measured), 2), ALTERED: (len(self.alterations), 2), CALLS: (len(self.families),)}
        for name, shape in shapes.items():
            counts[name] = np.array(counts[name], float).reshape(shape)
        return counts

    def shown(self, counts: Mapping[str, Floats], patients: int, least: int) -> dict[str, Floats]:
        """What of the counts leaves: none that is small, nor from which one follows.

        A feature's bins and the patients without a value are all patients; so are those with an alteration, those
        tested without it, and those not tested. A family's sum leaves without those that are hidden, unless these are
        several and together not few.
        """
        found = {name: array.copy() for name, array in counts.items()}
        for i, bins in enumerate(self.measured):
            hidden = suppress(np.append(counts[VALUES + bins.feature], counts[PRESENT][i, 1]), least)
            found[VALUES + bins.feature][hidden[:-1]] = 0
            if hidden[-1] or suppress(counts[PRESENT][i], least).any():
                found[PRESENT][i] = 0
        altered = counts[ALTERED]
        untested = patients - altered.sum(axis=1, keepdims=True)
        for row, cells in zip(found[ALTERED], np.hstack([altered, untested]), strict=True):
            row[suppress(cells, least)[:2]] = 0
        start = 0
        for i, family in enumerate(self.families):
            of_family = slice(start, start + len(family.features))
            left_out = altered[of_family, 0] - found[ALTERED][of_family, 0]
            if (left_out > 0).sum() < 2 or left_out.sum() < least:
                found[CALLS][i] -= left_out.sum()
            start = of_family.stop
        return found

    def server_update(self, state: State, total: Contribution) -> State:
        """The counts, one row per center; a center that withheld, or did not answer, has zeros."""
        return {"round": np.array(1), **total}


def unit_ratios(entry: Entry) -> tuple[float, ...]:
    """How far off a number is if one of its units is taken for another one, 1 left out; increasing."""
    factors = {float(spelling.factor) for spelling in entry.units.spellings} if entry.units else set()
    found = [a / b for a, b in permutations(factors, 2)]
    found += [ratio for common in COMMON_RATIOS for ratio in (common, 1 / common)]
    distinct: list[float] = []
    for ratio in sorted(found):
        if not distinct or ratio > 1.02 * distinct[-1]:
            distinct.append(ratio)
    return tuple(ratio for ratio in distinct if abs(np.log(ratio)) > 0.1)
