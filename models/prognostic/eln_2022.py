"""European LeukemiaNet 2022 risk classification of acute myeloid leukaemia by genetics (Döhner 2022)."""

from __future__ import annotations

import numpy as np

from models.prognostic.bounds import Bounds, any_of, decide
from models.prognostic.eln_2017 import (
    ADVERSE,
    CATEGORIES,
    CORE_BINDING_FACTOR,
    FAVORABLE,
    FLT3_ITD,
    INTERMEDIATE,
    NPM1,
    PROMYELOCYTIC,
    T_9_11,
    not_classified,
)
from models.prognostic.eln_2017 import ADVERSE_KARYOTYPE as ADVERSE_KARYOTYPE_2017
from models.prognostic.score import INCOMPLETE, Columns, Input, Scenarios, Score, yes_no

ADVERSE_KARYOTYPE = (
    *ADVERSE_KARYOTYPE_2017,
    Input("t_8_16", "t(8;16), KAT6A::CREBBP", default=0),
    Input("t_3q26", "MECOM rearranged by another t(3q26)", default=0),
)
"""``complex`` is not to count a hyperdiploid karyotype of three trisomies or more without a structural abnormality."""
MYELODYSPLASIA_RELATED = ("ASXL1", "BCOR", "EZH2", "RUNX1", "SF3B1", "SRSF2", "STAG2", "U2AF1", "ZRSR2")


def _evaluate(x: Columns) -> Scenarios:
    """Döhner 2022, table 6, with its footnotes; each rule yields to those before it."""
    npm1, itd, t_9_11, tp53 = yes_no(x, "NPM1", "FLT3_ITD", "t_9_11", "TP53")
    mono, bi = yes_no(x, "CEBPA_mono", "CEBPA_bi")
    unknown = Bounds(np.zeros(len(npm1.low)), np.ones(len(npm1.low)))
    # A mutation in frame, in the basic leucine zipper, on one allele or both; wild type has none.
    bzip = Bounds.of(x["CEBPA_bzip"]).where_known((mono | bi) & unknown)
    core_binding_factor = any_of(yes_no(x, *(item.name for item in CORE_BINDING_FACTOR)))
    karyotype = any_of(yes_no(x, *(item.name for item in ADVERSE_KARYOTYPE)))
    group = decide(
        [
            (core_binding_factor, FAVORABLE),
            (karyotype, ADVERSE),  # also with NPM1 (footnote)
            (t_9_11, INTERMEDIATE),  # before adverse gene mutations (footnote)
            (tp53, ADVERSE),
            ((npm1 & ~itd) | bzip, FAVORABLE),
            (any_of(yes_no(x, *MYELODYSPLASIA_RELATED)), ADVERSE),  # not beside a favorable lesion (footnote)
        ],
        INTERMEDIATE,
    )
    return not_classified(x, group)


ELN_2022 = Score(
    name="ELN 2022",
    source="Döhner et al., Blood 2022; 140:1345, table 6",
    inputs=(
        *CORE_BINDING_FACTOR,
        T_9_11,
        *ADVERSE_KARYOTYPE,
        NPM1,
        FLT3_ITD,
        Input("CEBPA_bzip", "CEBPA mutated in frame in the basic leucine zipper", default=np.nan),
        Input("CEBPA_mono", "CEBPA, one mutation", default=np.nan),
        Input("CEBPA_bi", "CEBPA, two mutations", default=np.nan),
        Input("TP53", "TP53 mutated, allele frequency 10% or more"),
        *(Input(gene, f"{gene} mutated") for gene in MYELODYSPLASIA_RELATED),
        PROMYELOCYTIC,
    ),
    categories=CATEGORIES,
    upper=(FAVORABLE, INTERMEDIATE),
    missing=INCOMPLETE,
    evaluate=_evaluate,
)
