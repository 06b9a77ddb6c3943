"""Whole runs under differential privacy: what they say of its price, and where they stop before they ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from experiments.experiment import run_experiment
from experiments.fitting import fit_model
from experiments.private_fitting import planned_spending
from experiments.report import write_report
from experiments.settings import ConfigError
from federation.algorithm import Algorithm, run
from federation.policy import DisclosurePolicy, read_audit
from federation.privacy.dp.accounting import Spending, spent_epsilon
from federation.privacy.dp.budget import PrivacyLedger
from federation.state import State
from tests.experiments.conftest import Make
from tests.federation.hospitals import SCHEMA, federation_of, hospitals, pooled

HAZARD = {"name": "discrete_hazard", "parameters": {"intervals": 4}}
PATIENT = {"epsilon": 8, "delta": 1e-4, "noise": "distributed", "statistics": "noisy", "sampling": 0.5, "clip": 1}
CENTER = {"epsilon": 20, "delta": 1e-3, "unit": "center", "clip": 0.5, "adaptive": {"quantile": 0.6}}
SAVAE = {"name": "savae", "parameters": {"hidden": 4, "latent": 2}}


def of_ledgers(out: Path) -> list[list[Spending]]:
    """What each center entered."""
    files = sorted((out / "centers" / "ledger").glob("*.privacy.json"))
    return [[entry.spending for entry in PrivacyLedger(path, path.stem).entries()] for path in files]


def settings(privacy: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """One federated arm in one fold of two and on everybody: three fits."""
    federation = {"hosts": 1, "differential_privacy": privacy, **changes.pop("federation", {})}
    if privacy.get("noise") == "distributed":
        federation["secure_aggregation"] = {"threshold": 0.9}
        federation["policy"] = {"simulation": True}
    return {
        "model": HAZARD,
        "ridge": None,
        "split": {"folds": 2, "validation": 0},
        "training": {"steps": 1, "learning_rate": 1},
        "rounds": 6,
        "strategies": [{"name": "fedavg"}],
        "arms": {"centralized": False, "local": None},
        "exact_cox": None,
        "explanation": None,
        "evaluation": {"horizons": [1, 3], "bootstrap": 20},
        "federation": federation,
        **changes,
    }


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, no MLflow."""
    monkeypatch.setattr("experiments.experiment.write_outputs", lambda *_: None)
    monkeypatch.setattr("experiments.tracking.track", lambda *_: {"run_id": "none"})


def test_patients_are_protected_and_the_price_is_told(
    experiment: Make, cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared noise under masks, noisy sums, and samples of half of the patients."""
    monkeypatch.setattr("experiments.plots.draw_all", lambda *_: {})
    monkeypatch.setattr("experiments.tracking._log_model", lambda *_: "none")
    out = tmp_path / "runs" / "private"
    results = run_experiment(experiment(**settings(PATIENT)), out)

    spent = results["privacy"]["arms"]["federated/fedavg"]
    assert 7.9 < spent["epsilon"] <= 8
    assert (spent["delta"], spent["unit"], spent["fits"]) == (1e-4, "patient", 3)
    assert spent["epsilon"] < results["privacy"]["epsilon_of_run"]
    assert any("no registry vouches for the centers that share noise" in note for note in results["notes"])
    assert json.loads((out / "results.json").read_text())["privacy"] == results["privacy"]
    for ledger in of_ledgers(out):  # four centers, each of which spent what was announced
        assert sorted(s.count for s in ledger if s.sampling == 0.5) == [6, 6, 6]
        assert sum(s.count for s in ledger if s.sampling == 1) == 6  # scale and time grid of three fits
        whole = spent_epsilon(ledger, 1e-4)
        assert whole == pytest.approx(results["privacy"]["epsilon_of_run"], rel=1e-3)
    assert len(of_ledgers(out)) == 4
    for lines in read_audit(out / "centers" / "audit").values():
        assert all("noise" in line and "masked" in line for line in lines)

    write_report(results, tmp_path / "report.html", {})
    page = " ".join((tmp_path / "report.html").read_text().split())
    assert "differentially private for one patient with epsilon 8 at delta 0.0001" in page
    client = MlflowClient(results["mlflow"]["tracking_uri"])
    metrics = client.get_run(results["mlflow"]["run_id"]).data.metrics
    assert metrics["epsilon"] == pytest.approx(spent["epsilon"])
    assert metrics["delta"] == 1e-4
    assert metrics["epsilon_of_run"] == pytest.approx(results["privacy"]["epsilon_of_run"])
    assert results["arms"]["federated/fedavg"]["pooled"]["harrell_c"]["mean"] > 0.5


def test_whole_centers_are_protected_and_the_bound_adapts(
    experiment: Make, cluster: None, tmp_path: Path, bare: None
) -> None:
    results = run_experiment(experiment(**settings(CENTER)), tmp_path / "run")
    spent = results["privacy"]["arms"]["federated/fedavg"]
    assert (spent["unit"], spent["delta"]) == ("center", 1e-3)
    assert 19 < spent["epsilon"] <= 20
    for ledger in of_ledgers(tmp_path / "run"):
        assert {s.unit for s in ledger} == {"center"}
        assert sum(s.count for s in ledger) == 18
        assert spent_epsilon(ledger, 1e-3, unit="center") == pytest.approx(
            results["privacy"]["epsilon_of_run"], rel=1e-3
        )
    arrays = [line["arrays"] for lines in read_audit(tmp_path / "run" / "centers" / "audit").values() for line in lines]
    assert all({"update", "unclipped"} <= set(found) for found in arrays)


def test_savae_is_trained_on_single_patients_gradients(experiment: Make) -> None:
    """Its loss is a sum over patients, each with a draw of their own."""
    privacy = {"epsilon": 8, "delta": 1e-4, "ranges": {"age": [20, 100], "blasts": [0, 40]}}
    config = experiment(**settings(privacy, model=SAVAE, training={"steps": 1, "learning_rate": 0.2}))
    federation, cohort = federation_of(policy=DisclosurePolicy(secure_noise=False)), pooled(hospitals())[0]

    def run_task(step: str, algorithm: Algorithm) -> State:
        federation.task = step
        return run(algorithm, federation)

    fit = fit_model(config, config.strategies[0], SCHEMA, run_task)
    for center in federation.centers:
        spent = [entry.spending for entry in center.privacy_ledger.entries()]
        assert [s.count for s in spent] == [6]
        assert 7.9 < spent_epsilon(spent, 1e-4) <= 8
    survival = fit.survival(config, cohort, np.array([1.0, 3.0]))
    assert ((survival > 0) & (survival < 1)).all()
    assert (survival[:, 1] <= survival[:, 0]).all()


def test_a_run_beyond_the_budget_stops_before_it_asks(
    experiment: Make, cluster: None, tmp_path: Path, bare: None
) -> None:
    """One fit would fit; three do not. What is on disk costs nothing more."""
    policy = {"max_epsilon": 10, "max_delta": 1e-4, "simulation": True}
    changed = settings({"epsilon": 8, "delta": 1e-4}, federation={"policy": policy})
    config, out = experiment(**changed), tmp_path / "run"
    with pytest.raises(ConfigError, match=r"nothing was asked: .*privacy budget: epsilon 10 .*this run would cost"):
        run_experiment(config, out)
    assert of_ledgers(out) == []
    lines = [line for lines in read_audit(out / "centers" / "audit").values() for line in lines]
    assert {line["task"] for line in lines} == {"load"}

    class Done:
        def path(self, arm: str, repeat: int, fold: Any) -> Any:
            return type("Path", (), {"exists": lambda _: fold != "final"})()

    (left,) = planned_spending(config, Done())  # type: ignore[arg-type]
    assert left.count == 6
    assert spent_epsilon([left], 1e-4) <= 8
