"""Posterior similarity against the sum over draws, whole and in blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clustering.similarity import canonical, posterior_similarity, similarity_blocks

DRAWS = hnp.arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 150)), elements=st.integers(0, 6))


def _plain(draws: np.ndarray) -> np.ndarray:
    return np.mean([labels[:, None] == labels for labels in draws], axis=0)


@settings(max_examples=40, deadline=None)
@given(DRAWS, st.integers(1, 70))
def test_similarity_is_the_mean_over_draws(draws: np.ndarray, block: int) -> None:
    found = posterior_similarity(draws)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _plain(draws), atol=1e-7)
    parts = list(similarity_blocks(draws, block))
    assert [first for first, _ in parts] == list(range(0, draws.shape[1], block))
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in parts]), found)


@pytest.mark.parametrize("clusters", [200, 300, 70_000])
def test_many_clusters_need_wider_labels(clusters: int) -> None:
    """Numbers that are equal modulo 256 or 65,536 are different clusters."""
    labels = np.arange(clusters)[None].repeat(2, 0)
    labels[1, -1] = labels[1, 0]
    first, rows = next(similarity_blocks(labels, 1))
    expected = np.zeros(clusters)
    expected[[0, -1]] = 1, 0.5
    assert first == 0
    np.testing.assert_array_equal(rows[0], expected)


@settings(max_examples=40, deadline=None)
@given(DRAWS)
def test_numbering_does_not_matter(draws: np.ndarray) -> None:
    rng = np.random.default_rng(draws.size)
    renamed = np.stack([rng.permutation(10)[labels] * 10**10 for labels in draws])
    np.testing.assert_array_equal(canonical(renamed), canonical(draws))
    np.testing.assert_array_equal(posterior_similarity(renamed), posterior_similarity(draws))


def test_canonical_counts_from_zero_in_order_of_appearance() -> None:
    found = canonical(np.array([[7, 7, 2, 9, 2], [0, 1, 2, 3, 0]]))
    np.testing.assert_array_equal(found, [[0, 0, 1, 2, 1], [0, 1, 2, 3, 0]])
    np.testing.assert_array_equal(canonical(np.array([3, 3, 1])), [0, 0, 1])


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.array([[0, -1]]), "found -1"),
        (np.array([[0.0, 1.0]]), "float64"),
        (np.zeros((0, 3), int), r"\(0, 3\)"),
        (np.zeros(3, int), r"\(3,\)"),
    ],
)
def test_wrong_labels_are_named(labels: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        posterior_similarity(labels)


def test_wrong_block_is_named() -> None:
    with pytest.raises(ValueError, match="block"):
        next(similarity_blocks(np.zeros((1, 2), int), 0))
