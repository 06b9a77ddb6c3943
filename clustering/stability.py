"""How far a classification holds: across chains, and when the patients are drawn again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from clustering.events import EventTable
from clustering.partition import variation_of_information


@dataclass(frozen=True)
class Agreement:
    """Pairwise agreement of partitions of the same patients; each matrix has shape (partitions, partitions).

    Parameters
    ----------
    ari
        Adjusted Rand index (Hubert & Arabie 1985), 1 on the diagonal.
    vi
        Variation of information, bits, 0 on the diagonal.
    """

    ari: np.ndarray
    vi: np.ndarray

    @property
    def worst_ari(self) -> float:
        """The least of the pairs."""
        return float(self.ari.min())


@dataclass(frozen=True)
class Bootstrap:
    """A classification against its refits on resampled patients.

    Parameters
    ----------
    clusters
        One row a cluster: ``cluster``, ``patients``, ``jaccard`` (mean over resamples) and its interval
        ``jaccard_low``, ``jaccard_high``, ``recovered`` (fraction of resamples with Jaccard > .75) and ``dissolved``
        (<= .5), Hennig's thresholds.
    ari
        Shape (resamples,): adjusted Rand index of each refit to the classification.
    ari_interval
        Central interval of ``ari``.
    """

    clusters: pd.DataFrame
    ari: np.ndarray
    ari_interval: tuple[float, float]


def pairwise(partitions: Sequence[np.ndarray]) -> Agreement:
    """Compare every two partitions, such as the estimates of several chains.

    Parameters
    ----------
    partitions
        Each of shape (patients,), integers >= 0.

    Raises
    ------
    ValueError
        If there are none, or they label different numbers of patients.
    """
    if len({np.shape(labels) for labels in partitions}) != 1:
        raise ValueError(f"partitions: of the same patients (found shapes {[np.shape(one) for one in partitions]})")
    ari, vi = np.eye(len(partitions)), np.zeros((len(partitions), len(partitions)))
    for i, a in enumerate(partitions):
        for j, b in enumerate(partitions[:i]):
            ari[i, j] = ari[j, i] = adjusted_rand_score(a, b)
            vi[i, j] = vi[j, i] = variation_of_information(a, b)
    return Agreement(ari, vi)


def jaccard(labels: np.ndarray, others: np.ndarray) -> dict[int, float]:
    """Jaccard index of each cluster with the cluster of another partition nearest to it.

    Parameters
    ----------
    labels
        Shape (patients,).
    others
        Shape (patients,); -1 is no cluster.
    """
    result = {}
    for name in np.unique(labels):
        inside = labels == name
        result[int(name)] = max(
            (float((inside & (others == other)).sum() / (inside | (others == other)).sum()) for other in _used(others)),
            default=0.0,
        )
    return result


def bootstrap(
    fit: Callable[[EventTable], np.ndarray],
    table: EventTable,
    labels: np.ndarray,
    *,
    resamples: int = 100,
    distinct: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> Bootstrap:
    """Refit on resamples of the patients, drawn with replacement (Hennig, Comput. Stat. Data Anal. 2007).

    Parameters
    ----------
    fit
        Classifies the patients of a table: labels of shape (patients,), -1 for no cluster. It must depend on the
        table alone (fix its seeds) for the result to be reproducible.
    table
        The patients.
    labels
        Shape (patients,), integers >= 0: the classification to be judged.
    resamples
        Refits.
    distinct
        Enter a patient drawn several times only once, since copies form clusters of their own in some models.
        Otherwise copies get names of their own.
    level
        Of the intervals: percentiles over resamples.
    seed
        Of the resamples; resample b is the same whatever their number.

    Raises
    ------
    ValueError
        For labels of another length or below 0, or no resamples, or a refit of another length.
    """
    if np.shape(labels) != (len(table),):
        raise ValueError(f"labels: one >= 0 for each of {len(table)} patients (found shape {np.shape(labels)})")
    refits = [
        (drawn, fit(select_copies(table, drawn)))
        for drawn in (draw_resample(len(table), seed, b, distinct=distinct) for b in range(resamples))
    ]
    return judge(labels, refits, level)


def draw_resample(patients: int, seed: int, number: int, *, distinct: bool = False) -> np.ndarray:
    """Patients drawn with replacement, sorted, or those of them that are ``distinct``: shape (at most patients,)."""
    drawn = np.sort(np.random.default_rng([seed, number]).integers(patients, size=patients))
    return np.unique(drawn) if distinct else drawn


def select_copies(table: EventTable, drawn: np.ndarray) -> EventTable:
    """The patients of a resample, copies under names of their own; ``drawn`` is sorted."""
    copy = np.arange(len(drawn)) - np.searchsorted(drawn, drawn)
    ids = [f"{name}~{c}" if c else str(name) for name, c in zip(table.ids[drawn], copy, strict=True)]
    return EventTable(np.array(ids), table.genes, table.events[drawn])


def judge(labels: np.ndarray, refits: Sequence[tuple[np.ndarray, np.ndarray]], level: float = 0.95) -> Bootstrap:
    """Compare a classification with refits that were made elsewhere, such as in parallel.

    Parameters
    ----------
    labels
        Shape (patients,), integers >= 0: the classification to be judged.
    refits
        Of each resample the patients (`draw_resample`) and their labels, -1 for no cluster.
    level
        Of the intervals: percentiles over resamples.

    Raises
    ------
    ValueError
        For labels below 0, no refits, or a refit of another length than its resample.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.min(initial=0) < 0:
        raise ValueError(f"labels: one >= 0 for each patient (found shape {labels.shape})")
    if not refits:
        raise ValueError("resamples: at least 1 (found 0)")
    names = np.unique(labels)
    found = np.full((len(refits), len(names)), np.nan)  # a cluster of which nobody was drawn says nothing
    ari = np.empty(len(refits))
    for b, (drawn, refit) in enumerate(refits):
        refit = np.asarray(refit)
        if refit.shape != drawn.shape:
            raise ValueError(f"fit: labels of shape {refit.shape} for {len(drawn)} patients")
        nearest = jaccard(labels[drawn], refit)
        found[b] = [nearest.get(int(name), np.nan) for name in names]
        # patients without a cluster are not one cluster: each stands alone
        alone = np.where(refit >= 0, refit, refit.max(initial=0) + 1 + np.arange(len(refit)))
        ari[b] = adjusted_rand_score(labels[drawn], alone)
    tails = [(1 - level) / 2, (1 + level) / 2]
    rows = []
    for k, name in enumerate(names):
        seen = found[~np.isnan(found[:, k]), k]
        low, high = np.quantile(seen, tails) if len(seen) else (np.nan, np.nan)
        rows.append(
            {
                "cluster": int(name),
                "patients": int((labels == name).sum()),
                "jaccard": seen.mean() if len(seen) else np.nan,
                "jaccard_low": low,
                "jaccard_high": high,
                "recovered": (seen > 0.75).mean() if len(seen) else np.nan,
                "dissolved": (seen <= 0.5).mean() if len(seen) else np.nan,
            }
        )
    low, high = np.quantile(ari, tails)
    return Bootstrap(pd.DataFrame(rows), ari, (float(low), float(high)))


def _used(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels[labels >= 0])
