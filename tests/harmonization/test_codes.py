"""Check digits: published codes are right, and a slip of the finger is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonization.codes import (
    ATC,
    HGNC,
    ICD10,
    ICD10_GM,
    LOINC,
    NCIT,
    SNOMED,
    Code,
    canonical_system,
    loinc_is_valid,
    snomed_is_valid,
)
from harmonization.errors import CodeError

# From HL7, MII and Synthea examples; answer codes with an even and an odd number of digits among them.
PUBLISHED_LOINC = [
    "718-7",
    "777-3",
    "26515-7",
    "2532-0",
    "14682-9",
    "33358-3",
    "48378-4",
    "69548-6",
    "81258-6",
    "84912-5",
    "43399-5",
    "30525-0",
    "LA33-6",
    "LA32-8",
    "LA4457-3",
    "LA43-5",
    "LA30189-7",
    "LA30136-8",
    "LA6350-8",
    "LA6568-5",
    "LA15652-3",
    "LA13909-9",
    "LA27722-0",
]
PUBLISHED_SNOMED = [
    "91861009",
    "109995007",
    "109989006",
    "234336002",
    "423740007",
    "425389002",
    "373066001",
    "373067005",
    "10828004",
    "419099009",
    "900000000000207008",
    "11000146104",
]


@pytest.mark.parametrize("code", PUBLISHED_LOINC)
def test_published_loinc(code: str) -> None:
    assert loinc_is_valid(code)


@pytest.mark.parametrize("code", PUBLISHED_SNOMED)
def test_published_snomed(code: str) -> None:
    assert snomed_is_valid(code)


def _slips(code: str) -> Iterator[str]:
    """Every code with one digit wrong, and with two neighbours exchanged."""
    for i, digit in enumerate(code):
        if digit.isdigit():
            yield from (code[:i] + wrong + code[i + 1 :] for wrong in "0123456789" if wrong != digit)
    for i in range(len(code) - 1):
        if code[i : i + 2].isdigit() and code[i] != code[i + 1]:
            yield code[:i] + code[i + 1] + code[i] + code[i + 2 :]


@pytest.mark.parametrize("code", PUBLISHED_LOINC)
def test_slips_in_loinc(code: str) -> None:
    """Modulo 10 sees all of them but an exchange of 0 and 9."""
    for slip in _slips(code):
        changed = [(a, b) for a, b in zip(code, slip, strict=True) if a != b]
        if sorted(changed) != [("0", "9"), ("9", "0")]:
            assert not loinc_is_valid(slip), slip


@pytest.mark.parametrize("code", PUBLISHED_SNOMED)
def test_slips_in_snomed(code: str) -> None:
    """Verhoeff sees all of them."""
    for slip in _slips(code):
        assert not snomed_is_valid(slip), slip


@given(st.integers(1, 10**7 - 1))
def test_one_check_digit_fits_a_loinc_number(number: int) -> None:
    assert sum(loinc_is_valid(f"{number}-{digit}") for digit in range(10)) == 1


@given(st.integers(10**4, 10**16))
def test_one_check_digit_fits_a_snomed_identifier(number: int) -> None:
    assert sum(snomed_is_valid(f"{number}{digit}") for digit in range(10)) == 1


@pytest.mark.parametrize(
    ("system", "code"),
    [
        (LOINC, "718-8"),
        (LOINC, "718"),
        (LOINC, "718-7 "),
        (SNOMED, "91861008"),
        (SNOMED, "9186"),
        (HGNC, "3765"),
        (NCIT, "3171"),
        (ICD10, "C92.00"),
        (ICD10_GM, "C920"),
        (ATC, "L1BC07"),
    ],
)
def test_what_is_no_code(system: str, code: str) -> None:
    with pytest.raises(CodeError, match=code):
        Code(system, code)


def test_forms() -> None:
    for system, code in (
        (HGNC, "HGNC:3765"),
        (NCIT, "C3171"),
        (ICD10, "C92.0"),
        (ICD10_GM, "C92.00"),
        (ATC, "L01BC07"),
        ("http://example.org/local", "a b"),
    ):
        assert Code(system, code).key == (system, code)


def test_systems_by_their_other_names() -> None:
    assert canonical_system("urn:oid:2.16.840.1.113883.6.1") == LOINC
    assert canonical_system("http://fhir.de/CodeSystem/bfarm/atc") == ATC
    assert canonical_system("http://example.org/local") == "http://example.org/local"
