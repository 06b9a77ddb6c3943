"""Worcester Heart Attack Study (Hosmer 2008)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sksurv.datasets import load_whas500

from experiments.datasets.dataset import Card
from experiments.datasets.sksurv_bundle import LICENCE, SOURCE, endpoint, flag
from harmonization import Cohort, Feature, Schema

CARD = Card(
    description="500 patients admitted with acute myocardial infarction; overall survival from admission, 215 deaths.",
    source=SOURCE,
    licence=LICENCE,
)

# Left out: los, the length of the hospital stay, which death cuts short.
SCHEMA = Schema(
    name="whas500",
    version="1",
    features=(
        Feature("age", "continuous", unit="years", low=18, high=120, reference=70),
        Feature("male", "binary"),
        Feature("bmi", "continuous", unit="kg/m2", low=8, high=90, reference=27),
        Feature("heart_rate", "continuous", unit="1/min", low=10, high=300, reference=87),
        Feature("systolic_pressure", "continuous", unit="mmHg", low=20, high=350, reference=145),
        Feature("diastolic_pressure", "continuous", unit="mmHg", low=0, high=250, reference=78),
        Feature("cardiovascular_history", "binary"),
        Feature("atrial_fibrillation", "binary"),
        Feature("cardiogenic_shock", "binary"),
        Feature("heart_failure", "binary"),
        Feature("complete_heart_block", "binary"),
        Feature("recurrent_infarction", "binary"),
        Feature("q_wave_infarction", "binary"),
    ),
)


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, None]:
    """All patients; no centers."""
    x, y = load_whas500()
    table = endpoint(y).assign(
        age=x["age"],
        male=flag(x["gender"], "0"),
        bmi=x["bmi"],
        heart_rate=x["hr"],
        systolic_pressure=x["sysbp"],
        diastolic_pressure=x["diasbp"],
        cardiovascular_history=flag(x["cvd"], "1"),
        atrial_fibrillation=flag(x["afb"], "1"),
        cardiogenic_shock=flag(x["sho"], "1"),
        heart_failure=flag(x["chf"], "1"),
        complete_heart_block=flag(x["av3"], "1"),
        recurrent_infarction=flag(x["miord"], "1"),
        q_wave_infarction=flag(x["mitype"], "1"),
    )
    return Cohort.from_frame(table, SCHEMA, source="whas500"), None
