"""Random numbers come from a path of names and from nothing else."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from federation.randomness import entropy, generator


def draw(seed: int, *path: int | str) -> tuple[float, ...]:
    return tuple(generator(seed, *path).random(4))


def test_same_path_same_numbers() -> None:
    first = draw(3, "scaffold", 7, "Bonn")
    np.random.seed(0)  # noqa: NPY002
    assert draw(3, "scaffold", 7, "Bonn") == first


def test_other_path_other_numbers() -> None:
    paths: list[tuple[int | str, ...]] = [
        (0, "train", 1, "Bonn"),
        (1, "train", 1, "Bonn"),
        (0, "train", 2, "Bonn"),
        (0, "train", 1, "Celle"),
        (0, "train", 11, "Bonn"),
        (0, "train", 1, "1Bonn"),
        (0, "tra", "in", 1, "Bonn"),
        (0, "Bonn", 1, "train"),
        (0, "train", "1", "Bonn"),
    ]
    draws = [draw(*path) for path in paths]  # type: ignore[arg-type]
    for a, b in combinations(range(len(paths)), 2):
        assert draws[a] != draws[b], (paths[a], paths[b])


def test_numbers_of_neighbouring_rounds_are_uncorrelated() -> None:
    streams = np.array([generator(0, "train", r, "Bonn").normal(size=2000) for r in range(12)])
    correlation = np.corrcoef(streams)[np.triu_indices(12, 1)]
    assert np.abs(correlation).max() < 0.1


def test_neither_read_nor_written_is_the_global_generator() -> None:
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    generator(0, "train").random(10)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("text", ["", "a", "Universitätsklinikum Köln", "x" * 1000])
def test_entropy_of_a_text_is_64_bits_and_the_same_in_every_process(text: str) -> None:
    assert 0 <= entropy(text) < 2**64
    assert entropy("Bonn") == 18273966570593252415  # unlike hash(), which Python salts
