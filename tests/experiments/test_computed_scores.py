"""Prognostic scores computed for an experiment: from all columns of the cohort, beside those that it carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.config import parse_config
from experiments.settings import ConfigError
from experiments.study import Study
from models.prognostic import ELN_2022


def study(name: str, data_dir: Path | None, scores: list[str], **dataset: object) -> Study:
    partition = {"name": "fractions", "parameters": {"fractions": [0.6, 0.3, 0.1]}}
    section = {"name": name, **dataset}
    config = {"dataset": section, "partition": partition, "evaluation": {"scores": scores}}
    return Study.load(parse_config(config), data_dir)


def test_scores_are_those_of_the_columns_in_the_studys_order(data_dir: Path) -> None:
    loaded = study("aml_amlsg", data_dir, ["ELN 2017", "ELN 2022"])
    assert list(loaded.computed_scores) == ["eln_2017", "eln_2022"]
    expected = ELN_2022(loaded.cohort.to_frame())["score"].to_numpy()
    np.testing.assert_array_equal(loaded.computed_scores["eln_2022"], expected)
    assert np.isfinite(expected).sum() == 1252


def test_models_need_not_see_what_a_score_reads(data_dir: Path) -> None:
    clinical = study("mds_iwg", data_dir, ["IPSS-M"], modalities=["clinical"])
    assert {f.modality for f in clinical.schema.features} == {"clinical"}
    (name,) = clinical.computed_scores
    assert name == "ipss_m_recomputed"  # the data set carries the published one
    ours, theirs = clinical.computed_scores[name], clinical.cohort.scores[:, 1]
    both = np.isfinite(theirs)
    assert np.isfinite(ours).all()
    assert np.mean(np.abs(ours - theirs)[both] < 0.0101) > 0.99


def test_a_score_that_cannot_be_computed_is_said_before_training() -> None:
    with pytest.raises(ConfigError, match=r"evaluation.scores: IPSS-R reads column 'hemoglobin'.*does not have"):
        study("gbsg2", None, ["IPSS-R"])
