"""Stratifications in MLflow, logged once when they are done.

A stratification is a parent run with the report and a nested run per method with figures and traces; options that were
compared are a parent run with a nested run per trial; a simulation study is one run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from experiments.stratify.config import StratifyConfig
from experiments.stratify.grid_config import GridConfig

if TYPE_CHECKING:
    from experiments.stratify.run import Found

POINTS = 100
"""Of each chain's trace."""


def track(config: StratifyConfig, results: Mapping[str, Any], found: Sequence[Found], out: Path) -> dict[str, str]:
    """Log a finished stratification in batched calls.

    Returns
    -------
    dict
        ``tracking_uri``, ``experiment_id``, and ``run_id`` of the parent.
    """
    from experiments.stratify.report import in_words

    client, experiment = open_experiment(config, out)
    start = began(results)
    tags = tags_of("stratification", "stratify", (in_words(row) for row in results["methods"]), results)
    parent = client.create_run(experiment, start_time=start, run_name=config.name, tags=tags).info.run_id
    log_params(client, parent, config)
    for name in ("report.html", "results.json", "clusters.csv", "config.yaml"):
        client.log_artifact(parent, str(out / name))
    client.log_artifacts(parent, str(out / "figures"), "figures")
    for one, row in zip(found, results["methods"], strict=True):
        nested = {PARENT: parent, "haemfed.kind": "method", "haemfed.method": one.method}
        run = client.create_run(experiment, start_time=start, run_name=one.method, tags=nested).info.run_id
        log_metrics(client, run, [*_final(row), *_traces(one)])
        client.set_terminated(run)
    client.set_terminated(parent)
    return place_of(config, out, experiment, parent)


def track_grid(
    config: GridConfig, results: Mapping[str, Any], seconds: Mapping[str, float], out: Path
) -> dict[str, str]:
    """Log a simulation study as one run: means and standard deviations by method and kind of cohort, λ for steps.

    Returns
    -------
    dict
        ``tracking_uri``, ``experiment_id``, ``run_id``.
    """
    from experiments.stratify.grid_report import in_words

    client, experiment = open_experiment(config, out)
    tags = tags_of("simulation study", "grid", in_words(results["rows"]), results)
    run = client.create_run(experiment, run_name=config.name, tags=tags).info.run_id
    log_params(client, run, config)
    metrics = [metric for model, value in seconds.items() for metric in metric_of(f"seconds/{model}", value)]
    for row in results["rows"]:
        h = "" if row["alpha_hdmm"] is None else f"_h{row['alpha_hdmm']:g}"
        cell = f"{row['method']}/a{row['alpha_sim']:g}_K{row['clusters']}{h}"
        for name in ("ari", "ari_sd", "k", "k_sd"):
            metrics += metric_of(f"{name}/{cell}", row[name], row["events"])
    log_metrics(client, run, metrics)
    for name in ("report.html", "results.json", "results.csv", "config.yaml"):
        client.log_artifact(run, str(out / name))
    client.log_artifacts(run, str(out / "figures"), "figures")
    client.set_terminated(run)
    return place_of(config, out, experiment, run)


def track_trials(config: StratifyConfig, results: Mapping[str, Any], out: Path) -> dict[str, str]:
    """Log a comparison of options: the table in the parent run, a nested run per trial.

    Returns
    -------
    dict
        ``tracking_uri``, ``experiment_id``, and ``run_id`` of the parent.
    """
    client, experiment = open_experiment(config, out)
    tags = {"haemfed.kind": "tuning", "mlflow.source.name": "haemfed stratify"}
    parent = client.create_run(experiment, run_name=f"{config.name} tuning", tags=tags).info.run_id
    log_params(client, parent, config)
    for name in ("trials.csv", "trials.json", "config.yaml"):
        client.log_artifact(parent, str(out / name))
    for row in results["trials"]:
        nested = {PARENT: parent, "haemfed.kind": "trial", "haemfed.method": row["method"]}
        run = client.create_run(experiment, run_name=f"trial {row['trial']}", tags=nested).info.run_id
        numbers = {key: value for key, value in row.items() if key not in ("trial", "method", "options", "error")}
        params = [Param(name, str(value)) for name, value in {"method": row["method"], **row["options"]}.items()]
        client.log_batch(run, metrics=list(_final(numbers)), params=params)
        client.set_terminated(run, "FAILED" if "error" in row else "FINISHED")
    client.set_terminated(parent)
    return place_of(config, out, experiment, parent)


def _final(row: Mapping[str, Any], prefix: str = "") -> Iterator[Metric]:
    """Every number of a method's results; the ends of an interval as .low and .high."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _final(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            if len(value) == 2 and all(isinstance(end, int | float) for end in value):
                yield from metric_of(f"{prefix}{key}.low", value[0]) + metric_of(f"{prefix}{key}.high", value[1])
        elif isinstance(value, int | float) and math.isfinite(value):
            yield from metric_of(f"{prefix}{key}", float(value))


def _traces(found: Found) -> Iterator[Metric]:
    """Each chain's log likelihood and number of clusters along the steps."""
    every = max(1, found.chains.shape[1] // POINTS)
    for name in ("log_likelihood", "clusters"):
        for c, trace in enumerate(found.chains.scalars[name]):
            for step in range(0, len(trace), every):
                yield from metric_of(f"chain {c}/{name}", float(trace[step]), step + 1)
