"""What prognosis asks of a karyotype: clonal abnormalities, their number, complex, monosomal, IPSS-R cytogenetic group.

An abnormality counts if it is acquired and clonal (ISCN 11.1.1: a gain or a structural change in at least two cells, a
loss in at least three; a clone without a number of cells is taken at the laboratory's word).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from harmonization.karyotype.flags import FLAGS, RECURRENT
from harmonization.karyotype.notation import AUTOSOMES, Abnormality, Clone, Karyotype

Status = Literal["normal", "abnormal", "failed", "not done"]
IpssRGroup = Literal["very good", "good", "intermediate", "poor", "very poor"]
Counts = dict[Abnormality, int]

POLYPLOIDY = Abnormality("polyploidy")

_CHANGED = ("der", "del", "add", "inv", "i", "idic", "r", "dup", "ins")
"""With + and the normal chromosome lost, such an item is that chromosome, changed: -7,+der(7) is der(7) (ISCN 9.1)."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a karyotype means.

    Parameters
    ----------
    status
        Normal is a result: no clonal acquired abnormality. Failed and not done are none.
    abnormalities
        The clonal, acquired ones, and how often each is counted.
    number
        How many there are, as counted for the IPSS-R: each once however many related clones have it, a derivative or
        dicentric chromosome once, each marker and each further copy once (the highest of a range), polyploidy once
        (Chun 2010); of unrelated clones the one with most (Haase 2019). None without a result, as all that follow.
    complex
        At least three.
    complex_eln
        At least three, and none that defines a kind of leukaemia by itself (Doehner 2017).
    monosomal
        Two autosomal monosomies, or one and a structural abnormality, and no core-binding factor leukaemia
        (Breems 2008). Markers and rings are structural abnormalities; what a polyploid clone lacks is no monosomy.
    ipss_r
        Cytogenetic group (Schanz 2012, table 3; Greenberg 2012, table 2). None also where a sex chromosome is lost
        alone and nothing tells whether it is the Y.
    flags
        The single abnormalities of `harmonization.karyotype.flags.FLAGS`, by name.
    """

    status: Status
    abnormalities: Mapping[Abnormality, int]
    number: int | None = None
    complex: bool | None = None
    complex_eln: bool | None = None
    monosomal: bool | None = None
    ipss_r: IpssRGroup | None = None
    flags: Mapping[str, bool] | None = None


@lru_cache(maxsize=4096)
def findings(karyotype: Karyotype) -> Findings:
    """Interpret a karyotype.

    Parameters
    ----------
    karyotype
        As `parse_karyotype` returns it.
    """
    if not karyotype.clones:
        return Findings("failed" if karyotype.failed else "not done", MappingProxyType({}))
    unrelated = _families(karyotype)
    found: Counts = {}
    for family in unrelated:
        found |= family
    number = max((sum(family.values()) for family in unrelated), default=0)
    flags = {name: any(has(a) for a in found) for name, has in FLAGS.items()}
    return Findings(
        "abnormal" if found else "normal",
        MappingProxyType(found),
        number,
        number >= 3,
        number >= 3 and not any(flags[name] for name in RECURRENT),
        _monosomal(karyotype, found),
        _ipss_r(number, found, len(unrelated)),
        MappingProxyType(flags),
    )


def _families(karyotype: Karyotype) -> list[Counts]:
    """Clonal abnormalities of each group of related clones: those that share one."""
    clonal = _clonal(karyotype)
    families: list[Counts] = []
    for clone in karyotype.clones:
        family = {a: n for a, n in _counted(clone).items() if a in clonal}
        if not family:
            continue
        for relative in [other for other in families if not family.keys().isdisjoint(other)]:
            families.remove(relative)
            family |= {a: max(n, family.get(a, 0)) for a, n in relative.items()}
        families.append(family)
    return families


def _clonal(karyotype: Karyotype) -> set[Abnormality]:
    cells: dict[Abnormality, float] = {}
    for clone in karyotype.clones:
        own = {item.identity: item.cells for item in clone.abnormalities}
        for abnormality in _counted(clone):
            here = own.get(abnormality) or clone.cells
            cells[abnormality] = cells.get(abnormality, 0) + (float("inf") if here is None else here)
    return {a for a, n in cells.items() if n >= (3 if a.kind == "loss" else 2)}


def _counted(clone: Clone) -> Counts:
    items = [item for item in clone.abnormalities if not item.constitutional]
    for item in [item for item in items if item.sign > 0 and item.kind in _CHANGED]:
        replaced = next((a for a in items if a.kind == "loss" and a.chromosomes == item.chromosomes[:1]), None)
        if replaced:
            items.remove(replaced)
    counts: Counts = {}
    for item in items:
        counts[item.identity] = counts.get(item.identity, 0) + item.copies[1]
    for item in counts:
        if item.kind == "loss" and item.chromosomes == ("Y",) and not clone.polyploid:
            counts[item] = 1  # there is one to lose, also where a laboratory writes X,-Y,-Y
    if clone.polyploid:
        counts[POLYPLOIDY] = 1
    return counts


def _monosomal(karyotype: Karyotype, found: Counts) -> bool:
    """Breems 2008."""
    if any(FLAGS["t_8_21"](a) or FLAGS["inv16_t16_16"](a) for a in found):
        return False
    diploid = {a for clone in karyotype.clones if not clone.polyploid for a in _counted(clone)}
    lost = {a.chromosomes[0] for a in found if a.kind == "loss" and a.chromosomes[0] in AUTOSOMES and a in diploid}
    structural = any(a.kind not in ("gain", "loss", "polyploidy") for a in found)
    return len(lost) > 1 or (len(lost) == 1 and structural)


def _ipss_r(number: int, found: Counts, unrelated_clones: int) -> IpssRGroup | None:
    """Schanz 2012, table 3."""
    if number > 3:
        return "very poor"
    if number == 3:
        return "poor"
    if number == 0:
        return "good"
    if unrelated_clones > 1:
        return "intermediate"  # "any other single or double independent clones"
    if number == 2:
        if any(_lost_7(a) or _lost_7q(a) for a in found):
            return "poor"
        return "good" if any(_deleted(a, "5", "q") for a in found) else "intermediate"
    (only,) = found
    if only.kind == "loss" and only.chromosomes == ("?",):
        return None
    if only.kind == "loss" and only.chromosomes == ("Y",):
        return "very good"
    if _deleted(only, "11", "q"):
        return "very good"
    if _deleted(only, "5", "q") or _deleted(only, "12", "p") or _deleted(only, "20", "q"):
        return "good"
    return "poor" if _lost_7(only) or _rearranged_3q(only) else "intermediate"


def _lost_7(abnormality: Abnormality) -> bool:
    return abnormality.kind == "loss" and abnormality.chromosomes == ("7",)


def _lost_7q(abnormality: Abnormality) -> bool:
    """del(7q), or der(1;7)(q10;p10), which has no 7q."""
    whole_arm = abnormality.kind == "der" and len(abnormality.chromosomes) > 1 and abnormality.arms("7") == {"p"}
    return whole_arm or any(_deleted(part, "7", "q") for part in abnormality.with_parts())


def _deleted(abnormality: Abnormality, chromosome: str, arm: str) -> bool:
    return abnormality.kind == "del" and abnormality.arms(chromosome) == {arm}


def _rearranged_3q(abnormality: Abnormality) -> bool:
    """inv(3), t(3q), del(3q)."""
    return abnormality.kind in ("inv", "t", "del", "ins") and abnormality.arms("3") == {"q"}
