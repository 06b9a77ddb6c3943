"""A whole experiment: what it writes, that it repeats itself bit by bit also after a break, what faults it survives."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import ray
from pydantic import BaseModel, ConfigDict

from experiments.config import Config, load_config
from experiments.datasets import load_centers
from experiments.experiment import run_experiment
from experiments.fitting import Fit, fit_model
from experiments.settings import ConfigError
from federation import Algorithm, Center, InProcessFederation, QuorumError, Split, State, load_state, run
from federation.policy import read_audit
from harmonization import write_cohort
from tests.conftest import ROOT
from tests.experiments.conftest import Finished, Make

# -- results.json --------------------------------------------------------------------------------------------------


class Strict(BaseModel):
    """No key is missing, none is new."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Interval(Strict):
    mean: float | None
    low: float | None
    high: float | None


class Estimate(Interval):
    spread: float | None
    n: int
    events: int


class Arm(Strict):
    kind: Literal["centralized", "federated", "local", "fine_tuned", "left_out", "block", "score"]
    pooled: dict[str, Estimate]
    centers: dict[str, dict[str, Estimate]]
    seconds: float
    selected_rounds: list[int]


class Size(Strict):
    patients: int
    events: int


class Dataset(Size):
    name: str
    description: str
    source: str
    licence: str
    simulated: str | None
    schema_hash: str
    time_unit: Literal["days", "months", "years"]
    features: int
    centers: dict[str, Size]


class Difference(Interval):
    a: str
    b: str
    metric: str
    lower: float | None
    non_inferior: bool | None


class Gain(Strict):
    federated: float | None
    local: float | None
    gain: Interval


class CenterGain(Size):
    center: str
    everybody: Gain
    own: Gain


class Gains(Strict):
    federated: str
    centers: list[CenterGain]
    mean: dict[Literal["everybody", "own"], Interval]
    slope: Interval | None
    slope_over_centers: Interval | None


class Band(Strict):
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]


class Curves(Strict):
    round: list[int]
    train_loss: Band
    validation_loss: Band
    validation_concordance: Band
    centers: dict[str, list[float | None]]


class Group(Strict):
    group: str
    times: list[float]
    survival: list[float]
    low: list[float | None]
    high: list[float | None]
    at_risk_times: list[float]
    at_risk: list[int]


class Calibration(Strict):
    predicted: list[float | None]
    observed: list[float | None]
    low: list[float | None]
    high: list[float | None]
    n: list[float | None]


class Blocks(Strict):
    federated: str
    steps: list[dict[str, Any]]
    single: list[dict[str, Any]]
    centers: list[dict[str, Any]]


class HazardRatio(Strict):
    feature: str
    per: str
    log_hazard_ratio: float
    hazard_ratio: float
    low: float | None
    high: float | None
    p: float | None
    robust_p: float | None
    proportional_hazards_p: float | None


class HazardRatioTable(Size):
    converged: bool
    broadcasts: int | None
    log_likelihood: float
    proportional_hazards_p: float | None
    rows: list[HazardRatio]


class HazardRatios(Strict):
    options: dict[str, Any]
    arms: dict[str, HazardRatioTable]
    largest_difference: float | None


class Importance(Strict):
    feature: str
    drop: Interval
    loss: Interval


class Curve(Strict):
    mean: list[float]
    low: list[float]
    high: list[float]


class Dependence(Strict):
    unit: str
    values: list[float] | list[str]
    risk: Curve
    survival: dict[str, Curve]


class Explanation(Strict):
    importance: dict[str, list[Importance]]
    partial_dependence: dict[str, dict[str, Dependence]]


class Cause(Strict):
    arm: str
    cause: str
    concordance: Estimate
    predicted: list[float] | None


class Causes(Strict):
    horizons: list[float]
    events: dict[str, int]
    observed: dict[str, list[float]]
    arms: list[Cause]


class Results(Strict):
    """As docs/results.md says."""

    schema_version: Literal[1]
    name: str
    description: str
    seed: int
    started: str
    seconds: float
    config: dict[str, Any]
    versions: dict[str, str]
    dataset: Dataset
    arms: dict[str, Arm]
    differences: list[Difference]
    gain: Gains | None
    curves: dict[str, Curves]
    kaplan_meier: dict[str, list[Group]]
    calibration: dict[str, dict[str, Calibration]]
    blocks: Blocks | None
    causes: Causes | None
    hazard_ratios: HazardRatios | None
    explanation: Explanation | None
    detection: dict[str, list[dict[str, Any]]] | None
    privacy: dict[str, Any] | None
    notes: list[str]
    timings: dict[str, float]
    mlflow: dict[str, str] | None = None


CENTERS = ["C01", "C02", "C03", "C04"]
METRICS = {"harrell_c", "uno_c", "auc_1y", "auc_3y"}
CURVE_METRICS = {"ibs"} | {f"{m}_{h}y" for m in ("brier", "calibration_ratio", "calibration_error") for h in (1, 3)}


def read(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def test_results_are_as_documented(finished: Finished) -> None:
    results = Results.model_validate(read(finished.out))
    for name, arm in results.arms.items():
        metrics = METRICS if arm.kind == "score" else METRICS | CURVE_METRICS
        assert arm.pooled.keys() == metrics, name
        for estimate in arm.pooled.values():
            assert estimate.mean is not None
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low < estimate.high
    for curves in results.curves.values():
        lengths = {len(values) for values in curves.centers.values()}
        lengths |= {len(curves.round), len(curves.train_loss.mean), len(curves.validation_loss.high)}
        assert len(lengths) == 1
    assert read(finished.out) == json.loads(json.dumps(finished.results))  # what was returned is what was written


def test_the_documentation_names_every_part_of_the_results(finished: Finished) -> None:
    page = (ROOT / "docs" / "results.md").read_text().split("## Synthetic patients")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    documented = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert documented <= finished.results.keys()
    assert finished.results.keys() - documented <= {"description", "mlflow"}
    for name in finished.results["arms"]["centralized"]["pooled"]:
        assert re.sub(r"_\dy$", "_1y", name) in page


def test_every_arm_is_there(finished: Finished) -> None:
    kinds = {name: arm["kind"] for name, arm in finished.results["arms"].items()}
    assert kinds == {
        "centralized": "centralized",
        "federated/fedavg": "federated",
        "federated/variates": "federated",
        "exact-cox/federated": "federated",
        "exact-cox/centralized": "centralized",
        "federated/fedavg+fine-tuned": "fine_tuned",
        "left-out/fedavg": "left_out",
        "score/node_score": "score",
        **{f"local/{name}": "local" for name in CENTERS},
    }
    assert finished.results["notes"] == []
    assert finished.results["gain"]["federated"] == "federated/fedavg"
    assert [row["center"] for row in finished.results["gain"]["centers"]] == CENTERS


def test_what_was_learned_is_explained(finished: Finished) -> None:
    found = Explanation.model_validate(finished.results["explanation"])
    arms = {"federated/fedavg", "centralized"}
    assert found.importance.keys() == found.partial_dependence.keys() == arms
    for rows in found.importance.values():
        assert {row.feature for row in rows} <= set(finished.study.schema.names)
        assert any(row.drop.mean for row in rows)
        assert all((row.drop.low or 0) <= (row.drop.mean or 0) <= (row.drop.high or 0) for row in rows)
    shown = [row.feature for row in found.importance["federated/fedavg"][:2]]
    for curves in found.partial_dependence.values():
        assert list(curves) == shown
        assert all(curve.survival.keys() == {"1", "3"} for curve in curves.values())


def test_the_claim_has_its_statistics(finished: Finished) -> None:
    for row in finished.results["differences"]:
        if row["metric"] == "ibs":
            assert row["lower"] is None
            continue
        assert row["low"] <= row["lower"] <= row["high"]
        assert row["non_inferior"] == (row["lower"] > -0.02)
    gain = finished.results["gain"]
    gains = [row["everybody"]["gain"]["mean"] for row in gain["centers"]]
    assert gain["mean"]["everybody"]["mean"] == pytest.approx(np.mean(gains))
    size = np.log10([row["patients"] for row in gain["centers"]])
    slope = np.polyfit(size, gains, 1)[0]
    assert gain["slope"]["mean"] == pytest.approx(slope)
    assert gain["slope_over_centers"]["mean"] == pytest.approx(slope)


def test_all_arms_are_tested_on_the_same_patients(finished: Finished) -> None:
    data, arms = finished.results["dataset"], finished.results["arms"]
    assert data["patients"] == 686
    assert list(data["centers"]) == CENTERS
    assert sum(c["patients"] for c in data["centers"].values()) == 686
    for name, arm in arms.items():
        c = arm["pooled"]["harrell_c"]
        if name == "left-out/fedavg":
            assert c["n"] == data["centers"]["C01"]["patients"] + data["centers"]["C02"]["patients"]
            assert list(arm["centers"]) == ["C01", "C02"]
        elif name == "score/node_score":
            assert c["n"] == 686 - 40
        else:
            assert (c["n"], c["events"]) == (data["patients"], data["events"])
        if arm["kind"] not in ("local", "score"):
            for center, metrics in arm["centers"].items():
                assert metrics["harrell_c"]["n"] == data["centers"][center]["patients"]
        if arm["kind"] == "local":
            assert list(arm["centers"]) == [name.removeprefix("local/")]


def test_each_patient_is_tested_once_and_never_by_a_model_that_saw_them(finished: Finished) -> None:
    study = finished.study
    tested = np.zeros(len(study.cohort), dtype=int)
    for fold in range(2):
        parts = study.parts(study.split(0, fold))
        tested += parts == 2
        np.testing.assert_array_equal(parts == 2, study.folds(0) == fold)
        # a center that draws its own parts draws the same
        drawn = np.concatenate([study.split(0, fold).parts(c.ids, c.event, n) for n, c in study.cohorts.items()])
        np.testing.assert_array_equal(parts, drawn)
    assert (tested == 1).all()


def test_the_centers_trained_on_the_patients_of_the_split(finished: Finished) -> None:
    """What the audit logs say, against the split."""
    study, directory = finished.study, finished.out / "centers" / "audit"
    text = "".join(path.read_text() for path in directory.glob("*.jsonl"))
    assert not any(patient in text for patient in ("patient_id", "tumor"))
    for name, cohort in study.cohorts.items():
        entries = read_audit(directory)[name]
        for fold in range(2):
            task = f"federated/fedavg/0-{fold}/training"
            counts = {e["patients"] for e in entries if e["task"] == task}
            assert counts == {int((study.split(0, fold).parts(cohort.ids, cohort.event, name) == 0).sum())}
        away = [e for e in entries if e["task"] == f"left-out/fedavg/0-{name}/training"]
        assert away == []


# -- the actor system and one process ------------------------------------------------------------------------------


def fit_in_process(
    finished: Finished, arm: int, split: Split, left_out: str = "", task: str = "", seed: int | None = None
) -> Fit:
    """A federated fit without actors."""
    study = finished.study

    def run_task(step: str, algorithm: Algorithm) -> State:
        centers = [Center(name, partial(study.cohorts.__getitem__, name), j) for j, name in enumerate(study.names)]
        federation = InProcessFederation(centers, study.seed(0) if seed is None else seed, split, f"{task}/{step}")
        federation.centers = [center for center in centers if center.name != left_out]
        return run(algorithm, federation)

    return fit_model(finished.config, finished.config.strategies[arm], study.schema, run_task)


@pytest.mark.parametrize(
    ("arm", "fold", "strategy"),
    [("federated/fedavg", 1, 0), ("federated/variates", 0, 1), ("left-out/fedavg", "C02", 0)],
)
def test_a_fit_on_actors_is_the_fit_in_one_process(
    arm: str, fold: int | str, strategy: int, finished: Finished
) -> None:
    on_actors = finished.fits.get(arm, 0, fold)
    assert on_actors is not None
    study = finished.study
    split = study.split(0, fold) if isinstance(fold, int) else study.whole()
    left_out = fold if isinstance(fold, str) else ""
    here = fit_in_process(finished, strategy, split, left_out, f"{arm}/0-{fold}")
    np.testing.assert_allclose(on_actors.weights, here.weights, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(on_actors.preprocessor.mean, here.preprocessor.mean, rtol=1e-12)
    np.testing.assert_allclose(on_actors.preprocessor.scale, here.preprocessor.scale, rtol=1e-12)
    np.testing.assert_allclose(on_actors.baseline.cumulative, here.baseline.cumulative, rtol=1e-5)
    np.testing.assert_allclose(on_actors.history, here.history, rtol=1e-5, atol=1e-6)
    assert on_actors.selected_round == here.selected_round
    assert np.abs(here.weights).max() > 0.05


# -- breaks --------------------------------------------------------------------------------------------------------


def assert_same_fits(a: Path, b: Path) -> None:
    """The same files with the same bits; only the seconds differ."""
    files = sorted(p.relative_to(a) for p in (a / "fits").rglob("*.safetensors"))
    assert files == sorted(p.relative_to(b) for p in (b / "fits").rglob("*.safetensors"))
    exact, explained = 2 * (2 + 1), 2 * 2 * 2
    assert len(files) == 2 * 2 + 1 + 2 + 2 * (1 + 4 + 4) + exact + explained
    for file in files:
        one, other = load_state(a / file), load_state(b / file)
        assert one.keys() == other.keys()
        for name in one.keys() - {"seconds"}:
            np.testing.assert_array_equal(one[name], other[name], err_msg=f"{file} {name}", strict=True)


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    """Results but for what depends on the clock, and on whether and where MLflow was told."""
    times = ("started", "seconds", "timings", "mlflow")
    found: dict[str, Any] = json.loads(json.dumps({k: v for k, v in results.items() if k not in times}))
    found["config"]["tracking"] = None
    for arm in found["arms"].values():
        del arm["seconds"]
    return found


def wait_until(condition: Any, process: subprocess.Popen[str], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_interrupted_and_resumed_is_as_never_interrupted(
    experiment: Make, finished: Finished, tmp_path: Path, bare: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = experiment(tracking={"enabled": False}), tmp_path / "runs" / "a run"
    config.write(tmp_path / "config.yaml")
    # the command as it is typed, killed as by Ctrl-C: the signal goes to all processes of the terminal
    command = [str(Path(sys.executable).with_name("haemfed")), "run", str(tmp_path / "config.yaml"), "--out", str(out)]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **quiet)  # type: ignore[call-overload]
    try:
        wait_until(lambda: len(list((out / "fits").rglob("*.safetensors"))) >= 3, process)
        wait_until(lambda: list((out / "checkpoints").glob("federated*.safetensors")), process)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=180)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("stopped; go on with: haemfed run ")
    assert errors.splitlines()[-1].endswith(" --resume")
    kept = {p: p.stat().st_mtime_ns for p in (out / "fits").rglob("*.safetensors")}
    assert 3 <= len(kept) < 7

    with pytest.raises(ConfigError, match="holds a run already; add --resume"):
        run_experiment(config, out)
    with pytest.raises(ConfigError, match=r"another configuration \('ridge' differs\)"):
        run_experiment(config.model_copy(update={"ridge": 11.0}), out, resume=True)

    asked: list[str] = []
    results = run_experiment(config, out, resume=True, listen=lambda *words: asked.append(str(words)))
    assert_same_fits(out, finished.out)
    assert without_times(results) == without_times(finished.results)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept  # not fitted twice
    assert list((out / "checkpoints").iterdir()) == []
    assert "mlflow" not in results
    assert not list(out.parent.glob("mlflow.db"))

    # a finished run is evaluated again, not trained again
    monkeypatch.setattr("experiments.experiment.start_federation", lambda *_: pytest.fail("trained again"))
    assert without_times(run_experiment(config, out, resume=True)) == without_times(results)
    assert without_times(read(out)) == without_times(results)


def test_another_seed_gives_another_fit(finished: Finished) -> None:
    """If random numbers did not show in the results, their equality above would say little."""
    study = finished.study
    fits = [fit_in_process(finished, 0, study.split(0, 0), task="seeds", seed=seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(fits[0].weights, fits[1].weights)
    assert np.abs(fits[0].weights - fits[2].weights).max() > 0.01


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No report and no tracking, which take longer than such small runs."""
    monkeypatch.setattr("experiments.experiment.write_outputs", lambda *_: None)
    monkeypatch.setattr("experiments.tracking.track", lambda *_: {"run_id": "none"})


# -- faults --------------------------------------------------------------------------------------------------------


@pytest.fixture
def five_hospitals(tmp_path: Path) -> dict[str, str]:
    """A table per hospital; Kiel's is missing and Jena measures in other units."""
    cohorts = list(load_centers("whas500", partition={"name": "fractions", "fractions": [0.3, 0.3, 0.2, 0.2]}).values())
    paths = {}
    for name, cohort in zip(("Bonn", "Celle", "Dachau", "Jena"), cohorts, strict=True):
        if name == "Jena":
            features = tuple(replace(f, unit="stone") if f.name == "bmi" else f for f in cohort.schema.features)
            cohort = replace(cohort, schema=replace(cohort.schema, features=features))
        paths[name] = str(tmp_path / f"{name}.csv")
        write_cohort(cohort, paths[name])
    return {**paths, "Kiel": str(tmp_path / "Kiel.csv")}


def of_files(centers: dict[str, str], **federation: Any) -> Config:
    return Config.model_validate(
        {
            "dataset": {"name": "files", "options": {"centers": centers}},
            "split": {"folds": 2},
            "rounds": 3,
            "ridge": 10,
            "arms": {"local": None},
            "evaluation": {"horizons": [1], "bootstrap": 20},
            "federation": {"hosts": 1, **federation},
        }
    )


def test_a_missing_file_and_another_schema_are_named_and_the_run_goes_on(
    five_hospitals: dict[str, str], cluster: None, tmp_path: Path, bare: None
) -> None:
    results = run_experiment(of_files(five_hospitals), tmp_path / "run")
    assert list(results["dataset"]["centers"]) == ["Bonn", "Celle", "Dachau"]
    notes = {note.split()[0]: note for note in results["notes"]}
    assert notes.keys() == {"Jena", "Kiel"}
    assert "'bmi': unit is 'stone' here and 'kg/m2' there" in notes["Jena"]
    assert five_hospitals["Kiel"] in notes["Kiel"]
    assert all(len(note.splitlines()) == 1 for note in notes.values())
    assert results["arms"]["federated/fedavg"]["pooled"]["harrell_c"]["mean"] > 0.6
    assert results["arms"]["federated/fedavg"]["pooled"]["harrell_c"]["n"] == results["dataset"]["patients"]


def test_too_few_centers_stop_the_run_in_one_line_and_free_the_actors(
    five_hospitals: dict[str, str], cluster: None, tmp_path: Path, bare: None
) -> None:
    with pytest.raises(QuorumError, match=r"^only 3 of 5 centers answered, the quorum is 0.8") as caught:
        run_experiment(of_files(five_hospitals, quorum={"fraction": 0.8}), tmp_path / "run")
    assert "Jena" in str(caught.value)
    assert "Kiel" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    deadline = time.monotonic() + 120
    while ray.available_resources().get("CPU") != 2:  # type: ignore[no-untyped-call]  # else the next experiment in this session would wait for ever
        assert time.monotonic() < deadline, "actors of a failed run still hold their CPUs"
        time.sleep(0.1)


# -- real patients -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_in_real_hospitals(data_dir: Path, cluster: None, tmp_path: Path, bare: None) -> None:
    changes = ["rounds=5", "split.folds=2", "strategies.1.rounds=2", "evaluation.bootstrap=20", "arms.left_out=null"]
    config = load_config(ROOT / "experiments" / "configs" / "demo.yaml", changes)
    results = run_experiment(config, tmp_path / "demo", data_dir)
    assert len(results["dataset"]["centers"]) == 45
    sizes = [center["patients"] for center in results["dataset"]["centers"].values()]
    assert (max(sizes), min(sizes)) == (194, 1)
    for arm in ("centralized", "federated/fedavg", "federated/fedavg-5-steps", "score/eln_2011"):
        assert results["arms"][arm]["pooled"]["harrell_c"]["mean"] > 0.6, arm
    alone = [a["pooled"]["harrell_c"]["mean"] for name, a in results["arms"].items() if name.startswith("local/")]
    assert len(alone) > 20
    assert np.median(alone) < results["arms"]["federated/fedavg"]["pooled"]["harrell_c"]["mean"]
    assert Results.model_validate(read(tmp_path / "demo"))
    shutil.rmtree(tmp_path / "demo")
