"""From what was found of single samples to what results.json holds: means, spreads, paired differences, goals."""

from __future__ import annotations

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

        def add(what: str, value: float | None, threshold: float, *, least: bool, model: str = model) -> None:
            if value is not None:
                reached = value >= threshold if least else value <= threshold
                sign = "at least" if least else "at most"
                row = {"model": model, "goal": what, "value": value, "bound": sign, "threshold": threshold}
                rows.append({**row, "reached": bool(reached)})

        add("csf", own.get("csf"), 0.94, least=True)
        add("gsf", own.get("gsf"), 0.90, least=True)
        add("sdv_quality", own.get("sdv_quality"), 0.93, least=True)
        add("discriminator_accuracy", own.get("discriminator_accuracy"), 0.68, least=False)
        for metric in ("csf", "gsf", "sdv_quality", "discriminator_accuracy"):
            if metric in own and metric in pooled:
                good = metric != "discriminator_accuracy"
                limit = -0.01 if good else 0.01
                add(f"{metric}, federated - centralized", own[metric] - pooled[metric], limit, least=good)
        for metric in ("csf", "gsf", "sdv_quality"):
            best = max((found[metric] for found in alone if metric in found), default=None)
            if metric in own and best is not None:
                add(f"{metric}, federated - best isolated", own[metric] - best, 0.0, least=True)
        whole = _fidelity(pooled)
        if (part := _fidelity(own)) is not None and whole:
            add("fidelity lost to centralized, share", (whole - part) / whole, 0.05, least=False)
        if "tstr_c" in own and "trtr_c" in own:
            add("tstr_c - trtr_c", own["tstr_c"] - own["trtr_c"], -0.03, least=True)
        add("rare_copies", own.get("rare_copies"), 0.0, least=False)
        add("membership_auc", own.get("membership_auc"), 0.55, least=False)
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
