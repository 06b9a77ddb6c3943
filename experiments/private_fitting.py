"""Fitting a model under differential privacy: constants or noisy sums for what is shared, then private training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.config import Config, ConfigError, StrategySection
from federation.averaging import ParameterAveraging
from federation.preprocessing import FitTimeGrid, time_scale_of
from federation.privacy.dp.settings import DifferentialPrivacy
from federation.privacy.dp.statistics import FitScale, Noisy, constants, ranges_of
from federation.privacy.dp.training import PrivateAveraging, PrivateGradients
from federation.state import State
from federation.strategies import FedAvg, build_strategy
from harmonization import Schema
from models.preprocessing import Preprocessor
from models.survival.network import network_class
from models.survival.time_scale import TimeScale

Floats = NDArray[np.float64]


def prepare_private(
    config: Config, privacy: DifferentialPrivacy, strategy: StrategySection | None, schema: Schema, run_task: Any
) -> tuple[ParameterAveraging, Floats]:
    """The training algorithm and the time grid; arguments as `experiments.fitting.fit_model`."""
    model, evaluation, rounds = network_class(config.model.name), config.evaluation, rounds_of(config, strategy)
    distributed, horizon = privacy.noise == "distributed", evaluation.horizons[-1]
    noise = privacy.noise_multiplier(rounds)
    try:
        ranges = ranges_of(schema, privacy.ranges)
    except ValueError as error:
        raise ConfigError(f"federation.{error}") from None
    grid = FitTimeGrid(evaluation.follow_up, evaluation.grid_cells, evaluation.grid_points)
    if privacy.statistics == "noisy":
        each = privacy.statistics_noise * noise

        def counted(step: str, algorithm: Any) -> State:
            found: State = run_task(step, Noisy.of(algorithm, each, distributed))
            return found

        scaled = counted("scale", FitScale(ranges, schema))
        mean, scale = scaled["mean"], scaled["scale"]
        times = time_scale_of(counted("grid", grid), horizon)
    else:
        mean, scale = constants(ranges)
        times = TimeScale.declared(horizon, evaluation.follow_up, evaluation.grid_cells, privacy.median)
    preprocessor = Preprocessor.declared(
        schema, mean, scale, config.preprocessing.modalities, keep=model.accepts_missing
    )
    common: dict[str, Any] = {
        "model": config.model.name,
        "model_parameters": model.declare(config.model.parameters, preprocessor.design(schema), times),
        "training": config.training_of(strategy),
        "rounds": rounds,
        "preprocessor": preprocessor,
        "clip": privacy.clip,
        "noise": noise,
        "distributed": distributed,
        "average": privacy.average,
    }
    server = build_strategy(strategy.name, strategy.parameters) if strategy else FedAvg()
    if privacy.unit == "patient":
        return PrivateGradients.create(server, sampling=privacy.sampling, **common), times.cuts(evaluation.grid_points)
    private = PrivateAveraging.create(
        server, weighting=config.weighting, largest=privacy.largest, adaptive=privacy.adaptive, **common
    )
    return private, times.cuts(evaluation.grid_points)


def rounds_of(config: Config, strategy: StrategySection | None) -> int:
    """Training rounds of an arm."""
    return (strategy and strategy.rounds) or config.rounds
