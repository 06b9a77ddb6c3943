"""Myelodysplastic syndromes of the International Working Group for Prognosis (Bernard 2022)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.datasets.dataset import Card, DatasetError
from experiments.datasets.sksurv_bundle import flag
from harmonization import Cohort, Feature, Schema
from harmonization.schema import EVENT, ID, MISSING, TIME, Implication

logger = logging.getLogger(__name__)

FOLDER = Path("mds_iwg")
CLINICAL, MUTATIONS, KARYOTYPE = "df_clinical.tsv", "df_mut.tsv", "df_cna.tsv"

CARD = Card(
    description="2,811 patients with myelodysplastic syndrome (of 2,957; 146 without follow-up are left out); overall "
    "survival, 1,354 deaths; clinical values, karyotype and mutations at diagnosis; IPSS-R and IPSS-M for comparison "
    "(IPSS-M was derived on these patients). With the option endpoint: transformation, what comes first: AML (409) or "
    "death without it (936), in the 2,609 of whom it is known.",
    source="https://github.com/papaemmelab/IPSSMstudy, folder data; put the files in mds_iwg/",
    licence="ODbL 1.0 (cBioPortal, study mds_iwg_2022)",
    files=tuple(str(FOLDER / file) for file in (CLINICAL, MUTATIONS, KARYOTYPE)),
    options=("endpoint",),
)

ENDPOINTS = ("survival", "transformation")
CAUSES = ("AML", "death without AML")
"""Of the endpoint ``transformation``."""

CLINICAL_FEATURES = (
    Feature("age", "continuous", unit="years", low=0, high=120, reference=70),
    Feature("male", "binary"),
    Feature("bone_marrow_blasts", "continuous", unit="%", low=0, high=100, reference=4),
    Feature("peripheral_blasts", "continuous", unit="%", low=0, high=100, reference=1),
    Feature("wbc", "continuous", unit="10^9/L", low=0, high=1000, reference=5),
    Feature("neutrophils", "continuous", unit="10^9/L", low=0, high=500, reference=2),
    Feature("monocytes", "continuous", unit="10^9/L", low=0, high=500, reference=0.5),
    Feature("hemoglobin", "continuous", unit="g/dL", low=2, high=25, reference=10),
    Feature("platelets", "continuous", unit="10^9/L", low=0, high=3000, reference=170),
    Feature("ringed_sideroblasts", "continuous", unit="%", low=0, high=100, reference=10),
    Feature("secondary_or_therapy_related", "binary"),
)

CYTOGENETIC_FEATURES = (
    Feature("ipssr_cytogenetics", "count", "genomic", low=0, high=4, reference=1),
    Feature("complex_karyotype", "binary", "genomic"),
)

IPSSR_CYTOGENETICS = {"Very-Good": 0, "Good": 1, "Int": 2, "Poor": 3, "Very-Poor": 4}
"""The points that IPSS-R gives them."""

DERIVED = ("TET2bi", "TET2other", "TP53mono")
"""Repeat other columns. TP53multi stays beside TP53: TP53mono is TP53 without it."""

SCORES = (
    Feature("ipss_r", "continuous", low=0, high=10, reference=4),
    Feature("ipss_m", "continuous", low=-5, high=10, reference=0),
)
"""As published."""

RECURRENT = 10
"""An alteration is a feature if at least so many patients have it."""


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, None]:
    """The patients with follow-up; no centers.

    With the option ``endpoint: transformation``, the time until transformation to leukaemia or death without it.
    """
    endpoint = options.get("endpoint", ENDPOINTS[0])
    if endpoint not in ENDPOINTS:
        raise DatasetError(f"data set 'mds_iwg': endpoint is {endpoint!r}; use one of {', '.join(ENDPOINTS)}")
    assert data_dir is not None, "the registry looks for the files"
    published = Published.read(data_dir)
    genomic = published.recurrent(RECURRENT)
    schema = Schema(
        name="mds_iwg",
        version="1",
        features=(
            *CLINICAL_FEATURES,
            *CYTOGENETIC_FEATURES,
            *(Feature(name, "binary", "genomic") for name in genomic.columns),
        ),
        scores=SCORES,
        implications=(
            Implication(("TP53multi", 1), (("TP53", 1),)),
            # No karyotype: nothing is known of any chromosome.
            Implication(
                ("complex_karyotype", MISSING),
                tuple((name, MISSING) for name in genomic.columns if name in published.chromosomes),
            ),
        ),
    )
    table = published.table().join(genomic)
    if endpoint == "transformation":
        schema = replace(schema, endpoint="transformation to AML or death", causes=CAUSES)
        first = published.first_event()
        table = table.assign(**first)[first.notna().all(axis=1)]
    return Cohort.from_frame(table, schema, source=str(data_dir / FOLDER)), None


@dataclass(frozen=True, eq=False)
class Published:
    """The publisher's tables, patients with follow-up only.

    Parameters
    ----------
    patients
        Clinical table.
    alterations
        Genes and chromosomes, 0 / 1; a chromosome that nobody looked at is missing.
    untested
        Patients whose chromosomes nobody looked at.
    chromosomes
        Which alterations are of these.
    """

    patients: pd.DataFrame
    alterations: pd.DataFrame
    untested: pd.Series
    chromosomes: tuple[str, ...]

    @classmethod
    def read(cls, data_dir: Path, who_class: str | None = None) -> Published:
        """Read the files; of one WHO class, or all."""
        patients, mutations, karyotype = (
            pd.read_csv(data_dir / FOLDER / file, sep="\t", index_col="ID") for file in (CLINICAL, MUTATIONS, KARYOTYPE)
        )
        if who_class is not None:
            patients = patients[patients["WHO_2016"] == who_class]
        followed = patients["OS_YEARS"].notna() & patients["OS_STATUS"].notna()
        logger.info("mds_iwg: %d of %d patients have no follow-up and are left out", (~followed).sum(), len(patients))
        patients = patients[followed]
        mutations = mutations.loc[patients.index].drop(columns=list(DERIVED)).astype(float)
        karyotype = karyotype.loc[patients.index].astype(float)
        # Nobody looked at these chromosomes: no karyotype, no risk group, no alteration by sequencing.
        untested = patients["CYTOGENETICS"].isna() & patients["CYTO_IPSSR"].isna() & (karyotype.sum(axis=1) == 0)
        karyotype[untested] = float("nan")
        return cls(patients, pd.concat([mutations, karyotype], axis=1), untested, tuple(karyotype.columns))

    def recurrent(self, least: int) -> pd.DataFrame:
        """The alterations that at least so many patients have."""
        return self.alterations.loc[:, self.alterations.sum() >= least]

    def first_event(self) -> pd.DataFrame:
        """Time and number of the cause (`CAUSES`, 0 for censoring) of the first event; missing where not known.

        Leukaemia-free survival says when, and the status of transformation whether it was leukaemia. (Of those who
        died without it 70 were examined for the last time before, which is the publisher's time.)
        """
        patients = self.patients
        cause = patients["LFS_STATUS"].where(patients["LFS_STATUS"] == 0, 2 - patients["AMLt_STATUS"])
        return pd.DataFrame({TIME: patients["LFS_YEARS"], EVENT: cause.where(patients["AMLt_STATUS"].notna())})

    def table(self) -> pd.DataFrame:
        """Endpoint, clinical and cytogenetic features and scores, by patient."""
        patients = self.patients
        return pd.DataFrame(
            {
                ID: patients.index,
                TIME: patients["OS_YEARS"],
                EVENT: patients["OS_STATUS"],
                "age": patients["AGE"],
                "male": flag(patients["SEX"], "M"),
                "bone_marrow_blasts": patients["BM_BLAST"],
                "peripheral_blasts": patients["PB_BLAST"],
                "wbc": patients["WBC"],
                "neutrophils": patients["ANC"],
                "monocytes": patients["MONOCYTES"],
                "hemoglobin": patients["HB"],
                "platelets": patients["PLT"],
                "ringed_sideroblasts": patients["RINGED_SIDEROBLASTS"],
                "secondary_or_therapy_related": flag(patients["MDS_TYPE"], "s_t_MDS"),
                "ipssr_cytogenetics": patients["CYTO_IPSSR"].map(IPSSR_CYTOGENETICS),
                "complex_karyotype": flag(patients["complex"], "complex").mask(self.untested),
                "ipss_r": patients["IPSSR_SCORE"],
                "ipss_m": patients["IPSSM_SCORE"],
            }
        )
