"""Fitting one model: preprocessor, time grid, weights, baseline hazard, one federated algorithm after the other.

The same four steps serve every arm. What differs is the federation they are run on: many centers behind Ray, or one
center in this process (centralized and isolated arms).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.config import Config, StrategySection
from federation.algorithm import Algorithm
from federation.averaging import ParameterAveraging, result
from federation.baseline import FitBaseline
from federation.checkpoint import load_state, save_state
from federation.preprocessing import FitPreprocessor, FitTimeGrid, preprocessor_of
from federation.state import State
from federation.strategies import FedAvg, build_strategy
from harmonization import Cohort, Schema
from models.preprocessing import Preprocessor
from models.survival.baseline import BaselineHazard
from models.survival.network import build_network
from models.training import predict

Floats = NDArray[np.float64]
RunTask = Callable[[str, Algorithm], State]
"""Runs an algorithm under a name on some federation and returns its final state."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted survival model as plain arrays.

    Parameters
    ----------
    weights
        Of the network, shape (P,).
    preprocessor
        Fitted on the training patients.
    baseline
        Cumulative baseline hazard.
    history
        `federation.averaging.COLUMNS` per round and center; shape (rounds + 1, centers, columns).
    selected_round
        The round whose weights these are.
    seconds
        Wall time of the fit.
    """

    weights: NDArray[np.float32]
    preprocessor: Preprocessor
    baseline: BaselineHazard
    history: Floats
    selected_round: int
    seconds: float

    def risk(self, config: Config, cohort: Cohort) -> Floats:
        """Log relative hazard of each patient, shape (n,)."""
        network = build_network(config.model.name, self.preprocessor.n_features, config.model.parameters)
        return predict(network, self.weights, self.preprocessor.transform(cohort))

    def survival(self, risk: Floats, times: Floats) -> Floats:
        """Survival probabilities at given times, shape (n, number of times)."""
        return self.baseline.survival(risk, times)

    def save(self, path: Path) -> None:
        """Write as ``.npz``, whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {
            "weights": self.weights,
            "times": self.baseline.times,
            "cumulative": self.baseline.cumulative,
            "history": self.history,
            "selected_round": np.array(self.selected_round),
            "seconds": np.array(self.seconds),
        }
        save_state(path, arrays | self.preprocessor.to_arrays("preprocessor/"))

    @classmethod
    def load(cls, path: Path) -> Fit:
        """Inverse of `save`."""
        arrays = load_state(path)
        return cls(
            arrays["weights"],
            Preprocessor.from_arrays(arrays, "preprocessor/"),
            BaselineHazard(arrays["times"], arrays["cumulative"]),
            arrays["history"],
            int(arrays["selected_round"]),
            float(arrays["seconds"]),
        )


def fit_model(config: Config, strategy: StrategySection | None, schema: Schema, run_task: RunTask) -> Fit:
    """Fit the experiment's model on a federation.

    Parameters
    ----------
    strategy
        The federated arm; None for a federation of one center, where plain averaging is plain training.
    run_task
        Runs each of the four algorithms on the federation.
    """
    began = time.perf_counter()
    prepared = run_task("preprocessor", FitPreprocessor(schema, config.preprocessing))
    evaluation = config.evaluation
    grid = run_task("grid", FitTimeGrid(evaluation.follow_up, evaluation.grid_cells, evaluation.grid_points))["grid"]
    preprocessor = preprocessor_of(prepared)
    algorithm = averaging(config, strategy, preprocessor, int(prepared["patients"]))
    trained = run_task("training", algorithm)
    weights = result(trained)
    baseline = run_task(
        "baseline", FitBaseline(config.model.name, config.model.parameters, weights, preprocessor, grid)
    )
    return Fit(
        weights,
        preprocessor,
        BaselineHazard(baseline["times"], baseline["cumulative"]),
        trained["history"],
        int(trained["best_round"]),
        time.perf_counter() - began,
    )


def averaging(
    config: Config, strategy: StrategySection | None, preprocessor: Preprocessor, patients: int
) -> ParameterAveraging:
    """The training algorithm of an arm with so many training patients."""
    training = config.training_of(strategy)
    if config.ridge:
        decay = config.ridge / patients
        stable = min(training.learning_rate, 1 / decay)  # with few patients the penalty is steep: do not overshoot it
        training = replace(training, weight_decay=decay, learning_rate=stable)
    return ParameterAveraging.create(
        build_strategy(strategy.name, strategy.parameters) if strategy else FedAvg(),
        model=config.model.name,
        model_parameters=config.model.parameters,
        training=training,
        weighting=config.weighting,
        rounds=(strategy and strategy.rounds) or config.rounds,
        sample=config.sample if strategy else 1.0,
        max_norm=config.federation.max_norm if strategy else None,
        selection=config.selection,
        preprocessor=preprocessor,
    )
