"""A simulated embedding of a slide for real patients, whose survival is known.

The block carries one factor that adds to what the covariates say of survival, by a stated log hazard ratio. Survival is
given, so the factor is drawn from what it must have been: with h(t | x, m) = h0(t) exp(xb + g m) and m standard normal
before the outcome is known, a patient with cumulative hazard L (at m = 0) at the end of follow-up has

    p(m | outcome) ~ exp(-m^2 / 2 + event · g · m - L · exp(g m)).

L is that of a Cox model of covariates and m, so m and the model are drawn and fitted in turn until neither changes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sksurv.util import Surv

from experiments.simulation.factors import Factors
from federation.randomness import generator
from harmonization import Cohort
from models.survival.baseline import BaselineHazard, breslow_sums
from models.survival.exact_cox import ExactCox

Floats = NDArray[np.float64]

LOG_HAZARD_RATIO = 0.6
"""Of one standard deviation of the prognostic factor, given the covariates below."""
COVARIATES = (
    "age",
    "hemoglobin",
    "platelets",
    "bone_marrow_blasts",
    "ipssr_cytogenetics",
    "TP53multi",
    "RUNX1",
    "ASXL1",
)
"""The model that the factor adds to."""
ITERATIONS = 4

SLIDE = Factors(
    prefix="slide_",
    modality="histopathology",
    width=64,
    depends=(
        {},  # the prognostic factor
        {"bone_marrow_blasts": 0.6},
        {"SF3B1": 0.6},  # ringed sideroblasts
        {"TP53multi": 0.4, "ipssr_cytogenetics": 0.3},
        {"age": -0.5},  # cellularity
        {"platelets": 0.3, "del5q": 0.3},  # megakaryocytes
        {},  # stain
        {},  # scanner
    ),
)


def standardized(cohort: Cohort, names: tuple[str, ...]) -> dict[str, Floats]:
    """Columns with mean 0 and variance 1, 0 where missing."""
    columns = {}
    for name in names:
        x = cohort.column(name)
        columns[name] = np.nan_to_num((x - np.nanmean(x)) / np.nanstd(x))
    return columns


def prognostic_factor(cumulative: Floats, event: NDArray[np.bool_], effect: float, uniform: Floats) -> Floats:
    """Draw m given survival, shape (n,), by inversion on a grid.

    Parameters
    ----------
    cumulative
        Cumulative hazard at the end of follow-up where m = 0.
    event
        Whether the patient died.
    effect
        Log hazard ratio g of one unit of m.
    uniform
        A uniform number per patient.
    """
    grid = np.linspace(-6, 6, 601)
    log_density = -(grid**2) / 2 + effect * np.outer(event, grid) - np.outer(cumulative, np.exp(effect * grid))
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    below = np.cumsum(density, axis=1)
    below /= below[:, -1:]
    cell = (below < uniform[:, None]).sum(axis=1)
    return np.asarray(grid[np.minimum(cell, len(grid) - 1)], dtype=np.float64)


def slides(cohort: Cohort, seed: int) -> tuple[Floats, Floats]:
    """The block and the prognostic factor in it.

    Parameters
    ----------
    cohort
        Real patients, with the columns that `SLIDE` and `COVARIATES` name.
    seed
        Of every random number; the same patients in the same order get the same block.

    Returns
    -------
    array of shape (n, 64), array of shape (n,)
    """
    n = len(cohort)
    x = np.column_stack(list(standardized(cohort, COVARIATES).values()))
    outcome = Surv.from_arrays(cohort.event, cohort.time)
    times = np.unique(cohort.time)
    uniform = generator(seed, "slides", "factor").random(n)  # the same each time, so that the iteration settles
    factor = np.zeros(n)
    for iteration in range(ITERATIONS):
        fit = ExactCox().fit(np.column_stack([x, factor]) if iteration else x, outcome)
        covariates = x @ fit.coef_[: x.shape[1]]
        sums = breslow_sums(cohort.time, cohort.event, covariates + LOG_HAZARD_RATIO * factor, times)
        baseline = BaselineHazard.fit(times, sums["events"], sums["risk"])
        cumulative = np.interp(cohort.time, baseline.times, baseline.cumulative, left=0.0) * np.exp(covariates)
        factor = prognostic_factor(cumulative, cohort.event, LOG_HAZARD_RATIO, uniform)
    own = generator(seed, "slides", "own").standard_normal((n, len(SLIDE.depends)))
    own[:, 0] = factor
    named = standardized(cohort, tuple({name for depends in SLIDE.depends for name in depends}))
    return SLIDE.columns(SLIDE.factors(named, own), generator(seed, "slides", "columns")), factor
