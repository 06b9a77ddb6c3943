"""Stability against scikit-learn and by hand: a fit that knows the truth is stable, one that guesses is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import adjusted_rand_score

from clustering.events import EventTable
from clustering.partition import variation_of_information
from clustering.stability import bootstrap, jaccard, pairwise


def _by_first_lesion(table: EventTable) -> np.ndarray:
    return np.asarray(table.events[:, 0], dtype=int)


def _table(patients: int) -> EventTable:
    events = (np.arange(patients)[:, None] % np.array([3, 2]) == 0).astype(np.int8)
    return EventTable(np.array([f"p{i}" for i in range(patients)]), ("A", "B"), events)


def test_pairwise_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    partitions = [rng.integers(4, size=50) for _ in range(3)]
    found = pairwise(partitions)
    for i, a in enumerate(partitions):
        for j, b in enumerate(partitions):
            assert found.ari[i, j] == pytest.approx(adjusted_rand_score(a, b))
            assert found.vi[i, j] == pytest.approx(variation_of_information(a, b))
    assert found.worst_ari == found.ari.min()


@pytest.mark.parametrize("partitions", [[], [np.zeros(2, int), np.zeros(3, int)]])
def test_pairwise_refuses_other_patients(partitions: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="partitions"):
        pairwise(partitions)


def test_jaccard_of_a_worked_example() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert jaccard(labels, np.array([5, 5, 5, 7, 7, -1])) == {0: 0.75, 1: pytest.approx(1 / 3)}
    assert jaccard(labels, np.full(6, -1)) == {0: 0.0, 1: 0.0}


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(int, st.tuples(st.just(2), st.integers(1, 12)), elements=st.integers(0, 3)))
def test_jaccard_by_sets_whatever_the_numbering(pair: np.ndarray) -> None:
    def sets(labels: np.ndarray) -> dict[int, set[int]]:
        return {int(k): set(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels)}

    ours, theirs = sets(pair[0]), sets(pair[1])
    expected = {k: max(len(a & b) / len(a | b) for b in theirs.values()) for k, a in ours.items()}
    assert jaccard(pair[0], pair[1]) == pytest.approx(expected)
    assert jaccard(pair[0], np.array([2, 0, 3, 1])[pair[1]]) == pytest.approx(expected)


@pytest.mark.parametrize("distinct", [False, True])
def test_a_fit_that_finds_the_same_is_stable(distinct: bool) -> None:
    table = _table(30)
    seen: list[EventTable] = []

    def fit(resample: EventTable) -> np.ndarray:
        seen.append(resample)
        return 1 - _by_first_lesion(resample)  # other numbers

    found = bootstrap(fit, table, _by_first_lesion(table), resamples=12, distinct=distinct, seed=1)
    assert (found.clusters["jaccard"] == 1).all()
    assert (found.clusters["recovered"] == 1).all()
    assert (found.clusters["dissolved"] == 0).all()
    assert found.ari_interval == (1.0, 1.0)
    assert list(found.clusters["patients"]) == [20, 10]
    sizes = [len(resample) for resample in seen]
    assert (max(sizes) < 30) if distinct else (set(sizes) == {30})
    for resample in seen:
        assert len(set(resample.ids)) == len(resample)  # copies have names of their own
        origin = [int(str(name).split("~")[0][1:]) for name in resample.ids]
        np.testing.assert_array_equal(resample.events, table.events[origin])
    assert len({tuple(resample.ids) for resample in seen}) == 12


def test_a_fit_that_joins_everything_has_known_figures() -> None:
    table = _table(30)
    labels = _by_first_lesion(table)
    found = bootstrap(lambda resample: np.zeros(len(resample), int), table, labels, resamples=200, seed=2)
    # everybody in one cluster: the Jaccard index is the cluster's share of the resample, binomial / 30
    assert found.clusters["jaccard"].sum() == pytest.approx(1.0)
    assert found.clusters["jaccard"][1] == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / 30 / 200))
    assert found.clusters["dissolved"][1] > 0.9
    np.testing.assert_array_equal(found.ari, np.zeros(200))


def test_patients_without_a_cluster_agree_with_nobody() -> None:
    table = _table(30)
    labels = _by_first_lesion(table)

    def fit(resample: EventTable) -> np.ndarray:
        return np.where(_by_first_lesion(resample) == 1, 0, -1)

    found = bootstrap(fit, table, labels, resamples=10)
    np.testing.assert_allclose(found.clusters["jaccard"], [0, 1])
    assert (found.ari < 1).all()


def test_resamples_depend_on_their_seed_and_number_alone() -> None:
    table = _table(30)
    rng_free = [
        bootstrap(lambda t: t.events[:, 1].astype(int), table, _by_first_lesion(table), resamples=n, seed=3)
        for n in (5, 9)
    ]
    np.testing.assert_array_equal(rng_free[0].ari, rng_free[1].ari[:5])
    other = bootstrap(lambda t: t.events[:, 1].astype(int), table, _by_first_lesion(table), resamples=5, seed=4)
    assert (other.ari != rng_free[0].ari).any()


def test_a_cluster_nobody_of_which_is_drawn_is_left_out_of_its_mean() -> None:
    table, labels = _table(30), np.zeros(30, int)
    labels[0] = 1
    found = bootstrap(
        lambda t: np.array([int(str(i).split("~")[0] == "p0") for i in t.ids]), table, labels, resamples=40
    )
    assert (found.clusters["jaccard"] == 1).all()  # about a third of the resamples lack the patient


@pytest.mark.parametrize(
    ("labels", "resamples", "short", "says"),
    [
        (np.zeros(3, int), 2, 0, "labels"),
        (np.full(6, -1), 2, 0, "labels"),
        (np.zeros(6, int), 0, 0, "resamples"),
        (np.zeros(6, int), 2, 1, "fit"),
    ],
)
def test_wrong_arguments_are_named(labels: np.ndarray, resamples: int, short: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bootstrap(lambda t: np.zeros(len(t) - short, int), _table(6), labels, resamples=resamples)
