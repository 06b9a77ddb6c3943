"""Competing causes in an experiment: what results.json and the report say of each cause."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored
from sksurv.nonparametric import cumulative_incidence_competing_risks

from experiments.arms import Fits, federated_fits
from experiments.config import parse_config
from experiments.evaluation import evaluate_study
from experiments.fitting import fit_model, require_causes
from experiments.report import render
from experiments.settings import ConfigError
from experiments.study import Study
from federation.algorithm import Algorithm, run
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.state import State
from harmonization import Cohort, Feature, Schema, write_cohort

SCHEMA = Schema(
    "two causes",
    "1",
    (Feature("age", "continuous", reference=60), Feature("mutated", "binary", "genomic")),
    (Feature("age_score", "continuous"),),
    causes=("AML", "death without AML"),
)
MODELS: dict[str, dict[str, Any]] = {
    "savae": {"latent": 2, "hidden": 8, "draws": 16, "causes": 2},
    "cox": {},
}


def simulated(n: int = 300, seed: int = 0) -> Cohort:
    """The mutation leads to leukaemia, age to death."""
    rng = np.random.default_rng(seed)
    age, mutated = rng.normal(60, 10, n), rng.random(n) < 0.4
    latent = np.column_stack(
        [
            rng.exponential(3 * np.exp(-1.5 * mutated)),
            rng.exponential(3 * np.exp(-0.1 * (age - 60))),
            rng.uniform(1, 6, n),
        ]
    )
    cause = (np.argmin(latent, axis=1) + 1) % 3
    ids = np.array([f"p{i:03d}" for i in range(n)])
    values = np.column_stack([age, mutated]).astype(float)
    return Cohort(SCHEMA, ids, values, latent.min(axis=1), cause > 0, age[:, None], cause)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "causes.csv"
    write_cohort(simulated(), path)
    return path


def settings(table: Path, model: str, **parameters: Any) -> Any:
    return parse_config(
        {
            "dataset": {"name": "table", "options": {"path": str(table)}},
            "partition": {"name": "fractions", "parameters": {"fractions": [0.6, 0.4]}},
            "split": {"folds": 2},
            "model": {"name": model, "parameters": MODELS[model] | parameters},
            "training": {"epochs": 2, "batch_size": 32, "optimizer": "adam", "learning_rate": 0.02},
            "rounds": 10,
            "arms": {"centralized": False, "local": None},
            "evaluation": {"horizons": [1, 2], "bootstrap": 20},
        }
    )


@cache
def evaluated(table: Path, model: str) -> tuple[Study, Fits, dict[str, Any]]:
    """Every federated fit in this process, then the evaluation."""
    study, fits = Study.load(settings(table, model), None), Fits(table.parent / model)
    for item in federated_fits(study):
        if item.fold == "final":
            continue
        centers = [Center(s.name, s.source, s.position, study.schema) for s in study.specs()]

        def run_task(step: str, algorithm: Algorithm, item: Any = item, centers: Any = centers) -> State:
            task = f"{item.arm}/{item.fold}/{step}"
            return run(algorithm, InProcessFederation(centers, study.seed(item.repeat), item.split, task))

        fit = fit_model(study.config, item.strategy, study.schema, run_task)
        fit.save(fits.path(item.arm, item.repeat, item.fold))
    return study, fits, evaluate_study(study, fits)


def rows(results: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {(row["arm"], row["cause"]): row for row in results["causes"]["arms"]}


def test_each_cause_has_wolbers_concordance_and_its_incidence(table: Path) -> None:
    study, fits, results = evaluated(table, "savae")
    cohort, found = study.cohort, rows(results)
    assert cohort.cause is not None
    moments, curves = cumulative_incidence_competing_risks(cohort.cause, cohort.time)
    fold, times = study.folds(0), np.array([1.0, 2.0])
    for j, cause in enumerate(SCHEMA.causes):
        row = found["federated/fedavg", cause]
        at = np.searchsorted(moments, times, side="right") - 1
        np.testing.assert_allclose(results["causes"]["observed"][cause], curves[j + 1, at])
        np.testing.assert_allclose(row["predicted"], curves[j + 1, at], atol=0.08)
        assert results["causes"]["events"][cause] == row["concordance"]["events"] == (cohort.cause == j + 1).sum()
        concordant = comparable = 0.0
        for k in (0, 1):  # pairs within a fold; who had the other cause outlives everybody
            here = cohort[fold == k]
            fit = fits.get("federated/fedavg", 0, k)
            assert fit is not None
            assert here.cause is not None
            risk = fit.causes("savae", here, times)[0][:, j]
            until = np.where(here.cause == 2 - j, 99.0, here.time)
            c, agree, against, tied, _ = concordance_index_censored(here.cause == j + 1, until, risk)
            concordant, comparable = concordant + c * (agree + against + tied), comparable + agree + against + tied
        assert row["concordance"]["mean"] == pytest.approx(concordant / comparable)
        assert row["concordance"]["low"] > 0.55
        # A score has one value for all causes: age says who dies, and less than nothing of leukaemia.
        score = found["score/age_score", cause]
        assert score["predicted"] is None
        assert (score["concordance"]["mean"] > 0.6) == (j == 1)


def test_a_model_of_any_event_is_judged_by_its_one_risk(table: Path) -> None:
    found = rows(evaluated(table, "cox")[2])
    assert found["federated/fedavg", "AML"]["predicted"] is None
    low = min(found["federated/fedavg", cause]["concordance"]["mean"] for cause in SCHEMA.causes)
    assert low < min(
        row["concordance"]["mean"]
        for (arm, _), row in rows(evaluated(table, "savae")[2]).items()
        if arm == "federated/fedavg"
    )


def test_the_report_shows_them(table: Path) -> None:
    _, _, results = evaluated(table, "savae")
    page = render({"name": "causes", **results}, {})
    assert 'id="causes"' in page
    assert "death without AML" in page
    assert 'id="causes"' not in render({"name": "causes", **results, "causes": None}, {})


def test_a_model_of_other_causes_is_refused(table: Path) -> None:
    with pytest.raises(ConfigError, match=r"causes is 3.* 2: AML, death without AML"):
        require_causes(settings(table, "savae", causes=3), SCHEMA)
    with pytest.raises(ConfigError, match=r"causes is 2.* none"):
        require_causes(settings(table, "savae"), replace(SCHEMA, causes=()))
    require_causes(settings(table, "savae", causes=1), SCHEMA)
