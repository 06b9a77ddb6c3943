"""Data sets: the published counts, nothing known only later among the features, and centers that load themselves."""

from __future__ import annotations

import logging
import pickle
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.datasets import (
    Dataset,
    DatasetError,
    available_datasets,
    center_names,
    centers,
    load_center,
    load_centers,
    load_dataset,
)
from experiments.partition import PartitionError
from harmonization import Cohort, CohortError, Feature, Schema, SchemaError, write_cohort

# name: (patients, events, features)
BUNDLED = {
    "aids": (1151, 26, 9),
    "flchain": (7874, 2169, 7),
    "gbsg2": (686, 299, 8),
    "veterans_lung_cancer": (137, 128, 6),
    "whas500": (500, 215, 13),
}
DOWNLOADED = {
    "aml_amlsg": (1540, 904, 86),
    "cmml_iwg": (262, 123, 59),
    "mds_iwg": (2811, 1354, 147),
    "mds_wsi": (2811, 1354, 211),
}
SIMULATED = {"cmml_simulated": (1737, 39, 10), "mm_simulated": (1005, 80, 7)}
"""Patients, features, centers."""

# What was known only after diagnosis, in the publishers' words and in ours.
LATER = re.compile(
    r"chapter|cause|transplant|tpl|hsct|allo|remission|relapse|recurrence|response|^cr_|rfs|efs|efsstat|ereignart|cuminc"
    r"|lfs|amlt|hma|lenalidomid|chemo|time_to|^los$|stay|status|^os|vpa|atra|study|follow|death|score|ipss_?[rm]$|eln",
    re.IGNORECASE,
)


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_bundled_counts(name: str) -> None:
    dataset = load_dataset(name)
    assert (len(dataset.cohort), int(dataset.cohort.event.sum()), len(dataset.cohort.schema.names)) == BUNDLED[name]
    assert dataset.center is None
    assert dataset.cohort.schema.time_unit == "years"
    assert dataset.name == name


@pytest.mark.parametrize("name", sorted(DOWNLOADED))
def test_published_counts(name: str, data_dir: Path) -> None:
    cohort = load_dataset(name, data_dir).cohort
    assert (len(cohort), int(cohort.event.sum()), len(cohort.schema.names)) == DOWNLOADED[name]
    assert cohort.schema.time_unit == "years"
    assert cohort.schema.endpoint == "overall survival"
    assert cohort.schema.obeyed(cohort.values).all()
    assert 5 < cohort.time.max() < 25


@pytest.mark.parametrize("name", sorted(SIMULATED))
def test_simulated_cohorts_say_so_and_have_centers(name: str) -> None:
    dataset = load_dataset(name)
    assert dataset.center is not None
    found = (len(dataset.cohort), len(dataset.cohort.schema.names), len(set(dataset.center)))
    assert found == SIMULATED[name]
    assert dataset.description.startswith("SIMULATED")
    assert "no real patient" in dataset.description
    assert 0.3 < dataset.cohort.event.mean() < 0.7
    again = load_dataset(name).cohort
    np.testing.assert_array_equal(again.values, dataset.cohort.values)
    np.testing.assert_array_equal(again.time, dataset.cohort.time)


def test_every_data_set_is_tested() -> None:
    assert available_datasets().keys() == BUNDLED.keys() | DOWNLOADED.keys() | SIMULATED.keys() | {
        "table",
        "files",
        "fhir",
    }
    for card in available_datasets().values():
        assert card.description
        assert card.source
        assert card.licence


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_bundled_features_were_known_at_the_start(name: str) -> None:
    assert [feature for feature in load_dataset(name).cohort.schema.names if LATER.search(feature)] == []


@pytest.mark.parametrize("name", sorted(DOWNLOADED))
def test_downloaded_features_were_known_at_diagnosis(name: str, data_dir: Path) -> None:
    cohort = load_dataset(name, data_dir).cohort
    assert [feature for feature in cohort.schema.names if LATER.search(feature)] == []
    # None tells the outcome by itself: a leak does.
    for feature in cohort.schema.names:
        x = cohort.column(feature)
        seen = ~np.isnan(x)
        for outcome in (cohort.time, cohort.event.astype(float)):
            assert abs(np.corrcoef(x[seen], outcome[seen])[0, 1]) < 0.35, feature


def test_the_words_of_the_leakage_test_are_the_publishers(data_dir: Path) -> None:
    header = pd.read_csv(data_dir / "mds_iwg" / "df_clinical.tsv", sep="\t", nrows=0).columns
    later = {"hma", "lenalidomid", "chemotherapy", "transplant", "AMLt_YEARS", "LFS_STATUS", "OS_YEARS"}
    later |= {"time_to_treatment_days", "time_to_transplant_days"}
    assert later <= set(header)
    assert all(LATER.search(column) for column in later)


def test_missing_stays_missing() -> None:
    cohort = load_dataset("flchain").cohort
    assert np.isnan(cohort.column("creatinine")).sum() == 1350


def test_aml_hospitals(data_dir: Path) -> None:
    dataset = load_dataset("aml_amlsg", data_dir)
    assert dataset.center is not None
    names, sizes = np.unique(dataset.center, return_counts=True)
    assert len(names) == 45
    assert (names[0], names[-1]) == ("C01", "C46")
    assert (sizes.max(), sizes.min()) == (194, 1)
    assert load_centers("aml_amlsg", data_dir).keys() == set(names)


def test_aml_values(data_dir: Path) -> None:
    cohort = load_dataset("aml_amlsg", data_dir).cohort
    assert {name: int(np.nansum(cohort.column(name))) for name in ("male", "NPM1", "FLT3_ITD", "inv16_t16_16")} == {
        "male": 821,
        "NPM1": 436,
        "FLT3_ITD": 341,
        "inv16_t16_16": 82,
    }
    assert np.isnan(cohort.column("inv3_t3_3")).sum() == 122  # not karyotyped
    assert np.isnan(cohort.column("CEBPA_bi")).sum() == 27
    assert np.isnan(cohort.column("t_9_11")).sum() > 100
    assert not np.isnan(cohort.column("DNMT3A")).any()  # all were sequenced
    assert np.isnan(cohort.scores[:, 0]).sum() == 129
    assert "SFRS2" not in cohort.schema.names
    assert cohort.column("SRSF2").sum() == 86


def test_aml_mutations_are_those_of_the_publishers_matrix(data_dir: Path) -> None:
    path = data_dir / "clustering" / "amlsg1540_binary_84.csv"
    if not path.exists():
        pytest.skip(f"no {path}")
    published = pd.read_csv(path, index_col=0).rename(columns={"SFRS2": "SRSF2"})
    cohort = load_dataset("aml_amlsg", data_dir).cohort
    ours = pd.DataFrame(cohort.values, index=cohort.ids, columns=cohort.schema.names)
    both = [name for name in published.columns if name in ours.columns]
    assert len(both) > 70
    published = published.loc[ours.index, both]
    for name in ("IDH2_p140", "IDH2_p172", "CEBPA_mono", "CEBPA_bi", "FLT3_ITD", "minus7", "complex", "t_15_17"):
        seen = ours[name].notna()
        assert (ours.loc[seen, name] == published.loc[seen, name]).all(), name
    # The publisher counts possible mutations too: what we have as mutated is mutated there, but for one call.
    more = (ours[both] == 1) & (published == 0)
    assert int(more.to_numpy().sum()) <= 1
    assert int(((ours[both] == 0) & (published == 1)).to_numpy().sum()) < 200


@pytest.mark.parametrize(
    ("name", "feature", "factor"),
    [
        ("aml_amlsg", "hemoglobin", 10),  # g/L
        ("aml_amlsg", "platelets", 1000),  # per uL
        ("aml_amlsg", "wbc", 1000),
        ("aml_amlsg", "age", 12),  # months
        ("mds_iwg", "hemoglobin", 10),
        ("mds_iwg", "neutrophils", 1000),
        ("mds_iwg", "bone_marrow_blasts", 100),
    ],
)
def test_another_unit_is_noticed(data_dir: Path, name: str, feature: str, factor: float) -> None:
    cohort = load_dataset(name, data_dir).cohort
    table = cohort.to_frame()
    table[feature] *= factor
    with pytest.raises(CohortError, match=f"column '{feature}'.*check unit and decimal point"):
        Cohort.from_frame(table, cohort.schema)


def test_the_manuals_example_works(tmp_path: Path) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(csv|yaml) title=\"?[\w.]+\"?\n(.*?)```", manual, re.DOTALL))
    (tmp_path / "clinic.csv").write_text(blocks["csv"])
    (tmp_path / "clinic.schema.yaml").write_text(blocks["yaml"])
    cohorts = load_centers("table", tmp_path, {"path": "clinic.csv"})
    assert {name: len(cohort) for name, cohort in cohorts.items()} == {"North": 2, "South": 1}
    schema = cohorts["North"].schema
    assert {feature.kind for feature in schema.features} == {"continuous", "binary", "categorical", "count"}
    assert len(schema.scores) == 1


def test_mds_patients_without_follow_up_are_left_out_aloud(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        dataset = load_dataset("mds_iwg", data_dir)
    assert "146 of 2957 patients have no follow-up" in caplog.text
    assert "146" in dataset.description
    names = set(dataset.cohort.schema.names)
    assert not names & {"TET2bi", "TET2other", "TP53mono"}
    assert {"TP53", "TP53multi", "del5q"} <= names
    assert [score.name for score in dataset.cohort.schema.scores] == ["ipss_r", "ipss_m"]
    assert 0 < np.isnan(dataset.cohort.column("del5q")).sum() < 50


def test_mds_transformation_to_leukaemia_and_death_without_it(data_dir: Path) -> None:
    cohort = load_dataset("mds_iwg", data_dir, {"endpoint": "transformation"}).cohort
    assert cohort.schema.causes == ("AML", "death without AML")
    assert cohort.cause is not None
    assert np.bincount(cohort.cause).tolist() == [1264, 409, 936]
    raw = pd.read_csv(data_dir / "mds_iwg" / "df_clinical.tsv", sep="\t", index_col="ID").loc[cohort.ids]
    np.testing.assert_array_equal(cohort.cause == 1, raw["AMLt_STATUS"] == 1)
    np.testing.assert_array_equal(cohort.time[cohort.cause == 1], raw["AMLt_YEARS"][cohort.cause == 1])
    np.testing.assert_array_equal(cohort.event, raw["LFS_STATUS"] == 1)
    assert (raw["OS_STATUS"][cohort.cause == 2] == 1).all()
    assert (cohort.time <= raw["OS_YEARS"] + 1e-9).all()
    assert cohort.schema.names == load_dataset("mds_iwg", data_dir).cohort.schema.names
    with pytest.raises(DatasetError, match="endpoint is 'aml'; use one of survival, transformation"):
        load_dataset("mds_iwg", data_dir, {"endpoint": "aml"})


def test_unknown_names_get_suggestions() -> None:
    with pytest.raises(DatasetError, match=r"no data set is called 'aml'.*aml_amlsg"):
        load_dataset("aml")
    with pytest.raises(DatasetError, match="'table': no option is called 'pth'; did you mean 'path'"):
        load_dataset("table", None, {"pth": "x.csv"})
    with pytest.raises(DatasetError, match="'flchain': no option is called 'path'; use one of none"):
        load_dataset("flchain", None, {"path": "x.csv"})


def test_a_missing_file_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAEMFED_DATA", raising=False)
    with pytest.raises(DatasetError, match=r"--data or the environment variable HAEMFED_DATA.*github.com/gerstung-lab"):
        load_dataset("aml_amlsg")
    monkeypatch.setenv("HAEMFED_DATA", str(tmp_path))
    with pytest.raises(DatasetError) as caught:
        load_dataset("mds_iwg")
    for part in ("mds_iwg/df_clinical.tsv", str(tmp_path), "github.com/papaemmelab/IPSSMstudy"):
        assert part in str(caught.value)


SCHEMA = Schema(
    "clinic",
    "1",
    (Feature("age", "continuous", low=0, high=120), Feature("TP53", "binary", "genomic")),
)


def patients(n: int, seed: int) -> Cohort:
    """Random patients numbered from 1, as every hospital does."""
    rng = np.random.default_rng(seed)
    tp53 = np.where(rng.random(n) < 0.2, np.nan, (rng.random(n) < 0.3).astype(float))
    values = np.column_stack([rng.uniform(20, 80, n), tp53])
    return Cohort(SCHEMA, np.arange(1, n + 1).astype(str), values, rng.exponential(size=n), rng.random(n) < 0.6)


def same(one: Cohort, other: Cohort) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "values")
        for name in ("ids", "values", "time", "event")
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_table(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = patients(20, 0)
    path = tmp_path / f"mine.{suffix}"
    write_cohort(cohort, path)
    dataset = load_dataset("table", None, {"path": str(path)})
    assert same(dataset.cohort, cohort)
    assert dataset.center is None
    assert same(load_dataset("table", tmp_path, {"path": path.name}).cohort, cohort)
    monkeypatch.chdir(tmp_path)
    assert same(load_dataset("table", None, {"path": path.name}).cohort, cohort)


def test_table_with_centers(tmp_path: Path) -> None:
    cohort = patients(4, 0)
    frame = cohort.to_frame().assign(site=["01", "02", "01", "01"])
    frame.to_csv(tmp_path / "mine.csv", index=False)
    SCHEMA.write(tmp_path / "dictionary.yaml")
    options = {"path": "mine.csv", "schema": "dictionary.yaml", "center_column": "site"}
    loaded = load_centers("table", tmp_path, options)
    assert {name: c.ids.tolist() for name, c in loaded.items()} == {"01": ["1", "3", "4"], "02": ["2"]}
    with pytest.raises(SchemaError, match=r"mine\.schema\.yaml"):
        load_dataset("table", tmp_path, {"path": "mine.csv"})
    with pytest.raises(CohortError, match=r"'ward'.*was to name each patient's center"):
        load_dataset("table", tmp_path, {**options, "center_column": "ward"})
    with pytest.raises(CohortError, match="column 'site': column is not in the schema"):
        load_dataset("table", tmp_path, {"path": "mine.csv", "schema": "dictionary.yaml"})
    frame.assign(site=["01", "", "01", "01"]).to_csv(tmp_path / "holes.csv", index=False)
    with pytest.raises(CohortError, match=r"holes\.csv, row 2, column 'site': center is missing"):
        load_dataset("table", tmp_path, {**options, "path": "holes.csv"})
    with pytest.raises(DatasetError, match=r"no such file: .*nothing\.csv or .*nothing\.csv"):
        load_dataset("table", tmp_path, {"path": "nothing.csv"})
    with pytest.raises(DatasetError, match="needs the option path"):
        load_dataset("table", tmp_path, {})


@pytest.fixture
def hospitals(tmp_path: Path) -> dict[str, object]:
    """Options of two hospitals' files, with the same patient ids in both."""
    for seed, name in enumerate(("north", "south")):
        write_cohort(patients(10 + seed, seed), tmp_path / f"{name}.csv")
    return {"centers": {"South": str(tmp_path / "south.csv"), "North": str(tmp_path / "north.csv")}}


def test_files(hospitals: dict[str, object]) -> None:
    loaded = load_centers("files", None, hospitals)
    assert list(loaded) == ["North", "South"]
    assert same(loaded["South"], patients(11, 1))
    pooled = load_dataset("files", None, hospitals)
    assert pooled.center is not None
    assert sorted(zip(*np.unique(pooled.center, return_counts=True), strict=True)) == [("North", 10), ("South", 11)]
    assert len(set(pooled.cohort.ids)) == 21
    mixed = load_centers("files", None, hospitals, {"name": "fractions", "fractions": [0.5, 0.5]})
    assert sum(len(c) for c in mixed.values()) == 21


def test_a_center_reads_only_its_own_file(hospitals: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "north.csv").unlink()
    assert center_names("files", None, hospitals) == ("North", "South")
    south = load_center("files", None, hospitals, modalities=["genomic"], center="South")
    assert south.schema.names == ("TP53",)
    with pytest.raises(DatasetError, match=r"no such file: .*north\.csv"):
        load_center("files", None, hospitals, center="North")
    with pytest.raises(DatasetError, match="no center is called 'Sout'; did you mean 'South'"):
        load_center("files", None, hospitals, center="Sout")


def test_files_with_other_schemas_name_the_difference(hospitals: dict[str, object], tmp_path: Path) -> None:
    text = (tmp_path / "north.schema.yaml").read_text()
    (tmp_path / "north.schema.yaml").write_text(text.replace("120", "110"))
    with pytest.raises(SchemaError, match=r"north\.csv: the schema differs.*'age': high is 110.0 here and 120.0 there"):
        load_dataset("files", None, hospitals)


def test_wrong_centers_option() -> None:
    with pytest.raises(DatasetError, match="needs the option centers"):
        load_centers("files", None, {"centers": ["a.csv"]})


def test_centers_are_read_once_and_loaders_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    centers._pooled.cache_clear()
    centers._split.cache_clear()
    reads: list[str] = []

    def counted(name: str, *arguments: Any) -> Dataset:
        reads.append(name)
        return load_dataset(name, *arguments)

    monkeypatch.setattr(centers, "load_dataset", counted)
    spec = {"name": "fractions", "fractions": [0.6, 0.3, 0.1]}
    everyone = load_centers("gbsg2", partition=spec, seed=5)
    assert [len(c) for c in everyone.values()] == [412, 205, 69]
    for name in center_names("gbsg2", partition=spec, seed=5):
        loader = pickle.loads(pickle.dumps(partial(load_center, "gbsg2", partition=spec, seed=5, center=name)))
        assert same(loader(), everyone[name])
    assert reads == ["gbsg2"]
    everyone.clear()
    assert len(load_centers("gbsg2", partition=spec, seed=5)) == 3


def test_modalities_do_not_move_patients(data_dir: Path) -> None:
    spec = {"name": "covariate_skew", "feature": "age", "centers": 3}
    full = load_centers("mds_iwg", data_dir, partition=spec)
    genomic = load_centers("mds_iwg", data_dir, partition=spec, modalities=["genomic"])
    for name, cohort in full.items():
        assert cohort.ids.tolist() == genomic[name].ids.tolist()
        assert {f.modality for f in genomic[name].schema.features} == {"genomic"}


def test_no_centers_is_a_clear_error() -> None:
    with pytest.raises(PartitionError, match="'whas500' has no center column"):
        load_centers("whas500")
    with pytest.raises(DatasetError, match="'gbsg2': no center is called 'C03'"):
        load_center("gbsg2", partition={"name": "fractions", "fractions": [0.5, 0.5]}, center="C03")


def test_without_rdata_the_error_says_what_to_install(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdata", None)
    with pytest.raises(DatasetError, match=r"pip install 'haemfed\[data\]'"):
        load_dataset("aml_amlsg", data_dir)


def test_cmml_scores_come_from_the_patients_own_columns(data_dir: Path) -> None:
    cohort = load_dataset("cmml_iwg", data_dir).cohort
    assert [score.name for score in cohort.schema.scores] == ["ipss_r", "ipss_m", "cpss", "cpss_mol"]
    table = cohort.to_frame()
    assert table["wbc"].max() <= 13
    known = table["cpss_mol"].notna()
    assert known.sum() == 223
    # By hand, for a normal karyotype: genes, blasts and anaemia.
    normal = table[known & (table["karyotype_abnormalities"] == 0)]
    genetic = normal[["ASXL1", "NRAS", "SETBP1"]].sum(axis=1) + 2 * normal["RUNX1"]
    points = np.minimum(genetic, 3) + (normal["bone_marrow_blasts"] >= 5) + (normal["wbc"] >= 13)
    expected = points + (normal["hemoglobin"] < 10)
    assert len(normal) > 100
    np.testing.assert_array_equal(normal["cpss_mol"], expected)
    # Each category does worse than the one before.
    death = [cohort.event[(table["cpss_mol"] >= low) & (table["cpss_mol"] <= high)].mean() for low, high in RISK]
    assert death == sorted(death)


RISK = ((0, 0), (1, 1), (2, 3), (4, 6))


def test_slides_are_of_860_patients_and_real_columns_stay(data_dir: Path) -> None:
    everybody, chosen = (
        load_dataset("mds_wsi", data_dir, options).cohort for options in ({}, {"only_with_slide": True})
    )
    real = load_dataset("mds_iwg", data_dir).cohort
    block = [j for j, f in enumerate(everybody.schema.features) if f.modality == "histopathology"]
    has_slide = ~np.isnan(everybody.values[:, block])
    assert len(chosen) == has_slide.all(axis=1).sum() == has_slide.any(axis=1).sum() == 860
    np.testing.assert_array_equal(np.delete(everybody.values, block, axis=1), real.values)
    np.testing.assert_array_equal(everybody.time, real.time)
    np.testing.assert_array_equal(chosen.ids, real.ids[has_slide.all(axis=1)])
    assert "SIMULATED" in available_datasets()["mds_wsi"].description
    with pytest.raises(DatasetError, match="only_with_slide is 'yes'"):
        load_dataset("mds_wsi", data_dir, {"only_with_slide": "yes"})
