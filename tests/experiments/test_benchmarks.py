"""Benchmarks run, and the things they compare are the same thing."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from experiments.benchmarks.conformance import conformance_benchmark
from experiments.benchmarks.evaluation import evaluation_benchmark
from experiments.benchmarks.harmonize import harmonize_benchmark
from experiments.benchmarks.recovery import recovery_benchmark
from experiments.benchmarks.round import round_benchmark
from experiments.benchmarks.simulated import SCHEMA, averaging, sizes_of, specs_of
from experiments.benchmarks.simulation import PEERS, Problem, memory, simulation_benchmark
from experiments.benchmarks.stratify import stratify_benchmark
from federation.algorithm import run
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.preprocessing import FitPreprocessor, preprocessor_of


def test_evaluation_benchmark_compares_equal_figures() -> None:
    figures = evaluation_benchmark(patients=150, replicates=20, peer_replicates=5)
    assert figures["largest_difference"] < 1e-12
    assert figures["speed_up"] > 0


def test_round_benchmark_reports_every_backend(cluster: None) -> None:
    figures = round_benchmark(centers=4, rounds=2)
    assert figures["centers"] == 4
    assert all(math.isfinite(value) for value in figures.values())


@pytest.mark.slow
def test_stratify_benchmark_reports_every_figure(cluster: None) -> None:
    figures = stratify_benchmark(seconds=0.05, repeats=1)
    named = {"hdmm_sweeps_per_s", "hdmm_sweeps_per_s_10", "cb_assign_per_s", "cb_sweeps_per_s", "logpmf_us"}
    assert named | {"two_chain_speedup"} <= set(figures)
    assert all(math.isfinite(value) and value > 0 for value in figures.values())


@pytest.mark.slow
def test_simulation_benchmark_compares_equal_weights() -> None:
    figures = simulation_benchmark(centers=(6,), rounds=3, profile=True)["6"]
    wanted = {"haemfed_ms", "vmap_ms", "plain_ms", "numpy_ms", "first_round_s", "peak_rss_mb", "peak_pss_mb"}
    assert wanted <= figures.keys()
    assert all(value > 0 for name, value in figures.items() if name != "profile_rest_ms")
    assert figures["weights_apart"] < 1e-5


def test_the_engines_of_the_simulation_benchmark_agree() -> None:
    centers = 5
    preprocessor = preprocessor_of(run(FitPreprocessor(SCHEMA), local(centers)))
    problem, start = Problem(centers, preprocessor), averaging(preprocessor, 1).start(local(centers).roster)["weights"]
    ours = run(averaging(preprocessor, 2), local(centers, "compared"))["weights"]
    assert np.linalg.norm(ours - start) > 1e-2
    for engine, _ in PEERS.values():
        weights = start
        for r in range(2):
            weights = engine(problem, weights, r)
        assert np.linalg.norm(weights - ours) < 1e-5 * np.linalg.norm(ours - start)


def local(centers: int, task: str = "task") -> InProcessFederation:
    found = [Center(s.name, s.source, s.position, SCHEMA) for s in specs_of(centers)]
    return InProcessFederation(found, task=task)


def test_ragged_centers_have_as_many_patients() -> None:
    for centers in (100, 500):
        sizes = sizes_of(centers, ragged=True)
        assert sizes.sum() == 50 * centers
        assert 5 <= sizes.min() < 20
        assert 150 < sizes.max() <= 2000
    assert len(specs_of(3, ragged=True)[1].source()) == sizes_of(3, ragged=True)[1]


def test_memory_is_that_of_the_whole_tree() -> None:
    work = "import time; x = bytearray(50 * 2**20); print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", work], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        seen = list(memory(os.getpid()))
        assert len(seen) >= 2
        assert any(rss > 50 for command, rss, _ in seen if "bytearray" in command)
        assert all(0 < pss <= rss + 1 for _, rss, pss in seen if rss)
    finally:
        child.kill()


def test_harmonize_benchmark_reports_every_figure() -> None:
    figures = harmonize_benchmark(observations=400, large=400, repeats=1)
    assert {"observations_per_s", "fhirpathpy_per_s", "orjson_per_s", "peak_rss_mb"} <= set(figures)
    assert figures["observations_per_s"] < figures["orjson_per_s"]
    assert all(math.isfinite(value) and value > 0 for value in figures.values())


def test_conformance_benchmark_reports_every_figure() -> None:
    figures = conformance_benchmark(federations=1, trials=1, sizes=(60,))
    assert {"false_alarm_rate", "false_alarm_rate_alike", "unit_found_60", "panel_found_60"} <= set(figures)
    assert all(0 <= value <= 1 for value in figures.values())


@pytest.mark.slow
def test_a_killed_host_costs_no_round() -> None:
    figures = recovery_benchmark(centers=20, rounds=500)
    assert (figures["dropouts"], figures["rounds_lost"]) == (0, 0)
    assert figures["recovery_s"] > figures["round_ms"] / 1000
