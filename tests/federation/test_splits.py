"""Splits are drawn inside each center, and depend on nothing but seed, center and patient ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from federation.splits import TEST, TRAIN, VALIDATION, Split

FOLDS = 5


def patients(n: int, seed: int = 0, rate: float = 0.4) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    return np.array([f"id{i}" for i in range(n)]), rng.random(n) < rate


def every_fold(ids: Any, event: Any, center: str = "Bonn", **options: Any) -> NDArray[np.int64]:
    """Parts per fold, shape (folds, n)."""
    return np.array([Split(fold=k, n_folds=FOLDS, **options).parts(ids, event, center) for k in range(FOLDS)])


@settings(deadline=None, max_examples=60)
@given(n=st.integers(0, 60), seed=st.integers(0, 99), validation=st.floats(0, 0.9), rate=st.sampled_from([0, 0.3, 1]))
def test_every_patient_is_tested_once_and_parts_are_disjoint(n: int, seed: int, validation: float, rate: float) -> None:
    ids, event = patients(n, seed, rate)
    parts = every_fold(ids, event, seed=seed, validation=validation)
    assert set(np.unique(parts)) <= {TRAIN, VALIDATION, TEST}  # one part each: disjoint by construction
    np.testing.assert_array_equal((parts == TEST).sum(axis=0), np.ones(n))
    for row in parts:
        rest = (row != TEST).sum()
        assert (row == VALIDATION).sum() == round(validation * rest)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 50), seed=st.integers(0, 99), shuffle=st.integers(0, 99))
def test_the_order_of_the_patients_does_not_count(n: int, seed: int, shuffle: int) -> None:
    ids, event = patients(n, seed)
    order = np.random.default_rng(shuffle).permutation(n)
    parts = every_fold(ids, event, validation=0.25, seed=seed)
    np.testing.assert_array_equal(every_fold(ids[order], event[order], validation=0.25, seed=seed), parts[:, order])


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 100), seed=st.integers(0, 99))
def test_folds_are_balanced_in_size_and_events(n: int, seed: int) -> None:
    ids, event = patients(n, seed)
    folds = Split(seed=seed, n_folds=FOLDS).folds(ids, event, "Bonn")
    for group in (np.ones(n, dtype=bool), event, ~event):
        sizes = np.bincount(folds[group], minlength=FOLDS)
        assert sizes.max() - sizes.min() <= 1


@settings(deadline=None, max_examples=40)
@given(n=st.integers(20, 100), seed=st.integers(0, 99), validation=st.sampled_from([0.1, 0.2, 0.5]))
def test_validation_has_the_event_rate_of_the_rest(n: int, seed: int, validation: float) -> None:
    ids, event = patients(n, seed)
    for row in every_fold(ids, event, validation=validation):
        rest = row != TEST
        expected = validation * event[rest].sum()
        assert abs(event[row == VALIDATION].sum() - expected) <= 1.5


def test_a_split_is_a_function_of_seed_repeat_center_and_id() -> None:
    ids, event = patients(40)
    first = every_fold(ids, event, validation=0.2)
    np.testing.assert_array_equal(every_fold(ids, event, validation=0.2), first)
    assert (every_fold(ids, event, validation=0.2, seed=1) != first).any()
    assert (every_fold(ids, event, validation=0.2, repeat=1) != first).any()
    assert (every_fold(ids, event, "Celle", validation=0.2) != first).any()
    np.testing.assert_array_equal(every_fold(ids.astype("<U40"), event, validation=0.2), first)


def test_test_patients_do_not_depend_on_how_many_validate() -> None:
    # Every arm sees the same test patients, whether it needs validation or not.
    ids, event = patients(40)
    without, with_ = every_fold(ids, event), every_fold(ids, event, validation=0.3)
    np.testing.assert_array_equal(without == TEST, with_ == TEST)


def test_validation_patients_change_with_the_fold() -> None:
    ids, event = patients(60)
    parts = every_fold(ids, event, validation=0.2)
    assert len({tuple(row == VALIDATION) for row in parts}) == FOLDS


def test_without_folds_nobody_is_tested() -> None:
    ids, event = patients(30)
    parts = Split(validation=0.2).parts(ids, event, "Bonn")
    assert (parts == TEST).sum() == 0
    assert (parts == VALIDATION).sum() == 6


@pytest.mark.parametrize("n", range(6))
def test_tiny_centers_split_too(n: int) -> None:
    ids, event = patients(n)
    parts = every_fold(ids, event, validation=0.2)
    assert parts.shape == (FOLDS, n)
    assert ((parts == TEST).sum(axis=1) <= 1 + n // FOLDS).all()


def test_patients_of_tiny_centers_do_not_all_test_in_the_same_fold() -> None:
    event = np.array([True])
    folds = [Split(n_folds=FOLDS).folds(np.array(["only"]), event, f"center{j}")[0] for j in range(200)]
    assert np.bincount(folds, minlength=FOLDS).min() > 20


def test_all_repeats_together_test_everybody_equally_often_and_with_different_company() -> None:
    ids, event = patients(50)
    tested = np.array([Split(repeat=r, n_folds=FOLDS).folds(ids, event, "Bonn") for r in range(4)])
    together = [tuple(row[:2] == row[0]) for row in tested]
    assert len(set(map(tuple, tested.tolist()))) == 4
    assert len(together) == 4
