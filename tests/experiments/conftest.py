"""One small experiment on patients that come with scikit-survival, run once for all tests that look at results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.arms import Fits
from experiments.config import Config, parse_config
from experiments.datasets import load_dataset
from experiments.experiment import run_experiment
from experiments.study import Study
from harmonization import Feature, write_cohort

Make = Callable[..., Config]


@dataclass(frozen=True)
class Finished:
    """An experiment that has been run."""

    config: Config
    out: Path
    results: dict[str, Any]

    @property
    def study(self) -> Study:
        return Study.load(self.config, None)

    @property
    def fits(self) -> Fits:
        return Fits(self.out / "fits")


@pytest.fixture(scope="session")
def breast_cancer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GBSG-2 as a table of one's own: every kind of feature, missing values, and a score that some patients lack."""
    cohort = load_dataset("gbsg2").cohort
    rng = np.random.default_rng(0)
    values = np.where(rng.random(cohort.values.shape) < 0.04, np.nan, cohort.values)
    values[rng.random(len(cohort)) < 0.2, cohort.schema.index("progesterone_receptor")] = np.nan
    score = cohort.column("positive_nodes") + rng.normal(0, 3, len(cohort))
    score[:40] = np.nan
    schema = replace(cohort.schema, scores=(Feature("node_score", "continuous"),))
    path = tmp_path_factory.mktemp("tables") / "breast.csv"
    write_cohort(replace(cohort, schema=schema, values=values, scores=score[:, None]), path)
    return path


@pytest.fixture(scope="session")
def experiment(breast_cancer: Path) -> Make:
    """Makes a configuration with every kind of arm in four centers; keywords replace its parts.

    Mini-batches and dropout, so that every random number shows in the results.
    """

    def make(**changes: Any) -> Config:
        data: dict[str, Any] = {
            "name": "breast",
            "seed": 3,
            "dataset": {"name": "table", "options": {"path": str(breast_cancer)}},
            "partition": {"name": "fractions", "parameters": {"fractions": [0.4, 0.3, 0.2, 0.1]}},
            "split": {"folds": 2, "validation": 0.2},
            "model": {"name": "deepsurv", "parameters": {"hidden": [6], "dropout": 0.1}},
            "ridge": 10,
            "training": {"steps": 8, "batch_size": 60, "learning_rate": 0.5},
            "rounds": 6,
            "strategies": [
                {"name": "fedavg"},
                {"name": "scaffold", "label": "variates", "rounds": 5, "training": {"learning_rate": 0.4}},
            ],
            "arms": {"fine_tuning": {"steps": 3}, "left_out": {"centers": 2}},
            "exact_cox": {"penalty": 1},
            "explanation": {"repeats": 2, "partial_dependence": 2, "points": 4},
            "evaluation": {"horizons": [1, 3], "bootstrap": 20},
            "federation": {"hosts": 2, "checkpoint_every": 1},
        }
        return parse_config({**data, **changes})

    return make


@pytest.fixture(scope="session")
def finished(experiment: Make, cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The experiment, run without a break and tracked."""
    config, out = experiment(), tmp_path_factory.mktemp("runs") / "breast"
    return Finished(config, out, run_experiment(config, out))
