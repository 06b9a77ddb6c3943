"""Revised International Prognostic Scoring System for myelodysplastic syndromes (Greenberg 2012)."""

from __future__ import annotations

import numpy as np

from models.prognostic.bounds import Bounds
from models.prognostic.score import INCOMPLETE, Columns, Input, Scenarios, Score

HEMOGLOBIN = Input("hemoglobin", "haemoglobin", "g/dL", 1, 25)
PLATELETS = Input("platelets", "platelet count", "10^9/L", 0, 5000)
BLASTS = Input("bone_marrow_blasts", "blasts in bone marrow", "%", 0, 100)
CYTOGENETICS = Input("ipssr_cytogenetics", "IPSS-R cytogenetic group, 0 very good to 4 very poor", low=0, high=4)


def _evaluate(x: Columns) -> Scenarios:
    """Greenberg 2012, table 3."""
    hemoglobin, platelets = Bounds.of(x["hemoglobin"], 0, np.inf), Bounds.of(x["platelets"], 0, np.inf)
    blasts = Bounds.of(x["bone_marrow_blasts"], 0, 100)
    points = (
        Bounds.of(x["ipssr_cytogenetics"], 0, 4)
        + blasts.above(2)
        + blasts.at_least(5)
        + blasts.above(10)
        + hemoglobin.below(10)
        + hemoglobin.below(8) * 0.5
        + platelets.below(100) * 0.5
        + platelets.below(50) * 0.5
        + Bounds.of(x["neutrophils"], 0, np.inf).below(0.8) * 0.5
    )
    return Scenarios.of(points)


IPSS_R = Score(
    name="IPSS-R",
    source="Greenberg et al., Blood 2012; 120:2454, tables 3 and 4",
    inputs=(
        HEMOGLOBIN,
        PLATELETS,
        Input("neutrophils", "absolute neutrophil count", "10^9/L", 0, 500),
        BLASTS,
        CYTOGENETICS,
    ),
    categories=("very low", "low", "intermediate", "high", "very high"),
    upper=(1.5, 3, 4.5, 6),
    missing=INCOMPLETE,
    evaluate=_evaluate,
)
