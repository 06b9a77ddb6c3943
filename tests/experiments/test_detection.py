"""Detection statistics of arms with a robust aggregator, from fits to results and report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiments.arms import Fits
from experiments.config import parse_config
from experiments.detection import detection_tables
from experiments.fitting import Fit, fit_model
from experiments.report import render
from experiments.study import Study
from federation.algorithm import Algorithm, run
from federation.bad_centers import bad_center
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.state import State
from harmonization import Cohort


def _same(cohort: Cohort) -> Cohort:
    return cohort


@pytest.fixture(scope="module")
def study() -> Study:
    config = parse_config(
        {
            "dataset": {"name": "whas500"},
            "partition": {"name": "fractions", "parameters": {"fractions": [0.3, 0.25, 0.2, 0.15, 0.1]}},
            "split": {"folds": 2},
            "ridge": 5,
            "training": {"steps": 1, "learning_rate": 0.3},
            "rounds": 5,
            "strategies": [{"name": "fedavg"}, {"name": "fedavg", "aggregator": {"name": "median"}}],
        }
    )
    return Study.load(config, None)


def test_a_liar_heads_the_table(study: Study, tmp_path: Path) -> None:
    config, fits = study.config, Fits(tmp_path)
    liar = study.names[1]
    for fold in range(2):
        centers = [
            bad_center("sign-flip-10", n, partial(_same, c), j) if n == liar else Center(n, partial(_same, c), j)
            for j, (n, c) in enumerate(study.cohorts.items())
        ]

        def run_task(step: str, algorithm: Algorithm, centers: list[Center] = centers, fold: int = fold) -> State:
            return run(algorithm, InProcessFederation(centers, 0, study.split(0, fold), step))

        fit = fit_model(config, config.strategies[1], study.schema, run_task)
        fit.save(fits.path(config.strategies[1].arm, 0, fold))
        again = Fit.load(fits.path(config.strategies[1].arm, 0, fold))
        assert fit.detection is not None
        np.testing.assert_array_equal(again.detection, fit.detection)
    tables = detection_tables(study, fits)
    assert tables is not None
    rows = tables["federated/fedavg-median"]
    assert list(tables) == ["federated/fedavg-median"]
    assert rows[0]["center"] == liar
    assert rows[0]["odd"]
    assert rows[0]["cosine"] < 0
    assert rows[0]["norm"] > 3
    assert len(rows) == 5
    page = render({"detection": tables}, {})
    assert "Do centers send what the others send?" in page
    assert liar in page


def test_without_a_robust_aggregator_there_is_none(study: Study, tmp_path: Path) -> None:
    plain = study.config.model_copy(update={"strategies": study.config.strategies[:1]})
    assert detection_tables(Study(plain, None, study.names, study.cohorts, {}), Fits(tmp_path)) is None
