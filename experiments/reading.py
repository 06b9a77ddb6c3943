"""Reading results.json, in which any number may be missing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HARRELL = "harrell_c"
KINDS = ("score", "local", "block", "centralized", "federated", "fine_tuned", "left_out")
"""Reading order: what exists today, each center alone, then what pooling and federating reach."""


class Interval(NamedTuple):
    """A value with its 95% interval; NaN where there is none."""

    mean: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        return math.isfinite(self.mean)

    @property
    def bounded(self) -> bool:
        return self.known and math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def holds_zero(self) -> bool:
        """Whether nothing can be said about the sign: the interval holds 0, or there is no interval."""
        return not self.bounded or self.low <= 0 <= self.high


def number(value: object) -> float:
    """A finite number, or NaN."""
    if (
        isinstance(value, (int, float, np.integer, np.floating))
        and not isinstance(value, bool)
        and math.isfinite(value)
    ):
        return float(value)
    return math.nan


def find(tree: object, *keys: str) -> Any:
    """The value under nested keys, or None."""
    for key in keys:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def mapping(tree: object, *keys: str) -> Mapping[str, Any]:
    """The mapping under nested keys, or an empty one."""
    value = find(tree, *keys)
    return value if isinstance(value, Mapping) else {}


def sequence(tree: object, *keys: str) -> Sequence[Any]:
    """The list under nested keys, or an empty one."""
    value = find(tree, *keys)
    return value if isinstance(value, (list, tuple)) else []


def numbers(tree: object, *keys: str) -> Floats:
    """The list of numbers under nested keys, float64 with missing ones as NaN."""
    return np.array([number(value) for value in sequence(tree, *keys)], dtype=np.float64)


def interval(tree: object, *keys: str) -> Interval:
    """The estimate under nested keys; a bare number has no bounds."""
    value = find(tree, *keys)
    if isinstance(value, Mapping):
        return Interval(number(value.get("mean")), number(value.get("low")), number(value.get("high")))
    return Interval(number(value), math.nan, math.nan)


def arms(results: Mapping[str, Any], *kinds: str) -> dict[str, Mapping[str, Any]]:
    """The arms of some kinds, in the order of `KINDS`, and within a kind in the order of the results."""
    found = {name: arm for name, arm in mapping(results, "arms").items() if isinstance(arm, Mapping)}
    known = {kind: [name for name, arm in found.items() if arm.get("kind") == kind] for kind in KINDS}
    other = [name for name, arm in found.items() if arm.get("kind") not in KINDS]
    order = [name for kind in kinds or KINDS for name in known.get(kind, [])] + ([] if kinds else other)
    return {name: found[name] for name in order}


def main_arm(results: Mapping[str, Any]) -> str | None:
    """The federated arm that the report speaks of: the one whose gain was computed, else the first."""
    named = find(results, "gain", "federated")
    if isinstance(named, str) and named in mapping(results, "arms"):
        return named
    return next(iter(arms(results, "federated")), None)


def centralized_arm(results: Mapping[str, Any]) -> str | None:
    """The arm trained on the pooled patients, if there is one."""
    return next(iter(arms(results, "centralized")), None)


def horizon(key: str) -> float:
    """Years of a horizon's name: ``"2y"`` and ``"2.0"`` are both 2; NaN for anything else."""
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)y?", key)
    return float(matched[1]) if matched else math.nan


def years(key: str) -> str:
    """A horizon in words: ``"1y"`` is ``1 year``."""
    value = horizon(key)
    if math.isnan(value):
        return key
    return f"{value:g} year" if value == 1 else f"{value:g} years"


def signed(value: float, digits: int = 3) -> str:
    """``+0.012`` or ``−0.012``, with a real minus sign."""
    if not math.isfinite(value):
        return "–"
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}") if value else f"{0:.{digits}f}"
