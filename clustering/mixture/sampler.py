"""The Gibbs sampler of the conditional-Bernoulli mixture, as a chain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numba import njit
from scipy.special import logsumexp

from clustering.chain import State
from clustering.events import EventTable
from clustering.mixture.data import Data, prepare
from clustering.mixture.groups import Prior, update_groups
from clustering.mixture.hyper import update_concentration, update_scale
from clustering.mixture.partition_prior import log_new_weights
from clustering.mixture.split_merge import split_or_merge
from clustering.mixture.sweep import assign, draw_given_one, log_likelihood, log_likelihood_columns, update_components

FIRST_HEAT = 0.6
FEWEST, MOST = 2, 40
"""Clusters of a random start, before annealing."""


@dataclass(frozen=True)
class MixtureSampler:
    """A mixture of conditional Bernoulli laws over patients, by Gibbs sampling.

    Given its number of events n_i and its component k, a patient's events have probability Π_g w_kg^{x_ig} / e_n(w_k);
    w_k / Σw_k ~ Dirichlet(a, …, a); genes not tested are marginalized exactly. A new component's marginal is
    1 / C(G, n) and its weights are drawn exactly, so there are no auxiliary components.

    Parameters
    ----------
    table
        Patients with at least one event; the others say nothing of the components.
    partition
        ``mfm``: K ~ Geometric(``geometric``), proportions ~ Dirichlet(``gamma``, …) (Miller & Harrison 2018).
        ``dp``: Dirichlet process, its concentration ~ Gamma(``concentration_prior``: shape, rate).
    groups
        Shape (patients,): each patient's hospital or trial, any names. Groups share the components, each with weights
        of its own around common ones (`clustering.mixture.groups`): finite mixtures only.
    gamma, geometric, concentration_prior
        See ``partition``.
    group_prior
        Shape and rate of the Gamma prior of α, which says how alike the groups' weights are.
    scale
        Parameter a of the weights' prior; None learns it, log-uniform between ``scale_bounds``.
    capacity
        Components at once at most.
    split_merges
        Split–merge moves per sweep, on average.
    annealing
        Sweeps of a fresh start during which the likelihood's power rises from 0.6 to 1; no part of the chain itself.
    """

    table: EventTable
    partition: Literal["mfm", "dp"] = "mfm"
    groups: np.ndarray | None = None
    gamma: float = 1.0
    geometric: float = 0.1
    concentration_prior: tuple[float, float] = (1.0, 1.0)
    group_prior: tuple[float, float] = (1.0, 0.1)
    scale: float | None = None
    scale_bounds: tuple[float, float] = (0.005, 10.0)
    capacity: int = 100
    split_merges: float = 0.1
    annealing: int = 300

    def __post_init__(self) -> None:
        if self.groups is not None and len(self.groups) != len(self.table):
            raise ValueError(f"groups: {len(self.groups)} names for {len(self.table)} patients")
        if self.groups is not None and self.partition == "dp":
            raise ValueError("groups: of finite mixtures (partition mfm) only, not of a Dirichlet process")

    @cached_property
    def data(self) -> Data:
        """The table as the kernels read it."""
        return prepare(self.table)

    @cached_property
    def group_names(self) -> np.ndarray:
        """Names of the groups in the order of their numbers; one without groups."""
        return np.unique(self.groups) if self.groups is not None else np.array([""])

    @cached_property
    def _group(self) -> np.ndarray:
        """Each patient's group as a number, (patients,)."""
        if self.groups is None:
            return np.zeros(len(self.table), np.int64)
        return np.unique(self.groups, return_inverse=True)[1].reshape(-1).astype(np.int64)

    @cached_property
    def _log_new(self) -> np.ndarray:
        if self.partition == "dp":
            return np.zeros(self.capacity + 1)
        return log_new_weights(len(self.table), self.capacity + 1, self.gamma, self.geometric).copy()

    def start(self, rng: np.random.Generator, heat: float = 1.0) -> State:
        """A random number of random patients' clusters, then annealing up to a power ``heat`` of the likelihood."""
        data, patients = self.data, len(self.table)
        scale = self.scale or 0.3
        clusters = int(rng.integers(min(FEWEST, patients), min(MOST, patients) + 1))
        seeds = rng.choice(patients, clusters, replace=False)
        theta = np.array([draw_given_one(data, int(i), scale, rng) for i in seeds])
        state = {
            "labels": rng.integers(clusters, size=patients),
            "theta": theta,
            "scale": np.array(scale),
            "alpha": np.array(1.0),
        }
        state["labels"][seeds] = np.arange(clusters)  # none is empty
        if self.groups is not None:
            state["beta"] = np.append(np.ones(clusters), 1.0) / (clusters + 1)
            state["empty"] = np.array(1)
        for power in np.linspace(min(FIRST_HEAT, heat), heat, self.annealing):
            state = self.advance(state, 1, rng, float(power))
        return state

    def advance(self, state: State, sweeps: int, rng: np.random.Generator, heat: float = 1.0) -> State:
        """Complete sweeps: assignments, weights, prior scale, concentration; likelihood to the power ``heat``."""
        labels = state["labels"].copy()
        grouped = self.groups is not None
        theta, scale, alpha, beta, empty = _sweeps(
            self.data,
            labels,
            state["theta"].copy(),
            float(state["scale"]),
            float(state["alpha"]),
            self._group,
            state["beta"] if grouped else np.empty(0),
            int(state["empty"]) if grouped else -1,
            self._log_new,
            self.gamma,
            self.geometric,
            self.partition == "dp",
            self.scale is None,
            self.scale_bounds,
            self.group_prior if grouped else self.concentration_prior,
            self.split_merges,
            heat,
            sweeps,
            rng,
        )
        after = {"labels": labels, "theta": theta, "scale": np.array(scale), "alpha": np.array(alpha)}
        return after | ({"beta": beta, "empty": np.array(empty)} if grouped else {})

    def log_likelihood(self, state: State) -> float:
        """Σ_i log P(x_i | n_i, θ of its component)."""
        return float(log_likelihood(self.data, state["labels"], state["theta"]))

    def log_likelihoods(self, theta: np.ndarray) -> np.ndarray:
        """log P(x_i | n_i, θ_k), shape (patients, components)."""
        result = np.empty((len(self.table), len(theta)))
        log_likelihood_columns(self.data, theta, result)
        return result

    @property
    def log_uniform(self) -> np.ndarray:
        """log P(x_i | n_i) under a component without patients, -log C(tested genes, n_i), shape (patients,)."""
        return self.data.log_uniform

    def log_shares(self, draw: State, concentration: float, groups: np.ndarray | None = None) -> np.ndarray:
        """Log probability that a further patient joins each cluster of a draw or, last, a new one.

        Parameters
        ----------
        draw, concentration
            What `draw` kept, and the scalar of that name.
        groups
            Shape (patients,): names of the further patients' groups; one that is not known has the common shares.

        Returns
        -------
        np.ndarray
            Shape (patients, clusters + 1) with groups, else (1, clusters + 1).
        """
        sizes = draw["sizes"]
        if self.groups is not None:
            names = np.array([""]) if groups is None else np.asarray(groups)
            member = np.append(sizes, np.zeros((len(sizes), 1), int), axis=1)
            own = (names[:, None] == self.group_names).astype(float) @ member
            with np.errstate(divide="ignore"):
                weights = np.log(own + concentration * draw["beta"])
        elif self.partition == "dp":
            weights = np.append(np.log(sizes), np.log(concentration))[None]
        else:
            new = log_new_weights(int(sizes.sum()) + 1, self.capacity + 1, self.gamma, self.geometric)[len(sizes)]
            weights = np.append(np.log(sizes + self.gamma), new)[None]
        result: np.ndarray = weights - logsumexp(weights, axis=1, keepdims=True)
        return result

    def scalars(self, state: State) -> dict[str, float]:
        """``log_likelihood`` of the patients given labels and weights, ``clusters``, ``concentration`` (γ of the
        finite mixtures, α of the process or of the groups), ``entropy`` of the cluster sizes (nats), ``scale``."""
        share = np.bincount(state["labels"]) / len(state["labels"])
        return {
            "log_likelihood": self.log_likelihood(state),
            "clusters": float(len(state["theta"])),
            "concentration": self.gamma if self.partition == "mfm" and self.groups is None else float(state["alpha"]),
            "entropy": float(-(share * np.log(share)).sum()),
            "scale": float(state["scale"]),
        }

    def draw(self, state: State) -> State:
        """``labels`` (patients,), ``theta`` log weights (clusters, genes) with the largest 0, ``sizes`` (clusters,).

        With groups ``sizes`` is (groups, clusters), and ``beta`` (clusters + 1,) the common shares, empty ones last.
        """
        kept = {"labels": state["labels"].astype(np.int16), "theta": state["theta"]}
        if self.groups is None:
            return kept | {"sizes": np.bincount(state["labels"])}
        return kept | {"sizes": self._sizes(state["labels"], len(state["theta"])), "beta": state["beta"]}

    def _sizes(self, labels: np.ndarray, clusters: int) -> np.ndarray:
        groups = len(self.group_names)
        return np.bincount(self._group * clusters + labels, minlength=groups * clusters).reshape(groups, clusters)


@njit(cache=True)
def _sweeps(
    data: Data,
    labels: np.ndarray,
    theta: np.ndarray,
    scale: float,
    alpha: float,
    group: np.ndarray,
    beta: np.ndarray,
    empty: int,
    log_new: np.ndarray,
    gamma: float,
    geometric: float,
    process: bool,
    learn_scale: bool,
    bounds: tuple[float, float],
    concentration_prior: tuple[float, float],
    split_merges: float,
    heat: float,
    sweeps: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float, float, np.ndarray, int]:
    grouped, offset = empty >= 0, 0.0 if process else gamma
    pool = np.full(2, -1.0)
    offsets = np.full(len(log_new) - 1, offset)
    for _ in range(sweeps):
        if process:
            log_new = np.full(len(log_new), np.log(alpha))
        if grouped:
            offsets[: len(theta)] = alpha * beta[:-1]
            pool[0], pool[1] = alpha * beta[-1], empty
        prior = Prior(group, offsets, log_new, pool, gamma)
        for _ in range(int(split_merges + rng.random())):
            theta, _ = split_or_merge(data, labels, theta, scale, prior, heat, rng)
        theta = assign(data, labels, theta, scale, prior, heat, rng)
        if process:
            shape, rate = concentration_prior
            alpha = update_concentration(alpha, len(theta), len(labels), shape, rate, rng)
        if grouped:
            counts = np.zeros((group.max() + 1, len(theta)), np.int64)
            for i in range(len(labels)):
                counts[group[i], labels[i]] += 1
            shares = offsets[: len(theta)] / alpha
            used, rest, empty, alpha = update_groups(counts, shares, alpha, gamma, geometric, concentration_prior, rng)
            beta = np.append(used, rest)
        update_components(data, labels, theta, scale, heat, rng)
        if learn_scale:
            scale = update_scale(scale, theta, bounds[0], bounds[1], rng)
    return theta, scale, alpha, beta, empty
