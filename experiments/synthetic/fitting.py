"""Fitting a generator to a federation, whatever it runs on; every step of a fit is a file, so that a fit can go on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.synthetic.config import SyntheticConfig
from federation.algorithm import Algorithm, run
from federation.center import Center
from federation.checkpoint import load_state, save_state
from federation.generative import FitBayesianNetwork, RunTask, fit_ctgan, fit_survival_law, fit_vae_bgm, network_of
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.privacy.dp.statistics import Noisy
from federation.state import State, file_name
from federation.strategies import build_strategy
from harmonization import Cohort, Schema
from models.generative import PatientGenerator

SECONDS = "seconds of the step"


def fit_generator(
    model: str, config: SyntheticConfig, schema: Schema, run_task: RunTask, private: bool = False
) -> PatientGenerator:
    """Fit one of the models with its options, on whatever `run_task` asks; `private`: under the federation's
    differential privacy, if it has one."""
    options = getattr(config.models, model)
    privacy = config.federation.differential_privacy if private else None
    if model == "bayesian_network":
        algorithm = FitBayesianNetwork(schema, options)
        if privacy is not None:  # without laws of times, for which there is no noise
            noise = privacy.noise_multiplier(config.most_answers)
            state = run_task("network", Noisy.of(algorithm, noise, privacy.noise == "distributed"))
            return network_of(state, algorithm)
        state = run_task("network", algorithm)
        return network_of(state, algorithm, fit_survival_law(run_task, schema))
    if model == "vae_bgm":
        strategy = build_strategy(config.strategy.name, config.strategy.parameters)
        return fit_vae_bgm(run_task, schema, options, strategy)
    if model == "ctgan":
        return fit_ctgan(run_task, schema, options)
    raise ValueError(f"no generator is called {model!r}")


def kept(run_task: RunTask, directory: Path) -> RunTask:
    """The same, but a step's final state is a file of `directory`, and a step whose file is there is not run again."""

    def run_or_read(step: str, algorithm: Algorithm) -> State:
        path = directory / f"{file_name(step)}.safetensors"
        if not path.exists():
            began = time.perf_counter()
            state = run_task(step, algorithm)
            save_state(path, {**state, SECONDS: np.array(time.perf_counter() - began)})
        return {name: array for name, array in load_state(path).items() if name != SECONDS}

    return run_or_read


def finished(directory: Path) -> RunTask:
    """Runs nothing: of a fit all of whose steps are files of `directory`."""

    def run_task(step: str, algorithm: Algorithm) -> State:
        raise FileNotFoundError(
            f"{directory}: no file of step {step!r}, which a finished fit has; remove the directory and the samples of "
            "this fit, and --resume"
        )

    return run_task


def fit_of(directory: Path) -> Mapping[str, float]:
    """What a fit took: ``seconds`` and ``broadcasts``, over its steps."""
    states = [load_state(path) for path in sorted(directory.glob("*.safetensors"))]
    return {
        "seconds": round(sum(float(state[SECONDS]) for state in states), 3),
        "broadcasts": float(sum(int(state["round"]) for state in states)),
    }


def alone(cohort: Cohort, seed: int, name: str) -> RunTask:
    """Runs algorithms on one table, as a federation of one center in this process; all patients train."""
    center = Center("alone", lambda: cohort, policy=DisclosurePolicy(min_patients=1))

    def run_task(step: str, algorithm: Algorithm) -> State:
        return run(algorithm, InProcessFederation([center], seed, task=f"{name}/{step}"))

    return run_task
