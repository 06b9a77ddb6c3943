"""The mixture is scikit-learn's from the same start: means, covariances, weights, lower bound, predictions."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.mixture import BayesianGaussianMixture

from models.generative.variational_mixture import (
    START,
    FittedMixture,
    MixtureOptions,
    VariationalMixture,
    _nearest,
    fit_mixture,
)

Floats = NDArray[np.float64]


def points(n: int = 300, columns: int = 3, seed: int = 0) -> Floats:
    """Three unequal clouds, far from 0, columns of different scale."""
    rng = np.random.default_rng(seed)
    cloud = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    x = rng.normal(size=(n, columns)) * (1 + cloud)[:, None] + 4 * cloud[:, None] * np.cos(np.arange(columns))
    return x * 10.0 ** np.arange(columns) + 20


class FromStart(BayesianGaussianMixture):  # type: ignore[misc]
    """scikit-learn's, begun from given responsibilities."""

    start: Floats

    def _initialize_parameters(self, X: Floats, random_state: Any, xp: Any = None) -> None:
        self._initialize(X, self.start)


def start_of(x: Floats, options: MixtureOptions, seed: int) -> Floats:
    """Where the fit's own k-means ends."""
    solver, state = VariationalMixture(options, seed), VariationalMixture(options, seed).start()
    while int(state["phase"]) != START:
        state = solver.update(state, solver.answer(solver.broadcast(state), x[:, None]))
    return np.eye(options.components)[_nearest(x[:, None], state["centers"])[:, 0]]


def theirs(x: Floats, options: MixtureOptions, seed: int = 0) -> BayesianGaussianMixture:
    model = FromStart(
        n_components=options.components,
        covariance_type=options.covariance,
        weight_concentration_prior_type=options.prior,
        weight_concentration_prior=options.concentration,
        mean_precision_prior=options.mean_precision,
        degrees_of_freedom_prior=options.degrees_of_freedom,
        reg_covar=options.reg_covar,
        tol=options.tol,
        max_iter=options.max_iter,
    )
    model.start = start_of(x, options, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged, where few iterations are meant
        return model.fit(x)


def require_equal(mine: FittedMixture, expected: BayesianGaussianMixture, block: int = 0) -> None:
    """To 1e-6, relative to the scale of the columns."""
    scale = np.sqrt(np.diag(np.atleast_2d(mine.state["prior_covariance"][block])))
    if mine.options.covariance == "diag":
        scale = np.sqrt(mine.state["prior_covariance"][block])
    by = np.outer(scale, scale) if mine.options.covariance == "full" else scale**2
    np.testing.assert_allclose(mine.means[block] / scale, expected.means_ / scale, atol=1e-6)
    np.testing.assert_allclose(mine.covariances[block] / by, expected.covariances_ / by, atol=1e-6)
    np.testing.assert_allclose(mine.weights[block], expected.weights_, atol=1e-6)
    assert mine.lower_bound[block] == pytest.approx(expected.lower_bound_, abs=1e-6)
    assert int(mine.state["block_iterations"][block]) == expected.n_iter_
    assert bool(mine.converged[block]) == expected.converged_


OPTIONS = {
    "full, Dirichlet process": MixtureOptions(components=5),
    "diagonal, Dirichlet process": MixtureOptions(components=6, covariance="diag", concentration=1e-3),
    "full, Dirichlet distribution": MixtureOptions(components=4, prior="dirichlet_distribution", tol=1e-6),
    "other priors": MixtureOptions(4, "diag", "dirichlet_distribution", 2.0, 0.5, 7.0, 1e-3, max_iter=7, tol=1e-9),
    "without k-means": MixtureOptions(components=3, lloyd_rounds=0),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_mixture_is_scikit_learns(name: str) -> None:
    options, x = OPTIONS[name], points()
    mine = fit_mixture(x[:, None], options, seed=4)
    expected = theirs(x, options, seed=4)
    require_equal(mine, expected)
    copy = mine.to_sklearn()
    np.testing.assert_allclose(copy.predict_proba(x), expected.predict_proba(x), atol=1e-6)
    np.testing.assert_allclose(mine.probabilities(x[:, None])[:, 0], copy.predict_proba(x), atol=1e-9)
    np.testing.assert_allclose(copy.precisions_, expected.precisions_, rtol=1e-4, atol=1e-9)


def test_columns_are_fitted_side_by_side_each_with_its_own_missing_values() -> None:
    x = points(columns=4)
    x[::5, 1] = np.nan
    options = MixtureOptions(components=5, concentration=1e-3)
    together = fit_mixture(x[:, :, None], options)
    assert len(set(together.state["block_iterations"])) > 1  # so that some had to wait
    for j in range(4):
        known = x[~np.isnan(x[:, j]), j : j + 1]
        require_equal(together, theirs(known, options), j)


def test_the_lower_bound_never_falls() -> None:
    x = points()[:, None]
    solver = VariationalMixture(MixtureOptions(components=8, tol=1e-9))
    state, bounds = solver.start(), []
    while not solver.done(state):
        state = solver.update(state, solver.answer(solver.broadcast(state), x))
        bounds.append(float(state["bound"][0]) if "bound" in state else -np.inf)
    assert (np.diff(bounds[-20:]) > -1e-6).all()
    assert len(bounds) > 5


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_samples_have_the_moments_of_the_points(covariance: Any) -> None:
    x = points(1000)
    drawn, component = fit_mixture(x[:, None], MixtureOptions(3, covariance)).sample(40_000, np.random.default_rng(1))
    scale = x.std(0)
    np.testing.assert_allclose(drawn[:, 0].mean(0) / scale, x.mean(0) / scale, atol=0.06)
    np.testing.assert_allclose(drawn[:, 0].std(0) / scale, 1.0, atol=0.06)
    assert set(component[:, 0]) <= {0, 1, 2}


def test_a_column_without_values_is_named() -> None:
    x = points()[:, :, None]
    x[:, 1] = np.nan
    with pytest.raises(ValueError, match="block 1 of the mixture has 0 points"):
        fit_mixture(x)


@pytest.mark.parametrize(
    "options", [{"components": 0}, {"max_iter": 0}, {"concentration": 0.0}, {"mean_precision": -1}]
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        MixtureOptions(**options)
