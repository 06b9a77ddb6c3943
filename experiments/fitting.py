"""Fitting one model: preprocessor, time grid, weights, baseline hazard, one federated algorithm after the other.

The same steps serve every arm. What differs is the federation they are run on: many centers behind Ray, or one
center in this process (centralized and isolated arms).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments.config import Config, StrategySection
from experiments.settings import ConfigError
from federation.algorithm import Algorithm
from federation.averaging import ParameterAveraging, result
from federation.baseline import FitBaseline
from federation.checkpoint import load_state, save_state
from federation.pca import FitPCA
from federation.preprocessing import FitPreprocessor, FitTimeGrid, preprocessor_of, time_scale_of
from federation.robust_averaging import RobustAveraging
from federation.state import State
from federation.strategies import FedAvg, build_strategy
from harmonization import Cohort, Schema
from models.preprocessing import PreprocessingOptions, Preprocessor
from models.survival.baseline import BaselineHazard
from models.survival.network import SurvivalNetwork, build_network, network_class
from models.training import predict, predict_causes, predict_survival

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
        Cumulative baseline hazard; None for networks that have survival of their own.
    history
        `federation.averaging.COLUMNS` per round and center; shape (rounds + 1, centers, columns).
    selected_round
        The round whose weights these are.
    seconds
        Wall time of the fit.
    parameters
        The network's, complete with the federation's constants (`models.survival.network.SurvivalNetwork.declare`).
    detection
        `federation.robust.detection` per round and center; None without a robust aggregator.
    """

    weights: NDArray[np.float32]
    preprocessor: Preprocessor
    baseline: BaselineHazard | None
    history: Floats
    selected_round: int
    seconds: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    detection: Floats | None = None

    def network(self, model: str) -> SurvivalNetwork:
        """The network of that name, without its weights."""
        return build_network(model, self.preprocessor.n_features, self.parameters)

    def risk(self, config: Config, cohort: Cohort) -> Floats:
        """Risk of each patient, shape (n,): log relative hazard, or what the network says; higher is worse."""
        return predict(self.network(config.model.name), self.weights, self.preprocessor.transform(cohort))

    def survival(self, config: Config, cohort: Cohort, times: Floats) -> Floats:
        """Survival probabilities at given times, shape (n, number of times)."""
        return self.predict(config.model.name, cohort, times)[1]

    def predict(self, model: str, cohort: Cohort, times: Floats) -> tuple[Floats, Floats]:
        """`risk` and `survival` together."""
        network, x = self.network(model), self.preprocessor.transform(cohort)
        risk = predict(network, self.weights, x)
        if self.baseline is not None:
            return risk, self.baseline.survival(risk, times)
        return risk, predict_survival(network, self.weights, x, times)

    def causes(self, model: str, cohort: Cohort, times: Floats) -> tuple[Floats, Floats]:
        """Of a network of competing causes: risk of each, shape (n, causes), and its cumulative incidence at increasing
        times, shape (n, causes, number of times)."""
        return predict_causes(self.network(model), self.weights, self.preprocessor.transform(cohort), times)

    def save(self, path: Path) -> None:
        """Write as safetensors, whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {
            "weights": self.weights,
            "parameters": np.array(json.dumps(dict(self.parameters))),
            "history": self.history,
            "selected_round": np.array(self.selected_round),
            "seconds": np.array(self.seconds),
        }
        if self.detection is not None:
            arrays["detection"] = self.detection
        if self.baseline is not None:
            arrays |= {"times": self.baseline.times, "cumulative": self.baseline.cumulative}
        save_state(path, arrays | self.preprocessor.to_arrays("preprocessor/"))

    @classmethod
    def load(cls, path: Path) -> Fit:
        """Inverse of `save`."""
        arrays = load_state(path)
        return cls(
            arrays["weights"],
            Preprocessor.from_arrays(arrays, "preprocessor/"),
            BaselineHazard(arrays["times"], arrays["cumulative"]) if "times" in arrays else None,
            arrays["history"],
            int(arrays["selected_round"]),
            float(arrays["seconds"]),
            json.loads(str(arrays["parameters"])),
            arrays.get("detection"),
        )


def fit_model(config: Config, strategy: StrategySection | None, schema: Schema, run_task: RunTask) -> Fit:
    """Fit the experiment's model on a federation.

    Parameters
    ----------
    strategy
        The federated arm; None for a federation of one center, where plain averaging is plain training.
    run_task
        Runs each of the algorithms on the federation.
    """
    began = time.perf_counter()
    privacy = config.federation.differential_privacy if strategy else None
    if privacy is None:
        algorithm, grid = prepare(config, strategy, schema, run_task)
    else:
        from experiments.private_fitting import prepare_private

        algorithm, grid = prepare_private(config, privacy, strategy, schema, run_task)
    preprocessor, parameters = algorithm.preprocessor, algorithm.model_parameters
    assert preprocessor is not None
    trained = run_task("training", algorithm)
    weights, baseline = result(trained), None
    if network_class(config.model.name).proportional:
        fitted = run_task("baseline", FitBaseline(config.model.name, parameters, weights, preprocessor, grid))
        baseline = BaselineHazard(fitted["times"], fitted["cumulative"])
    return Fit(
        weights,
        preprocessor,
        baseline,
        trained["history"],
        int(trained["best_round"]),
        time.perf_counter() - began,
        parameters,
        trained.get("detection"),
    )


def prepare(
    config: Config, strategy: StrategySection | None, schema: Schema, run_task: RunTask
) -> tuple[ParameterAveraging, Floats]:
    """The training algorithm, with preprocessor and network completed by the federation's constants; and the time grid.

    Parameters as `fit_model`.
    """
    model, evaluation = network_class(config.model.name), config.evaluation
    require_causes(config, schema)
    options = config.preprocessing
    if options.missing is None:
        found: Literal["impute", "mask", "keep"] = "mask" if model.masks_blocks else "keep"
        options = replace(options, missing=found if model.accepts_missing else "impute")
    preprocessor, patients = fit_preprocessor(options, schema, run_task)
    timed = run_task("grid", FitTimeGrid(evaluation.follow_up, evaluation.grid_cells, evaluation.grid_points))
    times = time_scale_of(timed, evaluation.horizons[-1])
    parameters = model.declare(config.model.parameters, preprocessor.design(schema), times)
    return averaging(config, strategy, preprocessor, patients, parameters), timed["grid"]


def require_causes(config: Config, schema: Schema) -> None:
    """Raise ConfigError if the model tells apart another number of competing causes than the patients have.

    A model of one cause is of an event of any.
    """
    wanted = config.model.parameters.get("causes", 1)
    if wanted > 1 and wanted != len(schema.causes):
        named = f"{len(schema.causes)}: {', '.join(schema.causes)}" if schema.causes else "none; see docs/data.md"
        raise ConfigError(
            f"model.parameters.causes is {wanted}, but the competing causes of the data set's schema are {named}"
        )


def fit_preprocessor(options: PreprocessingOptions, schema: Schema, run_task: RunTask) -> tuple[Preprocessor, int]:
    """The map to design matrices, principal components included, and the number of training patients."""
    prepared = run_task("preprocessor", FitPreprocessor(schema, options))
    preprocessor = preprocessor_of(prepared)
    for modality, components in options.reduce.items():
        reduction = FitPCA(modality, components, schema, preprocessor)
        if reduction.columns:
            preprocessor = preprocessor_of(run_task(f"pca/{modality}", reduction))
    return preprocessor, int(prepared["patients"])


def averaging(
    config: Config,
    strategy: StrategySection | None,
    preprocessor: Preprocessor,
    patients: int,
    parameters: Mapping[str, Any],
) -> ParameterAveraging:
    """The training algorithm of an arm with so many training patients, for a network of such parameters."""
    training = config.training_of(strategy)
    if config.ridge:
        decay = config.ridge / patients
        stable = min(training.learning_rate, 1 / decay)  # with few patients the penalty is steep: do not overshoot it
        training = replace(training, weight_decay=decay, learning_rate=stable)
    robust = strategy.aggregator if strategy else None
    kind: type[ParameterAveraging] = ParameterAveraging
    chosen: dict[str, Any] = {}
    if robust is not None:
        kind, chosen = RobustAveraging, {"aggregator": robust.name, "options": robust.parameters}
    return kind.create(
        build_strategy(strategy.name, strategy.parameters) if strategy else FedAvg(),
        model=config.model.name,
        model_parameters=parameters,
        training=training,
        weighting=config.weighting,
        rounds=(strategy and strategy.rounds) or config.rounds,
        sample=config.sample if strategy else 1.0,
        max_norm=config.federation.max_norm if strategy else None,
        selection=config.selection,
        preprocessor=preprocessor,
        **chosen,
    )
