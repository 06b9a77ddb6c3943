"""Options side by side: trials against the estimator and the command, from configuration to MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from clustering.chain import steps
from clustering.events import EventTable
from clustering.hdmm import HDMMSampler
from clustering.mixture import ConditionalBernoulliMixture, MixtureSampler
from clustering.simulation import simulate
from experiments.cli import app
from experiments.settings import ConfigError
from experiments.stratify.config import load_stratify
from experiments.stratify.serial import run_serial
from experiments.stratify.tuning import _patients, _run_trial, log_predictive, run_tuning, trials_of

TUNE = "tune={cb: {gamma: [0.5, 1]}, hdmm: {base_weight: [0.1, 1], top_prior: [[1, 1], [1, 10]]}}"
CHAINS = ["chains.chains=2", "chains.sweeps=200", "chains.seed=3"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 patients of three classes, some without events, one without a class."""
    drawn = simulate(3, 3.0, 0.1, np.random.default_rng(1), patients=90, genes=12)
    frame = pd.DataFrame(drawn.table.events, columns=drawn.table.genes)
    frame.insert(0, "id", drawn.table.ids)
    frame["class"] = drawn.labels.astype(str)
    frame.loc[4, "class"] = ""
    path = tmp_path_factory.mktemp("data") / "cohort.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def finished(cluster: None, cohort: Path) -> Path:
    """Six trials, run by the command."""
    out = cohort.parent / "runs" / "tuned"
    changes = [word for change in (TUNE, *CHAINS) for word in ("--set", change)]
    arguments = ["stratify", str(cohort), "--truth", "class", "--method", "cb,hdmm,mfnch", "--out", str(out), *changes]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "gamma=0.5" in done.output
    return out


def trials(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "trials.json").read_text())["trials"]
    return found


def test_every_combination_of_a_methods_options_is_a_trial(finished: Path) -> None:
    rows = trials(finished)
    expected = [("cb", {"gamma": 0.5}), ("cb", {"gamma": 1.0})]
    expected += [("hdmm", {"base_weight": h, "top_prior": [1, rate]}) for h in (0.1, 1.0) for rate in (1, 10)]
    assert [(row["method"], row["options"]) for row in rows] == expected
    for row in rows:
        assert 1 <= row["k_low"] <= row["k_high"]
        assert row["ess"] > 0
        assert -1 <= row["ari"] <= 1
        assert ("log_p_held_out" in row) == (row["method"] == "cb")
        assert ("ari_mfnch" in row) == (row["method"] == "hdmm")
    frame = pd.read_csv(finished / "trials.csv")
    assert list(frame["cb.gamma"].dropna()) == [0.5, 1.0]
    assert list(frame["hdmm.base_weight"].dropna()) == [0.1, 0.1, 1.0, 1.0]
    np.testing.assert_allclose(frame["ari"], [row["ari"] for row in rows])


def test_held_out_probability_is_the_estimators(finished: Path, cohort: Path) -> None:
    config = load_stratify(cohort, "class", ["cb"], [TUNE, *CHAINS])
    train, test = _patients(config, None)
    assert len(test.table) == int(0.2 * (len(test.table) + len(train.table)))
    assert not set(train.table.ids) & set(test.table.ids)
    for row in trials(finished)[:2]:
        model = ConditionalBernoulliMixture(gamma=row["options"]["gamma"], chains=2, sweeps=200, random_state=3)
        model.fit(train.table)
        assert row["log_p_held_out"] == pytest.approx(model.score(test.table), abs=1e-9)
        assert row["log_likelihood"] == pytest.approx(model.scalars_["log_likelihood"].mean())
        assert (row["k_low"], row["k_high"]) == model.k_interval_


def test_groups_have_their_own_shares_in_the_prediction() -> None:
    """Two classes of disjoint genes, each in a hospital of its own: there, only one of them is likely."""
    events = np.zeros((60, 8), np.int8)
    for i in range(60):
        events[i, 4 * (i % 2) + np.random.default_rng(i).choice(4, 2, replace=False)] = 1
    table = EventTable(np.arange(60).astype(str), tuple("abcdefgh"), events)
    hospital = np.where(np.arange(60) % 2 == 0, "x", "y")
    predicted = {}
    for groups in (None, hospital):
        sampler = MixtureSampler(table, groups=groups)
        chains = run_serial(sampler, 0, chains=1, length=40, spacing=5, burn_in=0.5, most=20)
        predicted[groups is None] = log_predictive(sampler, chains.kept[0], table, groups).mean()
    assert predicted[True] == pytest.approx(np.log(1 / 2 / 6), abs=0.2)
    assert predicted[False] == pytest.approx(np.log(1 / 6), abs=0.2)


def test_a_trial_runs_the_chains_of_its_options(finished: Path, cohort: Path) -> None:
    config = load_stratify(cohort, "class", ["hdmm"], [TUNE, *CHAINS])
    train, _ = _patients(config, None)
    sampler = HDMMSampler(train.table, base_weight=1.0, top_prior=(1.0, 10.0), initial_clusters=30)
    kept = []
    for chain in range(2):
        taken = steps(sampler, 3, chain, 10)
        kept += [next(taken).scalars["log_likelihood"] for _ in range(20)][10:]
    assert trials(finished)[5]["log_likelihood"] == pytest.approx(np.mean(kept))


def test_the_trials_are_nested_runs_of_mlflow(finished: Path) -> None:
    client = MlflowClient(f"sqlite:///{finished.parent}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("cohort").experiment_id])
    (parent,) = (run for run in runs if run.data.tags["haemfed.kind"] == "tuning")
    nested = {r.info.run_name: r.data for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {"trials.csv", "trials.json"}
    assert len(nested) == 6
    for row in trials(finished):
        data = nested[f"trial {row['trial']}"]
        assert data.metrics["ari"] == pytest.approx(row["ari"])
        assert data.params["method"] == row["method"]
    assert nested["trial 4"].params["top_prior"] == "(1.0, 10.0)"


@pytest.mark.parametrize(
    ("tune", "said"),
    [
        ("{cb: {gama: [1]}}", r"tune\.cb: gama is no option; did you mean 'gamma'"),
        ("{cb: {partition: [mfm, crp]}}", r"tune\.cb: partition: .*'mfm' or 'dp'.*'crp'"),
        ("{hdmm: {top_prior: [[1, 1], [1]]}}", r"tune\.hdmm: top_prior"),
        ("{hdmm: {base_weight: []}}", r"tune\.hdmm: base_weight: give at least one value"),
        ("{hdmm: {base_weight: 0.5}}", r"tune\.hdmm\.base_weight"),
        ("{mfnch: {estimator: [real]}}", r"unknown key 'tune\.mfnch'"),
        ("{held_out: 0.3}", "give options of cb or hdmm"),
        ("{cb: {gamma: [1]}, held_out: 1}", r"tune\.held_out"),
    ],
)
def test_wrong_options_name_the_key(cohort: Path, tune: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_stratify(cohort, changes=[f"tune={tune}"])


def test_a_value_that_the_sampler_refuses_is_an_error_before_any_trial(cohort: Path, tmp_path: Path) -> None:
    config = load_stratify(cohort, "class", changes=["tune={hdmm: {base_weight: [0.5, -1]}}"])
    assert len(trials_of(config)) == 2
    with pytest.raises(ConfigError, match=r"tune\.hdmm: base_weight: -1"):
        run_tuning(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_trial_that_fails_says_why(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ["methods.mfnch.estimator=cornfield", "chains.sweeps=40", TUNE]
    config = load_stratify(cohort, "class", ["hdmm", "mfnch"], wrong)
    reported: list[dict[str, Any]] = []
    monkeypatch.setattr("experiments.stratify.tuning.tune.report", reported.append)
    _run_trial({"number": 2}, config, *_patients(config, None))
    row = json.loads(reported[0]["row"])
    assert row == {"error": "ValueError: estimator: cornfield, but must be simulation or real"}


def test_another_runs_directory_is_left_alone(finished: Path, cohort: Path) -> None:
    config = load_stratify(cohort, "class", changes=[TUNE])
    with pytest.raises(ConfigError, match="holds a run"):
        run_tuning(config, finished)
