"""Small cells: whoever is the only one with a mutation at a hospital is found in counts by mutation and year.

The attacker knows that a patient has a mutation (a relative, a colleague), asks for survival curves by that mutation,
and looks for a group of one: the year of the last follow-up, and whether the patient died, are then that patient's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.attacks.config import AttackConfig
from experiments.attacks.federations import centers_of, wilson
from experiments.study import Study
from federation.algorithm import Algorithm
from federation.contribution import Contribution
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.privacy.dp.accounting import Spending, noise_for
from federation.privacy.dp.statistics import Noisy
from federation.privacy.secure import SecureAggregation
from federation.quorum import QuorumError
from federation.randomness import generator
from federation.splits import Split
from federation.survival.curves import FitCurves
from harmonization import Cohort

Row = dict[str, Any]
DEFENCES = ("none", "min_cell", "secure aggregation", "secure aggregation, min_cell", "differential privacy")


def pieces(config: AttackConfig, study: Study) -> list[str]:
    """A piece for each defence."""
    return list(DEFENCES)


def measure(config: AttackConfig, study: Study, piece: str) -> list[Row]:
    """For each mutation that one patient alone has at a center: whether the patient's fate was found."""
    section = config.small_cells
    policy = section.policy if "min_cell" in piece else DisclosurePolicy(secure_noise=False)
    genes = [f.name for f in study.schema.features if f.kind == "binary" and f.modality == "genomic"]
    seed = int(generator(config.seed, "small cells").integers(2**31))
    noise = noise_for(section.epsilon, 1e-5, (Spending("patient", 1.0, 1.0, len(genes)),))  # all mutations are asked
    rows = []
    for gene in genes:
        curves = FitCurves.of(study.schema, gene, resolution=section.resolution, horizon=40 * section.resolution)
        algorithm = Noisy.of(curves, noise) if piece == "differential privacy" else curves
        if piece.startswith("secure"):
            masks = SecureAggregation()
            federation = InProcessFederation(centers_of(study.cohorts, policy), 0, Split(), secure_aggregation=masks)
            answer = _ask(federation, algorithm)
        for name, cohort in study.cohorts.items():
            alone = np.flatnonzero(cohort.column(gene) == 1)
            if len(alone) != 1 or len(cohort) < policy.min_patients:
                continue
            if not piece.startswith("secure"):
                federation = InProcessFederation(centers_of({name: cohort}, policy), seed, Split(), f"{gene}, {piece}")
                answer = _ask(federation, algorithm)
            rows.append(
                {
                    "defence": piece,
                    "gene": gene,
                    "center": name,
                    "exposed": exposed(answer, cohort, int(alone[0]), curves, guess=piece == "differential privacy"),
                }
            )
    return rows


def _ask(federation: InProcessFederation, algorithm: Algorithm) -> Contribution | None:
    try:
        return federation.ask(algorithm, algorithm.start(federation.roster))
    except QuorumError:
        return None


def exposed(
    answer: Contribution | None, cohort: Cohort, patient: int, algorithm: FitCurves, guess: bool = False
) -> bool:
    """Whether the counts of those with the mutation are of one patient, and say this one's year and fate; or whether
    the best `guess` from noisy counts does: the largest cell, and a death if half of it are deaths."""
    if answer is None:
        return False
    leaving, events = answer["leaving"][1], answer["events"][1]
    if guess:
        most = int(leaving.argmax())
        leaving, events = np.eye(len(leaving))[most], np.where(events > leaving / 2, 1.0, 0.0)
    if leaving.sum() != 1:
        return False
    (cell,) = np.flatnonzero(leaving)
    row = cohort[np.array([patient])]
    true, event = algorithm.grid.cells(row.time, row.event, row.schema.time_unit)
    return bool(cell == true[0] and bool(events[cell]) == bool(event[0]))


def summarize(config: AttackConfig, study: Study, rows: Sequence[Row]) -> dict[str, Any]:
    """Share of patients who alone at their hospital have a mutation, and whose fate was found."""
    table = []
    for defence in DEFENCES:
        mine = [r for r in rows if r["defence"] == defence]
        if mine:
            hits = sum(r["exposed"] for r in mine)
            table.append({"name": defence, "exposed": wilson(hits, len(mine)), "found": hits, "attacked": len(mine)})
    said = [f"{r['name']}: year and fate of {r['found']} of {r['attacked']} known." for r in table]
    return {"table": table, "findings": said or ["nobody is the only patient with a mutation at a center"]}
