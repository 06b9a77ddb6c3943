"""Variation of information against scikit-learn, its minimizer against all partitions, the ball by definition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import log, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import adjusted_rand_score, mutual_info_score

from clustering.partition import (
    credible_ball,
    match_draws,
    membership,
    minimize_vi,
    variation_of_information,
    vi_to_draws,
)
from clustering.similarity import canonical

DRAWS = hnp.arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(1, 12)), elements=st.integers(0, 4))


def _all_partitions(patients: int) -> Iterator[np.ndarray]:
    """Restricted growth strings."""

    def grow(head: list[int]) -> Iterator[list[int]]:
        if len(head) == patients:
            yield head
            return
        for k in range(max(head, default=-1) + 2):
            yield from grow([*head, k])

    return (np.array(labels) for labels in grow([]))


def _reference_vi(a: np.ndarray, b: np.ndarray) -> float:
    """H(a | b) + H(b | a) in bits, from the definition."""
    a, b = a.tolist(), b.tolist()
    of_a, of_b, both = Counter(a), Counter(b), Counter(zip(a, b, strict=True))
    return sum(n * log2(of_a[x] * of_b[y] / n**2) for (x, y), n in both.items()) / len(a)


def _noisy(patients: int, draws: int, clusters: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(clusters, size=patients)
    moved = rng.random((draws, patients)) < noise
    return truth, np.where(moved, rng.integers(clusters, size=(draws, patients)), truth)


@settings(max_examples=25, deadline=None)
@given(DRAWS)
def test_variation_of_information_is_scikit_learns(draws: np.ndarray) -> None:
    expected = [
        (mutual_info_score(a, a) + mutual_info_score(b, b) - 2 * mutual_info_score(a, b)) / log(2)
        for a, b in zip(draws[:1].repeat(len(draws), 0), draws, strict=True)
    ]
    np.testing.assert_allclose([_reference_vi(draws[0], labels) for labels in draws], expected, atol=1e-12)
    np.testing.assert_allclose(vi_to_draws(draws[0], draws), expected, atol=1e-12)
    assert variation_of_information(draws[0], draws[-1]) == pytest.approx(expected[-1], abs=1e-12)
    assert variation_of_information(draws[0], draws[0]) == 0.0


def test_extreme_distances_have_closed_forms() -> None:
    one, each = np.zeros(16, int), np.arange(16)
    assert variation_of_information(one, each) == pytest.approx(4.0)
    assert variation_of_information(each // 4, each % 4) == pytest.approx(4.0)
    assert variation_of_information(each // 4, each // 8) == pytest.approx(1.0)


@pytest.mark.parametrize(("patients", "bell"), [(3, 5), (4, 15), (5, 52), (6, 203), (7, 877)])
def test_minimizer_is_the_best_of_all_partitions(patients: int, bell: int) -> None:
    everything = list(_all_partitions(patients))
    assert len(everything) == bell
    for seed in range(12):
        rng = np.random.default_rng([patients, seed])
        draws = np.stack([everything[j] for j in rng.integers(bell, size=int(rng.integers(2, 12)))])
        losses = np.array([np.mean([_reference_vi(one, labels) for labels in draws]) for one in everything])
        sizes = np.array([one.max() + 1 for one in everything])
        found = minimize_vi(draws, max_clusters=patients, seed=seed)
        assert found.expected_vi == pytest.approx(losses.min(), abs=1e-9)
        assert vi_to_draws(found.labels, draws).mean() == pytest.approx(found.expected_vi, abs=1e-12)
        few = minimize_vi(draws, max_clusters=2, seed=seed)
        assert few.labels.max() < 2
        assert few.expected_vi == pytest.approx(losses[sizes <= 2].min(), abs=1e-9)


def test_minimizer_recovers_the_partition_behind_noise() -> None:
    truth, draws = _noisy(200, 150, 6, 0.2, seed=1)
    found = minimize_vi(draws, runs=8)
    assert adjusted_rand_score(truth, found.labels) == 1.0
    assert found.runs == 8
    assert 1 <= found.agreeing <= 8
    sizes = np.bincount(found.labels)
    assert (np.diff(sizes) <= 0).all()  # 0 is the largest
    assert found.expected_vi < vi_to_draws(draws[0], draws).mean()


def test_minimizer_beats_every_draw_and_every_single_move() -> None:
    _, draws = _noisy(40, 30, 4, 0.45, seed=2)
    found = minimize_vi(draws, runs=4)
    assert found.expected_vi <= min(vi_to_draws(labels, draws).mean() for labels in draws) + 1e-12
    for i in range(40):
        for k in range(min(4, found.labels.max() + 2)):  # the default allows as many clusters as the draws have
            moved = found.labels.copy()
            moved[i] = k
            assert vi_to_draws(moved, draws).mean() >= found.expected_vi - 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_one_run_allocates_from_nothing_to_where_no_single_move_improves(seed: int) -> None:
    """No draw is allowed as a start, since each has patients on their own: the run must open clusters itself."""
    _, draws = _noisy(60, 40, 3, 0.3, seed)
    draws[:, :4] = np.arange(10, 14)
    found = minimize_vi(draws, runs=1, max_clusters=4, seed=seed)
    assert 1 < found.labels.max() + 1 <= 4
    assert found.expected_vi < vi_to_draws(np.zeros(60, int), draws).mean()
    for i in range(60):
        for k in range(4):
            moved = found.labels.copy()
            moved[i] = k
            assert vi_to_draws(moved, draws).mean() >= found.expected_vi - 1e-9


def test_minimizer_depends_on_seed_and_partitions_alone() -> None:
    _, draws = _noisy(60, 40, 5, 0.4, seed=3)
    rng = np.random.default_rng(0)
    renamed = np.stack([rng.permutation(5)[labels] for labels in draws])
    a, b = minimize_vi(draws, runs=3, seed=7), minimize_vi(renamed, runs=3, seed=7)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert a.expected_vi == b.expected_vi


def test_equal_draws_are_their_own_estimate() -> None:
    labels = np.array([4, 4, 4, 0, 0, 9])
    found = minimize_vi(np.tile(labels, (5, 1)), runs=2)
    np.testing.assert_array_equal(found.labels, [0, 0, 0, 1, 1, 2])
    assert found.expected_vi == 0.0
    ball = credible_ball(np.tile(labels, (5, 1)), found.labels)
    assert (ball.radius, ball.probability) == (0.0, 1.0)
    np.testing.assert_array_equal(ball.horizontal, canonical(labels)[None])


@settings(max_examples=60, deadline=None)
@given(DRAWS, st.floats(0.05, 1))
def test_credible_ball_by_its_definition(draws: np.ndarray, level: float) -> None:
    center = draws[0]
    ball = credible_ball(draws, center, level)
    distances = np.array([_reference_vi(center, labels) for labels in draws])
    inside = distances <= ball.radius + 1e-9
    assert inside.mean() >= level - 1e-9
    assert ball.probability == pytest.approx(inside.mean())
    smaller = distances < ball.radius - 1e-9
    assert smaller.mean() < level  # no smaller ball holds the level
    clusters = np.array([len(np.unique(labels)) for labels in draws])
    for bound, count in [(ball.upper, clusters[inside].min()), (ball.lower, clusters[inside].max())]:
        far = distances[inside & (clusters == count)].max()
        for labels in bound:
            assert len(np.unique(labels)) == count
            assert _reference_vi(center, labels) == pytest.approx(far, abs=1e-9)
    for labels in ball.horizontal:
        assert _reference_vi(center, labels) == pytest.approx(distances[inside].max(), abs=1e-9)
    assert len(np.unique(ball.horizontal, axis=0)) == len(ball.horizontal)


def test_membership_of_a_worked_example() -> None:
    partition = np.array([5, 5, 5, 2, 2])
    draws = np.array(
        [
            [0, 0, 0, 1, 1],  # the same
            [1, 1, 0, 0, 0],  # the third patient has changed over
            [0, 0, 0, 1, 2],  # the last patient, or the one before, has a cluster of his own
            [3, 3, 3, 3, 3],  # one cluster: the larger's
        ]
    )
    found = membership(draws, partition)  # columns 2, 5
    np.testing.assert_allclose(found[:3], [[0, 1], [0, 1], [0.25, 0.75]])
    assert sorted(found[3:, 0]) == [0.5, 0.75]  # one of the two is without a match in the third draw
    assert found.sum() == pytest.approx(5 - 0.25)
    np.testing.assert_array_equal(np.unique(match_draws(draws, partition)), [-1, 2, 5])


def test_clusters_without_a_common_patient_do_not_match() -> None:
    """The larger clusters match; of the two left, the draw's shares nobody with the partition's."""
    partition, draw = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 0])
    np.testing.assert_array_equal(match_draws(draw[None], partition), [[0, 0, 0, -1, 0]])


@settings(max_examples=40, deadline=None)
@given(DRAWS)
def test_membership_ignores_numbering(draws: np.ndarray) -> None:
    rng = np.random.default_rng(draws.size)
    partition, names = draws[0], rng.permutation(5)
    found = membership(draws, partition)
    assert ((found >= 0) & (found.sum(1, keepdims=True) <= 1 + 1e-12)).all()
    renamed = np.stack([rng.permutation(5)[labels] for labels in draws])
    np.testing.assert_array_equal(membership(renamed, partition), found)
    used = np.unique(partition)
    again = membership(draws, names[partition])
    np.testing.assert_array_equal(again[:, np.argsort(np.argsort(names[used]))], found)
    np.testing.assert_array_equal(membership(partition[None], partition), np.equal.outer(partition, used))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: minimize_vi(np.zeros((2, 3), int), runs=0), "runs"),
        (lambda: minimize_vi(np.zeros((2, 3), int), max_clusters=0), "max_clusters"),
        (lambda: minimize_vi(np.zeros((2, 3), int), candidates=0), "candidates"),
        (lambda: minimize_vi(np.zeros(3, int)), r"\(3,\)"),
        (lambda: minimize_vi(np.full((2, 3), -1)), "found -1"),
        (lambda: vi_to_draws(np.zeros(2, int), np.zeros((2, 3), int)), r"\(2,\)"),
        (lambda: credible_ball(np.zeros((2, 3), int), np.zeros(3, int), 0.0), "level"),
        (lambda: membership(np.zeros((2, 3), int), np.zeros(2, int)), r"\(2,\)"),
    ],
)
def test_wrong_arguments_are_named(call: object, says: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=says):
        call()
