"""Numbers in words and cells of reports; a dash for what is not known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from experiments.reading import (
    Interval,
    signed,
)


def text(value: object) -> str:
    """A name, or a dash for none."""
    return "–" if value is None or value != value else str(value)


def words(value: Interval) -> str:
    """``0.712 (0.680–0.743)``; no interval where there is none."""
    return f"{value.mean:.3f}" + (f" ({value.low:.3f}–{value.high:.3f})" if value.bounded else "")


def signed_words(value: Interval) -> str:
    """``+0.012 (−0.003 to +0.027)``."""
    return signed(value.mean) + (f" ({signed(value.low)} to {signed(value.high)})" if value.bounded else "")


def estimate(value: Interval) -> tuple[str, str]:
    """Value and interval for a cell of a table."""
    if not value.known:
        return "–", ""
    return f"{value.mean:.3f}", f"({value.low:.3f}–{value.high:.3f})" if value.bounded else ""


def signed_estimate(value: Interval) -> tuple[str, str]:
    """Difference and interval for a cell of a table."""
    if not value.known:
        return "–", ""
    return signed(value.mean), f"({signed(value.low)} to {signed(value.high)})" if value.bounded else ""


def median_words(values: Iterable[float]) -> tuple[str, str]:
    """Median and range for a cell of a table."""
    known = [value for value in values if math.isfinite(value)]
    return (f"{statistics.median(known):.3f}", f"[{min(known):.3f}–{max(known):.3f}]") if known else ("–", "")


def count(value: float) -> str:
    """``1,234``."""
    return f"{value:,.0f}" if math.isfinite(value) else "–"


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
