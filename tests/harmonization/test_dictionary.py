"""Data dictionaries: they say what the data sets hold, every code and factor is right, and a slip is named."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harmonization.codes import FEATURE, HGNC, LOINC, SNOMED, VALUE
from harmonization.dictionary import DIAGNOSIS, Dictionary, Entry, Factor
from harmonization.dictionary_file import available
from harmonization.errors import DictionaryError, UnitError
from harmonization.schema import implications_among
from harmonization.units import factor

DISEASES = ("aml", "cmml", "mds", "mm")
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def dictionaries() -> dict[str, Dictionary]:
    return {name: Dictionary.read(name) for name in available()}


@pytest.fixture(scope="module")
def aml(dictionaries: dict[str, Dictionary]) -> Dictionary:
    return dictionaries["aml"]


def test_one_for_each_disease() -> None:
    assert available() == ("aml", "cmml", "core", "mds", "mm")


# What they say about the data sets.


@pytest.mark.parametrize(("name", "dataset"), [("aml", "aml_amlsg"), ("mds", "mds_iwg")])
def test_schema_is_that_of_the_data_set(name: str, dataset: str, data_dir: Path) -> None:
    from experiments.datasets import load_dataset

    expected = load_dataset(dataset, data_dir).cohort.schema
    schema = Dictionary.read(name).schema()
    assert schema.difference(expected) is None
    assert schema.hash == expected.hash


def test_clinical_features_are_those_of_the_adapters(dictionaries: dict[str, Dictionary]) -> None:
    """Without the data: the features that do not depend on which mutations recur."""
    from experiments.datasets import aml_amlsg, mds_iwg

    n, aml = len(aml_amlsg.CLINICAL_FEATURES), dictionaries["aml"].schema()
    assert aml.features[:n] == aml_amlsg.CLINICAL_FEATURES
    assert aml.implications == implications_among(aml_amlsg.IMPLICATIONS, aml.names)
    expected = (*mds_iwg.CLINICAL_FEATURES, *mds_iwg.CYTOGENETIC_FEATURES)
    assert dictionaries["mds"].schema().features[: len(expected)] == expected


@pytest.mark.parametrize("name", DISEASES)
def test_core_is_in_every_dictionary(name: str, dictionaries: dict[str, Dictionary]) -> None:
    """The features that the core promises, but for those that make no sense in a disease."""
    asked = [
        "age",
        "male",
        "hemoglobin",
        "platelets",
        "neutrophils",
        "wbc",
        "monocytes",
        "ferritin",
        "ldh",
        "creatinine",
        "albumin",
        "beta2_microglobulin",
        "calcium",
        "m_protein",
        "kappa_light_chains",
        "lambda_light_chains",
        "light_chain_ratio",
        "karyotype",
        "genes_tested",
        "treatment_start",
        "transplant",
        "vital_status",
        "last_contact",
        "overall_survival",
        "ipssr_cytogenetics",
        "fish_del5q",
        "fish_del17p",
        "diagnosis",
    ]
    assert [feature for feature in asked if feature not in dictionaries[name]] == []
    if name in ("mds", "cmml"):
        assert dictionaries[name]["transformation"].aggregate == "first"
        assert dictionaries[name]["leukaemia_free_survival"].derive == "leukaemia_free_survival"
    else:
        assert "transformation" not in dictionaries[name]


# Codes.


def test_sourced_codes_are_where_their_source_says(dictionaries: dict[str, Dictionary], data_dir: Path) -> None:
    """Code, display and provenance of the verified list, code for code."""
    path = data_dir / "fhir" / "codes_verified.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    verified = json.loads(path.read_text(encoding="utf-8"))
    loinc = {entry["code"]: entry for entry in verified["loinc"]}
    genes = {code: symbol for symbol, code in verified["hgnc"]["codes"].items()}
    diseases = set(verified["oncotree_ncit"]["codes"].values())
    compared = 0
    for dictionary in dictionaries.values():
        for where, code in dictionary.codes():
            if code.system == LOINC and code.code in loinc:
                assert code.display == loinc[code.code]["display"], where
                assert loinc[code.code]["source"].startswith(code.source or "no source"), where
                compared += 1
            if code.system == HGNC and code.code in genes:
                assert code.display == genes[code.code]
                compared += 1
            if code.source and "oncotree" in code.source:
                assert code.code in diseases
                compared += 1
    assert compared > 200


def test_every_verified_laboratory_code_is_used(dictionaries: dict[str, Dictionary], data_dir: Path) -> None:
    path = data_dir / "fhir" / "codes_verified.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    used = {code.code for dictionary in dictionaries.values() for _, code in dictionary.codes()}
    verified = json.loads(path.read_text(encoding="utf-8"))
    assert {entry["code"] for entry in verified["loinc"]} - used == set()
    assert set(verified["oncotree_ncit"]["codes"].values()) - used == set()


def test_unverified_codes_are_listed_in_the_documentation(dictionaries: dict[str, Dictionary]) -> None:
    """A code without a source is marked so, and told to the reader: system by system, none more and none less."""
    codes = {code.key for dictionary in dictionaries.values() for _, code in dictionary.unverified()}
    text = (ROOT / "docs" / "dictionary.md").read_text(encoding="utf-8")
    listed = text.split("## Codes without a source")[1]
    found = {
        (system, code)
        for system, line in re.findall(r"^- `(\S+)`: (.*)$", listed, re.MULTILINE)
        for code in re.findall(r"`([^`]+)`", line)
    }
    expected = "\n".join(
        f"- `{system}`: {', '.join(f'`{code}`' for s, code in sorted(codes) if s == system)}"
        for system in sorted({system for system, _ in codes})
    )
    assert found == codes, f"the list should be\n{expected}"


def test_no_two_meanings_of_one_code(dictionaries: dict[str, Dictionary]) -> None:
    """One display for each code, in each dictionary (within one language)."""
    for dictionary in dictionaries.values():
        displays: dict[tuple[str, str], set[str]] = {}
        for _, code in dictionary.codes():
            displays.setdefault(code.key, set()).add(code.display)
        several = {key: found for key, found in displays.items() if len(found) > 1 and "icd-10-gm" not in key[0]}
        assert several == {}


# Units.


def _declared(dictionaries: dict[str, Dictionary]) -> list[tuple[str, str, str, Fraction, float | None]]:
    rows = {
        (spelling.text, units.ucum, spelling.factor, units.molar_mass): entry.name
        for dictionary in dictionaries.values()
        for entry in dictionary.entries
        if (units := entry.units)
        for spelling in units.spellings
        if spelling.ucum
    }
    return [(name, text, ucum, ratio, mass) for (text, ucum, ratio, mass), name in rows.items()]


def test_declared_factors_against_pint(dictionaries: dict[str, Dictionary]) -> None:
    """Every UCUM spelling's factor, by another implementation of units."""
    ucumvert = pytest.importorskip("ucumvert")
    registry = ucumvert.PintUcumRegistry()
    rows = _declared(dictionaries)
    for name, text, ucum, ratio, mass in rows:
        if text in ("g%", "mg%"):  # ucumvert takes g% for a hundredth of a gram
            text = text.replace("g%", "g/dL")
        a, b = registry.from_ucum(text), registry.from_ucum(ucum)
        if not hasattr(a, "to_base_units"):  # an annotation alone
            a = registry.from_ucum("1")
        if a.dimensionality != b.dimensionality:
            assert mass is not None, (name, text)
            molar = mass * registry.from_ucum("g") / registry.from_ucum("mol")
            a = a * molar if "[mass]" in str(b.dimensionality) else a / molar
        computed = (a.to(b.units) / b).magnitude
        assert computed == pytest.approx(float(ratio), rel=1e-3), (name, text)
    assert len(rows) > 80


@pytest.mark.parametrize("name", available())
def test_local_spellings_mean_nothing_else(name: str, dictionaries: dict[str, Dictionary]) -> None:
    """What is taken at the dictionary's word is no UCUM unit that converts."""
    for units in {entry.units for entry in dictionaries[name].entries if entry.units}:
        for spelling in units.spellings:
            if not spelling.ucum:
                with pytest.raises(UnitError):
                    factor(spelling.text, units.ucum, units.molar_mass)


@pytest.mark.parametrize(
    ("feature", "unit", "value", "expected"),
    [
        ("hemoglobin", "g/L", 121, 12.1),
        ("hemoglobin", "mmol/L", 7.5, 12.0825),
        ("hemoglobin", "g%", 12.1, 12.1),
        ("platelets", "G/l", 150, 150),
        ("platelets", "K/µL", 150, 150),
        ("platelets", "K/μL", 150, 150),  # the other mu
        ("platelets", "Tsd/µl", 150, 150),
        ("platelets", "Gpt/l", 150, 150),
        ("platelets", "/uL", 150000, 150),
        ("wbc", "10^9/L", 4.5, 4.5),
        ("ldh", "µkat/L", 4.17, 250.2),
        ("ldh", "IU/L", 250, 250),
        ("creatinine", "µmol/L", 88.4, 1),
        ("calcium", "mEq/L", 5, 2.5),
        ("beta2_microglobulin", "nmol/L", 1000, 11.8),
        ("age", "mo", 600, 50),
    ],
)
def test_hospitals_units(aml: Dictionary, feature: str, unit: str, value: float, expected: float) -> None:
    assert aml.factors[feature, unit].convert(value) == expected


@pytest.mark.parametrize(
    ("feature", "unit"), [("hemoglobin", "g"), ("platelets", "%"), ("albumin", "mmol/L"), ("hemoglobin", "")]
)
def test_other_units_are_not_guessed(aml: Dictionary, feature: str, unit: str) -> None:
    assert (feature, unit) not in aml.factors


ALL_FACTORS = sorted({factor for name in DISEASES for factor in Dictionary.read(name).factors.values()})


@given(st.integers(0, 10**15 - 1), st.integers(-3, 15), st.sampled_from(ALL_FACTORS))
def test_what_was_converted_comes_back(digits: int, places: int, factor: Factor) -> None:
    """A decimal, sent in any unit of any dictionary as the nearest float, is the same float in the canonical unit."""
    value = Fraction(digits) / Fraction(10) ** places
    sent = float(value * Fraction(factor.divisor) / Fraction(factor.multiplier))
    assert factor.convert(sent) == float(value)


# Looking things up.


def test_by_code(aml: Dictionary) -> None:
    assert [e.name for e in aml.by_code[LOINC, "718-7"]] == ["hemoglobin"]
    assert [e.name for e in aml.by_code["urn:oid:2.16.840.1.113883.6.1", "718-7"]] == ["hemoglobin"]
    assert [e.name for e in aml.by_code[FEATURE, "minus5_5q"]] == ["minus5_5q"]
    for atc in ("http://www.whocc.no/atc", "http://fhir.de/CodeSystem/bfarm/atc"):
        assert [e.name for e in aml.by_code[atc, "L01XX52"]] == ["venetoclax", "treatment_start"]
    assert (LOINC, "26447-3") not in aml.by_code


@pytest.mark.parametrize("name", available())
def test_every_feature_is_found_by_its_own_code(name: str, dictionaries: dict[str, Dictionary]) -> None:
    for entry in dictionaries[name].entries:
        assert dictionaries[name].by_code[entry.own_code.key] == (entry,)
        assert entry in dictionaries[name].by_code[entry.concept.key]


def test_by_gene(aml: Dictionary) -> None:
    assert [e.name for e in aml.by_gene["FLT3"]] == ["FLT3_ITD", "FLT3_TKD", "FLT3_other"]
    assert aml.by_gene["HGNC:3765"] == aml.by_gene["FLT3"]
    assert [e.name for e in aml.by_gene["MLL2"]] == [e.name for e in aml.by_gene["KMT2D"]] == ["MLL2"]
    assert [e.name for e in aml.by_gene["MLL"]] == ["MLL_PTD"]
    mutations = [e for e in aml.entries if e.source == "variant"]
    assert {e.name for found in aml.by_gene.values() for e in found} == {e.name for e in mutations}


def test_coded_values(aml: Dictionary) -> None:
    ecog = aml["ecog"].meaning
    assert ecog[SNOMED, "423053003"] == 3
    assert ecog[LOINC, "LA9622-7"] == 0
    assert aml["male"].meaning["http://hl7.org/fhir/administrative-gender", "female"] == 0
    assert aml["NPM1"].meaning["urn:oid:2.16.840.1.113883.6.1", "LA9633-4"] == 1
    assert aml["aml_type"].meaning[VALUE, "aml_type:secondary"] == "secondary"


@pytest.mark.parametrize("name", available())
def test_every_category_can_be_written_and_read(name: str, dictionaries: dict[str, Dictionary]) -> None:
    for entry in dictionaries[name].entries:
        for value in (*entry.categories, *(answer.value for answer in entry.answers)):
            assert entry.meaning[entry.answer(value).key] == value
    with pytest.raises(DictionaryError, match="no such value"):
        dictionaries["aml"]["aml_type"].answer("tertiary")


def test_features_by_name(aml: Dictionary) -> None:
    assert "age" in aml
    assert aml[DIAGNOSIS].kind == "date"
    with pytest.raises(DictionaryError, match="haemoglobin"):
        aml["haemoglobin"]
    with pytest.raises(DictionaryError, match="no column"):
        aml[DIAGNOSIS].feature()


def test_core_makes_no_cohort(dictionaries: dict[str, Dictionary]) -> None:
    with pytest.raises(DictionaryError, match="no columns"):
        dictionaries["core"].schema()


# The hash.


def test_hash_is_that_of_the_content(aml: Dictionary, tmp_path: Path) -> None:
    """Not of the layout, nor of the place; and it survives a journey."""
    copy = tmp_path / "copy.yaml"
    copy.write_text("extends: aml\nname: aml\nversion: '1'\nfeatures: {}\n", encoding="utf-8")
    again = Dictionary.read(copy)
    assert (again.hash, again.difference(aml)) == (aml.hash, None)
    assert again.source != aml.source
    assert pickle.loads(pickle.dumps(aml)).hash == aml.hash


def _other(entry: Entry) -> Entry:
    return replace(entry, high=99.0) if entry.name == "hemoglobin" else entry


def _grouped(entry: Entry) -> Entry:
    return replace(entry, edges=(8.0, 10.0)) if entry.name == "hemoglobin" else entry


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: replace(d, version="2"), "version is '1' here and '2' there"),
        (lambda d: replace(d, columns=d.columns[1:]), "columns is"),
        (lambda d: replace(d, entries=d.entries[1:]), "entries: 'diagnosis' exists here only"),
        (lambda d: replace(d, entries=tuple(map(_other, d.entries))), "'hemoglobin': high is 25.0 here and 99.0 there"),
        (
            lambda d: replace(d, entries=tuple(map(_grouped, d.entries))),
            "'hemoglobin': edges is None here and [8.0, 10.0]",
        ),
        (lambda d: replace(d, entries=d.entries[::-1]), "entries are in another order"),
        (lambda d: replace(d, genes=d.genes[1:]), "genes: 'ASXL1' exists here only"),
        (lambda d: replace(d, concepts={**d.concepts, "report": ()}), "'report': codes is"),
    ],
)
def test_differences(aml: Dictionary, change: Callable[[Dictionary], Dictionary], said: str) -> None:
    other = change(aml)
    assert other.hash != aml.hash
    assert (aml.difference(other) or "").startswith(said)


def test_displays_do_not_hide_in_the_hash(aml: Dictionary) -> None:
    """A code is what it stands for, too: another source or display is another dictionary."""
    first = aml.entries[0]
    code = replace(first.codes[0], display="something else")
    entry = replace(first, codes=(code, *first.codes[1:]))
    assert replace(aml, entries=(entry, *aml.entries[1:])).hash != aml.hash


# Files of one's own, and slips in them.

GOOD: dict[str, Any] = {
    "name": "own",
    "version": "1",
    "extends": "mds",
    "features": {"hemoglobin": {"high": 22}, "erythropoietin": {"kind": "continuous", "source": "observation"}},
}


TYPE = {"kind": "categorical", "source": "observation", "categories": ["a", "b"]}


def _write(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "own.yaml"
    data = {**GOOD, **changes}
    path.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}, sort_keys=False), encoding="utf-8")
    return path


def test_a_dictionary_of_ones_own(tmp_path: Path, dictionaries: dict[str, Dictionary]) -> None:
    epo = {
        "kind": "continuous",
        "source": "observation",
        "codes": [
            {"loinc": "15061-5", "display": "Erythropoietin (EPO) [Units/volume] in Serum or Plasma", "source": None}
        ],
        "units": {"unit": "U/L", "ucum": "[IU]/L", "spellings": {"[IU]/L": 1, "m[IU]/mL": 1}, "local": {"IU/L": 1}},
        "low": 0,
    }
    path = _write(
        tmp_path,
        features={"hemoglobin": {"high": 22, "edges": [8, 10]}, "erythropoietin": epo},
        without=["ipss_m"],
        cohort={"columns": ["age", "hemoglobin", "erythropoietin"]},
    )
    own = Dictionary.read(path)
    assert [f.name for f in own.schema().features] == ["age", "hemoglobin", "erythropoietin"]
    assert own["hemoglobin"] == replace(dictionaries["mds"]["hemoglobin"], high=22.0, edges=(8.0, 10.0))
    assert own.schema().features[1].edges == (8.0, 10.0)
    assert own.factors["erythropoietin", "m[IU]/mL"].convert(12) == 12
    assert ("erythropoietin", own["erythropoietin"].codes[0]) in own.unverified()
    assert "ipss_m" not in own


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "dictionary.md").read_text(encoding="utf-8")
    example = tmp_path / "own.yaml"
    example.write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    assert Dictionary.read(example).factors["c_reactive_protein", "mg/dL"].convert(2) == 20


def _epo(**changes: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "kind": "continuous",
        "source": "observation",
        "codes": [{"loinc": "15061-5", "source": None}],
        "units": {"unit": "g/L", "spellings": {"g/L": 1}},
    }
    entry.update(changes)
    return {"epo": {k: v for k, v in entry.items() if v is not None}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 1}, ["'version'", "value 1", "quotes"]),
        ({"version": None}, ["'version'", "missing"]),
        ({"extends": "mdss"}, ["'mdss'", "did you mean 'mds'"]),
        ({"featuers": {}}, ["'featuers'", "did you mean 'features'"]),
        ({"without": ["ipssm"]}, ["'without'", "did you mean 'ipss_m'"]),
        ({"features": []}, ["'features'", "mapping"]),
        ({"features": _epo(kind="continous")}, ["'epo'", "'kind'", "did you mean 'continuous'"]),
        ({"features": _epo(kind=None)}, ["'epo'", "'kind'", "missing"]),
        ({"features": _epo(unit="g/L")}, ["'epo'", "did you mean 'units'"]),
        ({"features": _epo(source="obsevation")}, ["did you mean 'observation'"]),
        ({"features": _epo(aggregate="last")}, ["'aggregate'", "'last'"]),
        ({"features": _epo(aggregate="count")}, ["'aggregate'", "count counts"]),
        ({"features": _epo(absence=False)}, ["'absence'", "False"]),
        ({"features": _epo(window={"before": -1})}, ["window: before", "-1"]),
        ({"features": _epo(window={"from": 1})}, ["'from'", "use one of before, after"]),
        ({"features": _epo(low="0")}, ["'low'", "finite number"]),
        ({"features": _epo(low=3, high=2)}, ["'epo'", "low 3.0 is above high 2.0"]),
        ({"features": _epo(units=None)}, ["needs units"]),
        ({"features": _epo(units="percnt")}, ["did you mean 'percent'"]),
        ({"features": _epo(units={"unit": "g/L", "spellings": {"g/dL": 10}})}, ["canonical unit 'g/L'"]),
        (
            {"features": _epo(units={"unit": "g/L", "spellings": {"g/L": 1, "g/dL": 100}})},
            ["'g/dL'", "100 here and 10 by UCUM"],
        ),
        (
            {"features": _epo(units={"unit": "g/L", "spellings": {"g/L": 1, "mmol/L": 2}})},
            ["'mmol/L'", "molar mass"],
        ),
        (
            {"features": _epo(units={"unit": "/L", "spellings": {"/L": 1, "K/uL": 1}})},
            ["'K/uL'", "kelvin", "10*3/uL"],
        ),
        (
            {"features": _epo(units={"unit": "g/L", "spellings": {"g/L": 1}, "local": {"g/dL": 1}})},
            ["'g/dL'", "is UCUM and means 10 g/L"],
        ),
        ({"features": _epo(units={"unit": "g/L", "spellings": {"g/L": "1/0"}})}, ["'1/0'", "positive number"]),
        ({"features": _epo(units={"unit": "g/L", "spellings": {"g/L": True}})}, ["True", "positive number"]),
        ({"features": _epo(codes=[{"loinc": "718-8", "source": None}])}, ["'718-8'", "check digit"]),
        ({"features": _epo(codes=[{"loinc": "718-7"}])}, ["source: null"]),
        ({"features": _epo(codes=[{"lonic": "718-7", "source": None}])}, ["did you mean 'loinc'"]),
        ({"features": _epo(codes=[{"loinc": "718-7", "source": "mimik"}])}, ["did you mean 'mimic'"]),
        ({"features": _epo(codes=[{"snomed": 91861009, "source": None}])}, ["91861009", "quotes"]),
        ({"features": _epo(codes=[{"loinc": "718-7", "source": None}] * 2)}, ["'718-7'", "twice"]),
        ({"features": _epo(like="labratory")}, ["did you mean 'laboratory'"]),
        ({"features": _epo(patient="gender")}, ["'patient'", "the source is observation"]),
        ({"features": {"X": {"like": "mutation", "gene": "TET3"}}}, ["'X'", "did you mean 'TET2'"]),
        ({"features": {"X": {"like": "mutation"}}}, ["'X'", "'variant'"]),
        ({"features": {"X": {"like": "cytogenetics", "karyotype": "loss(24)"}}}, ["'loss(24)'"]),
        ({"features": {"X": {"like": "cytogenetics", "karyotype": "minus8"}}}, ["did you mean 'minus"]),
        ({"features": {"X": {"kind": "binary", "source": "condition"}}}, ["needs codes"]),
        (
            {"features": {"X": {"kind": "binary", "source": "observation", "answers": {"yes": []}}}},
            ["'answers'", "numbers"],
        ),
        ({"features": {"aml_type": {**TYPE, "answers": {"c": []}}}}, ["'answers'", "use one of a, b"]),
        ({"features": {"X": {"kind": "categorical", "source": "observation"}}}, ["categories"]),
        ({"cohort": {"columns": ["hemoglobn"]}}, ["'columns'", "did you mean 'hemoglobin'"]),
        ({"cohort": {"columns": ["age", "age"]}}, ["'cohort'", "'age'"]),
        ({"cohort": {"columns": ["diagnosis"]}}, ["'cohort'", "no column"]),
        ({"cohort": {"time_unit": "weeks"}}, ["'time_unit'", "'weeks'"]),
    ],
)
def test_slips_are_named(tmp_path: Path, changes: dict[str, Any], said: list[str]) -> None:
    path = _write(tmp_path, **{"features": {}, **changes})
    with pytest.raises(DictionaryError) as error:
        Dictionary.read(path)
    message = str(error.value)
    assert [part for part in said if part not in message] == [], message
    if "extends" not in changes:
        assert str(path) in message
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.key) == (message, error.value.key)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DictionaryError, match="did you mean 'aml'"):
        Dictionary.read("amll")
    with pytest.raises(DictionaryError, match="no such file"):
        Dictionary.read(tmp_path / "aml.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [", encoding="utf-8")
    with pytest.raises(DictionaryError, match="not YAML"):
        Dictionary.read(broken)
    broken.write_text("name: x\nname: y\n", encoding="utf-8")
    with pytest.raises(DictionaryError, match="'name' is given twice"):
        Dictionary.read(broken)
    broken.write_text("- a\n", encoding="utf-8")
    with pytest.raises(DictionaryError, match="mapping"):
        Dictionary.read(broken)
    broken.write_text("name: x\nversion: '1'\nextends: broken\nfeatures: {}\n", encoding="utf-8")
    with pytest.raises(DictionaryError, match="extends itself"):
        Dictionary.read(broken)


def test_factors_are_finite(dictionaries: dict[str, Dictionary]) -> None:
    for dictionary in dictionaries.values():
        assert all(math.isfinite(f.multiplier / f.divisor) and f.convert(1.0) > 0 for f in dictionary.factors.values())
