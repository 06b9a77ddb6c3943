"""Simulated multiple myeloma, with copy numbers and radiomics of PET/CT.

What is published, and used here (rounded):

- translocations and del(13q), del(17p): Fonseca et al., Blood 2003; 101:4569 (351 patients: t(4;14) 12%, t(14;16) 4%,
  del(17p) 10.5%, del(13q) 50%); t(11;14) 17%, 1q gain or amplification 40%, 1p loss 8%, MYC 40% as in the reviews of
  the field; trisomies 57%: Kumar et al., Blood 2012; 119:2100;
- which go together: translocations of IGH exclude each other; t(4;14) with del(13q) (85% of its carriers have it) and
  with 1q; trisomies with few translocations; TP53 mutated with del(17p);
- mutations: KRAS 22%, NRAS 18%, DIS3 10%, TENT5C 9%, BRAF 8%, TP53 6%, TRAF3 6%, CYLD 3%, FGFR3 3%, IRF4 3%, ATM 4%,
  CRBN 1% (orders of size of the sequencing studies);
- stages: medians and spreads such that ISS I, II, III and LDH above normal come near to the 35%, 40%, 25% and 13% of
  5,584 patients (HARMONY, Blood 2019; 134 S1:1773);
- hazard ratios: del(17p) 1.78, t(4;14) 1.67, t(14;16) 1.19 from the same patients; the others in the direction of the
  R2-ISS (D'Agostino et al., J Clin Oncol 2022; 40:3406);
- radiomics: that features of PET/CT add to clinical ones (Li et al., Front Oncol 2025; 15:1486495: C .78 with them, .70
  without).

What no publication gives (spreads, correlations, the exact size of coefficients and odds ratios, everything of the
radiomics block but that it adds) is assumed, and is here to be read.
"""

from __future__ import annotations

import numpy as np

from experiments.simulation.centers import Centers
from experiments.simulation.factors import Factors
from experiments.simulation.hazard import Hazard, Term
from experiments.simulation.population import Bernoulli, Exclusive, LogNormal, Normal, Population
from experiments.simulation.simulate import Disease
from harmonization import Feature
from harmonization.dictionary import Dictionary
from models.prognostic import ISS, R2_ISS, R_ISS

LDH_UPPER_LIMIT = 250.0
"""Of all laboratories, U/L."""

TRANSLOCATIONS = {"fish_t_4_14": 0.12, "fish_t_14_16": 0.04, "fish_t_11_14": 0.17}
MUTATIONS = {
    "KRAS": 0.22,
    "NRAS": 0.18,
    "BRAF": 0.08,
    "TP53": 0.06,
    "DIS3": 0.10,
    "TENT5C": 0.09,
    "TRAF3": 0.06,
    "CYLD": 0.03,
    "FGFR3": 0.03,
    "IRF4": 0.03,
    "ATM": 0.04,
    "CRBN": 0.01,
}
COPY_NUMBER = {
    "fish_gain1q": 0.40,
    "fish_del13q": 0.50,
    "fish_del17p": 0.105,
    "cnv_hyperdiploid": 0.57,
    "cnv_del1p": 0.08,
}

POPULATION = Population(
    variables={
        "age": Normal(65, 10, 25, 95),
        "male": Bernoulli(0.55),
        "hemoglobin": Normal(10.8, 2.0, 4, 18),
        "platelets": Normal(220, 85, 10, 900),
        "calcium": LogNormal(2.35, 0.10, 1.5, 5),
        "creatinine": LogNormal(1.0, 0.45, 0.3, 15),
        "albumin": Normal(3.75, 0.6, 1.5, 5.5),
        "beta2_microglobulin": LogNormal(3.7, 0.58, 0.8, 60),
        "ldh": LogNormal(180, 0.30, 60, 4000),
        "m_protein": LogNormal(3.0, 0.6, 0, 12),
        "bone_marrow_plasma_cells": LogNormal(35, 0.65, 1, 100),
        "translocation": Exclusive(TRANSLOCATIONS),
        **{name: Bernoulli(p) for name, p in (COPY_NUMBER | {"MYC": 0.40} | MUTATIONS).items()},
    },
    odds_ratios={
        ("fish_t_4_14", "fish_del13q"): 7.0,
        ("fish_t_4_14", "fish_gain1q"): 3.0,
        ("fish_t_4_14", "cnv_hyperdiploid"): 0.25,
        ("fish_gain1q", "cnv_del1p"): 2.0,
        ("fish_del17p", "TP53"): 12.0,
        ("KRAS", "NRAS"): 0.4,
        ("fish_t_4_14", "FGFR3"): 6.0,
    },
    correlations={
        ("beta2_microglobulin", "creatinine"): 0.55,
        ("beta2_microglobulin", "albumin"): -0.30,
        ("beta2_microglobulin", "hemoglobin"): -0.45,
        ("hemoglobin", "albumin"): 0.35,
        ("hemoglobin", "bone_marrow_plasma_cells"): -0.35,
        ("bone_marrow_plasma_cells", "beta2_microglobulin"): 0.30,
        ("age", "creatinine"): 0.15,
        ("ldh", "fish_del17p"): 0.15,
        ("hemoglobin", "platelets"): 0.20,
        ("m_protein", "albumin"): -0.35,
    },
)

RADIOLOGY = Factors(
    prefix="radiomics_",
    modality="radiology",
    width=48,
    depends=(
        {"bone_marrow_plasma_cells": 0.5, "ldh": 0.3},  # metabolic tumour volume
        {"fish_gain1q": 0.3},  # heterogeneity of uptake
        {},  # extramedullary disease
        {"hemoglobin": -0.4},  # diffuse marrow uptake
        {"age": 0.4},  # bone density
        {},  # what the scanner adds
    ),
)

HAZARD = Hazard(
    terms={
        "age": Term(0.35, 65, 10),
        "hemoglobin": Term(-0.06, 10.8),
        "albumin": Term(-0.30, 3.75),
        "beta2_microglobulin": Term(0.45, np.log2(3.7).item(), log2=True),
        "ldh": Term(0.45, np.log2(180).item(), log2=True),
        "fish_del17p": Term(0.58),
        "fish_t_4_14": Term(0.51),
        "fish_t_14_16": Term(0.17),
        "fish_gain1q": Term(0.40),
        "cnv_del1p": Term(0.45),
        "cnv_hyperdiploid": Term(-0.30),
        "MYC": Term(0.30),
        "TP53": Term(0.60),
        "DIS3": Term(0.25),
        "radiology/1": Term(0.55),
        "radiology/2": Term(0.50),
        "radiology/3": Term(0.55),
    },
    median=9.0,
    shape=1.2,
    follow_up=(1.0, 11.0),
    lost=0.05,
)

_DICTIONARY = {f.name: f for f in Dictionary.read("mm").schema().features}
_LEFT_OUT = ("kappa_light_chains", "lambda_light_chains", "light_chain_ratio")
FEATURES = (
    *(f for f in _DICTIONARY.values() if f.modality == "clinical" and f.name not in _LEFT_OUT),
    *(Feature(name, "binary", "genomic") for name in ("cnv_hyperdiploid", "cnv_del1p", "MYC")),
    *(f for f in _DICTIONARY.values() if f.modality == "genomic"),
)
"""Columns, units and plausible ranges of the data dictionary, with copy numbers that it has not."""

_RARELY = ("hemoglobin", "platelets", "calcium", "creatinine", "albumin")
_FISH = (*TRANSLOCATIONS, "fish_gain1q", "fish_del13q", "fish_del17p")

MM = Disease(
    name="mm_simulated",
    population=POPULATION,
    features=FEATURES,
    hazard=HAZARD,
    centers=Centers(
        fractions=(0.32, 0.22, 0.16, 0.11, 0.09, 0.06, 0.04),
        without={"radiology": (3, 5)},  # no PET scanner
    ),
    factors=(RADIOLOGY,),
    missing={
        **dict.fromkeys(_RARELY, 0.02),
        **{"beta2_microglobulin": 0.06, "ldh": 0.06, "m_protein": 0.05, "bone_marrow_plasma_cells": 0.05},
        **dict.fromkeys(_FISH, 0.06),
        **dict.fromkeys((*MUTATIONS, "cnv_hyperdiploid", "cnv_del1p", "MYC"), 0.05),
    },
    absent={"radiology": 0.10},
    scores={"iss": ISS, "r_iss": R_ISS, "r2_iss": R2_ISS},
    constants={"ldh_upper_limit": LDH_UPPER_LIMIT},
)
"""At the size of the published cohort of the field: 1,005 patients."""
