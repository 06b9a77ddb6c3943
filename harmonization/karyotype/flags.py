"""Single abnormalities of prognostic weight in acute myeloid leukaemia, as tests on one abnormality.

The names are those of the data of Papaemmanuil 2016 and Gerstung 2017. A name such as ``minus5_5q`` means loss of the
whole chromosome or of material of the arm, by whatever rearrangement loses it; ``abn`` any gain, loss or break of the
arm; ``abn7other`` what is unbalanced on chromosome 7 and is none of -7, +7 and loss of 7q (add(7q), of unknown extent,
belongs here).
"""

from __future__ import annotations

from collections.abc import Callable

from harmonization.karyotype.notation import Abnormality

Test = Callable[[Abnormality], bool]
Arm = tuple[str, str]
"""Chromosome, and ``p`` or ``q``."""


def gained(abnormality: Abnormality) -> set[Arm]:
    """Arms of which there is more than there should be, wholly or in part."""
    return {arm for arm, change in _imbalances(abnormality) if change > 0}


def lost(abnormality: Abnormality) -> set[Arm]:
    """Arms of which there is less than there should be, wholly or in part."""
    return {arm for arm, change in _imbalances(abnormality) if change < 0}


def _imbalances(whole: Abnormality) -> set[tuple[Arm, int]]:
    if whole.kind in ("gain", "loss"):
        change = 1 if whole.kind == "gain" else -1
        return {((whole.chromosomes[0], arm), change) for arm in "pq"}
    found: set[tuple[Arm, int]] = set()
    extra = whole.sign > 0  # +del(11)(q23): the normal chromosomes are all there
    if extra and whole.chromosomes and whole.kind not in ("t", "inv", "ins"):
        found |= {((whole.chromosomes[0], arm), 1) for arm in "pq" if whole.kind != "i" or arm in _arms(whole, 0)}
    for part in whole.with_parts():
        for i, chromosome in enumerate(part.chromosomes):
            for arm in _arms(part, i):
                found |= {((chromosome, there), n) for there, n in _change(whole, part, chromosome, arm, extra)}
    return found


def _change(whole: Abnormality, part: Abnormality, chromosome: str, arm: str, extra: bool) -> list[tuple[str, int]]:
    """What a breakpoint in an arm does to the arms of that chromosome."""
    other = "p" if arm == "q" else "q"
    derived = whole.kind in ("der", "ider", "dic", "idic")
    if part.kind in ("dup", "trp"):
        return [(arm, 1)]
    if derived and part.kind in ("t", "ins") and chromosome not in whole.chromosomes:
        return [(arm, 1)]  # der(5)t(5;7)(q13;q11) has more of 7q
    if extra:
        return []
    if part.kind in ("del", "add", "dic") or (derived and part.kind == "t"):
        return [(arm, -1)]
    if part.kind in ("i", "ider"):
        return [(arm, 1), (other, -1)]
    if part.kind == "idic":
        return [(arm, -1), (other, 1)]
    if part.kind == "der" and len(part.chromosomes) > 1:
        return [(other, -1)]  # der(1;7)(q10;p10) is made of the arms it names
    return []


def _arms(part: Abnormality, i: int) -> set[str]:
    return {band[0] for band in part.breaks[i] if band[0] in "pq"}


# -- tests on one abnormality


def _rearranged(*breaks: tuple[str, str]) -> Test:
    """Translocation, inversion or insertion with a break at each of (chromosome, bands); no bands given will do."""

    def has(abnormality: Abnormality) -> bool:
        return any(
            part.kind in ("t", "inv", "ins") and all(_broken(part, *where) for where in breaks)
            for part in abnormality.with_parts()
        )

    return has


def _broken(part: Abnormality, chromosome: str, bands: str) -> bool:
    given = part.bands(chromosome)
    return chromosome in part.chromosomes and (
        not given or any(band.startswith(tuple(bands.split())) for band in given)
    )


def _11q23_translocation(abnormality: Abnormality) -> bool:
    return any(
        part.kind in ("t", "ins") and len(part.chromosomes) > 1 and any(b.startswith("q23") for b in part.bands("11"))
        for part in abnormality.with_parts()
    )


def _breaks(*arms: Arm) -> Test:
    return lambda a: any(arm in part.arms(chromosome) for part in a.with_parts() for chromosome, arm in arms)


def _lost(chromosome: str, arm: str) -> Test:
    return lambda a: (chromosome, arm) in lost(a)


def _gained(chromosome: str, arm: str) -> Test:
    return lambda a: (chromosome, arm) in gained(a)


def _abnormal(chromosome: str, arm: str) -> Test:
    """Any gain, loss or rearrangement of an arm."""
    return _any(_lost(chromosome, arm), _gained(chromosome, arm), _breaks((chromosome, arm)))


def _whole(kind: str, chromosome: str) -> Test:
    return lambda a: a.kind == kind and a.chromosomes == (chromosome,)


def _kind(kind: str, chromosome: str) -> Test:
    return lambda a: any(part.kind == kind and chromosome in part.chromosomes for part in a.with_parts())


def _any(*tests: Test) -> Test:
    return lambda a: any(test(a) for test in tests)


def _but_not(test: Test, *others: Test) -> Test:
    return lambda a: test(a) and not any(other(a) for other in others)


_INV_3 = _any(_rearranged(("3", "q21"), ("3", "q26")))
_T_9_11 = _rearranged(("9", "p21 p22"), ("11", "q23"))
_MINUS_7 = _whole("loss", "7")
_ADD_7 = _kind("add", "7")

FLAGS: dict[str, Test] = {
    "inv3_t3_3": _INV_3,
    "t_9_22": _rearranged(("9", "q34"), ("22", "q11")),
    "minus5_5q": _lost("5", "q"),
    "minus7": _MINUS_7,
    "minus7q": _but_not(_lost("7", "q"), _MINUS_7, _ADD_7),
    "abn7other": _but_not(_any(_ADD_7, _lost("7", "p"), _gained("7", "q")), _MINUS_7, _whole("gain", "7")),
    "plus8_8q": _gained("8", "q"),
    "minus9q": _lost("9", "q"),
    "mono12_12p_abn12p": _abnormal("12", "p"),
    "plus13": _whole("gain", "13"),
    "mono17_17p_abn17p": _any(_lost("17", "p"), _breaks(("17", "p"))),
    "minus18_18q": _lost("18", "q"),
    "minus20_20q": _lost("20", "q"),
    "plus21": _whole("gain", "21"),
    "plus22": _whole("gain", "22"),
    "minusY": _whole("loss", "Y"),
    "t_15_17": _rearranged(("15", "q"), ("17", "q")),
    "t_8_21": _rearranged(("8", "q22"), ("21", "q22")),
    "inv16_t16_16": _rearranged(("16", "p13"), ("16", "q22")),
    "t_6_9": _rearranged(("6", "p22 p23"), ("9", "q34")),
    "abn3q_other": _but_not(_abnormal("3", "q"), _INV_3),
    "plus11_11q": _gained("11", "q"),
    "mono4_4q_abn4q": _abnormal("4", "q"),
    "t_9_11": _T_9_11,
    "t_v_11": _but_not(_11q23_translocation, _T_9_11),
}
"""Name of an abnormality, and whether one item of a karyotype is it."""

RECURRENT = ("t_8_21", "inv16_t16_16", "t_15_17", "t_9_11", "t_v_11", "t_6_9", "inv3_t3_3", "t_9_22")
"""Those that define a kind of leukaemia (WHO), with which a karyotype is not called complex (ELN 2017)."""
