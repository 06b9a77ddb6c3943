"""The conformance report: what its sentences, tables and figures say is what the export holds."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.harmonize.figures import REASONS, draw_all, rows_of_completeness
from experiments.harmonize.report import KINDS, missing_by_reason, render, summary
from harmonization import Dictionary, read_cohort, write_cohort
from harmonization.checks import Kind
from harmonization.dictionary_file import available
from harmonization.extraction.missing import Missing
from harmonization.extraction.report import bin_edges
from harmonization.harmonize import Harmonized
from tests.harmonization.hospital import absent, diagnosis, harmonized, lab, observation, patient, variant, write
from tests.harmonization.rows import draw_cohort, same_cells


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Harmonized:
    """Patient p, whose haemoglobin is measured; q, not done; r, a wrong unit; s, of whom there is no diagnosis."""
    resources = [patient("q"), diagnosis("q"), patient("r"), diagnosis("r"), patient("s")]
    resources += [lab("p", 1, 98, "g/L"), observation("q", 1, ("http://loinc.org", "718-7"), **absent("not-performed"))]
    resources += [lab("r", 1, 9.8, "<b>drops</b>"), lab("r", 2, 5, "U/L", code=("http://loinc.org", "0-0"))]
    return harmonized(tmp_path_factory.mktemp("found"), *resources, variant("p", 2, "NPM1"))


def visible(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.split("</style>")[1])).split())


def test_the_page_says_what_happened(found: Harmonized) -> None:
    page = render(found.counts, "St. <Elsewhere>")
    text = visible(page)
    assert "Conformance of St. <Elsewhere>" in text
    assert "3 of 4 patients are in the cohort. 1 are not" in text
    assert "1 of 12 resources (8.33%) were set aside." in text
    assert "Observation.valueQuantity.unit unit" in text
    assert "hemoglobin g/dL" in text
    assert "g/L: 1" in text
    assert "http://loinc.org|0-0" in text
    assert "<b>drops" not in page  # what a hospital writes is text
    assert found.counts["dictionary"]["hash"][:12] in text


def test_the_page_stands_alone_and_is_well_formed(found: Harmonized) -> None:
    page = render(found.counts, "H")

    class Balanced(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.sources: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.sources += [str(value) for name, value in attrs if name in ("src", "href")]
            if tag not in ("meta", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    reader = Balanced()
    reader.feed(page)
    assert reader.open == []
    assert len(reader.sources) == 2
    assert all(source.startswith("data:image/svg+xml") for source in reader.sources)
    assert render(found.counts, "H") == page  # the same bytes for the same counts


def test_bars_add_up(found: Harmonized) -> None:
    rows = rows_of_completeness(found.counts)
    assert sum(len(names) for names, _ in rows) == len(found.cohort.schema.features) + len(found.cohort.schema.scores)
    assert {sum(parts.values()) for _, parts in rows} == {len(found.cohort)}
    table = found.reasons[found.reasons["feature"] != "patient"]
    assert missing_by_reason(found.counts) == table["reason"].value_counts().to_dict()
    of_hemoglobin = next(parts for names, parts in rows if "hemoglobin" in names)
    assert of_hemoglobin == {"present": 1, "not done": 1, "quarantined": 1}


def test_every_reason_has_a_colour_and_every_kind_words() -> None:
    assert set(REASONS) == {reason.words or "present" for reason in Missing}
    assert len(set(REASONS.values())) == len(REASONS)
    assert set(KINDS) == {*get_args(Kind), "table"}


def test_nothing_to_draw(found: Harmonized) -> None:
    empty = {**found.counts, "features": {}, "patients": {"found": 0, "kept": 0, "lost": {}}}
    assert draw_all(empty) == {}
    assert "0 of 0 patients" in summary(empty)[0]
    assert "<img" not in render(empty, "H")


@pytest.mark.parametrize("name", [name for name in available() if name != "core"])
def test_bins_come_from_the_dictionary_and_hold_every_plausible_value(name: str) -> None:
    dictionary = Dictionary.read(name)
    for feature in dictionary.schema().features:
        if feature.kind in ("continuous", "count") and (edges := bin_edges(dictionary[feature.name])) is not None:
            assert (np.diff(edges) > 0).all()
            assert feature.low is not None
            assert feature.high is not None
            assert edges[0] <= feature.low
            assert edges[-1] >= feature.high
            assert edges[0] <= feature.reference <= edges[-1]


def test_command_writes_the_page(tmp_path: Path) -> None:
    from experiments.cli import app

    source = write(tmp_path / "hospital", [patient("p"), diagnosis("p"), lab("p", 1, 9.8)])
    arguments = ["harmonize", str(source), "--dictionary", "aml", "--out", str(tmp_path / "out"), "--workers", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "Conformance of hospital" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not list((tmp_path / "out").glob(".*"))


def test_a_cohort_goes_to_fhir_and_comes_back_by_command(tmp_path: Path) -> None:
    from experiments.cli import app

    cohort = draw_cohort(Dictionary.read("aml"), 4, 1, decimals=1)
    cohort = cohort[np.argsort(cohort.ids)]
    write_cohort(cohort, tmp_path / "cohort.parquet")
    command = ["fhir", str(tmp_path / "cohort.parquet"), "--dictionary", "aml", "--out", str(tmp_path / "bulk")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "4 " in done.output.splitlines()[0]
    back = [
        "harmonize",
        str(tmp_path / "bulk"),
        "--dictionary",
        "aml",
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    assert CliRunner().invoke(app, [*back, "--workers", "1"]).exit_code == 0
    assert same_cells(read_cohort(tmp_path / "out" / "cohort.parquet"), cohort)
    assert CliRunner().invoke(app, [*command[:3], "mds", *command[4:]]).exit_code == 1
