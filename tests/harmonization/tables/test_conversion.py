"""Tables to resources: each layout, what is refused and where, and what a mapping may not be."""

from __future__ import annotations

import csv
import io
import pickle
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonization import Dictionary
from harmonization.checks import check
from harmonization.reading import Refusal, read_resources
from harmonization.tables import MappingError, convert_tables, harmonize_mapped, read_mapping, read_tables
from harmonization.validation import validate

AML = Dictionary.read("aml")

PATIENTS = """\
PatNr;Geschl;ED;Status;Letzter Kontakt;Alter;Hb;Milz;Typ;Karyotyp;Panel;Mutiert;Name
7;m;03.02.2011;tot;04.02.2013;64;8,9;ja;p;46,XY[20];"NPM1, MLL";NPM1;Maier
8;w;13.12.2012;lebt;01.01.2015;51;k.A.;nein;s;;;;Huber
"""
COLUMNS: dict[str, Any] = {
    "Geschl": {"feature": "male", "values": {"m": 1, "w": 0}},
    "ED": {"feature": "diagnosis"},
    "Status": {"feature": "vital_status", "values": {"tot": 1, "lebt": 0}},
    "Letzter Kontakt": {"feature": "last_contact"},
    "Alter": {"feature": "age", "unit": "a"},
    "Hb": {"feature": "hemoglobin", "unit": "g/dl"},
    "Milz": {"feature": "splenomegaly", "values": {"ja": 1, "nein": 0}},
    "Typ": {"feature": "aml_type", "values": {"p": "primary", "s": "secondary"}},
    "Karyotyp": {"feature": "karyotype"},
    "Panel": {"genes": "tested", "separator": ","},
    "Mutiert": {"genes": "mutated", "separator": ","},
}
LAB = """\
PatNr,Datum,Analyt,Wert,Einheit
7,2011-02-01,WBC,34.5,G/L
7,2011-02-02,WBC,<0.1,Tsd
7,2011-02-02,CRP,5,mg/L
7,2011-02-02,Unbekannt,5,mg/L
7,2011-02-02,PLT,20,Drops
"""
VARIANTS = "PatNr\tGen\tc\tp\tVAF\n7\tIDH2\tc.419G>A\tp.(Arg140Gln)\t42,5\n7\tHGNC:7910\t\t\t\n8\tMLL\t\t\t142\n"

Make = Callable[..., Path]


def column(name: str, **field: Any) -> dict[str, Any]:
    """A change of one column of the wide table."""
    return {"tables": {"patienten.csv": {"columns": COLUMNS | {name: field}}}}


def table(**parts: Any) -> dict[str, Any]:
    """A change of the wide table."""
    return {"tables": {"patienten.csv": parts}}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes tables and their mapping; keywords replace parts of the mapping."""

    def write(**changes: Any) -> Path:
        files = {"patienten.csv": PATIENTS, "lab.csv": LAB, "varianten.tsv": VARIANTS}
        german = {"decimal": ",", "thousands": ".", "date": "DD.MM.YYYY"}
        tables: dict[str, Any] = {
            "patienten.csv": {
                "delimiter": ";", "patient": "PatNr", "locale": german, "missing": {"k.A.": "unknown"},
                "columns": COLUMNS, "ignore": ["Name"],
            },
            "lab.csv": {
                "layout": "long", "patient": "PatNr", "date": "Datum", "name": "Analyt", "value": "Wert",
                "unit": "Einheit", "ignore_rows": ["CRP"],
                "rows": {"WBC": {"feature": "wbc", "units": {"Tsd": "Tsd/µl"}}, "PLT": {"feature": "platelets"}},
            },
            "varianten.tsv": {
                "layout": "variants", "patient": "PatNr", "gene": "Gen", "coding_change": "c", "protein_change": "p",
                "allele_frequency": "VAF", "allele_frequency_unit": "%", "delimiter": "\t", "locale": german,
            },
        }  # fmt: skip
        mapping = {"dictionary": "aml", "tables": tables}
        for name, table in changes.pop("tables", {}).items():
            tables[name] = tables.get(name, {}) | table
        for name, text in (files | changes.pop("files", {})).items():
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        path = tmp_path / "mapping.yaml"
        path.write_text(yaml.safe_dump(mapping | changes, allow_unicode=True, sort_keys=False), encoding="utf-8")
        return path

    return write


def read(path: Path) -> tuple[dict[tuple[str, int, str], list[dict[str, Any]]], list[Refusal]]:
    """Resources by table, row and column, and what was refused."""
    refused: list[Refusal] = []
    found: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for located in read_tables(read_mapping(path, AML), refused.append):
        found.setdefault((Path(located.file).name, located.line, located.path), []).append(located.resource)
    return found, refused


def test_a_wide_table(make: Make) -> None:
    found, _ = read(make())
    patient, condition = found["patienten.csv", 2, "patient"]
    assert (patient["id"], patient["gender"], patient["deceasedDateTime"]) == ("7", "male", "2013-02-04")
    assert condition["onsetDateTime"] == "2011-02-03"
    (hb,) = found["patienten.csv", 2, "Hb"]
    assert hb["valueQuantity"] == {"value": 8.9, "unit": "g/dl", "system": "http://unitsofmeasure.org", "code": "g/dl"}
    assert hb["effectiveDateTime"] == "2011-02-03"
    (unknown,) = found["patienten.csv", 3, "Hb"]
    assert unknown["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert "valueQuantity" not in unknown
    alive, _, contact = found["patienten.csv", 3, "patient"]
    assert alive["deceasedBoolean"] is False
    assert contact["valueDateTime"] == "2015-01-01"
    (panel,) = found["patienten.csv", 2, "Panel"]
    assert [c["valueCodeableConcept"]["text"] for c in panel["component"]] == ["NPM1", "KMT2A"]
    assert ("patienten.csv", 3, "Panel") not in found  # an empty cell is no cell


def test_a_long_table(make: Make) -> None:
    found, refused = read(make())
    (wbc,) = found["lab.csv", 2, "WBC"]
    assert wbc["valueQuantity"] == {"value": 34.5, "unit": "G/L"}  # a unit that UCUM reads as gauss stays a text
    assert wbc["effectiveDateTime"] == "2011-02-01"
    (below,) = found["lab.csv", 3, "WBC"]
    assert below["valueQuantity"] == {"value": 0.1, "comparator": "<", "unit": "Tsd/µl"}
    at = {(Path(r.file).name, r.line, r.path): r for r in refused}
    assert at["lab.csv", 5, "Analyt"].value == "Unbekannt"
    assert "Drops" in at["lab.csv", 6, "PLT"].reason


def test_a_table_of_variants(make: Make) -> None:
    found, refused = read(make())
    (idh2,) = found["varianten.tsv", 2, "Gen"]
    parts = [part["valueCodeableConcept"]["text"] for part in idh2["component"][:3]]
    assert parts == ["IDH2", "c.419G>A", "p.(Arg140Gln)"]
    assert idh2["component"][3]["valueQuantity"]["value"] == 0.425
    (npm1,) = found["varianten.tsv", 3, "Gen"]
    assert npm1["component"][0]["valueCodeableConcept"]["text"] == "NPM1"
    assert any(r.line == 4 and r.path == "VAF" and r.value == "142" for r in refused)


def test_what_comes_out_is_valid(make: Make, tmp_path: Path) -> None:
    pytest.importorskip("fhir.resources")
    refused: list[Refusal] = []
    count = convert_tables(read_mapping(make()), tmp_path / "out", refused.append)
    resources = [located.resource for located in read_resources(tmp_path / "out", pytest.fail)]
    assert len(resources) == count
    assert not [problem for r in resources for problem in (*check(r), *validate(r))]
    assert len({(r["resourceType"], r["id"]) for r in resources}) == count
    (hb,) = [r for r in resources if r["id"].startswith("7.hemoglobin")]
    assert hb["meta"]["source"] == "patienten.csv#row=2&column=Hb"


def test_tables_become_a_cohort(make: Make, tmp_path: Path) -> None:
    path = make()
    found = harmonize_mapped(tmp_path, read_mapping(path), quarantine=tmp_path / "q.ndjson")
    cohort = found.cohort
    assert cohort.ids.tolist() == ["7", "8"]
    assert cohort.time.tolist() == [732 / 365.25, 749 / 365.25]
    assert cohort.event.tolist() == [True, False]
    row = {name: cohort.column(name)[0] for name in ("hemoglobin", "age", "male", "NPM1", "MLL_PTD", "wbc", "minus7")}
    # The count is below the limit at the later date; KMT2A was tested, and no duplication reported.
    expected = {"hemoglobin": 8.9, "age": 64, "male": 1, "NPM1": 1, "MLL_PTD": 0, "minus7": 0}
    assert {name: value for name, value in row.items() if value == value} == expected
    assert found.quarantine.kinds["table"] == 3


@pytest.mark.parametrize(
    ("line", "column", "value"),
    [
        ("9;m;03.02.2011;lebt;01.01.2015;64;12.5;;;;;;", "Hb", "12.5"),
        ("9;m;31.02.2011;lebt;01.01.2015;64;;;;;;;", "ED", "31.02.2011"),
        ("9;x;03.02.2011;lebt;01.01.2015;64;;;;;;;", "Geschl", "x"),
        ("9;m;03.02.2011;lebt;01.01.2015;64;;vielleicht;;;;;", "Milz", "vielleicht"),
        ("9;m;03.02.2011;lebt;01.01.2015;64;;;;;NPM1 und FLT3;;", "Panel", "NPM1 und FLT3"),
        ("7;w;;;;;;;;;;;", "Geschl", "w"),
        (";m;03.02.2011;lebt;01.01.2015;64;;;;;;;", "PatNr", None),
    ],
)
def test_wrong_cells_are_named(make: Make, line: str, column: str, value: str | None) -> None:
    _, refused = read(make(files={"patienten.csv": PATIENTS + line + "\n"}))
    (refusal,) = [r for r in refused if Path(r.file).name == "patienten.csv"]
    assert (refusal.line, refusal.path, refusal.value, refusal.kind) == (4, column, value, "table")


def test_a_wrong_cell_spoils_nothing_else(make: Make) -> None:
    sound, _ = read(make())
    found, _ = read(make(files={"patienten.csv": PATIENTS.replace("8,9", "8.9")}))
    del sound["patienten.csv", 2, "Hb"]
    assert found == sound


def test_survival_in_days_becomes_dates(make: Make) -> None:
    """Exactly: days over 365.25 is not what a factor of 1/365.25 gives."""
    text = "id,os,dead\nA,1085,1\nB,17,0\nC,2.5,0\n"
    columns = {"os": {"feature": "overall_survival", "unit": "d"}, "dead": {"feature": "vital_status"}}
    path = make(
        diagnosis_day=date(2001, 1, 1), tables={"t.csv": {"patient": "id", "columns": columns}}, files={"t.csv": text}
    )
    found, _ = read(path)
    assert found["t.csv", 2, "patient"][0]["deceasedDateTime"] == "2003-12-22"
    assert found["t.csv", 3, "patient"][2]["valueDateTime"] == "2001-01-18"
    assert found["t.csv", 4, "os"][0]["valueQuantity"]["value"] == 2.5
    assert ("t.csv", 2, "os") not in found


def test_excel(make: Make, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    page = book.create_sheet("Labor")
    for row in [
        ("Pat", "Hb", "ED", "ok"),
        (7.0, 8.9, date(2011, 2, 3), True),
        (8, date(2009, 8, 1), "3.2.2011", False),
    ]:
        page.append(row)
    book.save(tmp_path / "t.xlsx")
    columns = {
        "Hb": COLUMNS["Hb"],
        "ED": COLUMNS["ED"],
        "ok": {"feature": "splenomegaly", "values": {"true": 1, "false": 0}},
    }
    labor = {"sheet": "Labor", "patient": "Pat", "columns": columns, "locale": {"date": "DD.MM.YYYY", "decimal": ","}}
    mapping = {"dictionary": "aml", "tables": {"t.xlsx": labor}}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(mapping))
    found, refused = read(tmp_path / "m.yaml")
    assert found["t.xlsx", 2, "patient"][0]["id"] == "7"
    assert found["t.xlsx", 2, "Hb"][0]["valueQuantity"]["value"] == 8.9
    assert [c["onsetDateTime"] for n in (2, 3) for c in found["t.xlsx", n, "patient"][1:]] == ["2011-02-03"] * 2
    assert found["t.xlsx", 3, "ok"][0]["valueCodeableConcept"]["coding"][0]["display"] == "Absent"
    assert [(r.line, r.path) for r in refused] == [(3, "Hb")]  # 8.9 that Excel took for the first of August


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (column("Hb", feature="hemoglobin"), "needs its unit"),
        (column("Hb", feature="hemoglobin", unit="g/dL", confirm="?"), "nobody has confirmed"),
        (column("Hb", feature="hemoglobine", unit="g/dL"), "did you mean 'hemoglobin'"),
        (column("Hb", feature="hemoglobin", unit="g/DL"), "'Hb', key 'unit', value 'g/DL'"),
        (column("Hb", unit="g/dL"), "is one of feature, patient, genes"),
        (column("Milz", feature="splenomegaly", values={"ja": 2}), "is 0 or 1"),
        (column("Milz", feature="splenomegaly", unit="%"), "has no unit"),
        (column("Typ", feature="aml_type", values={"p": "primaer"}), "'primary'"),
        (table(confirm_locale="?"), "nobody has confirmed"),
        (table(missing={"x": "lost"}), "value 'lost'"),
        (table(missing={"JA": "unknown"}), "'Milz', key 'values', value 'ja'"),
        (table(locale={"date": "DD.MM.YY"}), "two digits"),
        (table(colums={}), "did you mean 'columns'"),
        ({"tables": {"lab.csv": {"rows": None}}}, "must be a mapping"),
        ({"codes": {"x|y": "hemoglobin"}}, "one of the two"),
        ({"diagnosis_day": "2001-02-30"}, "no calendar"),
        ({"dictionary": 5}, "must be text"),
    ],
)  # fmt: skip
def test_mappings_that_are_none(make: Make, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MappingError) as caught:
        read_mapping(make(**changes))
    assert words in str(caught.value)
    assert "mapping.yaml" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (table(ignore=[]), "'Name': is not in the mapping"),
        (table(patient="Patient"), "no such column; there are PatNr"),
        ({"files": {"patienten.csv": PATIENTS.replace(";Name", ";Hb")}}, "occurs twice"),
        ({"files": {"patienten.csv": PATIENTS.replace("Maier", "Mäier").encode("latin-1")}}, "not utf-8"),
        ({"files": {"patienten.csv": ""}}, "is empty"),
        ({"tables": {"nichts.csv": {"patient": "x", "columns": {}}}}, "nichts.csv: no such file"),
    ],
)
def test_tables_that_are_not_as_mapped(make: Make, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MappingError, match=words):
        list(read_tables(read_mapping(make(**changes)), lambda _: None))


def test_rows_with_surplus_cells(make: Make) -> None:
    """A decimal comma in a table with commas."""
    _, refused = read(make(files={"lab.csv": LAB + "7,2011-02-02,WBC,3,5,G/L\n"}))
    assert [r.reason for r in refused if r.line == 7] == [
        "more cells than the header; look for a stray delimiter or decimal comma"
    ]


def test_local_codes_of_a_fhir_source(tmp_path: Path) -> None:
    from harmonization.writing import write_fhir
    from tests.harmonization.rows import draw_cohort

    cohort = draw_cohort(AML, 3, 1, decimals=1, missing=0)
    write_fhir(cohort, AML, tmp_path / "fhir")
    observations = tmp_path / "fhir" / "Observation.ndjson"
    text = observations.read_bytes()
    local = text.replace(b'"system":"http://loinc.org","code":"718-7"', b'"system":"urn:lab","code":"HB"')
    assert local != text
    observations.write_bytes(local)
    (tmp_path / "m.yaml").write_text('dictionary: aml\ncodes: {"urn:lab|HB": hemoglobin}\n')
    found = harmonize_mapped(tmp_path / "fhir", read_mapping(tmp_path / "m.yaml"))
    assert found.cohort.column("hemoglobin").tolist() == cohort.column("hemoglobin").tolist()


def test_the_mappings_of_the_documentation_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "tables.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        (tmp_path / "mapping.yaml").write_text(block, encoding="utf-8")
        mapping = read_mapping(tmp_path / "mapping.yaml")
        assert mapping.dictionary.hash == AML.hash
        assert bool(mapping.tables) != bool(mapping.codes)


CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "ja", "m", "8,9", "<0,1", "03.02.2011", "46,XX[20]", "NPM1, TP53", "tot", "k.A.", "p", "1e400", "≤", "<"]
    ),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELLS, min_size=13, max_size=13), min_size=1, max_size=4))
def test_any_cell_is_read_or_refused(make: Make, rows: list[list[str]]) -> None:
    """Whatever stands in a table: no error, and what comes out is R4."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=";")
    writer.writerow(PATIENTS.partition("\n")[0].split(";"))
    writer.writerows(rows)
    try:
        encoded = text.getvalue().encode()
    except UnicodeEncodeError:
        return
    found, refused = read(make(files={"patienten.csv": encoded}))
    for resources in found.values():
        for resource in resources:
            assert {problem.kind for problem in check(resource)} <= {"date"}, resource
    assert all(refusal.kind == "table" and refusal.line and refusal.reason for refusal in refused)
