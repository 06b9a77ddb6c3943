"""AIDS Clinical Trials Group study 320 (Hosmer 2008)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sksurv.datasets import load_aids

from experiments.datasets.dataset import Card
from experiments.datasets.sksurv_bundle import LICENCE, SOURCE, endpoint, flag
from harmonization import Cohort, Feature, Schema

CARD = Card(
    description="1,151 patients with HIV; overall survival, 26 deaths within a year. The indinavir arm is the one "
    "drawn at entry to the trial.",
    source=SOURCE,
    licence=LICENCE,
)

RACE = {"1": "white", "2": "black", "3": "hispanic", "4": "asian_pacific", "5": "native_american"}
DRUGS = {"1": "never", "2": "currently", "3": "previously"}

# Left out: txgrp, which refines the arm by three patients, and strat2, the trial's stratum (nearly cd4 > 50 again).
SCHEMA = Schema(
    name="aids",
    version="1",
    features=(
        Feature("age", "continuous", unit="years", low=12, high=120, reference=38),
        Feature("male", "binary"),
        Feature("race", "categorical", categories=tuple(RACE.values())),
        Feature("intravenous_drugs", "categorical", categories=tuple(DRUGS.values())),
        Feature("hemophilia", "binary"),
        Feature("karnofsky", "continuous", unit="%", low=0, high=100, reference=90),
        Feature("cd4", "continuous", unit="1/uL", low=0, high=3000, reference=85),
        Feature("months_of_zidovudine", "continuous", unit="months", low=0, high=500, reference=30),
        Feature("indinavir_arm", "binary"),
    ),
)


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, None]:
    """All patients; no centers."""
    x, y = load_aids(endpoint="death")
    table = endpoint(y).assign(
        age=x["age"],
        male=flag(x["sex"], "1"),
        race=x["raceth"].astype(object).map(RACE),
        intravenous_drugs=x["ivdrug"].astype(object).map(DRUGS),
        hemophilia=flag(x["hemophil"], "1"),
        karnofsky=x["karnof"].astype(float),
        cd4=x["cd4"],
        months_of_zidovudine=x["priorzdv"],
        indinavir_arm=flag(x["tx"], "1"),
    )
    return Cohort.from_frame(table, SCHEMA, source="aids"), None
