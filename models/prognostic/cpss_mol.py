"""Molecular CMML-specific prognostic scoring system (Elena 2016)."""

from __future__ import annotations

import numpy as np

from models.prognostic.bounds import Bounds
from models.prognostic.cpss import BONE_MARROW_BLASTS, KARYOTYPE, TRANSFUSIONS, WBC, cytogenetic_risk
from models.prognostic.score import INCOMPLETE, Columns, Input, Scenarios, Score, yes_no


def _evaluate(x: Columns) -> Scenarios:
    """Elena 2016: the genetic risk group from karyotype and four genes, then the score."""
    asxl1, nras, runx1, setbp1 = yes_no(x, "ASXL1", "NRAS", "RUNX1", "SETBP1")
    genetic = cytogenetic_risk(x) + asxl1 + nras + runx1 * 2 + setbp1
    group = Bounds(np.minimum(genetic.low, 3), np.minimum(genetic.high, 3))  # 0, 1, 2, 3 and more
    points = (
        group
        + Bounds.of(x["bone_marrow_blasts"], 0, 100).at_least(5)
        + Bounds.of(x["wbc"], 0, np.inf).at_least(13)
        + Bounds.of(x["transfusion_dependent"])
    )
    return Scenarios.of(points)


CPSS_MOL = Score(
    name="CPSS-Mol",
    source="Elena et al., Blood 2016; 128:1408, tables 3 and 4",
    inputs=(
        BONE_MARROW_BLASTS,
        WBC,
        TRANSFUSIONS,
        *KARYOTYPE,
        *(Input(gene, f"{gene} mutated") for gene in ("ASXL1", "NRAS", "RUNX1", "SETBP1")),
    ),
    categories=("low", "intermediate-1", "intermediate-2", "high"),
    upper=(0, 1, 3),
    missing=INCOMPLETE,
    evaluate=_evaluate,
)
