"""From what was found of single samples to what results.json holds: means, spreads, paired differences, goals."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.synthetic.arms import CENTRALIZED, FEDERATED, ISOLATED, Draw, Files
from experiments.synthetic.config import SyntheticConfig
from experiments.synthetic.measuring import read_found

Floats = NDArray[np.float64]
Values = dict[str, dict[str, dict[str, Floats]]]
"""Model -> arm -> metric -> values, shape (seeds, samples), NaN where there is none."""

Estimate = dict[str, float | None]
BOUNDS = {"at least": operator.ge, "at most": operator.le, "above": operator.gt, "below": operator.lt}
"""On which side of its threshold a goal is reached."""


def values_of(config: SyntheticConfig, files: Files, draws: Sequence[Draw]) -> Values:
    """What was found of every sample; arms without a generator are left out."""
    values: Values = {}
    for draw in sorted(draws, key=lambda draw: draw.repeat):
        if files.failed(draw).exists():
            continue
        arm = values.setdefault(draw.model, {}).setdefault(draw.arm, {})
        for sample in range(config.samples):
            for metric, value in read_found(files, config, draw, sample).items():
                empty = np.full((config.seeds, config.samples), np.nan)
                arm.setdefault(metric, empty)[draw.repeat, sample] = np.nan if value is None else value
    order = {name: i for i, name in enumerate((*config.generators, *config.baselines))}
    return {model: values[model] for model in sorted(values, key=lambda name: order[name])}


def estimate(values: Floats) -> Estimate:
    """Mean, and the central 95% of single values (2.5% and 97.5% quantiles): the spread over seeds and samples."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {"mean": None, "low": None, "high": None}
    low, high = np.quantile(known, (0.025, 0.975))
    return {"mean": float(known.mean()), "low": float(low), "high": float(high)}


def differences_of(values: Values) -> dict[str, dict[str, dict[str, Estimate]]]:
    """Model -> ``federated - centralized``, … -> metric -> estimate of the difference of paired samples.

    Samples of one seed have the same held-out patients and the same random numbers.
    """
    found: dict[str, dict[str, dict[str, Estimate]]] = {}
    for model, arms in values.items():
        if FEDERATED not in arms:
            continue
        found[model] = {
            f"{FEDERATED} - {other}": {
                metric: estimate(own - arms[other][metric])
                for metric, own in arms[FEDERATED].items()
                if metric in arms[other]
            }
            for other in arms
            if other != FEDERATED
        }
    return {model: pairs for model, pairs in found.items() if pairs}


def goals_of(values: Values) -> list[dict[str, Any]]:
    """What a federated generator should reach, and whether it does by its mean over seeds and samples.

    Published figures of VAE-BGM (CSF .942, GSF .902, quality .92-.95, discriminator .64-.68), and those that follow
    from what the federation is for: as good as pooled patients, better than any center alone.
    """
    rows: list[dict[str, Any]] = []
    for model, arms in values.items():
        if FEDERATED not in arms:
            continue
        mean = {arm: {m: float(np.nanmean(x)) for m, x in v.items() if np.isfinite(x).any()} for arm, v in arms.items()}
        own, pooled = mean[FEDERATED], mean.get(CENTRALIZED, {})
        alone = [found for arm, found in mean.items() if arm.startswith(ISOLATED)]

        def add(what: str, value: float | None, bound: str, threshold: float, model: str = model) -> None:
            if value is not None:
                row = {"model": model, "goal": what, "value": value, "bound": bound, "threshold": threshold}
                rows.append({**row, "reached": bool(BOUNDS[bound](value, threshold))})

        add("csf", own.get("csf"), "at least", 0.94)
        add("gsf", own.get("gsf"), "at least", 0.90)
        add("sdv_quality", own.get("sdv_quality"), "at least", 0.93)
        add("discriminator_accuracy", own.get("discriminator_accuracy"), "at most", 0.68)
        for metric in ("csf", "gsf", "sdv_quality", "discriminator_accuracy"):
            if metric in own and metric in pooled:
                limit = ("at most", 0.01) if metric == "discriminator_accuracy" else ("at least", -0.01)
                add(f"{metric}, federated - centralized", own[metric] - pooled[metric], *limit)
        for metric in ("csf", "gsf", "sdv_quality", "discriminator_accuracy"):
            others = [found[metric] for found in alone if metric in found]
            if metric in own and others:
                low = metric == "discriminator_accuracy"
                best, bound = (min(others), "below") if low else (max(others), "above")
                add(f"{metric}, federated - best isolated", own[metric] - best, bound, 0.0)
        whole = _fidelity(pooled)
        if (part := _fidelity(own)) is not None and whole:
            add("fidelity lost to centralized, share", (whole - part) / whole, "at most", 0.05)
        if "tstr_c" in own and "trtr_c" in own:
            add("tstr_c - trtr_c", own["tstr_c"] - own["trtr_c"], "at least", -0.03)
        add("rare_copies", own.get("rare_copies"), "at most", 0.0)
        add("membership_auc", own.get("membership_auc"), "at most", 0.55)
        add("shadow_auc", own.get("shadow_auc"), "at most", 0.55)
    return rows


def _fidelity(found: Mapping[str, float]) -> float | None:
    """Mean of clinical and genomic fidelity, of those that are known."""
    known = [found[metric] for metric in ("csf", "gsf") if metric in found]
    return sum(known) / len(known) if known else None


def tell(values: Values) -> dict[str, dict[str, dict[str, Estimate]]]:
    """The key ``models``."""
    return {
        m: {a: {k: estimate(x) for k, x in found.items()} for a, found in arms.items()} for m, arms in values.items()
    }
