"""Principal axes from sums: scikit-learn's on the pooled table, to 1e-6, by both ways."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from models.pca import PrincipalAxes, SubspaceIteration, axes_of_scatter, random_basis

Floats = NDArray[np.float64]


def table(n: int, p: int, seed: int = 0) -> Floats:
    """Centered rows, whose variances along some hidden directions fall geometrically."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((p, p)))
    z = rng.standard_normal((n, p)) * 0.8 ** np.arange(p) @ rotation
    centered: Floats = z - z.mean(axis=0)
    return centered


def oracle(z: Floats, k: int) -> PrincipalAxes:
    """scikit-learn's, signs by the entry of largest magnitude."""
    fitted = PCA(k, svd_solver="full").fit(z)
    rows = fitted.components_
    signs = np.sign(rows[np.arange(k), np.abs(rows).argmax(axis=1)])
    return PrincipalAxes(rows * signs[:, None], fitted.explained_variance_)


def require_equal(mine: PrincipalAxes, theirs: PrincipalAxes, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(mine.components, theirs.components, atol=tolerance)
    np.testing.assert_allclose(mine.variances, theirs.variances, rtol=tolerance)


def iterate(z: Floats, k: int, seed: int = 0, tolerance: float = 1e-9) -> tuple[SubspaceIteration, int]:
    basis = random_basis(z.shape[1], k, np.random.default_rng(seed))
    step, rounds = SubspaceIteration.step(basis, z.T @ (z @ basis), len(z), k), 1
    while step.residual > tolerance and rounds < 100:
        step, rounds = SubspaceIteration.step(step.basis, z.T @ (z @ step.basis), len(z), k), rounds + 1
    return step, rounds


def test_axes_of_the_scatter_matrix_are_scikit_learns() -> None:
    z = table(60, 12)
    require_equal(axes_of_scatter(z.T @ z, 60, 5), oracle(z, 5), 1e-9)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), k=st.integers(1, 6), n=st.integers(15, 60), start=st.integers(0, 3))
def test_subspace_iteration_finds_them_from_any_start(seed: int, k: int, n: int, start: int) -> None:
    z = table(n, 40, seed)
    step, _ = iterate(z, k, start)
    require_equal(step.axes, oracle(z, k))


def test_it_takes_few_rounds_on_a_wide_block() -> None:
    z = table(100, 500)
    step, rounds = iterate(z, 8)
    assert rounds <= 8
    require_equal(step.axes, oracle(z, 8))


def test_the_residual_bounds_the_angle_to_the_true_axis() -> None:
    z = table(80, 50)
    true = oracle(z, 4)
    basis = random_basis(50, 1, np.random.default_rng(1))[:, :2]  # narrow, so that it takes its time
    residuals = []
    for _ in range(12):
        step = SubspaceIteration.step(basis, z.T @ (z @ basis), 80, 1)
        (found,), (variance,) = step.axes.components, step.axes.variances
        sine = np.linalg.norm(found - (found @ true.components[0]) * true.components[0])
        if variance > true.variances[1]:
            assert sine <= step.residual / (1 - true.variances[1] / variance) + 1e-9
            residuals.append(step.residual)
        basis = step.basis
    assert len(residuals) > 5
    assert residuals[-1] < residuals[0]


def test_scores_have_variance_one_and_no_correlation() -> None:
    z = table(70, 9)
    scores = z @ axes_of_scatter(z.T @ z, 70, 4).whitening.T
    np.testing.assert_allclose(np.cov(scores.T), np.eye(4), atol=1e-9)


def test_a_block_of_lower_rank_has_fewer_axes() -> None:
    z = table(4, 30)  # centered: rank 3
    assert len(axes_of_scatter(z.T @ z, 4, 10).variances) == 3
    assert len(iterate(z, 10)[0].axes.variances) == 3


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_decompose_is_said(n: int) -> None:
    z = np.zeros((n, 5))
    with pytest.raises(ValueError, match="no variance"):
        axes_of_scatter(z.T @ z, n, 2)
