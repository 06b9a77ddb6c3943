"""Patients as numbers for generative networks: CTGAN's mode-specific normalization and one-hot states.

A numeric value becomes the component (mode) of its feature's Gaussian mixture that it belongs to, one-hot, and where it
lies within the mode; other values are one-hot (Xu et al. 2019, NeurIPS, section 4.2). Missing is one state more, among
the modes as among the categories (as in CTAB-GAN: Zhao et al. 2021, ACML, section 3.1), for features that are missing
for anybody. Mixtures, and the states that occur, are those of all patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort, Schema
from models.generative.discretization import marginal_counts, states_of
from models.generative.variational_mixture import FittedMixture

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTH = 4.0
"""A mode's standard deviations to which a value of 1 within the mode corresponds."""
_END = 0.99  # values further out are moved here, within the reach of tanh
_LEAST_PROBABILITY = 1e-6  # of a mode


@dataclass(frozen=True, eq=False)
class TableEncoding:
    """The encoding of one schema's patients.

    Parameters
    ----------
    schema
        Of the patients.
    mixture
        A block per numeric feature, in the schema's order; None if there is none.
    kept
        Which of the possible states are used, bool of shape (sum of `possible`,); None for all.
    threshold
        Modes of smaller weight are not used.
    """

    schema: Schema
    mixture: FittedMixture | None
    kept: NDArray[np.bool_] | None = None
    threshold: float = 0.005

    @cached_property
    def numeric(self) -> Ints:
        """Positions of the numeric features."""
        return np.array([j for j, feature in enumerate(self.schema.features) if feature.numeric], np.int64)

    @cached_property
    def modes(self) -> tuple[Ints, ...]:
        """Components in use, of each numeric feature."""
        if self.mixture is None:
            return ()
        return tuple(np.flatnonzero(weights > self.threshold) for weights in self.mixture.weights)

    @cached_property
    def possible(self) -> Ints:
        """Number of possible states of each feature, the last of them missing."""
        modes = iter(self.modes)
        return np.array([1 + (len(next(modes)) if f.numeric else states_of(f)) for f in self.schema.features], np.int64)

    @cached_property
    def _kept(self) -> tuple[NDArray[np.bool_], ...]:
        kept = np.ones(self.possible.sum(), bool) if self.kept is None else self.kept
        return tuple(np.split(kept, np.cumsum(self.possible)[:-1]))

    @cached_property
    def sizes(self) -> Ints:
        """Number of states of each feature."""
        return np.array([kept.sum() for kept in self._kept], np.int64)

    @cached_property
    def starts(self) -> Ints:
        """Position of each feature's first state among all states."""
        return np.cumsum(self.sizes) - self.sizes

    @cached_property
    def columns(self) -> Ints:
        """Where the states are in the matrix, shape (states,)."""
        numeric = np.cumsum([feature.numeric for feature in self.schema.features])
        return np.asarray(np.arange(self.sizes.sum()) + np.repeat(numeric, self.sizes), np.int64)

    @cached_property
    def within(self) -> Ints:
        """Where the numbers within modes are in the matrix, shape (numeric features,)."""
        return np.setdiff1d(np.arange(self.width), self.columns)

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return int(self.sizes.sum()) + len(self.numeric)

    def encode(self, cohort: Cohort, rng: np.random.Generator) -> tuple[NDArray[np.float32], Ints]:
        """The matrix, shape (n, width), and each feature's state, shape (n, features).

        A mode is drawn by its probability given the value.

        Raises
        ------
        ValueError
            If a value is missing, or a category seen, that nobody had when states were counted.
        """
        n, states = len(cohort), self._states(cohort)
        matrix = np.zeros((n, self.width), np.float32)
        if len(self.numeric):
            assert self.mixture is not None
            x = cohort.values[:, self.numeric]
            gaps = np.isnan(x)
            probabilities = self.mixture.probabilities(np.where(gaps, 0.0, x)[:, :, None])
            uniform = rng.random((len(self.numeric), n))
            for i, (j, modes) in enumerate(zip(self.numeric, self.modes, strict=True)):
                weights = probabilities[:, i, modes] + _LEAST_PROBABILITY
                cumulative = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
                mode = np.minimum((uniform[i][:, None] >= cumulative).sum(axis=1), len(modes) - 1)
                mean, deviation = self._law(i)
                value = np.clip((x[:, i] - mean[mode]) / (WIDTH * deviation[mode]), -_END, _END)
                matrix[:, self.within[i]] = np.where(gaps[:, i], 0.0, value)
                states[:, j] = np.where(gaps[:, i], states[:, j], mode)
        for j, (feature, kept) in enumerate(zip(self.schema.features, self._kept, strict=True)):
            if not kept[states[:, j]].all():
                which = int(states[~kept[states[:, j]], j][0])
                what = "missing" if which == self.possible[j] - 1 else f"state {which}"
                raise ValueError(f"{feature.name!r} is {what} for a patient, but was for none that were counted")
            states[:, j] = (np.cumsum(kept) - 1)[states[:, j]]
        matrix[np.arange(n)[:, None], self.columns[self.starts + states]] = 1.0
        return matrix, states

    def known(self, cohort: Cohort) -> NDArray[np.bool_]:
        """Patients without a value that is missing, or a category, where none was when states were counted."""
        states = self._states(cohort)
        return np.asarray(np.all([kept[states[:, j]] for j, kept in enumerate(self._kept)], axis=0), np.bool_)

    def _states(self, cohort: Cohort) -> Ints:
        """Possible states, of numbers the first or missing."""
        absent = np.isnan(cohort.values)
        x = np.where(absent, 0.0, cohort.values)
        x[:, self.numeric] = 0.0
        return np.asarray(np.where(absent, self.possible - 1, x), np.int64)

    def numbers(self, states: Ints, within: Floats) -> Floats:
        """Numeric features from states and numbers within modes, shape (n, numeric features); missing is NaN."""
        values = np.empty((len(states), len(self.numeric)))
        for i, j in enumerate(self.numeric):
            mean, deviation = self._law(i)
            state = np.flatnonzero(self._kept[j])[states[:, j]]
            mode = np.minimum(state, len(mean) - 1)
            x = mean[mode] + within[:, i] * WIDTH * deviation[mode]
            values[:, i] = np.where(state == self.possible[j] - 1, np.nan, x)
        return values

    def decode(self, states: Ints, numbers: Floats) -> Floats:
        """Values of features, shape (n, features), numbers within their range; inverse of `encode`.

        Parameters
        ----------
        states
            Shape (n, features).
        numbers
            See `numbers`.
        """
        values = np.empty(states.shape)
        for j, kept in enumerate(self._kept):
            values[:, j] = np.flatnonzero(kept)[states[:, j]]
        values[values == self.possible - 1] = np.nan
        for i, j in enumerate(self.numeric):
            feature = self.schema.features[j]
            low = 0.0 if feature.low is None and feature.kind == "count" else feature.low
            high = np.inf if feature.high is None else feature.high
            x = np.rint(numbers[:, i]) if feature.kind == "count" else numbers[:, i]
            values[:, j] = np.clip(x, -np.inf if low is None else low, high)
        return values

    def state_of(self, feature: int, value: float) -> int:
        """The state of one value that occurs, NaN for missing; of a number its most probable mode."""
        return int(self._kept[feature][: self._possible_state(feature, value)].sum())

    def has(self, feature: int, value: float) -> bool:
        """Whether anybody has a value (NaN: lacks one), or a number of its mode."""
        return bool(self._kept[feature][self._possible_state(feature, value)])

    def _possible_state(self, feature: int, value: float) -> int:
        if np.isnan(value):
            return int(self.possible[feature]) - 1
        if not self.schema.features[feature].numeric:
            return int(value)
        assert self.mixture is not None
        i = int(np.searchsorted(self.numeric, feature))
        points = np.full((1, len(self.numeric), 1), value)
        return int(self.mixture.probabilities(points)[0, i, self.modes[i]].argmax())

    def counts(self, cohort: Cohort, rng: np.random.Generator) -> dict[str, Floats]:
        """What `keep` needs of the patients, and marginals of numbers, all additive.

        Returns
        -------
        dict
            ``counts`` (states,), and of numbers ``values`` (numeric features, cells) and ``decimals`` (numeric
            features, kinds), see `models.generative.discretization.marginal_counts`.
        """
        _, states = self.encode(cohort, rng)
        marginals = marginal_counts(cohort)
        return {"counts": self.count(states), "values": marginals["values"], "decimals": marginals["decimals"]}

    def count(self, states: Ints) -> Floats:
        """How many patients have each state, shape (states,)."""
        return np.bincount((self.starts + states).ravel(), minlength=int(self.sizes.sum())).astype(np.float64)

    def keep(self, counts: Floats) -> NDArray[np.bool_]:
        """Which possible states to use, given their counts over all patients: all modes, and what anybody has."""
        kept = [part > 0 for part in np.split(counts, np.cumsum(self.possible)[:-1])]
        for j in self.numeric:
            kept[j][:-1] = True
        return np.concatenate(kept)

    def _law(self, i: int) -> tuple[Floats, Floats]:
        assert self.mixture is not None
        modes = self.modes[i]
        return self.mixture.means[i, modes, 0], np.sqrt(self.mixture.covariances[i, modes].reshape(-1))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """As plain arrays."""
        mixture = {} if self.mixture is None else {f"mixture/{n}": a for n, a in self.mixture.posterior.items()}
        return mixture if self.kept is None else {**mixture, "kept": self.kept}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], schema: Schema, options: Any, threshold: float
    ) -> TableEncoding:
        """From `to_arrays`; `options` are the mixture's."""
        prefix = "mixture/"
        posterior = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        return cls(schema, FittedMixture(posterior, options) if posterior else None, arrays.get("kept"), threshold)
