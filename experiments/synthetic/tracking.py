"""A comparison of generators in MLflow, logged once when it is done: a parent run, a nested run per model and arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param

from experiments.mlflow_runs import (
    PARENT,
    began,
    log_metrics,
    log_params,
    metric_of,
    open_experiment,
    place_of,
    tags_of,
)
from experiments.synthetic.arms import FEDERATED
from experiments.synthetic.config import SyntheticConfig
from experiments.synthetic.report import in_words
from experiments.synthetic.tables import DIRECTORY


def track(config: SyntheticConfig, results: Mapping[str, Any], out: Path) -> dict[str, str]:
    """Log a finished comparison in batched calls.

    Returns
    -------
    dict
        ``tracking_uri``, ``experiment_id``, and ``run_id`` of the parent.
    """
    client, experiment = open_experiment(config, out)
    start = began(results)
    sentences = [config.description, *in_words(results), *results["notes"]]
    tags = tags_of("synthetic patients", "synthesize", sentences, results)
    parent = client.create_run(experiment, start_time=start, run_name=config.name, tags=tags).info.run_id
    log_params(client, parent, config)
    reached = sum(row["reached"] for row in results["goals"])
    client.log_batch(parent, metrics=metric_of("goals reached", reached) + metric_of("goals", len(results["goals"])))
    for name in ("report.html", "results.json", "config.yaml"):
        client.log_artifact(parent, str(out / name))
    for name in ("figures", DIRECTORY):
        if (out / name).exists():
            client.log_artifacts(parent, str(out / name), name)
    for model, arms in results["models"].items():
        for arm, found in arms.items():
            nested = {PARENT: parent, "haemfed.kind": "generator", "haemfed.model": model, "haemfed.arm": arm}
            run = client.create_run(experiment, start_time=start, run_name=f"{model} {arm}", tags=nested).info.run_id
            log_metrics(client, run, _metrics(results, model, arm, found))
            client.log_batch(run, params=[Param("model", model), Param("arm", arm)])
            client.set_terminated(run)
    client.set_terminated(parent)
    return place_of(config, out, experiment, parent)


def _metrics(results: Mapping[str, Any], model: str, arm: str, found: Mapping[str, Any]) -> list[Metric]:
    """Each metric with its spread, verdicts, what a fit took, and for the federation how it differs from other arms."""
    metrics = []
    for name, value in found.items():
        for key, suffix in (("mean", ""), ("low", ".low"), ("high", ".high")):
            metrics += metric_of(f"{name}{suffix}", value[key])
    for name, verdict in results["verdicts"].get(model, {}).get(arm, {}).items():
        metrics += metric_of(f"passed/{name}", float(verdict["passed"]))
    if arm == FEDERATED:
        for what, share in results["same_patients"].get(model, {}).items():
            metrics += metric_of(f"same {what} as centralized", float(share))
    for seed, fit in enumerate(results["fits"].get(model, {}).get(arm, [])):
        metrics += metric_of("seconds", fit["seconds"], seed) + metric_of("broadcasts", fit["broadcasts"], seed)
    for pair, differences in results["differences"].get(model, {}).items():
        if arm == pair.split(" - ")[0]:
            other = pair.split(" - ")[1]
            for name, value in differences.items():
                metrics += metric_of(f"minus {_plain(other)}/{name}", value["mean"])
    return metrics


def _plain(name: str) -> str:
    """A name as MLflow allows it in metrics."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
