"""Bootstrap intervals of Harrell's C by one matrix of patient weights, against scikit-survival called per replicate."""

from __future__ import annotations

import time

import numpy as np
from sksurv.metrics import concordance_index_censored

from models.survival.metrics import Prediction, TestSet, evaluate
from models.survival.resampling import bootstrap_weights


def evaluation_benchmark(patients: int = 1500, replicates: int = 500, peer_replicates: int = 20) -> dict[str, float]:
    """Seconds for all replicates, the peer's extrapolated from fewer, and how far the two intervals lie apart."""
    rng = np.random.default_rng(3)
    signal = rng.standard_normal(patients)
    death, censoring = rng.exponential(np.exp(-signal)), rng.exponential(2.0, patients)
    t, d = np.minimum(death, censoring), death <= censoring
    risk = signal + rng.standard_normal(patients)
    center = np.repeat(["A", "B", "C"], patients // 3)
    weights = bootstrap_weights(center, replicates, 0)
    test = TestSet(t, d, np.zeros(patients, dtype=int), center, {0: (t, d)})
    began = time.perf_counter()
    estimate = evaluate([test], [Prediction(risk)], weights, [1.0])["harrell_c"]
    ours = time.perf_counter() - began
    began = time.perf_counter()
    peer = []
    for row in weights[:peer_replicates]:
        rows = np.repeat(np.arange(patients), row.astype(int))
        peer.append(concordance_index_censored(d[rows], t[rows], risk[rows])[0])
    theirs = (time.perf_counter() - began) * replicates / peer_replicates
    return {
        "seconds": ours,
        "scikit_survival_seconds": theirs,
        "speed_up": theirs / ours,
        "largest_difference": float(np.abs(estimate.replicates[:peer_replicates] - peer).max()),
    }
