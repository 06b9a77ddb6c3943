"""Cohorts from known mixtures of conditional Bernoullis, by the design of Dall'Olio et al. (PLOS Comput Biol 2023).

Every cluster's weights are a draw from Dirichlet(a, …, a), a = 1 or 1/genes; a patient of the cluster has n events,
n ~ Poisson(λ), placed by the cluster's conditional Bernoulli law, exactly (the paper's R sampler is biased).

What the paper leaves open follows the published cohorts: n may be 0 (its frequencies fit the plain Poisson law and no
law without zero), the clusters' shares are like a draw from Dirichlet(1, …, 1) whatever a, and log odds are given
with median zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import poisson

from clustering.conditional_bernoulli import logpmf, sample
from clustering.events import EventTable, read_events


@dataclass(frozen=True)
class Simulated:
    """A cohort with its truth.

    Parameters
    ----------
    table
        The patients.
    labels
        Each patient's cluster from 0, (patients,).
    log_odds
        Shape (clusters, genes), each row with median zero.
    weights
        Shares of the clusters, (clusters,).
    """

    table: EventTable
    labels: np.ndarray
    log_odds: np.ndarray
    weights: np.ndarray


def log_dirichlet(concentration: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Logarithms of symmetric Dirichlet draws, up to a constant a row: of any size, where the draws would underflow.

    A Gamma(a) variable is a Gamma(a + 1) variable times U^(1/a).
    """
    return np.asarray(np.log(rng.gamma(concentration + 1.0, size=shape)) - rng.exponential(size=shape) / concentration)


def simulate(
    clusters: int,
    events: float,
    concentration: float,
    rng: np.random.Generator,
    patients: int = 1000,
    genes: int = 50,
    fewest: int = 0,
) -> Simulated:
    """One cohort of the design.

    Parameters
    ----------
    clusters
        K ≥ 1; small clusters may happen to have no patient.
    events
        λ > 0, of the Poisson law of the number of events, truncated to ``fewest`` … ``genes``.
    concentration
        a > 0 of the Dirichlet law of a cluster's weights: 1, or 1/genes for clusters with few, strong genes.
    fewest
        Least number of events: 0 as published, 1 for patients that all carry information.

    Raises
    ------
    ValueError
        For an argument outside its range.
    """
    for name, value in (("clusters", clusters), ("events", events), ("concentration", concentration)):
        if not value > 0:
            raise ValueError(f"{name}: {value} must be positive")
    if not 0 <= fewest <= genes:
        raise ValueError(f"fewest: {fewest} must be between 0 and {genes} genes")
    log_odds = log_dirichlet(concentration, (clusters, genes), rng)
    log_odds -= np.median(log_odds, axis=1, keepdims=True)
    weights = rng.dirichlet(np.ones(clusters))
    labels = rng.choice(clusters, size=patients, p=weights)
    numbers = np.arange(fewest, genes + 1)
    law = np.exp(poisson.logpmf(numbers, events) - poisson.logpmf(numbers, events).max())
    n = rng.choice(numbers, size=patients, p=law / law.sum())
    x = np.zeros((patients, genes), np.int8)
    for k in range(clusters):
        x[labels == k] = sample(log_odds[k], n[labels == k], rng)
    ids = np.array([f"p{i:04d}" for i in range(patients)])
    return Simulated(EventTable(ids, tuple(f"g{g:02d}" for g in range(genes)), x), labels, log_odds, weights)


def read_simulated(path: Path) -> Simulated:
    """A published cohort: a CSV of ``label`` and genes; its log odds lie beside it (``.odds``, a row a cluster).

    The shares are the observed ones.

    Raises
    ------
    CohortError
        As `read_events`.
    ValueError
        If the log odds do not fit the table.
    """
    table, truth = read_events(path, truth="label")
    labels = np.asarray(truth).astype(np.int64)
    log_odds = np.loadtxt(path.with_suffix(".odds"), ndmin=2)
    if log_odds.shape[1] != len(table.genes) or len(log_odds) <= labels.max():
        raise ValueError(f"log_odds: shape {log_odds.shape} does not fit {path}")
    return Simulated(table, labels, log_odds, np.bincount(labels, minlength=len(log_odds)) / len(labels))


def oracle_labels(simulated: Simulated) -> np.ndarray:
    """Each patient's most probable cluster for one who knows odds and shares, (patients,): the best any method can do.

    Patients without events go to the largest cluster.
    """
    with np.errstate(divide="ignore"):
        log_weights = np.log(simulated.weights)
    return np.asarray((log_weights + logpmf(simulated.table.events, simulated.log_odds)).argmax(1))
