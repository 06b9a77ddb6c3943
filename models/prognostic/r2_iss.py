"""Second revision of the International Staging System for multiple myeloma (D'Agostino 2022)."""

from __future__ import annotations

from models.prognostic.iss import INPUTS, iss_stage
from models.prognostic.r_iss import DEL_17P, LDH, T_4_14, high_ldh
from models.prognostic.score import INCOMPLETE, Columns, Input, Scenarios, Score, yes_no


def _evaluate(x: Columns) -> Scenarios:
    """D'Agostino 2022, table 3."""
    iss = iss_stage(x)
    del_17p, t_4_14, gain_1q = yes_no(x, "fish_del17p", "fish_t_4_14", "fish_gain1q")
    points = iss.at_least(2) + iss.at_least(3) * 0.5 + del_17p + high_ldh(x) + t_4_14 + gain_1q * 0.5
    return Scenarios.of(points)


R2_ISS = Score(
    name="R2-ISS",
    source="D'Agostino et al., J Clin Oncol 2022; 40:3406, table 3",
    inputs=(*INPUTS, *LDH, DEL_17P, T_4_14, Input("fish_gain1q", "gain or amplification of 1q by FISH")),
    categories=("low", "low-intermediate", "intermediate-high", "high"),
    upper=(0, 1, 2.5),
    missing=INCOMPLETE,
    evaluate=_evaluate,
)
