"""Mutations and findings in the karyotype of every patient, from variants, panels and karyotypes.

What an Observation states outright of a feature was chosen before (`harmonization.extraction.windows`); it and what is
found here are joined by the rule *any*: present if either says so. Where they differ, that is a contradiction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harmonization.dictionary import Dictionary, Window
from harmonization.extraction.gathering import Floats, Gathered
from harmonization.extraction.genomics import Change, judge, matches
from harmonization.extraction.karyotypes import KARYOTYPE, arm_is_lost, evaluate
from harmonization.extraction.missing import Missing
from harmonization.extraction.records import VariantRecord
from harmonization.extraction.windows import Cells, in_window


@dataclass
class Origins:
    """Where values come from that no single record of the feature has.

    Parameters
    ----------
    variants
        Number of the variant record, by patient and feature.
    regions
        Number of the region record that covers the gene of a wild type, shape (patients, features); -1 if none.
    """

    regions: NDArray[np.int32]
    variants: dict[tuple[int, int], int] = field(default_factory=dict)


def karyotype_findings(cells: Cells, gathered: Gathered, dictionary: Dictionary) -> list[str | None]:
    """Fill the features that are findings in a karyotype.

    Returns
    -------
    list
        The karyotype that was taken of each patient.
    """
    n = len(gathered.patients)
    texts: list[str | None] = [None] * n
    if KARYOTYPE not in dictionary:
        return texts
    source = dictionary.entries.index(dictionary[KARYOTYPE])
    rows = cells.rows[:, source]
    for i in np.flatnonzero((rows >= 0) & (cells.missing[:, source] == Missing.NONE)):
        texts[i] = gathered.records.original[int(rows[i])].as_py()
    gender = gathered.patients.gender
    has = np.array([text is not None for text in texts], bool)
    for feature, entry in enumerate(dictionary.entries):
        if entry.karyotype is None:
            continue
        known: dict[tuple[str, str | None], float] = {}
        found = np.full(n, np.nan)
        for i in np.flatnonzero(has):
            text = texts[i]
            assert text is not None
            key = text, gender[i]
            if key not in known:
                value = evaluate(entry.karyotype, *key)
                known[key] = np.nan if value is None else value
            found[i] = known[key]
        if entry.absence != "absent_if_karyotyped":
            found[found == 0] = np.nan
        _join(cells, feature, found, rows)
        # A failed karyotype is why its findings are missing.
        reason = np.where(has, np.int8(Missing.UNKNOWN), cells.missing[:, source])
        unsaid = cells.missing[:, feature] >= Missing.OUTSIDE_WINDOW
        cells.missing[unsaid, feature] = reason[unsaid]
    return texts


def _join(cells: Cells, feature: int, found: Floats, rows: NDArray[np.int64] | None) -> None:
    """The stated values and those found: the greater one."""
    stated = cells.values[:, feature]
    both = ~np.isnan(stated) & ~np.isnan(found)
    cells.contradicted[:, feature] |= both & (stated != found)
    better = ~np.isnan(found) & ~(stated >= found)
    cells.values[better, feature] = found[better]
    cells.missing[better, feature] = Missing.NONE
    cells.rows[better, feature] = -1 if rows is None else rows[better]


def mutations(
    cells: Cells, gathered: Gathered, dictionary: Dictionary, diagnosed: Floats, karyotypes: Sequence[str | None]
) -> Origins:
    """Fill the features that are mutations.

    Parameters
    ----------
    cells
        With what is stated outright.
    gathered, dictionary
        The records and the features.
    diagnosed
        Day of diagnosis of each patient.
    karyotypes
        The karyotype of each patient, for arms whose loss is a hit.
    """
    origins = Origins(np.full(cells.values.shape, -1, np.int32))
    genes = [gene.symbol for gene in dictionary.genes]
    covers: dict[Window, _Coverage] = {}
    of_gene: dict[str, list[int]] = {}
    for i, variant in enumerate(gathered.variants):
        of_gene.setdefault(variant.gene, []).append(i)
    unreadable = of_gene.get("", [])
    for feature, entry in enumerate(dictionary.entries):
        rule = entry.variant
        if rule is None:
            continue
        if entry.window not in covers:
            covers[entry.window] = _Coverage(gathered, genes, entry.window, diagnosed)
        cover = covers[entry.window]
        gene = genes.index(rule.gene)
        tested, reason = cover.tested[:, gene], cover.reason[:, gene].copy()
        reason[(reason == Missing.NOT_REPORTED) & cover.any] = Missing.NOT_TESTED
        found = np.where(tested >= 0, 0.0, np.nan)
        by_patient = _by_patient([*of_gene.get(rule.gene, []), *unreadable], gathered, entry.window, diagnosed)
        for patient, numbers in by_patient.items():
            variants = [gathered.variants[i] for i in numbers]
            text = karyotypes[patient]
            lost = (
                None if rule.loss is None or text is None else arm_is_lost(rule.loss, text, _gender(gathered, patient))
            )
            absent = [v for v in variants if v.present == 0]
            negative = any(not v.coding and not v.protein for v in absent) or any(
                matches(rule, (v.coding, v.protein)) for v in absent
            )
            covered = bool(tested[patient] >= 0) or negative
            value = judge(rule, _distinct([v for v in variants if v.present == 1]), covered, lost)
            why = min((v.missing for v in variants if v.missing), default=0)
            if value == 0 and why:
                value = None  # one of its records has no result: the silence of the others says nothing
            found[patient] = np.nan if value is None else value
            if value is None:
                if not why and any(v.present == 1 for v in variants):
                    why = Missing.UNKNOWN  # a variant that may be the one, or not
                reason[patient] = min(why or Missing.NOT_REPORTED, reason[patient])
            else:
                said = [i for i, v in zip(numbers, variants, strict=True) if v.present == (1 if value else 0)]
                if said or tested[patient] < 0:
                    origins.variants[patient, feature] = (said or numbers)[0]
        if entry.absence != "wild_type_if_tested":
            found[found == 0] = np.nan
        before = cells.values[:, feature].copy()
        _join(cells, feature, found, None)
        taken = (cells.values[:, feature] == found) & ~(before == found)
        origins.regions[taken, feature] = tested[taken]
        open_ = np.isnan(cells.values[:, feature])
        cells.missing[open_, feature] = np.minimum(cells.missing[open_, feature], reason[open_])
    return origins


class _Coverage:
    """Which genes were sequenced of whom, in one window.

    Attributes
    ----------
    tested
        Number of a region record, shape (patients, genes); -1 where none has a result.
    reason
        Why there is none.
    any
        Whether there is any panel at all, shape (patients,).
    """

    def __init__(self, gathered: Gathered, genes: Sequence[str], window: Window, diagnosed: Floats) -> None:
        n = len(gathered.patients)
        number = {gene: i for i, gene in enumerate(genes)}
        self.tested = np.full((n, len(genes)), -1, np.int32)
        self.reason = np.full((n, len(genes)), np.int8(Missing.NOT_REPORTED))
        self.any = np.zeros(n, bool)
        regions = gathered.regions
        if not regions:
            return
        day = np.array([region.when.day for region in regions], np.int32)
        patient = np.array([region.subject for region in regions])
        missing = np.array([region.missing for region in regions])
        inside, _ = in_window(window, day, diagnosed[patient], missing)
        order = sorted(range(len(regions)), key=lambda i: (regions[i].when.moment, regions[i].resource), reverse=True)
        for i in order:
            region = regions[i]
            at = [number[gene] for gene in region.genes if gene in number]
            if not inside[i]:
                reason = int(Missing.OUTSIDE_WINDOW)
            elif region.missing:
                reason = region.missing
                at = at or list(number.values())
            else:
                self.tested[region.subject, at] = i
                self.any[region.subject] = True
                continue
            self.reason[region.subject, at] = np.minimum(self.reason[region.subject, at], np.int8(reason))


def _by_patient(
    numbers: Sequence[int], gathered: Gathered, window: Window, diagnosed: Floats
) -> Mapping[int, list[int]]:
    """Variant records of each patient that lie in a window, the first first."""
    if not numbers:
        return {}
    variants = gathered.variants
    day = np.array([variants[i].when.day for i in numbers], np.int32)
    patient = np.array([variants[i].subject for i in numbers])
    inside, _ = in_window(window, day, diagnosed[patient], np.array([variants[i].missing for i in numbers]))
    found: dict[int, list[int]] = {}
    for i, within in zip(numbers, inside, strict=True):
        if within:
            found.setdefault(variants[i].subject, []).append(i)
    for chosen in found.values():
        chosen.sort(key=lambda i: (variants[i].when.moment, variants[i].original, variants[i].resource))
    return found


def _distinct(variants: Sequence[VariantRecord]) -> list[Change]:
    """Each variant once, also if it was found in two samples or is described twice, once by its protein alone."""
    changes = sorted({(v.coding, v.protein) for v in variants})
    named = {protein for coding, protein in changes if coding and protein}
    only = {coding for coding, protein in changes if coding and protein}
    return [
        (coding, protein)
        for coding, protein in changes
        if not (not coding and protein in named) and not (not protein and coding in only)
    ]


def _gender(gathered: Gathered, patient: int) -> str | None:
    return gathered.patients.gender[patient]
