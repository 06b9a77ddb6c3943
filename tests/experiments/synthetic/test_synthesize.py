"""`haemfed synthesize` on a made-up table, in this process; the actor system is compared in a test of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from sksurv.metrics import concordance_index_censored

from actors.coordinator import Progress, Task
from experiments.settings import ConfigError
from experiments.study import Study
from experiments.synthetic import measuring, tables, tracking
from experiments.synthetic import run as main_path
from experiments.synthetic.arms import Draw, Files, Patients, Work, do_draw, draws_of
from experiments.synthetic.augmentation import risk_of
from experiments.synthetic.clinical import clinical_fidelity
from experiments.synthetic.config import SampleSection, SyntheticConfig, load_synthetic, parse_synthetic
from experiments.synthetic.fitting import fit_generator
from experiments.synthetic.genomic import genomic_fidelity
from experiments.synthetic.membership import SHADOWS
from experiments.synthetic.quality import sdv_quality
from experiments.synthetic.report import render
from experiments.synthetic.results import estimate, goals_of
from experiments.synthetic.run import run_synthesize
from experiments.synthetic.survival_utility import trained_cox
from experiments.synthetic.tables import as_wanted, write_tables
from federation.algorithm import run
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.privacy.dp.accounting import Spending
from federation.splits import TEST
from harmonization import Cohort, Dictionary, Feature, Schema, read_cohort, write_cohort
from harmonization.harmonize import harmonize
from harmonization.schema import Implication
from harmonization.storage import schema_path
from models.survival.concordance import concordance_counts
from tests.harmonization.rows import draw_cohort, same_cells

SCHEMA = Schema(
    "made-up",
    "1",
    (
        Feature("age", "continuous", low=0, high=120, reference=60),
        Feature("grade", "categorical", categories=("low", "mid", "high")),
        Feature("TP53", "binary", "genomic"),
        Feature("SF3B1", "binary", "genomic"),
        Feature("blasts", "count", low=0, high=100),
    ),
)


class InProcess:
    """A coordinator whose centers are in this process."""

    interrupted_at = ""

    latest: ClassVar[InProcess]
    holds_cpus: ClassVar[bool] = False

    def __init__(self, study: Study, out: Path, planned: tuple[Spending, ...] | None = None) -> None:
        policy = DisclosurePolicy(noisy_only=planned is not None, planned=planned or (), secure_noise=False)
        self.centers = [Center(s.name, s.source, s.position, policy=policy) for s in study.specs()]
        InProcess.latest, InProcess.holds_cpus = self, True
        self.dropouts: dict[str, str] = {}

    def load(self) -> dict[str, str]:
        return {}

    def run(self, task: Task) -> Iterator[Progress]:
        if self.interrupted_at and task.name.endswith(self.interrupted_at):
            raise KeyboardInterrupt
        state = run(task.algorithm, InProcessFederation(self.centers, task.seed, task.split, task.name))
        yield Progress(task.name, int(state["round"]), {}, {}, state)

    def close(self) -> None:
        InProcess.holds_cpus = False


def one_by_one(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    assert not InProcess.holds_cpus, "actors have the CPUs: pieces would wait for ever"
    for item in items:
        yield item, function(item)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InProcess, "holds_cpus", False)
    monkeypatch.setattr(main_path, "ray_session", lambda address: nullcontext())
    monkeypatch.setattr(main_path, "parallel_map", one_by_one)
    monkeypatch.setattr(main_path, "start_federation", InProcess)
    monkeypatch.setattr(measuring, "fidelity", quick_fidelity)


def quick_fidelity(real: Cohort, synthetic: Cohort, seed: int) -> dict[str, float]:
    """Without what trains forests."""
    clinical = clinical_fidelity(real, synthetic, np.random.default_rng(seed))
    return {**clinical, **genomic_fidelity(real, synthetic), "sdv_quality": sdv_quality(real, synthetic)}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    n = 180
    age = np.clip(np.round(rng.normal(60, 12, n)), 18, 95)
    mutated = rng.random(n) < np.where(age > 60, 0.6, 0.2)
    grade = np.where(mutated, 2.0, rng.integers(0, 2, n))
    grade[rng.random(n) < 0.1] = np.nan
    values = np.column_stack([age, grade, mutated, rng.random(n) < 0.3, rng.poisson(5 + 5 * mutated)]).astype(float)
    died, left = rng.exponential(np.where(mutated, 2, 6)), rng.uniform(1, 9, n)
    time = np.round(np.minimum(died, left) * 365.25) / 365.25
    path = tmp_path_factory.mktemp("tables") / "made-up.csv"
    write_cohort(Cohort(SCHEMA, np.array([f"p{i}" for i in range(n)]), values, time, died <= left), path)
    return path


def configuration(table: Path, **changes: Any) -> SyntheticConfig:
    data: dict[str, Any] = {
        "name": "made-up",
        "seed": 2,
        "seeds": 1,
        "samples": 2,
        "dataset": {"name": "table", "options": {"path": str(table)}},
        "partition": {"name": "fractions", "parameters": {"fractions": [0.7, 0.3]}},
        "models": {
            "bayesian_network": {"bins": 3},
            "vae_bgm": {
                "rounds": 2,
                "network": {"hidden": [8], "latent": 2},
                "training": {"steps": 3},
                "mixture": {"components": 2, "max_iter": 10},
            },
            "ctgan": None,
        },
        "arms": {"isolated": {"min_patients": 80}},
        "baselines": ["independent_marginals", "real"],
        "measures": ["fidelity"],
        "tracking": {"enabled": False},
    }
    return parse_synthetic({**data, **changes})


def test_all_that_a_run_leaves(table: Path, tmp_path: Path, in_process: None) -> None:
    config, out = configuration(table), tmp_path / "run"
    results = run_synthesize(config, out)
    assert json.loads((out / "results.json").read_text()) == results
    arms = ["federated", "centralized", "isolated/C01"]  # C02 has too few patients
    assert {model: sorted(found) for model, found in results["models"].items()} == {
        "bayesian_network": sorted(arms),
        "vae_bgm": sorted(arms),
        "independent_marginals": ["centralized"],
        "real": ["centralized"],
    }
    for found in (f for arms in results["models"].values() for f in arms.values()):
        for metric in ("csf", "gsf", "sdv_quality"):
            assert 0 < found[metric]["low"] <= found[metric]["mean"] <= found[metric]["high"] <= 1
    assert results["same_patients"]["bayesian_network"] == {"features": True, "outcomes": 1.0}
    assert not results["same_patients"]["vae_bgm"]["features"]
    pairs = results["differences"]["bayesian_network"]
    assert pairs["federated - centralized"]["csf"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    models = results["models"]["bayesian_network"]
    expected = models["federated"]["csf"]["mean"] - models["isolated/C01"]["csf"]["mean"]
    assert pairs["federated - isolated/C01"]["csf"]["mean"] == pytest.approx(expected)
    reached = {(row["model"], row["goal"]): row for row in results["goals"]}
    assert reached["bayesian_network", "csf, federated - centralized"]["reached"]
    assert reached["vae_bgm", "csf"]["reached"] == (results["models"]["vae_bgm"]["federated"]["csf"]["mean"] >= 0.94)

    patients = read_cohort(out / "synthetic" / "bayesian_network-federated.parquet")
    assert len(patients) == 144 == 180 - results["heldout"][0]
    same = read_cohort(out / "synthetic" / "bayesian_network-federated.csv")
    np.testing.assert_array_equal(same.values, patients.values)
    assert not list((out / "synthetic").glob("real*")) + list((out / "samples").glob("real*"))
    page = (out / "report.html").read_text()
    for name in ("marginals", "correlations", "comutations", "kaplan_meier", "metrics", "frequencies"):
        assert f'id="{name}"' in page
        assert (out / "figures" / f"{name}.png").stat().st_size > 1000


def test_a_network_under_differential_privacy(table: Path, tmp_path: Path, in_process: None) -> None:
    models = {"bayesian_network": {"bins": 3, "max_moves": 4}, "vae_bgm": None, "ctgan": None}
    only: Any = {"models": models, "baselines": [], "samples": 1, "arms": {"centralized": True, "isolated": None}}
    config = configuration(table, federation={"differential_privacy": {"epsilon": 20, "delta": 1e-4}}, **only)
    results = run_synthesize(config, tmp_path / "run")
    said = results["privacy"]
    assert said["epsilon_of_run"] == said["epsilon"][0] <= 20
    assert 2 <= said["answers"][0] <= 6
    for center in InProcess.latest.centers:
        (entry,) = center.privacy_ledger.entries()
        assert entry.spending.noise == pytest.approx(said["noise_multiplier"])
        assert entry.spending.count == said["answers"][0]
        assert center.policy.planned[0].count == 6
    found = results["models"]["bayesian_network"]  # noise costs, and the other arm has none
    assert found["federated"]["csf"]["mean"] < found["centralized"]["csf"]["mean"]
    assert len(read_cohort(tmp_path / "run" / "synthetic" / "bayesian_network-federated.parquet")) == 144


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {"ctgan": None}}, "there is noise for bayesian_network alone; set the other models to null"),
        ({"federation": {"differential_privacy": {"epsilon": 8, "clip": 2}}}, "only epsilon, delta, noise and account"),
        ({"federation": {"differential_privacy": {"epsilon": 8, "noise": "distributed"}}}, "needs federation.secure_"),
        ({"models": {"bayesian_network": {}, "vae_bgm": None, "ctgan": None}}, "max_moves to less than 998, e.g. 30"),
        ({"measures": ["federated"]}, "shadows and the measure federated have no noise; leave them out"),
    ],
)
def test_what_cannot_be_private_is_refused(table: Path, changes: dict[str, Any], message: str) -> None:
    private: dict[str, Any] = {
        "models": {"bayesian_network": {"max_moves": 4}, "vae_bgm": None, "ctgan": None},
        "federation": {"differential_privacy": {"epsilon": 8}},
    }
    configuration(table, **private)
    with pytest.raises(ConfigError, match=message):
        configuration(table, **{**private, **changes})


def test_no_generator_sees_who_is_held_out(table: Path) -> None:
    config = configuration(table, seeds=2)
    held = []
    for repeat in range(2):
        patients = Patients.load(config, None, repeat)
        train, heldout = patients.train(), patients.heldout()
        assert not set(train.ids) & set(heldout.ids)
        assert len(train) + len(heldout) == 180
        assert abs(heldout.event.mean() - train.event.mean()) < 0.1  # stratified
        assert set(patients.train("isolated/C01").ids) < set(train.ids)
        held.append(set(heldout.ids))
    assert held[0] != held[1]


def test_an_interrupted_run_goes_on_to_the_same_bits(
    table: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {**configuration(table).to_dict()["models"], "bayesian_network": None}
    config = configuration(table, samples=1, baselines=[], models=models)
    monkeypatch.setattr("experiments.synthetic.report.write_pages", lambda *arguments: None)
    whole = run_synthesize(config, tmp_path / "whole")
    out = tmp_path / "broken"
    monkeypatch.setattr(InProcess, "interrupted_at", "latent mixture")
    with pytest.raises(KeyboardInterrupt):
        run_synthesize(config, out)
    steps = Files(out).fit(Draw("vae_bgm", "federated", 0))
    written = {path: path.stat().st_mtime_ns for path in steps.glob("*.safetensors")}
    assert {path.stem for path in written} == {"encoding", "autoencoder"}
    monkeypatch.setattr(InProcess, "interrupted_at", "")
    with pytest.raises(ConfigError, match="add --resume"):
        run_synthesize(config, out)
    for less, key in (({"folds": 4, "samples": 2}, "folds"), ({"seed": 9}, "seed")):
        with pytest.raises(ConfigError, match=f"'{key}' differs"):
            run_synthesize(config.model_copy(update=less), out, resume=True)
    again = run_synthesize(config, out, resume=True)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    for key in ("models", "differences", "goals", "same_patients"):
        assert again[key] == whole[key]
    monkeypatch.setattr(main_path, "start_federation", None)  # nothing is left to fit
    assert run_synthesize(config, out, resume=True)["models"] == whole["models"]


def test_an_isolated_center_that_cannot_learn_is_named(
    table: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import experiments.synthetic.arms as arms

    def fail(*arguments: Any) -> Any:
        raise ValueError("nothing varies")

    config = configuration(table, samples=1, models={"vae_bgm": None, "ctgan": None})
    study = Study.load(config.study, None)
    draw = next(d for d in draws_of(config, study) if d.arm == "isolated/C01")
    monkeypatch.setattr(arms, "fit_generator", fail)
    do_draw(Work(json.dumps(config.to_dict()), None, tmp_path, draw))
    files = Files(tmp_path)
    assert json.loads(files.failed(draw).read_text()) == {"why": "nothing varies"}
    assert arms.is_drawn(config, files, draw)
    with pytest.raises(ValueError, match="nothing varies"):  # of all patients it is an error
        do_draw(Work(json.dumps(config.to_dict()), None, tmp_path, Draw("bayesian_network", "centralized", 0)))


def test_one_table_never_stands_in_for_a_federated_fit(table: Path, tmp_path: Path) -> None:
    config = configuration(table, samples=1)
    work = Work(json.dumps(config.to_dict()), None, tmp_path, Draw("bayesian_network", "federated", 0))
    with pytest.raises(FileNotFoundError, match="no file of step 'network', which a finished fit has"):
        do_draw(work)
    assert not Files(tmp_path).sample(work.draw, 0).exists()


@pytest.mark.parametrize("model", ["bayesian_network", "vae_bgm"])
def test_written_patients_are_balanced_and_meet_conditions(table: Path, tmp_path: Path, model: str) -> None:
    wanted = {"patients": 31, "conditions": {"TP53": 1}, "balance": "grade"}
    config = configuration(table, samples=1, sample=wanted)
    files, draw = Files(tmp_path), Draw(model, "centralized", 0)
    do_draw(Work(json.dumps(config.to_dict()), None, tmp_path, draw))
    seen = Patients.load(config, None, 0).train()
    assert len(np.unique(seen.column("grade")[~np.isnan(seen.column("grade"))])) == 3
    drawn = as_wanted(config, Patients.load(config, None, 0), files, draw)
    assert (drawn.column("TP53") == 1).all()
    assert np.bincount(drawn.column("grade").astype(int)).tolist() == [11, 10, 10]
    assert len(set(drawn.ids)) == 31


def test_patients_of_one_center_are_like_those_of_that_center(
    table: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.synthetic.report.write_pages", lambda *arguments: None)
    frame = pd.read_csv(table)
    frame["center"] = np.where(frame["age"] > 60, "old", "young")
    frame.to_csv(tmp_path / "centers.csv", index=False)
    schema_path(tmp_path / "centers.csv").write_text(schema_path(table).read_text())
    wanted = {
        "samples": 1,
        "partition": {"name": "real", "parameters": {}},
        "models": {"bayesian_network": {"bins": 3}, "vae_bgm": None, "ctgan": None},
        "arms": {"isolated": {"min_patients": 40}},
    }
    config = configuration(tmp_path / "centers.csv", **wanted, sample={"center": "old"})
    results = run_synthesize(config, tmp_path / "run")
    assert results["same_patients"]["bayesian_network"] == {"features": True, "outcomes": 1.0}
    everybody, old = (
        read_cohort(tmp_path / "run" / path)
        for path in ("samples/bayesian_network/federated/0-0.parquet", "synthetic/bayesian_network-federated.parquet")
    )
    assert old.schema.names == everybody.schema.names == SCHEMA.names
    assert (old.column("age") > 56).mean() > 0.9 > 0.8 > (everybody.column("age") > 56).mean()
    names = {path.name for path in (tmp_path / "run" / "synthetic").glob("*isolated*.csv")}
    assert names == {"bayesian_network-isolated-old.csv"}  # the other center's knows no patient of this one
    assert any(note.startswith("bayesian_network, isolated/young: no table (") for note in results["notes"])
    config = configuration(tmp_path / "centers.csv", **wanted, sample={"center": "middle"})
    with pytest.raises(ConfigError, match="no center is called 'middle'; there are old, young"):
        run_synthesize(config, tmp_path / "none")


def test_patients_who_cannot_be_drawn_lose_no_results(
    table: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> None:
        def as_wanted(*arguments: Any) -> Any:
            raise error

        monkeypatch.setattr(tables, "as_wanted", as_wanted)

    monkeypatch.setattr("experiments.synthetic.report.write_pages", lambda *arguments: None)
    drawn, out = tables.as_wanted, tmp_path / "run"
    config = configuration(
        table,
        samples=1,
        models={"bayesian_network": {"bins": 3, "max_parents": 1}, "vae_bgm": None, "ctgan": None},
        arms={"centralized": False, "isolated": None},
        baselines=[],
        sample={"conditions": {"TP53": 1}},
    )
    fail(OSError("the disk is full"))
    with pytest.raises(OSError, match="the disk is full"):
        run_synthesize(config, out)
    kept = json.loads((out / "results.json").read_text())
    fail(ValueError("only 0 fulfil the conditions"))
    monkeypatch.setattr(main_path, "start_federation", None)  # nothing is fitted again
    results = run_synthesize(config, out, resume=True)
    assert results["models"] == kept["models"]
    assert results["tables"] == []
    assert "bayesian_network, federated: no table (only 0 fulfil the conditions)" in results["notes"]
    monkeypatch.setattr(tables, "as_wanted", drawn)
    other = config.model_copy(update={"sample": SampleSection(patients=7, balance="grade")})
    results = run_synthesize(other, out, resume=True)
    assert results["models"] == kept["models"]
    assert len(read_cohort(out / "synthetic" / "bayesian_network-federated.csv")) == 7
    fail(ValueError("no"))
    run_synthesize(config, out, resume=True)
    assert not list(out.glob("synthetic/*"))  # of other patients than the results say
    centers = config.model_copy(update={"sample": SampleSection(center="C01")})  # would be learned by the generators
    with pytest.raises(ConfigError, match="'sample' differs"):
        run_synthesize(centers, out, resume=True)


def test_shadow_generators_and_small_centers(
    table: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on = []

    def watched(model: str, config: Any, schema: Schema, run_task: Any) -> Any:
        def run_step(step: str, algorithm: Any) -> Any:
            state = run_task(step, algorithm)
            if step == "network":
                trained_on.append(int(state["counted"]))
            return state

        return fit_generator(model, config, schema, run_step)

    monkeypatch.setattr(measuring, "fit_generator", watched)
    monkeypatch.setattr("experiments.synthetic.report.write_pages", lambda *arguments: None)
    config = configuration(
        table,
        samples=1,
        models={"bayesian_network": {"bins": 2, "max_parents": 1}, "vae_bgm": None, "ctgan": None},
        arms={"centralized": False, "isolated": None},
        baselines=["independent_marginals", "real"],
        measures=["privacy", "augmentation"],
        shadows=["bayesian_network", "independent_marginals"],
    )
    results = run_synthesize(config, tmp_path / "run")
    found = results["models"]["bayesian_network"]["federated"]
    assert trained_on == [90] * SHADOWS  # halves of all real patients
    assert 0 < results["models"]["independent_marginals"]["centralized"]["shadow_auc"]["mean"] < 1
    assert 0 < found["shadow_auc_low"]["mean"] < found["shadow_auc"]["mean"] < found["shadow_auc_high"]["mean"] < 1
    value = found["shadow_auc"]["mean"]
    expected_verdict = {"value": value, "threshold": 0.55, "direction": "at most", "passed": value <= 0.55}
    assert results["verdicts"]["bayesian_network"]["federated"]["shadow_auc"] == expected_verdict
    copies = {"value": 144, "threshold": 0, "direction": "at most", "passed": False}
    assert results["verdicts"]["real"]["centralized"]["exact_matches"] == copies
    assert '144<span class="interval stacked"><strong>failed</strong>' in render(results, {})

    client, same = MagicMock(), {"bayesian_network": {"features": True, "outcomes": 0.5}}
    monkeypatch.setattr(tracking, "open_experiment", lambda config, out: (client, "0"))
    tracking.track(config, results | {"same_patients": same}, tmp_path / "run")
    logged = [
        (metric.key, metric.value) for call in client.log_batch.mock_calls for metric in call[2].get("metrics", ())
    ]
    assert ("passed/exact_matches", 0.0) in logged
    assert ("passed/shadow_auc", float(value <= 0.55)) in logged
    assert {("same features as centralized", 1.0), ("same outcomes as centralized", 0.5)} <= set(logged)
    assert [call[1][1:] for call in client.log_artifacts.mock_calls] == [
        (str(tmp_path / "run" / "synthetic"), "synthetic")
    ]
    assert found["small_centers"]["mean"] == 1  # the second, of 0.3 times 144
    patients = Patients.load(config, None, 0)
    synthetic = read_cohort(tmp_path / "run" / "samples" / "bayesian_network" / "federated" / "0-0.parquet")
    own = patients.train("isolated/C02")
    risk = risk_of(Cohort.concatenate([own, synthetic]), patients.heldout())
    expected = concordance_index_censored(patients.heldout().event, patients.heldout().time, risk)[0]
    assert found["augmented_c"]["mean"] == pytest.approx(expected, abs=1e-9)
    real = results["models"]["real"]["centralized"]
    assert "shadow_auc" not in real
    assert "augmented_c" not in real


def test_heldout_patients_who_stay_say_what_the_pooled_ones_say(
    table: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.synthetic.report.write_pages", lambda *arguments: None)
    config = configuration(
        table,
        samples=1,
        models={"bayesian_network": {"bins": 2, "max_parents": 1}, "vae_bgm": None, "ctgan": None},
        arms={"centralized": False, "isolated": None},
        baselines=["real"],
        measures=["fidelity", "federated"],
    )
    models = run_synthesize(config, tmp_path / "run")["models"]
    found = {name: value["mean"] for name, value in models["bayesian_network"]["federated"].items()}
    for name in ("gsf", "gsf_mutation_rates", "gsf_comutations", "gsf_burden"):
        assert found[f"federated_{name}"] == pytest.approx(found[name], abs=1e-9)
    assert 0 <= found["federated_csf_marginals"] - found["csf_marginals"] < 0.02
    patients = Patients.load(config, None, 0)
    assert found["federated_patients"] == len(patients.heldout())
    synthetic = read_cohort(tmp_path / "run" / "samples" / "bayesian_network" / "federated" / "0-0.parquet")
    cox = trained_cox(synthetic)
    assert cox is not None
    preprocessor, coefficients = cox
    tests = patients.study.parts(patients.study.split(0, 0)) == TEST
    counts = []
    for name in patients.study.cohorts:
        own = patients.study.cohort[tests & (patients.study.center == name)]
        counts.append(concordance_counts(own.time, own.event, preprocessor.transform(own) @ coefficients))
    concordant, comparable = np.sum(counts, axis=0)
    assert found["federated_tstr_c"] == pytest.approx(concordant / comparable, abs=1e-9)
    assert models["real"]["centralized"]["federated_csf"]["mean"] > found["federated_csf"]

    (tmp_path / "run" / "found" / "federated" / "bayesian_network" / "federated" / "0-0.json").unlink()
    asked: list[str] = []
    ask = InProcess.run

    def watched(self: InProcess, task: Task) -> Iterator[Progress]:
        asked.append(task.name)
        return ask(self, task)

    monkeypatch.setattr(InProcess, "run", watched)
    again = run_synthesize(config, tmp_path / "run", resume=True)
    assert again["models"] == models
    assert asked == ["federated/0/pairs"]  # the sums are there


def test_a_hospital_reads_synthetic_patients_from_fhir(tmp_path: Path) -> None:
    """Where a data dictionary describes them, the federation's are FHIR too, from which they come back."""
    dictionary = Dictionary.read("aml")
    write_cohort(draw_cohort(dictionary, 60, 1, decimals=1), tmp_path / "aml.csv")
    config = configuration(tmp_path / "aml.csv", samples=1)
    files, draw = Files(tmp_path / "run"), Draw("bayesian_network", "federated", 0)
    drawn = draw_cohort(dictionary, 20, 2, decimals=1)
    drawn = replace(drawn, scores=np.full_like(drawn.scores, np.nan))
    write_cohort(drawn, files.sample(draw, 0))
    written, _ = write_tables(config, None, files, [draw])
    assert [path.name for path in written] == [
        "bayesian_network-federated.parquet",
        "bayesian_network-federated.csv",
        "bayesian_network-federated",
    ]
    found = harmonize(written[-1], dictionary)
    assert found.quarantine.refused == 0
    assert same_cells(found.cohort, drawn[np.argsort(drawn.ids)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": {"ctgan": {"round": 3}}}, "models.ctgan.round.*did you mean 'rounds'"),
        ({"models": {"bayesian_network": {"ess": -1}}}, "models.bayesian_network: ess is -1"),
        ({"seeds": 0}, "seeds: .*greater than or equal to 1"),
        ({"arms": {"federated": False, "centralized": False, "isolated": None}}, "arms: leaves out every arm"),
        ({"measures": []}, "measures is empty"),
        ({"shadows": ["ctgan"]}, "shadows names 'ctgan', which is left out"),
        ({"shadows": ["vae_bgm"]}, "shadows is about privacy, which measures leaves out"),
        ({"baselines": ["tvea"]}, "baselines.0: .*tvae"),
        ({"sample": {"patient": 3}}, "did you mean 'patients'"),
    ],
)
def test_a_wrong_configuration_names_the_field(table: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        configuration(table, **changes)


def test_features_that_the_data_lack_are_named_before_anything_is_fitted(table: Path, tmp_path: Path) -> None:
    cohort = read_cohort(table)
    schema = replace(SCHEMA, implications=(Implication(("TP53", 1), (("SF3B1", 0),)),))
    ruled = tmp_path / "ruled.csv"
    write_cohort(replace(cohort, schema=schema, values=schema.obey(cohort.values)[0]), ruled)
    for sample, words in (
        ({"conditions": {"TP35": 1}}, "sample.conditions.*TP35"),
        ({"balance": "stage"}, "sample.balance.*stage"),
        (
            {"conditions": {"grade": "medium"}},
            "sample: 'grade' is conditioned on 'medium'; it is one of low, mid, high",
        ),
        ({"conditions": {"age": 300}}, "sample: 'age' is conditioned on 300.*; its range is 0 to 120"),
        ({"conditions": {"TP53": 2}}, "sample: 'TP53' is conditioned on 2.*; it is a binary feature"),
        ({"conditions": {"age": None}}, "sample: 'age' is conditioned on what none of the training patients has"),
        ({"balance": "age"}, "sample: balance is 'age', a continuous feature"),
        (
            {"balance": "TP53", "conditions": {"TP53": 1}},
            "sample: balance is 'TP53', on which patients are conditioned",
        ),
        ({"conditions": {"TP53": 1, "SF3B1": 1}}, "sample.conditions: no patient can have all of them"),
    ):
        with pytest.raises(ConfigError, match=words):
            run_synthesize(configuration(ruled, sample=sample), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_the_extra_one_error_says_what_to_install(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.synthetic.config.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"ctgan, not installed: pip install 'haemfed\[synthetic\]'"):
        configuration(table, models={}).require_packages()
    configuration(table).require_packages()  # fidelity, too, needs none of them


@pytest.mark.parametrize("name", ["aml_synthetic", "mds_synthetic"])
def test_configurations_that_come_with_it_are_right(name: str) -> None:
    path = Path(__file__).parents[3] / "experiments" / "configs" / f"{name}.yaml"
    config = load_synthetic(path)
    assert config.name == name
    assert config.generators == ("bayesian_network", "vae_bgm", "ctgan")
    assert parse_synthetic(config.to_dict()) == config


def test_the_spread_is_of_single_values() -> None:
    values = np.array([[0.1, np.nan], [0.3, 0.2]])
    found = estimate(values)
    assert found["mean"] == pytest.approx(0.2)
    assert [found["low"], found["high"]] == pytest.approx(np.quantile([0.1, 0.2, 0.3], (0.025, 0.975)))
    assert estimate(np.full((2, 2), np.nan)) == {"mean": None, "low": None, "high": None}


def test_goals_of_the_federated_arm() -> None:
    """Better than the best center alone, by every measure; a tie is not better."""

    def arm(**means: float) -> dict[str, Any]:
        return {metric: np.array([[mean]]) for metric, mean in means.items()}

    tied = {"csf": 0.9, "gsf": 0.95, "sdv_quality": 0.95, "discriminator_accuracy": 0.6}
    arms = {
        "federated": arm(**tied, membership_auc=0.5, shadow_auc=0.56),
        "centralized": arm(**tied),
        "isolated/A": arm(**tied),
        "isolated/B": arm(csf=0.8, gsf=0.8, sdv_quality=0.8, discriminator_accuracy=0.7),
    }
    reached = {row["goal"]: row["reached"] for row in goals_of({"ctgan": arms})}
    assert not reached["csf"]
    assert reached["gsf"]
    assert reached["membership_auc"]
    assert not reached["shadow_auc"]
    for metric in tied:
        assert reached[f"{metric}, federated - centralized"]
        assert not reached[f"{metric}, federated - best isolated"]
    del arms["isolated/A"]
    better = {row["goal"]: row["reached"] for row in goals_of({"ctgan": arms})}
    assert all(better[f"{metric}, federated - best isolated"] for metric in tied)


@pytest.mark.slow
def test_on_the_actor_system_all_is_the_same_and_everything_is_measured(
    table: Path, tmp_path: Path, cluster: None, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"rounds": 2, "steps": 1, "batch_size": 20, "generator": [8], "discriminator": [8], "embedding": 4}
    config = configuration(
        table,
        samples=1,
        models={"bayesian_network": {"bins": 3}, "vae_bgm": None, "ctgan": small},
        arms={"isolated": None},
        baselines=["gaussian_copula", "tvae", "real"],
        measures=["fidelity", "utility", "privacy"],
        tracking={"uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
    )
    monkeypatch.undo()
    results = run_synthesize(config, tmp_path / "ray")
    found = results["models"]["ctgan"]["federated"]
    assert {"csf", "discriminator_accuracy", "tstr_c", "membership_auc", "dcr_share"} <= found.keys()
    assert set(results["models"]) == {"bayesian_network", "ctgan", "gaussian_copula", "tvae", "real"}
    assert not results["verdicts"]["real"]["centralized"]["exact_matches"]["passed"]  # they are the training patients
    client = MlflowClient(results["mlflow"]["tracking_uri"])
    runs = client.search_runs([results["mlflow"]["experiment_id"]])
    nested = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == results["mlflow"]["run_id"]]
    assert len(nested) == sum(map(len, results["models"].values())) == len(runs) - 1
    one = next(r for r in nested if r.info.run_name == "ctgan federated")
    assert one.data.metrics["csf"] == found["csf"]["mean"]
    for metric, verdict in results["verdicts"]["ctgan"]["federated"].items():
        assert one.data.metrics[f"passed/{metric}"] == verdict["passed"]
    network = next(r for r in nested if r.info.run_name == "bayesian_network federated")
    assert network.data.metrics["same features as centralized"] == 1
    logged = {file.path for file in client.list_artifacts(results["mlflow"]["run_id"], "synthetic")}
    assert logged == set(results["tables"])

    study = Study.load(config.study, None)
    draw, files = Draw("ctgan", "federated", 0), Files(tmp_path / "ray")
    here = InProcess(study, tmp_path)

    def run_task(step: str, algorithm: Any) -> Any:
        task = Task(f"ctgan/0/{step}", algorithm, study.split(0, 0), study.seed(0))
        return next(iter(here.run(task))).final

    fitted = fit_generator("ctgan", config, study.schema, run_task)
    again = fitted.sample(144, Patients(config, study, 0).sample_seed(0))
    np.testing.assert_array_equal(again.values, read_cohort(files.sample(draw, 0)).values)
