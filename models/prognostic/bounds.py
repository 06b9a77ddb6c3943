"""Numbers of which only the least and the greatest possible value is known: how every score handles what is missing.

A known number has ``low == high``; a missing one has its least and greatest plausible value. Yes and no are 1 and 0, so
that *and*, *or*, *not* are the least, the greatest and the complement (Kleene's three values: no, unknown, yes).
Where an unknown input occurs twice in an expression the bounds may be wider than need be, never narrower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bounds:
    """Least and greatest possible values of a column, each of shape (n,)."""

    low: Floats
    high: Floats

    @classmethod
    def of(cls, values: Floats, low: float = 0.0, high: float = 1.0) -> Bounds:
        """A column with NaN where it is missing, and the range of what may be there."""
        missing = np.isnan(values)
        return cls(np.where(missing, low, values), np.where(missing, high, values))

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where there is one possible value."""
        return np.equal(self.low, self.high, dtype=bool)

    @property
    def value(self) -> Floats:
        """The value where it is known, NaN elsewhere."""
        return np.where(self.known, self.low, np.nan)

    def __add__(self, other: Bounds) -> Bounds:
        return Bounds(self.low + other.low, self.high + other.high)

    def __mul__(self, factor: float) -> Bounds:
        """Times a number that is not negative."""
        return Bounds(factor * self.low, factor * self.high)

    def __and__(self, other: Bounds) -> Bounds:
        return Bounds(np.minimum(self.low, other.low), np.minimum(self.high, other.high))

    def __or__(self, other: Bounds) -> Bounds:
        return Bounds(np.maximum(self.low, other.low), np.maximum(self.high, other.high))

    def __invert__(self) -> Bounds:
        return Bounds(1 - self.high, 1 - self.low)

    def at_least(self, cut: float) -> Bounds:
        """Whether the number is ``cut`` or more."""
        return Bounds((self.low >= cut).astype(np.float64), (self.high >= cut).astype(np.float64))

    def above(self, cut: float) -> Bounds:
        """Whether the number is more than ``cut``."""
        return Bounds((self.low > cut).astype(np.float64), (self.high > cut).astype(np.float64))

    def below(self, cut: float) -> Bounds:
        """Whether the number is less than ``cut``."""
        return ~self.at_least(cut)

    def where_known(self, fallback: Bounds) -> Bounds:
        """Itself where it is known, another elsewhere."""
        return Bounds(np.where(self.known, self.low, fallback.low), np.where(self.known, self.high, fallback.high))


def any_of(conditions: Sequence[Bounds]) -> Bounds:
    """*Or* over several columns."""
    result = conditions[0]
    for condition in conditions[1:]:
        result = result | condition
    return result


def decide(rules: Sequence[tuple[Bounds, int]], otherwise: int) -> Bounds:
    """The class of the first rule that holds.

    Parameters
    ----------
    rules
        Condition and class, in order of precedence.
    otherwise
        Where none holds.

    Returns
    -------
    Bounds
        The least and the greatest class that is possible.
    """
    unsettled = np.ones(len(rules[0][0].low), dtype=bool)
    low, high = np.full(len(unsettled), np.inf), np.full(len(unsettled), -np.inf)
    for condition, to in rules:
        possible = unsettled & (condition.high > 0)
        low, high = np.where(possible, np.minimum(low, to), low), np.where(possible, np.maximum(high, to), high)
        unsettled &= condition.low == 0
    low = np.where(unsettled, np.minimum(low, otherwise), low)
    high = np.where(unsettled, np.maximum(high, otherwise), high)
    return Bounds(low, high)
