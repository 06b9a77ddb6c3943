"""UCUM against its official functional tests and pint; what surely was not meant is refused."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonization.errors import UnitError
from harmonization.units import factor, is_ucum, parse_unit


@pytest.fixture(scope="module")
def official(data_dir: Path) -> Any:
    path = data_dir / "fhir" / "ucum" / "UcumFunctionalTests.xml"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return ElementTree.parse(path).getroot()


def test_official_validations(official: Any) -> None:
    cases = official.findall("validation/case")
    wrong = [case.attrib for case in cases if is_ucum(case.get("unit")) != (case.get("valid") == "true")]
    assert (len(cases), wrong) == (529, [])


def test_official_units_are_refused_for_a_good_reason_only(official: Any) -> None:
    """Of what is valid, only a division by 2.h is taken for a mistake."""
    refused = []
    for case in official.findall("validation/case[@valid='true']"):
        try:
            parse_unit(case.get("unit"))
        except UnitError as error:
            refused.append((error.text, error.instead))
    assert refused == [("umol/2.h", "umol/(2.h)")]


def test_official_conversions(official: Any) -> None:
    cases = official.findall("conversion/case")
    for case in cases:
        result = float(case.get("value")) * factor(case.get("srcUnit"), case.get("dstUnit"))
        digits = len(case.get("outcome").lower().split("e")[0].replace(".", "").strip("0"))
        # The outcomes are rounded to the digits they show (halves upwards or to even).
        assert math.isclose(result, float(case.get("outcome")), rel_tol=1.01 * 0.5 * 10 ** -(digits - 1)), case.attrib
    assert len(cases) == 30


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("g/L", "g/dL"),
        ("mg/dL", "g/L"),
        ("10*3/uL", "10*9/L"),
        ("/nL", "10^9/L"),
        ("{cells}/uL", "10*9/L"),
        ("ukat/L", "U/L"),
        ("kU/L", "nkat/mL"),
        ("pmol/L", "mmol/mL"),
        ("ng/mL", "ug/L"),
        ("%", "1"),
        ("d", "a"),
        ("wk", "mo"),
        ("fL", "um3"),
        ("mm[Hg]", "Pa"),
        ("[lb_av]", "kg"),
        ("cal", "J"),
        ("/m/s", "Hz/cm"),
    ],
)
def test_against_pint(source: str, target: str) -> None:
    """Where pint knows the units its own definitions give the same factor."""
    ucumvert = pytest.importorskip("ucumvert")
    registry = _registry(ucumvert)
    a, b = registry.from_ucum(source), registry.from_ucum(target)
    if source == "/m/s":  # ucumvert takes 1/a/b for b/a
        a = registry.from_ucum("m-1.s-1")
    assert factor(source, target) == pytest.approx(a.to(b.units).magnitude / b.magnitude, rel=1e-5)


_CACHE: list[Any] = []


def _registry(ucumvert: Any) -> Any:
    if not _CACHE:
        _CACHE.append(ucumvert.PintUcumRegistry())
    return _CACHE[0]


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("K/uL", "10*3/uL"),
        ("K/mm3", "10*3/mm3"),
        ("G/L", "10*9/L"),
        ("T/L", "10*12/L"),
        ("u/L", "U/L"),
        ("Mg/dL", "mg/dL"),
        ("Mmol/L", "mmol/L"),
        ("U/ML", "U/mL"),
        ("mg/24.h", "mg/(24.h)"),
        ("g/100.mL", "g/(100.mL)"),
        ("mL/min/1.73.m2", None),
    ],
)
def test_valid_but_not_meant(text: str, instead: str | None) -> None:
    assert is_ucum(text)
    with pytest.raises(UnitError) as error:
        parse_unit(text)
    assert (error.value.text, error.value.instead) == (text, instead)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("MG/DL", "mg/dl"),
        ("mg/DL", "mg/dl"),
        ("G/DL", "g/dl"),
        ("MMOL/L", "mmol/l"),
        ("mcg/L", "ug/L"),
        ("µmol/L", "umol/L"),
        ("K/µL", "10*3/uL"),
        ("Tsd/µl", "10*3/ul"),
        ("Gpt/l", "10*9/l"),
        ("10E9/L", "10*9/L"),
        ("x10^9/L", "10*9/L"),
        ("IU/L", "[IU]/L"),
        ("mEq/L", "meq/L"),
        ("mm Hg", "mm[Hg]"),
        ("g /dL", "g/dL"),
        ("10+3/ul", "10*+3/ul"),
        ("", None),
        ("Einheiten", None),
        ("{unclosed", None),
    ],
)
def test_not_ucum(text: str, instead: str | None) -> None:
    assert not is_ucum(text)
    with pytest.raises(UnitError) as error:
        parse_unit(text)
    assert error.value.instead == instead
    if instead:
        parse_unit(instead)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("[IU]/L", "U/L"),  # an international unit is not an enzyme unit
        ("[IU]/L", "/L"),  # nor nothing
        ("[IU]/L", "[arb'U]/L"),
        ("mmol/L", "g/dL"),  # without a molar mass
        ("mmol/L", "10*9/L"),  # UCUM's mole is a number
        ("meq/L", "mmol/L"),  # depends on the charge
        ("mosm/L", "mmol/L"),
        ("g", "g/dL"),
        ("Cel", "K"),
        ("[pH]", "mol/L"),
    ],
)
def test_what_cannot_be_converted(source: str, target: str) -> None:
    with pytest.raises(UnitError, match="convert"):
        factor(source, target)


def test_gram_per_cent_is_right() -> None:
    """By dimensions alone it would be a hundredth of a gram."""
    assert factor("g%", "g/dL") == factor("mg%", "mg/dL") == 1


def test_case_matters() -> None:
    assert parse_unit("mg/L").scale != parse_unit("kg/L").scale
    assert parse_unit("g/dl").scale == parse_unit("g/dL").scale
    assert factor("10*3/uL", "10^9/L") == 1


def test_molar_mass() -> None:
    assert factor("mmol/L", "g/dL", 16114.5) == pytest.approx(1.611, rel=5e-4)
    assert factor("mg/dL", "umol/L", 113.12) == pytest.approx(88.4, rel=5e-4)
    assert factor("g/L", "g/dL", 16114.5) == factor("g/L", "g/dL")  # of no consequence where it is not needed


def test_factors_are_correctly_rounded() -> None:
    """No 0.010000000000000002: the factor is the float nearest to the fraction."""
    assert factor("mg/dL", "g/L") == 0.01
    assert factor("g/L", "g/dL") == 0.1
    assert factor("ug/L", "ng/dL") == 100


UNITS = st.sampled_from(["g/L", "mg/dL", "ng/mL", "ug/L", "kg/m3", "[lb_av]/[gal_us]", "g%"])


@given(UNITS, UNITS, UNITS)
def test_conversions_compose(a: str, b: str, c: str) -> None:
    assert factor(a, c) == pytest.approx(factor(a, b) * factor(b, c), rel=1e-14)
    assert factor(a, b) * factor(b, a) == pytest.approx(1, rel=1e-14)


def test_errors_survive_pickling() -> None:
    error = UnitError("K/uL", "is kelvin", "10*3/uL")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.text, again.instead) == (str(error), "K/uL", "10*3/uL")
