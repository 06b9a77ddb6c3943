"""Findings in a karyotype by a dictionary's rules: ``complex``, ``gain(8)``, ``loss(5q)``, ``rearranged(1;7)``."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache

from harmonization.karyotype import Abnormality, Findings, findings, parse_karyotype
from harmonization.karyotype.flags import FLAGS, gained, lost

KARYOTYPE = "karyotype"
"""Name of the feature that is the text itself."""

IPSS_R = ("very good", "good", "intermediate", "poor", "very poor")

Evaluate = Callable[[Findings], float | None]

_FINDING = re.compile(r"(gain|loss|rearranged)\((\d+|X|Y)([pq]?)(?:;(\d+|X|Y))?\)")


@cache
def evaluator(finding: str) -> Evaluate:
    """How a finding is seen in a karyotype with a result: 1, 0, a number; None if it does not tell.

    Parameters
    ----------
    finding
        As `harmonization.dictionary.Entry.karyotype` has it.
    """
    if finding == "complex":
        return lambda f: _number(f.complex)
    if finding == "complex_eln":
        return lambda f: _number(f.complex_eln)
    if finding == "monosomal":
        return lambda f: _number(f.monosomal)
    if finding == "ipss_r":
        return lambda f: None if f.ipss_r is None else float(IPSS_R.index(f.ipss_r))
    if finding in FLAGS:
        return lambda f: None if f.flags is None else float(f.flags[finding])
    if finding == "ring":
        return _has(lambda a: any(part.kind == "r" for part in a.with_parts()))
    match = _FINDING.fullmatch(finding)
    assert match is not None, finding  # the dictionary was checked when it was read
    kind, chromosome, arm, other = match.groups()
    if kind == "rearranged":
        return _has(lambda a: _rearranged(a, chromosome, other))
    if not arm:
        return _has(lambda a: a.kind == kind and a.chromosomes == (chromosome,))
    arms = gained if kind == "gain" else lost
    # Part of the arm: a whole chromosome more or less is a finding of its own.
    return _has(lambda a: a.kind != kind and (chromosome, arm) in arms(a))


@lru_cache(maxsize=16384)
def read(text: str, gender: str | None) -> tuple[Findings, bool]:
    """What a karyotype means, and whether it was described to the end."""
    karyotype = parse_karyotype(text, gender if gender in ("male", "female") else None)
    return findings(karyotype), not karyotype.incomplete


def evaluate(finding: str, text: str, gender: str | None) -> float | None:
    """Value of a finding in a karyotype.

    Parameters
    ----------
    finding
        As for `evaluator`.
    text
        Of the karyotype, which can be read and has a result.
    gender
        As FHIR has it.
    """
    found, complete = read(text, gender)
    value = evaluator(finding)(found)
    return None if value == 0 and not complete else value  # there is more, that nobody could describe


def arm_is_lost(arm: str, text: str, gender: str | None) -> bool:
    """Whether a karyotype has lost an arm, wholly or in part, also with its chromosome."""
    found, _ = read(text, gender)
    return any((arm[:-1], arm[-1]) in lost(a) for a in found.abnormalities)


def _has(test: Callable[[Abnormality], bool]) -> Evaluate:
    return lambda f: float(any(test(a) for a in f.abnormalities))


def _rearranged(abnormality: Abnormality, first: str, second: str) -> bool:
    return any(
        part.kind in ("t", "der", "dic", "ins") and {first, second} <= set(part.chromosomes)
        for part in abnormality.with_parts()
    )


def _number(flag: bool | None) -> float | None:
    return None if flag is None else float(flag)
