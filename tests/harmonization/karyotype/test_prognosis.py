"""Clonal abnormalities, their number, complex and monosomal karyotypes, and the IPSS-R groups, by the tables."""

from __future__ import annotations

import pytest

from harmonization.karyotype import Findings, findings, parse_karyotype


def found(text: str, sex: str | None = None) -> Findings:
    return findings(parse_karyotype(text, sex))


def test_normal_failed_and_not_done_are_three_things() -> None:
    normal, failed, not_done = found("46,XX[20]"), found("no metaphases"), found("not done")
    assert [f.status for f in (normal, failed, not_done)] == ["normal", "failed", "not done"]
    assert (normal.number, normal.complex, normal.ipss_r) == (0, False, "good")
    for nothing in (failed, not_done):
        assert (nothing.number, nothing.complex, nothing.monosomal, nothing.ipss_r, nothing.flags) == (None,) * 5


# Schanz 2012, table 3, line by line.
@pytest.mark.parametrize(
    ("group", "text"),
    [
        ("very good", "45,X,-Y[20]"),
        ("very good", "46,XX,del(11)(q14q23)[12]/46,XX[8]"),
        ("good", "46,XX[20]"),
        ("good", "46,XX,del(5)(q13q33)[20]"),
        ("good", "46,XX,del(12)(p12p13)[9]"),
        ("good", "46,XY,del(20)(q11q13)[20]"),
        ("good", "47,XX,del(5)(q13q33),+8[20]"),
        ("intermediate", "46,XX,del(7)(q22)[20]"),
        ("intermediate", "47,XX,+8[14]/46,XX[6]"),
        ("intermediate", "47,XX,+19[20]"),
        ("intermediate", "46,XX,i(17)(q10)[20]"),
        ("intermediate", "46,XY,t(6;9)(p23;q34)[20]"),
        ("intermediate", "45,X,-X[20]"),
        ("intermediate", "46,XX,add(5)(q31)[20]"),
        ("intermediate", "48,XX,+8,+21[20]"),
        ("intermediate", "47,XX,+8[7]/47,XX,+21[8]"),
        ("intermediate", "45,XX,-7[7]/46,XX,del(5)(q13q33)[8]"),  # two independent clones
        ("poor", "45,XY,-7[20]"),
        ("poor", "46,XY,inv(3)(q21q26)[20]"),
        ("poor", "46,XY,t(3;21)(q26;q22)[20]"),
        ("poor", "46,XY,del(3)(q21)[20]"),
        ("poor", "46,XY,-7,+8[20]"),
        ("poor", "46,XY,del(7)(q22),del(20)(q11)[20]"),
        ("poor", "45,XX,del(5)(q13q33),-7[20]"),
        ("poor", "46,XY,+1,der(1;7)(q10;p10)[20]"),
        ("poor", "48,XY,del(5)(q13q33),+8,+21[20]"),
        ("very poor", "49,XY,del(5)(q13q33),+8,+21,+mar[20]"),
    ],
)
def test_ipss_r_group(group: str, text: str) -> None:
    assert found(text).ipss_r == group


def test_a_single_lost_sex_chromosome_of_unknown_kind_has_no_group() -> None:
    assert found("45,X[20]").ipss_r is None
    assert found("45,X[20]", "male").ipss_r == "very good"
    assert found("45,X[20]", "female").ipss_r == "intermediate"


# ISCN 11.1.1: two cells for a gain or a structural change, three for a loss.
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("47,XX,+8[1]/46,XX[19]", 0),
        ("47,XX,+8[2]/46,XX[18]", 1),
        ("45,XX,-7[2]/46,XX[18]", 0),
        ("45,XX,-7[3]/46,XX[17]", 1),
        ("45,XX,-7", 1),
        ("47,XX,+8[1]/48,XX,+8,+9[1]/46,XX[18]", 1),  # +8 in two cells
        ("45~47,XX,-5[2],+8[2],+9[1][cp4]", 1),
    ],
)
def test_only_clones_count(text: str, number: int) -> None:
    assert found(text).number == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("48,XX,+8,+8", 2),
        ("47,XX,+8/48,XX,+8,+9/49,XX,+8,+9,+10", 3),  # an evolving clone: each once
        ("47,XX,+8/47,XX,idem,del(5)(q13q33)/46,XX,idem,-7", 3),
        ("48,XX,+8,+9/46,XX,del(5)(q13q33)", 2),  # unrelated: the one with most
        ("46,XX,der(5)t(5;7)(q13;q11)", 1),
        ("45,XX,dic(5;17)(q11;p11)", 1),
        ("46,XX,t(9;22)(q34;q11)", 1),
        ("46,XX,-7,+der(7)t(1;7)(q21;q22)", 1),  # der(7) written the old way
        ("48,XX,+1~3mar", 3),
        ("48,XX,+mar1,+mar2", 2),
        ("92,XXYY", 1),
        ("92,XXYY,-5,-5", 3),
        ("47,XX,+8[10]/94,idemx2[3]", 2),
        ("45,X,-Y,-Y", 1),
        ("46,XX,inv(9)(p11q13)", 0),
        ("48,XX,+21c,+8", 1),
        ("47,XXY", 0),
    ],
)
def test_counting(text: str, number: int) -> None:
    got = found(text)
    assert got.number == number
    assert got.complex == (number >= 3)


def test_complex_of_the_eln_leaves_out_what_is_a_leukaemia_of_its_own() -> None:
    core_binding = found("49,XX,+8,inv(16)(p13q22),+21,+22")
    assert (core_binding.complex, core_binding.complex_eln) == (True, False)
    other = found("48,XX,del(5)(q13q33),+8,+21")
    assert (other.complex, other.complex_eln) == (True, True)


# Breems 2008
@pytest.mark.parametrize(
    ("monosomal", "text"),
    [
        (True, "44,XX,-5,-7"),
        (True, "45,XX,-7,del(5)(q13q33)"),
        (True, "46,XX,-7,+mar"),
        (True, "45,XX,-7/46,XX,-7,+r"),
        (False, "45,XX,-7"),
        (False, "46,XX,-7,+8"),
        (False, "44,X,-Y,-7"),
        (False, "45,X,-Y,t(3;3)(q21;q26)"),
        (False, "46,XX,-7,+der(7)t(1;7)(q21;q22)"),
        (False, "45,XX,t(8;21)(q22;q22),-7"),
        (False, "45,XX,inv(16)(p13q22),-7"),
        (False, "90,XXXX,-5,-7,del(3)(p14)"),
        (False, "45,XX,-7[2],del(5)(q13q33)[9][cp9]"),  # -7 is not clonal
    ],
)
def test_monosomal(monosomal: bool, text: str) -> None:
    assert found(text).monosomal is monosomal


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("46,XX", set()),
        ("45,XX,-5", {"minus5_5q"}),
        ("46,XX,del(5)(q13q33)", {"minus5_5q"}),
        ("46,XX,der(5)t(5;7)(q13;p11)", {"minus5_5q"}),
        ("45,XX,der(5;17)(p10;q10)", {"minus5_5q", "mono17_17p_abn17p"}),
        ("45,XX,dic(5;17)(q11;p11)", {"minus5_5q", "mono17_17p_abn17p"}),
        ("45,XX,-7", {"minus7"}),
        ("46,XX,del(7)(q22)", {"minus7q"}),
        ("46,XX,+1,der(1;7)(q10;p10)", {"minus7q"}),
        ("46,XX,add(7)(q32)", {"abn7other"}),
        ("46,XX,t(7;9)(q22;q34)", set()),
        ("47,XX,+8", {"plus8_8q"}),
        ("47,XX,+i(8)(q10)", {"plus8_8q"}),
        ("47,XX,+del(8)(p11)", {"plus8_8q"}),
        ("46,XX,del(8)(q22)", set()),
        ("46,XX,del(9)(q13q22)", {"minus9q"}),
        ("46,XX,i(17)(q10)", {"mono17_17p_abn17p"}),
        ("46,XX,t(12;17)(p13;q21)", {"mono12_12p_abn12p"}),
        ("46,XX,t(8;21)(q22;q22)", {"t_8_21"}),
        ("46,XX,t(8;17;21)(q22;q25;q22)", {"t_8_21"}),
        ("46,XX,t(8;21)(p11;q22)", set()),
        ("46,XX,inv(16)(p13.1q22)", {"inv16_t16_16"}),
        ("46,XX,t(16;16)(p13;q22)", {"inv16_t16_16"}),
        ("46,XX,t(15;17)(q22;q21)", {"t_15_17"}),
        ("46,XX,t(6;9)(p23;q34)", {"t_6_9"}),
        ("46,XX,inv(3)(q21q26.2)", {"inv3_t3_3"}),
        ("46,XX,t(3;3)(q21;q26)", {"inv3_t3_3"}),
        ("46,XX,t(3;21)(q26;q22)", {"abn3q_other"}),
        ("46,XX,t(9;11)(p22;q23)", {"t_9_11"}),
        ("46,XX,t(11;19)(q23;p13)", {"t_v_11"}),
        ("46,XX,t(1;11)", set()),
        ("46,XX,t(9;22)(q34;q11.2)", {"t_9_22"}),
        ("45,X,-Y", {"minusY"}),
        ("47,XX,+21", {"plus21"}),
        ("47,XX,+21c", set()),
        ("47,XX,+21[1]/46,XX[19]", set()),
    ],
)
def test_flags(text: str, flags: set[str]) -> None:
    named = found(text).flags
    assert named is not None
    assert {name for name, there in named.items() if there} == flags
