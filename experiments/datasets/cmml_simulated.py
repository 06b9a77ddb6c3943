"""Simulated chronic myelomonocytic leukaemia in ten hospitals, at the size of the field's largest cohort."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.datasets.dataset import Card, Labels
from experiments.simulation import simulate
from experiments.simulation.cmml import CMML
from harmonization import Cohort

PATIENTS, SEED = 1737, 2025

CARD = Card(
    description="SIMULATED: 1,737 patients with chronic myelomonocytic leukaemia in 10 hospitals that differ in size, "
    "case mix, missingness and baseline hazard; no real patient is in it. Covariates follow published frequencies, "
    "outcomes a stated hazard (experiments/simulation/cmml.py); CPSS and CPSS-Mol for comparison.",
    source="drawn on loading by experiments/simulation; nothing to download",
    licence="free",
    simulated="No real patient is in these data. Patients, outcomes and hospitals were drawn at random: covariates "
    "with published frequencies and co-occurrences, survival from a stated hazard. Results say how methods compare "
    "where the truth is known, nothing about patients.",
)


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, Labels]:
    """The same patients each time, and their hospitals."""
    drawn = simulate(CMML, PATIENTS, SEED)
    return drawn.cohort, drawn.center
