"""Genes and karyotypes: present, wild type, not tested, failed; what features ask of variants and abnormalities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harmonization.dictionary import Dictionary, Variant
from harmonization.extraction.genomics import alteration, codons, judge
from harmonization.extraction.karyotypes import evaluate
from harmonization.extraction.pieces import view
from harmonization.harmonize import harmonize
from tests.harmonization.hospital import (
    FEATURE,
    HGNC,
    LOINC,
    SNOMED,
    Resource,
    absent,
    cell,
    coded,
    diagnosis,
    harmonized,
    karyotype,
    observation,
    panel,
    patient,
    set_aside,
    variant,
    write,
)


@pytest.mark.parametrize(
    ("coding", "protein", "expected"),
    [
        ("", "p.Arg140Gln", (140, 140)),
        ("", "p.(Arg140Gln)", (140, 140)),
        ("", "NP_002159.2:p.R140Q", (140, 140)),
        ("", "R172K", (172, 172)),
        ("", "p.Asp835_Ile836del", (835, 836)),
        ("NM_002168.3:c.419G>A", "", (140, 140)),
        ("c.2503_2508del", "", (835, 836)),
        ("c.993+1G>A", "", None),
        ("c.-12C>T", "", None),
        ("c.*32C>T", "", None),
        ("", "p.?", None),
        ("", "", None),
    ],
)
def test_codons(coding: str, protein: str, expected: tuple[int, int] | None) -> None:
    assert codons((coding, protein)) == expected


@pytest.mark.parametrize(
    ("gene", "coding", "protein", "expected"),
    [
        ("FLT3", "c.1780_1821dup", "p.Phe594_Asp607dup", "internal_tandem_duplication"),
        ("FLT3", "c.1802_1803insGGCTAC", "", "internal_tandem_duplication"),
        ("FLT3", "", "p.Phe594_Asp607dup", "internal_tandem_duplication"),
        ("FLT3", "", "FLT3-ITD", "internal_tandem_duplication"),
        ("FLT3", "c.2503G>T", "p.Asp835Tyr", "sequence"),
        ("FLT3", "c.2508_2509insGGA", "p.Ser836_Asp837insGly", "sequence"),
        ("FLT3", "c.1784dup", "p.Tyr597fs", "sequence"),
        ("KMT2A", "c.34-?_3334+?dup", "", "sequence"),  # no HGVS that says where it begins
        ("KMT2A", "c.433+1_4086-1dup", "", "partial_tandem_duplication"),
        ("KMT2A", "c.433_1200dup", "", "partial_tandem_duplication"),
        ("KMT2A", "c.433dup", "", "sequence"),
        ("KMT2A", "", "KMT2A-PTD", "partial_tandem_duplication"),
        ("NPM1", "c.860_863dup", "p.Trp288fs", "sequence"),
        ("FLT3", "", "", None),
    ],
)
def test_duplications(gene: str, coding: str, protein: str, expected: str | None) -> None:
    assert alteration(gene, (coding, protein)) == expected


IDH2_140 = Variant("IDH2", codons=(140,))
FLT3_ITD = Variant("FLT3", "internal_tandem_duplication")
ONE, SEVERAL = Variant("CEBPA", hits="one"), Variant("CEBPA", hits="several")
TP53_MULTI = Variant("TP53", hits="several", loss="17p")
R140, R172, UNNAMED = ("", "p.R140Q"), ("", "p.R172K"), ("", "")
HIT, OTHER = ("c.68dup", ""), ("c.937_939dup", "")


@pytest.mark.parametrize(
    ("rule", "found", "tested", "lost", "expected"),
    [
        (Variant("TP53"), [], False, None, None),
        (Variant("TP53"), [], True, None, 0.0),
        (Variant("TP53"), [UNNAMED], False, None, 1.0),
        (IDH2_140, [R140], False, None, 1.0),
        (IDH2_140, [R172], False, None, 0.0),
        (IDH2_140, [UNNAMED], True, None, None),
        (IDH2_140, [R140, UNNAMED], True, None, 1.0),
        (FLT3_ITD, [("", "p.Asp835Tyr")], False, None, None),
        (FLT3_ITD, [("", "p.Asp835Tyr")], True, None, 0.0),
        (Variant("FLT3", "sequence", except_codons=(835, 836)), [("", "p.Asp835Tyr")], True, None, 0.0),
        (Variant("FLT3", "sequence", except_codons=(835, 836)), [("", "p.Asn676Lys")], True, None, 1.0),
        (ONE, [HIT], False, None, 1.0),
        (ONE, [HIT, OTHER], False, None, 0.0),
        (ONE, [UNNAMED], True, None, None),
        (ONE, [], True, None, 0.0),
        (SEVERAL, [HIT], False, None, 0.0),
        (SEVERAL, [HIT, OTHER], False, None, 1.0),
        (SEVERAL, [UNNAMED], True, None, None),
        (SEVERAL, [], False, None, None),
        (TP53_MULTI, [HIT], True, True, 1.0),
        (TP53_MULTI, [HIT], True, False, 0.0),
        (TP53_MULTI, [HIT], True, None, None),
        (TP53_MULTI, [], True, True, 0.0),
        (TP53_MULTI, [UNNAMED], True, True, 1.0),
        (TP53_MULTI, [HIT, OTHER], True, None, 1.0),
    ],
)
def test_what_features_ask_of_variants(
    rule: Variant, found: list[Any], tested: bool, lost: bool | None, expected: float | None
) -> None:
    assert judge(rule, found, tested, lost) == expected


def test_wild_type_not_tested_and_failed_are_three_things(tmp_path: Path) -> None:
    found = harmonized(
        tmp_path,
        variant("p", 1, "NPM1", protein="p.Trp288fs"),
        panel("p", 2, "NPM1", "TP53", "SFRS2"),
        panel("p", 3, "RUNX1", "ASXL1", **absent("error")),
        panel("p", 4, "WT1", **absent("not-performed")),
    )
    expected = {"NPM1": 1.0, "TP53": 0.0, "SRSF2": 0.0, "RUNX1": "failed", "WT1": "not done", "KRAS": "not tested"}
    assert {gene: cell(found, gene) for gene in expected} == expected
    assert cell(harmonized(tmp_path), "TP53") == "not reported"
    assert cell(harmonized(tmp_path, panel("p", 1, **absent("error"))), "TP53") == "failed"
    assert cell(harmonized(tmp_path, panel("p", 1, "TP53", on="2016-01-01")), "TP53") == "outside window"
    row = found.provenance.set_index("feature").loc["TP53"]
    assert (row["resource"], row["original"]) == ("Observation/p-2", "gene tested")
    assert found.provenance.set_index("feature").loc["NPM1", "original"] == "NPM1 p.Trp288fs"


def test_results_of_variants(tmp_path: Path) -> None:
    def tp53(**parts: Any) -> float | str:
        return cell(harmonized(tmp_path, variant("p", 1, "TP53", **parts)), "TP53")

    assert tp53() == 1.0
    assert tp53(answer="LA9634-2") == 0.0
    assert tp53(answer="LA18198-4") == "failed"
    assert tp53(answer="LA11884-6") == "unknown"
    assert tp53(answer="LA33-6", vaf={"value": 45, "unit": "%"}) == 1.0
    assert tp53(vaf={"value": 45, "unit": "1"}) == "quarantined"
    assert tp53(vaf={"value": 0.45, "unit": "reads"}) == "quarantined"
    assert tp53(germline=True) == "not reported"


def test_an_absent_change_says_nothing_of_other_codons(tmp_path: Path) -> None:
    found = harmonized(tmp_path, variant("p", 1, "IDH2", protein="p.R172K", answer="LA9634-2"))
    assert cell(found, "IDH2_p172") == 0.0
    assert cell(found, "IDH2_p140") == "not reported"


def test_nothing_is_concluded_from_silence_where_a_record_was_set_aside(tmp_path: Path) -> None:
    tested = panel("p", 1, "TP53", "NPM1")
    broken = {**variant("p", 2, "TP53"), "status": "banana"}
    found = harmonized(tmp_path, tested, broken)
    assert cell(found, "TP53") == "quarantined"
    assert cell(found, "NPM1") == 0.0
    nameless = observation("p", 2, (LOINC, "69548-6"), valueCodeableConcept=coded((LOINC, "LA9633-4")))
    found = harmonized(tmp_path, tested, nameless)
    assert cell(found, "TP53") == "quarantined"
    assert cell(found, "NPM1") == "quarantined"
    assert set_aside(tmp_path)[0]["reason"] == "a variant of no gene (48018-6)"


def test_gene_lists(tmp_path: Path) -> None:
    def by_code(number: int, hgnc: str, **value: Any) -> Resource:
        return observation("p", number, (HGNC, hgnc), **value)

    found = harmonized(
        tmp_path,
        observation("p", 1, (LOINC, "69548-6"), valueString="NPM1, MLL2"),
        observation("p", 2, (FEATURE, "genes_tested"), valueString="NPM1; MLL2 TP53"),
        by_code(3, "HGNC:6407", valueCodeableConcept=coded((LOINC, "LA9633-4"))),
        by_code(4, "HGNC:7989", valueBoolean=False),
        by_code(5, "HGNC:12796"),
    )
    expected = {"NPM1": 1.0, "MLL2": 1.0, "TP53": 0.0, "KRAS": 1.0, "NRAS": 0.0, "WT1": "unknown", "KIT": "not tested"}
    assert {gene: cell(found, gene) for gene in expected} == expected


def test_stated_outright_and_found_are_joined(tmp_path: Path) -> None:
    no = observation("p", 1, (FEATURE, "TP53"), valueCodeableConcept=coded((LOINC, "LA9634-2")))
    assert cell(harmonized(tmp_path, no), "TP53") == 0.0
    found = harmonized(tmp_path, no, variant("p", 2, "TP53"))
    assert cell(found, "TP53") == 1.0
    assert found.counts["features"]["TP53"]["contradictions"] == 1
    v617f = observation("p", 1, (LOINC, "43399-5"), valueCodeableConcept=coded((LOINC, "LA9633-4")))
    assert cell(harmonized(tmp_path, v617f), "JAK2") == 1.0


def test_views_and_dictionary_name_the_same_parts_of_a_report() -> None:
    concepts = Dictionary.read("core").concepts
    for name in ("variants", "regions"):
        constants = view(name).definition.constants
        for role in ("variant", "gene", "coding_change", "protein_change", "allele_frequency", "source_class"):
            if role in constants:
                assert [code.code for code in concepts[role]] == [constants[role].value], (name, role)
        assert constants["loinc"].value == LOINC
    assert view("regions").definition.constants["region"].value == concepts["region_studied"][0].code


@pytest.mark.parametrize(
    ("finding", "text", "expected"),
    [
        ("gain(8)", "47,XY,+8[12]", 1),
        ("gain(8)", "46,XY,i(8)(q10)[12]", 0),
        ("gain(8q)", "46,XY,i(8)(q10)[12]", 1),
        ("loss(7)", "45,XX,-7[20]", 1),
        ("loss(7)", "46,XX,del(7)(q22)[20]", 0),
        ("loss(7q)", "46,XX,del(7)(q22)[20]", 1),
        ("loss(7q)", "45,XX,-7[20]", 0),
        ("loss(5q)", "46,XX,del(5)(q13q33)[20]", 1),
        ("loss(Y)", "45,X,-Y[20]", 1),
        ("rearranged(1;7)", "46,XY,+1,der(1;7)(q10;p10)[20]", 1),
        ("rearranged(1;7)", "46,XY,t(1;3)(p36;q21)[20]", 0),
        ("ring", "46,XY,r(7)[20]", 1),
        ("complex", "48,XY,+8,+21,t(8;21)(q22;q22)[20]", 1),
        ("complex_eln", "48,XY,+8,+21,t(8;21)(q22;q22)[20]", 0),
        ("monosomal", "44,XY,-5,-7[20]", 1),
        ("ipss_r", "46,XX[20]", 1),
        ("ipss_r", "45,X,-Y[20]", 0),
        ("t_8_21", "46,XX,t(8;21)(q22;q22)[20]", 1),
        ("gain(8)", "46,XX,del(5)(q13q33),inc[20]", None),
        ("loss(5q)", "46,XX,del(5)(q13q33),inc[20]", 1),
    ],
)
def test_findings_in_karyotypes(finding: str, text: str, expected: float | None) -> None:
    assert evaluate(finding, text, "male" if "Y" in text else "female") == expected


def test_every_finding_of_the_dictionaries_can_be_evaluated() -> None:
    for name in ("aml", "mds", "cmml", "mm"):
        for entry in Dictionary.read(name).entries:
            if entry.karyotype is not None:
                assert evaluate(entry.karyotype, "46,XX[20]", "female") == (1 if entry.karyotype == "ipss_r" else 0)


def test_karyotypes_of_patients(tmp_path: Path) -> None:
    found = harmonized(tmp_path, karyotype("p", 1, "47,XX,+8[12]/46,XX[8]"))
    assert cell(found, "plus8_8q") == 1.0
    assert cell(found, "minus7") == 0.0
    row = found.provenance.set_index("feature").loc["minus7"]
    assert (row["resource"], row["original"]) == ("Observation/p-1", "47,XX,+8[12]/46,XX[8]")
    assert cell(harmonized(tmp_path, karyotype("p", 1, "no metaphases")), "minus7") == "failed"
    assert cell(harmonized(tmp_path, karyotype("p", 1, "not done")), "minus7") == "not done"
    assert cell(harmonized(tmp_path, karyotype("p", 1, "46,XX", on="2016-05-01")), "minus7") == "outside window"
    assert cell(harmonized(tmp_path, karyotype("p", 1, "monosomy seven")), "minus7") == "quarantined"
    assert set_aside(tmp_path)[0]["kind"] == "karyotype"
    fish = observation("p", 2, (LOINC, "77040-4"), valueCodeableConcept=coded((LOINC, "LA9633-4")))
    found = harmonized(tmp_path, fish, karyotype("p", 1, "46,XX[20]"))
    assert cell(found, "t_8_21") == 1.0  # cryptic in the karyotype
    assert found.counts["features"]["t_8_21"]["contradictions"] == 1


def test_a_report_concludes_with_a_karyotype(tmp_path: Path) -> None:
    report: Resource = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": coded((LOINC, "81861-7")),
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2015-06-12",
        "conclusion": "45,XX,-7[20]",
    }
    assert cell(harmonized(tmp_path, report), "minus7") == 1.0


def test_loss_of_the_other_allele_is_a_hit(tmp_path: Path) -> None:
    start = [patient("p"), diagnosis("p", code=(SNOMED, "109995007")), variant("p", 1, "TP53", protein="p.R248Q")]
    cases = {"46,XX[20]": 0.0, "45,XX,-17[20]": 1.0, "46,XX,i(17)(q10)[20]": 1.0}
    for i, (text, expected) in enumerate(cases.items()):
        source = write(tmp_path / str(i), [*start, karyotype("p", 2, text)])
        assert cell(harmonize(source, "mds"), "TP53multi") == expected
    assert cell(harmonize(write(tmp_path / "none", start), "mds"), "TP53multi") == "unknown"
