"""The tables of a run's report, as plain rows for the template."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.findings import verdict
from experiments.model_plots import ordered_hazard_ratios
from experiments.reading import (
    HARRELL,
    Interval,
    arms,
    find,
    horizon,
    interval,
    mapping,
    number,
    numbers,
    sequence,
    signed,
    years,
)
from experiments.wording import median_words, text

Results = dict[str, Any]
Row = dict[str, Any]

FAMILIES = {
    "auc": "AUC",
    "brier": "Brier",
    "calibration_ratio": "Observed / predicted",
    "calibration_error": "Calibration error",
}
LOWER_IS_BETTER = ("ibs", "brier", "calibration_error")
OVERALL = {HARRELL: "Harrell C", "uno_c": "Uno C", "ibs": "IBS"}


def dataset_table(results: Results) -> dict[str, Any]:
    """What the patients are, and how many there are in which centers."""
    found = mapping(results, "dataset")
    features = found.get("features")
    names = [text(find(feature, "name") or feature) for feature in sequence(found, "features") if feature is not None]
    centers = {
        center: (number(find(counts, "patients")), number(find(counts, "events")))
        for center, counts in mapping(found, "centers").items()
    }
    return {
        "name": found.get("name") or "–",
        "description": found.get("description"),
        "simulated": found.get("simulated"),
        "source": found.get("source"),
        "licence": found.get("licence"),
        "schema_hash": str(found.get("schema_hash") or "–").removeprefix("sha256:")[:12],
        "time_unit": found.get("time_unit") or "–",
        "patients": number(found.get("patients")),
        "events": number(found.get("events")),
        "n_features": float(len(names)) if names else number(features),
        "features": names,
        "centers": dict(sorted(centers.items(), key=lambda item: -_size(item[1][0]))),
    }


def arm_table(results: Results) -> dict[str, Any]:
    """Overall metrics and metrics per horizon; rows of isolated centers apart, with their median in their place."""
    found = arms(results)
    metrics = _in_order({metric for arm in found.values() for metric in mapping(arm, "pooled")})
    overall = [metric for metric in metrics if _family(metric) is None]
    horizons: dict[str, list[str]] = {}
    for metric in metrics:
        if (parts := _family(metric)) is not None:
            horizons.setdefault(parts[1], []).append(metric)

    rows: list[Row] = []
    alone: list[Row] = []
    for name, arm in found.items():
        row = {
            "name": name,
            "values": {metric: interval(arm, "pooled", metric) for metric in metrics},
            "spread": number(find(arm, "pooled", HARRELL, "spread")),
            "n": number(find(arm, "pooled", HARRELL, "n")),
            "events": number(find(arm, "pooled", HARRELL, "events")),
            "seconds": math.nan if find(arm, "kind") == "score" else number(find(arm, "seconds")),
            "rounds": _rounds(arm),
        }
        (alone if find(arm, "kind") == "local" else rows).append(row)
    return {
        "overall": [(metric, metric_name(metric)) for metric in overall],
        "horizons": [
            (years(key), [(metric, FAMILIES[(_family(metric) or ("",))[0]]) for metric in group])
            for key, group in horizons.items()
        ],
        "rows": rows,
        "alone": alone,
        "median": {metric: median_words(row["values"][metric].mean for row in alone) for metric in metrics},
    }


def difference_table(results: Results) -> dict[str, Any]:
    """Paired differences of what the page speaks of; those with isolated centers and single horizons apart."""
    shown: list[Row] = []
    more: list[Row] = []
    kinds = {name: find(arm, "kind") for name, arm in arms(results).items()}
    for row in sequence(results, "differences"):
        if not isinstance(row, Mapping):
            continue
        a, b, metric = (text(row.get(key)) for key in ("a", "b", "metric"))
        value = interval(row)
        lower = (_family(metric) or (metric,))[0] in LOWER_IS_BETTER
        said = verdict(value, lower_is_better=lower)
        if not value.known:
            said = "–"
        elif metric.startswith("calibration_ratio") and said != "not distinguishable":
            said = "differ"  # neither more nor less is better
        elif said != "not distinguishable":
            said = f"{a} {said}"
        if (not_worse := find(row, "non_inferior")) is not None and "score" not in (kinds.get(a), kinds.get(b)):
            said += (
                f"; {'' if not_worse else 'not shown to be '}non-inferior (bound {signed(number(find(row, 'lower')))})"
            )
        entry = {"a": a, "b": b, "metric": metric, "metric_name": metric_name(metric), "value": value, "verdict": said}
        detail = metric not in OVERALL or "local" in (kinds.get(a), kinds.get(b))
        (more if detail else shown).append(entry)
    return {"shown": shown or more, "more": more if shown else []}


def hazard_ratio_table(results: Results) -> dict[str, Any]:
    """The exact Cox model's hazard ratios with intervals and p values, and the tests of proportional hazards."""
    tables = mapping(results, "hazard_ratios", "arms")
    rows = [
        {
            "feature": name,
            "per": "" if per == "yes" else per,
            "arms": [
                (
                    Interval(*(number(find(found.get(arm), key)) for key in ("hazard_ratio", "low", "high"))),
                    p_words(number(find(found.get(arm), "p"))),
                )
                for arm in tables
            ],
            "proportional": p_words(number(find(next(iter(found.values())), "proportional_hazards_p"))),
            "robust": p_words(number(find(next(iter(found.values())), "robust_p"))),
        }
        for name, per, found in ordered_hazard_ratios(results)
    ]
    facts = [
        f"{arm}: {number(find(table, 'patients')):,.0f} patients, {number(find(table, 'events')):,.0f} events"
        + (f", {find(table, 'broadcasts')} broadcasts" if find(table, "broadcasts") else "")
        + ("" if find(table, "converged") else ", NOT CONVERGED")
        + f"; proportional hazards, all features together: p {p_words(number(find(table, 'proportional_hazards_p')))}"
        for arm, table in tables.items()
    ]
    apart = number(find(results, "hazard_ratios", "largest_difference"))
    if math.isfinite(apart):
        facts.append(f"largest difference of their log hazard ratios: {apart:.1e}")
    return {"arms": list(tables), "rows": rows, "facts": facts}


def importance_table(results: Results) -> dict[str, Any]:
    """Importance of every feature by each explained model."""
    found = mapping(results, "explanation", "importance")
    features: dict[str, dict[str, tuple[Interval, Interval]]] = {}
    for arm in found:
        for row in sequence(found, arm):
            values = (interval(row, "drop"), interval(row, "loss"))
            features.setdefault(text(find(row, "feature")), {})[arm] = values
    nothing = Interval(math.nan, math.nan, math.nan)
    rows = [(name, [values.get(arm, (nothing, nothing)) for arm in found]) for name, values in features.items()]
    return {"arms": list(found), "rows": rows}


def p_words(p: float) -> str:
    """A p value as it is printed."""
    if not math.isfinite(p):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def _size(patients: float) -> float:
    """For sorting: unknown sizes come last."""
    return patients if math.isfinite(patients) else -1.0


def gain_table(results: Results) -> dict[str, Any]:
    """What each center gains from the federation over training alone: on all test patients, and on its own."""
    rows: list[Row] = []
    for row in sequence(results, "gain", "centers"):
        if isinstance(row, Mapping):
            scored = {
                key: {part: interval(row, key, part) for part in ("federated", "local", "gain")}
                for key in ("everybody", "own")
            }
            counts = {key: number(row.get(key)) for key in ("patients", "events")}
            rows.append({"center": text(row.get("center")), **counts, **scored})
    rows.sort(key=lambda row: -_size(row["patients"]))
    return {
        "federated": text(find(results, "gain", "federated")),
        "rows": rows,
        "slope": interval(results, "gain", "slope"),
        "mean": interval(results, "gain", "mean", "everybody"),
        "over_centers": interval(results, "gain", "slope_over_centers"),
    }


def block_table(results: Results) -> dict[str, Any]:
    """Steps and single blocks with their gains; every center's difference to its best single block."""

    def rows(kind: str) -> list[Row]:
        return [
            {
                "blocks": " + ".join(str(block) for block in sequence(row, "blocks")),
                "value": interval(results, "arms", text(find(row, "arm")), "pooled", HARRELL),
                **{metric: interval(row, "gain", metric) for metric in OVERALL},
                "verdict": verdict(gain) if (gain := interval(row, "gain", HARRELL)).known else "",
            }
            for row in sequence(results, "blocks", kind)
        ]

    centers = [
        {
            "center": text(find(row, "center")),
            "patients": number(find(row, "patients")),
            "lacks": ", ".join(str(block) for block in sequence(row, "lacks")),
            "all": interval(row, "all"),
            "best": text(find(row, "best")),
            "single": interval(row, "single", text(find(row, "best"))),
            "difference": interval(row, "difference"),
        }
        for row in sequence(results, "blocks", "centers")
    ]
    return {"steps": rows("steps"), "single": rows("single"), "centers": centers, "metrics": OVERALL}


def cause_table(results: Results) -> dict[str, Any]:
    """Concordance of each competing cause, and its incidence at the last horizon, predicted and observed."""
    horizons = numbers(results, "causes", "horizons")
    rows = []
    for row in sequence(results, "causes", "arms"):
        cause = text(find(row, "cause"))
        incidence = {"predicted": numbers(row, "predicted"), "observed": numbers(results, "causes", "observed", cause)}
        rows.append(
            {
                "arm": text(find(row, "arm")),
                "cause": cause,
                "events": number(find(results, "causes", "events", cause)),
                "concordance": interval(row, "concordance"),
                **{
                    name: Interval(values[-1] if len(values) else math.nan, math.nan, math.nan)
                    for name, values in incidence.items()
                },
            }
        )
    return {"rows": rows, "until": years(f"{horizons[-1]:g}y") if len(horizons) else ""}


def metric_name(metric: str) -> str:
    """A metric in words: ``auc_1y`` is ``AUC at 1 year``."""
    parts = _family(metric)
    if parts is None:
        return OVERALL.get(metric, metric.replace("_", " "))
    return f"{FAMILIES[parts[0]]} at {years(parts[1])}"


def _family(metric: str) -> tuple[str, str] | None:
    """Family and horizon: ``auc_1y`` is ``("auc", "1y")``; None for a metric of the whole follow-up."""
    matched = re.fullmatch(rf"({'|'.join(FAMILIES)})_(\d+(?:\.\d+)?y)", metric)
    return (matched[1], matched[2]) if matched else None


def _in_order(metrics: Iterable[str]) -> list[str]:
    """Those of the whole follow-up first, then horizon by horizon."""

    def place(metric: str) -> tuple[float, int, str]:
        parts = _family(metric)
        if parts is None:
            known = list(OVERALL)
            return 0.0, known.index(metric) if metric in known else len(known), metric
        return horizon(parts[1]), list(FAMILIES).index(parts[0]), metric

    return sorted(metrics, key=place)


def _rounds(arm: Mapping[str, Any]) -> str:
    chosen = [value for round_ in sequence(arm, "selected_rounds") if math.isfinite(value := number(round_))]
    if not chosen:
        return "–"
    low, high = min(chosen), max(chosen)
    return f"{low:.0f}" if low == high else f"{statistics.median(chosen):.0f} ({low:.0f}–{high:.0f})"
