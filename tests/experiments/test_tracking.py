"""What a reviewer finds in MLflow: one run per experiment, one per arm under it, and a model that predicts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from experiments.config import Config
from experiments.datasets import load_dataset
from experiments.tracking import example_input, track
from harmonization import Cohort, Feature, Schema
from harmonization.schema import EVENT, ID, TIME
from tests.experiments.conftest import Finished


@pytest.fixture(scope="module")
def client(finished: Finished) -> MlflowClient:
    return MlflowClient(finished.results["mlflow"]["tracking_uri"])


@pytest.fixture(scope="module")
def parent(finished: Finished, client: MlflowClient) -> Run:
    return client.get_run(finished.results["mlflow"]["run_id"])


@pytest.fixture(scope="module")
def arms(finished: Finished, client: MlflowClient, parent: Run) -> dict[str, Run]:
    """The nested runs by arm."""
    runs = client.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    return {run.data.tags["haemfed.arm"]: run for run in runs}


@pytest.fixture(scope="module")
def model(finished: Finished) -> Iterator[Any]:
    """The final model as MLflow loads it."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(finished.results["mlflow"]["tracking_uri"])
    yield mlflow.pyfunc.load_model(finished.results["mlflow"]["model_uri"])
    mlflow.set_tracking_uri(before)


# -- runs ----------------------------------------------------------------------------------------------------------


def test_the_store_is_a_file_beside_the_run(finished: Finished) -> None:
    assert finished.results["mlflow"]["tracking_uri"] == f"sqlite:///{finished.out.parent}/mlflow.db"
    assert (finished.out.parent / "mlflow.db").is_file()
    assert json.loads((finished.out / "mlflow.json").read_text()) == finished.results["mlflow"]


def test_every_arm_is_a_run_under_that_of_the_experiment(
    finished: Finished, client: MlflowClient, parent: Run, arms: dict[str, Run]
) -> None:
    assert parent.info.run_name == "breast"
    assert arms.keys() == finished.results["arms"].keys()
    assert len(client.search_runs([parent.info.experiment_id])) == len(arms) + 1
    for run in (parent, *arms.values()):
        assert run.info.status == "FINISHED"
    assert {n: r.data.tags["haemfed.kind"] for n, r in arms.items()} == {
        name: arm["kind"] for name, arm in finished.results["arms"].items()
    }


def test_final_metrics_have_their_intervals(finished: Finished, parent: Run, arms: dict[str, Run]) -> None:
    main = finished.results["arms"]["federated/fedavg"]["pooled"]
    assert parent.data.metrics["harrell_c"] == main["harrell_c"]["mean"]
    for name, run in arms.items():
        for metric, estimate in finished.results["arms"][name]["pooled"].items():
            found = [run.data.metrics[metric + part] for part in ("", ".low", ".high")]
            assert found == [estimate["mean"], estimate["low"], estimate["high"]]
        for center, metrics in finished.results["arms"][name]["centers"].items():
            assert run.data.metrics[f"centers/{center}/harrell_c"] == metrics["harrell_c"]["mean"]


def test_curves_have_a_value_per_round_also_per_center(
    finished: Finished, client: MlflowClient, arms: dict[str, Run]
) -> None:
    for name in ("federated/fedavg", "federated/variates", "centralized"):
        curves, run = finished.results["curves"][name], arms[name].info.run_id
        for key in ("train_loss", "validation_loss", "validation_concordance"):
            logged = {m.step: m.value for m in client.get_metric_history(run, key)}
            assert logged == {r: v for r, v in zip(curves["round"], curves[key]["mean"], strict=True) if v is not None}
            assert len(logged) >= 4
    curves = finished.results["curves"]["federated/fedavg"]["centers"]
    assert list(curves) == ["C01", "C02", "C03", "C04"]
    for center, values in curves.items():
        history = client.get_metric_history(
            arms["federated/fedavg"].info.run_id, f"centers/{center}/validation_concordance"
        )
        assert [m.value for m in sorted(history, key=lambda m: m.step)] == values


def test_configuration_versions_and_data_set_are_there(finished: Finished, parent: Run) -> None:
    params = parent.data.params
    assert params["seed"] == "3"
    assert params["ridge"] == "10.0"
    assert params["strategies.1.label"] == "variates"
    assert params["arms.left_out.centers"] == "2"
    assert {"version.ray", "version.torch", "version.python"} <= parent.data.tags.keys()
    assert parent.inputs is not None
    (dataset,) = parent.inputs.dataset_inputs
    assert dataset.dataset.name == "table"
    assert finished.results["dataset"]["schema_hash"].startswith(dataset.dataset.digest)
    assert json.loads(str(dataset.dataset.profile)) == {"patients": 686, "events": 299, "centers": 4}


def test_report_figures_and_resolved_configuration_are_kept(
    finished: Finished, client: MlflowClient, parent: Run
) -> None:
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "results.json", "config.yaml", "figures"} <= names
    figures = {Path(file.path).stem for file in client.list_artifacts(parent.info.run_id, "figures")}
    assert {"curves", "centers", "gain", "kaplan_meier", "calibration"} <= figures


# -- the model -----------------------------------------------------------------------------------------------------


def raw(cohort: Cohort) -> pd.DataFrame:
    """The table as a hospital has it."""
    return cohort.to_frame()[list(cohort.schema.names)]


def test_the_model_predicts_what_the_final_fit_predicts(finished: Finished, model: Any) -> None:
    study, fit = finished.study, finished.fits.get("federated/fedavg", 0, "final")
    assert fit is not None
    cohort = study.cohort
    assert np.isnan(cohort.values).any()
    risk = fit.risk(finished.config, cohort)
    predicted = model.predict(raw(cohort))
    assert list(predicted.columns) == ["log_hazard", "survival_1y", "survival_3y"]
    np.testing.assert_allclose(predicted["log_hazard"], risk, atol=1e-6)
    np.testing.assert_allclose(
        predicted[["survival_1y", "survival_3y"]],
        fit.survival(finished.config, cohort, np.array([1.0, 3.0])),
    )
    assert risk.std() > 0.1
    assert len(np.unique(risk)) > 600


def test_the_model_takes_patients_of_whom_little_is_known(finished: Finished, model: Any) -> None:
    table = raw(finished.study.cohort).iloc[[3, 3, 3]].reset_index(drop=True)
    table.loc[1] = None
    table.loc[2, "tumor_grade"] = None
    for column in table.columns.drop("tumor_grade"):
        table[column] = table[column].astype("float64")
    predicted = model.predict(table)
    assert np.isfinite(predicted.to_numpy()).all()
    assert ((predicted[["survival_1y", "survival_3y"]] > 0) & (predicted[["survival_1y", "survival_3y"]] < 1)).all(None)
    assert predicted["log_hazard"].nunique() == 3
    alone = model.predict(table.iloc[[1]])  # a column without any value has no type of its own
    np.testing.assert_allclose(alone["log_hazard"], predicted["log_hazard"].iloc[1])


def test_columns_may_come_in_any_order_with_others_and_as_whole_numbers(finished: Finished, model: Any) -> None:
    table = raw(finished.study.cohort[np.arange(20)]).dropna()
    whole = table.astype({"age": "int32", "positive_nodes": "int32", "postmenopausal": "int32"})
    shuffled = whole[list(reversed(whole.columns))].assign(comment="none")
    np.testing.assert_array_equal(model.predict(shuffled)["log_hazard"], model.predict(table)["log_hazard"])


def test_the_model_refuses_what_it_does_not_know(finished: Finished, model: Any) -> None:
    table = raw(finished.study.cohort[np.arange(3)])
    with pytest.raises(ValueError, match="the input lacks the columns age"):
        model.predict(table.drop(columns="age"))
    with pytest.raises(ValueError, match=r"row 2, column 'tumor_grade', value 'IV': unknown category"):
        model.predict(table.assign(tumor_grade=["I", "IV", "I"]))


def test_the_model_has_a_signature_and_an_example_it_can_predict(finished: Finished, model: Any) -> None:
    schema = finished.study.schema
    assert model.metadata.signature.inputs.input_names() == list(schema.names)
    assert model.metadata.signature.outputs.input_names() == ["log_hazard", "survival_1y", "survival_3y"]
    example = model.input_example
    assert list(example.columns) == list(schema.names)
    assert np.isfinite(model.predict(example).to_numpy()).all()


def test_no_pickle_is_kept(finished: Finished) -> None:
    files = [p for p in (finished.out.parent / "mlartifacts").rglob("*") if p.is_file()]
    assert files
    assert not [p for p in files if p.suffix in (".pkl", ".pickle", ".pt", ".joblib")]


def schemas() -> list[Schema]:
    """Of data sets that need no download, and awkward ones."""
    odd = (
        Feature("fraction", "continuous", low=0.2, high=0.9, reference=0.4),
        Feature("below_zero", "continuous", high=-5),
        Feature("weight", "continuous", low=100.5),
        Feature("narrow", "continuous", low=0.6, high=0.8),
        Feature("zero_in_the_middle", "continuous", low=-1, high=2),
        Feature("lesions", "count", low=1, high=2),
        Feature("free", "count"),
        Feature("unknown", "categorical", categories=("x",)),
        Feature("late", "binary"),
    )
    names = ("whas500", "gbsg2", "flchain", "veterans_lung_cancer", "aids")
    return [Schema("odd", "1", odd), *(load_dataset(name).cohort.schema for name in names)]


@pytest.mark.parametrize("schema", schemas(), ids=lambda schema: schema.name)
def test_example_patients_are_plausible_in_every_schema(schema: Schema) -> None:
    example = example_input(schema)
    example[ID], example[TIME], example[EVENT] = ["a", "b"], 1.0, 0
    cohort = Cohort.from_frame(example, schema)
    assert not np.isnan(cohort.values[0]).any()
    assert np.isnan(cohort.values[1]).any()


# -- special cases -------------------------------------------------------------------------------------------------


def test_names_that_mlflow_does_not_allow_are_tracked_all_the_same(finished: Finished, tmp_path: Path) -> None:
    odd = "St. John's (Graz) = 100%"
    config = finished.config.model_copy(
        update={
            "dataset": finished.config.dataset.model_copy(update={"options": {"centers": {odd: "a.csv"}}}),
            "tracking": finished.config.tracking.model_copy(
                update={"uri": f"sqlite:///{tmp_path}/other.db", "experiment": "odd"}
            ),
        }
    )
    results = json.loads(json.dumps(finished.results).replace('"C01"', json.dumps(odd)))
    tracked = track(config, finished.study, finished.fits, results, finished.out)
    client = MlflowClient(tracked["tracking_uri"])
    assert tracked["tracking_uri"] == f"sqlite:///{tmp_path}/other.db"
    params = client.get_run(tracked["run_id"]).data.params
    assert "a.csv" in [value for key, value in params.items() if key.startswith("dataset.options.centers.St. John")]
    assert client.get_experiment_by_name("odd") is not None


def test_long_values_do_not_break_tracking(finished: Finished, tmp_path: Path) -> None:
    many = {f"center {j:04d}": f"/very/long/path/{j}" for j in range(300)}
    config: Config = finished.config.model_copy(
        update={"dataset": finished.config.dataset.model_copy(update={"options": {"centers": many, "x": "y" * 9000}})}
    )
    from experiments.mlflow_runs import log_params

    client = MlflowClient(f"sqlite:///{tmp_path}/long.db")
    run = client.create_run(client.create_experiment("long")).info.run_id
    log_params(client, run, config)
    params = client.get_run(run).data.params
    assert len(params["dataset.options.x"]) == 6000
    assert len([key for key in params if "center 0" in key]) == 300
