"""Runs in MLflow, of whatever kind: where they are kept, their tags, parameters and metrics.

Everything is logged once, after training, in batched calls through the client API: tracking never slows a round.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from experiments.config import TrackingSection

PARENT = "mlflow.parentRunId"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # opens on the page of training runs
BATCH = 1000  # metrics per call, MLflow's limit
ROWS_AT_ONCE = 100  # parameters per call, MLflow's limit


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


def began(results: Mapping[str, Any]) -> int:
    """When a run started, in MLflow's milliseconds."""
    return int(datetime.fromisoformat(results["started"]).timestamp() * 1000)


def tags_of(kind: str, command: str, sentences: Iterable[str], results: Mapping[str, Any]) -> dict[str, str]:
    """Tags of a parent run: its kind, the command of haemfed, what was found in words, and versions."""
    return {
        "haemfed.kind": kind,
        "mlflow.source.name": f"haemfed {command}",
        "mlflow.note.content": "\n\n".join(sentences),
        **{f"version.{package}": version for package, version in results["versions"].items()},
    }


def place_of(config: Tracked, out: Path, experiment: str, run: str) -> dict[str, str]:
    """What results.json keeps of where a run is logged."""
    return {"tracking_uri": store_uri(config, out), "experiment_id": experiment, "run_id": run}


def log_params(client: MlflowClient, run: str, config: Tracked) -> None:
    """A configuration's fields, those that are null left out."""
    flat = {allowed(key)[:250]: str(value)[:6000] for key, value in _flatten(config.to_dict()) if value is not None}
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


def metric_of(key: str, value: float | None, step: int = 0) -> list[Metric]:
    """One metric, or none for a value that is not known."""
    return [] if value is None else [Metric(key, value, int(time.time() * 1000), step)]


def log_metrics(client: MlflowClient, run: str, metrics: Sequence[Metric]) -> None:
    """Log metrics in as few calls as MLflow allows."""
    for first in range(0, len(metrics), BATCH):
        client.log_batch(run, metrics=metrics[first : first + BATCH])


def allowed(name: str) -> str:
    """A name as MLflow allows it in metrics and parameters."""
    return "".join(c if c.isalnum() or c in "_-. " else "_" for c in name)


def serve_ui(uri: str, port: int) -> int:
    """MLflow's page on this machine, until interrupted."""
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
    return subprocess.call(command)
