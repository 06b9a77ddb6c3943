"""From the draws of the chains to one classification, with each patient's certainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.chains import ChainsResult
from clustering.chain import State
from clustering.events import EventTable
from clustering.hdmm.assignment import assign_mfnch, assign_posterior
from clustering.hdmm.components import extract_components
from clustering.partition import credible_ball, membership, minimize_vi, vi_to_draws
from clustering.relabelling import most_probable_classes

Draws = list[list[State]]
"""For each chain its draws."""


@dataclass(frozen=True)
class Ball:
    """The 95% credible ball around a classification (`clustering.partition.credible_ball`).

    Parameters
    ----------
    expected_vi
        Posterior expected variation of information to the classification, bits.
    radius, probability
        Bits, and the fraction of the draws inside.
    k
        Fewest and most clusters of the draws inside.
    """

    expected_vi: float
    radius: float
    probability: float
    k: tuple[int, int]


@dataclass(frozen=True)
class Classification:
    """One partition of the patients.

    Parameters
    ----------
    labels
        Shape (patients,), from 1, the largest cluster first; 0 for patients of the catch-all.
    probability
        Shape (patients,): posterior probability of the patient's own cluster.
    k, k_interval
        Clusters of the partition, and the central 90% posterior interval of their number.
    ball
        None for a classification that is not the centre of the draws.
    """

    labels: np.ndarray
    probability: np.ndarray
    k: int
    k_interval: tuple[int, int]
    ball: Ball | None = None


def thinned(chains: ChainsResult, most: int) -> Draws:
    """Draws of each chain after burn-in, evenly spaced, the same number of every chain and at most ``most`` in all."""
    count, length = chains.shape
    kept = length - chains.first
    wanted = set(np.linspace(0, kept - 1, min(kept, max(most // count, 1))).round().astype(int).tolist())
    return [[draw for number, draw in enumerate(chains.draws(c)) if number in wanted] for c in range(count)]


def labels_of(draws: Draws) -> list[np.ndarray]:
    """The labels alone, shape (draws, patients) a chain."""
    return [np.stack([np.asarray(draw["labels"], np.int32) for draw in chain]) for chain in draws]


def classification_of(
    method: str, table: EventTable, draws: Draws, how: str, options: Mapping[str, Any], seed: int
) -> Classification:
    """What a method makes of the draws of its chains.

    Parameters
    ----------
    method
        ``cb``, ``hdmm`` or ``mfnch``.
    table
        The patients of the chains.
    how, seed
        As of `classify`, for ``cb``.
    options
        Of `assign_mfnch`.

    Raises
    ------
    TypeError, ValueError
        For options of other names or values.
    """
    labels = labels_of(draws)
    if method == "cb":
        return classify(labels, how, seed)
    components = extract_components(table, draws)
    assigned = assign_posterior(components) if method == "hdmm" else assign_mfnch(table, components, **options)
    return of_components(*assigned, labels)


def classify(chains: Sequence[np.ndarray], how: str = "vi", seed: int = 0) -> Classification:
    """The partition in the middle of the draws, and how sure it is.

    Parameters
    ----------
    chains
        Labels of each chain's draws, shape (draws, patients), integers >= 0.
    how
        ``vi``: of least posterior expected variation of information; ``classes``: each patient's most probable cluster.
    seed
        Of the search.

    Raises
    ------
    ValueError
        Without draws.
    """
    if not sum(map(len, chains)):
        raise ValueError("chains: no draws were given")
    draws = np.concatenate(list(chains))
    labels = minimize_vi(draws, seed=seed).labels if how == "vi" else most_probable_classes(draws)
    sure = membership(draws, labels)
    ball = credible_ball(draws, labels)
    numbers = int(_clusters(ball.upper).min()), int(_clusters(ball.lower).max())
    expected = float(vi_to_draws(labels, draws).mean())
    return Classification(
        labels + 1,
        sure[np.arange(len(sure)), labels],
        sure.shape[1],
        interval_of_k(draws),
        Ball(expected, ball.radius, ball.probability, numbers),
    )


def of_components(labels: np.ndarray, probability: np.ndarray, chains: Sequence[np.ndarray]) -> Classification:
    """A classification by the components of HDMM chains (`clustering.hdmm.assignment`).

    Parameters
    ----------
    labels, probability
        Shapes (patients,), -1 for the catch-all, and (patients, components), as the assignments return them.
    chains
        Labels of each chain's draws, for the interval of K.
    """
    own = np.where(labels >= 0, probability[np.arange(len(labels)), labels], 1 - probability.sum(1))
    used, place, sizes = np.unique(labels[labels >= 0], return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(-sizes, kind="stable")) + 1
    ranked = np.zeros(len(labels), np.int32)
    ranked[labels >= 0] = rank[place]
    return Classification(ranked, np.clip(own, 0, 1), len(used), interval_of_k(np.concatenate(list(chains))))


def interval_of_k(draws: np.ndarray) -> tuple[int, int]:
    """Central 90% interval of the number of clusters of draws, shape (draws, patients)."""
    low, high = np.quantile(_clusters(draws), (0.05, 0.95), method="nearest").astype(int)
    return int(low), int(high)


def _clusters(partitions: np.ndarray) -> np.ndarray:
    return np.array([len(np.unique(labels)) for labels in partitions])
