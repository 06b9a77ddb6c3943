"""The parser: what a karyotype is made of, what it is written like, and where a text stops being one."""

from __future__ import annotations

import contextlib
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonization.karyotype import Abnormality, KaryotypeError, parse_karyotype
from harmonization.karyotype.notation import CHROMOSOMES


def only(text: str) -> Abnormality:
    """The single abnormality of a single clone."""
    (clone,) = parse_karyotype(text).clones
    (abnormality,) = clone.abnormalities
    return abnormality


def test_clones_cells_and_sex() -> None:
    karyotype = parse_karyotype("45,X,-Y,t(8;21)(q22;q22)[12]/46,XY[8]")
    first, second = karyotype.clones
    assert (first.chromosomes, first.sex, first.cells) == ((45, 45), "X", 12)
    assert [a.kind for a in first.abnormalities] == ["loss", "t"]
    assert first.abnormalities[1].breaks == (("q22",), ("q22",))
    assert (second.sex, second.abnormalities, second.cells) == ("XY", (), 8)
    assert karyotype.cells == 20


@pytest.mark.parametrize(
    ("item", "kind", "chromosomes", "breaks"),
    [
        ("del(5)(q13q33)", "del", ("5",), (("q13", "q33"),)),
        ("del(5)(q13;q33)", "del", ("5",), (("q13", "q33"),)),
        ("del(5)(q?)", "del", ("5",), (("q?",),)),
        ("del(5q)", "del", ("5",), (("q",),)),
        ("5q-", "del", ("5",), (("q",),)),
        ("dup(1)(q21q32)", "dup", ("1",), (("q21", "q32"),)),
        ("inv(3)(q21q26.2)", "inv", ("3",), (("q21", "q26.2"),)),
        ("inv(3)(q21;26)", "inv", ("3",), (("q21", "q26"),)),
        ("t(9;22)(q34;q11.2)", "t", ("9", "22"), (("q34",), ("q11.2",))),
        ("t(2:11)(p21:q23)", "t", ("2", "11"), (("p21",), ("q23",))),
        ("t(8;17;21)(q22;q25;q22)", "t", ("8", "17", "21"), (("q22",), ("q25",), ("q22",))),
        ("t(X;17)(q28;q21)", "t", ("X", "17"), (("q28",), ("q21",))),
        ("ins(2;4)(p?;q?,q?)", "ins", ("2", "4"), (("p?",), ("q?", "q?"))),
        ("i(17)(q10)", "i", ("17",), (("q10",),)),
        ("iso(17)(q10)", "i", ("17",), (("q10",),)),
        ("idic(X)(q13)", "idic", ("X",), (("q13",),)),
        ("dic(5;17)(q21p12)", "dic", ("5", "17"), (("q21",), ("p12",))),
        ("der(1;7)(q10;p10)", "der", ("1", "7"), (("q10",), ("p10",))),
        ("der(3)", "der", ("3",), ((),)),
        ("add(17)(p1?1)", "add", ("17",), (("p1?1",),)),
        ("r(7)(p22q36)", "r", ("7",), (("p22", "q36"),)),
        ("hsr(11)(q23)", "hsr", ("11",), (("q23",),)),
        ("t(1;11)", "t", ("1", "11"), ((), ())),
        ("dmin", "dmin", (), ()),
    ],
)
def test_structural(item: str, kind: str, chromosomes: tuple[str, ...], breaks: tuple[tuple[str, ...], ...]) -> None:
    found = only(f"46,XY,{item}")
    assert (found.kind, found.chromosomes, found.breaks) == (kind, chromosomes, breaks)
    assert only(f"46,xy,_{item.lower()}[3]").identity == found


@pytest.mark.parametrize(
    ("item", "copies", "label"),
    [
        ("+mar", (1, 1), ""),
        ("+2mar", (2, 2), ""),
        ("+1~3mar", (1, 3), ""),
        ("+1-3mar", (1, 3), ""),
        ("+mar1", (1, 1), "1"),
        ("+2mar1", (2, 2), "1"),
        ("+mar1-5", (5, 5), "1"),
        ("+mar1x2", (2, 2), "1"),
        ("1~2dmin", (1, 2), ""),
    ],
)
def test_markers(item: str, copies: tuple[int, int], label: str) -> None:
    found = only(f"47,XX,{item}")
    assert (found.copies, found.label) == (copies, label)


def test_numbers_of_copies_before_and_behind() -> None:
    assert only("46,XX,2xadd(21)(p11)") == only("46,XX,add(21)(p11)x2") == only("46,XX,add(21)(p11)*2")
    assert only("48,XX,+21x2").copies == (2, 2)


def test_derivative_has_parts() -> None:
    found = only("46,XX,der(9)del(9)(p12)t(9;22)(q34;q11.2)")
    assert [(part.kind, part.chromosomes) for part in found.parts] == [("del", ("9",)), ("t", ("9", "22"))]


def test_marks_of_doubt_and_of_what_is_inborn() -> None:
    assert only("46,XX,?del(12)(p12p13)").uncertain
    assert only("47,XX,+?22").uncertain
    assert only("46,XX,?del(12)(p12p13)") == only("46,XX,del(12)(p12p13)")
    assert only("46,XX,add(7)(q22)ordel(7)(q22)").uncertain
    for text in ("46,XY,inv(9)(p11q13)c", "46,XY,inv(9)(p11q13)", "46,XY,9ph", "46,XY,1qh+", "47,XX,+21c"):
        assert only(text).constitutional, text
    assert not only("46,XY,inv(9)(p13q34)").constitutional


def test_stemline() -> None:
    _, idem, sideline, back = parse_karyotype(
        "46,XX,t(8;21)(q22;q22)[9]/47,idem,+8[10]/48,sdl1,+9[4]/46,sdl2,-8[3]"
    ).clones
    assert [a.kind for a in idem.abnormalities] == ["t", "gain"]
    assert idem.sex == "XX"
    assert [a.chromosomes for a in sideline.abnormalities] == [("8", "21"), ("8",), ("9",)]
    assert [a.chromosomes for a in back.abnormalities] == [("8", "21"), ("9",)]  # what is lost again is not there


def test_stemline_may_be_named_anywhere_and_lose_a_marker() -> None:
    clones = parse_karyotype("47,XY,-5,+mar[8]/46,XY,idem,-mar,+r[2]/45,XY,-7,idem[21]").clones
    assert [a.kind for a in clones[1].abnormalities] == ["loss", "r"]
    assert sorted(a.kind for a in clones[2].abnormalities) == ["loss", "loss", "mar"]


def test_composite() -> None:
    (clone, _) = parse_karyotype("45~48,XX,del(3)(p14)[2],-5[4],+8[2],+11[3][cp7]/46,XX[3]").clones
    assert (clone.chromosomes, clone.composite, clone.cells) == ((45, 48), True, 7)
    assert [a.cells for a in clone.abnormalities] == [2, 4, 2, 3]


def test_lost_sex_chromosome_that_is_not_written() -> None:
    def lost(text: str, sex: str | None = None) -> tuple[str, ...]:
        return parse_karyotype(text, sex).clones[0].abnormalities[0].chromosomes

    assert lost("45,X[3]/46,XY[10]") == ("Y",)
    assert lost("45,X[3]/46,XX[10]") == ("X",)
    assert lost("45,X", "male") == ("Y",)
    assert lost("45,X") == ("?",)
    assert parse_karyotype("46,X,t(X;21)(p11;q22)").clones[0].abnormalities[0].kind == "t"


def test_failed_and_not_done_are_no_karyotypes_but_no_errors() -> None:
    assert parse_karyotype("no metaphases").failed
    assert parse_karyotype("Keine analysierbaren Metaphasen.").failed
    assert not parse_karyotype("not done").failed
    assert parse_karyotype("not done").clones == ()


def test_results_of_other_methods_are_kept_unread() -> None:
    karyotype = parse_karyotype("46,XX[20].nuc ish(D8Z1x3)[50/200]")
    assert karyotype.clones[0].abnormalities == ()
    assert karyotype.unread == "nuc ish(D8Z1x3)[50/200]"


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("", 0, "number of chromosomes"),
        ("complex", 0, "number of chromosomes"),
        ("4445,XX", 0, "20 to 300"),
        ("46,+8,XX", 6, "abnormality"),
        ("46", 2, "sex chromosomes"),
        ("44,XX", 0, "46 chromosomes"),  # not a normal karyotype: something was left out
        ("46,XX; FISH: monosomy 7", 7, "number of chromosomes"),
        ("46,XY PCR: inv(16)", 6, "',' and an abnormality"),
        ("46,XX,del(5(q31q33)", 11, "';' or ')'"),
        ("46,XX,del(5)(q31q33", 19, "breakpoint"),
        ("46,XX,del(59)(q12q35)", 10, "a chromosome"),
        ("45,XX,-72", 7, "a chromosome"),
        ("46,XX,t(q22;q22)", 8, "a chromosome"),
        ("46,XX,t(1;2)(p1;q2;q3)", 22, "breakpoints for 2"),
        ("46,XX,del(5;7)(q13;q22)", 14, "single chromosome"),
        ("46,XX,t(8;21)(;q22)", 14, "breakpoint"),
        ("47,idem,+8", 3, "no clone yet"),
        ("46,XX,+8[3]/47,sdl2,+9", 15, "sideline"),
        ("48,XX,+8x2", 7, "+8,+8"),  # eight of chromosome 2, or two of 8
        ("46,XX,8", 6, "an abnormality"),
        ("46,XX[2]hyper", 8, "another clone"),
        ("46,XY,wrong(7)", 6, "an abnormality"),
        ("46,XX,XY", 6, "sex chromosomes stand before"),
    ],
)
def test_errors_name_text_position_and_what_was_expected(text: str, position: int, expected: str) -> None:
    with pytest.raises(KaryotypeError) as caught:
        parse_karyotype(text)
    error = caught.value
    assert (error.text, error.position) == (text, position)
    assert expected in error.expected
    assert repr(text) in str(error)
    assert f"character {position + 1}" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# -- properties

_BANDS = st.from_regex(r"[pq][1-3][1-6](\.[1-3])?", fullmatch=True)
_NAMES = st.sampled_from(CHROMOSOMES)


def _one_chromosome(kind: str) -> st.SearchStrategy[Abnormality]:
    return st.builds(
        lambda c, bands, sign, n: Abnormality(kind, (c,), (tuple(bands),), sign=sign, copies=(n, n)),
        _NAMES.filter(lambda c: (kind, c) != ("inv", "9")),
        st.lists(_BANDS, min_size=1, max_size=2),
        st.sampled_from([0, 1]),
        st.sampled_from([1, 2]),
    )


def _several(kind: str) -> st.SearchStrategy[Abnormality]:
    return st.lists(st.tuples(_NAMES, _BANDS), min_size=2, max_size=4).map(
        lambda pairs: Abnormality(kind, tuple(c for c, _ in pairs), tuple((b,) for _, b in pairs))
    )


_ABNORMALITIES = st.one_of(
    st.builds(lambda kind, c: Abnormality(kind, (c,), ((),)), st.sampled_from(["gain", "loss"]), _NAMES),
    *(_one_chromosome(kind) for kind in ("del", "dup", "add", "inv", "i", "idic")),
    *(_several(kind) for kind in ("t", "dic", "ins")),
    st.builds(
        lambda c, parts: Abnormality("der", (c,), ((),), tuple(parts)),
        _NAMES,
        st.lists(_several("t") | st.builds(lambda c, b: Abnormality("del", (c,), ((b,),)), _NAMES, _BANDS), max_size=3),
    ),
    st.builds(lambda low, more: Abnormality("mar", copies=(low, low + more)), st.integers(1, 4), st.integers(0, 3)),
)


def written(a: Abnormality) -> str:
    """An abnormality in the short system of the ISCN."""
    if a.kind in ("gain", "loss"):
        return f"{'+' if a.kind == 'gain' else '-'}{a.chromosomes[0]}"
    low, high = a.copies
    if a.kind == "mar":
        return f"+{'' if high == 1 else low if low == high else f'{low}~{high}'}mar"
    bands = ";".join("".join(group) for group in a.breaks)
    return "".join(
        [
            "+" if a.sign > 0 else "",
            f"{a.kind}({';'.join(a.chromosomes)})",
            f"({bands})" if any(a.breaks) else "",
            *map(written, a.parts),
            f"x{high}" if high > 1 else "",
        ]
    )


_CLONES = st.lists(
    st.tuples(st.lists(_ABNORMALITIES, min_size=1, max_size=6), st.integers(1, 60), st.booleans()),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(_CLONES)
def test_what_is_written_is_read(clones: list[tuple[list[Abnormality], int, bool]]) -> None:
    text = "/".join(
        f"40~50,XY,{','.join(map(written, abnormalities))}[{'cp' if composite else ''}{cells}]"
        for abnormalities, cells, composite in clones
    )
    read = parse_karyotype(text)
    assert [(list(c.abnormalities), c.cells, c.composite) for c in read.clones] == clones
    assert parse_karyotype(text.lower().replace(",", " , ").replace("/", " / ")).clones == read.clones


@settings(max_examples=40, deadline=None)
@given(_CLONES, st.data())
def test_a_broken_text_is_read_or_is_a_karyotype_error(
    clones: list[tuple[list[Abnormality], int, bool]], data: st.DataObject
) -> None:
    text = "/".join(f"46,XX,{','.join(map(written, a))}[{n}]" for a, n, _ in clones)
    at = data.draw(st.integers(0, len(text)))
    text = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 2)) :]
    with contextlib.suppress(KaryotypeError):
        parse_karyotype(text)


@settings(max_examples=40, deadline=None)
@given(_CLONES, st.sampled_from([" unclear", "(FISH)", ",monosomy 7", "!", ",del", "/normal"]))
def test_nothing_behind_a_karyotype_is_passed_over(
    clones: list[tuple[list[Abnormality], int, bool]], remark: str
) -> None:
    text = "/".join(f"46,XX,{','.join(map(written, a))}[{n}]" for a, n, _ in clones)
    with pytest.raises(KaryotypeError):
        parse_karyotype(text + remark)
