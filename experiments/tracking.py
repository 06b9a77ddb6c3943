"""MLflow: one parent run per experiment, a nested run per arm. The only module that knows MLflow.

Everything is logged once, after training, in batched calls through the client API: tracking never slows a round.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import

import mlflow
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.tracking import MlflowClient

from experiments.arms import Fits
from experiments.config import Config, TrackingSection
from experiments.report import summary
from experiments.study import Study
from harmonization import Feature, Schema

PARENT = "mlflow.parentRunId"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # opens on the page of training runs
BATCH = 1000  # metrics per call, MLflow's limit
ROWS_AT_ONCE = 100  # parameters per call, MLflow's limit

logger = logging.getLogger("haemfed")


class Tracked(Protocol):
    """A configuration that says how its runs are tracked."""

    @property
    def name(self) -> str: ...

    @property
    def tracking(self) -> TrackingSection: ...

    def to_dict(self) -> dict[str, Any]: ...


def default_uri(runs: Path) -> str:
    """The SQLite store in a directory of runs."""
    return f"sqlite:///{(runs / 'mlflow.db').absolute()}"


def store_uri(config: Tracked, out: Path) -> str:
    """Where a run is tracked: as configured, or beside it."""
    return config.tracking.uri or default_uri(out.parent)


def open_experiment(config: Tracked, out: Path) -> tuple[MlflowClient, str]:
    """A client, and the id of the (existing or new) MLflow experiment."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = store_uri(config, out)
    client = MlflowClient(uri)
    name = config.tracking.experiment or config.name
    found = client.get_experiment_by_name(name)
    if found is not None:
        return client, found.experiment_id
    local = uri.startswith("sqlite:")
    artifacts = (out.parent / "mlartifacts" / name).absolute().as_uri() if local else None
    return client, client.create_experiment(name, artifact_location=artifacts, tags=EXPERIMENT_TAGS)


def track(config: Config, study: Study, fits: Fits, results: Mapping[str, Any], out: Path) -> dict[str, str]:
    """Log a finished experiment.

    Returns
    -------
    dict
        ``tracking_uri``, ``experiment_id``, ``run_id`` of the parent, and ``model_uri``.
    """
    client, experiment = open_experiment(config, out)
    start = int(datetime.fromisoformat(results["started"]).timestamp() * 1000)
    tags = {
        "haemfed.kind": "experiment",
        "mlflow.source.name": "haemfed run",
        "mlflow.note.content": "\n\n".join([config.description, *summary(dict(results)), *results["notes"]]),
        **{f"version.{package}": version for package, version in results["versions"].items()},
    }
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
        for first in range(0, len(metrics), BATCH):
            client.log_batch(run, metrics=metrics[first : first + BATCH])
        client.set_terminated(run, end_time=start + int(1000 * values["seconds"]))
    model = _log_model(client, parent, config, study, fits)
    client.set_terminated(parent)
    return {
        "tracking_uri": store_uri(config, out),
        "experiment_id": experiment,
        "run_id": parent,
        "model_uri": model,
    }


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


def log_params(client: MlflowClient, run: str, config: Tracked) -> None:
    """A configuration's fields, those that are null left out."""
    flat = {_key(key)[:250]: str(value)[:6000] for key, value in _flatten(config.to_dict()) if value is not None}
    params = [Param(key, value) for key, value in flat.items()]
    for start in range(0, len(params), ROWS_AT_ONCE):
        client.log_batch(run, params=params[start : start + ROWS_AT_ONCE])


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flatten(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for j, inner in enumerate(value):
            yield from _flatten(inner, f"{key}.{j}")
    else:
        yield key, value


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


def metric_of(key: str, value: float | None, step: int = 0) -> list[Metric]:
    """One metric, or none for a value that is not known."""
    return [] if value is None else [Metric(key, value, int(time.time() * 1000), step)]


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
            yield from _final_metrics({"harrell_c": estimates["harrell_c"]}, f"centers/{_key(center)}/")


def _curve_metrics(results: Mapping[str, Any], arm: str) -> Iterator[Metric]:
    """Curves per round, averaged over fits; the validation concordance per center too."""
    curves = results["curves"].get(arm)
    if curves is None:
        return
    named = {key: curves[key]["mean"] for key in ("train_loss", "validation_loss", "validation_concordance")}
    named |= {f"centers/{_key(c)}/validation_concordance": values for c, values in curves["centers"].items()}
    for key, values in named.items():
        for step, value in zip(curves["round"], values, strict=True):
            yield from metric_of(key, value, step)


def _key(name: str) -> str:
    """A name as MLflow allows it in metrics and parameters."""
    return "".join(c if c.isalnum() or c in "_-. " else "_" for c in name)


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


def serve_ui(uri: str, port: int) -> int:
    """MLflow's page on this machine, until interrupted."""
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
    return subprocess.call(command)
