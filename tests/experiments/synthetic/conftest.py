"""Made-up patients of every kind of column, in whom features, lesions and survival depend on each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harmonization import Cohort, Feature, Schema

SCHEMA = Schema(
    "made_up",
    "1",
    (
        Feature("age", "continuous", unit="years", low=0, high=120, reference=60),
        Feature("blasts", "continuous", unit="%", low=0, high=100),
        Feature("ecog", "count", low=0, high=4),
        Feature("male", "binary"),
        Feature("type", "categorical", categories=("primary", "secondary", "other")),
        *(Feature(gene, "binary", "genomic") for gene in ("TP53", "complex", "NPM1", "FLT3", "DNMT3A", "KIT")),
    ),
)


def draw(n: int, seed: int) -> Cohort:
    """Two kinds of patients, half each: the old with TP53, and the young with NPM1; the old die sooner."""
    rng = np.random.default_rng(seed)
    old = rng.random(n) < 0.5
    age = np.clip(np.where(old, 72.0, 48.0) + rng.normal(0, 8, n), 0, 120).round()
    blasts = np.clip(np.where(old, 25.0, 60.0) + rng.normal(0, 15, n), 0, 100).round()
    lacks = rng.random(n) < np.where(old, 0.3, 0.05)  # not at random
    ecog = np.minimum(4, rng.poisson(np.where(old, 1.5, 0.5)))
    kind = np.where(rng.random(n) < np.where(old, 0.5, 0.1), 1, np.where(rng.random(n) < 0.1, 2, 0))
    rates = np.where(old[:, None], [0.6, 0.5, 0.02, 0.05, 0.2, 0.1], [0.02, 0.05, 0.7, 0.4, 0.4, 0.1])
    lesions = (rng.random((n, 6)) < rates).astype(float)
    lesions[rng.random(n) < 0.1, 1] = np.nan
    death, leaving = rng.exponential(np.where(old, 1.0, 4.0)), rng.uniform(1, 8, n)
    values = np.column_stack([age, np.where(lacks, np.nan, blasts), ecog, rng.random(n) < 0.5, kind, lesions])
    ids = np.char.add(f"P{seed}-", np.arange(n).astype(str))
    return Cohort(SCHEMA, ids, values, np.minimum(death, leaving), death <= leaving)


@pytest.fixture(scope="session")
def draw_patients() -> Callable[[int, int], Cohort]:
    """So many patients, by a seed."""
    return draw
