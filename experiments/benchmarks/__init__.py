"""Benchmarks: each returns figures that are ratios to a peer or a bound measured in the same run.

``haemfed bench NAME --json``
"""

from __future__ import annotations

from collections.abc import Callable

from experiments.benchmarks.conformance import conformance_benchmark
from experiments.benchmarks.evaluation import evaluation_benchmark
from experiments.benchmarks.harmonize import harmonize_benchmark
from experiments.benchmarks.round import round_benchmark
from experiments.benchmarks.stratify import stratify_benchmark

BENCHMARKS: dict[str, Callable[[], dict[str, float]]] = {
    "conformance": conformance_benchmark,
    "evaluation": evaluation_benchmark,
    "harmonize": harmonize_benchmark,
    "round": round_benchmark,
    "stratify": stratify_benchmark,
}
