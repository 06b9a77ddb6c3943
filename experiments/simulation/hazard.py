"""Survival from a stated hazard: a Weibull baseline, log hazard ratios per covariate, censoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Term:
    """One line of the linear predictor: coefficient · (f(x) - center) / per.

    Parameters
    ----------
    coefficient
        Log hazard ratio per unit.
    center
        Where the term is zero, on the scale of f.
    per
        How much of f(x) is a unit.
    log2
        Whether f is the binary logarithm (of at least .1, so that a zero has one), else x itself.
    """

    coefficient: float
    center: float = 0.0
    per: float = 1.0
    log2: bool = False

    def column(self, x: Floats) -> Floats:
        """What the coefficient multiplies, shape (n,)."""
        scaled = np.log2(np.maximum(x, 0.1)) if self.log2 else x
        return (scaled - self.center) / self.per


@dataclass(frozen=True)
class Hazard:
    """h(t | x) = shape / scale · (t / scale)^(shape - 1) · exp(linear predictor), scale such that x = 0 has the median.

    Parameters
    ----------
    terms
        By column.
    median
        Years in which half the patients with a linear predictor of 0 die.
    shape
        Of the Weibull baseline; 1 is a constant hazard.
    follow_up
        Years between study entry and data cut-off: uniform over patients between these two.
    lost
        Rate per year at which patients are lost.
    """

    terms: Mapping[str, Term]
    median: float
    shape: float
    follow_up: tuple[float, float]
    lost: float

    @property
    def scale(self) -> float:
        """Of the Weibull baseline, in years."""
        return float(self.median / np.log(2) ** (1 / self.shape))

    def design(self, table: pd.DataFrame) -> pd.DataFrame:
        """What each coefficient multiplies, a column per term."""
        return pd.DataFrame({name: term.column(table[name].to_numpy(float)) for name, term in self.terms.items()})

    def linear_predictor(self, table: pd.DataFrame) -> Floats:
        """Shape (n,)."""
        coefficients = np.array([term.coefficient for term in self.terms.values()])
        return np.asarray(self.design(table).to_numpy() @ coefficients, dtype=np.float64)

    def draw(self, predictor: Floats, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
        """Times in years (at least a day) and whether the event was seen, each of shape (n,)."""
        n = len(predictor)
        death = self.scale * (rng.exponential(size=n) * np.exp(-predictor)) ** (1 / self.shape)
        cut_off = rng.uniform(*self.follow_up, size=n)
        lost = rng.exponential(size=n) / self.lost if self.lost > 0 else np.full(n, np.inf)
        end = np.minimum(cut_off, lost)
        return np.maximum(np.minimum(death, end), 1 / 365.25), death <= end
