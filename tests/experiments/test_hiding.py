"""Blocks hidden at some centers: which, seeded; every value missing there and none elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments.config import Config, parse_config
from experiments.datasets.hiding import hidden_blocks
from experiments.partition import PartitionError
from experiments.settings import ConfigError
from experiments.study import Study

NAMES = tuple(f"C{i:02d}" for i in range(10))


def test_a_fraction_is_that_of_the_centers_whatever_else_is_hidden() -> None:
    lacking = hidden_blocks({"genomic": 0.5}, NAMES, 1)
    assert len(lacking) == 5
    assert set(lacking.values()) == {("genomic",)}
    both = hidden_blocks({"genomic": 0.5, "radiology": 0.3}, NAMES, 1)
    assert {name for name, blocks in both.items() if "genomic" in blocks} == set(lacking)
    assert sum("radiology" in blocks for blocks in both.values()) == 3
    assert hidden_blocks({"genomic": 0.5}, NAMES, 2) != lacking
    assert hidden_blocks({"genomic": 0}, NAMES, 1) == {}


def test_centers_may_be_named() -> None:
    assert hidden_blocks({"genomic": ("C03", "C01")}, NAMES, 1) == {"C03": ("genomic",), "C01": ("genomic",)}
    with pytest.raises(PartitionError, match=r"hide.genomic.*'C1'.*C01"):
        hidden_blocks({"genomic": ("C1",)}, NAMES, 1)


def config(hide: Any) -> Config:
    return parse_config(
        {
            "dataset": {"name": "gbsg2", "hide": hide},
            "partition": {"name": "fractions", "parameters": {"fractions": [0.6, 0.4]}},
        }
    )


def test_the_study_and_the_centers_own_source_lack_the_block() -> None:
    study, whole = Study.load(config({"clinical": ["C02"]}), None), Study.load(config({}), None)
    assert np.isnan(study.cohorts["C02"].values).all()
    np.testing.assert_array_equal(study.cohorts["C01"].values, whole.cohorts["C01"].values)
    np.testing.assert_array_equal(study.cohorts["C02"].time, whole.cohorts["C02"].time)
    assert study.schema.hash == whole.schema.hash
    for spec in study.specs():
        np.testing.assert_array_equal(spec.source().values, study.cohorts[spec.name].values)


def test_what_cannot_be_hidden_is_named() -> None:
    with pytest.raises(PartitionError, match="no genomic features; they have clinical"):
        Study.load(config({"genomic": 0.5}), None)
    with pytest.raises(ConfigError, match="hide"):
        config({"genomics": 0.5})
    with pytest.raises(ConfigError, match="hide"):
        config({"genomic": 1.5})
