"""A made-up table of patients with dependent features of every kind, missing values and censored times."""

from __future__ import annotations

import numpy as np

from harmonization import Cohort, Feature, Schema

SCHEMA = Schema(
    "made-up",
    "1",
    (
        Feature("age", "continuous", low=0, high=120, reference=60),
        Feature("grade", "categorical", categories=("low", "mid", "high")),
        Feature("mutated", "binary", "genomic"),
        Feature("blasts", "count", low=0, high=100),
        Feature("wbc", "continuous", low=0, high=1000),
    ),
)


def patients(n: int, seed: int = 0, prefix: str = "p") -> Cohort:
    """Mutations come with age, grade with mutations, blasts and early death with grade; wbc is missing with blasts."""
    rng = np.random.default_rng(seed)
    age = np.clip(np.round(rng.normal(60, 12, n)), 18, 95)
    mutated = rng.random(n) < np.where(age > 60, 0.6, 0.15)
    grade = np.where(rng.random(n) < 0.85, np.where(mutated, 2, 0), 1)
    blasts = rng.poisson(3 + 6 * grade)
    wbc = np.round(np.exp(rng.normal(1.5 + 0.3 * grade, 0.8)), 1)
    wbc[rng.random(n) < np.where(blasts > 10, 0.5, 0.05)] = np.nan
    known_grade = np.where(rng.random(n) < 0.1, np.nan, grade)
    died = rng.exponential(6 * np.exp(-0.8 * grade))
    left = rng.uniform(0.5, 9, n)
    values = np.column_stack([age, known_grade, mutated, blasts, wbc]).astype(float)
    time = np.round(np.minimum(died, left) * 365.25) / 365.25
    return Cohort(SCHEMA, np.array([f"{prefix}{i}" for i in range(n)]), values, time, died <= left)
