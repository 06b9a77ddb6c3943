"""From fits to numbers: as scikit-survival on the same folds, on the right patients, without a look at the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored
from sksurv.util import Surv

from experiments.arms import Fits, PooledWork, able_centers, do_pooled_work, pooled_work
from experiments.config import Config, parse_config
from experiments.datasets import load_dataset
from experiments.evaluation import Evaluator, evaluate_study
from experiments.fitting import Fit, fit_model
from experiments.study import Study
from federation import Algorithm, Center, InProcessFederation, Split, State, load_state, run, save_state
from harmonization import Cohort, write_cohort
from models.preprocessing import encode
from tests.experiments.conftest import Finished, Make

Floats = NDArray[np.float64]


def linear(**changes: Any) -> Config:
    """A linear Cox model trained to convergence."""
    data: dict[str, Any] = {
        "dataset": {"name": "whas500"},
        "partition": {"name": "fractions", "parameters": {"fractions": [0.5, 0.3, 0.2]}},
        "split": {"folds": 3, "repeats": 2},
        "preprocessing": {"min_missing": 1.1},
        "ridge": 20,
        "training": {"steps": 300, "learning_rate": 0.5},
        "rounds": 2,
        "strategies": [{"name": "fedavg", "training": {"steps": 1}, "rounds": 40}],
        "evaluation": {"horizons": [1, 3], "bootstrap": 20},
    }
    return parse_config({**data, **changes})


def pooled(study: Study, fits: Fits) -> None:
    """Fit the centralized, isolated and fine-tuned arms in this process."""
    for work in pooled_work(study, fits):
        do_pooled_work(work)


def federated(study: Study, split: Split, task: str = "task") -> Fit:
    """Fit the first strategy in this process."""

    def run_task(step: str, algorithm: Algorithm) -> State:
        centers = [Center(name, partial(study.cohorts.__getitem__, name), j) for j, name in enumerate(study.cohorts)]
        return run(algorithm, InProcessFederation(centers, study.seed(0), split, f"{task}/{step}"))

    return fit_model(study.config, study.config.strategies[0], study.schema, run_task)


def pairs(cohort: Cohort, risk: Floats) -> NDArray[np.float64]:
    """Concordant (ties half) and comparable pairs, by scikit-survival; zero where it finds none."""
    try:
        _, concordant, discordant, tied, _ = concordance_index_censored(cohort.event, cohort.time, risk)
    except ValueError:
        return np.zeros(2)
    return np.array([concordant + tied / 2, concordant + discordant + tied])


def c_index(counts: list[NDArray[np.float64]]) -> float:
    concordant, comparable = np.sum(counts, axis=0)
    return float(concordant / comparable)


# -- the centralized arm, by other means ---------------------------------------------------------------------------


def test_the_centralized_arm_is_what_scikit_survival_makes_of_the_same_folds(tmp_path: Path) -> None:
    config = linear(arms={"local": None})
    study, fits = Study.load(config, None), Fits(tmp_path)
    pooled(study, fits)
    arm = Evaluator(study, fits).fold_arm("centralized", "centralized")
    assert arm is not None
    expected = []
    for repeat in range(2):
        counts = []
        for fold in range(3):
            test = study.folds(repeat) == fold
            assert 100 < test.sum() < 250
            train, held = study.cohort[~test], study.cohort[test]
            scale = make_pipeline(SimpleImputer(), StandardScaler())
            x = scale.fit_transform(encode(train))
            model = CoxPHSurvivalAnalysis(alpha=20, ties="efron").fit(x, Surv.from_arrays(train.event, train.time))
            risk = model.predict(scale.transform(encode(held)))
            fit = fits.get("centralized", repeat, fold)
            assert fit is not None
            np.testing.assert_allclose(fit.weights, model.coef_, atol=2e-3)
            np.testing.assert_allclose(
                arm.predictions[repeat].risk[test], risk - risk.mean() + _mean(arm, repeat, test), atol=2e-2
            )
            counts.append(pairs(held, risk))
        expected.append(c_index(counts))
    assert arm.pooled["harrell_c"].mean == pytest.approx(np.mean(expected), abs=5e-4)
    assert 0.7 < np.mean(expected) < 0.85


def _mean(arm: Any, repeat: int, rows: NDArray[np.bool_]) -> float:
    return float(arm.predictions[repeat].risk[rows].mean())


# -- who scores whom -----------------------------------------------------------------------------------------------


def by_center(finished: Finished, kind: str) -> Mapping[str, tuple[list[Any], Floats]]:
    """Independent of the evaluator: per center the pair counts and risks that an arm's own fits give."""
    study = finished.study
    found = {}
    for name, cohort in study.cohorts.items():
        counts, risks = [], np.full(len(cohort), np.nan)
        if kind == "left-out/fedavg":
            fit = finished.fits.get(kind, 0, name)
            if fit is None:
                continue
            risks = fit.risk(finished.config, cohort)
            counts.append(pairs(cohort, risks))
        else:
            for fold in range(2):
                fit = finished.fits.get(f"{kind}/{name}" if kind == "fine-tuned" else kind, 0, fold)
                assert fit is not None
                rows = study.split(0, fold).parts(cohort.ids, cohort.event, name) == 2
                risks[rows] = fit.risk(finished.config, cohort[rows])
                counts.append(pairs(cohort[rows], risks[rows]))
        found[name] = (counts, risks)
    return found


@pytest.mark.parametrize(
    ("arm", "kind"),
    [
        ("federated/fedavg", "federated/fedavg"),
        ("federated/variates", "federated/variates"),
        ("federated/fedavg+fine-tuned", "fine-tuned"),
        ("left-out/fedavg", "left-out/fedavg"),
    ],
)
def test_each_center_is_scored_by_the_right_model_on_its_own_patients(arm: str, kind: str, finished: Finished) -> None:
    expected = by_center(finished, kind)
    found = finished.results["arms"][arm]
    assert list(found["centers"]) == list(expected)
    for name, (counts, risks) in expected.items():
        assert np.isfinite(risks).all()
        assert found["centers"][name]["harrell_c"]["mean"] == pytest.approx(c_index(counts), abs=1e-9)
    if kind in ("fine-tuned", "left-out/fedavg"):  # a model per center: pairs of patients of two centers do not count
        counts = [count for counts, _ in expected.values() for count in counts]
        assert found["pooled"]["harrell_c"]["mean"] == pytest.approx(c_index(counts), abs=1e-9)


def test_an_isolated_model_is_scored_on_everybody_and_on_its_own(finished: Finished) -> None:
    study = finished.study
    for name in study.names:
        everybody: list[Floats] = []
        own: list[Floats] = []
        for fold in range(2):
            fit = finished.fits.get(f"local/{name}", 0, fold)
            assert fit is not None
            test = study.folds(0) == fold
            for rows, counts in ((test, everybody), (test & (study.center == name), own)):
                counts.append(pairs(study.cohort[rows], fit.risk(finished.config, study.cohort[rows])))
        arm = finished.results["arms"][f"local/{name}"]
        assert arm["pooled"]["harrell_c"]["mean"] == pytest.approx(c_index(everybody), abs=1e-9)
        assert arm["centers"][name]["harrell_c"]["mean"] == pytest.approx(c_index(own), abs=1e-9)


def test_a_score_is_its_own_prediction_where_it_is_known(finished: Finished) -> None:
    study = finished.study
    counts = []
    for fold in range(2):
        rows = (study.folds(0) == fold) & ~np.isnan(study.cohort.scores[:, 0])
        counts.append(pairs(study.cohort[rows], study.cohort.scores[rows, 0]))
    assert finished.results["arms"]["score/node_score"]["pooled"]["harrell_c"]["mean"] == pytest.approx(
        c_index(counts), abs=1e-9
    )


def test_fine_tuning_moves_the_weights_and_keeps_the_rest(finished: Finished) -> None:
    start = finished.fits.get("federated/fedavg", 0, 1)
    assert start is not None
    tuned = [finished.fits.get(f"fine-tuned/{name}", 0, 1) for name in finished.study.names]
    weights = [fit.weights for fit in tuned if fit is not None]
    assert len(weights) == 4
    for fit in tuned:
        assert fit is not None
        assert 1e-4 < np.abs(fit.weights - start.weights).max() < 1
        np.testing.assert_array_equal(fit.preprocessor.mean, start.preprocessor.mean)
        np.testing.assert_array_equal(fit.baseline.cumulative, start.baseline.cumulative)
    assert np.abs(weights[0] - weights[1]).max() > 1e-4


# -- differences and gains -----------------------------------------------------------------------------------------


def test_differences_are_a_minus_b(finished: Finished) -> None:
    arms = finished.results["arms"]
    found = {(d["a"], d["b"], d["metric"]): d for d in finished.results["differences"]}
    for strategy in ("federated/fedavg", "federated/variates"):
        for metric in ("harrell_c", "uno_c", "ibs"):
            difference = found[strategy, "centralized", metric]
            expected = arms[strategy]["pooled"][metric]["mean"] - arms["centralized"]["pooled"][metric]["mean"]
            assert difference["mean"] == pytest.approx(expected, abs=1e-12)
            assert difference["low"] <= difference["high"]
    assert ("federated/fedavg", "score/node_score", "harrell_c") in found


def test_a_score_that_some_lack_is_compared_on_those_who_have_it(finished: Finished) -> None:
    study = finished.study
    known = ~np.isnan(study.cohort.scores[:, 0])
    assert 0 < known.sum() < len(known)
    model, score = [], []
    for fold in range(2):
        rows = (study.folds(0) == fold) & known
        fit = finished.fits.get("federated/fedavg", 0, fold)
        assert fit is not None
        model.append(pairs(study.cohort[rows], fit.risk(finished.config, study.cohort[rows])))
        score.append(pairs(study.cohort[rows], study.cohort.scores[rows, 0]))
    found = {(d["a"], d["b"], d["metric"]): d["mean"] for d in finished.results["differences"]}
    expected = c_index(model) - c_index(score)
    assert found["federated/fedavg", "score/node_score", "harrell_c"] == pytest.approx(expected, abs=1e-9)


def test_gains_are_federated_minus_isolated(finished: Finished) -> None:
    arms, gain = finished.results["arms"], finished.results["gain"]
    federation = arms["federated/fedavg"]
    sizes, gains = [], []
    for row in gain["centers"]:
        name, local = row["center"], arms[f"local/{row['center']}"]
        for scored_on, f, i in (
            ("everybody", federation["pooled"], local["pooled"]),
            ("own", federation["centers"][name], local["centers"][name]),
        ):
            values = (f["harrell_c"]["mean"], i["harrell_c"]["mean"])
            assert (row[scored_on]["federated"], row[scored_on]["local"]) == pytest.approx(values, abs=1e-12)
            assert row[scored_on]["gain"]["mean"] == pytest.approx(values[0] - values[1], abs=1e-12)
        assert row["patients"] == finished.results["dataset"]["centers"][name]["patients"]
        sizes.append(row["patients"])
        gains.append(row["everybody"]["gain"]["mean"])
    slope = np.polyfit(np.log10(sizes), gains, 1)[0]
    assert gain["slope"]["mean"] == pytest.approx(slope, abs=1e-9)
    assert gain["slope"]["low"] <= gain["slope"]["high"]


def test_everybody_gains_over_a_model_turned_upside_down(finished: Finished, tmp_path: Path) -> None:
    """The federation's own model with its output negated, in the place of every isolated one."""
    fits = Fits(tmp_path)
    for fold in range(2):
        fit = finished.fits.get("federated/fedavg", 0, fold)
        assert fit is not None
        output = np.arange(len(fit.weights)) >= len(fit.weights) - 6
        inverted = replace(fit, weights=np.where(output, -fit.weights, fit.weights))
        fit.save(fits.path("federated/fedavg", 0, fold))
        for name in finished.study.names:
            inverted.save(fits.path(f"local/{name}", 0, fold))
    found = evaluate_study(finished.study, fits)["gain"]["centers"]
    assert len(found) == 4
    for row in found:
        c = row["everybody"]["federated"]
        assert c > 0.6
        assert row["everybody"]["local"] == pytest.approx(1 - c, abs=1e-6)
        assert row["everybody"]["gain"]["mean"] == pytest.approx(2 * c - 1, abs=1e-6)
        assert row["everybody"]["gain"]["low"] > 0


def test_a_missing_fit_leaves_its_arm_out_with_a_note(finished: Finished, tmp_path: Path) -> None:
    for source in finished.fits.directory.rglob("*.safetensors"):
        if source.parent != finished.fits.path("local/C02", 0, 0).parent:
            save_state(tmp_path / source.relative_to(finished.fits.directory), load_state(source))
    found = evaluate_study(finished.study, Fits(tmp_path))
    assert "local/C02" not in found["arms"]
    assert found["arms"].keys() | {"local/C02"} == finished.results["arms"].keys()
    assert [note for note in found["notes"] if note.startswith("local/C02: a fit is missing")]
    assert [row["center"] for row in found["gain"]["centers"]] == ["C01", "C03", "C04"]


# -- isolated arms -------------------------------------------------------------------------------------------------


def test_small_centers_train_no_model_alone() -> None:
    config = linear(
        partition={"name": "fractions", "parameters": {"fractions": [0.9, 0.08, 0.02]}},
        arms={"local": {"min_patients": 20, "min_events": 3}},
    )
    assert able_centers(Study.load(config, None)) == ["C01", "C02"]


def test_a_center_in_which_nothing_varies_trains_no_model_and_stops_nobody(tmp_path: Path) -> None:
    """A small hospital all of whose binary features are rarer than the filter allows."""
    cohort = load_dataset("whas500").cohort
    keep = [j for j, f in enumerate(cohort.schema.features) if f.kind == "binary"]
    schema = replace(cohort.schema, features=tuple(cohort.schema.features[j] for j in keep))
    options: dict[str, dict[str, str]] = {"centers": {}}
    for name, rows in (("Aachen", np.arange(300)), ("Bonn", np.arange(300, 360))):
        part = cohort[rows]
        values = part.values[:, keep] * (name == "Aachen")
        write_cohort(replace(part, schema=schema, values=values), tmp_path / f"{name}.csv")
        options["centers"][name] = str(tmp_path / f"{name}.csv")
    config = linear(dataset={"name": "files", "options": options}, partition={"name": "real"}, split={"folds": 2})
    study, fits = Study.load(config, None), Fits(tmp_path / "fits")
    assert able_centers(study) == ["Aachen", "Bonn"]
    work = PooledWork(_json(config), None, fits.directory, "local", 0, 0, ("Bonn", "Aachen"))
    assert do_pooled_work(work) == 1
    assert fits.get("local/Aachen", 0, 0) is not None
    assert Evaluator(study, fits).fold_arm("local/Bonn", "local") is None


def _json(config: Config) -> str:
    import json

    return json.dumps(config.to_dict())


# -- nothing of the test patients --------------------------------------------------------------------------------


def changed(study: Study, rows: NDArray[np.bool_], path: Path) -> None:
    """The same table with other values, times and scores in some rows (events steer the split and stay)."""
    cohort, rng = study.cohort, np.random.default_rng(5)
    values, time, scores = cohort.values.copy(), cohort.time.copy(), cohort.scores.copy()
    values[rows] = rng.permutation(values[rows])
    values[rows, cohort.schema.index("age")] = np.nan
    time[rows] = rng.uniform(0, 9, rows.sum())
    scores[rows] = rng.normal(size=(rows.sum(), 1))
    write_cohort(replace(cohort, ids=cohort.ids, values=values, time=time, scores=scores), path)


def all_fits(study: Study, directory: Path) -> dict[str, Fit]:
    """Every kind of arm, for fold 1."""
    fits = Fits(directory)
    federated(study, study.split(0, 1)).save(fits.path("federated/fedavg", 0, 1))
    for work in pooled_work(study, fits):
        if work.fold == 1:
            do_pooled_work(work)
    return {str(p.relative_to(directory)): Fit.load(p) for p in sorted(directory.rglob("*.safetensors"))}


def same(a: Fit, b: Fit) -> bool:
    """All that a fit knows, bit by bit."""
    arrays: list[tuple[NDArray[Any], NDArray[Any]]] = [
        (a.weights, b.weights),
        (a.baseline.times, b.baseline.times),
        (a.baseline.cumulative, b.baseline.cumulative),
        (a.history, b.history),
        *zip(a.preprocessor.to_arrays().values(), b.preprocessor.to_arrays().values(), strict=True),
    ]
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in arrays)


def test_test_patients_leave_no_trace_in_any_fit(experiment: Make, tmp_path: Path) -> None:
    config = experiment(rounds=2, strategies=[{"name": "fedavg"}], arms={"fine_tuning": {"steps": 2}})
    study = Study.load(config, None)
    before = all_fits(study, tmp_path / "before")
    assert len(before) == 1 + 1 + 4 + 4

    def refit(rows: NDArray[np.bool_], name: str) -> dict[str, Fit]:
        changed(study, rows, tmp_path / f"{name}.csv")
        other = Study.load(
            experiment(
                rounds=2,
                strategies=[{"name": "fedavg"}],
                arms={"fine_tuning": {"steps": 2}},
                dataset={"name": "table", "options": {"path": str(tmp_path / f"{name}.csv")}},
            ),
            None,
        )
        np.testing.assert_array_equal(np.sort(other.unique_ids), np.sort(study.unique_ids))
        return all_fits(other, tmp_path / name)

    test = study.folds(0) == 1
    assert 300 < test.sum() < 400
    altered = refit(test, "test")
    assert altered.keys() == before.keys()
    for name, fit in before.items():
        assert same(fit, altered[name]), name
    # ... whereas one training patient shows everywhere that patient trains
    patient = np.flatnonzero(study.parts(study.split(0, 1)) == 0)[0]
    altered = refit(np.arange(len(test)) == patient, "train")
    home = study.center[patient]
    for name, fit in before.items():
        elsewhere = name.startswith("local") and home not in name
        assert same(fit, altered[name]) == elsewhere, name


def test_validation_patients_are_not_trained_on(experiment: Make, tmp_path: Path) -> None:
    """Preprocessor and time grid come from training patients alone."""
    config = experiment(rounds=3, strategies=[{"name": "fedavg"}])
    study = Study.load(config, None)
    split = study.split(0, 0)
    before = federated(study, split)
    changed(study, study.parts(split) == 1, tmp_path / "t.csv")
    other = Study.load(
        experiment(
            rounds=3,
            strategies=[{"name": "fedavg"}],
            dataset={"name": "table", "options": {"path": f"{tmp_path}/t.csv"}},
        ),
        None,
    )
    after = federated(other, split)
    np.testing.assert_array_equal(before.preprocessor.mean, after.preprocessor.mean)
    np.testing.assert_array_equal(before.baseline.times, after.baseline.times)
    np.testing.assert_array_equal(before.history[..., :2], after.history[..., :2])  # weights and training losses
    assert not np.array_equal(before.history[..., 2:], after.history[..., 2:])
