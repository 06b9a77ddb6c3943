"""Acute myeloid leukaemia in three trials of the AMLSG, 45 real hospitals (Papaemmanuil 2016, Gerstung 2017)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.datasets.dataset import Card, DatasetError, Labels
from harmonization import Cohort, Feature, Schema
from harmonization.schema import (
    DAYS_PER,
    EVENT,
    ID,
    KNOWN,
    MISSING,
    NOT_FOUND,
    TIME,
    Implication,
    implications_among,
    names_of,
)

FOLDER = Path("aml_amlsg")
CLINICAL, MUTATIONS, SEQUENCED = "AMLSG_Clinical_Anon.RData", "AMLSG_Genetic.txt", "AMLSG_FLT3ITD.txt"

CARD = Card(
    description="1,540 adults with newly diagnosed acute myeloid leukaemia in 45 hospitals (194 to 1 patients); "
    "overall survival, 904 deaths; clinical values, karyotype and oncogenic mutations at diagnosis; ELN 2011 for "
    "comparison.",
    source="https://github.com/gerstung-lab/AML-multistage, folder data; put the files in aml_amlsg/",
    licence="GPL-3",
    files=tuple(str(FOLDER / file) for file in (CLINICAL, MUTATIONS, SEQUENCED)),
)

CLINICAL_FEATURES = (
    Feature("age", "continuous", unit="years", low=16, high=110, reference=50),
    Feature("male", "binary"),
    Feature("aml_type", "categorical", categories=("primary", "secondary", "therapy_related", "other")),
    Feature("hemoglobin", "continuous", unit="g/dL", low=2, high=25, reference=9),
    Feature("platelets", "continuous", unit="10^9/L", low=0, high=3000, reference=80),
    Feature("wbc", "continuous", unit="10^9/L", low=0, high=1000, reference=35),
    Feature("ldh", "continuous", unit="U/L", low=0, high=30000, reference=630),
    Feature("bone_marrow_blasts", "continuous", unit="%", low=0, high=100, reference=70),
    Feature("peripheral_blasts", "continuous", unit="%", low=0, high=100, reference=40),
    Feature("ecog", "count", low=0, high=4, reference=1),
    Feature("splenomegaly", "binary"),
)

AML_TYPE = {"AML": "primary", "sAML": "secondary", "tAML": "therapy_related", "oAML": "other"}

KARYOTYPE = (
    "inv3_t3_3",
    "t_9_22",
    "minus5_5q",
    "minus7",
    "minus7q",
    "abn7other",
    "plus8_8q",
    "minus9q",
    "mono12_12p_abn12p",
    "plus13",
    "mono17_17p_abn17p",
    "minus18_18q",
    "minus20_20q",
    "plus21",
    "plus22",
    "minusY",
    "t_15_17",
    "t_8_21",
    "inv16_t16_16",
    "t_6_9",
    "abn3q_other",
    "plus11_11q",
    "mono4_4q_abn4q",
    "complex",
    "t_9_11",
    "t_v_11",
)

BY_KARYOTYPE_ALONE = ("inv3_t3_3", "plus13", "t_6_9", "plus11_11q", "mono4_4q_abn4q", "t_9_11")
"""Missing in all patients without a karyotype, as is ``t_v_11``. Of the others some were found in another way."""

GENES_IN_CLINICAL_TABLE = ("NPM1", "FLT3_ITD", "FLT3_TKD", "FLT3_other", "MLL_PTD")
"""Taken from the clinical table, as the publisher does, so their rows in the mutation file are not used again."""

IMPLICATIONS = (
    # One number of variants says both.
    Implication(("CEBPA_mono", 1), (("CEBPA_bi", 0),)),
    Implication(("CEBPA_bi", 1), (("CEBPA_mono", 0),)),
    Implication(("CEBPA_mono", MISSING), (("CEBPA_bi", MISSING),)),
    Implication(("CEBPA_bi", MISSING), (("CEBPA_mono", MISSING),)),
    Implication(("male", 0), (("minusY", NOT_FOUND),)),
    # These are not called complex, whatever there is beside them (ELN). The publisher does not hold to it for
    # inv(3) and translocations of 11q23.
    *(Implication((name, 1), (("complex", NOT_FOUND),)) for name in ("t_15_17", "t_8_21", "inv16_t16_16", "t_6_9")),
    # Whether there is a karyotype: it shows all chromosomes.
    Implication(("t_v_11", MISSING), tuple((name, MISSING) for name in BY_KARYOTYPE_ALONE)),
    Implication(("t_v_11", KNOWN), tuple((name, KNOWN) for name in KARYOTYPE if name != "t_v_11")),
)

RECURRENT = 2
"""An alteration is a feature if at least so many patients have it."""

# As in the publication. In these trials the published order is not that of survival: Inter-1 did worse than Inter-2.
ELN_2011 = {"Favorable": 0, "Inter-1": 1, "Inter-2": 2, "Adverse": 3}


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, Labels]:
    """All patients and their hospitals, labelled ``C01`` to ``C46`` by the publisher's number (there is no 4)."""
    assert data_dir is not None, "the registry looks for the files"
    patients = _clinical_table(data_dir / FOLDER / CLINICAL)
    genomic = pd.concat([_from_clinical_table(patients), _mutations(data_dir / FOLDER, patients.index)], axis=1)
    genomic = genomic.loc[:, genomic.sum() >= RECURRENT]
    schema = Schema(
        name="aml_amlsg",
        version="1",
        features=(*CLINICAL_FEATURES, *(Feature(name, "binary", "genomic") for name in genomic.columns)),
        scores=(Feature("eln_2011", "count", low=0, high=3),),
        implications=implications_among(IMPLICATIONS, (*names_of(CLINICAL_FEATURES), *genomic.columns)),
    )
    table = pd.DataFrame(
        {
            ID: patients.index,
            TIME: _numbers(patients["OS"]) / DAYS_PER["years"],
            EVENT: _numbers(patients["Status"]),
            "age": _numbers(patients["AOD"]),
            "male": _numbers(patients["gender"]).map({1: 1, 2: 0}),
            "aml_type": patients["TypeAML"].astype(str).map(AML_TYPE),
            "hemoglobin": _numbers(patients["HB"]),
            "platelets": _numbers(patients["platelet"]),
            "wbc": _numbers(patients["wbc"]),
            "ldh": _numbers(patients["LDH"]),
            "bone_marrow_blasts": _numbers(patients["BM_Blasts"]),
            "peripheral_blasts": _numbers(patients["PB_Blasts"]),
            "ecog": _numbers(patients["Performance_ECOG"]),
            "splenomegaly": _numbers(patients["Splenomegaly"]),
            "eln_2011": patients["M_Risk"].astype(object).map(ELN_2011),
        },
    ).join(genomic)
    cohort = Cohort.from_frame(table, schema, source=str(data_dir / FOLDER))
    center = np.array([f"C{number:02.0f}" for number in _numbers(patients["Center"])])
    return cohort, center


def _clinical_table(path: Path) -> pd.DataFrame:
    try:
        import rdata  # an optional dependency
    except ImportError:
        raise DatasetError("data set 'aml_amlsg' needs the package rdata: pip install 'haemfed[data]'") from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Missing constructor for R class")  # dates that are not used
        table: pd.DataFrame = rdata.read_rda(path)["clinicalData"]
    return table.set_index(table["PDID"].astype(str))


def _from_clinical_table(patients: pd.DataFrame) -> pd.DataFrame:
    """Karyotype and the genes tested at diagnosis; not tested stays missing."""
    columns = {name: _numbers(patients[name]) for name in (*KARYOTYPE, *GENES_IN_CLINICAL_TABLE)}
    # The publisher has t(9;11) as absent also where other translocations of 11q23 were not looked for.
    columns["t_9_11"] = columns["t_9_11"].mask((columns["t_9_11"] == 0) & columns["t_v_11"].isna())
    alleles = _numbers(patients["CEBPA"])
    columns["CEBPA_mono"] = (alleles == 1).astype(float).where(alleles.notna())
    columns["CEBPA_bi"] = (alleles == 2).astype(float).where(alleles.notna())
    return pd.DataFrame(columns)


def _mutations(folder: Path, ids: pd.Index) -> pd.DataFrame:
    """One 0/1 column per gene with an oncogenic call.

    The mutation file has rows for mutations only. Patients without one (161 of 1,540) were sequenced: the FLT3-ITD file
    gives the coverage of each of them, and the publisher's own matrix has them as wild type.
    """
    calls = pd.read_csv(folder / MUTATIONS, sep="\t", encoding="latin1", low_memory=False)
    calls = calls[calls["Result"] == "ONCOGENIC"]
    gene = calls["GENE"].replace({"SFRS2": "SRSF2"})  # the publisher's misprint
    change = calls["AA_CHANGE"].fillna("")
    for codon, name in (("R140", "IDH2_p140"), ("R172", "IDH2_p172")):  # they differ in prognosis
        gene = gene.mask((gene == "IDH2") & change.str.contains(codon), name)
    gene = gene[~gene.isin(["NPM1", "FLT3", "MLL", "CEBPA"])]
    matrix = pd.crosstab(calls.loc[gene.index, "SAMPLE_NAME"], gene).clip(upper=1)
    sequenced = pd.read_csv(folder / SEQUENCED, sep="\t", encoding="latin1")["ID"]
    matrix = matrix.reindex(ids).fillna(0.0)
    matrix[~ids.isin(sequenced)] = np.nan
    return matrix


def _numbers(column: pd.Series) -> pd.Series:
    """R's integers, flags and numbers as float64, its NA as NaN."""
    return column.astype("float64")
