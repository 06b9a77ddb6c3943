"""The patients with chronic myelomonocytic leukaemia among those of the International Working Group (Bernard 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.datasets.comparators import with_scores
from experiments.datasets.dataset import Card
from experiments.datasets.mds_iwg import (
    CARD as MDS_CARD,
)
from experiments.datasets.mds_iwg import (
    CLINICAL_FEATURES,
    CYTOGENETIC_FEATURES,
    FOLDER,
    SCORES,
    Published,
)
from harmonization import Cohort, Feature, Schema
from harmonization.karyotype import KaryotypeError, findings, parse_karyotype
from models.prognostic import CPSS, CPSS_MOL

CARD = Card(
    description="262 patients with chronic myelomonocytic leukaemia, real (of 272 in the IWG-MDS cohort; 10 without "
    "follow-up are left out; none has more than 13·10^9/L leukocytes); overall survival, 123 deaths. "
    "CPSS and CPSS-Mol are computed from the patients' own columns, with haemoglobin below 10 g/dL for transfusions, "
    "which the data do not have. IPSS-R and IPSS-M as published (IPSS-M was derived on these patients, among others).",
    source=MDS_CARD.source,
    licence=MDS_CARD.licence,
    files=MDS_CARD.files,
)

RECURRENT = 5
"""An alteration is a feature if at least so many patients have it."""

KARYOTYPE = {"plus8": "plus8", "minus7": "del7", "del7q": "del7q", "minusY": "delY"}
"""What CPSS asks for, and the publisher's column of it."""


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, None]:
    """The patients whose WHO class (2016) is CMML; no centers."""
    assert data_dir is not None, "the registry looks for the files"
    published = Published.read(data_dir, who_class="CMML")
    genomic = published.recurrent(RECURRENT)
    schema = Schema(
        name="cmml_iwg",
        version="1",
        features=(
            *CLINICAL_FEATURES,
            *CYTOGENETIC_FEATURES,
            Feature("karyotype_abnormalities", "count", "genomic", low=0, high=50, reference=0),
            *(Feature(name, "binary", "genomic") for name in genomic.columns),
        ),
        scores=SCORES,
    )
    table = published.table().assign(karyotype_abnormalities=_abnormalities(published.patients)).join(genomic)
    lesions = {name: published.alterations[column] for name, column in KARYOTYPE.items()}
    anemic = (table["hemoglobin"] < 10).astype(float).where(table["hemoglobin"].notna())
    schema, table = with_scores(
        schema, table, {"cpss": CPSS, "cpss_mol": CPSS_MOL}, {**lesions, "transfusion_dependent": anemic}
    )
    return Cohort.from_frame(table, schema, source=str(data_dir / FOLDER)), None


def _abnormalities(patients: pd.DataFrame) -> pd.Series:
    """Number of clonal abnormalities; missing where there is no karyotype or none that can be read."""

    def number(karyotype: object, sex: str) -> float:
        if not isinstance(karyotype, str):
            return float("nan")
        try:
            found = findings(parse_karyotype(karyotype, sex=sex)).number
        except KaryotypeError:
            return float("nan")
        return float("nan") if found is None else float(found)

    counts = [number(text, sex) for text, sex in zip(patients["CYTOGENETICS"], patients["SEX"], strict=True)]
    return pd.Series(counts, patients.index)
