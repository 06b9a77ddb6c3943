"""Blocks of many correlated columns: a radiomics vector, an embedding of a slide.

A few latent factors lie behind all columns. A factor may depend on covariates (what an image shows of the disease), and
may have an effect of its own on the hazard (what it shows beyond them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from experiments.simulation.population import SimulationError
from harmonization import Feature
from harmonization.schema import Modality

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Factors:
    """A block of columns x = factors · loadings + noise, each column of unit variance.

    Parameters
    ----------
    prefix
        Of the columns' names.
    modality
        Of the block.
    width
        Number of columns.
    depends
        Per factor: covariate -> correlation with its normal score. The rest of the factor is its own.
    signal
        Fraction of a column's variance that factors explain.
    """

    prefix: str
    modality: Modality
    width: int
    depends: tuple[Mapping[str, float], ...]
    signal: float = 0.6
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        digits = len(str(self.width))
        object.__setattr__(self, "names", tuple(f"{self.prefix}{i:0{digits}d}" for i in range(1, self.width + 1)))

    def features(self) -> tuple[Feature, ...]:
        """Columns of the schema."""
        return tuple(Feature(name, "continuous", self.modality) for name in self.names)

    def factors(self, scores: Mapping[str, Floats], own: Floats) -> Floats:
        """Latent factors of unit variance, shape (n, factors).

        Parameters
        ----------
        scores
            Standard normal scores of the covariates, by name.
        own
            Standard normal, shape (n, factors): the part of each factor that no covariate explains.
        """
        columns = []
        for k, depends in enumerate(self.depends):
            shared = sum((weight * scores[name] for name, weight in depends.items()), np.zeros(len(own)))
            rest = 1 - float(np.var(shared))  # covariates may be correlated: what is missing to unit variance
            if rest < 0:
                raise SimulationError(f"{self.prefix}: covariates explain more than all of factor {k + 1}; weaken them")
            columns.append(shared + np.sqrt(rest) * own[:, k])
        return np.column_stack(columns)

    def columns(self, factors: Floats, rng: np.random.Generator) -> Floats:
        """The block, shape (n, width)."""
        loadings = rng.standard_normal((factors.shape[1], self.width))
        loadings *= np.sqrt(self.signal) / np.linalg.norm(loadings, axis=0)
        noise = rng.standard_normal((len(factors), self.width))
        block: Floats = factors @ loadings + np.sqrt(1 - self.signal) * noise
        return block
