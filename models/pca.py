"""Principal components of a wide block of features (embeddings, radiomics) from sums over patients.

Patients enter through sums only, so those of several centers give the axes of their pooled patients. Two ways:

- the scatter matrix Σ z zᵀ itself, p × p, decomposed once (`axes_of_scatter`);
- for wide blocks its product with a basis, Σ z (zᵀ B), p × l: randomized subspace iteration with a Rayleigh-Ritz step
  (`SubspaceIteration`), one sum a round.

Rows z are deviations from the mean of all patients; a value missing within a block stands at the mean.

References
----------
Halko, Martinsson & Tropp (2011), Finding structure with randomness, SIAM Review 53:217, algorithms 4.4 and 5.3.
Saad (2011), Numerical Methods for Large Eigenvalue Problems, algorithm 5.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NEGLIGIBLE = 1e-10
"""An axis whose variance is below this fraction of the largest is rounding error of a block of lower rank."""


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Directions of largest variance.

    Parameters
    ----------
    components
        Unit vectors in rows, by decreasing variance, shape (k, p). Of each the entry of largest magnitude is positive.
    variances
        Variance of the patients along each (denominator n − 1), shape (k,).
    """

    components: Floats
    variances: Floats

    @property
    def whitening(self) -> Floats:
        """The map from deviations to scores of variance 1, shape (k, p)."""
        whitening: Floats = self.components / np.sqrt(self.variances)[:, None]
        return whitening


def axes_of_scatter(scatter: Floats, patients: float, components: int) -> PrincipalAxes:
    """The leading axes of Σ z zᵀ over so many patients; fewer than asked for if the block has a lower rank.

    Raises
    ------
    ValueError
        If there is nothing to decompose.
    """
    values, vectors = np.linalg.eigh((scatter + scatter.T) / 2)
    return _leading(values, vectors, patients, components)


@dataclass(frozen=True, eq=False)
class SubspaceIteration:
    """What one round of subspace iteration knows.

    Parameters
    ----------
    axes
        The best axes within the span of the basis.
    residual
        Largest ‖S v − θ v‖ of the axes wanted (S the scatter matrix, θ the Ritz value), over the largest θ. The angle
        between an axis and the true one is at most this over the relative gap to the other eigenvalues.
    basis
        Orthonormal, for the next round, shape (p, l).
    """

    axes: PrincipalAxes
    residual: float
    basis: Floats

    @classmethod
    def step(cls, basis: Floats, image: Floats, patients: float, components: int) -> SubspaceIteration:
        """From an orthonormal basis B, shape (p, l), and its image S·B.

        Raises
        ------
        ValueError
            If there is nothing to decompose.
        """
        inner = basis.T @ image
        values, rotation = np.linalg.eigh((inner + inner.T) / 2)
        vectors = basis @ rotation
        distance = np.linalg.norm(image @ rotation - vectors * values, axis=0)[::-1][:components]
        axes = _leading(values, vectors, patients, components)
        following, _ = np.linalg.qr(image @ rotation[:, ::-1])
        return cls(axes, float(distance.max() / values[-1]), following)


def random_basis(columns: int, components: int, rng: np.random.Generator) -> Floats:
    """Where subspace iteration starts: orthonormal columns, shape (p, l); l = 2k + 10, since what decides how fast it
    converges is the eigenvalue just outside the basis over the last one wanted."""
    basis, _ = np.linalg.qr(rng.standard_normal((columns, min(columns, 2 * components + 10))))
    return basis


def _leading(values: Floats, vectors: Floats, patients: float, components: int) -> PrincipalAxes:
    """The largest eigenvalues first, without those of rounding error, signs fixed."""
    values, vectors = values[::-1][:components], vectors[:, ::-1][:, :components]
    if patients < 2 or not values[0] > 0:
        raise ValueError(f"{patients:g} patients have no variance along which to take principal components")
    real = values > NEGLIGIBLE * values[0]
    rows = vectors[:, real].T
    largest = np.abs(rows).argmax(axis=1)
    signs = np.sign(rows[np.arange(len(rows)), largest])
    return PrincipalAxes(rows * signs[:, None], values[real] / (patients - 1))
