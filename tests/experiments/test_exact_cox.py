"""The exact Cox arms: the hazard ratios of lifelines on the pooled patients, and predictions beside the other arms'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from experiments.arms import Fits
from experiments.config import Config, parse_config
from experiments.evaluation import Evaluator
from experiments.exact_cox import (
    CENTRALIZED,
    FEDERATED,
    as_network,
    hazard_ratio_tables,
    run_exact_centralized,
    run_exact_federated,
)
from experiments.running import silent
from experiments.study import Study
from federation import Center, InProcessFederation
from federation.algorithm import rounds
from models.preprocessing import encode


class Here:
    """A coordinator without actors."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def run(self, task: Any) -> Any:
        centers = [Center(n, lambda c=c: c, j) for j, (n, c) in enumerate(self.study.cohorts.items())]
        for state in rounds(task.algorithm, InProcessFederation(centers, task.seed, task.split, task.name)):
            yield type("Progress", (), {"final": state})


def config(**exact: Any) -> Config:
    return parse_config(
        {
            "dataset": {"name": "whas500"},
            "partition": {"name": "fractions", "parameters": {"fractions": [0.5, 0.3, 0.2]}},
            "split": {"folds": 2},
            "preprocessing": {"min_missing": 1.1},
            "exact_cox": exact,
            "evaluation": {"horizons": [1, 3], "bootstrap": 20},
        }
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Fits]:
    study, fits = Study.load(config(), None), Fits(tmp_path_factory.mktemp("fits"))
    run_exact_federated(study, Here(study), fits, silent)  # type: ignore[arg-type]
    run_exact_centralized(study, fits, silent)
    return study, fits


def test_hazard_ratios_are_those_of_lifelines(done: tuple[Study, Fits]) -> None:
    study, fits = done
    tables = hazard_ratio_tables(study.config, fits)
    assert tables is not None
    assert tables["largest_difference"] < 1e-6
    table = tables["arms"][FEDERATED]
    assert table["broadcasts"] <= 15
    raw = pd.DataFrame(encode(study.cohort), columns=study.schema.names)
    numeric = [f.name for f in study.schema.features if f.numeric]
    raw[numeric] /= raw[numeric].std(ddof=0)
    frame = raw.assign(T=np.rint(study.cohort.time * 365.25), E=study.cohort.event)
    theirs = CoxPHFitter().fit(frame, "T", "E", fit_options={"precision": 1e-12}).summary
    mine = pd.DataFrame(table["rows"]).set_index("feature").loc[theirs.index]
    for column, name in (("hazard_ratio", "exp(coef)"), ("p", "p")):
        np.testing.assert_allclose(mine[column].astype(float), theirs[name], atol=1e-6)
    for column, name in (("low", "lower"), ("high", "upper")):
        np.testing.assert_allclose(mine[column].astype(float), theirs[f"exp(coef) {name} 95%"], rtol=1e-5)


def test_the_arms_are_evaluated_alike(done: tuple[Study, Fits]) -> None:
    study, fits = done
    evaluator = Evaluator(study, fits)
    arms = [
        evaluator.fold_arm(arm, kind, config=as_network(study.config))
        for arm, kind in ((FEDERATED, "federated"), (CENTRALIZED, "centralized"))
    ]
    assert all(arms)
    first, second = (arm.pooled for arm in arms if arm is not None)
    assert first["harrell_c"].mean == pytest.approx(second["harrell_c"].mean, abs=1e-6)
    assert first["ibs"].mean == pytest.approx(second["ibs"].mean, abs=1e-6)
    assert first["harrell_c"].mean > 0.7


def test_a_fit_that_is_there_is_not_made_again(done: tuple[Study, Fits]) -> None:
    study, fits = done
    before = {path: path.stat().st_mtime_ns for path in Path(fits.directory).rglob("*.safetensors")}
    run_exact_centralized(study, fits, silent)
    assert len(before) == 6
    assert before == {path: path.stat().st_mtime_ns for path in Path(fits.directory).rglob("*.safetensors")}


def test_strata_are_the_centers(tmp_path: Path) -> None:
    study, fits = Study.load(config(strata="center", penalty=5), None), Fits(tmp_path)
    run_exact_federated(study, Here(study), fits, silent)  # type: ignore[arg-type]
    run_exact_centralized(study, fits, silent)
    tables = hazard_ratio_tables(study.config, fits)
    assert tables is not None
    assert tables["largest_difference"] < 1e-6
