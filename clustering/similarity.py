"""How often patients fall together: the posterior similarity matrix, whole or in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit

_TILE = 64  # patients: two tiles' labels stay in the second-level cache for some thousand draws


def canonical(labels: np.ndarray) -> np.ndarray:
    """Number the clusters of each partition from 0 in order of first appearance.

    Parameters
    ----------
    labels
        Shape (patients,) or (draws, patients), any integers >= 0.

    Returns
    -------
    np.ndarray
        Same shape, int32: two partitions are equal exactly if their canonical labels are.

    Raises
    ------
    ValueError
        If labels are not integers, or negative (patients without a cluster must be left out), or there are none.
    """
    labels = np.asarray(labels)
    if labels.ndim not in (1, 2) or labels.size == 0:
        raise ValueError(f"labels: shape (patients,) or (draws, patients), not empty (found {labels.shape})")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels: integers (found {labels.dtype})")
    if labels.min() < 0:
        raise ValueError(f"labels: leave out patients without a cluster (found {labels.min()})")
    if labels.max() >= max(labels.size, 1 << 16):  # names rather than numbers
        labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    rows = np.ascontiguousarray(np.atleast_2d(labels))
    return np.asarray(_canonical(rows, int(rows.max()) + 1)).reshape(labels.shape)


def posterior_similarity(labels: np.ndarray) -> np.ndarray:
    """Fraction of draws in which two patients share a cluster.

    Beside the result (4 bytes a pair) it needs one or two bytes a label.

    Parameters
    ----------
    labels
        Shape (draws, patients), integers >= 0.

    Returns
    -------
    np.ndarray
        Shape (patients, patients), float32, symmetric, ones on the diagonal.
    """
    by_patient = _by_patient(labels)
    result = np.empty((len(by_patient), len(by_patient)), np.float32)
    _symmetric(by_patient, result)
    return result


def similarity_blocks(labels: np.ndarray, block: int = 512) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of the posterior similarity matrix, a block at a time, for cohorts whose matrix would not fit.

    Parameters
    ----------
    labels
        Shape (draws, patients), integers >= 0.
    block
        Patients per block.

    Yields
    ------
    first, rows
        The first patient of the block; shape (at most block, patients), float32.
    """
    if block < 1:
        raise ValueError(f"block: at least 1 (found {block})")
    by_patient = _by_patient(labels)
    for first in range(0, len(by_patient), block):
        rows = by_patient[first : first + block]
        result = np.empty((len(rows), len(by_patient)), np.float32)
        _rectangle(rows, by_patient, result)
        yield first, result


def _by_patient(labels: np.ndarray) -> np.ndarray:
    """Canonical labels as (patients, draws), in the smallest type, so that a pair is one vectorized comparison."""
    if np.ndim(labels) != 2:
        raise ValueError(f"labels: shape (draws, patients) (found {np.shape(labels)})")
    numbered = canonical(labels)
    return np.ascontiguousarray(numbered.T, dtype=np.min_scalar_type(int(numbered.max())))


@njit(cache=True)
def _canonical(labels: np.ndarray, names: int) -> np.ndarray:
    result = np.empty(labels.shape, np.int32)
    number = np.empty(names, np.int32)
    for s in range(len(labels)):
        number[:] = -1
        clusters = 0
        for i in range(labels.shape[1]):
            name = labels[s, i]
            if number[name] < 0:
                number[name] = clusters
                clusters += 1
            result[s, i] = number[name]
    return result


@njit(cache=True)
def _equal(a: np.ndarray, b: np.ndarray) -> int:
    total = 0
    for s in range(len(a)):
        total += a[s] == b[s]
    return total


@njit(cache=True)
def _symmetric(labels: np.ndarray, result: np.ndarray) -> None:
    patients, draws = labels.shape
    for i0 in range(0, patients, _TILE):
        for j0 in range(i0, patients, _TILE):
            for i in range(i0, min(i0 + _TILE, patients)):
                for j in range(max(i, j0), min(j0 + _TILE, patients)):
                    value = _equal(labels[i], labels[j]) / draws
                    result[i, j] = value
                    result[j, i] = value


@njit(cache=True)
def _rectangle(rows: np.ndarray, labels: np.ndarray, result: np.ndarray) -> None:
    patients, draws = labels.shape
    for i0 in range(0, len(rows), _TILE):
        for j0 in range(0, patients, _TILE):
            for i in range(i0, min(i0 + _TILE, len(rows))):
                for j in range(j0, min(j0 + _TILE, patients)):
                    result[i, j] = _equal(rows[i], labels[j]) / draws
