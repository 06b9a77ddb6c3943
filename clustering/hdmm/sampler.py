"""The chain of the hierarchical Dirichlet process mixture of multinomials: options, state, summaries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy.special import gammaln

from clustering.chain import State
from clustering.events import EventTable
from clustering.hdmm.reference import dense_sweeps
from clustering.hdmm.sparse import sparse_sweeps
from clustering.hdmm.tokens import Tokens

MOST_CLUSTERS = 30_000
"""Components that an int16 label can name; more at a time is an error, not a truncation."""

SHARPEST = 0.02
"""Base weight at which annealing begins: components of few genes each, into which subgroups part."""
ANNEALING_STEPS = 50


@dataclass(frozen=True)
class HDMMSampler:
    """Hierarchical Dirichlet process mixture of multinomials over lesions (Teh et al. 2006, direct assignment).

    Each patient mixes the same components, θ_j ~ DP(α, β), β ~ GEM(γ); each lesion present is a token of one of them,
    w | z = k ~ Multinomial(φ_k), φ_k ~ Dirichlet(h, …, h). Lesions not tested are no tokens. A sweep updates every
    token, the tables, the concentrations and β.

    Parameters
    ----------
    table
        Patients by lesions.
    base_weight
        h, the weight of each gene in the components' prior.
    initial_clusters
        Components of the first state, tokens assigned at random; by default each chain draws 1 … 30.
    shared_concentration
        One concentration α = γ with the prior ``top_prior``, or one each.
    top_prior, patient_prior
        Shape and rate of the Gamma priors of γ and of α.
    concentration_updates
        Times per sweep; 0 fixes the concentrations at their prior means.
    concentration_move
        ``slice`` on the log concentration, or ``auxiliary`` variables (Escobar & West 1995).
    method
        ``sparse`` (fast), or ``dense`` (the reference): the same chain in distribution.
    blocks
        Times per sweep that the sparse method renews its tables.
    annealing
        Sweeps of a fresh start, no part of the chain itself, during which the base weight rises to its own value from
        `SHARPEST`, at one ratio. Chains seldom split a component: started without (0, as published), some merge two
        subgroups of patients at first and keep them as one for hundreds of thousands of sweeps.
    """

    table: EventTable
    base_weight: float = 0.5
    initial_clusters: int | None = None
    shared_concentration: bool = False
    top_prior: tuple[float, float] = (1.0, 1.0)
    patient_prior: tuple[float, float] = (1.0, 1.0)
    concentration_updates: int = 1
    concentration_move: Literal["slice", "auxiliary"] = "slice"
    method: Literal["sparse", "dense"] = "sparse"
    blocks: int = 4
    annealing: int = 0

    def __post_init__(self) -> None:
        for name in ("base_weight", "blocks"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)}, but must be positive")
        if self.initial_clusters is not None and not 1 <= self.initial_clusters <= MOST_CLUSTERS:
            raise ValueError(f"initial_clusters: {self.initial_clusters}, but must be 1 … {MOST_CLUSTERS}")
        for name in ("concentration_updates", "annealing"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)}, but must not be negative")
        if min(*self.top_prior, *self.patient_prior) <= 0:
            raise ValueError("top_prior, patient_prior: shapes and rates must be positive")
        if self.concentration_move not in ("slice", "auxiliary") or self.method not in ("sparse", "dense"):
            raise ValueError(f"no such concentration_move or method: {self.concentration_move}, {self.method}")

    @cached_property
    def tokens(self) -> Tokens:
        """The lesions present, patient by patient."""
        return Tokens.of(self.table)

    def start(self, rng: np.random.Generator) -> State:
        """Tokens at random in some components, concentrations from their priors; then annealing, if any."""
        tokens = self.tokens
        clusters = int(rng.integers(1, 31)) if self.initial_clusters is None else self.initial_clusters
        z = rng.integers(clusters, size=len(tokens))
        used, z = np.unique(z, return_inverse=True)
        gamma, alpha = (
            shape / rate if self.concentration_updates == 0 else max(rng.gamma(shape) / rate, 1e-3)
            for shape, rate in (self.top_prior, self.patient_prior)
        )
        weights = rng.dirichlet(np.append(np.bincount(z, minlength=len(used)).astype(float), gamma))
        state: State = {
            "z": z.astype(np.int16),
            "beta": weights[:-1],
            "rest": np.array(weights[-1]),
            "alpha": np.array(gamma if self.shared_concentration else alpha),
            "gamma": np.array(gamma),
        }
        sweeps = np.diff(np.linspace(0, self.annealing, ANNEALING_STEPS + 1).astype(int))
        sharpest = min(SHARPEST, self.base_weight)
        for weight, some in zip(np.geomspace(sharpest, self.base_weight, ANNEALING_STEPS), sweeps, strict=True):
            if some:
                state = replace(self, base_weight=float(weight)).advance(state, int(some), rng)
        return state

    def advance(self, state: State, sweeps: int, rng: np.random.Generator) -> State:
        """The state some sweeps later.

        Raises
        ------
        RuntimeError
            If there are more components than `MOST_CLUSTERS`.
        """
        tokens = self.tokens
        model = (tokens.gene, tokens.first, tokens.exceed(), tokens.genes, float(self.base_weight))
        moves = (
            np.array([*self.top_prior, *self.patient_prior], float),
            self.shared_concentration,
            self.concentration_move == "slice",
            self.concentration_updates,
            sweeps,
        )
        blocks = np.linspace(0, tokens.patients, min(self.blocks, tokens.patients) + 1).astype(np.int64)
        most = max(min(len(tokens), MOST_CLUSTERS), 1)
        places = min(2 * len(state["beta"]) + 32, most)  # few, so that the counts stay in the nearest cache
        stream = rng.bit_generator.state
        while True:
            z = state["z"].astype(np.int64)
            beta = np.zeros(places)
            beta[: len(state["beta"])] = state["beta"]
            now: Any = (z, beta, float(state["rest"]), float(state["alpha"]), float(state["gamma"]), rng)
            if self.method == "dense":
                rest, alpha, gamma = dense_sweeps(*model, *moves, *now)
            else:
                rest, alpha, gamma = sparse_sweeps(*model, *moves, blocks, *now)
            if rest >= 0:
                break
            if places == most:
                raise RuntimeError(f"more than {MOST_CLUSTERS} components: are the priors of the concentrations meant?")
            # The same stream with more places is the same chain, which now does not stop for want of one.
            places = min(2 * places, most)
            rng.bit_generator.state = stream
        used, z = np.unique(z, return_inverse=True)
        return {
            "z": z.astype(np.int16),
            "beta": beta[used],
            "rest": np.array(rest),
            "alpha": np.array(alpha),
            "gamma": np.array(gamma),
        }

    def scalars(self, state: State) -> dict[str, float]:
        """Label-invariant summaries: log p(tokens | z), components with tokens, α and γ, entropy of the labels."""
        tokens, clusters = self.tokens, len(state["beta"])
        share = np.bincount(self._labels(state)) / max(tokens.patients, 1)
        share = share[share > 0]
        return {
            "log_likelihood": log_likelihood(tokens.per_gene(state["z"].astype(np.int64), clusters), self.base_weight),
            "clusters": float(clusters),
            "concentration": float(state["alpha"]),
            "top_concentration": float(state["gamma"]),
            "entropy": float(-(share * np.log(share)).sum()),
        }

    def draw(self, state: State) -> State:
        """The state, each patient's ``labels`` and the ``counts`` (components, genes)."""
        counts = self.tokens.per_gene(state["z"].astype(np.int64), len(state["beta"]))
        return {**state, "labels": self._labels(state), "counts": counts.astype(np.int32)}

    def _labels(self, state: State) -> np.ndarray:
        """Each patient's largest component, α β_k deciding ties and for patients without events, shape (patients,)."""
        if len(state["beta"]) == 0:
            return np.zeros(len(self.table), np.int16)
        per_patient = self.tokens.per_patient(state["z"].astype(np.int64), len(state["beta"]))
        ties = state["beta"] / (1 + state["beta"].sum())  # below 1: never outweighs a token
        labels: np.ndarray = np.argmax(per_patient + ties, axis=1).astype(np.int16)
        return labels


def log_likelihood(counts: np.ndarray, base_weight: float) -> float:
    """Log p(tokens | z) with φ integrated out, from tokens of components and genes, shape (components, genes)."""
    counts = counts[counts.sum(1) > 0]
    flat = counts.shape[1] * base_weight
    of_components = gammaln(flat) - gammaln(flat + counts.sum(1))
    return float(of_components.sum() + (gammaln(base_weight + counts) - gammaln(base_weight)).sum())
