"""Clusters of AML under differential privacy: agreement with the published classes by ε.

Noise that is shared under secure aggregation has the law of one center's of all patients, and is measured as that.

``python -m experiments.benchmarks.private_mixture --data DIR``
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score

from experiments.datasets import resolve_data_dir
from experiments.stratify.config import load_stratify
from experiments.stratify.patients import read_patients
from federation.algorithm import run
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.privacy.dp.accounting import Spending, noise_for
from federation.stratification import PrivateMixture
from harmonization import Cohort, Feature, Schema

CONFIG = Path(__file__).parent.parent / "configs" / "stratify" / "aml_centers.yaml"
EPSILONS = (1.0, 2.0, 4.0, 8.0, 16.0)
DELTA, ROUNDS, COMPONENTS, MOST = 1e-5, 10, 12, 5

LESIONS = (
    *(
        "NPM1",
        "FLT3_ITD",
        "DNMT3A",
        "NRAS",
        "complex",
        "TET2",
        "RUNX1",
        "IDH2_p140",
        "IDH1",
        "TP53",
        "CEBPA_bi",
        "ASXL1",
    ),
    *("SFRS2", "inv16_t16_16", "t_15_17", "t_8_21", "MLL", "minus7", "minus5_5q", "plus8_8q", "mono17_17p_abn17p"),
    *("KIT", "STAG2"),
)
"""Lesions that classifications of the disease are made of (Papaemmanuil 2016, ELN 2022), named beforehand. With all 84
the noise is spread over too many cells."""


def cohorts(data_dir: Path | None) -> tuple[dict[str, Cohort], dict[str, str]]:
    """Lesions of the patients of each hospital, and the published class of those who have one."""
    directory = resolve_data_dir(data_dir)
    if directory is not None:
        os.environ["HAEMFED_DATA"] = str(directory)
    config = load_stratify(CONFIG)
    patients = read_patients(config.data, directory)
    assert patients.truth is not None
    assert patients.groups is not None
    table = patients.table
    schema = Schema("lesions", "1", tuple(Feature(name, "binary", "genomic") for name in table.genes))
    values = np.where(table.events < 0, np.nan, table.events).astype(float)
    n = len(table.ids)
    everybody = Cohort(schema, table.ids, values, np.ones(n), np.zeros(n, dtype=bool))
    known = ~np.isin(patients.truth, ["", *config.data.unclassed])
    truth = dict(zip(table.ids[known].tolist(), patients.truth[known].tolist(), strict=True))
    return {str(g): everybody[np.flatnonzero(patients.groups == g)] for g in np.unique(patients.groups)}, truth


def measure(hospitals: dict[str, Cohort], truth: dict[str, str], epsilon: float, shared: bool, seed: int) -> float:
    """Adjusted Rand index with the published classes, of those whom both classify."""
    everybody = Cohort.concatenate(list(hospitals.values()))
    there = {"all": everybody} if shared else hospitals
    noise = noise_for(epsilon, DELTA, (Spending("patient", 1.0, 1.0, ROUNDS + 1),))
    algorithm = PrivateMixture(LESIONS, noise=noise, rounds=ROUNDS, components=COMPONENTS, most=MOST, scale=0.3)
    policy = DisclosurePolicy(secure_noise=False)
    centers = [Center(name, partial(_same, c), j, policy=policy) for j, (name, c) in enumerate(there.items())]
    state = run(algorithm, InProcessFederation(centers, seed))
    found = algorithm.memberships(state, everybody)
    both = np.array([i in truth for i in everybody.ids.tolist()]) & (found.labels >= 0)
    labels = found.probabilities.argmax(axis=1)[both]
    return float(adjusted_rand_score([truth[i] for i in everybody.ids[both].tolist()], labels))


def _same(cohort: Cohort) -> Cohort:
    return cohort


def main() -> None:
    """Print agreement by ε, over seeds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    hospitals, truth = cohorts(arguments.data)
    for shared in (True, False):
        for epsilon in EPSILONS:
            found = [measure(hospitals, truth, epsilon, shared, seed) for seed in range(arguments.seeds)]
            row = {"mean": round(float(np.mean(found)), 3), "seeds": [round(x, 3) for x in found]}
            print(json.dumps({"epsilon": epsilon, "shared": shared, **row}), flush=True)


if __name__ == "__main__":
    main()
