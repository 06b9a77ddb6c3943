"""Simulated multiple myeloma in seven hospitals, with copy numbers and radiomics, at a published cohort's size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.datasets.dataset import Card, Labels
from experiments.simulation import simulate
from experiments.simulation.mm import MM
from harmonization import Cohort

PATIENTS, SEED = 1005, 2025

CARD = Card(
    description="SIMULATED: 1,005 patients with multiple myeloma in 7 hospitals that differ in size, case mix, "
    "missingness and baseline hazard; no real patient is in it. Clinical values, FISH, copy numbers, mutations, and "
    "48 radiomics features that two hospitals lack. Covariates follow published frequencies, outcomes a stated hazard "
    "(experiments/simulation/mm.py); ISS, R-ISS and R2-ISS for comparison.",
    source="drawn on loading by experiments/simulation; nothing to download",
    licence="free",
    simulated="No real patient is in these data. Patients, outcomes, images and hospitals were drawn at random: "
    "covariates with published frequencies and co-occurrences, radiomics from a few latent factors, survival from a "
    "stated hazard. Results say how methods compare where the truth is known, nothing about patients.",
)


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, Labels]:
    """The same patients each time, and their hospitals."""
    drawn = simulate(MM, PATIENTS, SEED)
    return drawn.cohort, drawn.center
