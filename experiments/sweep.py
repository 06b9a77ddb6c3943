"""Hyperparameter sweeps: Ray Tune proposes (Optuna), trains each trial federated, and stops the weak ones early (ASHA).

A trial is judged on the federation's validation patients of the first fold; test patients are never looked at.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from actors.cluster import ray_session
from actors.coordinator import Coordinator, Task
from experiments.config import Config, parse_config
from experiments.datasets import resolve_data_dir
from experiments.experiment import prepare_directory
from experiments.fitting import prepare
from experiments.settings import ConfigError, set_key
from experiments.study import Study
from federation.algorithm import Algorithm
from federation.state import State

ACTORS_PER_TRIAL = 3  # the trial itself, its coordinator, its host of centers


def run_sweep(
    config: Config,
    out: Path,
    data_dir: Path | None = None,
    *,
    address: str | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Search the space of ``config.sweep`` and write the best configuration.

    Parameters
    ----------
    out
        Directory for ``best.yaml``, ``trials.json``, Ray Tune's files, and in ``centers/<trial>`` what centers keep.
    say
        Takes a line of progress.

    Returns
    -------
    dict
        ``path`` of the best configuration, ``metric``, ``value``, ``trials``.

    Raises
    ------
    ConfigError
        If the configuration has no section sweep, no validation patients, or a field of the space is unknown.
    """
    section = config.sweep
    if section is None:
        raise ConfigError("the configuration has no section 'sweep'; give it a space, e.g. {ridge: {log: [1, 1000]}}")
    if config.split.validation == 0:
        raise ConfigError("a sweep needs validation patients: set split.validation, e.g. 0.2")
    space = {key: _domain(key, spec) for key, spec in section.space.items()}
    for key, spec in section.space.items():  # a wrong field is an error now, not in every trial
        with_changes(config, {key: next(iter(spec.values()))[0]})
    out, data_dir = out.absolute(), resolve_data_dir(data_dir)
    prepare_directory(config, out, resume=False)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    for noisy in ("ray.tune", "optuna"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    metric, mode = config.selection.metric, "min" if config.selection.metric == "loss" else "max"
    share = section.cpus_per_trial / ACTORS_PER_TRIAL
    resources = tune.PlacementGroupFactory([{"CPU": share}] * ACTORS_PER_TRIAL, strategy="PACK")
    listener = _Listener(say, metric, section.trials)
    with ray_session(address):
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(
                    _trial, config=config.to_dict(), data_dir=data_dir, share=share, centers=out / "centers"
                ),
                resources,
            ),
            param_space=space,
            tune_config=tune.TuneConfig(
                metric=metric,
                mode=mode,
                num_samples=section.trials,
                search_alg=OptunaSearch(seed=config.seed),
                scheduler=ASHAScheduler(
                    time_attr="round", max_t=config.rounds + 1, grace_period=min(section.grace_rounds, config.rounds)
                ),
                max_concurrent_trials=max(1, int(_cpus() / section.cpus_per_trial)),
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(out.absolute()),
                verbose=0,
                callbacks=[listener],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0),
            ),
        )
        grid = tuner.fit()
    return _conclude(config, grid, listener.curves, out, metric, mode)


def with_changes(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with dotted fields changed, checked again."""
    data = config.to_dict()
    for key, value in changes.items():
        set_key(data, key, value)
    return parse_config(data, "sweep.space")


def _domain(key: str, spec: Mapping[str, list[Any]]) -> Any:
    """A field's search domain."""
    kinds: dict[str, Callable[[list[Any]], Any]] = {
        "log": lambda v: tune.loguniform(float(v[0]), float(v[1])),
        "uniform": lambda v: tune.uniform(float(v[0]), float(v[1])),
        "integer": lambda v: tune.randint(int(v[0]), int(v[1]) + 1),
        "choice": lambda v: tune.choice(v),
    }
    if len(spec) != 1 or next(iter(spec)) not in kinds:
        raise ConfigError(f"sweep.space.{key}: write one of {', '.join(kinds)} with its values, not {dict(spec)}")
    (kind, values), *_ = spec.items()
    if not values or (kind != "choice" and (len(values) != 2 or not values[0] < values[1])):
        raise ConfigError(f"sweep.space.{key}.{kind}: {values} are not two increasing bounds (or choices)")
    return kinds[kind](values)


def _trial(changes: dict[str, Any], config: dict[str, Any], data_dir: Path | None, share: float, centers: Path) -> None:
    """Train one configuration federated in its placement group; report validation round by round.

    Trials run side by side, and each asks the same tasks: the centers keep its audit logs in a directory of its own.
    """
    trial = with_changes(parse_config(config), changes)
    study = Study.load(trial, data_dir)
    federation = trial.federation
    coordinator = Coordinator(
        study.specs(),
        study.schema,
        federation.policy,
        centers / tune.get_context().get_trial_id(),
        federation.quorum,
        federation.timeout,
        hosts=1,
        cpus=share,
        coordinator_cpus=share,
        secure_aggregation=federation.secure_aggregation,
        signed=federation.signed,
    )
    coordinator.load()
    split = study.split(0, 0)

    def run_task(step: str, algorithm: Algorithm) -> State:
        final = None
        for progress in coordinator.run(Task(step, algorithm, split, study.seed(0))):
            final = progress.final
        assert final is not None
        return final

    algorithm, _ = prepare(trial, trial.strategies[0], study.schema, run_task)
    best: dict[str, float] = {}
    for progress in coordinator.run(Task("training", algorithm, split, study.seed(0), report_seconds=0.0)):
        metric = trial.selection.metric
        value = progress.metrics[metric]
        if not best or (value < best[metric] if metric == "loss" else value > best[metric]):
            best = {"concordance": progress.metrics["concordance"], "loss": progress.metrics["loss"]}
        tune.report({**best, "round": progress.round, "latest": value})
    coordinator.close()


class _Listener(tune.Callback):
    """Says one line per finished trial, and keeps each trial's curve."""

    def __init__(self, say: Callable[[str], None], metric: str, trials: int) -> None:
        self._say, self._metric, self._trials, self._done = say, metric, trials, 0
        self.curves: dict[str, list[tuple[int, float]]] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.curves.setdefault(trial.trial_id, []).append((result["round"], result["latest"]))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_say": print}  # Tune keeps its callbacks on disk; a console cannot go there

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._done += 1
        result = trial.last_result or {}
        value, rounds = result.get(self._metric, float("nan")), result.get("round", 0)
        tried = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.config.items())
        self._say(f"trial {self._done}/{self._trials}: {self._metric} {value:.4f} after {rounds} rounds: {tried}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._say(f"trial failed: {trial.config}")


def _conclude(
    config: Config, grid: Any, curves: Mapping[str, list[tuple[int, float]]], out: Path, metric: str, mode: str
) -> dict[str, Any]:
    """Write the best configuration and all trials; log them to MLflow."""
    best = grid.get_best_result(metric=metric, mode=mode)
    if best.metrics is None or metric not in best.metrics:
        raise ConfigError(f"no trial finished: {grid.errors[0] if grid.errors else 'nothing was reported'}")
    chosen = with_changes(config, best.config).model_copy(update={"sweep": None, "name": f"{config.name}-best"})
    chosen.write(out / "best.yaml")
    trials = []
    for result in grid:
        last = result.metrics or {}
        failed = None if result.error is None else str(result.error).strip().splitlines()[-1]
        curve = curves.get(str(last.get("trial_id")), [])
        trials.append({"changes": result.config, metric: last.get(metric), "curve": curve, "error": failed})
    (out / "trials.json").write_text(json.dumps(trials, indent=1))
    if config.tracking.enabled:
        from experiments.tracking import track_sweep

        track_sweep(config, trials, metric, out)
    return {"path": out / "best.yaml", "metric": metric, "value": best.metrics[metric], "trials": len(trials)}


def _cpus() -> float:
    return float(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
