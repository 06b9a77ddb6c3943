"""What all scores have in common: checked input, one form of output, missing inputs never guessed silently."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.prognostic import IPSS_R, SCORES, Score, ScoreError

ALL = pytest.mark.parametrize("score", SCORES.values(), ids=list(SCORES))


def random_table(score: Score, n: int, seed: int = 0, missing: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for item in score.inputs:
        continuous = bool(item.unit) or item.name in ("TP53_vaf", "FLT3_ITD_ratio")
        values = rng.uniform(item.low, item.high, n) if continuous else rng.random(n) < 0.1
        if not continuous and item.high > 1:
            values = rng.integers(item.low, min(item.high, 5) + 1, n)
        columns[item.name] = np.where(rng.random(n) < missing, np.nan, values)
    if "t_15_17" in columns:
        columns["t_15_17"] = np.zeros(n)
    return pd.DataFrame(columns, index=[f"p{i}" for i in range(n)])


@ALL
def test_complete_patients_have_one_score_and_one_category(score: Score) -> None:
    table = random_table(score, 400)
    found = score(table)
    assert list(found.index) == list(table.index)
    assert list(found) == ["score", "category", "score_best", "category_best", "score_worst", "category_worst"]
    assert found.notna().all(axis=None)
    for end in ("best", "worst"):
        np.testing.assert_array_equal(found["score"], found[f"score_{end}"])
    assert found["category"].cat.ordered
    assert tuple(found["category"].cat.categories) == score.categories
    assert found.groupby("category", observed=True)["score"].max().is_monotonic_increasing
    assert found["category"].nunique() >= 2


@ALL
def test_a_patient_is_scored_alike_in_any_company(score: Score) -> None:
    table = random_table(score, 60, missing=0.2)
    found = score(table)
    pd.testing.assert_frame_equal(score(table.iloc[[7, 3]]), found.iloc[[7, 3]])
    assert len(score(table.iloc[:0])) == 0


# Where one of them is unknown, another is taken at its word.
SPEAK_FOR_EACH_OTHER = ("TP53multi", "FLT3", "FLT3_ITD", "transfusion_dependent", "t_15_17")


@ALL
def test_hiding_inputs_widens_the_range_around_the_complete_score(score: Score) -> None:
    table = random_table(score, 300, seed=1)
    hidden = table.mask(np.random.default_rng(2).random(table.shape) < 0.15)
    hidden = hidden.assign(**{name: table[name] for name in SPEAK_FOR_EACH_OTHER if name in table})
    full, partial = score(table), score(hidden)
    assert (partial["score_best"] <= full["score"] + 0.011).all()
    assert (partial["score_worst"] >= full["score"] - 0.011).all()
    certain = partial["category"].notna() & (partial["category_best"] == partial["category_worst"])
    assert (partial["category"] == full["category"])[certain].all()
    assert certain.sum() > 5
    assert (partial["score_worst"] > partial["score_best"]).sum() > 40


@ALL
def test_sources_and_needs_are_said(score: Score) -> None:
    assert "table" in score.source or "figure" in score.source
    assert len(score.upper) == len(score.categories) - 1
    assert len({item.name for item in score.inputs}) == len(score.inputs)
    assert all(item.meaning for item in score.inputs)
    assert score.missing


def test_bad_input_is_named() -> None:
    good = random_table(IPSS_R, 3)
    with pytest.raises(ScoreError, match=r"IPSS-R reads column 'neutrophils' .*10\^9/L.*does not have"):
        IPSS_R(good.drop(columns="neutrophils"))
    with pytest.raises(ScoreError, match=r"'hemoglobin'.*g/dL.*row 'p1' has 98.*another unit"):
        IPSS_R(good.assign(hemoglobin=[9.8, 98, 10]))
    with pytest.raises(ScoreError, match=r"'platelets'.*not a number"):
        IPSS_R(good.assign(platelets=["low", 1, 2]))
