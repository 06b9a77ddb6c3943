"""European LeukemiaNet 2017 risk stratification of acute myeloid leukaemia by genetics (Döhner 2017)."""

from __future__ import annotations

import numpy as np

from models.prognostic.bounds import Bounds, any_of, decide
from models.prognostic.score import INCOMPLETE, Columns, Input, Scenarios, Score, yes_no

CATEGORIES = ("favorable", "intermediate", "adverse")
FAVORABLE, INTERMEDIATE, ADVERSE = range(3)

CORE_BINDING_FACTOR = (
    Input("t_8_21", "t(8;21), RUNX1::RUNX1T1"),
    Input("inv16_t16_16", "inv(16) or t(16;16), CBFB::MYH11"),
)
T_9_11 = Input("t_9_11", "t(9;11), MLLT3::KMT2A")
ADVERSE_KARYOTYPE = (
    Input("t_6_9", "t(6;9), DEK::NUP214"),
    Input("t_v_11", "KMT2A rearranged otherwise than by t(9;11)"),
    Input("t_9_22", "t(9;22), BCR::ABL1", default=0),
    Input("inv3_t3_3", "inv(3) or t(3;3), GATA2, MECOM"),
    Input("minus5_5q", "loss of 5 or 5q"),
    Input("minus7", "loss of 7"),
    Input("mono17_17p_abn17p", "loss of 17, abnormality of 17p"),
    Input("complex", "three unrelated abnormalities or more, and none of the recurrent rearrangements"),
    Input("monosomal_karyotype", "monosomal (Breems 2008)", default=0),
)
"""A table without a column of the rare t(9;22), or of monosomal karyotypes (most are complex too), has none of them."""
NPM1 = Input("NPM1", "NPM1 mutated")
FLT3_ITD = Input("FLT3_ITD", "FLT3 internal tandem duplication")
PROMYELOCYTIC = Input("t_15_17", "t(15;17), PML::RARA: not classified", default=0)


def not_classified(x: Columns, group: Bounds) -> Scenarios:
    """Acute promyelocytic leukaemia is outside the recommendations."""
    outside = x["t_15_17"] == 1
    ends = (group.low, group.value, group.high)
    return Scenarios(*(np.where(outside, np.nan, end) for end in ends))


def _evaluate(x: Columns) -> Scenarios:
    """Döhner 2017, table 5, with its footnotes; each rule yields to those before it."""
    npm1, itd, cebpa, t_9_11, tp53 = yes_no(x, "NPM1", "FLT3_ITD", "CEBPA_bi", "t_9_11", "TP53")
    itd_high = itd & Bounds.of(x["FLT3_ITD_ratio"], 0, np.inf).at_least(0.5)
    core_binding_factor = any_of(yes_no(x, *(item.name for item in CORE_BINDING_FACTOR)))
    karyotype = any_of(yes_no(x, *(item.name for item in ADVERSE_KARYOTYPE)))
    group = decide(
        [
            (core_binding_factor, FAVORABLE),
            (karyotype, ADVERSE),
            (t_9_11, INTERMEDIATE),  # before adverse gene mutations (footnote)
            (tp53, ADVERSE),
            ((npm1 & ~itd_high) | cebpa, FAVORABLE),
            (any_of(yes_no(x, "RUNX1", "ASXL1")), ADVERSE),  # not beside a favorable lesion (footnote)
            (~npm1 & itd_high, ADVERSE),
        ],
        INTERMEDIATE,
    )
    return not_classified(x, group)


ELN_2017 = Score(
    name="ELN 2017",
    source="Döhner et al., Blood 2017; 129:424, table 5",
    inputs=(
        *CORE_BINDING_FACTOR,
        T_9_11,
        *ADVERSE_KARYOTYPE,
        NPM1,
        FLT3_ITD,
        Input("FLT3_ITD_ratio", "allelic ratio of the ITD to the wild type", low=0, high=1000, default=np.nan),
        Input("CEBPA_bi", "CEBPA mutated on both alleles"),
        *(Input(gene, f"{gene} mutated") for gene in ("RUNX1", "ASXL1", "TP53")),
        PROMYELOCYTIC,
    ),
    categories=CATEGORIES,
    upper=(FAVORABLE, INTERMEDIATE),
    missing=INCOMPLETE,
    evaluate=_evaluate,
)
