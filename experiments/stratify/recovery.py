"""Recovery of known classes: the conditional-Bernoulli mixture beside the oracle that knows the odds.

    python -m experiments.stratify.recovery sim_a1M_K5_l3.csv sim_a1M_K10_l3.csv

For cohorts as `clustering.simulation.read_simulated` reads them. Patients without events are counted apart: no method
can place them. Beside the oracle stands a supervised classifier, which does not know the odds but the classes of all
other patients: who knows less can hardly do better. With StepMix installed (``haemfed[peers]``), so does its latent
class analysis, the textbook model of binary indicators.
"""

from __future__ import annotations

import json
import time
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.special import logsumexp
from sklearn.metrics import adjusted_rand_score

from clustering.chain import steps
from clustering.diagnostics import diagnose
from clustering.mixture import MixtureSampler
from clustering.mixture.sweep import statistics
from clustering.mixture.weights import update_weights
from clustering.partition import minimize_vi
from clustering.relabelling import most_probable_classes
from clustering.simulation import Simulated, oracle_labels, read_simulated


def recover(cohort: Simulated, chains: int, sweeps: int, spacing: int, seed: int) -> dict[str, object]:
    """ARI of mixture and oracle among patients with events; K with the 90% interval of every chain; R-hat; ESS of all
    chains per second of CPU time."""
    some = cohort.table.counts > 0
    sampler = MixtureSampler(cohort.table.select(some))
    truth = cohort.labels[some]
    length, started, kept = (
        sweeps // spacing,
        time.process_time(),
        [],
    )  # of this process, whatever else the machine does
    for chain in range(chains):
        kept.append(list(islice(steps(sampler, seed, chain, spacing), length))[length // 2 :])
    seconds = time.process_time() - started
    draws = np.array([[step.draw["labels"] for step in chain] for chain in kept])
    clusters = draws.max(2) + 1
    pooled = draws.reshape(-1, len(truth))[:: max(chains * length // 2000, 1)]
    found = minimize_vi(pooled, seed=seed).labels
    truth_start = from_truth(sampler, cohort, some, sweeps, spacing, seed)
    scalars = {
        name: np.array([[step.scalars[name] for step in c] for c in kept]) for name in ("log_likelihood", "clusters")
    }
    found_of = diagnose({name: x for name, x in scalars.items() if np.ptp(x) > 0})
    return {
        "true_k": len(np.unique(truth)),
        "k": int(found.max()) + 1,
        "k_intervals": [[int(q) for q in np.quantile(c, (0.05, 0.95), method="nearest")] for c in clusters],
        "ari": round(float(adjusted_rand_score(truth, found)), 4),
        "ari_by_chain": [
            round(float(adjusted_rand_score(truth, minimize_vi(z, seed=seed, runs=4).labels)), 4) for z in draws
        ],
        "ari_classes": round(float(adjusted_rand_score(truth, most_probable_classes(pooled))), 4),
        "ari_of_draws": round(float(np.mean([adjusted_rand_score(truth, z) for z in pooled])), 4),
        "ari_of_draws_from_truth": round(float(np.mean([adjusted_rand_score(truth, z) for z in truth_start])), 4),
        "supervised": round(float(adjusted_rand_score(truth, supervised(cohort, some, seed))), 4),
        "oracle": round(float(adjusted_rand_score(truth, oracle_labels(cohort)[some])), 4),
        "rhat": found_of["r_hat"].round(3).to_dict(),
        "ess_per_s": (found_of["ess_bulk"] / seconds).round(1).to_dict(),
        "sweeps_per_s": round(chains * sweeps / seconds),
        "without_events": int((~some).sum()),
    } | ({} if find_spec("stepmix") is None else latent_classes(sampler.table.events, truth, seed))


def from_truth(
    sampler: MixtureSampler, cohort: Simulated, some: np.ndarray, sweeps: int, spacing: int, seed: int
) -> np.ndarray:
    """Labels, (draws, patients), of a chain that starts at the true classes and odds: a chain that has converged from
    elsewhere says the same."""
    names, labels = np.unique(cohort.labels[some], return_inverse=True)
    theta = cohort.log_odds[names] - cohort.log_odds[names].max(1, keepdims=True)
    start = {"labels": labels, "theta": theta, "scale": np.array(0.3), "alpha": np.array(1.0)}
    length = sweeps // spacing
    chain = islice(steps(sampler, seed, 10_000, spacing, (0, start)), length // 2, length, 10)
    return np.array([step.draw["labels"] for step in chain])


def supervised(cohort: Simulated, some: np.ndarray, seed: int, folds: int = 20, draws: int = 50) -> np.ndarray:
    """Most probable class of each patient given the classes of the others, in folds: the posterior predictive of each
    class's weights, drawn by the mixture's own Metropolis moves, times its share."""
    table, truth = cohort.table.select(some), cohort.labels[some]
    rng = np.random.default_rng(seed)
    fold, classes = rng.integers(folds, size=len(table)), len(cohort.log_odds)
    found = np.zeros(len(table), int)
    for f in range(folds):
        train, test = fold != f, MixtureSampler(table.select(fold == f))
        data = MixtureSampler(table.select(train)).data
        events, histogram = statistics(data, truth[train], classes)
        theta, log_share = np.log(events + 1.0), np.log(np.bincount(truth[train], minlength=classes) + 1.0)
        laws = []
        for draw in range(10 + draws):
            for k in range(classes):
                update_weights(theta[k], events[k], histogram[k], data.tested, 1.0, rng)
            if draw >= 10:
                laws.append(test.log_likelihoods(theta) + log_share)
        found[fold == f] = logsumexp(laws, axis=0).argmax(1)
    return found


def latent_classes(events: np.ndarray, truth: np.ndarray, seed: int, most: int = 15) -> dict[str, object]:
    """A peer: latent class analysis (independent Bernoulli lesions) by StepMix, classes by BIC."""
    from stepmix.stepmix import StepMix

    best = None
    for k in range(1, most + 1):
        model = StepMix(k, measurement="binary", n_init=3, random_state=seed, progress_bar=0, verbose=0).fit(events)
        bic = model.bic(events)
        if best is None or bic < best[0]:
            best = bic, k, float(adjusted_rand_score(truth, model.predict(events)))
    assert best is not None
    return {"stepmix_k": best[1], "stepmix_ari": round(best[2], 4)}


def main(
    cohorts: list[Path],
    chains: int = 4,
    sweeps: Annotated[int, typer.Option(help="Of each chain, half of them burn-in.")] = 6_000,
    spacing: Annotated[int, typer.Option(help="Sweeps a draw.")] = 2,
    seed: int = 0,
) -> None:
    """Print a line of JSON a cohort."""
    for path in cohorts:
        found = recover(read_simulated(path), chains, sweeps, spacing, seed)
        typer.echo(json.dumps({"cohort": path.stem, **found}))


if __name__ == "__main__":
    typer.run(main)
