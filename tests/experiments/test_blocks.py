"""The comparison of blocks on simulated patients: which arms, what is compared, and that an informative block shows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.arms import Fits, federated_fits
from experiments.blocks import block_arms, single_of, steps_of, with_modalities
from experiments.config import Config, parse_config
from experiments.evaluation import evaluate_study
from experiments.findings import summary
from experiments.fitting import fit_model
from experiments.report import render
from experiments.settings import ConfigError
from experiments.study import Study
from federation.algorithm import Algorithm, run
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.state import State
from harmonization import Cohort, Feature, Schema, write_cohort

WIDTH = 12
SCHEMA = Schema(
    "blocks",
    "1",
    (
        Feature("age", "continuous", reference=60),
        Feature("mutated", "binary", "genomic"),
        *(Feature(f"e{i}", "continuous", "histopathology") for i in range(WIDTH)),
    ),
)


def simulated(n: int = 240, seed: int = 0) -> Cohort:
    """Patients whose hazard depends on age, strongly on a factor behind the embedding, and not on the mutation."""
    rng = np.random.default_rng(seed)
    age, factor = rng.normal(60, 10, n), rng.normal(0, 1, n)
    embedding = factor[:, None] * np.linspace(1, 2, WIDTH) + rng.normal(0, 0.7, (n, WIDTH))
    values = np.column_stack([age, rng.random(n) < 0.4, embedding])
    died, left = rng.exponential(3 * np.exp(-0.04 * (age - 60) - 1.2 * factor)), rng.uniform(1, 6, n)
    ids = np.array([f"p{i:03d}" for i in range(n)])
    return Cohort(SCHEMA, ids, values, np.minimum(died, left), died <= left)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "blocks.csv"
    write_cohort(simulated(), path)
    return path


def config(table: Path, **changes: Any) -> Config:
    data: dict[str, Any] = {
        "dataset": {"name": "table", "options": {"path": str(table)}, "hide": {"histopathology": ["C03"]}},
        "partition": {"name": "fractions", "parameters": {"fractions": [0.4, 0.3, 0.3]}},
        "split": {"folds": 2},
        "preprocessing": {"reduce": {"histopathology": 2}},
        "model": {"name": "multimodal_deepsurv", "parameters": {"encoder": [], "size": 3, "block_dropout": 0.2}},
        "ridge": 5,
        "training": {"steps": 5, "learning_rate": 0.3},
        "rounds": 8,
        "arms": {"centralized": False, "local": None, "blocks": {}},
        "evaluation": {"horizons": [1, 3], "bootstrap": 40},
    }
    return parse_config({**data, **changes})


@cache
def evaluated(table: Path, directory: Path) -> tuple[Study, dict[str, Any]]:
    """Every fit in this process, then the evaluation."""
    study, fits = Study.load(config(table), None), Fits(directory)
    for item in federated_fits(study):
        if item.fold == "final":
            continue
        centers = [Center(s.name, s.source, s.position, study.schema) for s in study.specs()]

        def run_task(step: str, algorithm: Algorithm, item: Any = item, centers: Any = centers) -> State:
            task = f"{item.arm}/{item.fold}/{step}"
            return run(algorithm, InProcessFederation(centers, study.seed(item.repeat), item.split, task))

        chosen = study.config if item.modalities is None else with_modalities(study.config, item.modalities)
        fit = fit_model(chosen, item.strategy, study.schema, run_task)
        fit.save(fits.path(item.arm, item.repeat, item.fold))
    return study, evaluate_study(study, fits)


@pytest.fixture(scope="module")
def results(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluated(table, tmp_path_factory.mktemp("fits"))[1]


def test_the_arms_are_steps_and_single_blocks(table: Path) -> None:
    main = "federated/fedavg"
    assert steps_of(config(table), SCHEMA) == {
        f"{main}[clinical]": ("clinical",),
        f"{main}[clinical+genomic]": ("clinical", "genomic"),
        main: ("clinical", "genomic", "histopathology"),
    }
    assert list(single_of(config(table), SCHEMA)) == [f"{main}[{m}]" for m in ("clinical", "genomic", "histopathology")]
    assert len(block_arms(config(table), SCHEMA)) == 4  # clinical alone is a step, too
    other = config(table, arms={"blocks": {"order": ["histopathology", "genomic", "clinical"]}})
    assert list(steps_of(other, SCHEMA))[:2] == [f"{main}[histopathology]", f"{main}[histopathology+genomic]"]
    assert block_arms(config(table, arms={}), SCHEMA) == {}
    wrong = config(table, arms={"blocks": {"order": ["histopathology", "clinical"]}})
    with pytest.raises(ConfigError, match=r"each of the data's modalities once.*genomic"):
        block_arms(wrong, SCHEMA)


def test_gains_are_paired_differences_of_the_arms(results: dict[str, Any]) -> None:
    blocks, arms = results["blocks"], results["arms"]
    assert {row["arm"] for row in (*blocks["steps"], *blocks["single"])} == arms.keys()
    assert arms["federated/fedavg[clinical]"]["kind"] == "block"
    for before, row in zip(blocks["steps"], blocks["steps"][1:], strict=False):
        for metric, gain in row["gain"].items():
            expected = arms[row["arm"]]["pooled"][metric]["mean"] - arms[before["arm"]]["pooled"][metric]["mean"]
            assert gain["mean"] == pytest.approx(expected)
    for row in blocks["single"]:
        expected = (
            arms["federated/fedavg"]["pooled"]["harrell_c"]["mean"] - arms[row["arm"]]["pooled"]["harrell_c"]["mean"]
        )
        assert row["gain"]["harrell_c"]["mean"] == pytest.approx(expected)


def test_the_informative_block_shows_and_the_idle_one_does_not(results: dict[str, Any]) -> None:
    _, genomic, slide = (row["gain"] for row in results["blocks"]["steps"])
    assert genomic["harrell_c"]["low"] <= 0.01
    assert slide["harrell_c"]["low"] > 0.02
    assert slide["ibs"]["high"] < 0


def test_every_center_is_compared_with_its_best_single_block(results: dict[str, Any]) -> None:
    rows = {row["center"]: row for row in results["blocks"]["centers"]}
    assert rows.keys() == {"C01", "C02", "C03"}
    assert rows["C03"]["lacks"] == ["histopathology"]
    assert rows["C01"]["lacks"] == []
    assert rows["C01"]["best"] == "federated/fedavg[histopathology]"
    # Where it is absent all patients have the same risk by that block alone.
    assert rows["C03"]["single"]["federated/fedavg[histopathology]"]["mean"] == 0.5
    assert rows["C03"]["best"] == "federated/fedavg[clinical]"
    means = results["blocks"]["means"]
    assert means["lacking"]["mean"] == pytest.approx(rows["C03"]["difference"]["mean"])
    assert means["complete"]["mean"] == pytest.approx(np.mean([rows[c]["difference"]["mean"] for c in ("C01", "C02")]))
    assert means["complete"]["low"] < means["complete"]["mean"] < means["complete"]["high"]
    for row in rows.values():
        best = max(row["single"].values(), key=lambda estimate: estimate["mean"])
        assert row["difference"]["mean"] == pytest.approx(row["all"]["mean"] - best["mean"])
        assert row["difference"]["high"] > 0  # no worse


def test_the_report_tells_of_it(results: dict[str, Any]) -> None:
    said = " ".join(summary(results))
    assert "histopathology +0." in said
    assert "all together are worse at 0 of 3 centers" in said
    page = render(results)
    assert "What does each block of features add?" in page
    assert 'id="figure-blocks"' in page
    assert "What does each block" not in render({**results, "blocks": None})
