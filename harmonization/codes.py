"""Codes of medical terminologies: their systems, their form, their check digits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from harmonization.errors import CodeError

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
HGNC = "http://www.genenames.org/geneId"
NCIT = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"
ICD10 = "http://hl7.org/fhir/sid/icd-10"
ICD10_GM = "http://fhir.de/CodeSystem/bfarm/icd-10-gm"
ATC = "http://www.whocc.no/atc"
UCUM = "http://unitsofmeasure.org"
GENDER = "http://hl7.org/fhir/administrative-gender"
FEATURE = "urn:haemfed:feature"
"""A feature of a data dictionary by its name: for what no terminology has a code."""
VALUE = "urn:haemfed:value"
"""A value of a categorical feature, as ``feature:value``."""

SYSTEMS = {
    "loinc": LOINC,
    "snomed": SNOMED,
    "hgnc": HGNC,
    "ncit": NCIT,
    "icd10": ICD10,
    "icd10gm": ICD10_GM,
    "atc": ATC,
    "ucum": UCUM,
    "gender": GENDER,
    "feature": FEATURE,
    "value": VALUE,
}
"""Short names, as data dictionaries use them."""

ALIASES = {
    "urn:oid:2.16.840.1.113883.6.1": LOINC,
    "urn:oid:2.16.840.1.113883.6.96": SNOMED,
    "urn:oid:2.16.840.1.113883.6.281": HGNC,
    "http://www.genenames.org": HGNC,
    "urn:oid:2.16.840.1.113883.3.26.1.1": NCIT,
    "http://ncithesaurus-stage.nci.nih.gov": NCIT,
    "urn:oid:2.16.840.1.113883.6.3": ICD10,
    "http://fhir.de/CodeSystem/dimdi/icd-10-gm": ICD10_GM,
    "urn:oid:2.16.840.1.113883.6.73": ATC,
    "http://fhir.de/CodeSystem/bfarm/atc": ATC,
    "http://fhir.de/CodeSystem/dimdi/atc": ATC,
    "urn:oid:2.16.840.1.113883.6.8": UCUM,
}
"""Other names under which hospitals export the same systems."""


def canonical_system(uri: str) -> str:
    """The name of a code system that this project uses."""
    return ALIASES.get(uri, uri)


@dataclass(frozen=True)
class Code:
    """One code of a terminology.

    Parameters
    ----------
    system
        URI of the code system.
    code
        As the terminology writes it.
    display
        What it stands for.
    source
        Where the pair of code and display was verified; None if it was not.

    Raises
    ------
    CodeError
        If the code does not have the form of its system, or its check digit is wrong.
    """

    system: str
    code: str
    display: str = ""
    source: str | None = None

    def __post_init__(self) -> None:
        form, check = _FORMS.get(self.system, (_ANY, None))
        if not form.fullmatch(self.code):
            raise CodeError(f"{self.code!r} has not the form of a code of {self.system}")
        if check is not None and not check(self.code):
            raise CodeError(f"{self.code!r} of {self.system} has a wrong check digit: a typing error")

    @property
    def key(self) -> tuple[str, str]:
        """System and code, by which they are looked up."""
        return self.system, self.code


def loinc_is_valid(code: str) -> bool:
    """Whether the check digit of a LOINC code is right (modulo 10; LOINC Users' Guide, appendix C).

    The letters of an answer code (``LA33-6``) count too: with what, follows from published answer codes.
    """
    number, _, digit = code.removeprefix("LA").partition("-")
    total = sum(_DOUBLED[int(d)] if i % 2 == 0 else int(d) for i, d in enumerate(reversed(number)))
    if code.startswith("LA"):
        total += 8 if len(number) % 2 else 5
    return digit == str(-total % 10)


def snomed_is_valid(code: str) -> bool:
    """Whether the check digit of a SNOMED CT identifier is right (Verhoeff 1969, in the dihedral group of order 10)."""
    check = 0
    for i, digit in enumerate(reversed(code)):
        check = _dihedral(check, _permuted(i, int(digit)))
    return check == 0


_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""Twice a digit, its digits added."""


def _dihedral(a: int, b: int) -> int:
    """Product in the dihedral group of order 10: rotations are 0 to 4, reflections 5 to 9."""
    rotation = (a + b) % 5 if a < 5 else (a - b) % 5
    return rotation if (a < 5) == (b < 5) else rotation + 5


def _permuted(times: int, digit: int) -> int:
    for _ in range(times % 8):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit


_ANY = re.compile(r"\S+( \S+)*")
_FORMS: dict[str, tuple[re.Pattern[str], Callable[[str], bool] | None]] = {
    LOINC: (re.compile(r"(LA)?\d{1,7}-\d"), loinc_is_valid),
    SNOMED: (re.compile(r"[1-9]\d{5,17}"), snomed_is_valid),
    HGNC: (re.compile(r"HGNC:[1-9]\d*"), None),
    NCIT: (re.compile(r"C\d+"), None),
    ICD10: (re.compile(r"[A-Z]\d\d(\.\d)?"), None),
    ICD10_GM: (re.compile(r"[A-Z]\d\d(\.\d{1,2})?"), None),
    ATC: (re.compile(r"[A-Z]\d\d([A-Z]([A-Z](\d\d)?)?)?"), None),
}
