"""The command ``haemfed stratify``, from a CSV to its files."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import arviz
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score
from typer.testing import CliRunner

from experiments.cli import app
from experiments.config import ConfigError
from experiments.stratify.config import load_stratify
from experiments.stratify.results import classify

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
    assert row["k_interval"][0] <= row["k"] <= row["k_interval"][1]
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


def test_the_classification_minimizes_binders_loss_among_the_draws() -> None:
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, 3, 9) for _ in range(30)]
    same = np.array([d[:, None] == d for d in draws])
    losses = [((same != s).mean(0)).sum() for s in same]
    found = classify(draws)
    assert (same != (found.labels[:, None] == found.labels)).mean(0).sum() == pytest.approx(min(losses))
    sizes = np.bincount(found.labels)[1:]
    assert all(a >= b for a, b in pairwise(sizes))
    for patient in range(9):
        mates = (found.labels == found.labels[patient]) & (np.arange(9) != patient)
        if mates.any():
            assert found.probability[patient] == pytest.approx(same.mean(0)[patient, mates].mean())


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
def test_both_mixtures_find_two_disjoint_classes(two_classes: Path, tmp_path: Path) -> None:
    few = [word.replace("hdmm", "hdmm,cb") for word in FEW]
    done = CliRunner().invoke(
        app, ["stratify", str(two_classes), "--truth", "class", "--out", str(tmp_path / "o"), *few]
    )
    assert done.exit_code == 0, done.output
    rows = {row["method"]: row for row in json.loads((tmp_path / "o" / "results.json").read_text())["methods"]}
    assert set(rows) == {"hdmm", "cb"}
    assert rows["cb"]["k"] == 2
    assert rows["cb"]["ari"] == 1.0


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_that_comes_along_loads(path: Path) -> None:
    config = load_stratify(path)
    assert config.name.startswith("stratify")
    assert config.methods
