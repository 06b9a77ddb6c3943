"""Simulated chronic myelomonocytic leukaemia.

What is published, and used here (rounded):

- mutations: Patnaik and Tefferi, Blood Cancer J 2016; 6:e393 (TET2 60%, SRSF2 50%, ASXL1 40%, RUNX1 15%, CBL 15%,
  RAS 30%); the rarer ones as in the reviews of the field (SETBP1 15%, NRAS and KRAS 15% each, JAK2 10%, U2AF1 10%,
  ZRSR2, SF3B1, EZH2, DNMT3A, IDH2, PTPN11, NF1, STAG2, PHF6 about 5%, NPM1 and TP53 less);
- which go together: Meggendorfer et al., Blood 2012; 120:3080 (SRSF2 with TET2, and with a normal karyotype; SRSF2 and
  EZH2 exclude each other); mutations of the splicing machinery exclude each other; SETBP1 comes with ASXL1;
- karyotype: Such et al., Haematologica 2011; 96:375 (27% abnormal) and Wassie et al., Am J Hematol 2014; 89:1111 (of
  the abnormal ones +8 in 23%, -Y in 20%, -7 or del(7q) in 14%, complex in 11%; with ASXL1 more often);
- clinical values: medians of 262 patients of the Mayo Clinic (ASH 2013, abstract 1334: age 72 years, 67% men,
  haemoglobin 10.5 g/dL, leukocytes 12·10^9/L, platelets 89·10^9/L, marrow blasts 4%, blood blasts 0);
- hazard ratios: ASXL1 1.5, haemoglobin, platelets and monocytes in the direction and order of size of Patnaik et al.,
  Leukemia 2014; 28:2206; RUNX1, NRAS, SETBP1, marrow blasts, leukocytes and transfusions are those of the CPSS-Mol
  (Elena et al., Blood 2016; 128:1408).

What no publication gives (spreads, most correlations, the exact size of coefficients and odds ratios) is assumed, and
is here to be read.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.simulation.centers import Centers
from experiments.simulation.hazard import Hazard, Term
from experiments.simulation.population import Bernoulli, Exclusive, LogNormal, Normal, Population
from experiments.simulation.simulate import Disease
from harmonization import Feature
from harmonization.dictionary import Dictionary
from models.prognostic import CPSS, CPSS_MOL

MUTATIONS = {
    "TET2": 0.60,
    "ASXL1": 0.40,
    "RUNX1": 0.15,
    "NRAS": 0.15,
    "KRAS": 0.15,
    "CBL": 0.15,
    "SETBP1": 0.15,
    "EZH2": 0.06,
    "JAK2": 0.10,
    "DNMT3A": 0.05,
    "IDH2": 0.05,
    "NPM1": 0.03,
    "PTPN11": 0.05,
    "NF1": 0.05,
    "STAG2": 0.05,
    "PHF6": 0.05,
    "TP53": 0.02,
}
SPLICING = {"SRSF2": 0.48, "ZRSR2": 0.06, "SF3B1": 0.06, "U2AF1": 0.10}

KARYOTYPE = {
    "complex": 0.032,
    "loss_of_7": 0.028,
    "loss_of_7q": 0.012,
    "gain_of_8": 0.066,
    "two_others": 0.02,
    "one_other": 0.06,
    "loss_of_Y": 0.052,
}
"""From the worst downwards; the rest is normal."""

POPULATION = Population(
    variables={
        "age": Normal(72, 10, 25, 100),
        "male": Bernoulli(0.67),
        "hemoglobin": Normal(10.5, 2.0, 4, 18),
        "platelets": LogNormal(89, 0.8, 5, 1500),
        "wbc": LogNormal(12, 0.8, 1.5, 300),
        "neutrophils": LogNormal(6, 0.9, 0.1, 250),
        "monocytes": LogNormal(2.6, 0.75, 1, 120),
        "bone_marrow_blasts": LogNormal(4, 0.75, 0, 19),
        "peripheral_blasts": LogNormal(0.3, 1.5, 0, 19),
        "ldh": LogNormal(260, 0.45, 90, 4000),
        "splenomegaly": Bernoulli(0.30),
        "transfusion_dependent": Bernoulli(0.25),
        "karyotype": Exclusive(KARYOTYPE),
        "splicing": Exclusive(SPLICING),
        **{gene: Bernoulli(p) for gene, p in MUTATIONS.items()},
    },
    odds_ratios={
        ("SRSF2", "TET2"): 3.0,
        ("SRSF2", "EZH2"): 0.15,
        ("SRSF2", "RUNX1"): 2.0,
        ("ASXL1", "SETBP1"): 4.0,
        ("ASXL1", "EZH2"): 3.0,
        ("ASXL1", "RUNX1"): 1.8,
        ("TET2", "IDH2"): 0.15,
        ("NRAS", "KRAS"): 0.5,
        ("ASXL1", "NRAS"): 1.5,
    },
    correlations={
        ("wbc", "neutrophils"): 0.8,
        ("wbc", "monocytes"): 0.7,
        ("neutrophils", "monocytes"): 0.55,
        ("wbc", "ldh"): 0.4,
        ("bone_marrow_blasts", "peripheral_blasts"): 0.5,
        ("hemoglobin", "transfusion_dependent"): -0.6,
        ("splenomegaly", "wbc"): 0.35,
        ("NRAS", "wbc"): 0.25,
        ("KRAS", "wbc"): 0.15,
        ("CBL", "wbc"): 0.15,
        ("JAK2", "wbc"): 0.20,
        ("JAK2", "splenomegaly"): 0.25,
        ("RUNX1", "platelets"): -0.20,
        ("karyotype", "bone_marrow_blasts"): 0.20,
        ("karyotype", "ASXL1"): 0.10,
        ("karyotype", "splicing"): -0.12,
        ("karyotype", "TP53"): 0.30,
        ("hemoglobin", "platelets"): 0.15,
    },
)

HAZARD = Hazard(
    terms={
        "age": Term(0.30, 72, 10),
        "male": Term(0.10),
        "hemoglobin": Term(-0.15, 10.5),
        "platelets": Term(-0.15, np.log2(89).item(), log2=True),
        "wbc": Term(0.15, np.log2(12).item(), log2=True),
        "monocytes": Term(0.10, np.log2(2.6).item(), log2=True),
        "bone_marrow_blasts": Term(0.25, 4, 5),
        "transfusion_dependent": Term(0.35),
        "complex_karyotype": Term(0.60),
        "minus7": Term(0.50),
        "plus8": Term(0.30),
        "ASXL1": Term(0.40),
        "RUNX1": Term(0.45),
        "NRAS": Term(0.30),
        "SETBP1": Term(0.35),
        "EZH2": Term(0.25),
        "U2AF1": Term(0.20),
        "TP53": Term(0.60),
        "NPM1": Term(0.50),
        "TET2": Term(-0.15),
    },
    median=4.0,
    shape=1.1,
    follow_up=(0.5, 10.0),
    lost=0.06,
)

_DICTIONARY = {f.name: f for f in Dictionary.read("cmml").schema().features}
_OWN = (
    Feature("transfusion_dependent", "binary"),
    Feature("karyotype_abnormalities", "count", "genomic", low=0, high=3, reference=0),
)
FEATURES = (
    *(f for f in _DICTIONARY.values() if f.modality == "clinical" and f.name != "red_cell_transfusions"),
    *_OWN,
    *(f for f in _DICTIONARY.values() if f.modality == "genomic"),
)
"""Columns, units and plausible ranges of the data dictionary, with what CPSS asks for and it has not."""


def derive(drawn: pd.DataFrame) -> pd.DataFrame:
    """The karyotype as its flags and number of abnormalities (3 is three or more)."""
    is_male = drawn["male"] == 1
    has_lost_y = drawn["loss_of_Y"].where(is_male, 0.0)  # in a woman: another single abnormality
    one = drawn[["loss_of_7", "loss_of_7q", "gain_of_8", "one_other", "loss_of_Y"]].sum(axis=1)
    blasts = drawn[["bone_marrow_blasts", "peripheral_blasts"]].round()  # as they are counted
    return drawn.assign(
        **blasts,
        minusY=has_lost_y,
        plus8=drawn["gain_of_8"],
        minus7=drawn["loss_of_7"],
        del7q=drawn["loss_of_7q"],
        complex_karyotype=drawn["complex"],
        karyotype_abnormalities=one + 2 * drawn["two_others"] + 3 * drawn["complex"],
    )


_CENTERS = Centers(fractions=(0.30, 0.18, 0.13, 0.10, 0.08, 0.07, 0.06, 0.04, 0.03, 0.01))
_RARELY = ("hemoglobin", "platelets", "wbc", "monocytes", "bone_marrow_blasts")
_MUTATIONS = (*MUTATIONS, *SPLICING)

CMML = Disease(
    name="cmml_simulated",
    population=POPULATION,
    features=FEATURES,
    hazard=HAZARD,
    centers=_CENTERS,
    missing={
        **dict.fromkeys(_RARELY, 0.02),
        **{"neutrophils": 0.05, "peripheral_blasts": 0.08, "ldh": 0.25, "splenomegaly": 0.10},
        "transfusion_dependent": 0.05,
        **dict.fromkeys(_MUTATIONS, 0.03),
    },
    scores={"cpss": CPSS, "cpss_mol": CPSS_MOL},
    derive=derive,
)
"""At the size of the published cohort of the field: 1,737 patients."""
