"""CMML-specific prognostic scoring system (Such 2013)."""

from __future__ import annotations

import numpy as np

from models.prognostic.bounds import Bounds, any_of, decide
from models.prognostic.score import INCOMPLETE, Columns, Input, Scenarios, Score, yes_no

WBC = Input("wbc", "leukocytes", "10^9/L", 0, 1000)
BONE_MARROW_BLASTS = Input("bone_marrow_blasts", "blasts and promonocytes in bone marrow", "%", 0, 100)
TRANSFUSIONS = Input("transfusion_dependent", "a red cell transfusion at least every 8 weeks over 4 months")
KARYOTYPE = (
    Input("karyotype_abnormalities", "number of clonal chromosomal abnormalities", low=0, high=100),
    Input("plus8", "trisomy 8"),
    Input("minus7", "monosomy 7"),
    Input("del7q", "deletion of 7q"),
    Input("minusY", "loss of Y"),
)


def cytogenetic_risk(x: Columns) -> Bounds:
    """CMML cytogenetic risk: low 0 (normal, -Y alone), high 2 (+8, chromosome 7, complex), intermediate 1.

    Such 2011, Haematologica 96:375; Such 2013, table 1.
    """
    number = Bounds.of(x["karyotype_abnormalities"], 0, 100)
    plus8, minus7, del7q, minus_y = yes_no(x, "plus8", "minus7", "del7q", "minusY")
    high = any_of([plus8, minus7, del7q, number.at_least(3)])
    return decide([(high, 2), (number.below(1) | (minus_y & number.below(2)), 0)], 1)


def _evaluate(x: Columns) -> Scenarios:
    """Such 2013, table 4; anaemia below 10 g/dL where transfusions are unknown, its published alternative."""
    cmml_2 = Bounds.of(x["bone_marrow_blasts"], 0, 100).at_least(10) | Bounds.of(
        x["peripheral_blasts"], 0, 100
    ).at_least(5)
    anemia = Bounds.of(x["hemoglobin"], 0, np.inf).below(10)
    transfused = Bounds.of(x["transfusion_dependent"]).where_known(anemia)
    points = cmml_2 + Bounds.of(x["wbc"], 0, np.inf).at_least(13) + transfused + cytogenetic_risk(x)
    return Scenarios.of(points)


CPSS = Score(
    name="CPSS",
    source="Such et al., Blood 2013; 121:3005, table 4",
    inputs=(
        BONE_MARROW_BLASTS,
        Input("peripheral_blasts", "blasts and promonocytes in blood", "%", 0, 100),
        WBC,
        Input("transfusion_dependent", TRANSFUSIONS.meaning, default=np.nan),
        Input("hemoglobin", "haemoglobin", "g/dL", 1, 25),
        *KARYOTYPE,
    ),
    categories=("low", "intermediate-1", "intermediate-2", "high"),
    upper=(0, 1, 3),
    missing=INCOMPLETE,
    evaluate=_evaluate,
)
