"""Sweeps: domains and errors, and one small sweep from configuration to MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.config import Config, load_config, parse_config
from experiments.settings import ConfigError
from experiments.sweep import run_sweep, with_changes
from federation.policy import verify_audit


def config(**changes: Any) -> Config:
    """A federation of two centers that trains in a second."""
    data: dict[str, Any] = {
        "name": "tiny",
        "dataset": {"name": "whas500"},
        "partition": {"name": "fractions", "parameters": {"fractions": [0.6, 0.4]}},
        "split": {"folds": 2, "validation": 0.3},
        "training": {"steps": 2, "learning_rate": 0.1},
        "ridge": 10,
        "rounds": 6,
        "selection": {"metric": "concordance"},
        "federation": {"checkpoint_every": 1, "signed": True},
        "sweep": {
            "trials": 3,
            "grace_rounds": 2,
            "space": {"training.learning_rate": {"log": [1e-6, 0.3]}, "ridge": {"choice": [1, 10]}},
        },
    }
    return parse_config({**data, **changes})


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({"training.lerning_rate": {"log": [0.1, 1]}}, "did you mean 'learning_rate'"),
        ({"ridge": {"log": [10, 1]}}, "ridge"),
        ({"ridge": {"lgo": [1, 10]}}, "log, uniform, integer, choice"),
        ({"ridge": {"choice": []}}, "ridge"),
        ({"training.learning_rate": {"uniform": [-1, 1]}}, "learning_rate is -1"),
    ],
)
def test_a_wrong_space_is_one_clear_error_before_any_trial(space: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=named):
        run_sweep(config(sweep={"space": space}), tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_needs_a_space_and_validation_patients(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no section 'sweep'"):
        run_sweep(config(sweep=None), tmp_path)
    with pytest.raises(ConfigError, match=r"split\.validation"):
        run_sweep(config(split={"folds": 2, "validation": 0}), tmp_path)


def test_changes_reach_parts_and_lists_and_are_checked() -> None:
    changed = with_changes(config(), {"training.steps": 7, "strategies.0.name": "fedprox"})
    assert (changed.training.steps, changed.strategies[0].arm) == (7, "federated/fedprox")
    with pytest.raises(ConfigError, match="steps"):
        with_changes(config(), {"training.steps": 0})


def test_a_sweep_finds_the_learning_rate_that_learns(cluster: None, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    lines: list[str] = []
    best = run_sweep(config(), tmp_path / "sweep", say=lines.append)

    trials = json.loads((tmp_path / "sweep" / "trials.json").read_text())
    assert len(trials) == len(lines) == 3
    logs = [*(tmp_path / "sweep" / "centers").glob("*/audit/*.jsonl")]
    assert len(logs) == 3  # each trial's host
    assert all(verify_audit(log)[0] > 2 for log in logs)
    assert len([*(tmp_path / "sweep" / "centers").glob("*/keys/*.last")]) == 3  # signed questions
    values = [trial["concordance"] for trial in trials]
    assert best["value"] == max(values)
    winner = trials[values.index(max(values))]
    assert max(value for _, value in winner["curve"]) == pytest.approx(best["value"])
    chosen = load_config(best["path"])  # `haemfed run` takes it
    assert chosen.training.learning_rate == pytest.approx(winner["changes"]["training.learning_rate"])
    assert chosen.ridge == winner["changes"]["ridge"]
    assert chosen.sweep is None

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    parents = [run for run in runs if run.data.tags["haemfed.kind"] == "sweep"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(parents) == 1
    assert sorted(child.data.metrics["best concordance"] for child in children) == pytest.approx(sorted(values))
    assert {child.info.status for child in children} == {"FINISHED"}
