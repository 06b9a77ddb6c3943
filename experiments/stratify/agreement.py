"""Agreement with a given classification: the adjusted Rand index, and two intervals of it.

The *posterior* interval asks how it varies over the draws of the chains; the *bootstrap* interval, how the index of the
one classification would vary with other patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """A classification beside a given one, among the patients that have a given class.

    Parameters
    ----------
    ari
        Adjusted Rand index (Hubert & Arabie 1985).
    posterior
        Central 95% interval over the draws; None if the classification is not made of them.
    bootstrap
        Percentile 95% interval over patients drawn with replacement.
    table
        Patients by cluster (rows) and given class (columns).
    """

    ari: float
    posterior: tuple[float, float] | None
    bootstrap: tuple[float, float]
    table: pd.DataFrame


def compare(
    truth: np.ndarray, labels: np.ndarray, chains: Sequence[np.ndarray] | None, *, resamples: int = 1000, seed: int = 0
) -> Comparison | None:
    """Compare a classification with a given one.

    Parameters
    ----------
    truth
        Shape (patients,), strings; empty where a patient has no class.
    labels
        Shape (patients,).
    chains
        Labels of each chain's draws, shape (draws, patients).
    resamples, seed
        Of the bootstrap.

    Returns
    -------
    Comparison or None
        None if fewer than two patients have a class.
    """
    known = truth != ""
    if known.sum() < 2:
        return None
    truth, labels = truth[known], labels[known]
    posterior = None
    if chains is not None:
        posterior = _interval([adjusted_rand_score(truth, draw[known]) for chain in chains for draw in chain])
    table = pd.crosstab(pd.Series(labels, name="cluster"), pd.Series(truth, name="given"))
    return Comparison(
        float(adjusted_rand_score(truth, labels)),
        posterior,
        _interval(bootstrap_ari(truth, labels, resamples=resamples, seed=seed)),
        table,
    )


def bootstrap_ari(truth: np.ndarray, labels: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Adjusted Rand index over resamples of the patients, shape (resamples,).

    A pair of a patient with a copy of itself agrees in any two classifications, and would raise the index: only pairs
    of distinct patients count.
    """
    patients = len(truth)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(patients, np.full(patients, 1 / patients), size=resamples)
    return weighted_ari(truth, labels, weights)


def weighted_ari(truth: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Adjusted Rand index in which a pair of distinct patients counts as often as the product of their weights.

    Parameters
    ----------
    truth, labels
        Shape (patients,).
    weights
        Shape (weightings, patients), all 1 for the index itself.

    Returns
    -------
    np.ndarray
        Shape (weightings,); 1 where both classifications are trivial.
    """
    weights = np.asarray(weights, float)
    rows = np.unique(truth, return_inverse=True)[1].reshape(-1)
    columns = np.unique(labels, return_inverse=True)[1].reshape(-1)
    cells = np.unique(rows * (columns.max() + 1) + columns, return_inverse=True)[1].reshape(-1)

    def pairs(groups: np.ndarray) -> np.ndarray:
        member = np.eye(groups.max() + 1)[groups]
        return np.asarray(((weights @ member) ** 2 - weights**2 @ member).sum(1) / 2)

    both, first, second, every = (pairs(g) for g in (cells, rows, columns, np.zeros_like(rows)))
    chance = np.divide(first * second, every, out=np.zeros_like(every), where=every > 0)
    scale = (first + second) / 2 - chance
    return np.asarray(np.divide(both - chance, scale, out=np.ones_like(scale), where=scale > 1e-12))


def _interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
