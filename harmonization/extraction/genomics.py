"""Genes: which variants make a mutation feature present, and when a gene is wild type.

Three things look alike in a table of 0 and 1 and are not: tested and no variant found (wild type, 0), not tested, and
tested without a result. So a 0 needs a record: a panel that covers the gene, or a variant of it that was looked for and
not found. Where a record of a gene was set aside, nothing is concluded from the others' silence.

Changes are read from HGVS, as far as features ask for them: codons, and the two duplications that are lesions of their
own (internal in FLT3, partial in KMT2A).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from harmonization.codes import ALIASES, HGNC, LOINC
from harmonization.dictionary import Dictionary, Variant
from harmonization.extraction.missing import Missing
from harmonization.extraction.values import NAN, Refused

Key = tuple[str, str]

NO_CALL, INDETERMINATE = "LA18198-4", "LA11884-6"
"""Answers to LOINC 69548-6 beside present and absent (genomics-reporting, profile variant)."""
GERMLINE = "LA6683-2"
"""Answer to LOINC 48002-0: an inborn variant, which is no mutation of the disease."""

_LIST = re.compile(r"[,;\s/]+")
_TO_FRACTION = {"%": 0.01, "1": 1.0, "": 1.0, "{ratio}": 1.0}

_PROTEIN = re.compile(r"(?:p\.)?\(?([A-Z][a-z]{2}|[A-Z*])(\d+)(?:_([A-Z][a-z]{2}|[A-Z*])(\d+))?")
_CODING = re.compile(r"c\.\(?([-*]?)(\d+)([+-]\d+)?(?:_([-*]?)(\d+)([+-]\d+)?)?\)?(.*)")
_BASES = re.compile(r"(?:dup|ins)([ACGT]+|\d+)?")

FLT3_JUXTAMEMBRANE = (569, 630)
"""Codons of exons 14 and 15 in which internal tandem duplications lie (Nakao 1996; Thiede 2002)."""
PARTIAL_DUPLICATION = 100
"""Bases: a duplication of whole exons of KMT2A is longer than any of single codons."""


class Genes:
    """The genes of a dictionary: by code and symbol, and which features look at each.

    Parameters
    ----------
    dictionary
        Names genes and the codes of a report's parts.
    """

    TESTED = "genes_tested"

    def __init__(self, dictionary: Dictionary) -> None:
        systems = [HGNC, *(alias for alias, system in ALIASES.items() if system == HGNC)]
        self.by_name = {
            name: gene.symbol
            for gene in dictionary.genes
            for name in (*gene.formerly, gene.code.code, gene.symbol)  # a symbol of today goes before one of the past
        }
        self.by_key: dict[Key, str] = {
            (system, gene.code.code): gene.symbol for gene in dictionary.genes for system in systems
        }
        self.systems = frozenset(systems)
        self.variant_keys = _keys(dictionary, "variant")
        self.region_keys = _keys(dictionary, "region_studied")
        self.features: dict[str, list[tuple[int, Variant]]] = {gene.symbol: [] for gene in dictionary.genes}
        self.answers: dict[Key, tuple[float, Missing]] = {
            (LOINC, NO_CALL): (NAN, Missing.FAILED),
            (LOINC, INDETERMINATE): (NAN, Missing.UNKNOWN),
        }
        for i, entry in enumerate(dictionary.entries):
            if entry.variant is not None:
                self.features[entry.variant.gene].append((i, entry.variant))
                if entry.kind == "binary":
                    known = {k: (float(v), Missing.NONE) for k, v in entry.meaning.items() if not isinstance(v, str)}
                    self.answers |= known

    def symbols(self, concepts: Iterable[Mapping[str, Any]], texts: Iterable[str]) -> tuple[str, ...]:
        """Genes that concepts and lists in texts name; of those not in the dictionary, as they are written."""
        found: dict[str, None] = {}
        for concept in concepts:
            codings = concept.get("coding", ())
            ours = [s for c in codings if (s := self.by_key.get((c.get("system", ""), c.get("code", ""))))]
            displays = [c["display"] for c in codings if c.get("system") in self.systems and c.get("display")]
            named = [concept["text"]] if concept.get("text") else displays
            found |= dict.fromkeys(ours or (self.by_name.get(n, n) for text in named for n in _LIST.split(text) if n))
        for text in texts:
            found |= dict.fromkeys(self.by_name.get(name, name) for name in _LIST.split(text) if name)
        return tuple(found)

    @staticmethod
    def germline(codings: Iterable[Mapping[str, Any]]) -> bool:
        """Whether a source class says that a variant is inborn."""
        return any(c.get("code") == GERMLINE and c.get("system") == LOINC for c in codings)

    @staticmethod
    def frequency(quantity: Mapping[str, Any] | None) -> str:
        """An allele frequency as it is shown.

        Raises
        ------
        Refused
            If its unit is neither per cent nor one, or it is none of 0 to 1.
        """
        if quantity is None or quantity.get("value") is None:
            return ""
        unit = quantity.get("code", quantity.get("unit", ""))
        factor = _TO_FRACTION.get(unit)
        if factor is None:
            raise Refused("unit", "component.valueQuantity.code", unit, "an allele frequency is in % or 1")
        fraction = quantity["value"] * factor
        if not 0 <= fraction <= 1:
            reason = f"an allele frequency of {fraction:g} (it is 0 to 1, or 0 to 100 with the unit %)"
            raise Refused("range", "component.valueQuantity.value", quantity["value"], reason)
        return f"VAF {fraction:.4g}"


def _keys(dictionary: Dictionary, role: str) -> frozenset[Key]:
    codes = dictionary.concepts.get(role, ())
    aliases = [(alias, c.code) for c in codes for alias, system in ALIASES.items() if system == c.system]
    return frozenset([*(c.key for c in codes), *aliases])


Change = tuple[str, str]
"""In HGVS: of the coding sequence, of the protein; empty where not given."""


@lru_cache(maxsize=16384)
def codons(change: Change) -> tuple[int, int] | None:
    """First and last codon that a change touches, None if it does not tell."""
    coding, protein = change
    if (match := _PROTEIN.search(protein.partition(":")[2] or protein)) is not None:
        return int(match[2]), int(match[4] or match[2])
    if (match := _CODING.search(coding)) is None or match[1] or match[4] or match[3] or match[6]:
        return None
    return (int(match[2]) + 2) // 3, (int(match[5] or match[2]) + 2) // 3


@lru_cache(maxsize=16384)
def alteration(gene: str, change: Change) -> str | None:
    """``internal_tandem_duplication``, ``partial_tandem_duplication`` or ``sequence``; None if nothing is told."""
    coding, protein = change
    text = f"{coding} {protein}".upper()
    if not text.strip():
        return None
    if "ITD" in text or "INTERNAL TANDEM" in text:
        return "internal_tandem_duplication"
    if "PTD" in text or "PARTIAL TANDEM" in text:
        return "partial_tandem_duplication"
    if gene == "KMT2A" and "dup" in coding and _bases(coding) >= PARTIAL_DUPLICATION:
        return "partial_tandem_duplication"
    if gene == "FLT3" and _in_frame_insertion(coding, protein):
        where = codons(change)
        if where is None or (where[0] <= FLT3_JUXTAMEMBRANE[1] and where[1] >= FLT3_JUXTAMEMBRANE[0]):
            return "internal_tandem_duplication"
    return "sequence"


def _bases(coding: str) -> float:
    """Length of what is duplicated or inserted; infinite where it begins or ends in an intron."""
    match = _CODING.search(coding)
    if match is None:
        return 0
    if match[3] or match[6]:
        return float("inf")
    given = _BASES.search(match[7])
    if given and given[1]:
        return int(given[1]) if given[1].isdigit() else len(given[1])
    return int(match[5]) - int(match[2]) + 1 if "dup" in match[7] and match[5] else 1


def _in_frame_insertion(coding: str, protein: str) -> bool:
    if "dup" in coding or ("ins" in coding and "del" not in coding):
        return _bases(coding) >= 3 and (_bases(coding) % 3 == 0 or _bases(coding) == float("inf"))
    return not coding and ("dup" in protein or "ins" in protein) and "fs" not in protein and "del" not in protein


def matches(rule: Variant, change: Change) -> bool | None:
    """Whether a variant of the gene is one that a feature asks for; None if the change does not tell."""
    if rule.alteration != "any":
        kind = alteration(rule.gene, change)
        if kind is None:
            return None
        if kind != rule.alteration:
            return False
    if rule.codons or rule.except_codons:
        where = codons(change)
        if where is None:
            return None
        touched = range(where[0], where[1] + 1)
        if rule.codons and not any(codon in touched for codon in rule.codons):
            return False
        if rule.except_codons and any(codon in touched for codon in rule.except_codons):
            return False
    return True


def judge(rule: Variant, found: Sequence[Change], tested: bool, arm_lost: bool | None) -> float | None:
    """Value of a mutation feature.

    Parameters
    ----------
    rule
        What the feature asks for.
    found
        The variants of the gene, each once.
    tested
        Whether the gene was sequenced: then what was not found is not there.
    arm_lost
        Whether the karyotype has lost the arm that the rule names; None if that is not known.

    Returns
    -------
    float or None
        1 or 0; None if the records do not tell.
    """
    said = [matches(rule, change) for change in found]
    sure, open_ = said.count(True), said.count(None)
    # Variants of a gene show that it was sequenced; duplications need a method that finds them.
    covered = tested or (bool(found) and rule.alteration in ("any", "sequence"))
    if rule.hits == "any":
        if sure:
            return 1.0
        return 0.0 if covered and not open_ else None
    # A variant without its change may be any of those with one.
    unnamed = sum(not any(change) for change in found)
    if unnamed and len(found) > unnamed:
        sure -= sum(m is True and not any(c) for m, c in zip(said, found, strict=True))
    elif unnamed:
        return 1.0 if rule.hits == "several" and arm_lost and rule.loss else None
    if open_:
        return None
    if rule.hits == "one":
        return float(sure == 1) if sure or covered else None
    if sure >= 2:
        return 1.0
    if sure == 1 and rule.loss:
        return None if arm_lost is None else float(arm_lost)
    return 0.0 if sure or covered else None
