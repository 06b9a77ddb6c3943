"""Cohorts whose truth is known: covariates from published marginals and co-occurrences, outcomes from a stated hazard,
centers that differ in case mix, missingness and baseline hazard.

What cannot be had as public data (multiple myeloma, a large cohort of chronic myelomonocytic leukaemia, patients with
images) is simulated here, and every data set made so says it.
"""

from experiments.simulation.centers import Centers
from experiments.simulation.factors import Factors
from experiments.simulation.hazard import Hazard, Term
from experiments.simulation.population import (
    Bernoulli,
    Exclusive,
    LogNormal,
    Marginal,
    Normal,
    Population,
    SimulationError,
)
from experiments.simulation.simulate import Disease, Simulation, simulate

__all__ = [
    "Bernoulli",
    "Centers",
    "Disease",
    "Exclusive",
    "Factors",
    "Hazard",
    "LogNormal",
    "Marginal",
    "Normal",
    "Population",
    "Simulation",
    "SimulationError",
    "Term",
    "simulate",
]
