"""ELN 2017 and 2022: every rule of the tables, and the published classes of 1,540 patients where they decide."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.prognostic import ELN_2017, ELN_2022, Score

BOTH = pytest.mark.parametrize("score", [ELN_2017, ELN_2022], ids=["2017", "2022"])


def category(score: Score, **lesions: float) -> str:
    """Class of a patient with these lesions and no other."""
    complete = {item.name: 0.0 for item in score.inputs}
    unknown = lesions.keys() - complete.keys()
    found = score(pd.DataFrame([complete | {k: v for k, v in lesions.items() if k not in unknown}]))
    return str(found["category"].iloc[0])


@pytest.mark.parametrize(
    ("lesions", "in_2017", "in_2022"),
    [
        ({}, "intermediate", "intermediate"),
        ({"t_8_21": 1}, "favorable", "favorable"),
        ({"inv16_t16_16": 1, "minus7": 1, "TP53": 1}, "favorable", "favorable"),
        ({"NPM1": 1}, "favorable", "favorable"),
        ({"NPM1": 1, "FLT3_ITD": 1, "FLT3_ITD_ratio": 0.4}, "favorable", "intermediate"),
        ({"NPM1": 1, "FLT3_ITD": 1, "FLT3_ITD_ratio": 0.5}, "intermediate", "intermediate"),
        ({"FLT3_ITD": 1, "FLT3_ITD_ratio": 0.4}, "intermediate", "intermediate"),
        ({"FLT3_ITD": 1, "FLT3_ITD_ratio": 0.5}, "adverse", "intermediate"),
        ({"CEBPA_bi": 1, "CEBPA_bzip": 1}, "favorable", "favorable"),
        ({"CEBPA_mono": 1, "CEBPA_bzip": 1}, "intermediate", "favorable"),
        ({"CEBPA_bi": 1}, "favorable", "intermediate"),  # not in the leucine zipper
        ({"t_9_11": 1}, "intermediate", "intermediate"),
        ({"t_9_11": 1, "ASXL1": 1, "TP53": 1}, "intermediate", "intermediate"),
        ({"t_9_11": 1, "minus7": 1}, "adverse", "adverse"),
        *(
            ({name: 1}, "adverse", "adverse")
            for name in ("t_6_9", "t_v_11", "t_9_22", "inv3_t3_3", "minus5_5q", "minus7", "mono17_17p_abn17p")
        ),
        *(({name: 1}, "adverse", "adverse") for name in ("complex", "monosomal_karyotype", "TP53", "RUNX1", "ASXL1")),
        *(({name: 1}, "intermediate", "adverse") for name in ("t_8_16", "t_3q26", "BCOR", "EZH2", "SF3B1", "SRSF2")),
        *(({name: 1}, "intermediate", "adverse") for name in ("STAG2", "U2AF1", "ZRSR2")),
        ({"NPM1": 1, "RUNX1": 1, "SRSF2": 1}, "favorable", "favorable"),
        ({"NPM1": 1, "ASXL1": 1, "FLT3_ITD": 1, "FLT3_ITD_ratio": 0.9}, "adverse", "adverse"),
        ({"NPM1": 1, "complex": 1}, "adverse", "adverse"),
    ],
)
def test_the_published_rules(lesions: dict[str, float], in_2017: str, in_2022: str) -> None:
    assert category(ELN_2017, **lesions) == in_2017
    assert category(ELN_2022, **lesions) == in_2022


@BOTH
def test_promyelocytic_leukaemia_is_not_classified(score: Score) -> None:
    assert category(score, t_15_17=1) == "nan"


def test_an_unknown_allelic_ratio_matters_in_2017_alone() -> None:
    assert category(ELN_2017, FLT3_ITD=1, FLT3_ITD_ratio=np.nan) == "nan"
    assert category(ELN_2017, FLT3_ITD=1, FLT3_ITD_ratio=np.nan, complex=1) == "adverse"
    assert category(ELN_2022, FLT3_ITD=1) == "intermediate"


def test_cebpa_without_its_position_is_unknown_in_2022() -> None:
    assert category(ELN_2022, CEBPA_bzip=np.nan, CEBPA_bi=1) == "nan"
    assert category(ELN_2022, CEBPA_bzip=np.nan) == "intermediate"


@pytest.fixture(scope="module")
def published(data_dir: Path) -> pd.DataFrame:
    """Lesions and published classes (ELN 2011, and by karyotype alone) of the AMLSG trials."""
    rdata = pytest.importorskip("rdata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = rdata.read_rda(data_dir / "aml_amlsg" / "AMLSG_Clinical_Anon.RData")["clinicalData"]
    table.index = table["PDID"].astype(str)
    names = {item.name for score in (ELN_2017, ELN_2022) for item in score.inputs}
    lesions = pd.DataFrame({name: table[name].astype("float64") for name in sorted(names & set(table.columns))})
    alleles = table["CEBPA"].astype("float64")
    for number, name in enumerate(("CEBPA_mono", "CEBPA_bi"), start=1):
        lesions[name] = (alleles == number).astype(float).where(alleles.notna())
    calls = pd.read_csv(data_dir / "aml_amlsg" / "AMLSG_Genetic.txt", sep="\t", encoding="latin1", low_memory=False)
    calls = calls[calls["Result"] == "ONCOGENIC"].replace({"GENE": {"SFRS2": "SRSF2"}})
    matrix = pd.crosstab(calls["SAMPLE_NAME"], calls["GENE"]).clip(upper=1).reindex(lesions.index).fillna(0)
    for gene in sorted(names & set(matrix.columns) - set(lesions)):
        lesions[gene] = matrix[gene]
    return lesions.assign(
        eln_2011=table["M_Risk"].astype(object), karyotype=table["C_Risk"].astype(object), normal=table["NK"] == 1
    )


@BOTH
def test_published_karyotype_risk_is_kept(score: Score, published: pd.DataFrame) -> None:
    ours = score(published)["category"]
    adverse = published["karyotype"] == "Adverse"
    assert adverse.sum() == 253
    assert (ours[adverse] == "adverse").all()
    favorable = (published["karyotype"] == "Favorable") & (published["t_15_17"] == 0)
    assert favorable.sum() == 141
    assert (ours[favorable] == "favorable").all()


def test_what_left_and_entered_the_favorable_class(published: pd.DataFrame) -> None:
    # In 2011: NPM1 without ITD or CEBPA mutated at all, both with a normal karyotype only.
    was = (published["eln_2011"] == "Favorable") & (published["karyotype"] != "Favorable")
    middle = published["eln_2011"].isin(["Inter-1", "Inter-2"])
    ours = ELN_2017(published)["category"]
    left = was & ours.isin(["intermediate", "adverse"])
    one_allele = (published["CEBPA_mono"] == 1) & ((published["NPM1"] == 0) | (published["FLT3_ITD"] == 1))
    assert left.sum() == 15
    assert (one_allele | (published["TP53"] == 1))[left].all()  # both no longer favorable in 2017
    entered = middle & (ours == "favorable")
    assert entered.sum() == 58
    lesion = ((published["NPM1"] == 1) & (published["FLT3_ITD"] == 0)) | (published["CEBPA_bi"] == 1)
    assert lesion[entered].all()
    assert (~published["normal"])[entered].sum() == 45  # the others: NPM1 or CEBPA not known when it was published
    stayed = was & (ours == "favorable")
    assert stayed.sum() == 238

    newer = ELN_2022(published)["category"]
    changed = was & (newer == "intermediate")
    assert ((published["NPM1"] == 1) & (published["FLT3_ITD"] == 1))[changed].all()  # whatever the allelic ratio


def test_each_class_has_its_share_of_patients(published: pd.DataFrame) -> None:
    # Of 1,540; the others lack a karyotype or the allelic ratio that decides.
    for score in (ELN_2017, ELN_2022):
        counts = score(published)["category"].value_counts()
        assert counts.min() > 250
        assert list(counts.index.categories) == ["favorable", "intermediate", "adverse"]
