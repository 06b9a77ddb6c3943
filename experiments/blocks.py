"""What each block of features adds: the first strategy again on fewer modalities, compared on the same patients.

Two families of arms. *Steps*: modalities are added one after the other, up to all of them, which is the first
strategy's own arm. *Single*: each modality alone. Every arm predicts every test patient, also one who lacks its blocks
(all such patients get the same risk).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from experiments.config import Config
from experiments.settings import ConfigError
from harmonization import Schema
from harmonization.schema import Modality
from models.survival.resampling import Estimate, paired_difference, percentile_interval

if TYPE_CHECKING:
    from experiments.evaluation import Arm, Evaluator

METRICS = ("harrell_c", "uno_c", "ibs")


def order_of(config: Config, schema: Schema) -> tuple[Modality, ...]:
    """The data's modalities in the order in which they are added; none if no comparison of blocks is asked for.

    Raises
    ------
    ConfigError
        If the order asked for is not one of the data's modalities.
    """
    section = config.arms.blocks
    if section is None:
        return ()
    known = {feature.modality for feature in schema.features}
    order = section.order or tuple(m for m in get_args(Modality) if m in known)
    if set(order) != known or len(order) < len(known) or len(order) < 2:
        raise ConfigError(
            f"arms.blocks.order is {list(order)}; it names each of the data's modalities once, two or more: "
            f"they have {', '.join(sorted(known))}"
        )
    return order


def steps_of(config: Config, schema: Schema) -> dict[str, tuple[Modality, ...]]:
    """Arm -> its modalities, from the first alone to all of them."""
    order, main = order_of(config, schema), config.strategies[0].arm
    steps = [order[:n] for n in range(1, len(order) + 1)]
    return {arm_of(main, step) if len(step) < len(order) else main: step for step in steps}


def single_of(config: Config, schema: Schema) -> dict[str, tuple[Modality, ...]]:
    """Arm -> its only modality."""
    return {arm_of(config.strategies[0].arm, (m,)): (m,) for m in order_of(config, schema)}


def block_arms(config: Config, schema: Schema) -> dict[str, tuple[Modality, ...]]:
    """Every arm that has to be fitted for the comparison, beside the first strategy's own."""
    found = steps_of(config, schema) | single_of(config, schema)
    return {arm: modalities for arm, modalities in found.items() if arm != config.strategies[0].arm}


def arm_of(main: str, modalities: Sequence[str]) -> str:
    """``federated/fedavg[clinical+genomic]``."""
    return f"{main}[{'+'.join(modalities)}]"


def with_modalities(config: Config, modalities: tuple[Modality, ...]) -> Config:
    """The experiment on some modalities only."""
    reduce = {m: k for m, k in config.preprocessing.reduce.items() if m in modalities}
    preprocessing = replace(config.preprocessing, modalities=modalities, reduce=reduce)
    return config.model_copy(update={"preprocessing": preprocessing})


# The part of results.json ---------------------------------------------------------------------------------------------


def compare_blocks(evaluator: Evaluator, arms: Mapping[str, Arm]) -> dict[str, Any] | None:
    """The gain of each step over the one before, the gain over each block alone, and both at every center."""
    study = evaluator.study
    config, main = study.config, study.config.strategies[0].arm
    steps = {a: m for a, m in steps_of(config, study.schema).items() if a in arms}
    single = {a: m for a, m in single_of(config, study.schema).items() if a in arms}
    if main not in steps or len(steps) < 2:
        return None
    rows, before = [], None
    for arm, modalities in steps.items():
        rows.append({"arm": arm, "blocks": list(modalities), **_against(arms, arm, before)})
        before = arm
    found = [_at_center(evaluator, arms, name, main, list(single)) for name in study.cohorts]
    centers = [row for row in found if row is not None]
    lacking = [difference for row, difference in centers if row["lacks"]]
    complete = [difference for row, difference in centers if not row["lacks"]]
    return {
        "federated": main,
        "steps": rows,
        "single": [{"arm": a, "blocks": list(m), **_against(arms, main, a)} for a, m in single.items()],
        "centers": [row for row, _ in centers],
        "means": {"lacking": _mean(lacking), "complete": _mean(complete)},
    }


def _against(arms: Mapping[str, Arm], arm: str, other: str | None) -> dict[str, Any]:
    """Arm minus another on all test patients, with the same draws."""
    if other is None:
        return {"gain": None}
    a, b = arms[arm].pooled, arms[other].pooled
    return {"gain": {m: _interval(paired_difference(a[m], b[m])) for m in METRICS if m in a and m in b}}


def _at_center(
    evaluator: Evaluator, arms: Mapping[str, Arm], name: str, main: str, single: Sequence[str]
) -> tuple[dict[str, Any], Estimate] | None:
    """All blocks against the best single one, on a center's own test patients.

    The best is chosen on these very patients, which flatters it: an honest choice could only be worse.
    """
    scored = {a: arms[a].centers[name]["harrell_c"] for a in single if name in arms[a].centers}
    scored = {a: estimate for a, estimate in scored.items() if math.isfinite(estimate.mean)}
    if name not in arms[main].centers or not scored:
        return None
    best = max(scored, key=lambda a: scored[a].mean)
    whole = arms[main].centers[name]["harrell_c"]
    cohort = evaluator.study.cohorts[name]
    unknown = set(np.flatnonzero(np.isnan(cohort.values).all(axis=0)).tolist())
    present = {feature.modality for j, feature in enumerate(cohort.schema.features) if j not in unknown}
    difference = paired_difference(whole, scored[best])
    row = {
        "center": name,
        "patients": len(cohort),
        "events": int(cohort.event.sum()),
        "lacks": [m for m in order_of(evaluator.study.config, cohort.schema) if m not in present],
        "all": _interval(whole),
        "single": {a: _interval(estimate) for a, estimate in scored.items()},
        "best": best,
        "difference": _interval(difference) | evaluator.non_inferiority(difference, "harrell_c"),
    }
    return row, difference


def _mean(differences: Sequence[Estimate]) -> dict[str, float | None] | None:
    """Mean over centers of their differences, with its interval over patients."""
    if not differences:
        return None
    replicates = np.mean([d.replicates for d in differences], axis=0)
    (low,), (high,) = percentile_interval(replicates[None, :])
    values = {"mean": float(np.mean([d.mean for d in differences])), "low": float(low), "high": float(high)}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _interval(estimate: Estimate) -> dict[str, float | None]:
    values = {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
