"""Linkability: do synthetic patients tell which entries of two data bases belong to the same patient?"""

from __future__ import annotations

import numpy as np

from experiments.synthetic.attackers import known_and_secret
from experiments.synthetic.distances import Floats, MixedDistance, by_rows
from experiments.synthetic.rates import Estimate, Rate, residual_risk
from harmonization import Cohort


def linkability(train: Cohort, heldout: Cohort, synthetic: Cohort, distance: MixedDistance) -> Estimate:
    """Residual risk that a training patient's two halves have the same nearest synthetic patient.

    One attacker holds the clinical records and one the genomes (`known_and_secret`). A patient is linked if a
    synthetic patient is nearest to both halves; where several are equally near, if any is. (anonymeter takes one of
    them by its place in the table, and misses copies of patients whose genome is that of many.)

    References
    ----------
    Giomi et al. (2023), section 5.2, with one neighbor.
    """
    halves = known_and_secret(train.schema)
    if not all(halves):
        return Estimate(np.nan, np.nan, np.nan)
    rates = []
    for real in (train, heldout):
        first, second = (distance.embed(real, half) for half in halves)
        others = [distance.embed(synthetic, half) for half in halves]

        def reduce(
            distances: Floats, start: int, second: Floats = second, others: list[Floats] = others
        ) -> tuple[Floats]:
            rows = slice(start, start + len(distances))
            both = np.stack([distances, _manhattan(second[rows], others[1])])
            return ((both <= both.min(axis=2, keepdims=True) + 1e-9).all(axis=0).any(axis=1),)

        linked = by_rows(first, others[0], reduce)[0]
        rates.append(Rate.of(int(linked.sum()), len(linked)))
    return residual_risk(*rates)


def _manhattan(a: Floats, b: Floats) -> Floats:
    return by_rows(a, b, lambda distances, _: (distances,))[0]  # type: ignore[no-any-return]
