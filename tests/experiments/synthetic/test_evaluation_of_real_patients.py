"""What real AML and MDS patients score in place of synthetic ones: the ceiling, and what shuffled columns lose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.datasets import load_dataset
from experiments.synthetic.fidelity import fidelity
from experiments.synthetic.utility import utility
from harmonization import Cohort

pytestmark = pytest.mark.slow


def held_out(name: str, data_dir: Path) -> tuple[Cohort, Cohort]:
    """Four fifths to train on, and a fifth to test with."""
    cohort = load_dataset(name, data_dir).cohort
    order = np.random.default_rng(0).permutation(len(cohort))
    return cohort[order[len(cohort) // 5 :]], cohort[order[: len(cohort) // 5]]


@pytest.mark.parametrize("name", ["aml_amlsg", "mds_iwg"])
def test_real_patients_are_the_ceiling_of_fidelity(name: str, data_dir: Path) -> None:
    train, test = held_out(name, data_dir)
    order = np.random.default_rng(1).permuted(np.tile(np.arange(len(train)), (train.values.shape[1], 1)), axis=1).T
    shuffled = replace(train, values=np.take_along_axis(train.values, order, axis=0))
    real, independent = fidelity(test, train, seed=0), fidelity(test, shuffled, seed=0)
    print(f"{name}: real {real}, independent columns {independent}")  # shown by pytest -s
    assert real["csf"] > 0.95
    assert real["csf"] > independent["csf"] + 0.02
    assert real["gsf"] > 0.945
    assert real["gsf"] > independent["gsf"] + 0.015
    assert real["discriminator_accuracy"] < 0.58
    assert 0.8 < real["pmse_ratio"] < 1.2 < independent["pmse_ratio"]


def test_one_half_of_real_patients_in_place_of_the_other(data_dir: Path) -> None:
    train, test = held_out("aml_amlsg", data_dir)
    found = utility(train[np.arange(0, len(train), 2)], test, train[np.arange(1, len(train), 2)], seed=0)
    print(f"aml_amlsg, half for half: {found}")
    assert abs(found["tstr_c"] - found["trtr_c"]) < 0.03
    assert found["hazard_ratio_coverage"] > 0.65
    assert found["cluster_ari"] > 0.5
