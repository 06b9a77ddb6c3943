"""From draws of labels to one classification, with each patient's certainty."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Classification:
    """One partition of the patients.

    Parameters
    ----------
    labels
        Shape (patients,), from 1, the largest cluster first.
    probability
        Shape (patients,): mean posterior probability of sharing a cluster with the other patients of one's own.
    k, k_interval
        Clusters of the partition, and the central 90% posterior interval of their number.
    """

    labels: np.ndarray
    probability: np.ndarray
    k: int
    k_interval: tuple[int, int]


def classify(draws: Iterable[np.ndarray]) -> Classification:
    """The draw nearest in squares to the posterior similarity matrix (Dahl 2006), which minimizes Binder's loss.

    Parameters
    ----------
    draws
        Labels, shape (patients,) each, of all chains together.

    Raises
    ------
    ValueError
        Without draws.
    """
    kept = [np.unique(labels, return_inverse=True)[1].reshape(-1) for labels in draws]
    if not kept:
        raise ValueError("draws: none were given")
    patients = len(kept[0])
    similarity = np.zeros((patients, patients), np.float32)
    for labels in kept:
        similarity += labels[:, None] == labels
    similarity /= len(kept)
    # |same - similarity|² = Σ same (1 - 2 similarity) + a constant
    losses = [float((1 - 2 * similarity)[labels[:, None] == labels].sum(dtype=float)) for labels in kept]
    best = kept[int(np.argmin(losses))]
    sizes = np.bincount(best)
    rank = np.empty(len(sizes), int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(1, len(sizes) + 1)
    others = np.maximum(sizes[best] - 1, 1)
    together = (similarity * (best[:, None] == best)).sum(1) - 1  # without oneself
    probability = np.where(sizes[best] == 1, 1 - (similarity.sum(1) - 1) / max(patients - 1, 1), together / others)
    counts = [labels.max() + 1 for labels in kept]
    low, high = np.quantile(counts, (0.05, 0.95), method="nearest").astype(int)
    return Classification(rank[best], np.clip(probability, 0, 1), len(sizes), (int(low), int(high)))
