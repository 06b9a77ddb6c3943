"""Differencing: the same sums twice, once without a patient whom the split leaves out; what differs is that patient.

A split into very many folds tests at most one patient of a center at a time, and most centers none: so the sum over the
federation differs by few patients too, often by one. Secure aggregation does not stop it; the center's ledger
(`min_difference`) and noise do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.attacks.config import AttackConfig, DifferencingSection
from experiments.attacks.federations import centers_of, wilson
from experiments.study import Study
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.preprocessing import FitPreprocessor
from federation.privacy.dp.accounting import Spending, noise_for
from federation.privacy.dp.statistics import FitScale, Noisy, ranges_of
from federation.privacy.secure import SecureAggregation
from federation.quorum import QuorumError
from federation.randomness import generator
from federation.splits import TEST, Split
from harmonization import Cohort

Row = dict[str, Any]
FOLDS = 4999
"""Of the split: more than any center has patients."""

DEFENCES = (
    "none",
    "secure aggregation",
    "min_difference",
    "secure aggregation, min_difference",
    "differential privacy",
)


def pieces(config: AttackConfig, study: Study) -> list[str]:
    """A piece for each defence."""
    return list(DEFENCES)


def measure(config: AttackConfig, study: Study, piece: str) -> list[Row]:
    """For each victim whether its values followed from two answers."""
    section = config.differencing
    policy = section.policy if "min_difference" in piece else DisclosurePolicy()
    masks = SecureAggregation() if piece.startswith("secure") else None
    rng = generator(config.seed, "victims")
    seed = int(generator(config.seed, "differencing").integers(2**31))
    able = [name for name in study.cohorts if len(study.cohorts[name]) > policy.min_patients]
    places = [(name, i) for name in able for i in range(len(study.cohorts[name]))]
    chosen = [places[i] for i in rng.permutation(len(places))[: section.victims]]
    whole = Split(seed)
    rows = []
    for name, i in chosen:
        cohort = study.cohorts[name]
        fold = int(Split(seed, 0, 0, FOLDS).folds(cohort.ids, cohort.event, name)[i])
        without = Split(seed, 0, fold, FOLDS)
        # Bare, a center's own answers are seen; masked, the sum over all.
        cohorts = study.cohorts if masks is not None else {name: cohort}
        federation = InProcessFederation(centers_of(cohorts, policy), seed, whole, secure_aggregation=masks)
        row: Row = {"defence": piece, "center": name, "patients": len(cohort)}
        left = sum(int((without.parts(c.ids, c.event, n) == TEST).sum()) for n, c in cohorts.items())
        try:
            found = (
                _noisy(federation, study, whole, without, section)
                if piece == "differential privacy"
                else _difference(federation, study, whole, without)
            )
            row |= {
                "differ": left,
                "exposed": _is(found, cohort, i, section if piece == "differential privacy" else None),
            }
        except QuorumError as error:
            row |= {"differ": left, "exposed": False, "why": str(error)[:200]}
        rows.append(row)
    return rows


def _difference(federation: InProcessFederation, study: Study, whole: Split, without: Split) -> Any:
    """Values of who is left out, relative to the schema's references; NaN where not known."""
    algorithm = FitPreprocessor(study.schema)
    answers = []
    for split in (whole, without):
        federation.split = split
        answers.append(federation.ask(algorithm, algorithm.start(federation.roster)))
    seen = answers[0]["seen"] - answers[1]["seen"]
    return np.where(seen > 0.5, answers[0]["total"] - answers[1]["total"], np.nan)


def _noisy(
    federation: InProcessFederation, study: Study, whole: Split, without: Split, section: DifferencingSection
) -> Any:
    """The same from sums with noise: values of numeric features, as parts of their range."""
    noise = noise_for(section.epsilon, 1e-5, (Spending("patient", 1.0, 1.0, 2),), "pld", "patient")
    algorithm = Noisy.of(FitScale(ranges_of(study.schema, section.ranges), study.schema), noise)
    answers = []
    for r, split in enumerate((whole, without)):
        federation.split, federation.task = split, f"noisy {r}"
        answers.append(federation.ask(algorithm, algorithm.start(federation.roster)))
    return answers[0]["moments"][1] - answers[1]["moments"][1]


def _is(found: Any, cohort: Cohort, i: int, noisy: DifferencingSection | None) -> bool:
    """Whether all values of a patient were found: to 1e-6; under noise, the numeric ones to a tenth of their range."""
    values = cohort.values[i]
    if noisy is not None:
        ranges, names = ranges_of(cohort.schema, noisy.ranges), cohort.schema.names
        true = np.array([(2 * values[names.index(n)] - a - b) / (b - a) for n, (a, b) in ranges.items()])
        known = ~np.isnan(true)
        return bool((np.abs(found - np.clip(true, -1, 1))[known] < 0.2).all())
    columns = expected(cohort, i)
    if len(found) != len(columns) or not np.array_equal(np.isnan(found), np.isnan(columns)):
        return False
    return bool(np.allclose(found, columns, atol=1e-6, equal_nan=True))


def expected(cohort: Cohort, i: int) -> Any:
    """A patient's row as `models.preprocessing.feature_sums` counts it: NaN where not known."""
    from models.preprocessing import feature_sums

    sums = feature_sums(cohort[np.array([i])])
    return np.where(sums["seen"] > 0.5, sums["total"], np.nan)


def summarize(config: AttackConfig, study: Study, rows: Sequence[Row]) -> dict[str, Any]:
    """Share of the victims whose values were found, by defence."""
    table = []
    for defence in DEFENCES:
        mine = [r for r in rows if r["defence"] == defence]
        if not mine:
            continue
        hits = sum(r["exposed"] for r in mine)
        refused = sum("why" in r for r in mine)
        table.append(
            {
                "name": defence,
                "exposed": wilson(hits, len(mine)),
                "found": hits,
                "refused": refused,
                "victims": len(mine),
            }
        )
    said = [
        f"{row['name']}: {row['found']} of {row['victims']} patients exposed ({row['refused']} questions refused)."
        for row in table
    ]
    return {"table": table, "findings": said}
