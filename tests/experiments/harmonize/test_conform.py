"""haemfed conform: the counts that actors send are those of one process, and a wrong unit in an export is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from experiments.cli import app
from experiments.harmonize.conform import describe, in_words, medians_figure
from experiments.harmonize.conventions import draw_convention
from experiments.harmonize.exports import write_export
from federation import Center, InProcessFederation, run
from federation.conformance import CompareCenters
from federation.randomness import generator
from harmonization import Cohort, Dictionary
from tests.harmonization.rows import draw_cohort

AML = Dictionary.read("aml")
VALUES = [f"values/{bins.feature}" for bins in CompareCenters.of(AML).measured]


def hospital(n: int, seed: int) -> Cohort:
    """Patients with laboratory values as they occur."""
    cohort = draw_cohort(AML, n, seed, decimals=1, missing=0.02)
    rng = np.random.default_rng(seed)
    values = cohort.values.copy()
    for feature in cohort.schema.features:
        if feature.kind == "continuous":
            drawn = feature.reference * 10 ** rng.normal(0, 0.08, n)
            assert feature.high is not None
            values[:, cohort.schema.index(feature.name)] = np.round(np.clip(drawn, feature.low, feature.high), 1)
    return Cohort(cohort.schema, cohort.ids, values, cohort.time, cohort.event, cohort.scores)


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hospitals; at Ulm mmol/L of haemoglobin are written as g/dL."""
    directory = tmp_path_factory.mktemp("hospitals")
    for seed, name in enumerate(("Bari", "Graz", "Lyon", "Ulm")):
        cohort = hospital(30, seed)
        if name == "Ulm":
            values = cohort.values.copy()
            values[:, cohort.schema.index("hemoglobin")] /= 1.611
            cohort = Cohort(cohort.schema, cohort.ids, values, cohort.time, cohort.event, cohort.scores)
        convention = draw_convention(AML, generator(seed, "convention"), "ndjson")
        write_export(name, cohort, AML, convention, directory / "exports" / name, seed)
    options = {"directory": str(directory / "exports"), "dictionary": "aml", "cache": str(directory / "cache")}
    config = {"name": "four", "dataset": {"name": "fhir", "options": options}, "federation": {"hosts": 1}}
    (directory / "four.yaml").write_text(yaml.safe_dump(config))
    return directory / "four.yaml"


def test_command(configuration: Path, cluster: None, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["conform", str(configuration), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1, done.output  # what does not fit is no success
    assert "Ulm: hemoglobin looks like another unit" in done.output
    assert "4 of 4 centers were compared; Ulm does not fit (1 deviation)." in done.output
    results = json.loads((tmp_path / "out" / "conformance.json").read_text())
    (found,) = results["deviations"]
    assert found["ratio"] == pytest.approx(1 / 1.611, rel=1e-3)
    assert results["dictionary"]["hash"] == AML.hash
    page = (tmp_path / "out" / "conformance.html").read_text(encoding="utf-8")
    assert "looks like another unit" in page
    assert page.count("<img") == 1

    # The same from one process, and nothing of a patient in the audit log.
    from experiments.datasets import load_centers

    options = yaml.safe_load(configuration.read_text())["dataset"]["options"]
    cohorts = load_centers("fhir", None, options)
    algorithm = CompareCenters.of(AML)
    federation = InProcessFederation([Center(n, lambda c=c: c, i) for i, (n, c) in enumerate(cohorts.items())])
    expected = describe(algorithm, run(algorithm, federation), federation.roster.names, {})
    assert {key: results[key] for key in expected} == json.loads(json.dumps(expected))
    files = (tmp_path / "out" / "centers" / "audit").iterdir()
    sent = [line for file in files for line in map(json.loads, file.read_text().splitlines()) if "arrays" in line]
    assert sorted(line["center"] for line in sent) == sorted(cohorts)  # once each
    assert all(set(line["arrays"]) == {"least", "present", "altered", "calls", *VALUES} for line in sent)


def test_words_and_figure() -> None:
    fits = {"centers": {"A": "", "B": "too few patients"}, "deviations": [], "medians": {"wbc": {"A": 3.0, "B": None}}}
    assert in_words(fits) == "1 of 2 centers were compared; none deviates."
    assert medians_figure(fits) is None


def test_data_that_no_dictionary_describes(tmp_path: Path) -> None:
    config = {"dataset": {"name": "gbsg2"}, "partition": {"name": "single"}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    done = CliRunner().invoke(app, ["conform", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert not (tmp_path / "out").exists()
