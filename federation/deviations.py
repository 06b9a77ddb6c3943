"""Which center's counts look like another unit, like a feature never filled in, or like a panel that finds nothing.

Every test compares a center with all others that are not under suspicion themselves; the most conspicuous center is
taken out first, so that a large one in a wrong unit does not accuse the rest. Counts that were too small to leave count
for the innocence of a center, never against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from federation.conformance import ALTERED, CALLS, LEAST, PRESENT, VALUES, Bins, CompareCenters
from federation.state import State

Floats = NDArray[np.float64]

KINDS = 4
"""Sorts of tests, which share the chance of a false alarm."""
WITHIN, NEARER = 0.3, 0.6
"""A ratio of medians belongs to a ratio of units no farther away than so many decades, and than so much of its own
distance from 1: hospitals differ a little for honest reasons."""
VISIBLE = 2 / 3
"""Of the patients with a value, so many must be in bins whose counts could leave; else a center is not judged."""
NEAR_ZERO = 0.2
"""Near zero is less than a fifth of what the other centers' rate makes expect."""
DISPERSION = 3.0
"""Variance over mean of a patient's alterations: complex karyotypes have many at once."""


@dataclass(frozen=True)
class Deviation:
    """A center that does not fit.

    Parameters
    ----------
    center, feature
        Where; the feature may be a family's name.
    kind
        ``unit``: its values are as if in another unit. ``nothing``: hardly a patient has a value, elsewhere most have.
        ``alterations``: hardly any among those tested.
    here, elsewhere
        Medians, fractions of patients with a value, or of tested patients with an alteration (of a family: alterations,
        found and expected). What was too small to leave makes `here` an upper bound.
    ratio
        The ratio of two units that explains the medians; NaN for the other kinds.
    p
        Of the test, before the correction for the number of tests.
    """

    center: str
    feature: str
    kind: Literal["unit", "nothing", "alterations"]
    here: float
    elsewhere: float
    ratio: float
    p: float

    @property
    def words(self) -> str:
        """One sentence."""
        if self.kind == "unit":
            said = f"its median is {self.here:.3g}, elsewhere {self.elsewhere:.3g}"
            near = f"{self.ratio:.4g}" if self.ratio > 1 else f"1/{1 / self.ratio:.4g}"
            return f"{self.center}: {self.feature} looks like another unit: {said}, a ratio near {near}"
        if self.kind == "nothing":
            return (
                f"{self.center}: at most {self.here:.0%} of the patients have {self.feature}, elsewhere "
                f"{self.elsewhere:.0%}; were its values set aside?"
            )
        if self.elsewhere > 1:
            return (
                f"{self.center}: at most {self.here:.0f} {self.feature} found, {self.elsewhere:.0f} expected by the "
                "other centers' rates; does its panel cover what it claims?"
            )
        return (
            f"{self.center}: {self.feature} is altered in at most {self.here:.1%} of those tested, elsewhere in "
            f"{self.elsewhere:.1%}; does its panel cover it?"
        )


def deviations(algorithm: CompareCenters, state: State, names: tuple[str, ...]) -> list[Deviation]:
    """All deviations in a final state of `CompareCenters`; ``names`` are the roster's."""
    answered = int((state[LEAST] > 0).sum())
    found: list[Deviation] = []
    if answered < 2:
        return found
    level = algorithm.alpha / KINDS / answered
    for i, bins in enumerate(algorithm.measured):
        ratios = np.array(algorithm.ratios.get(bins.feature, ()))
        if len(ratios):
            counts = state[VALUES + bins.feature]
            counts = counts * (counts.sum(axis=1) >= VISIBLE * state[PRESENT][:, i, 0])[:, None]
            found += _units(bins, counts, ratios, names, level / len(algorithm.measured))
    for i, bins in enumerate(algorithm.measured):
        limit = level / len(algorithm.measured)
        found += _rates("nothing", bins.feature, state[PRESENT][:, i], state[LEAST], names, limit)
    for i, feature in enumerate(algorithm.alterations):
        limit = level / len(algorithm.alterations)
        found += _rates("alterations", feature, state[ALTERED][:, i], state[LEAST], names, limit)
    start = 0
    for i, family in enumerate(algorithm.families):
        pairs = state[ALTERED][:, start : start + len(family.features)]
        limit = level / len(algorithm.families)
        found += _families(family.name, pairs, state[CALLS][:, i], state[LEAST], names, limit)
        start += len(family.features)
    return found


def _units(bins: Bins, counts: Floats, ratios: Floats, names: tuple[str, ...], level: float) -> list[Deviation]:
    """Centers whose values differ from the others' (Mann and Whitney's test on binned positive values), by a ratio that
    two units have. Zeros are zeros in every unit, so they are left out."""
    positive, edges = counts[:, 1:], bins.edges
    suspects: dict[int, Deviation] = {}
    while True:
        worst: tuple[float, int, Deviation] | None = None
        for i in map(int, np.flatnonzero(positive.sum(axis=1))):
            if i in suspects:
                continue
            apart = np.array([i, *suspects])
            others = positive.sum(axis=0) - positive[apart].sum(axis=0)
            if not others.any():
                continue
            here, elsewhere = median(positive[i], edges), median(others, edges)
            off = np.log10(here / elsewhere)
            nearest = ratios[np.argmin(np.abs(np.log10(ratios) - off))]
            distance = abs(np.log10(nearest) - off)
            z = rank_sum(positive[i], others)
            p = float(2 * stats.norm.sf(abs(z)))
            if p < level and distance < min(NEARER * abs(off), WITHIN) and (worst is None or abs(z) > worst[0]):
                found = Deviation(names[i], bins.feature, "unit", here, elsewhere, float(nearest), p)
                worst = (abs(z), i, found)
        if worst is None:
            return [suspects[i] for i in sorted(suspects)]
        suspects[worst[1]] = worst[2]


def _rates(
    kind: Literal["nothing", "alterations"],
    feature: str,
    pairs: Floats,
    least: Floats,
    names: tuple[str, ...],
    level: float,
) -> list[Deviation]:
    """Centers where what is common elsewhere hardly occurs: an exact binomial test; pairs are (with, without)."""
    found: list[Deviation] = []
    suspects: list[int] = []
    most = _upper(pairs[:, 0], least)
    n = pairs.sum(axis=1)
    for i in np.argsort(-n, kind="stable"):
        used = np.ones(len(n), bool)
        used[[i, *suspects]] = False
        with_, all_ = pairs[used, 0].sum(), n[used].sum()
        if not (n[i] and with_):
            continue
        rate = with_ / all_
        p = float(stats.binom.cdf(most[i], n[i], rate))
        if p < level and most[i] < NEAR_ZERO * n[i] * rate:
            suspects.append(int(i))
            found.append(Deviation(names[i], feature, kind, most[i] / n[i], rate, np.nan, p))
    return sorted(found, key=lambda one: names.index(one.center))


def _families(
    family: str, pairs: Floats, calls: Floats, least: Floats, names: tuple[str, ...], level: float
) -> list[Deviation]:
    """Centers that find hardly any alteration of a family where the others' rates of what they tested make expect some.

    Small centers, which are too small for a test of any one gene.
    """
    found = []
    tested, most = pairs.sum(axis=2), _upper(calls, least)
    for i in np.flatnonzero(tested.sum(axis=1)):
        altered = pairs[:, :, 0].sum(axis=0) - pairs[i, :, 0]
        among = tested.sum(axis=0) - tested[i]
        expected = float((tested[i] * np.divide(altered, among, out=np.zeros_like(among), where=among > 0)).sum())
        p = float(stats.poisson.cdf(most[i] / DISPERSION, expected / DISPERSION))
        if p < level and most[i] < NEAR_ZERO * expected:
            found.append(Deviation(names[i], family, "alterations", most[i], expected, np.nan, p))
    return found


def _upper(counts: Floats, least: Floats) -> Floats:
    """The largest number that a count may stand for: one that was too small to leave may have been ``least - 1``."""
    return np.where(counts > 0, counts, np.maximum(least - 1, 0))


def median(counts: Floats, edges: Floats) -> float:
    """Median of positive values in bins, interpolated in the logarithm."""
    logs = np.log(edges)
    cumulated = np.r_[0.0, np.cumsum(counts)]
    half = cumulated[-1] / 2
    i = min(int(np.searchsorted(cumulated, half, side="left")), len(counts))
    i = max(i, 1)
    share = (half - cumulated[i - 1]) / counts[i - 1] if counts[i - 1] else 0.5
    return float(np.exp(logs[i - 1] + share * (logs[i] - logs[i - 1])))


def rank_sum(a: Floats, b: Floats) -> float:
    """Mann and Whitney's statistic of two binned samples, standardized, with the correction for ties; positive if a is
    larger."""
    n, m = a.sum(), b.sum()
    both = a + b
    below = np.cumsum(both) - both
    ranks = below + (both + 1) / 2
    u = (a * ranks).sum() - n * (n + 1) / 2
    ties = (both**3 - both).sum() / ((n + m) * (n + m - 1)) if n + m > 1 else 0.0
    variance = n * m / 12 * (n + m + 1 - ties)
    return float((u - n * m / 2) / np.sqrt(variance)) if variance > 0 else 0.0
