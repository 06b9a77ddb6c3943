"""The simulation study: pieces, their file after an interruption, summaries, and the command that comes along."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from sklearn.metrics import adjusted_rand_score
from typer.testing import CliRunner

from actors.chains import Plan, run_chains
from clustering.hdmm import HDMMSampler
from clustering.simulation import oracle_labels, simulate
from experiments.cli import app
from experiments.settings import ConfigError
from experiments.stratify.grid import METHODS, PUBLISHED, Piece, draw_cohort, pieces, run_grid, run_piece, summarize
from experiments.stratify.grid_config import GridConfig, load_grid
from experiments.stratify.grid_report import in_words, overview
from experiments.stratify.serial import run_serial

SHIPPED = Path(__file__).parents[3] / "experiments" / "configs" / "hdmm_grid.yaml"
TINY: dict[str, Any] = {
    "name": "tiny",
    "replicates": 2,
    "design": {
        "patients": 80,
        "genes": 12,
        "alpha_sim": ["1/genes"],
        "alpha_hdmm": [0.5],
        "clusters": [1, 3],
        "events": [4, 2],
    },
    "cb": {"chains": 2, "sweeps": 80},
    "hdmm": {"chains": 2, "sweeps": 100},
}


def config(**changes: Any) -> GridConfig:
    return GridConfig.model_validate({**TINY, **changes})


@pytest.fixture(scope="module")
def finished(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study, run by the command."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    path = out.parent / "tiny.yaml"
    path.write_text(json.dumps(TINY))
    done = CliRunner().invoke(app, ["grid", str(path), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "HDMM MFNCH 0.5" in done.output
    return out


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.json"))}


def test_every_cell_and_method_has_a_row(finished: Path) -> None:
    rows = json.loads((finished / "results.json").read_text())["rows"]
    expected = {(k, events, None, m) for k, events, m in product((1, 3), (2, 4), ("oracle", "cb", "cb_classes"))}
    expected |= set(product((1, 3), (2, 4), (0.5,), PUBLISHED))
    assert {(row["clusters"], row["events"], row["alpha_hdmm"], row["method"]) for row in rows} == expected
    assert len(rows) == len(expected)
    assert {row["n"] for row in rows} == {2}
    frame = pd.read_csv(finished / "results.csv")
    np.testing.assert_allclose(frame["ari"], [row["ari"] for row in rows])
    for name in ("ari_h0.5", "clusters_h0.5"):
        assert (finished / "figures" / f"{name}.png").stat().st_size > 10_000
        assert f'id="{name}"' in (finished / "report.html").read_text()


def test_the_oracle_is_the_one_of_the_cohort_and_means_are_over_replicates(finished: Path) -> None:
    rows = json.loads((finished / "results.json").read_text())["rows"]
    (row,) = (r for r in rows if (r["method"], r["clusters"], r["events"]) == ("oracle", 3, 4))
    found = []
    for replicate in range(2):
        cohort = draw_cohort(config(), Piece(1 / 12, 3, 4, replicate, "cb"))
        some = cohort.table.events.sum(1) > 0
        found.append(adjusted_rand_score(cohort.labels[some], oracle_labels(cohort)[some]))
    assert found[0] != found[1]
    assert row["ari"] == pytest.approx(mean(found))
    assert row["ari_sd"] == pytest.approx(stdev(found))
    assert row["k_draws"] is None


def test_the_study_is_one_run_of_mlflow(finished: Path) -> None:
    rows = json.loads((finished / "results.json").read_text())["rows"]
    client = MlflowClient(f"sqlite:///{finished.parent}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert run.data.params["design.clusters"] == "[1, 3]"
    history = client.get_metric_history(run.info.run_id, "ari/mfnch/a0.0833333_K3_h0.5")
    expected = {
        r["events"]: r["ari"] for r in rows if (r["method"], r["clusters"], r["alpha_hdmm"]) == ("mfnch", 3, 0.5)
    }
    assert {metric.step: metric.value for metric in history} == expected
    assert {"report.html", "results.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_pieces_do_not_depend_on_who_works_on_them_or_in_which_order(finished: Path) -> None:
    for piece in reversed(pieces(config())):
        here = json.loads(json.dumps(run_piece(config(), piece)))
        there = json.loads((finished / "pieces" / f"{piece.name}.json").read_text())
        assert here["rows"] == there["rows"], piece.name


def test_what_is_missing_is_made_again_and_the_file_is_the_same(finished: Path) -> None:
    before = contents(finished)
    lost = [finished / "pieces" / f"{pieces(config())[i].name}.json" for i in (0, 5)]
    kept = {path: path.stat().st_mtime_ns for path in (finished / "pieces").iterdir() if path not in lost}
    for path in lost:
        path.unlink()
    (finished / "results.json").unlink()
    said: list[tuple[float, str]] = []
    untracked = config(tracking={"enabled": False})
    run_grid(untracked, finished, resume=True, listen=lambda done, name: said.append((done, name)))
    assert {name for _, name in said} == {path.stem for path in lost}
    assert said[-1][0] == 1.0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    after = contents(finished)
    assert after["results.json"] == before["results.json"]
    for path in lost:
        name = str(path.relative_to(finished))
        assert json.loads(after[name])["rows"] == json.loads(before[name])["rows"]
    assert not list(finished.rglob(".*"))


def test_a_smaller_design_is_a_part_of_a_larger_one(finished: Path) -> None:
    before = json.loads((finished / "results.json").read_text())["rows"]
    design = TINY["design"] | {"events": [4], "clusters": [3]}
    smaller = config(design=design, tracking={"enabled": False})
    said: list[str] = []
    after = run_grid(smaller, finished, resume=True, listen=lambda _, name: said.append(name))["rows"]
    assert said == []
    assert after == [row for row in before if (row["clusters"], row["events"]) == (3, 4)]


def test_a_run_is_not_mixed_with_another(finished: Path) -> None:
    with pytest.raises(ConfigError, match="--resume"):
        run_grid(config(), finished)
    for changes, key in (
        ({"seed": 1}, "seed 0, not 1"),
        ({"cb": {"chains": 2, "sweeps": 90}}, "cb.sweeps 80, not 90"),
        ({"design": TINY["design"] | {"genes": 13}}, "design.genes 12, not 13"),
    ):
        with pytest.raises(ConfigError, match=key):
            run_grid(config(**changes), finished, resume=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("design.cluster=[1]", "did you mean 'clusters'"),
        ("design.events=[0]", "design.events.0"),
        ("design.alpha_sim=[2/genes]", "design.alpha_sim"),
        ("design.clusters=[5, 5]", "design.clusters: name every value once"),
        ("replicates=0", "replicates"),
        ("cb.sweeps=5", "cb: sweeps: at least one step of 10 sweeps"),
        ("hdmm.burn_in=1", "hdmm.burn_in"),
    ],
)
def test_wrong_configurations_name_the_key(change: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_grid(SHIPPED, [change])


def test_the_configuration_that_comes_along_is_the_published_design() -> None:
    loaded = load_grid(SHIPPED)
    work = pieces(loaded)
    assert len({piece.cohort for piece in work}) == 3 * 2 * 3 * 10
    assert len({piece.name for piece in work}) == len(work) == 3 * 180
    assert {piece.alpha_sim for piece in work} == {1.0, 0.02}
    assert {piece.alpha_hdmm for piece in work if piece.model == "hdmm"} == {1.0, 0.02}
    assert [piece.replicate for piece in work] == sorted(piece.replicate for piece in work)
    assert GridConfig.model_validate(loaded.to_dict()) == loaded


def test_cohorts_without_events_are_named() -> None:
    few = config(design={"patients": 2, "genes": 2, "clusters": [1], "events": [1]})
    for replicate in range(100):
        piece = Piece(1.0, 1, 1, replicate, "cb")
        if not draw_cohort(few, piece).table.counts.any():
            with pytest.raises(ConfigError, match=piece.cohort):
                run_piece(few, piece)
            return
    pytest.fail("two patients of one event on average always had one")


def test_chains_in_one_process_are_those_of_the_workers(cluster: None, tmp_path: Path) -> None:
    table = simulate(2, 3.0, 1.0, np.random.default_rng(0), patients=40, genes=8).table
    sampler = HDMMSampler(table)
    plan = Plan(chains=2, seed=5, spacing=4, sweeps=48, target=None)
    there = run_chains(sampler, plan, tmp_path / "chains")
    here = run_serial(sampler, 5, chains=2, length=12, spacing=4, burn_in=0.5, most=6)
    for name in ("log_likelihood", "clusters", "entropy"):
        np.testing.assert_array_equal(here.scalars[name], there.scalars[name][:, 6:])
    for c in range(2):
        draws = [draw["labels"] for draw in there.draws(c)]
        np.testing.assert_array_equal(here.labels[c], [draws[0], draws[2], draws[5]])


def row(method: str, replicate: int, ari: float, h: float | None = None, **known: Any) -> dict[str, Any]:
    cell = {"alpha_sim": 1.0, "clusters": 5, "events": 3, "alpha_hdmm": h, "method": method}
    return {**cell, "replicate": replicate, "ari": ari, "k": 4, "true_k": 5, **known}


def chain(low: int, high: int, r_hat: float | None) -> dict[str, Any]:
    own = [[low, high], [high, high]]
    return {"k_low": low, "k_high": high, "k_chains": own, "k_draws": 5.0, "rhat": r_hat, "ess": 10.0}


def test_summaries_are_means_the_worst_r_hat_and_the_share_covered() -> None:
    rows = [row("cb", 1, 0.4, **chain(2, 4, 1.2)), row("oracle", 0, 0.9), row("cb", 0, 0.8, **chain(4, 6, 1.01))]
    oracle, cb = summarize(rows)
    assert (oracle["n"], oracle["ari"], oracle["ari_sd"], oracle["rhat"], oracle["k_covered"]) == (
        1,
        0.9,
        None,
        None,
        None,
    )
    assert (cb["n"], cb["rhat"], cb["k_covered"], cb["ess"]) == (2, 1.2, 0.5, 10.0)
    assert cb["k_covered_from_all"] == 0.0  # the second chain of either is sure of another number
    assert cb["ari"] == pytest.approx(0.6)
    assert cb["ari_sd"] == pytest.approx(0.4 / np.sqrt(2))
    (unknown,) = summarize([row("cb", 0, 0.4, **chain(2, 4, None)), row("cb", 1, 0.8, **chain(4, 6, 1.01))])
    assert unknown["rhat"] is None


def test_the_sentences_follow_the_numbers() -> None:
    def rows(cb: float) -> list[dict[str, Any]]:
        of = {"oracle": 0.9, "cb": cb, "cb_classes": cb - 0.1, "hdmm": 0.5, "multinomial": 0.4, "mfnch": 0.6}
        return summarize(
            row(m, 0, ari, 0.02 if m in PUBLISHED else None, **({} if m == "oracle" else chain(5, 5, 1.3)))
            for m, ari in of.items()
        )

    better, worse = in_words(rows(0.8)), in_words(rows(0.55))
    assert "the mixture is 0.100 below the oracle's ARI on average (0.200 by most probable clusters)" in better[0]
    assert "MFNCH with α_HDMM = 0.02 comes nearest (0.300 below). In 1 of 1" in better[0]
    assert "In 0 of 1" in worse[0]
    assert "holds the truth in 100% of the runs, and that of each chain alone in 100%; R-hat is below" in better[1]
    assert "below 1.05 throughout in 0 of 1 cells: elsewhere" in better[1]
    heads, table = overview(rows(0.8))
    assert heads == ["", "α_sim 1, K 5"]
    assert ["mixture, VI", "0.800 (4.0)"] in table
    assert len(table) == len(METHODS)
