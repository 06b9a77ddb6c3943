"""Revised International Staging System for multiple myeloma (Palumbo 2015)."""

from __future__ import annotations

import numpy as np

from models.prognostic.bounds import Bounds, any_of, decide
from models.prognostic.iss import INPUTS, iss_stage
from models.prognostic.score import INCOMPLETE, Columns, Input, Scenarios, Score, yes_no

LDH = (
    Input("ldh", "serum lactate dehydrogenase", "U/L", 0, 30000),
    Input("ldh_upper_limit", "upper limit of normal of the laboratory's assay", "U/L", 100, 1000),
)
DEL_17P = Input("fish_del17p", "del(17p) by FISH")
T_4_14 = Input("fish_t_4_14", "t(4;14) by FISH")


def high_ldh(x: Columns) -> Bounds:
    """Above the upper limit of normal."""
    return Bounds.of(x["ldh"] / x["ldh_upper_limit"], 0, np.inf).above(1)


def _evaluate(x: Columns) -> Scenarios:
    """Palumbo 2015, table 1."""
    iss, ldh = iss_stage(x), high_ldh(x)
    high_risk = any_of(yes_no(x, "fish_del17p", "fish_t_4_14", "fish_t_14_16"))
    stage = decide([(iss.at_least(3) & (high_risk | ldh), 3), (iss.below(2) & ~high_risk & ~ldh, 1)], 2)
    return Scenarios.of(stage)


R_ISS = Score(
    name="R-ISS",
    source="Palumbo et al., J Clin Oncol 2015; 33:2863, table 1",
    inputs=(*INPUTS, *LDH, DEL_17P, T_4_14, Input("fish_t_14_16", "t(14;16) by FISH")),
    categories=("I", "II", "III"),
    upper=(1, 2),
    missing=INCOMPLETE,
    evaluate=_evaluate,
)
