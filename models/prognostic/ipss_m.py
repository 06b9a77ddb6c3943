"""Molecular International Prognostic Scoring System for myelodysplastic syndromes (Bernard 2022)."""

from __future__ import annotations

import numpy as np

from models.prognostic.bounds import Bounds, any_of
from models.prognostic.ipss_r import BLASTS, CYTOGENETICS, HEMOGLOBIN, PLATELETS
from models.prognostic.score import Columns, Floats, Input, Scenarios, Score, yes_no

# Variable: (weight, mean, best, worst); Bernard 2022, supplementary table of the model. The weight is a log hazard
# ratio per unit: haemoglobin 1 g/dL, platelets 100·10^9/L, blasts 5%.
MODEL = {
    "hemoglobin": (-0.171, 9.87, 20.0, 4.0),
    "platelets": (-0.222, 1.41, 2.5, 0.0),
    "blasts": (0.352, 0.922, 0.0, 4.0),
    "cytogenetics": (0.287, 1.39, 0.0, 4.0),
    "TP53multi": (1.18, 0.071, 0.0, 1.0),
    "FLT3": (0.798, 0.0108, 0.0, 1.0),
    "MLL_PTD": (0.798, 0.0247, 0.0, 1.0),
    "SF3B1_5q": (0.504, 0.0166, 0.0, 1.0),
    "NPM1": (0.43, 0.0112, 0.0, 1.0),
    "RUNX1": (0.423, 0.126, 0.0, 1.0),
    "NRAS": (0.417, 0.0362, 0.0, 1.0),
    "ETV6": (0.391, 0.0216, 0.0, 1.0),
    "IDH2": (0.379, 0.0429, 0.0, 1.0),
    "CBL": (0.295, 0.0473, 0.0, 1.0),
    "EZH2": (0.27, 0.0588, 0.0, 1.0),
    "U2AF1": (0.247, 0.0866, 0.0, 1.0),
    "SRSF2": (0.239, 0.158, 0.0, 1.0),
    "DNMT3A": (0.221, 0.161, 0.0, 1.0),
    "ASXL1": (0.213, 0.252, 0.0, 1.0),
    "KRAS": (0.202, 0.0271, 0.0, 1.0),
    "SF3B1_alpha": (-0.0794, 0.186, 1.0, 0.0),
}
RESIDUAL_WEIGHT, RESIDUAL_MEAN = 0.231, 0.388
RESIDUAL = (
    "BCOR",
    "BCORL1",
    "CEBPA",
    "ETNK1",
    "GATA2",
    "GNB1",
    "IDH1",
    "NF1",
    "PHF6",
    "PPM1D",
    "PRPF8",
    "PTPN11",
    "SETBP1",
    "STAG2",
    "WT1",
)
"""Genes of which only the number that are mutated counts, up to 2."""

_DERIVED = ("hemoglobin", "platelets", "blasts", "cytogenetics", "TP53multi", "FLT3", "SF3B1_5q", "SF3B1_alpha")
_GENES = tuple(name for name in MODEL if name not in _DERIVED)
"""Genes whose variable is whether they are mutated."""
_WITH_SF3B1 = ("BCOR", "BCORL1", "NRAS", "RUNX1", "SRSF2", "STAG2")


def _tp53_multihit(x: Columns) -> Bounds:
    """Two mutations or more, or one and loss of the other allele; as stated, if that is stated."""
    mutated = Bounds.of(x["TP53"])
    number = Bounds.of(x["TP53_mutations"], 0, 2).where_known(Bounds(mutated.low, 2 * mutated.high))
    signs = np.stack([x["TP53_loh"], x["del17p"], np.where(np.isnan(x["TP53_vaf"]), np.nan, x["TP53_vaf"] > 0.55)])
    # One look at the locus is enough to know; each of the three is one.
    loss = Bounds.of(np.where(np.isnan(signs).all(axis=0), np.nan, np.nan_to_num(signs).max(axis=0)))
    derived = number.at_least(2) | (number.at_least(1) & loss)
    return Bounds.of(x["TP53multi"]).where_known(derived)


def _variables(x: Columns) -> dict[str, Floats]:
    """The variables of the model, NaN where they are unknown."""
    del5q, del7, del7q, several = yes_no(x, "del5q", "del7", "del7q", "complex_karyotype")
    (sf3b1,) = yes_no(x, "SF3B1")
    with_5q = sf3b1 & del5q & ~(del7 | del7q) & ~several
    alone = sf3b1 & ~with_5q & ~any_of(yes_no(x, *_WITH_SF3B1))
    return {
        "hemoglobin": np.clip(x["hemoglobin"], 4, 20),
        "platelets": np.minimum(x["platelets"], 250) / 100,
        "blasts": np.minimum(x["bone_marrow_blasts"], 20) / 5,
        "cytogenetics": x["ipssr_cytogenetics"],
        "TP53multi": _tp53_multihit(x).value,
        "FLT3": np.fmax(x["FLT3"], x["FLT3_ITD"]),
        "SF3B1_5q": with_5q.value,
        "SF3B1_alpha": alone.value,
        **{gene: x[gene] for gene in _GENES},
    }


def _evaluate(x: Columns) -> Scenarios:
    """Sum of weight · (x - mean) / ln 2, to two decimals."""
    variables = _variables(x)
    genes = np.stack([x[gene] for gene in RESIDUAL])
    mutated, unknown = np.nansum(genes, axis=0), np.isnan(genes).sum(axis=0)
    residual_mean = np.minimum(mutated, 2) + np.maximum((2 - mutated) / 2 * unknown / len(genes) * RESIDUAL_MEAN, 0)

    def score(position: int, residual: Floats) -> Floats:
        total = RESIDUAL_WEIGHT * (residual - RESIDUAL_MEAN)
        for name, values in variables.items():
            weight, mean, *_ = MODEL[name]
            total = total + weight * (np.where(np.isnan(values), MODEL[name][position], values) - mean)
        rounded: Floats = np.round(total / np.log(2), 2)
        return rounded

    return Scenarios(
        score(2, np.minimum(mutated, 2)), score(1, residual_mean), score(3, np.minimum(mutated + unknown, 2))
    )


IPSS_M = Score(
    name="IPSS-M",
    source="Bernard et al., NEJM Evid 2022; 1:EVIDoa2200008, figure 2 and supplementary appendix",
    inputs=(
        HEMOGLOBIN,
        PLATELETS,
        BLASTS,
        CYTOGENETICS,
        Input("del5q", "deletion of 5q"),
        Input("del7", "monosomy 7"),
        Input("del7q", "deletion of 7q", default=0),
        Input("complex_karyotype", "three abnormalities or more"),
        Input("del17p", "loss of 17p or of chromosome 17"),
        Input("TP53", "TP53 mutated"),
        Input("TP53_mutations", "number of TP53 mutations", low=0, high=20, default=np.nan),
        Input("TP53_vaf", "highest allele frequency of a TP53 mutation, as a fraction", default=np.nan),
        Input("TP53_loh", "TP53 locus lost or copy-neutral loss of heterozygosity", default=np.nan),
        Input("TP53multi", "TP53, two hits, if stated rather than derived", default=np.nan),
        Input("FLT3", "FLT3 mutated; where FLT3_ITD is a column of its own, otherwise than by it"),
        Input("FLT3_ITD", "FLT3 internal tandem duplication", default=np.nan),
        Input("SF3B1", "SF3B1 mutated"),
        *(Input(gene, f"{gene} mutated") for gene in _GENES),
        *(Input(gene, f"{gene} mutated", default=np.nan) for gene in RESIDUAL),
    ),
    categories=("very low", "low", "moderate low", "moderate high", "high", "very high"),
    upper=(-1.5, -0.5, 0, 0.5, 1.5),
    missing="A variable that is unknown takes its mean in the publication's cohort; best and worst are given beside.",
    evaluate=_evaluate,
)
