"""Patients drawn for a dictionary's schema: hostile numbers or decimals as laboratories report them, missing values."""

from __future__ import annotations

import numpy as np

from harmonization import Cohort, Dictionary
from harmonization.schema import DAYS_PER, Feature


def draw_cohort(
    dictionary: Dictionary, n: int, seed: int, *, decimals: int | None = None, missing: float = 0.1
) -> Cohort:
    """Patients with values over the whole plausible range.

    With `decimals`, numbers are decimals of so many places and times whole days; else any float of the range.
    """
    rng = np.random.default_rng(seed)
    schema = dictionary.schema()

    def column(feature: Feature) -> np.ndarray:
        low, high = feature.low or 0.0, 1e5 if feature.high is None else feature.high
        if feature.kind == "binary":
            values = (rng.random(n) < 0.3).astype(float)
        elif feature.kind == "categorical":
            values = rng.integers(0, len(feature.categories), n).astype(float)
        elif feature.kind == "count":
            values = rng.integers(int(low), int(high) + 1, n).astype(float)
        else:
            values = low + (high - low) * rng.random(n) ** 3
            values = values if decimals is None else np.round(values, decimals)
        values[rng.random(n) < missing] = np.nan
        return values

    days = rng.integers(0, 6000, n)
    time = days / DAYS_PER[schema.time_unit] if decimals is not None else rng.random(n) * 20
    blocks = [[column(f) for f in block] for block in (schema.features, schema.scores)]
    return Cohort(
        schema,
        np.array([f"P{seed % 1000}-{i}" for i in range(n)]),
        np.column_stack(blocks[0]),
        time,
        rng.random(n) < 0.5,
        np.column_stack(blocks[1]) if blocks[1] else np.empty((n, 0)),
    )


def same_cells(a: Cohort, b: Cohort) -> bool:
    """Whether two cohorts have the same patients in the same order with the same bits (NaN equals NaN)."""
    return (
        a.ids.tolist() == b.ids.tolist()
        and np.array_equal(a.values, b.values, equal_nan=True)
        and np.array_equal(a.scores, b.scores, equal_nan=True)
        and np.array_equal(a.time, b.time)
        and np.array_equal(a.event, b.event)
    )
