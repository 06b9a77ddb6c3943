"""Predicates that single out: what they are true of, and how many would single out in a larger table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from experiments.synthetic.distances import is_numeric, records
from experiments.synthetic.singling_out import (
    AT_LEAST,
    AT_MOST,
    EQUAL,
    MISSING,
    Predicates,
    _one_of,
    multivariate,
    risk,
    univariate,
)
from harmonization import Cohort


def test_predicates_say_what_they_say() -> None:
    table = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, 7.0]])
    two = Predicates(
        np.array([[0, 1], [0, 1]]), np.array([[AT_LEAST, MISSING], [AT_MOST, EQUAL]]), np.array([[2, np.nan], [2.5, 5]])
    )
    np.testing.assert_array_equal(two.holds(table), [[False, True, False], [True, False, False]])
    np.testing.assert_array_equal(two.counts(table), [1, 1])


@pytest.mark.parametrize("make", [univariate, multivariate])
def test_each_is_true_of_one_synthetic_patient_and_none_comes_twice(
    make: Callable[..., Predicates], draw_patients: Callable[[int, int], Cohort]
) -> None:
    cohort = draw_patients(80, 1)
    table = records(cohort)
    found = make(table, is_numeric(cohort.schema), np.random.default_rng(0), 200)
    assert 0 < len(found) <= 200
    assert (found.counts(table) == 1).all()
    written = {
        (c.tobytes(), k.tobytes(), v.tobytes())
        for c, k, v in zip(found.column, found.comparison, found.value, strict=True)
    }
    assert len(written) == len(found)


def test_the_risk_is_the_share_of_predicates_that_give_a_patient_away(
    draw_patients: Callable[[int, int], Cohort],
) -> None:
    """Against the control attack on as many patients who were never seen, for none, half and all being leaked."""
    rng = np.random.default_rng(0)
    train, heldout, fresh, others = (records(draw_patients(n, i)) for i, n in enumerate((300, 200, 300, 300)))
    numeric = is_numeric(draw_patients(1, 1).schema)
    risks = []
    for leaked in (0, 150, 300):
        predicates = multivariate(np.concatenate([train[:leaked], fresh[leaked:]]), numeric, rng, 800)
        found = risk(predicates, train, heldout, rng)
        success, by_chance = ((predicates.counts(table) == 1).mean() for table in (train, others))
        assert found.value == pytest.approx((success - by_chance) / (1 - by_chance), abs=0.1)
        assert (found.low > 0) == (leaked > 0)
        risks.append(found.value)
    assert risks[0] < risks[1] < risks[2]
    assert risks[2] == pytest.approx(1)


def test_chance_is_a_lottery() -> None:
    """By simulation: a property of 3 among 10, of whom 6 are drawn."""
    rng = np.random.default_rng(0)
    drawn = rng.permuted(np.tile(np.arange(10), (20_000, 1)), axis=1)[:, :6]
    assert _one_of(np.array([3]), 10, 6)[0] == pytest.approx(((drawn < 3).sum(axis=1) == 1).mean(), abs=0.01)
