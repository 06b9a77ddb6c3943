"""A factor drawn given survival is what it would have been had survival been drawn given the factor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest
from sksurv.util import Surv

from experiments.datasets import load_dataset
from experiments.simulation.slides import COVARIATES, LOG_HAZARD_RATIO, SLIDE, prognostic_factor, slides, standardized
from models.survival.exact_cox import ExactCox


@pytest.mark.parametrize("effect", [0.3, 1.0])
def test_the_factor_given_survival_has_the_joint_law(effect: float) -> None:
    rng = np.random.default_rng(0)
    n = 6_000
    true = rng.standard_normal(n)
    death, end = rng.exponential(size=n) * np.exp(-effect * true), rng.uniform(0, 2, n)
    time, event = np.minimum(death, end), death <= end
    drawn = prognostic_factor(time, event, effect, rng.random(n))  # the baseline hazard is 1: cumulative = time
    # Simulation-based calibration: a draw from the posterior is distributed as the truth, jointly with the outcome.
    assert kstest(drawn, "norm").pvalue > 1e-3
    for group in (event & (time < 0.3), event & (time >= 0.3), ~event & (time < 1), ~event & (time >= 1)):
        spread = np.sqrt(true[group].var() / group.sum() * 2)
        assert abs(drawn[group].mean() - true[group].mean()) < 4 * spread
        assert drawn[group].std() == pytest.approx(true[group].std(), rel=0.08)
    fit = ExactCox().fit(drawn[:, None], Surv.from_arrays(event, time)).fit_
    assert abs(fit.coefficients[0] - effect) < 4 * np.sqrt(fit.covariance[0, 0])


def test_the_block_adds_what_is_stated(data_dir: Path) -> None:
    real = load_dataset("mds_iwg", data_dir).cohort
    block, factor = slides(real, 1)
    assert block.shape == (len(real), SLIDE.width)
    x = np.column_stack(list(standardized(real, COVARIATES).values()))
    outcome = Surv.from_arrays(real.event, real.time)
    fit = ExactCox().fit(np.column_stack([x, factor]), outcome).fit_
    assert abs(fit.coefficients[-1] - LOG_HAZARD_RATIO) < 3.5 * np.sqrt(fit.covariance[-1, -1])
    assert abs(factor.mean()) < 0.06
    assert factor.std() == pytest.approx(1, abs=0.05)
    assert np.abs(np.corrcoef(np.column_stack([x, factor]).T)[-1, :-1]).max() < 0.08  # beyond the covariates
    # The factor can be read from the columns, and so can blasts.
    for target, least in ((factor, 0.8), (standardized(real, ("bone_marrow_blasts",))["bone_marrow_blasts"], 0.25)):
        read = block @ np.linalg.lstsq(block, target, rcond=None)[0]
        assert np.corrcoef(read, target)[0, 1] ** 2 > least
    np.testing.assert_array_equal(slides(real, 1)[0], block)
