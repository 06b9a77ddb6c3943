"""Veterans' Administration lung cancer trial (Kalbfleisch and Prentice 2002)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sksurv.datasets import load_veterans_lung_cancer

from experiments.datasets.dataset import Card
from experiments.datasets.sksurv_bundle import LICENCE, SOURCE, endpoint, flag
from harmonization import Cohort, Feature, Schema

CARD = Card(
    description="137 men with inoperable lung cancer; overall survival, 128 deaths. The treatment is the arm drawn at "
    "entry to the trial.",
    source=SOURCE,
    licence=LICENCE,
)

SCHEMA = Schema(
    name="veterans_lung_cancer",
    version="1",
    features=(
        Feature("age", "continuous", unit="years", low=18, high=120, reference=58),
        Feature("cell_type", "categorical", categories=("adeno", "large", "smallcell", "squamous")),
        Feature("karnofsky", "continuous", unit="%", low=0, high=100, reference=60),
        Feature("months_from_diagnosis", "continuous", unit="months", low=0, high=600, reference=9),
        Feature("prior_therapy", "binary"),
        Feature("test_treatment", "binary"),
    ),
)


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, None]:
    """All patients; no centers."""
    x, y = load_veterans_lung_cancer()
    table = endpoint(y).assign(
        age=x["Age_in_years"],
        cell_type=x["Celltype"],
        karnofsky=x["Karnofsky_score"],
        months_from_diagnosis=x["Months_from_Diagnosis"],
        prior_therapy=flag(x["Prior_therapy"], "yes"),
        test_treatment=flag(x["Treatment"], "test"),
    )
    return Cohort.from_frame(table, SCHEMA, source="veterans_lung_cancer"), None
