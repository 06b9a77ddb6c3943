"""CPSS, CPSS-Mol, ISS, R-ISS, R2-ISS: every line of the published tables, written out independently of the code."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from models.prognostic import CPSS, CPSS_MOL, IPSS_R, ISS, R2_ISS, R_ISS, Score


def only(score: Score, row: dict[str, float]) -> pd.Series:
    found: pd.Series = score(pd.DataFrame([row])).iloc[0]
    return found


HEALTHY_R = {
    "hemoglobin": 12.0,
    "platelets": 200.0,
    "neutrophils": 2.0,
    "bone_marrow_blasts": 1.0,
    "ipssr_cytogenetics": 0.0,
}


@pytest.mark.parametrize(
    ("column", "values_and_points"),
    [
        ("ipssr_cytogenetics", [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]),
        ("bone_marrow_blasts", [(0, 0), (2, 0), (2.1, 1), (4.9, 1), (5, 2), (10, 2), (10.1, 3), (30, 3)]),
        ("hemoglobin", [(10, 0), (9.9, 1), (8, 1), (7.9, 1.5)]),
        ("platelets", [(100, 0), (99, 0.5), (50, 0.5), (49, 1)]),
        ("neutrophils", [(0.8, 0), (0.79, 0.5)]),
    ],
)
def test_ipss_r_points(column: str, values_and_points: list[tuple[float, float]]) -> None:
    for value, points in values_and_points:
        assert only(IPSS_R, {**HEALTHY_R, column: value})["score"] == points, (column, value)


@pytest.mark.parametrize(
    ("microglobulin", "albumin", "stage"),
    [(3.4, 3.5, "I"), (3.4, 3.4, "II"), (3.5, 4.0, "II"), (5.4, 4.0, "II"), (5.5, 4.0, "III"), (9.0, 2.0, "III")],
)
def test_iss(microglobulin: float, albumin: float, stage: str) -> None:
    assert only(ISS, {"beta2_microglobulin": microglobulin, "albumin": albumin})["category"] == stage


def test_iss_without_albumin_is_certain_at_stage_three_alone() -> None:
    assert only(ISS, {"beta2_microglobulin": 6.0, "albumin": np.nan})["category"] == "III"
    unknown = only(ISS, {"beta2_microglobulin": 3.0, "albumin": np.nan})
    assert pd.isna(unknown["category"])
    assert (unknown["category_best"], unknown["category_worst"]) == ("I", "II")


STAGES = {"I": (3.0, 4.0), "II": (4.0, 4.0), "III": (6.0, 3.0)}
FISH = ("fish_del17p", "fish_t_4_14", "fish_t_14_16", "fish_gain1q")


@pytest.mark.parametrize("stage", STAGES)
def test_r_iss_and_r2_iss(stage: str) -> None:
    microglobulin, albumin = STAGES[stage]
    for ldh, *fish in itertools.product((200.0, 260.0), *[(0.0, 1.0)] * 4):
        row = {"beta2_microglobulin": microglobulin, "albumin": albumin, "ldh": ldh, "ldh_upper_limit": 250.0}
        row |= dict(zip(FISH, fish, strict=True))
        high_ldh, high_risk = ldh > 250, any(fish[:3])
        if stage == "III" and (high_ldh or high_risk):
            expected = "III"
        elif stage == "I" and not high_ldh and not high_risk:
            expected = "I"
        else:
            expected = "II"
        assert only(R_ISS, row)["category"] == expected, row
        points = {"I": 0, "II": 1, "III": 1.5}[stage] + high_ldh + fish[0] + fish[1] + fish[3] / 2
        found = only(R2_ISS, row)
        assert found["score"] == points
        names = [(0, "low"), (1, "low-intermediate"), (2.5, "intermediate-high"), (5, "high")]
        assert found["category"] == next(name for top, name in names if points <= top)


def test_r_iss_of_stage_two_needs_no_fish() -> None:
    row = {"beta2_microglobulin": 4.0, "albumin": 4.0, "ldh": np.nan, "ldh_upper_limit": 250.0}
    found = only(R_ISS, row | dict.fromkeys(FISH, np.nan))
    assert found["category"] == "II"
    assert found["score"] == 2


CMML = {
    "bone_marrow_blasts": 3.0,
    "peripheral_blasts": 1.0,
    "wbc": 8.0,
    "transfusion_dependent": 0.0,
    "hemoglobin": 12.0,
    "karyotype_abnormalities": 0.0,
    "plus8": 0.0,
    "minus7": 0.0,
    "del7q": 0.0,
    "minusY": 0.0,
    "ASXL1": 0.0,
    "NRAS": 0.0,
    "RUNX1": 0.0,
    "SETBP1": 0.0,
}


@pytest.mark.parametrize(
    ("changes", "cpss", "cpss_mol"),
    [
        ({}, 0, 0),
        ({"bone_marrow_blasts": 5.0}, 0, 1),
        ({"bone_marrow_blasts": 10.0}, 1, 1),
        ({"peripheral_blasts": 5.0}, 1, 0),
        ({"wbc": 13.0}, 1, 1),
        ({"wbc": 12.9}, 0, 0),
        ({"transfusion_dependent": 1.0}, 1, 1),
        ({"hemoglobin": 9.0}, 0, 0),  # transfusions are known
        ({"minusY": 1.0, "karyotype_abnormalities": 1.0}, 0, 0),
        ({"minusY": 1.0, "karyotype_abnormalities": 2.0}, 1, 1),
        ({"karyotype_abnormalities": 1.0}, 1, 1),
        ({"karyotype_abnormalities": 3.0}, 2, 2),
        ({"plus8": 1.0, "karyotype_abnormalities": 1.0}, 2, 2),
        ({"minus7": 1.0, "karyotype_abnormalities": 1.0}, 2, 2),
        ({"del7q": 1.0, "karyotype_abnormalities": 1.0}, 2, 2),
        ({"ASXL1": 1.0}, 0, 1),
        ({"NRAS": 1.0, "SETBP1": 1.0}, 0, 2),
        ({"RUNX1": 1.0}, 0, 2),
        ({"RUNX1": 1.0, "ASXL1": 1.0, "NRAS": 1.0}, 0, 3),  # the genetic group ends at 3
        ({"RUNX1": 1.0, "plus8": 1.0, "wbc": 20.0, "bone_marrow_blasts": 12.0}, 4, 5),
    ],
)
def test_cpss(changes: dict[str, float], cpss: int, cpss_mol: int) -> None:
    groups = ("low", "intermediate-1", "intermediate-2", "intermediate-2", "high", "high", "high")
    for score, points in ((CPSS, cpss), (CPSS_MOL, cpss_mol)):
        found = only(score, CMML | changes)
        assert found["score"] == points, score.name
        assert found["category"] == groups[points]


def test_anemia_stands_for_unknown_transfusions_in_the_clinical_score_alone() -> None:
    unknown = CMML | {"transfusion_dependent": np.nan, "hemoglobin": 9.0}
    assert only(CPSS, unknown)["score"] == 1
    molecular = only(CPSS_MOL, unknown)
    assert (molecular["score_best"], molecular["score_worst"]) == (0, 1)
