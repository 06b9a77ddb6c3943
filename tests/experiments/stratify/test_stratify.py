"""The command ``haemfed stratify``, from a CSV to its files."""

from __future__ import annotations

import json
from pathlib import Path

import arviz
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from sklearn.metrics import adjusted_rand_score
from typer.testing import CliRunner

from experiments.cli import app
from experiments.settings import ConfigError
from experiments.stratify.config import load_stratify

CONFIGS = sorted((Path(__file__).parents[3] / "experiments" / "configs" / "stratify").glob("*.yaml"))
FEW = ["--method", "hdmm", "--set", "chains.chains=2", "--set", "chains.sweeps=200", "--set", "chains.target=null"]


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    """60 patients of two classes with disjoint genes, and two without events."""
    rng = np.random.default_rng(3)
    classes = np.repeat([0, 1], 30)
    events = np.zeros((62, 8), int)
    for patient, k in enumerate(classes):
        events[patient, 4 * k + rng.choice(4, 3, replace=False)] = 1
    frame = pd.DataFrame(events, columns=[f"g{j}" for j in range(8)]).astype(str)
    frame.iloc[0, 7] = ""
    frame.insert(0, "id", [f"p{j}" for j in range(62)])
    frame["class"] = [*classes.astype(str), "0", "1"]
    frame.to_csv(tmp_path / "cohort.csv", index=False)
    return tmp_path / "cohort.csv"


@pytest.mark.usefixtures("cluster")
def test_a_csv_becomes_results_and_clusters(two_classes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["stratify", str(two_classes), "--truth", "class", "--out", str(out), *FEW]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    results = json.loads((out / "results.json").read_text())
    (row,) = results["methods"]
    clusters = pd.read_csv(out / "clusters.csv", dtype={"hdmm_cluster": str})
    assert list(clusters["id"]) == [f"p{j}" for j in range(62)]
    assert list(clusters["hdmm_cluster"][60:]) == ["no events"] * 2
    assert row["ari"] == pytest.approx(adjusted_rand_score(np.repeat([0, 1], 30), clusters["hdmm_cluster"][:60]))
    assert row["ari"] > 0.8
    assert 2 <= row["k_interval"][0] <= row["k_interval"][1]
    assert results["data"]["not_tested"] == 1
    assert results["data"]["patients_without_events"] == 2
    posterior = arviz.from_netcdf(str(out / "posterior-hdmm.nc")).posterior
    assert posterior["clusters"].shape == (2, 10)

    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "--resume" in again.output
    resumed = CliRunner().invoke(app, [*arguments, "--resume"])
    assert resumed.exit_code == 0, resumed.output
    pd.testing.assert_frame_equal(clusters, pd.read_csv(out / "clusters.csv", dtype={"hdmm_cluster": str}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["chains.chains=0"], "chains"),
        (["data.cvs=x"], "data.cvs"),
        (["methods={lda: {}}"], "lda"),
        (["x"], "key=value"),
    ],
)
def test_wrong_configurations_name_the_key(two_classes: Path, changes: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_stratify(two_classes, changes=changes)


@pytest.mark.usefixtures("cluster")
def test_all_methods_find_two_disjoint_classes_and_report_them(two_classes: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(two_classes, dtype=str, keep_default_na=False)
    rng = np.random.default_rng(0)
    frame["years"] = rng.exponential(np.where(frame["class"] == "0", 1.0, 5.0)).round(3).astype(str)
    frame["dead"] = "1"
    frame.to_csv(two_classes, index=False)
    out = tmp_path / "o"
    few = [word.replace("hdmm", "hdmm,mfnch,cb") for word in FEW]
    few += ["--set", "data.time=years", "--set", "data.event=dead"]
    done = CliRunner().invoke(app, ["stratify", str(two_classes), "--truth", "class", "--out", str(out), *few])
    assert done.exit_code == 0, done.output
    results = json.loads((out / "results.json").read_text())
    rows = {row["method"]: row for row in results["methods"]}
    assert list(rows) == ["hdmm", "mfnch", "cb"]
    assert rows["cb"]["k"] == 2
    assert rows["cb"]["ari"] == 1.0
    assert rows["cb"]["ari_interval"] == [1.0, 1.0]
    assert rows["cb"]["log_rank"]["df"] == 1
    assert rows["cb"]["log_rank"]["p"] < 0.01
    assert {lesion for c in rows["cb"]["clusters"] for lesion in c["defining"]} == {f"g{j}" for j in range(8)}
    page = (out / "report.html").read_text()
    for method in rows:
        for figure in ("components", "co_clustering", "traces", "kaplan_meier", "comparison"):
            assert f'id="{method}-{figure}"' in page
            assert (out / "figures" / f"{method}_{figure}.png").stat().st_size > 5000
    client = MlflowClient(results["mlflow"]["tracking_uri"])
    runs = client.search_runs([results["mlflow"]["experiment_id"]])
    logged = {run.info.run_name: run.data.metrics for run in runs}
    assert logged["cb"]["ari"] == 1.0
    assert logged["cb"]["k_interval.low"] == rows["cb"]["k_interval"][0]
    assert len(client.get_metric_history(runs[0].info.run_id, "chain 1/clusters")) in (0, 20)
    assert not list(out.rglob(".*"))


@pytest.mark.usefixtures("cluster")
def test_groups_have_shares_of_the_same_clusters(two_classes: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(two_classes, dtype=str, keep_default_na=False)
    frame["hospital"] = np.where(np.arange(62) % 3 == 0, "Ulm", np.where(frame["class"] == "0", "Padova", "Utrecht"))
    frame.to_csv(two_classes, index=False)
    out = tmp_path / "o"
    few = [word.replace("hdmm", "cb") for word in FEW] + ["--set", "data.groups=hospital"]
    done = CliRunner().invoke(app, ["stratify", str(two_classes), "--truth", "class", "--out", str(out), *few])
    assert done.exit_code == 0, done.output
    (row,) = json.loads((out / "results.json").read_text())["methods"]
    assert row["ari"] == 1.0
    shares = pd.read_csv(out / "shares-cb.csv")
    table = shares.pivot_table(index="group", columns="cluster", values="share")
    clusters = pd.read_csv(out / "clusters.csv", dtype=str)["cb_cluster"][:60]
    first = str(clusters[frame["class"][:60] == "0"].iloc[0])
    assert table.loc["Padova", int(first)] == pytest.approx(1.0, abs=0.02)
    assert table.loc["Utrecht", int(first)] == pytest.approx(0.0, abs=0.02)
    assert table.loc["Ulm", int(first)] == pytest.approx(0.5, abs=0.02)
    assert (shares["low"] <= shares["share"]).all()
    assert 'id="cb-shares"' in (out / "report.html").read_text()

    frame.loc[4, "hospital"] = ""
    frame.to_csv(two_classes, index=False)
    wrong = CliRunner().invoke(app, ["stratify", str(two_classes), "--out", str(tmp_path / "w"), *few])
    assert wrong.exit_code == 1
    assert "'hospital', value 'p4'" in wrong.output


@pytest.mark.usefixtures("cluster")
def test_resamples_judge_the_clusters_and_are_made_once(two_classes: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    few = [word.replace("hdmm", "cb,mfnch") for word in FEW]
    few += ["--set", "bootstrap.resamples=3", "--set", "bootstrap.sweeps=1000", "--set", "tracking.enabled=false"]
    arguments = ["stratify", str(two_classes), "--out", str(out), *few]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    row, other = json.loads((out / "results.json").read_text())["methods"]
    assert row["bootstrap"] == {"resamples": 3, "ari": 1.0, "ari_interval": [1.0, 1.0], "recovered": 2, "dissolved": 0}
    assert [c["jaccard"] for c in row["clusters"]] == [1.0, 1.0]
    assert other["bootstrap"]["resamples"] == 3
    assert 'id="cb-stability"' in (out / "report.html").read_text()
    assert all(30 <= n <= 32 for n in pd.read_csv(out / "stability-cb.csv")["patients"])  # two have no events

    # a resample that is there is not made again, one that is lacking is, to the same bits
    folder = out / "bootstrap" / "cb"
    made = (folder / "00001.npz").stat().st_mtime_ns
    with np.load(folder / "00002.npz") as file:
        before = file["cb"]
    (folder / "00002.npz").unlink()
    resumed = CliRunner().invoke(app, [*arguments, "--resume"])
    assert resumed.exit_code == 0, resumed.output
    assert (folder / "00001.npz").stat().st_mtime_ns == made
    with np.load(folder / "00002.npz") as file:
        np.testing.assert_array_equal(file["cb"], before)

    longer = CliRunner().invoke(app, [*arguments, "--resume", "--set", "bootstrap.sweeps=2000"])
    assert longer.exit_code == 1
    assert "'sweeps': 2000" in longer.output.replace("\n", " ")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_that_comes_along_loads(path: Path) -> None:
    config = load_stratify(path)
    assert config.name.startswith("stratify")
    assert config.methods
