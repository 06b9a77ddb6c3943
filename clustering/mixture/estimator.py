"""The conditional-Bernoulli mixture as a scikit-learn estimator: chains in one process, one classification out."""

from __future__ import annotations

from itertools import islice
from typing import Any, Literal, Self

import numpy as np
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted

from clustering.chain import steps
from clustering.events import as_events
from clustering.mixture.sampler import MixtureSampler
from clustering.partition import match_draws, membership, minimize_vi

NO_EVENTS = -1
"""Label of patients without events: nothing tells them apart."""


class ConditionalBernoulliMixture(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Subgroups of patients by their lesions, with a Bayesian mixture of conditional Bernoulli laws.

    The number of clusters is inferred. For many chains with diagnostics, checkpoints and workers use
    ``haemfed stratify``; this is the same sampler for one table in one process.

    Parameters
    ----------
    partition, gamma, geometric, scale
        The model (`MixtureSampler`).
    chains, sweeps, spacing, burn_in
        Sweeps of each chain, one draw kept in ``spacing``, the first fraction ``burn_in`` left out.
    random_state
        Seed.

    Attributes
    ----------
    labels_
        Shape (patients,): the partition of least expected variation of information, 0 the largest cluster, -1 for
        patients without events.
    n_clusters_, k_interval_
        Clusters of that partition; central 90% posterior interval of their number.
    probabilities_
        Shape (patients, clusters): posterior membership; what a row lacks to 1 is clusters the partition does not have.
    scalars_
        Summaries, name -> shape (chains, draws), burn-in left out.
    genes_
        Names of the columns.

    References
    ----------
    Chen, Dempster & Liu, Biometrika 1994 (conditional Bernoulli); Miller & Harrison, JASA 2018 (finite mixtures).
    """

    def __init__(
        self,
        partition: Literal["mfm", "dp"] = "mfm",
        gamma: float = 1.0,
        geometric: float = 0.1,
        scale: float | None = None,
        chains: int = 2,
        sweeps: int = 4000,
        spacing: int = 10,
        burn_in: float = 0.5,
        random_state: int = 0,
    ) -> None:
        self.partition = partition
        self.gamma = gamma
        self.geometric = geometric
        self.scale = scale
        self.chains = chains
        self.sweeps = sweeps
        self.spacing = spacing
        self.burn_in = burn_in
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, groups: np.ndarray | None = None) -> Self:
        """Run the chains and find the classification.

        Parameters
        ----------
        X
            Shape (patients, genes): 1 present, 0 absent, NaN or -1 not tested; array, DataFrame or EventTable.
        y
            Ignored.
        groups
            Shape (patients,): hospitals or trials with weights of their own (`clustering.mixture.groups`).

        Raises
        ------
        ValueError
            For other values, a table without any event, or groups of another length.
        """
        table = as_events(X)
        some = table.counts > 0
        if not some.any():
            raise ValueError(f"X: none of {len(table)} patients has an event")
        if groups is not None and len(groups) != len(table):
            raise ValueError(f"groups: {len(groups)} names for {len(table)} patients")
        sampler = MixtureSampler(
            table.select(some),
            self.partition,
            groups=None if groups is None else np.asarray(groups)[some],
            gamma=self.gamma,
            geometric=self.geometric,
            scale=self.scale,
        )
        self._sampler = sampler
        length = self.sweeps // self.spacing
        first = int(self.burn_in * length)
        if not 0 <= first < length:
            raise ValueError(f"sweeps {self.sweeps}, spacing {self.spacing}, burn_in {self.burn_in}: leave no draw")
        kept = [
            list(islice(steps(sampler, self.random_state, chain, self.spacing), first, length))
            for chain in range(self.chains)
        ]
        self.scalars_ = {
            name: np.array([[step.scalars[name] for step in chain] for chain in kept]) for name in kept[0][0].scalars
        }
        self._draws = [step for chain in kept for step in chain]
        draws = np.array([step.draw["labels"] for step in self._draws])
        found = minimize_vi(draws, seed=self.random_state).labels
        self._map = _clusters_of(draws, found)
        self.genes_ = table.genes
        self.n_clusters_ = int(found.max()) + 1
        low, high = np.quantile(draws.max(1) + 1, (0.05, 0.95), method="nearest")
        self.k_interval_ = (int(low), int(high))
        self._shares = np.bincount(found) / len(found)
        self.labels_ = np.full(len(table), NO_EVENTS)
        self.labels_[some] = found
        self.probabilities_ = np.tile(self._shares, (len(table), 1))
        self.probabilities_[some] = membership(draws, found)
        return self

    def predict_proba(self, X: Any, groups: np.ndarray | None = None) -> np.ndarray:
        """Posterior probability of each cluster for other patients, shape (patients, clusters), rows sum to 1.

        Patients without events have the clusters' shares. ``groups`` (patients,) names each patient's group, if the
        mixture was fitted in groups; a group that was not among them, or none, has the common shares.
        """
        joint = self._log_joint(X, groups)
        total = np.logaddexp.reduce(joint, axis=2, keepdims=True)
        clusters = np.exp(joint - total)[:, :, :-1].mean(0) + 1e-300
        result: np.ndarray = clusters / clusters.sum(1, keepdims=True)
        return result

    def predict(self, X: Any, groups: np.ndarray | None = None) -> np.ndarray:
        """Most probable cluster, shape (patients,); -1 without events."""
        labels: np.ndarray = self.predict_proba(X, groups).argmax(1)
        return np.where(as_events(X).counts > 0, labels, NO_EVENTS)

    def score_samples(self, X: Any, groups: np.ndarray | None = None) -> np.ndarray:
        """Posterior predictive log P(x | n) of other patients, shape (patients,): nats, 0 without events."""
        joint = self._log_joint(X, groups)
        each = np.logaddexp.reduce(joint, axis=2)
        result: np.ndarray = logsumexp(each, axis=0) - np.log(len(each))
        return result

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`."""
        return float(self.score_samples(X).mean())

    def _log_joint(self, X: Any, groups: np.ndarray | None) -> np.ndarray:
        """Log of share times law, (draws, patients, clusters + 1); the last is clusters the partition lacks or new."""
        check_is_fitted(self)
        table = as_events(X)
        if table.genes != self.genes_:
            raise ValueError(f"X: columns {table.genes[:5]} …, but the mixture was fitted to {self.genes_[:5]} …")
        some = table.counts > 0
        result = np.full((len(self._draws), len(table), self.n_clusters_ + 1), -np.inf)
        if groups is not None and len(groups) != len(table):
            raise ValueError(f"groups: {len(groups)} names for {len(table)} patients")
        others = MixtureSampler(table.select(some)) if some.any() else None
        for d, step in enumerate(self._draws):
            clusters = len(step.draw["theta"])
            law = np.zeros((len(table), clusters + 1))
            if others is not None:
                law[some, :-1] = others.log_likelihoods(step.draw["theta"])
                law[some, -1] = others.log_uniform
            joint = law + self._sampler.log_shares(step.draw, float(step.scalars["concentration"]), groups)
            for k in range(clusters + 1):
                into = self._map[d][k] if k < clusters else -1
                result[d, :, into] = np.logaddexp(result[d, :, into], joint[:, k])
        return result


def _clusters_of(draws: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """For each draw, the cluster of the partition that each of its own stands for, -1 if none."""
    result = []
    for own, matched in zip(draws, match_draws(draws, labels), strict=True):
        of = np.empty(own.max() + 1, int)
        of[own] = matched
        result.append(of)
    return result
