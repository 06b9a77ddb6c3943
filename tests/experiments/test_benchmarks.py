"""Benchmarks run, and the things they compare are the same thing."""

from __future__ import annotations

import math

from experiments.benchmarks.evaluation import evaluation_benchmark
from experiments.benchmarks.harmonize import harmonize_benchmark
from experiments.benchmarks.round import round_benchmark
from experiments.benchmarks.stratify import stratify_benchmark


def test_evaluation_benchmark_compares_equal_figures() -> None:
    figures = evaluation_benchmark(patients=150, replicates=20, peer_replicates=5)
    assert figures["largest_difference"] < 1e-12
    assert figures["speed_up"] > 0


def test_round_benchmark_reports_every_backend(cluster: None) -> None:
    figures = round_benchmark(centers=4, rounds=2)
    assert figures["centers"] == 4
    assert all(math.isfinite(value) for value in figures.values())


def test_stratify_benchmark_reports_every_figure(cluster: None) -> None:
    figures = stratify_benchmark(seconds=0.05, repeats=1)
    named = {"hdmm_sweeps_per_s", "hdmm_sweeps_per_s_10", "cb_assign_per_s", "cb_sweeps_per_s", "logpmf_us"}
    assert named | {"two_chain_speedup"} <= set(figures)
    assert all(math.isfinite(value) and value > 0 for value in figures.values())


def test_harmonize_benchmark_reports_every_figure() -> None:
    figures = harmonize_benchmark(observations=400, large=400, repeats=1)
    assert {"observations_per_s", "fhirpathpy_per_s", "orjson_per_s", "peak_rss_mb"} <= set(figures)
    assert figures["observations_per_s"] < figures["orjson_per_s"]
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
