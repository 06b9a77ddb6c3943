"""Serum free light chain in the general population (Dispenzieri 2012)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sksurv.datasets import load_flchain

from experiments.datasets.dataset import Card
from experiments.datasets.sksurv_bundle import LICENCE, SOURCE, endpoint, flag
from harmonization import Cohort, Feature, Schema

CARD = Card(
    description="7,874 residents of Olmsted County with serum free light chains; overall survival, 2,169 deaths. "
    "Creatinine is missing in 1,350 and stays missing.",
    source=SOURCE,
    licence=LICENCE,
)

# Left out: chapter (the cause of death) and flc.grp (deciles of kappa + lambda, a statistic of the pooled patients).
SCHEMA = Schema(
    name="flchain",
    version="1",
    features=(
        Feature("age", "continuous", unit="years", low=18, high=120, reference=65),
        Feature("male", "binary"),
        Feature("sample_year", "continuous", unit="year", low=1990, high=2010, reference=1997),
        Feature("kappa", "continuous", unit="mg/dL", low=0, high=100, reference=1.4),
        Feature("lambda", "continuous", unit="mg/dL", low=0, high=100, reference=1.7),
        Feature("creatinine", "continuous", unit="mg/dL", low=0.1, high=25, reference=1),
        Feature("mgus", "binary"),
    ),
)


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, None]:
    """All patients; no centers."""
    x, y = load_flchain()
    table = endpoint(y).assign(
        male=flag(x["sex"], "M"),
        sample_year=x["sample.yr"].astype(float),
        mgus=flag(x["mgus"], "yes"),
        **{name: x[name] for name in ("age", "kappa", "lambda", "creatinine")},
    )
    return Cohort.from_frame(table, SCHEMA, source="flchain"), None
