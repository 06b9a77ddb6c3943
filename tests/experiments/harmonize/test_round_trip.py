"""Hospitals' exports of a cohort, each in its own conventions and with faults, come back as the same rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from experiments.harmonize.conventions import Form, draw_convention
from experiments.harmonize.exports import MAPPING, PATIENTS_PER_BUNDLE, read_faults, write_export, write_exports
from experiments.harmonize.faults import FAULTS, LINES_ONLY, Fault
from experiments.harmonize.fhir_export import in_unit
from experiments.harmonize.genomes import report_karyotype, report_variants
from federation.randomness import generator
from harmonization import Cohort, Dictionary, read_cohort, write_cohort
from harmonization.checks import check
from harmonization.extraction.karyotypes import evaluate
from harmonization.harmonize import Harmonized, harmonize
from harmonization.reading import read_resources
from harmonization.tables import harmonize_mapped, read_mapping
from harmonization.validation import validate
from tests.harmonization.rows import draw_cohort, same_cells

AML, MDS = Dictionary.read("aml"), Dictionary.read("mds")
MEASURED = [entry.name for entry in AML.entries if entry.units and entry.kind == "continuous"]
FORMS: tuple[Form, ...] = ("ndjson", "ndjson.gz", "bundles", "csv", "xlsx")


def read_back(directory: Path, dictionary: Dictionary, quarantine: Path) -> Harmonized:
    """A hospital's export as a cohort, by its mapping if there is one."""
    if (directory / MAPPING).exists():
        return harmonize_mapped(directory, read_mapping(directory / MAPPING, dictionary), quarantine=quarantine)
    return harmonize(directory, dictionary, quarantine=quarantine)


def in_order(cohort: Cohort) -> Cohort:
    """Patients by id, as harmonization returns them."""
    return cohort[np.argsort(cohort.ids)]


def not_found(faults: list[Fault], quarantine: Path) -> tuple[list[Fault], int]:
    """Faults that are not in a quarantine file under their kind and place, and how much is there beside them."""
    lines = quarantine.read_bytes().splitlines() if quarantine.exists() else []
    aside = Counter()
    for line in map(orjson.loads, lines):
        resource = line["resource"] or {}
        key = f"{resource['resourceType']}/{resource['id']}" if line["kind"] != "table" and "id" in resource else None
        path = line["path"].partition(".resource.")[2] or line["path"].partition(".")[2]
        row = line["line"] if line["kind"] == "table" else None
        aside[Path(line["file"]).name, line["kind"], line["path"] if row else path, key, row] += 1
    wanted = Counter((f.file, f.kind, f.path if f.row else f.path.partition(".")[2], f.resource, f.row) for f in faults)
    missed = [
        f for f in faults if not aside[f.file, f.kind, f.path if f.row else f.path.partition(".")[2], f.resource, f.row]
    ]
    return missed, (aside - wanted).total()


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a smaller example of so many draws tells nothing more
)
@given(
    seed=st.integers(0, 10**6),
    decimals=st.sampled_from([None, 0, 1, 3]),
    name=st.sampled_from(["aml", "mds"]),
    form=st.sampled_from(FORMS),
    faults=st.integers(0, 6),
)
def test_any_convention(tmp_path: Path, seed: int, decimals: int | None, name: str, form: Form, faults: int) -> None:
    dictionary = {"aml": AML, "mds": MDS}[name]
    cohort = draw_cohort(dictionary, 3, seed, decimals=decimals, missing=0.05)
    convention = draw_convention(dictionary, generator(seed, "convention"), form)
    seeded = write_export("A", cohort, dictionary, convention, tmp_path / "A", seed, faults)
    found = read_back(tmp_path / "A", dictionary, tmp_path / "q.ndjson")
    assert same_cells(found.cohort, in_order(cohort))
    assert not_found(seeded, tmp_path / "q.ndjson") == ([], 0)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_found(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone, in NDJSON and, if it spoils no whole document, in a Bundle."""
    monkeypatch.setattr("experiments.harmonize.exports.FAULTS", {name: FAULTS[name]})
    cohort = draw_cohort(AML, 2, 7, decimals=1)
    for form in ("ndjson", "bundles"):
        if form == "bundles" and name in LINES_ONLY:
            continue
        convention = draw_convention(AML, generator(1, form), form)
        seeded = write_export("A", cohort, AML, convention, tmp_path / "A", 1, 1)
        assert seeded
        found = read_back(tmp_path / "A", AML, tmp_path / "q.ndjson")
        assert same_cells(found.cohort, cohort)
        assert not_found(seeded, tmp_path / "q.ndjson") == ([], 0)


def test_real_hospitals(data_dir: Path, tmp_path: Path) -> None:
    """1,540 patients with acute myeloid leukaemia in their 45 hospitals: every row the same, every fault found."""
    from experiments.datasets.centers import load_centers

    centers = load_centers("aml_amlsg", data_dir)
    assert (len(centers), sum(map(len, centers.values()))) == (45, 1540)
    manifest = write_exports(centers, AML, tmp_path, seed=1, faults=5)
    faults = read_faults(manifest)
    assert sum(map(len, faults.values())) >= 225
    assert {f.name for seeded in faults.values() for f in seeded} >= FAULTS.keys()
    same = 0
    for name, cohort in centers.items():
        found = read_back(tmp_path / name, AML, tmp_path / "q" / f"{name}.ndjson")
        assert same_cells(found.cohort, in_order(cohort)), name
        assert not_found(faults[name], tmp_path / "q" / f"{name}.ndjson") == ([], 0), name
        same += len(found.cohort)
    assert same == 1540


def test_the_same_seed_makes_the_same_bytes(tmp_path: Path) -> None:
    centers = {name: draw_cohort(AML, 4, i, decimals=1) for i, name in enumerate("ABCDEF")}
    for out, seed in (("x", 1), ("y", 1), ("z", 2)):
        write_exports(centers, AML, tmp_path / out, seed)
    files = [{p.relative_to(tmp_path / o): p.read_bytes() for p in (tmp_path / o).rglob("*.*")} for o in "xyz"]
    compared = {p for p in files[0] if p.suffix != ".xlsx"}  # zip files hold the time
    assert files[0].keys() == files[1].keys()
    assert all(files[0][p] == files[1][p] for p in compared)
    assert files[0] != files[2]


def test_hospitals_differ(tmp_path: Path) -> None:
    conventions = [draw_convention(AML, generator(0, "exports", i)) for i in range(60)]
    for part in ("form", "profile", "genes", "genomics", "cytogenetics", "missing", "dates", "order", "flags"):
        assert len({getattr(c, part) for c in conventions}) >= 3 - (part == "cytogenetics"), part
    assert len({c.units["hemoglobin"] for c in conventions}) >= 8
    assert len({c.locale.language for c in conventions}) == 5


def test_exports_are_valid_but_for_their_faults(tmp_path: Path) -> None:
    pytest.importorskip("fhir.resources")
    cohort = draw_cohort(AML, PATIENTS_PER_BUNDLE + 2, 3, decimals=1)[np.arange(24, 27)]
    for i, form in enumerate(FORMS[:3] * 3):
        convention = draw_convention(AML, generator(i), form)
        write_export("A", cohort, AML, convention, tmp_path / "A", i, 0)
        for located in read_resources(tmp_path / "A", pytest.fail):
            assert not check(located.resource)
            if i < 3 and located.resource["resourceType"] != "Bundle":
                assert not validate(located.resource), located.resource


@given(
    seed=st.integers(0, 10**6), entry=st.sampled_from([e for e in AML.entries if e.units and e.kind == "continuous"])
)
@settings(deadline=None)
def test_a_unit_never_changes_a_value(seed: int, entry: object) -> None:
    rng = np.random.default_rng(seed)
    value = float(rng.uniform(0, 100)) if seed % 2 else round(float(rng.uniform(0, 100)), 2)
    for spelling in entry.units.spellings:
        number, unit = in_unit(AML, entry, value, spelling.text)
        assert AML.factors[entry.name, unit].convert(number) == value
        if not seed % 2:
            assert unit == spelling.text  # a decimal comes back from every unit


@given(seed=st.integers(0, 10**6), name=st.sampled_from(["aml", "mds"]))
@settings(deadline=None, max_examples=40)
def test_reports_say_what_the_row_says(seed: int, name: str) -> None:
    dictionary = {"aml": AML, "mds": MDS}[name]
    rng = np.random.default_rng(seed)
    entries = [dictionary[name] for name in dictionary.columns]
    values: dict[str, str | float] = {e.name: float(rng.random() < 0.04) for e in entries if e.variant or e.karyotype}
    text = report_karyotype(dictionary, [e for e in entries if e.karyotype], values, "female")
    for entry in entries if text else ():
        if entry.karyotype:
            assert evaluate(entry.karyotype, str(text), "female") == values[entry.name]
    left = dict(values)
    calls, tested = report_variants([e for e in entries if e.variant], left, True)
    assert {call.gene for call in calls} <= set(tested)
    of_tested = {e.name for e in entries if e.variant and e.variant.gene in tested}
    assert left.keys() == values.keys() - of_tested
    for gene in tested:
        present = any(values[e.name] for e in dictionary.by_gene[gene] if e.name in values)
        assert present == any(call.gene == gene for call in calls)


def test_command(tmp_path: Path) -> None:
    """From a configuration to exports to a cohort, and what is refused on the way."""
    from experiments.cli import app

    run = CliRunner()
    write_cohort(draw_cohort(AML, 30, 5, decimals=1), tmp_path / "aml.parquet")
    config = {"dataset": {"name": "table", "options": {"path": str(tmp_path / "aml.parquet")}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    out = tmp_path / "exports"
    arguments = ["exports", str(tmp_path / "config.yaml"), "--out", str(out), "--seed", "4"]
    done = run.invoke(app, [*arguments, "--centers", "12"])
    assert done.exit_code == 0, done.output
    assert "30 patients in 12 hospitals" in done.output
    manifest = yaml.safe_load((out / "manifest.yaml").read_text())
    assert manifest["hash"] == AML.hash
    table = out / next(n for n, c in manifest["centers"].items() if c["convention"]["form"] == "csv")

    arguments = ["harmonize", str(table), "--mapping", str(table / MAPPING), "--workers", "1"]
    done = run.invoke(app, [*arguments, "--out", str(tmp_path / "cohort")])
    assert done.exit_code == 0, done.output
    assert read_cohort(tmp_path / "cohort" / "cohort.parquet").schema.hash == AML.schema().hash
    assert run.invoke(app, arguments).exit_code == 1  # where to?
    assert run.invoke(app, ["harmonize", str(table), "--out", str(tmp_path / "x")]).exit_code == 1  # which dictionary?

    arguments = ["harmonize", "--init", str(table / "patients.csv"), "--dictionary", "aml"]
    done = run.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "confirm" in (table / "patients.mapping.yaml").read_text()
    assert run.invoke(app, arguments).exit_code == 1  # what a person has confirmed is not overwritten

    assert run.invoke(app, ["exports", "nothing", "--out", str(out)]).exit_code == 1
    done = run.invoke(app, ["exports", str(tmp_path / "config.yaml"), "--centers", "2", "--out", str(tmp_path)])
    assert done.exit_code == 1  # a directory with other things in it
