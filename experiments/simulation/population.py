"""Covariates with given marginals and given co-occurrences: a Gaussian copula.

Each variable is a function of one standard normal number (its normal score), and the scores are jointly normal. What is
published of two lesions is an odds ratio; the correlation of their scores that gives it is found exactly (tetrachoric
correlation). Of all populations with the stated associations the one with most entropy is drawn: two variables of which
nothing is stated are independent given the others (Dempster's covariance selection).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

Floats = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


SWEEPS = 200
"""Over the stated pairs, before they are called impossible."""


class SimulationError(ValueError):
    """A description of a population that no patients can have; the message names the variable."""


class Marginal(Protocol):
    """How one variable is distributed over patients."""

    def columns(self, name: str, score: Floats) -> dict[str, Floats]:
        """Columns of the table from the standard normal scores of the patients, shape (n,)."""
        ...


@dataclass(frozen=True)
class Bernoulli:
    """Present or not; present above the threshold of its score.

    Parameters
    ----------
    probability
        Fraction of patients who have it.
    """

    probability: float

    def columns(self, name: str, score: Floats) -> dict[str, Floats]:
        """One column of 0 and 1."""
        return {name: (score > norm.isf(self.probability)).astype(np.float64)}


@dataclass(frozen=True)
class Normal:
    """A normal distribution, its ends clipped at the plausible range.

    Parameters
    ----------
    mean, sd
        In the variable's unit.
    low, high
        Values beyond are set to these.
    """

    mean: float
    sd: float
    low: float = -np.inf
    high: float = np.inf

    def columns(self, name: str, score: Floats) -> dict[str, Floats]:
        """One column."""
        return {name: np.clip(self.mean + self.sd * score, self.low, self.high)}


@dataclass(frozen=True)
class LogNormal:
    """A log-normal distribution, its ends clipped at the plausible range.

    Parameters
    ----------
    median
        In the variable's unit.
    sigma
        Standard deviation of the natural logarithm.
    low, high
        Values beyond are set to these.
    """

    median: float
    sigma: float
    low: float = 0.0
    high: float = np.inf

    def columns(self, name: str, score: Floats) -> dict[str, Floats]:
        """One column."""
        return {name: np.clip(self.median * np.exp(self.sigma * score), self.low, self.high)}


@dataclass(frozen=True)
class Exclusive:
    """Lesions of which a patient has one at most.

    Parameters
    ----------
    members
        Fraction of patients per lesion, from the top of the score downwards: neighbours share their associations with
        other variables. Odds ratios can be stated for the first alone.
    """

    members: Mapping[str, float]

    def columns(self, name: str, score: Floats) -> dict[str, Floats]:
        """A column of 0 and 1 per lesion."""
        from_top = norm.sf(score)
        upper = np.cumsum(list(self.members.values()))
        place = np.searchsorted(upper, from_top)
        return {lesion: (place == k).astype(np.float64) for k, lesion in enumerate(self.members)}


@dataclass(frozen=True)
class Population:
    """A joint distribution of covariates.

    Parameters
    ----------
    variables
        Marginals by name.
    odds_ratios
        Of two binary variables (for an exclusive group: its first member), by their names.
    correlations
        Of the normal scores of two variables of any kind, by their names.
    """

    variables: Mapping[str, Marginal]
    odds_ratios: Mapping[tuple[str, str], float] = field(default_factory=dict)
    correlations: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def correlation(self) -> Floats:
        """Of the normal scores, shape (variables, variables).

        Raises
        ------
        SimulationError
            If a pair names no variable or is stated twice, or if no patients can have all of it together.
        """
        position = {name: i for i, name in enumerate(self.variables)}
        matrix = np.eye(len(position))
        heads = {self._head(name): name for name in self.variables}
        pairs = [
            ((heads.get(a, a), heads.get(b, b)), self._tetrachoric(a, b, r)) for (a, b), r in self.odds_ratios.items()
        ]
        pairs += list(self.correlations.items())
        for (a, b), value in pairs:
            for name in (a, b):
                if name not in position:
                    raise SimulationError(f"{name!r} is in a pair ({a}, {b}) but not among the variables")
            i, j = position[a], position[b]
            if matrix[i, j] != 0 or i == j:
                raise SimulationError(f"the association of {a!r} and {b!r} is stated twice")
            matrix[i, j] = matrix[j, i] = value
        stated = [(i, j, matrix[i, j]) for i, j in zip(*np.nonzero(np.triu(matrix, 1)), strict=True)]
        return complete(len(position), stated)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[pd.DataFrame, Floats]:
        """Draw patients.

        Returns
        -------
        DataFrame
            A column per variable, or per member of an exclusive group.
        array of shape (n, variables)
            The normal scores.
        """
        scores = rng.standard_normal((n, len(self.variables))) @ np.linalg.cholesky(self.correlation()).T
        columns: dict[str, Floats] = {}
        for j, (name, marginal) in enumerate(self.variables.items()):
            columns |= marginal.columns(name, scores[:, j])
        return pd.DataFrame(columns), scores

    def _head(self, name: str) -> str:
        """The lesion that stands for a variable in odds ratios."""
        marginal = self.variables[name]
        return next(iter(marginal.members)) if isinstance(marginal, Exclusive) else name

    def _probability(self, lesion: str) -> float:
        for name, marginal in self.variables.items():
            if isinstance(marginal, Bernoulli) and name == lesion:
                return marginal.probability
            if isinstance(marginal, Exclusive) and self._head(name) == lesion:
                return marginal.members[lesion]
        raise SimulationError(f"an odds ratio names {lesion!r}, which is not binary or not the first of its group")

    def _tetrachoric(self, a: str, b: str, odds_ratio: float) -> float:
        p, q = self._probability(a), self._probability(b)
        if odds_ratio <= 0:
            raise SimulationError(f"the odds ratio of {a!r} and {b!r} is {odds_ratio}; it is positive")
        target = both(p, q, odds_ratio)
        h, k = norm.isf(p), norm.isf(q)
        return float(brentq(lambda r: upper_quadrant(h, k, r) - target, -0.9999, 0.9999, xtol=1e-10))


def complete(n: int, stated: Sequence[tuple[int, int, float]]) -> Floats:
    """The correlation matrix with given entries whose inverse is zero in all others.

    Parameters
    ----------
    n
        Size.
    stated
        Row, column and correlation.

    Raises
    ------
    SimulationError
        If there is none.

    References
    ----------
    Dempster 1972, Biometrics 28:157; Speed and Kiiveri 1986, Ann Stat 14:138 (iterative proportional scaling).
    """
    precision = np.eye(n)
    for _ in range(SWEEPS):
        worst = 0.0
        for i, j, value in stated:
            pair = np.ix_((i, j), (i, j))
            now = np.linalg.inv(precision)[pair]
            target = np.array([[1.0, value], [value, 1.0]])
            worst = max(worst, float(np.abs(now - target).max()))
            precision[pair] += np.linalg.inv(target) - np.linalg.inv(now)
        if worst < 1e-8:
            return np.asarray(np.linalg.inv(precision), dtype=np.float64)
    raise SimulationError(
        f"the stated associations cannot all hold together (off by {worst:.2g}); weaken the strongest"
    )


def both(p: float, q: float, odds_ratio: float) -> float:
    """Probability of two events together, from that of each and their odds ratio (Plackett 1965)."""
    s = 1 + (p + q) * (odds_ratio - 1)
    root = np.sqrt(s * s - 4 * odds_ratio * (odds_ratio - 1) * p * q)
    if s > 0:  # the other form of the same root, which an odds ratio near 1 does not cancel
        return float(2 * odds_ratio * p * q / (s + root))
    return float((s - root) / (2 * (odds_ratio - 1)))


def upper_quadrant(h: float, k: float, correlation: float) -> float:
    """P(X > h, Y > k) of two standard normal variables: the integral of Plackett (1954) over the correlation."""
    top = np.arcsin(correlation)
    angle = top * (_NODES + 1) / 2
    density = np.exp(-(h * h + k * k - 2 * h * k * np.sin(angle)) / (2 * np.cos(angle) ** 2)) / (2 * np.pi)
    return float(norm.sf(h) * norm.sf(k) + top / 2 * (_WEIGHTS @ density))
