"""The comparison: which runs a list means, that finished ones are left alone, and that the table says what they say."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import comparison
from experiments.comparison import load_comparison, merged, plan, run_comparison
from experiments.comparison_table import END, START, published
from experiments.config import Config
from experiments.settings import ConfigError
from tests.conftest import ROOT

LIST = ROOT / "experiments" / "configs" / "results.yaml"
RUNS = ["small-cox-all", "small-cox-clinical", "small-deepsurv-all"]


def estimate(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02, "spread": 0.011, "n": 100, "events": 40}


def results_of(config: Config) -> dict[str, Any]:
    """What an experiment of that configuration might have found."""
    c = 0.6 if config.dataset.modalities else 0.7
    metrics = {"harrell_c": estimate(c), "uno_c": estimate(c - 0.01), "ibs": estimate(0.18)}
    metrics |= {f"{m}_{h}y": estimate(0.1) for m in ("brier", "calibration_error") for h in (1, 3, 5)}
    metrics |= {f"calibration_ratio_{h}y": estimate(1.0 + h / 10) for h in (1, 3, 5)}
    centers = {f"C{i}": {"harrell_c": estimate(c + i / 100)} for i in range(5)}
    signed = {"mean": -0.004, "low": -0.009, "high": 0.001}
    return {
        "config": config.to_dict(),
        "seconds": 90.0,
        "dataset": {"name": "gbsg2", "description": "Made up.", "patients": 100, "events": 40, "centers": centers},
        "arms": {
            "score/npi": {"kind": "score", "pooled": {"harrell_c": estimate(0.55)}, "centers": {}},
            "centralized": {"kind": "centralized", "pooled": metrics, "centers": centers},
            "federated/fedavg": {"kind": "federated", "pooled": metrics, "centers": centers},
            "federated/fedavg[clinical]": {"kind": "block", "pooled": metrics, "centers": {}},
            "exact-cox/federated": {"kind": "federated", "pooled": metrics, "centers": {}},
            **{
                f"local/C{i}": {"kind": "local", "pooled": {"harrell_c": estimate(0.5 + i / 100)}, "centers": {}}
                for i in range(3)
            },
        },
        "differences": [
            {"a": "federated/fedavg", "b": b, "metric": "harrell_c", **signed, "lower": -0.0085, "non_inferior": True}
            for b in ("centralized", "score/npi")
        ],
        "gain": {
            "federated": "federated/fedavg",
            "centers": [],
            "mean": {"everybody": {"mean": 0.05, "low": 0.04, "high": 0.06}},
            "slope": {"mean": -0.08, "low": -0.1, "high": -0.06},
            "slope_over_centers": None,
        },
        "blocks": {"steps": [{"arm": "a", "blocks": ["clinical"], "gain": None}]},
    }


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list of three runs on patients that come with scikit-survival."""
    (tmp_path / "small.yaml").write_text(
        yaml.safe_dump(
            {
                "dataset": {"name": "gbsg2"},
                "partition": {"name": "fractions", "parameters": {"fractions": [0.6, 0.4]}},
                "training": {"steps": 1, "learning_rate": 0.3},
            }
        )
    )
    path = tmp_path / "list.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "common": {"split": {"repeats": 2}, "tracking": {"enabled": False}},
                "quick": {"split": {"repeats": 1}},
                "models": {
                    "cox": {"model": {"name": "cox"}},
                    "deepsurv": {"model": {"name": "deepsurv"}, "training": {"steps": 5}},
                },
                "cohorts": {
                    "small": {
                        "config": "small.yaml",
                        "title": "Breast cancer",
                        "published": "AML",
                        "features": {"all": None, "clinical": ["clinical"]},
                        "runs": {"cox": ["all", "clinical"], "deepsurv": ["all"]},
                    }
                },
            }
        )
    )
    return path


class Runs:
    """Stands for experiments: notes which were asked for, and fails where it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing: set[str] = set()

    def __call__(self, config: Config, out: Path, data_dir: Any, *, resume: bool, listen: Any) -> None:
        self.asked.append(config.name)
        if config.name in self.failing:
            raise RuntimeError("no center\nanswers")
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(results_of(config)))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    @contextmanager
    def no_ray(address: Any) -> Iterator[None]:
        yield

    made = Runs()
    monkeypatch.setattr(comparison, "run_experiment", made)
    monkeypatch.setattr(comparison, "ray_session", no_ray)
    return made


def test_the_list_of_this_project_is_whole() -> None:
    planned = plan(load_comparison(LIST), LIST.parent)
    assert [p.error for p in planned] == [""] * len(planned)
    assert len({p.run.name for p in planned}) == len(planned)
    cases = published()["use_cases"]
    assert {p.run.published for p in planned} <= {*cases, None}
    for p in planned:
        assert p.config is not None
        assert p.config.arms.centralized
        assert p.config.arms.local is not None


def test_changes_are_made_in_order(listed: Path) -> None:
    whole = {p.run.name: p.config for p in plan(load_comparison(listed), listed.parent)}
    assert list(whole) == RUNS
    one, two, three = whole.values()
    assert one is not None
    assert two is not None
    assert three is not None
    assert one.split.repeats == 2
    assert two.dataset.modalities == ("clinical",)
    assert (three.training.steps, three.training.learning_rate) == (5, 0.3)
    quick = plan(load_comparison(listed), listed.parent, quick=True, only=["deepsurv"])
    assert [p.run.name for p in quick] == ["small-deepsurv-all"]
    assert quick[0].config is not None
    assert quick[0].config.split.repeats == 1


def test_merged_replaces_lists_and_leaves_its_arguments() -> None:
    data = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merged(data, {"a": {"c": [3]}, "d": None}) == {"a": {"b": 1, "c": [3]}, "d": None}
    assert data == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_finished_runs_are_left_alone(listed: Path, runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_comparison(load_comparison(listed), listed.parent, out, only=["cox"])
    assert runs.asked == RUNS[:2]
    assert f"- not run yet: {RUNS[2]}" in (out / "results.md").read_text()
    found = run_comparison(load_comparison(listed), listed.parent, out)
    assert runs.asked == RUNS
    assert list(found.results) == RUNS
    assert found.seconds == 270
    (out / RUNS[0] / "results.json").write_text(json.dumps({"config": {}}))  # of something else
    found = run_comparison(load_comparison(listed), listed.parent, out, only=["deepsurv"])
    assert list(found.results) == RUNS[1:]
    run_comparison(load_comparison(listed), listed.parent, out, only=["cox"])
    assert runs.asked == [*RUNS, RUNS[0]]


def test_a_run_that_fails_is_named_and_stops_no_other(listed: Path, runs: Runs, tmp_path: Path) -> None:
    runs.failing = {RUNS[0]}
    found = run_comparison(load_comparison(listed), listed.parent, tmp_path / "out")
    assert runs.asked == RUNS
    assert found.errors == {RUNS[0]: "no center answers"}
    assert f"- {RUNS[0]}: no center answers" in (tmp_path / "out" / "results.md").read_text()
    assert "no center answers" in (tmp_path / "out" / "results.html").read_text()


def test_a_configuration_that_is_not_there_is_named(listed: Path, runs: Runs, tmp_path: Path) -> None:
    data = yaml.safe_load(listed.read_text())
    data["cohorts"]["other"] = {"config": "nowhere.yaml", "title": "Other", "runs": {"cox": ["all"]}}
    listed.write_text(yaml.safe_dump(data))
    found = run_comparison(load_comparison(listed), listed.parent, tmp_path / "out")
    assert "nowhere.yaml" in found.errors["other-cox-all"]
    assert list(found.results) == RUNS


def test_the_table(listed: Path, runs: Runs, tmp_path: Path) -> None:
    run_comparison(load_comparison(listed), listed.parent, tmp_path / "out", command="haemfed results")
    text = (tmp_path / "out" / "results.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    block, *_, federated = (row for row in rows if row[:3] == ["cox", "clinical", "federated/fedavg"])
    assert block[3] == "0.700 (0.680–0.720)"  # an arm on fewer blocks, of the run on all of them
    assert federated[3:6] == ["0.600 (0.580–0.620)", "0.011", "0.620 [0.610–0.630], 5"]
    assert federated[8] == "1.30 (1.28–1.32)"  # observed over predicted at three years
    assert ["cox", "clinical", "3 centers alone", "0.510 [0.500–0.520]"] in [row[:4] for row in rows]
    assert ["exact cox", "all", "federated"] in [row[:3] for row in rows]
    assert sum(row[2] == "npi" for row in rows) == 1
    claim = next(row for row in rows if row[:2] == ["deepsurv", "all"] and row[4] == "yes")
    assert claim[2:4] == ["\N{MINUS SIGN}0.004 (\N{MINUS SIGN}0.009 to +0.001)", "\N{MINUS SIGN}0.009"]
    assert "ELN-2022 0.64" in text
    assert "Not in the table" not in text
    with (tmp_path / "out" / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    chosen = [x for x in lines if (x["run"], x["arm"], x["center"]) == (RUNS[0], "federated/fedavg", "C2")]
    assert [float(x["mean"]) for x in chosen if x["metric"] == "harrell_c"] == [0.72]


def test_only_the_marked_section_is_rewritten(listed: Path, runs: Runs, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Results\n\n{START}\nyesterday\n{END}\n\nrest\n")
    for _ in range(2):
        run_comparison(load_comparison(listed), listed.parent, tmp_path / "out", update=page)
    text = page.read_text()
    assert text.startswith(f"# Results\n\n{START}\n\n```\n")
    assert text.endswith(f"{END}\n\nrest\n")
    assert "yesterday" not in text
    assert text.count("### Breast cancer") == 1


@pytest.mark.parametrize("text", ["no marks", f"{END}\n{START}", f"{START}\n{START}\n{END}"])
def test_a_page_without_marks_is_refused_before_anything_runs(
    listed: Path, runs: Runs, tmp_path: Path, text: str
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ConfigError, match=r"page\.md: needs one line"):
        run_comparison(load_comparison(listed), listed.parent, tmp_path / "out", update=page)
    assert runs.asked == []


def test_what_is_wrong_in_a_list_is_named(listed: Path) -> None:
    with pytest.raises(ConfigError, match=r"--only nothing: no such run.*small-cox-all"):
        plan(load_comparison(listed), listed.parent, only=["nothing"])
    data = yaml.safe_load(listed.read_text())
    data["cohorts"]["small"]["runs"]["forest"] = ["all"]
    listed.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match="'small' names the model 'forest'; there are cox, deepsurv"):
        load_comparison(listed)
    del data["cohorts"]["small"]["runs"]["forest"]
    data["cohorts"]["small"]["runs"]["cox"] = ["radiology"]
    listed.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match="no features 'radiology'"):
        load_comparison(listed)
