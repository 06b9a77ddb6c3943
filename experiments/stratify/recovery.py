"""Recovery of known classes: the conditional-Bernoulli mixture beside the oracle that knows the odds.

    python -m experiments.stratify.recovery sim_a1M_K5_l3.csv sim_a1M_K10_l3.csv

For cohorts as `clustering.simulation.read_simulated` reads them. Patients without events are counted apart: no method
can place them.
"""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path
from typing import Annotated

import arviz
import numpy as np
import typer
from sklearn.metrics import adjusted_rand_score

from clustering.chain import steps
from clustering.mixture import MixtureSampler
from clustering.partition import minimize_vi
from clustering.simulation import Simulated, oracle_labels, read_simulated


def recover(cohort: Simulated, chains: int, sweeps: int, spacing: int, seed: int) -> dict[str, object]:
    """ARI of mixture and oracle among patients with events; K with the 90% interval of every chain; R-hat and ESS."""
    some = cohort.table.counts > 0
    sampler = MixtureSampler(cohort.table.select(some))
    truth = cohort.labels[some]
    length, started, kept = sweeps // spacing, time.perf_counter(), []
    for chain in range(chains):
        kept.append(list(islice(steps(sampler, seed, chain, spacing), length))[length // 2 :])
    seconds = time.perf_counter() - started
    draws = np.array([[step.draw["labels"] for step in chain] for chain in kept])
    clusters = draws.max(2) + 1
    found = minimize_vi(draws.reshape(-1, len(truth))[:: max(chains * length // 2000, 1)], seed=seed).labels
    scalars = {
        name: np.array([[step.scalars[name] for step in c] for c in kept]) for name in ("log_likelihood", "clusters")
    }
    varies = {name: x for name, x in scalars.items() if np.ptp(x) > 0}
    return {
        "true_k": len(np.unique(truth)),
        "k": int(found.max()) + 1,
        "k_intervals": [[int(q) for q in np.quantile(c, (0.05, 0.95), method="nearest")] for c in clusters],
        "ari": round(float(adjusted_rand_score(truth, found)), 4),
        "ari_by_chain": [
            round(float(adjusted_rand_score(truth, minimize_vi(z, seed=seed, runs=4).labels)), 4) for z in draws
        ],
        "oracle": round(float(adjusted_rand_score(truth, oracle_labels(cohort)[some])), 4),
        "rhat": {name: round(float(arviz.rhat(x)), 3) for name, x in varies.items()},  # type: ignore[no-untyped-call]
        "ess_per_s": {name: round(float(arviz.ess(x)) / seconds, 1) for name, x in varies.items()},  # type: ignore[no-untyped-call]
        "sweeps_per_s": round(chains * sweeps / seconds),
        "without_events": int((~some).sum()),
    }


def main(
    cohorts: list[Path],
    chains: int = 4,
    sweeps: Annotated[int, typer.Option(help="Of each chain, half of them burn-in.")] = 6_000,
    spacing: Annotated[int, typer.Option(help="Sweeps a draw.")] = 5,
    seed: int = 0,
) -> None:
    """Print a line of JSON a cohort."""
    for path in cohorts:
        found = recover(read_simulated(path), chains, sweeps, spacing, seed)
        typer.echo(json.dumps({"cohort": path.stem, **found}))


if __name__ == "__main__":
    typer.run(main)
