"""How a laboratory would have reported what a row says: variants with their changes, and karyotypes.

A row knows less than a report: which codon, but not which bases. Reports are invented as far as the row's features ask
for it, and only where reading them back gives the row again: otherwise the features are stated outright.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harmonization.dictionary import Dictionary, Entry, Variant
from harmonization.extraction.genomics import judge
from harmonization.extraction.karyotypes import evaluate
from harmonization.karyotype import KaryotypeError
from harmonization.resources import Call

CODONS = {
    ("FLT3", 835): ("c.2503G>T", "p.(Asp835Tyr)"),
    ("FLT3", 836): ("c.2508_2510del", "p.(Ile836del)"),
    ("IDH2", 140): ("c.419G>A", "p.(Arg140Gln)"),
    ("IDH2", 172): ("c.515G>A", "p.(Arg172Lys)"),
    ("JAK2", 617): ("c.1849G>T", "p.(Val617Phe)"),
}
"""The change that is most common at a codon."""

ELSEWHERE = {"FLT3": ("c.1775T>C", "p.(Val592Ala)")}
"""A change at none of the codons that have features of their own."""

DUPLICATIONS = {
    ("FLT3", "internal_tandem_duplication"): ("c.1770_1799dup", "p.(Tyr591_Phe600dup)"),
    ("KMT2A", "partial_tandem_duplication"): ("c.433_3334dup", "p.(Val145_Arg1112dup)"),
}

TWO_HITS = {
    "CEBPA": (("c.68dup", "p.(His24Alafs*84)"), ("c.939_941dup", "p.(Lys313dup)")),
    "TP53": (("c.524G>A", "p.(Arg175His)"), ("c.743G>A", "p.(Arg248Gln)")),
}

_FLAG_TEXTS = {
    "inv3_t3_3": "inv(3)(q21q26)",
    "t_9_22": "t(9;22)(q34;q11)",
    "minus5_5q": "del(5)(q13q33)",
    "minus7": "-7",
    "minus7q": "del(7)(q22)",
    "abn7other": "del(7)(p13)",
    "plus8_8q": "+8",
    "minus9q": "del(9)(q13q22)",
    "mono12_12p_abn12p": "del(12)(p12)",
    "plus13": "+13",
    "mono17_17p_abn17p": "del(17)(p11)",
    "minus18_18q": "-18",
    "minus20_20q": "del(20)(q11q13)",
    "plus21": "+21",
    "plus22": "+22",
    "minusY": "-Y",
    "t_15_17": "t(15;17)(q24;q21)",
    "t_8_21": "t(8;21)(q22;q22)",
    "inv16_t16_16": "inv(16)(p13q22)",
    "t_6_9": "t(6;9)(p22;q34)",
    "abn3q_other": "del(3)(q21)",
    "plus11_11q": "+11",
    "mono4_4q_abn4q": "del(4)(q21)",
    "t_9_11": "t(9;11)(p22;q23)",
    "t_v_11": "t(11;19)(q23;p13)",
    "ring": "+r",
}
_IMBALANCE = re.compile(r"(gain|loss)\((\d+|X|Y)([pq]?)\)")
_ORDER = [*map(str, range(1, 23)), "X", "Y"]
_FILLING = ("+6", "+14", "+19")
"""Abnormalities without a feature of their own, for a karyotype that is complex beyond what the features say."""


def report_variants(
    entries: Sequence[Entry], values: dict[str, str | float], changes: bool
) -> tuple[list[Call], list[str]]:
    """Variants and tested genes; what they say is taken out of the values.

    Parameters
    ----------
    entries
        The mutation features.
    values
        What is known, by feature.
    changes
        Whether changes are reported, rather than genes alone.
    """
    of_gene: dict[str, list[tuple[str, Variant]]] = {}
    for entry in entries:
        if entry.variant is not None:
            of_gene.setdefault(entry.variant.gene, []).append((entry.name, entry.variant))
    calls: list[Call] = []
    tested: list[str] = []
    for gene, features in of_gene.items():
        known = {name: values.get(name) for name, _ in features}
        if None in known.values() or any(rule.loss for _, rule in features):
            continue
        found = [change for name, rule in features if known[name] for change in _changes(rule, changes)]
        if all(judge(rule, sorted(set(found)), True, None) == known[name] for name, rule in features):
            calls += [Call(gene, *change) for change in dict.fromkeys(found)]
            tested.append(gene)
            for name in known:
                del values[name]
    return calls, tested


def _changes(rule: Variant, changes: bool) -> list[tuple[str, str]]:
    """Changes that make a feature present."""
    if not changes:
        return [("", "")]
    if rule.alteration.endswith("duplication"):
        return [DUPLICATIONS.get((rule.gene, rule.alteration), ("", ""))]
    if rule.hits != "any":
        return list(TWO_HITS.get(rule.gene, (("", ""),)))[: 2 if rule.hits == "several" else 1]
    if rule.codons:
        return [CODONS.get((rule.gene, rule.codons[0]), ("", ""))]
    return [ELSEWHERE[rule.gene] if rule.except_codons and rule.gene in ELSEWHERE else ("", "")]


def report_karyotype(
    dictionary: Dictionary, entries: Sequence[Entry], values: Mapping[str, str | float], gender: str | None
) -> str | None:
    """A karyotype from which all findings follow as the values have them; None if there is none.

    Parameters
    ----------
    dictionary
        The features; one of them is the karyotype itself.
    entries
        The features that are findings in it.
    values, gender
        What is known of the patient.
    """
    if not entries or "karyotype" not in dictionary or any(e.name not in values for e in entries):
        return None
    said = [text for e in entries if values[e.name] == 1 and (text := _text(str(e.karyotype)))]
    items = list(dict.fromkeys(said))
    for extra in range(len(_FILLING) + 1):
        text = _karyotype([*items, *_FILLING[:extra]], gender)
        try:
            if all(evaluate(str(e.karyotype), text, gender) == values[e.name] for e in entries):
                return text
        except KaryotypeError:
            return None
    return None


def _text(finding: str) -> str | None:
    if finding in _FLAG_TEXTS:
        return _FLAG_TEXTS[finding]
    if match := _IMBALANCE.fullmatch(finding):
        kind, chromosome, arm = match.groups()
        if not arm:
            return f"{'+' if kind == 'gain' else '-'}{chromosome}"
        return f"{'dup' if kind == 'gain' else 'del'}({chromosome})({arm}11{arm}13)"
    return "der(1;7)(q10;p10)" if finding == "rearranged(1;7)" else None


def _karyotype(items: Sequence[str], gender: str | None) -> str:
    """ISCN: number of chromosomes, sex, abnormalities in order, all in 20 cells."""
    male = gender == "male" or "-Y" in items
    sex = "XY" if male else "XX"
    for loss, left in (("-Y", "X"), ("-X", "Y" if male else "X")):
        if loss in items:
            sex = left
    number = 46 + sum(item.startswith("+") for item in items) - sum(item.startswith("-") for item in items)
    number -= sum(item.startswith("der(1;7)") for item in items)
    ordered = sorted(items, key=_place)
    return f"{number},{','.join([sex, *ordered])}[20]"


def _place(item: str) -> int:
    match = re.search(r"\d+|X|Y", item)
    return _ORDER.index(match[0]) if match and match[0] in _ORDER else len(_ORDER)
