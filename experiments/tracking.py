"""Experiments in MLflow: a parent run, a nested run per arm, and the model. Sweeps: a nested run per trial."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.tracking import MlflowClient

from experiments.arms import Fits
from experiments.config import Config
from experiments.findings import summary
from experiments.mlflow_runs import (
    PARENT,
    allowed,
    began,
    log_metrics,
    log_params,
    metric_of,
    open_experiment,
    place_of,
    tags_of,
)
from experiments.study import Study
from harmonization import Feature, Schema


def track(config: Config, study: Study, fits: Fits, results: Mapping[str, Any], out: Path) -> dict[str, str]:
    """Log a finished experiment.

    Returns
    -------
    dict
        ``tracking_uri``, ``experiment_id``, ``run_id`` of the parent, and ``model_uri``.
    """
    client, experiment = open_experiment(config, out)
    start = began(results)
    tags = tags_of("experiment", "run", [config.description, *summary(dict(results)), *results["notes"]], results)
    parent = client.create_run(experiment, start_time=start, run_name=config.name, tags=tags).info.run_id
    main = config.strategies[0].arm
    log_params(client, parent, config)
    client.log_inputs(parent, datasets=[_dataset(results)])
    if main in results["arms"]:
        client.log_batch(parent, metrics=_final_metrics(results["arms"][main]["pooled"]))
    if main in (privacy := (results.get("privacy") or {}).get("arms", {})):
        spent = {name: privacy[main][name] for name in ("epsilon", "delta", "noise_multiplier")}
        spent["epsilon_of_run"] = results["privacy"]["epsilon_of_run"]
        client.log_batch(parent, metrics=[m for name, value in spent.items() for m in metric_of(name, value)])
    client.log_artifacts(parent, str(out / "figures"), "figures")
    for name in ("report.html", "results.json", "config.yaml"):
        client.log_artifact(parent, str(out / name))
    for arm, values in results["arms"].items():
        nested = {PARENT: parent, "haemfed.kind": values["kind"], "haemfed.arm": arm}
        run = client.create_run(experiment, start_time=start, run_name=arm, tags=nested).info.run_id
        metrics = _final_metrics(values["pooled"]) + list(_center_metrics(values)) + list(_curve_metrics(results, arm))
        log_metrics(client, run, metrics)
        client.set_terminated(run, end_time=start + int(1000 * values["seconds"]))
    model = _log_model(client, parent, config, study, fits)
    client.set_terminated(parent)
    return place_of(config, out, experiment, parent) | {"model_uri": model}


def track_sweep(config: Config, trials: Sequence[Mapping[str, Any]], metric: str, out: Path) -> str:
    """A sweep as a parent run with its trials as nested runs; returns the parent's id."""
    client, experiment = open_experiment(config, out)
    parent = client.create_run(experiment, run_name=f"{config.name} sweep", tags={"haemfed.kind": "sweep"}).info.run_id
    log_params(client, parent, config)
    for name in ("best.yaml", "trials.json"):
        client.log_artifact(parent, str(out / name))
    for number, trial in enumerate(trials, start=1):
        tags = {PARENT: parent, "haemfed.kind": "trial"}
        run = client.create_run(experiment, run_name=f"trial {number}", tags=tags).info.run_id
        metrics = metric_of(f"best {metric}", trial[metric])
        for step, value in trial["curve"]:
            metrics += metric_of(f"validation {metric}", value, int(step))
        client.log_batch(run, metrics=metrics, params=[Param(k, str(v)) for k, v in trial["changes"].items()])
        client.set_terminated(run, "FAILED" if trial["error"] else "FINISHED")
    client.set_terminated(parent)
    return str(parent)


def _dataset(results: Mapping[str, Any]) -> DatasetInput:
    data = results["dataset"]
    profile = {"patients": data["patients"], "events": data["events"], "centers": len(data["centers"])}
    dataset = Dataset(
        name=data["name"],
        digest=data["schema_hash"][:36],
        source_type="http",
        source=json.dumps({"url": data["source"]}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training and evaluation")])


def _final_metrics(estimates: Mapping[str, Mapping[str, float | None]], prefix: str = "") -> list[Metric]:
    """Each metric with its interval."""
    found = []
    for name, estimate in estimates.items():
        found += metric_of(f"{prefix}{name}", estimate["mean"])
        found += metric_of(f"{prefix}{name}.low", estimate["low"]) + metric_of(f"{prefix}{name}.high", estimate["high"])
    return found


def _center_metrics(values: Mapping[str, Any]) -> Iterator[Metric]:
    """Harrell C per center."""
    for center, estimates in values["centers"].items():
        if "harrell_c" in estimates:
            yield from _final_metrics({"harrell_c": estimates["harrell_c"]}, f"centers/{allowed(center)}/")


def _curve_metrics(results: Mapping[str, Any], arm: str) -> Iterator[Metric]:
    """Curves per round, averaged over fits; the validation concordance per center too."""
    curves = results["curves"].get(arm)
    if curves is None:
        return
    named = {key: curves[key]["mean"] for key in ("train_loss", "validation_loss", "validation_concordance")}
    named |= {f"centers/{allowed(c)}/validation_concordance": values for c, values in curves["centers"].items()}
    for key, values in named.items():
        for step, value in zip(curves["round"], values, strict=True):
            yield from metric_of(key, value, step)


def _log_model(client: MlflowClient, run: str, config: Config, study: Study, fits: Fits) -> str:
    """The first strategy's model, trained on all patients, as an MLflow model that predicts from raw features."""
    path = fits.path(config.strategies[0].arm, 0, "final")
    with tempfile.TemporaryDirectory() as directory:
        card = Path(directory) / "model.json"
        arrays = Path(shutil.copy(path, Path(directory) / "fit.safetensors"))
        model = {"name": config.model.name}
        horizons = list(config.evaluation.horizons)
        card.write_text(json.dumps({"model": model, "horizons": horizons, "schema": study.schema.to_dict()}))
        example = example_input(study.schema)
        from experiments.served_model import SurvivalModel

        output = SurvivalModel.of(card, arrays).predict(None, example)
        mlflow.set_tracking_uri(client.tracking_uri)
        with mlflow.start_run(run_id=run, log_system_metrics=False):
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("served_model.py")),
                artifacts={"card": str(card), "fit": str(arrays)},
                signature=mlflow.models.infer_signature(example, output),
                input_example=example,
                pip_requirements=["haemfed"],
            )
    return str(logged.model_uri)


def example_input(schema: Schema) -> pd.DataFrame:
    """Two made-up patients, one with typical values and one of whom nothing is known."""
    row = {feature.name: _typical(feature) for feature in schema.features}
    frame = pd.DataFrame([row, dict.fromkeys(row)])
    for feature in schema.features:
        if not feature.categories:
            frame[feature.name] = frame[feature.name].astype("float64")
    return frame


def _typical(feature: Feature) -> str | float:
    """A plausible value: first category, reference, or middle of the range; a whole number if that is plausible too."""
    if feature.categories:
        return feature.categories[0]
    limits = [x for x in (feature.low, feature.high) if x is not None]
    low, high = (
        (-math.inf if feature.low is None else feature.low),
        (math.inf if feature.high is None else feature.high),
    )
    middle = sum(limits) / len(limits) if limits and feature.numeric else 0.0
    value = min(max(feature.reference or middle, low), high)
    return float(round(value)) if low <= round(value) <= high else value
