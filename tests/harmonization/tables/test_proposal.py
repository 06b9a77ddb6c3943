"""Proposed mappings: names in five languages, units by their values, and never applied as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harmonization import Dictionary
from harmonization.tables import MappingError, propose_mapping, read_mapping, read_tables

AML = Dictionary.read("aml")
CORE = Dictionary.read("core")


def propose(path: Path, text: str, dictionary: Dictionary = AML) -> dict[str, Any]:
    """The proposal for one table, as data."""
    path.write_text(text, encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(propose_mapping(path, dictionary))["tables"][path.name]
    return found


def confirmed(data: Any) -> Any:
    """What a person leaves who agrees with everything."""
    if not isinstance(data, dict):
        return data
    return {key: confirmed(value) for key, value in data.items() if not str(key).startswith("confirm")}


NAMES = {
    "en": "Patient ID,Sex,Age,Date of diagnosis,Hemoglobin [g/dL],Platelets,BM blasts,Vital status,Last contact",
    "de": "PatNr,Geschl.,Alter,Erstdiagnose,Hb (g/dl),Thrombozyten,Blasten KM,Vitalstatus,Letzter Kontakt",
    "it": "Codice paziente,Sesso,Età,Data diagnosi,Emoglobina [g/L],Piastrine,Blasti midollo,Deceduto,Ultimo contatto",
    "es": "NHC,Sexo,Edad,Fecha diagnóstico,Hemoglobina [g/dl],Plaquetas,Blastos médula,Exitus,Último contacto",
    "fr": "IPP,Sexe,Âge,Date diagnostic,Hémoglobine [g/l],Plaquettes,Blastes moelle,Statut vital,Dernières nouvelles",
}


@pytest.mark.parametrize("language", NAMES)
def test_names_in_five_languages(tmp_path: Path, language: str) -> None:
    header = NAMES[language]
    found = propose(tmp_path / "t.csv", header + "\n" + "1,m,64,2011-02-03,9.1,80,60,dead,2012-02-03\n")
    names = [column["feature"] for column in found["columns"].values()]
    assert names == [
        "male", "age", "diagnosis", "hemoglobin", "platelets", "bone_marrow_blasts", "vital_status", "last_contact",
    ]  # fmt: skip
    assert found["patient"] == header.split(",")[0]
    assert "ignore" not in found


@pytest.mark.parametrize(
    ("values", "unit", "others"),
    [("9.1 12.4 13.9", "g/dL", "mmol/L"), ("91 124 139", "g/L", ""), ("5.6 7.7 8.6", "mmol/L", "g/dL")],
)
def test_units_by_their_values(tmp_path: Path, values: str, unit: str, others: str) -> None:
    lines = "".join(f"{i},{value}\n" for i, value in enumerate(values.split()))
    column = propose(tmp_path / "t.csv", "pid,Hb\n" + lines)["columns"]["Hb"]
    guessed = {
        column["unit"],
        *(spelling for spelling in ("g/dL", "mmol/L", "g/L") if spelling in column["confirm_unit"]),
    }
    assert unit in guessed
    assert others in column["confirm_unit"]
    assert "guessed" in column["confirm_unit"]


def test_thousands_and_thousandths(tmp_path: Path) -> None:
    column = propose(tmp_path / "t.csv", "pid,Thrombozyten\n1,80000\n2,120000\n3,9000\n")["columns"]["Thrombozyten"]
    assert AML.factors["platelets", column["unit"]].convert(80000.0) == 80.0


def test_nothing_is_applied_unconfirmed(tmp_path: Path) -> None:
    """Every single mark is enough to refuse the file; without any it reads."""
    path = tmp_path / "mapping.yaml"
    text = "pid;Geschlecht;ED;Hb;NPM1;Labor\n1;m;13.02.2011;9,1;pos;x\n2;w;01.03.2012;10,5;k.A.;y\n"
    data = {"dictionary": "aml", "tables": {"t.csv": propose(tmp_path / "t.csv", text)}}

    def marks(tree: dict[str, Any], at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        found = [(*at, key) for key in tree if key.startswith("confirm")]
        return found + [m for key, value in tree.items() if isinstance(value, dict) for m in marks(value, (*at, key))]

    everything = marks(data)
    assert len(everything) >= 9
    for kept in everything:
        tree = confirmed(data)
        branch, original = tree, data
        for key in kept[:-1]:
            branch, original = branch[key], original[key]
        branch[kept[-1]] = original[kept[-1]]
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        with pytest.raises(MappingError, match="nobody has confirmed"):
            read_mapping(path)
    path.write_text(yaml.safe_dump(confirmed(data)), encoding="utf-8")
    found = list(read_tables(read_mapping(path), pytest.fail))
    assert [r.resource["gender"] for r in found if r.resource["resourceType"] == "Patient"] == ["male", "female"]
    (npm1,) = [r.resource for r in found if r.path == "NPM1" and r.line == 3]
    assert npm1["dataAbsentReason"]["coding"][0]["code"] == "unknown"


def test_locale(tmp_path: Path) -> None:
    german = propose(tmp_path / "t.csv", 'pid;Hb;ED\n1;"1.012,5";13.02.2011\n2;9,25;01.02.2011\n')
    assert german["locale"] == {"decimal": ",", "thousands": ".", "date": "DD.MM.YYYY"}
    american = propose(tmp_path / "t.csv", 'pid,Hb,date\n1,"1,012.5",02/13/2011\n2,9.25,02/01/2011\n')
    assert american["locale"] == {"decimal": ".", "thousands": ",", "date": "MM/DD/YYYY"}
    unsure = propose(tmp_path / "t.csv", "pid,date\n1,02/01/2011\n")
    assert "no date tells" in unsure["confirm_locale"]


def test_a_long_table(tmp_path: Path) -> None:
    text = "PatNr;Abnahmedatum;Parameter;Wert;Einheit\n1;2011-02-13;Leukozyten;34,5;G/l\n1;2011-02-13;CRP;5;mg/l\n"
    found = propose(tmp_path / "t.csv", text)
    assert (found["layout"], found["name"], found["value"], found["unit"]) == ("long", "Parameter", "Wert", "Einheit")
    assert found["rows"]["Leukozyten"]["feature"] == "wbc"
    assert "unit" not in found["rows"]["Leukozyten"]  # the table says it
    assert found["ignore_rows"] == ["CRP"]


def test_words_that_nobody_knows_are_left_to_a_person(tmp_path: Path) -> None:
    column = propose(tmp_path / "t.csv", "pid,NPM1\n1,ja\n2,nein\n3,fraglich\n")["columns"]["NPM1"]
    assert column["values"] == {"ja": 1, "nein": 0}
    assert "fraglich" in column["confirm_open"]


def test_genes_by_symbols_of_today_and_before(tmp_path: Path) -> None:
    mds = Dictionary.read("mds")
    columns = propose(tmp_path / "t.csv", "pid,SFRS2,TET2,FLT3-ITD,MLL3\n1,0,1,0,1\n", mds)["columns"]
    assert {name: column["feature"] for name, column in columns.items()} == {
        "SFRS2": "SRSF2", "TET2": "TET2", "FLT3-ITD": "FLT3_ITD", "MLL3": "KMT2C",
    }  # fmt: skip


def test_excel_and_encodings(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (("PatNr", "Hb"), (1, 9.5), (2, 10.25)):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    assert (
        yaml.safe_load(propose_mapping(tmp_path / "t.xlsx", CORE))["tables"]["t.xlsx"]["columns"]["Hb"]["unit"]
        == "g/dL"
    )
    (tmp_path / "t.csv").write_bytes("PatNr;Hämoglobin\n1;9,5\n".encode("cp1252"))
    found = yaml.safe_load(propose_mapping(tmp_path / "t.csv", CORE))["tables"]["t.csv"]
    assert (found["encoding"], found["delimiter"]) == ("cp1252", ";")
    assert found["columns"]["Hämoglobin"]["feature"] == "hemoglobin"
    with pytest.raises(MappingError, match="no such file"):
        propose_mapping(tmp_path / "x.csv", CORE)
