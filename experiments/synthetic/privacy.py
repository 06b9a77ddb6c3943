"""The privacy of synthetic patients: what they tell of those the generator was trained on, and not of everyone.

Every number compares training patients with held-out real ones, whom the generator never saw: what synthetic patients
tell of both is knowledge of the disease, and what they tell of training patients alone is a breach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

import numpy as np

from experiments.synthetic.attribute_inference import attribute_inference
from experiments.synthetic.closeness import closeness, copies
from experiments.synthetic.distances import MixedDistance
from experiments.synthetic.linkability import linkability
from experiments.synthetic.membership import Generator, density_attack, shadow_attack
from experiments.synthetic.singling_out import singling_out
from harmonization import Cohort


@dataclass(frozen=True)
class Threshold:
    """What a metric must not exceed, or fall below."""

    value: float
    direction: Literal["at most", "at least"] = "at most"

    def met(self, found: float) -> bool:
        """Whether a value is on the right side."""
        return found <= self.value if self.direction == "at most" else found >= self.value


VERDICTS: Mapping[str, Threshold] = {
    "dcr_share": Threshold(0.55),
    "dcr_5th_percentile_ratio": Threshold(0.8, "at least"),
    "nndr_ratio": Threshold(0.8, "at least"),
    "exact_matches": Threshold(0),
    "rare_copies": Threshold(0),
    "rare_combinations": Threshold(0.09),
    "membership_auc": Threshold(0.55),
    "shadow_auc": Threshold(0.55),
    "attribute_inference": Threshold(0.05),
    "singling_out": Threshold(0.09),
    "linkability": Threshold(0.09),
}
"""Metric → what it must keep to; docs/synthetic.md says where the thresholds come from."""


def privacy(
    train: Cohort,
    heldout: Cohort,
    synthetic: Cohort,
    seed: int,
    refit: Callable[[Cohort, int], Generator] | None = None,
) -> dict[str, float]:
    """Measure what synthetic patients tell of training patients.

    Parameters
    ----------
    train
        Patients the generator was trained on.
    heldout
        Patients of the same kind that neither the generator nor anything chosen for it has seen.
    synthetic
        Patients it drew.
    seed
        Of attacks.
    refit
        Fits such a generator to other patients, with a seed; adds the shadow attack, which calls it
        `membership.SHADOWS` times.

    Returns
    -------
    dict
        Metric → value (docs/synthetic.md defines each); ``_low`` and ``_high`` are ends of a 95% interval.

    Raises
    ------
    ValueError
        If tables differ in their columns, or one has fewer than three patients.
    """
    for name, cohort in (("train", train), ("heldout", heldout), ("synthetic", synthetic)):
        if cohort.schema.features != train.schema.features:
            raise ValueError(f"{name} has other features than train; all three need the same schema")
        if len(cohort) < 3:
            raise ValueError(f"{name} has {len(cohort)} patients; distances to two others need three or more")
    # An event is an event of any cause, and scores are not generated.
    train, heldout, synthetic = (_plain(cohort) for cohort in (train, heldout, synthetic))
    distance = MixedDistance.of(Cohort.concatenate([train, heldout]), synthetic)
    found = {
        **closeness(train, heldout, synthetic, distance, seed),
        **copies(train, heldout, synthetic),
        **density_attack(train, heldout, synthetic, distance).named("membership_auc"),
        **attribute_inference(train, heldout, synthetic, distance),
        **singling_out(train, heldout, synthetic, seed),
        **linkability(train, heldout, synthetic, distance).named("linkability"),
    }
    if refit is not None:
        found |= shadow_attack(train, heldout, synthetic, distance, refit, seed).named("shadow_auc")
    return found


class Verdict(TypedDict):
    """A metric's value, and whether it is on the right side of its threshold."""

    value: float
    threshold: float
    direction: Literal["at most", "at least"]
    passed: bool


def verdicts(found: Mapping[str, float]) -> dict[str, Verdict]:
    """On the metrics of `VERDICTS`; one that is missing or NaN has no verdict."""
    known = {name: found[name] for name in VERDICTS if not math.isnan(found.get(name, math.nan))}
    return {
        name: Verdict(value=value, threshold=limit.value, direction=limit.direction, passed=limit.met(value))
        for name, value in known.items()
        for limit in (VERDICTS[name],)
    }


def _plain(cohort: Cohort) -> Cohort:
    """Without causes and scores, and with one schema whatever its version."""
    schema = replace(cohort.schema, causes=(), scores=())
    return replace(cohort, schema=schema, cause=None, scores=np.empty((len(cohort), 0)))
