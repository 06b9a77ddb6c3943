"""An experiment that starts from hospitals' exports: the same result as on the table, and no driver that harmonizes."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.arms import Fits
from experiments.config import Config, parse_config
from experiments.datasets import DatasetError, center_names, declared, load_center, load_centers, load_dataset
from experiments.datasets import fhir as adapter
from experiments.experiment import run_experiment
from experiments.harmonize.exports import MAPPING, write_exports
from harmonization import Cohort, Dictionary, write_cohort
from tests.harmonization.rows import draw_cohort, same_cells

AML = Dictionary.read("aml")
SIZES = {"Bari": 26, "Graz": 22, "Lyon": 24}


@pytest.fixture(scope="module")
def cohorts() -> dict[str, Cohort]:
    """Three hospitals whose patients die the sooner the older they are."""
    found = {}
    for seed, (name, n) in enumerate(SIZES.items()):
        cohort = draw_cohort(AML, n, 10 + seed, decimals=1, missing=0.05)
        rng = np.random.default_rng(seed)
        days = np.ceil(rng.exponential(900 * np.exp(-np.nan_to_num(cohort.column("age"), nan=60) / 60)))
        cohort = replace(cohort, time=days / 365.25, event=rng.random(n) < 0.7)
        found[name] = cohort[np.argsort(cohort.ids)]  # as harmonization returns them
    return found


@pytest.fixture(scope="module")
def exports(cohorts: dict[str, Cohort], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exports")
    write_exports(cohorts, AML, directory / "all", seed=3, faults=2)
    return directory / "all"


@pytest.fixture
def options(exports: Path, tmp_path: Path) -> dict[str, Any]:
    return {"directory": str(exports), "dictionary": "aml", "cache": str(tmp_path / "cache")}


def config(name: str, options: dict[str, Any]) -> Config:
    return parse_config(
        {
            "name": name,
            "seed": 2,
            "dataset": {"name": name, "options": options},
            "split": {"folds": 2, "validation": 0},
            "ridge": 20,
            "training": {"steps": 2, "learning_rate": 0.3},
            "rounds": 4,
            "arms": {"centralized": False, "local": None},
            "evaluation": {"horizons": [1], "bootstrap": 20},
            "federation": {"hosts": 1},
            "tracking": {"enabled": False},
        }
    )


def test_a_run_from_exports_is_the_run_on_the_table(
    cohorts: dict[str, Cohort], options: dict[str, Any], tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.experiment.write_outputs", lambda *_: None)  # figures are others' subject
    for name, cohort in cohorts.items():
        write_cohort(cohort, tmp_path / "tables" / f"{name}.parquet")
    tables = {name: str(tmp_path / "tables" / f"{name}.parquet") for name in cohorts}
    on_tables = run_experiment(config("files", {"centers": tables}), tmp_path / "tables-run")

    def here(*_: object) -> None:
        pytest.fail("the driver harmonized an export")

    monkeypatch.setattr(adapter, "_harmonize", here)  # in this process; the actors have their own
    on_exports = run_experiment(config("fhir", options), tmp_path / "exports-run")
    assert on_exports["arms"].keys() == on_tables["arms"].keys()
    assert on_exports["dataset"]["centers"] == on_tables["dataset"]["centers"]
    assert on_exports["dataset"]["schema_hash"] == on_tables["dataset"]["schema_hash"]
    assert on_exports["notes"] == on_tables["notes"]
    assert "harmonize" in on_exports["timings"]
    arm = "federated/fedavg"
    assert on_exports["arms"][arm]["pooled"] == on_tables["arms"][arm]["pooled"]
    for fold in (0, 1, "final"):
        x, y = (Fits(tmp_path / run / "fits").get(arm, 0, fold) for run in ("exports-run", "tables-run"))
        assert x is not None
        assert y is not None
        assert np.array_equal(x.weights, y.weights)


def test_every_center_comes_back_and_only_its_own_export_is_read(
    cohorts: dict[str, Cohort], options: dict[str, Any], exports: Path, tmp_path: Path
) -> None:
    assert center_names("fhir", None, options) == tuple(SIZES)
    found = load_centers("fhir", None, options)
    assert all(same_cells(found[name], cohort) for name, cohort in cohorts.items())
    pooled = load_dataset("fhir", None, options)
    assert len(pooled.cohort) == sum(SIZES.values())
    assert pooled.center is not None
    assert set(pooled.center) == set(SIZES)
    alone = {"centers": {"Bari": str(exports / "Bari"), "Oslo": "/nowhere"}, "dictionary": "aml"}
    alone["cache"] = options["cache"]
    assert same_cells(load_center("fhir", None, alone, center="Bari"), cohorts["Bari"])
    with pytest.raises(DatasetError, match="no such file or folder: /nowhere"):
        load_center("fhir", None, alone, center="Oslo")
    schema, sizes = declared("fhir", None, alone, modalities=["genomic"]) or pytest.fail("nothing is declared")
    assert schema.hash == AML.schema().select(("genomic",)).hash
    assert list(sizes) == ["Bari", "Oslo"]
    assert sizes["Bari"] > sizes["Oslo"] == 1
    assert declared("files", None, {"centers": {"Bari": "bari.csv"}}) is None
    assert declared("fhir", None, options, "single") is None  # patients spread anew have to be read first


def test_cache(options: dict[str, Any], exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_center("fhir", None, options, center="Graz")
    monkeypatch.setattr(adapter, "_harmonize", lambda *_: pytest.fail("read again"))
    assert same_cells(load_center("fhir", None, options, center="Graz"), first)
    (entry,) = Path(options["cache"]).iterdir()
    assert entry.stat().st_mode & 0o077 == 0  # patients' data
    names = {path.name for path in entry.iterdir()}
    assert names >= {"cohort.parquet", "provenance.parquet", "reasons.parquet", "report.json"}
    monkeypatch.undo()

    def fingerprint(export: Path) -> str:
        return adapter.fingerprint(export, AML, 1.0)

    copy = Path(shutil.copytree(exports / "Graz", tmp_path / "elsewhere" / "Graz"))
    before = fingerprint(copy)
    assert before == fingerprint(exports / "Graz")
    file = next(path for path in copy.iterdir() if path.name != MAPPING)
    os.utime(file, (1, 1))
    assert fingerprint(copy) == before  # dates do not matter
    assert adapter.fingerprint(copy, Dictionary.read("mds"), 1.0) != before
    file.write_bytes(file.read_bytes() + b"\n")
    assert fingerprint(copy) != before  # content does
    monkeypatch.setattr(adapter, "_code", lambda: "other code")
    assert fingerprint(exports / "Graz") != before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"directory": None}, "one of the options centers"),
        ({"centers": {"A": "a"}}, "one of the options centers"),
        ({"directory": "/nowhere"}, "no such file or folder: /nowhere"),
        ({"dictionary": None}, "needs the option dictionary: aml"),
        ({"dictionary": "oml.yaml"}, "no such file: "),
        ({"dictonary": "aml"}, "'dictonary'; did you mean 'dictionary'"),
        ({"threshold": 0.0}, "center Bari: .* resources were refused"),
    ],
)
def test_wrong_options(options: dict[str, Any], change: dict[str, Any], words: str) -> None:
    changed = {name: value for name, value in {**options, **change}.items() if value is not None}
    with pytest.raises(DatasetError, match=words):
        load_center("fhir", None, changed, center="Bari")


def test_an_empty_folder_and_an_unknown_center(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="one for each center"):
        center_names("fhir", None, {**options, "directory": str(tmp_path / "empty")})
    with pytest.raises(DatasetError, match="did you mean 'Graz'"):
        load_center("fhir", None, options, center="Gratz")
    (tmp_path / "Nowhere").mkdir()
    centers = {"centers": {"Nowhere": str(tmp_path / "Nowhere")}, "dictionary": "aml", "cache": options["cache"]}
    with pytest.raises(DatasetError, match="center Nowhere: "):
        load_center("fhir", None, centers, center="Nowhere")
    assert not [path for path in Path(options["cache"]).glob("*")]
