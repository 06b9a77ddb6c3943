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
from federation.contribution import Contribution
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.privacy.secure import SecureAggregation
from federation.quorum import QuorumError
from federation.splits import Split
from federation.survival.curves import FitCurves
from harmonization import Cohort

Row = dict[str, Any]
DEFENCES = ("none", "min_cell", "secure aggregation", "secure aggregation, min_cell")


def pieces(config: AttackConfig, study: Study) -> list[str]:
    """A piece for each defence."""
    return list(DEFENCES)


def measure(config: AttackConfig, study: Study, piece: str) -> list[Row]:
    """For each mutation that one patient alone has at a center: whether the patient's fate was found."""
    section = config.small_cells
    policy = section.policy if "min_cell" in piece else DisclosurePolicy()
    genes = [f.name for f in study.schema.features if f.kind == "binary" and f.modality == "genomic"]
    rows = []
    for gene in genes:
        algorithm = FitCurves.of(study.schema, gene, resolution=section.resolution, horizon=40 * section.resolution)
        if piece.startswith("secure"):
            masks = SecureAggregation()
            federation = InProcessFederation(centers_of(study.cohorts, policy), 0, Split(), secure_aggregation=masks)
            answer = _ask(federation, algorithm)
        for name, cohort in study.cohorts.items():
            alone = np.flatnonzero(cohort.column(gene) == 1)
            if len(alone) != 1 or len(cohort) < policy.min_patients:
                continue
            if not piece.startswith("secure"):
                answer = _ask(InProcessFederation(centers_of({name: cohort}, policy), 0, Split()), algorithm)
            rows.append(
                {
                    "defence": piece,
                    "gene": gene,
                    "center": name,
                    "exposed": exposed(answer, cohort, int(alone[0]), algorithm),
                }
            )
    return rows


def _ask(federation: InProcessFederation, algorithm: FitCurves) -> Contribution | None:
    try:
        return federation.ask(algorithm, algorithm.start(federation.roster))
    except QuorumError:
        return None


def exposed(answer: Contribution | None, cohort: Cohort, patient: int, algorithm: FitCurves) -> bool:
    """Whether the counts of those with the mutation are of one patient, and say this one's year and fate."""
    if answer is None:
        return False
    leaving, events = answer["leaving"][1], answer["events"][1]
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
