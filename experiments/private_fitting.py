"""Fitting a model under differential privacy: constants or noisy sums for what is shared, then private training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.arms import Fits, folds_of
from experiments.config import Config, StrategySection
from experiments.settings import ConfigError
from federation.averaging import ParameterAveraging
from federation.preprocessing import FitTimeGrid, time_scale_of
from federation.privacy.dp.accounting import Spending, spent_epsilon
from federation.privacy.dp.budget import BUDGET
from federation.privacy.dp.settings import DifferentialPrivacy
from federation.privacy.dp.statistics import FitScale, Noisy, constants, ranges_of
from federation.privacy.dp.training import PrivateAveraging, PrivateGradients
from federation.quorum import by_reason
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
        zero_one = scaled["frequency"], scaled["deviation"]
        times = time_scale_of(counted("grid", grid), horizon)
    else:
        mean, scale = constants(ranges)
        zero_one = None
        times = TimeScale.declared(horizon, evaluation.follow_up, evaluation.grid_cells, privacy.median)
    preprocessor = Preprocessor.declared(
        schema, mean, scale, config.preprocessing.modalities, keep=model.accepts_missing, zero_one=zero_one
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


def planned_spending(config: Config, fits: Fits) -> tuple[Spending, ...]:
    """What the federated fits that are not on disk yet will cost a center's patients; nothing without noise."""
    privacy = config.federation.differential_privacy
    if privacy is None:
        return ()
    found: list[Spending] = []
    for arm, (strategy, places) in private_fits(config).items():
        count = sum(not fits.path(arm, *place).exists() for place in places)
        spent = privacy.spending(rounds_of(config, strategy)) if count else []
        found += [replace(s, count=count * s.count) for s in spent]
    if config.arms.left_out:
        times = config.arms.left_out.centers
        spent = privacy.spending(rounds_of(config, config.strategies[0]))
        found += [replace(s, count=times * s.count) for s in spent]
    return tuple(found)


def private_fits(config: Config) -> dict[str, tuple[StrategySection, list[tuple[int, int | str]]]]:
    """The fits of each federated arm: every (repeat, fold), and the first arm's on all patients."""
    found = {}
    for strategy in config.strategies:
        places: list[tuple[int, int | str]] = list(folds_of(config))
        found[strategy.arm] = strategy, places + ([(0, "final")] if strategy == config.strategies[0] else [])
    return found


def privacy_results(config: Config) -> dict[str, Any] | None:
    """For results.json: what a fit of each federated arm costs, and all of the run's fits together."""
    privacy = config.federation.differential_privacy
    if privacy is None:
        return None
    whole: list[Spending] = []
    arms = {}
    for arm, (strategy, places) in private_fits(config).items():
        rounds = rounds_of(config, strategy)
        arms[arm] = privacy.summary(rounds, len(places))
        whole += [replace(s, count=len(places) * s.count) for s in privacy.spending(rounds)]
    epsilon = spent_epsilon(whole, privacy.delta, privacy.accountant, privacy.unit)
    return {"arms": arms, "epsilon_of_run": epsilon, "delta": privacy.delta, "unit": privacy.unit}


def require_budget(dropouts: Mapping[str, str]) -> None:
    """Raise ConfigError if a center's budget is not enough for the run: it stops before it asks."""
    short = {name: why[why.index(BUDGET) :] for name, why in dropouts.items() if BUDGET in why}
    if short:
        raise ConfigError(
            f"the run would exceed a privacy budget, and nothing was asked: {by_reason(short)}; raise the noise "
            "(a smaller federation.differential_privacy.epsilon), train fewer fits, or let the center raise max_epsilon"
        )


def rounds_of(config: Config, strategy: StrategySection | None) -> int:
    """Training rounds of an arm."""
    return (strategy and strategy.rounds) or config.rounds
