"""German Breast Cancer Study Group trial 2 (Schumacher 1994)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sksurv.datasets import load_gbsg2

from experiments.datasets.dataset import Card
from experiments.datasets.sksurv_bundle import LICENCE, SOURCE, endpoint, flag
from harmonization import Cohort, Feature, Schema

CARD = Card(
    description="686 women with node-positive breast cancer; recurrence-free survival, 299 events. Hormonal therapy "
    "is the one assigned at entry to the trial.",
    source=SOURCE,
    licence=LICENCE,
)

SCHEMA = Schema(
    name="gbsg2",
    version="1",
    features=(
        Feature("age", "continuous", unit="years", low=18, high=120, reference=53),
        Feature("postmenopausal", "binary"),
        Feature("tumor_size", "continuous", unit="mm", low=0, high=250, reference=29),
        Feature("tumor_grade", "categorical", categories=("I", "II", "III")),
        Feature("positive_nodes", "count", low=0, high=100, reference=5),
        Feature("progesterone_receptor", "continuous", unit="fmol/mg", low=0, high=5000, reference=110),
        Feature("estrogen_receptor", "continuous", unit="fmol/mg", low=0, high=5000, reference=96),
        Feature("hormonal_therapy", "binary"),
    ),
    endpoint="recurrence-free survival",
)


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, None]:
    """All patients; no centers."""
    x, y = load_gbsg2()
    table = endpoint(y).assign(
        age=x["age"],
        postmenopausal=flag(x["menostat"], "Post"),
        tumor_size=x["tsize"],
        tumor_grade=x["tgrade"],
        positive_nodes=x["pnodes"],
        progesterone_receptor=x["progrec"],
        estrogen_receptor=x["estrec"],
        hormonal_therapy=flag(x["horTh"], "yes"),
    )
    return Cohort.from_frame(table, SCHEMA, source="gbsg2"), None
