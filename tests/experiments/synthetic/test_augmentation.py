"""Augmentation of small centers: concordances are Harrell's, good synthetic patients help, and bad ones harm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored

from experiments.synthetic import augmentation as room
from experiments.synthetic.augmentation import RealArms, augmentation, risk_of
from harmonization import Cohort

Draw = Callable[[int, int], Cohort]


@pytest.fixture(scope="module")
def centers(draw_patients: Draw) -> dict[str, Cohort]:
    return {"large": draw_patients(300, 1), "small": draw_patients(20, 2), "smaller": draw_patients(12, 3)}


@pytest.fixture(scope="module")
def real(centers: dict[str, Cohort], draw_patients: Draw) -> RealArms:
    return RealArms.fit(centers, draw_patients(200, 4), seed=1)


def test_fresh_patients_bring_a_small_center_to_the_pooled_model(
    centers: dict[str, Cohort], real: RealArms, draw_patients: Draw
) -> None:
    found = augmentation(centers, draw_patients(300, 5), real.heldout, 1, real)
    assert found["small_centers"] == 2
    assert found["augmented_gain_low"] < found["augmented_gain"] < found["augmented_gain_high"]
    assert found["augmented_gain"] == pytest.approx(found["augmented_c"] - found["isolated_c"])
    assert found["augmented_c"] > found["isolated_c"]
    assert abs(found["augmented_minus_pooled"]) < 0.02
    assert abs(found["fedavg_c"] - found["pooled_c"]) < 0.02
    assert found == augmentation(centers, draw_patients(300, 5), real.heldout, 1, real)


def test_patients_whose_outcome_is_turned_round_do_harm(
    centers: dict[str, Cohort], real: RealArms, draw_patients: Draw
) -> None:
    patients = draw_patients(300, 5)
    turned = replace(patients, time=patients.time.max() - patients.time)
    found = augmentation(centers, turned, real.heldout, 1, real)
    assert found["augmented_gain_high"] < 0
    assert found["augmented_better"] == 0


def test_concordances_are_those_of_scikit_survival(real: RealArms, centers: dict[str, Cohort]) -> None:
    test = real.heldout
    risk = risk_of(centers["large"], test)
    weights = np.ones((2, len(test)))
    weights[1, :50] = 0  # a replicate without them
    [found] = room._concordances(test, risk[None], weights)
    for value, rows in zip(found, (slice(None), slice(50, None)), strict=True):
        expected = concordance_index_censored(test.event[rows], test.time[rows], risk[rows])[0]
        assert value == pytest.approx(expected, abs=1e-12)


def test_without_a_small_center_there_is_nothing_to_augment(draw_patients: Draw) -> None:
    with pytest.raises(ValueError, match="none of 1 centers has 10 to 99 training patients"):
        RealArms.fit({"large": draw_patients(150, 1)}, draw_patients(30, 2), seed=1)
