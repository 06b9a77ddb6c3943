"""Components of many posterior draws: which clusters of one draw are those of another, and which are noise.

Labels of a hierarchical Dirichlet process mean nothing beyond their draw. As the R package ``hdp`` does (Roberts,
``hdp_extract_components``), the clusters of a chain's draws are matched by k-medians of their gene counts, at most one
cluster of a draw to a centroid; groups of like gene distributions are merged; groups that are not surely there become
component 0, the catch-all; and the groups of several chains are matched by their mean distributions.

Two things differ from R, both so that nothing depends on how a draw names its clusters: the first centroids are the
clusters of the draw with most of them (R: by name), and all pairs of like groups are merged (R: in order of name).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from clustering.chain import State
from clustering.events import EventTable
from clustering.hdmm.tokens import Tokens
from clustering.similarity import canonical


@dataclass(frozen=True)
class Components:
    """What the draws agree on: K components, numbered from 1 by decreasing size, and component 0 for all the rest.

    Parameters
    ----------
    z
        Shape (draws, tokens), int16: the component of each token, the chains one after the other.
    chain
        Shape (draws,): the chain of each draw.
    counts
        Shape (draws, K + 1, genes): tokens.
    holders
        Shape (draws, K + 1): patients with at least one token of the component.
    mean, low, high
        Shape (K + 1, genes): each component's distribution over genes and its highest posterior density interval, over
        the draws in which it has tokens; zeros if none.
    exposure
        Shape (patients, K + 1): mean share of a patient's tokens. Patients without tokens have ``weights``, the
        expectation of theirs.
    weights
        Shape (K + 1,): posterior mean of the components' weights β in the cohort.
    """

    z: np.ndarray
    chain: np.ndarray
    counts: np.ndarray
    holders: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    exposure: np.ndarray
    weights: np.ndarray

    @property
    def number(self) -> int:
        """K: components, the catch-all not among them."""
        return int(self.counts.shape[1]) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each component in each draw, shape (draws, K + 1)."""
        return np.asarray(self.counts.sum(2))

    @property
    def explained(self) -> float:
        """Share of the tokens that are not in the catch-all."""
        return float(1 - self.counts[:, 0].sum() / max(self.counts.sum(), 1))


def extract_components(
    table: EventTable, chains: Sequence[Sequence[State]], merge: float = 0.9, level: float = 0.95
) -> Components:
    """The components of the draws of one or more chains.

    Parameters
    ----------
    table
        The patients that the chains ran on.
    chains
        For each chain its draws (`HDMMSampler.draw`), burn-in left out.
    merge
        Cosine similarity of mean distributions from which groups are one component, in (0, 1).
    level
        Of the highest posterior density intervals: a component stays if the intervals of at least one gene's and of at
        least one patient's number of tokens in it leave zero out.

    Raises
    ------
    ValueError
        If a chain has no draws, a draw is of another table, or an argument is out of its range.
    """
    for name, value in (("merge", merge), ("level", level)):
        if not 0 < value < 1:
            raise ValueError(f"{name}: {value}, but must be in (0, 1)")
    tokens = Tokens.of(table)
    if not chains or min(map(len, chains)) == 0:
        raise ValueError("chains: at least one chain, each with at least one draw")
    for draw in (draw for chain in chains for draw in chain):
        if draw["z"].shape != (len(tokens),):
            raise ValueError(f"chains: a draw has {len(draw['z'])} tokens, but the table has {len(tokens)}")
    found = [_of_chain(tokens, draws, merge, level) for draws in chains]
    means = [_mean_distribution(_counts(tokens, z)) for z, _ in found]
    found = [
        (mapping[z], _merged(weights, mapping))
        for (z, weights), mapping in zip(found, _match_chains(means, merge), strict=True)
    ]
    z = np.concatenate([z for z, _ in found])
    weights = np.concatenate([weights for _, weights in found]).mean(0)
    chain = np.repeat(np.arange(len(chains)), [len(draws) for draws in chains])
    order = _by_size(z, len(weights))
    return _summary(tokens, np.argsort(order)[z].astype(np.int16), chain, weights[order], level)


def hpd_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Highest posterior density intervals along the first axis (``coda::HPDinterval``): the shortest, lowest if tied.

    Parameters
    ----------
    values
        Shape (draws, ...), at least one draw.

    Returns
    -------
    low, high
        Shape (...).
    """
    values = np.sort(values, axis=0)
    gap = min(len(values) - 1, max(1, round(len(values) * level)))
    start = np.argmin(values[gap:] - values[: len(values) - gap], axis=0)[None]
    low, high = (np.take_along_axis(values, start + shift, 0)[0] for shift in (0, gap))
    return low, high


def _of_chain(tokens: Tokens, draws: Sequence[State], merge: float, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Components of each token, (draws, tokens), and weights, (draws, K + 1), of one chain."""
    most = max(len(draw["beta"]) for draw in draws)
    if most == 0:
        return np.zeros((len(draws), 0), np.int16), np.ones((len(draws), 1))
    z = canonical(np.stack([draw["z"] for draw in draws]).astype(np.int64))
    weights = np.zeros((len(draws), most + 1))  # of the clusters by first token; last, of all without tokens
    for s, draw in enumerate(draws):
        _, first = np.unique(z[s], return_index=True)
        weights[s, : len(first)] = draw["beta"][draw["z"][first]]
    weights[:, -1] = 1 - weights.sum(1)

    group = match_clusters(_counts(tokens, z, most))
    z = np.take_along_axis(group, z, 1)
    named = np.zeros_like(weights)
    np.put_along_axis(named, group, weights[:, :-1], 1)

    mean = _mean_distribution(_counts(tokens, z, most))
    _, label = connected_components(_cosine(mean, mean) >= merge, directed=False)
    sure = _surely_there(tokens, label[z], int(label.max()) + 1, level)
    number = np.where(sure, np.cumsum(sure), 0)[label]
    named[:, -1] = weights[:, -1]
    return number[z].astype(np.int16), _merged(named, np.append(number, 0))


def match_clusters(counts: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Match clusters across draws: k-medians on Manhattan distances, no two clusters of a draw in one group.

    Parameters
    ----------
    counts
        Shape (draws, clusters, genes): tokens; draws with fewer clusters end in zeros.
    rounds
        At most.

    Returns
    -------
    np.ndarray
        Shape (draws, clusters), int64: the group of each cluster, a permutation in each draw.
    """
    centres = counts[np.argmax((counts.sum(2) > 0).sum(1))].astype(float)
    group = np.zeros(counts.shape[:2], np.int64)
    for _ in range(rounds):
        before = group.copy()
        for s, clusters in enumerate(counts):
            group[s] = linear_sum_assignment(cdist(clusters, centres, "cityblock"))[1]
        if (group == before).all():
            break
        centres = np.median(np.take_along_axis(counts, np.argsort(group)[:, :, None], 1), axis=0)
    return group


def _match_chains(means: list[np.ndarray], merge: float) -> list[np.ndarray]:
    """For each chain the component of each of its own: the closest of the chain with fewest, if all chains have it."""
    baseline = means[int(np.argmin([len(mean) for mean in means]))]
    mappings = []
    for mean in means:
        similarity = _cosine(mean, baseline)
        mapping = np.where(similarity.max(1) >= merge, similarity.argmax(1), 0)
        mapping[0] = 0
        mappings.append(np.arange(len(mean)) if mean is baseline else mapping)
    everywhere = np.array([all(k in mapping for mapping in mappings) for k in range(len(baseline))])
    everywhere[0] = False  # whatever is mapped there stays the catch-all
    number = np.where(everywhere, np.cumsum(everywhere), 0)
    return [number[mapping] for mapping in mappings]


def _surely_there(tokens: Tokens, z: np.ndarray, components: int, level: float) -> np.ndarray:
    """Whether some gene's and some patient's number of tokens is surely above zero, shape (components,)."""
    result = np.asarray((hpd_interval(_counts(tokens, z, components), level)[0] > 0).any(1))
    for k in np.flatnonzero(result):
        before = np.pad(np.cumsum(z == k, axis=1, dtype=np.int32), ((0, 0), (1, 0)))
        result[k] = (hpd_interval(np.diff(before[:, tokens.first], axis=1), level)[0] > 0).any()
    return result


def _summary(tokens: Tokens, z: np.ndarray, chain: np.ndarray, weights: np.ndarray, level: float) -> Components:
    components = len(weights)
    counts = _counts(tokens, z, components)
    holders = np.zeros((len(z), components), np.int64)
    exposure = np.zeros((tokens.patients, components))
    for s, labels in enumerate(z):
        per_patient = tokens.per_patient(labels.astype(np.int64), components)
        holders[s] = (per_patient > 0).sum(0)
        exposure += per_patient
    n = np.diff(tokens.first)
    exposure[n > 0] /= len(z) * n[n > 0, None]
    exposure[n == 0] = weights
    low, high = np.zeros((2, components, tokens.genes))
    for k in range(components):
        some = counts[counts[:, k].sum(1) > 0, k]
        if len(some):
            low[k], high[k] = hpd_interval(some / some.sum(1, keepdims=True), level)
    return Components(z, chain, counts, holders, _mean_distribution(counts), low, high, exposure, weights)


def _counts(tokens: Tokens, z: np.ndarray, components: int | None = None) -> np.ndarray:
    """Tokens, shape (draws, components, genes)."""
    if components is None:
        components = int(z.max(initial=0)) + 1
    result = np.empty((len(z), components, tokens.genes), np.int32)
    for s, labels in enumerate(z):
        result[s] = tokens.per_gene(labels.astype(np.int64), components)
    return result


def _mean_distribution(counts: np.ndarray) -> np.ndarray:
    """Mean of the distributions over genes of the draws with tokens, (components, genes); zeros if there are none."""
    total = counts.sum(2, keepdims=True)
    shares = counts / np.maximum(total, 1)
    return np.asarray(shares.sum(0) / np.maximum((total > 0).sum(0), 1))


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine similarity of rows; 0 for a row of zeros."""
    norms = [np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300) for x in (a, b)]
    return np.asarray((a / norms[0]) @ (b / norms[1]).T)


def _merged(values: np.ndarray, mapping: np.ndarray) -> np.ndarray:
    """Sum the columns that are mapped to the same number: (draws, columns) -> (draws, max of the mapping + 1)."""
    return np.asarray(values @ (mapping[:, None] == np.arange(int(mapping.max()) + 1)))


def _by_size(z: np.ndarray, components: int) -> np.ndarray:
    """The catch-all, then the components by decreasing size."""
    sizes = np.bincount(z.ravel().astype(np.int64), minlength=components)
    return np.concatenate([[0], 1 + np.argsort(-sizes[1:], kind="stable")])
