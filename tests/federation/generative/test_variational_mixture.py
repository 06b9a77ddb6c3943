"""Mixtures over centers are those of the pooled patients."""

from __future__ import annotations

import numpy as np
import pytest

from federation import DisclosurePolicy, FitColumnMixtures, FitMixture, mixture_of, run
from harmonization import Cohort
from models.generative.variational_mixture import FittedMixture, MixtureOptions, fit_mixture
from tests.federation.generative.test_bayesian_network import dealt
from tests.federation.hospitals import federation_of, patients, preprocessor

EVERYBODY = DisclosurePolicy(min_patients=0)


def cohort() -> Cohort:
    return patients(300, seed=4)


def require_equal(mine: FittedMixture, pooled: FittedMixture) -> None:
    """To 1e-6 of the prior's standard deviations."""
    deviation = np.sqrt(np.einsum("bii->bi", pooled.state["prior_covariance"]))[:, None]
    np.testing.assert_allclose(mine.means / deviation, pooled.means / deviation, atol=1e-6)
    by = deviation[..., :, None] * deviation[..., None, :]
    np.testing.assert_allclose(mine.covariances / by, pooled.covariances / by, atol=1e-6)
    np.testing.assert_allclose(mine.weights, pooled.weights, atol=1e-6)
    np.testing.assert_allclose(mine.lower_bound, pooled.lower_bound, atol=1e-6)
    np.testing.assert_array_equal(mine.state["block_iterations"], pooled.state["block_iterations"])


@pytest.mark.parametrize("centers", [3, 45])
def test_the_mixture_of_the_design_is_the_pooled_one(centers: int) -> None:
    options = MixtureOptions(components=4, max_iter=30)
    algorithm = FitMixture(options, preprocessor())
    federation = federation_of(dealt(cohort(), centers), policy=EVERYBODY, seed=3)
    pooled = fit_mixture(preprocessor().transform(cohort())[:, None], options, seed=3)
    require_equal(mixture_of(run(algorithm, federation), algorithm), pooled)


@pytest.mark.parametrize("centers", [3, 45])
def test_the_mixtures_of_columns_are_the_pooled_ones(centers: int) -> None:
    algorithm = FitColumnMixtures(MixtureOptions(concentration=1e-3, max_iter=12))
    state = run(algorithm, federation_of(dealt(cohort(), centers), policy=EVERYBODY))
    mine = mixture_of(state, algorithm)
    require_equal(mine, fit_mixture(cohort().values[:, :2, None], algorithm.options))  # age and blasts
    assert mine.means.shape == (2, 10, 1)


def test_who_comes_and_goes_makes_the_fit_start_over() -> None:
    cohorts = dealt(cohort(), 3)
    algorithm = FitColumnMixtures(MixtureOptions(components=3, max_iter=15))
    federation = federation_of(cohorts, policy=EVERYBODY)
    state, everybody = algorithm.start(federation.roster), federation.centers
    for r in range(200):
        federation.centers = everybody[:2] if r >= 4 else everybody
        if algorithm.done(state):
            break
        state = algorithm.server_update(state, federation.ask(algorithm, state))
    assert int(state["restarts"]) == 1
    left = Cohort.concatenate(list(cohorts.values())[:2])
    require_equal(mixture_of(state, algorithm), fit_mixture(left.values[:, :2, None], algorithm.options))
