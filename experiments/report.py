"""One page that says what a run found: `results.json` in words, tables and figures.

The page stands alone (figures are inside, nothing is loaded), and every sentence is computed: a difference whose
interval holds 0 is called not distinguishable, whatever its sign.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from experiments import plots
from experiments.files import write_text
from experiments.model_plots import ordered_hazard_ratios
from experiments.pages import embedded, template
from experiments.reading import (
    HARRELL,
    Interval,
    arms,
    centralized_arm,
    find,
    horizon,
    interval,
    main_arm,
    mapping,
    number,
    numbers,
    sequence,
    signed,
    years,
)

Results = dict[str, Any]
Row = dict[str, Any]

CAPTIONS = {
    "arms": (
        "Each row is one way of training, scored on the test patients it has a prediction for (their number is in "
        "the table): the further right the better. The dashed line is the model trained on pooled data; every small "
        "triangle is one center that trained alone (box: middle half, bar: median). Fine-tuned models are compared "
        "within a center only, for each is its center's own."
    ),
    "gain": (
        "Each point is one center: above zero it does better in the federation than alone; filled points are those "
        "whose interval does not hold zero, and the line is the trend with size."
    ),
    "centers": (
        "Each band is one center, the largest on top; a point without a line rests on too few pairs of patients for "
        "an interval. All models are scored on the same patients, so intervals may overlap where the paired gain is "
        "certain."
    ),
    "blocks": (
        "Left: all blocks up to the one named. Right: each row is one center, its own test patients; right of zero all "
        "blocks together do better than the single block that does best there, which is chosen on these very patients. "
        "Hollow: the center lacks a block."
    ),
    "kaplan_meier": (
        "Patients in three groups by the risk that a model that had not seen them predicted: the further apart the "
        "curves, the better the groups are told apart; shaded: 95% interval."
    ),
    "calibration": (
        "Each point is a group of patients of similar predicted risk: on the dashed diagonal as many had the event "
        "as predicted, above it more, below it fewer."
    ),
    "curves": (
        "Lines are means and bands the range over folds; a validation loss that rises while the training loss falls "
        "is overfitting (a Cox loss grows with the number of patients, so levels do not compare). Triangles at the "
        "bottom mark the rounds whose weights were chosen, grey lines are single centers."
    ),
}

CAPTIONS |= {
    "hazard_ratios": (
        "The exact Cox model fitted to all patients: right of 1 the hazard is higher. The model over the centers and "
        "that on the pooled patients are the same where all centers take part."
    ),
    "importance": (
        "How much worse the model ranks test patients of a center once a feature is shuffled among them; of two "
        "features that say the same neither looks important. Lines: 95% interval over folds. Both models saw the same "
        "shuffles."
    ),
    "partial_dependence": (
        "What the model predicts on average if all patients had a value of the feature, everything else as it is. "
        "Bands: range over folds."
    ),
}

GLOSSARY = {
    "Harrell C": (
        "Of two patients of whom one had the event first, how often was that one given the higher risk? 0.5 is "
        "chance, 1 is perfect."
    ),
    "Uno C": "The same, corrected for patients lost to follow-up early.",
    "IBS": (
        "Integrated Brier score: mean squared distance between predicted survival and what happened, over "
        "follow-up; 0 is perfect, lower is better, and 0.25 is what always saying 50% would get."
    ),
    "AUC": (
        "Of one patient with the event before the horizon and one without it, how often was the first given the "
        "higher risk?"
    ),
    "Brier": "Squared error of the predicted survival at one horizon; lower is better.",
    "Observed / predicted": (
        "Events observed over events predicted by the horizon; 1 is right on average, above 1 the model is too "
        "optimistic."
    ),
    "Calibration error": (
        "Mean distance between predicted and observed risk over fifths of the predicted risk; lower is better."
    ),
    "Interval": "In brackets: 95% bootstrap interval over patients resampled within their centers.",
}

KIND_WORDS = {
    "score": "a published prognostic score; nothing was trained",
    "local": "one center trains alone and is scored on everybody's test patients",
    "block": "the first federated arm again, on the blocks of features in brackets alone",
    "centralized": "trained on all patients pooled: what federation is measured against",
    "federated": "trained across centers; no patient leaves one",
    "fine_tuned": "federated, then trained on at each center for its own patients",
    "left_out": "each center is scored by a model it took no part in",
}

FAMILIES = {
    "auc": "AUC",
    "brier": "Brier",
    "calibration_ratio": "Observed / predicted",
    "calibration_error": "Calibration error",
}
LOWER_IS_BETTER = ("ibs", "brier", "calibration_error")
OVERALL = {HARRELL: "Harrell C", "uno_c": "Uno C", "ibs": "IBS"}


def write_report(results: Results, path: Path, figures: Mapping[str, Figure] | None = None) -> None:
    """Write ``report.html``: to a temporary name first, then renamed.

    Parameters
    ----------
    results
        The content of `results.json`, see ``docs/results.md``.
    path
        Where the page goes; its folder is made.
    figures
        As `plots.draw_all` drew them; drawn here by default.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(render(results, figures), path)


def render(results: Results, figures: Mapping[str, Figure] | None = None) -> str:
    """The page as text; figures are drawn unless given."""
    words = {"estimate": _estimate, "signed": _signed_interval, "count": _count, "duration": _duration}
    figures = plots.draw_all(results) if figures is None else figures
    kinds = {str(find(arm, "kind")) for arm in arms(results).values()}
    return template(Path(__file__).with_name("report.html.jinja"), **words).render(
        name=results.get("name") or "Experiment",
        started=str(results.get("started") or "")[:16].replace("T", " "),
        seconds=number(results.get("seconds")),
        seed=results.get("seed"),
        summary=summary(results),
        dataset=_dataset(results),
        arms=_arm_table(results),
        kinds={kind: words for kind, words in KIND_WORDS.items() if kind in kinds},
        differences=_difference_table(results),
        gain=_gain_table(results),
        blocks=_block_table(results),
        causes=_cause_table(results),
        hazard_ratios=_hazard_ratio_table(results),
        importance=_importance_table(results),
        detection={_text(arm): rows for arm, rows in mapping(results, "detection").items()},
        figures=[(name, CAPTIONS[name], embedded(figure)) for name, figure in figures.items()],
        glossary=GLOSSARY,
        notes=[_text(note) for note in sequence(results, "notes") if note is not None],
        versions={package: _text(version) for package, version in mapping(results, "versions").items()},
        timings={stage: number(taken) for stage, taken in mapping(results, "timings").items()},
        config=yaml.safe_dump(results.get("config") or {}, sort_keys=False, allow_unicode=True),
    )


# The summary in words -----------------------------------------------------------------------------------------------


def summary(results: Results) -> list[str]:
    """What the run found, as sentences in reading order; a sentence without numbers is left out."""
    main, pooled = main_arm(results), centralized_arm(results)
    sentences = [
        _reached(results, main),
        _privacy_words(results, main),
        _against_pooled(results, main, pooled),
        _against_alone(results),
        _small_centers(results),
        _against_scores(results, main),
        _blocks_words(results),
        _elsewhere(results, main),
    ]
    return [sentence for sentence in sentences if sentence]


def verdict(difference: Interval, *, lower_is_better: bool = False) -> str:
    """``better``, ``worse`` or ``not distinguishable``, for a minus b."""
    if difference.holds_zero:
        return "not distinguishable"
    return "better" if (difference.low > 0) != lower_is_better else "worse"


def _reached(results: Results, main: str | None) -> str:
    value = interval(results, "arms", main or "", "pooled", HARRELL)
    if main is None or not value.known:
        best = centralized_arm(results)
        value = interval(results, "arms", best or "", "pooled", HARRELL)
        return f"The pooled model ({best}) reaches a Harrell C of {_words(value)}." if value.known else ""
    n, events = (number(find(results, "arms", main, "pooled", HARRELL, key)) for key in ("n", "events"))
    size = f", tested on {n:,.0f} patients with {events:,.0f} events" if n > 0 and events >= 0 else ""
    centers = len(mapping(results, "dataset", "centers"))
    across = f" across {centers} centers" if centers > 1 else ""
    return f"The federated model ({main}) reaches a Harrell C of {_words(value)}{across}{size}."


def _privacy_words(results: Results, main: str | None) -> str:
    spent = mapping(results, "privacy", "arms", main or "")
    epsilon, delta, fits = (number(spent.get(key)) for key in ("epsilon", "delta", "fits"))
    if not epsilon > 0:
        return ""
    whole = number(find(results, "privacy", "epsilon_of_run"))
    return (
        f"A fit of it is differentially private for one {spent['unit']} with epsilon {epsilon:.3g} at delta {delta:g}, "
        f"which covers {spent['covers']}; all fits of this run together cost epsilon {whole:.3g} ({fits:.0f} of this "
        "arm). The arms beside it, and these figures themselves, are of pooled patients and not private."
    )


def _against_pooled(results: Results, main: str | None, pooled: str | None) -> str:
    reached = interval(results, "arms", pooled or "", "pooled", HARRELL)
    if main is None or pooled is None or not reached.known:
        return ""
    start = f"Training on the pooled patients ({pooled}) reaches {_words(reached)}"
    difference = _difference(results, main, pooled)
    if not difference.known:
        return f"{start}; no paired difference between the two was computed."
    said = {
        "better": "federated is better than pooled",
        "worse": "federated is worse than pooled",
        "not distinguishable": "the two are not distinguishable",
    }[verdict(difference)]
    return f"{start}; the paired difference, federated minus pooled, is {_signed_words(difference)}: {said}."


def _against_alone(results: Results) -> str:
    alone = [value.mean for arm in arms(results, "local").values() if (value := interval(arm, "pooled", HARRELL)).known]
    if not alone:
        return ""
    if len(alone) == 1:
        said = f"One center alone reaches {alone[0]:.3f} on everybody's patients"
    else:
        said = (
            f"The median of {len(alone)} centers training alone reaches {statistics.median(alone):.3f} "
            f"(from {min(alone):.3f} to {max(alone):.3f}) on everybody's patients"
        )
    gains = [interval(row, "everybody", "gain") for row in sequence(results, "gain", "centers")]
    verdicts = [verdict(gain) for gain in gains if gain.known]
    if not verdicts:
        return f"{said}."
    better, worse, neither = (verdicts.count(word) for word in ("better", "worse", "not distinguishable"))
    return (
        f"{said}; compared with each center's own model, the federated one is better for {better} of {len(verdicts)}, "
        f"worse for {worse} and not distinguishable for {neither}."
    )


def _small_centers(results: Results) -> str:
    slope = interval(results, "gain", "slope")
    if not slope.known:
        return ""
    said = {
        "worse": "confirmed, the gain falls with size",
        "better": "contradicted, the gain grows with size",
        "not distinguishable": "not confirmed, the trend is not distinguishable from none",
    }[verdict(slope)]
    return (
        "Do small centers gain most? Per tenfold size of a center the gain in Harrell C changes by "
        f"{_signed_words(slope)}: {said}."
    )


def _against_scores(results: Results, main: str | None) -> str:
    parts = []
    for name, arm in arms(results, "score").items():
        value = interval(arm, "pooled", HARRELL)
        if not value.known:
            continue
        part = f"{name} reaches {_words(value)}{_on(results, name, main)}"
        difference = _difference(results, main or "", name)
        if difference.known:
            said = verdict(difference).replace("not ", "federated is not ", 1)
            said = said if said.startswith("federated") else f"federated is {said}"
            part += f" (federated minus score {_signed_words(difference)}: {said})"
        parts.append(part)
    return f"For comparison, {'; '.join(parts)}." if parts else ""


def _blocks_words(results: Results) -> str:
    """What each further block adds, and at how many centers all blocks together lose to one of them."""
    added = [
        f"{sequence(row, 'blocks')[-1]} {_signed_words(gain)} ({verdict(gain)})"
        for row in sequence(results, "blocks", "steps")
        if (gain := interval(row, "gain", HARRELL)).known
    ]
    if not added:
        return ""
    said = f"Added one by one, blocks of features change Harrell's C by: {'; '.join(added)}."
    differences = [interval(row, "difference") for row in sequence(results, "blocks", "centers")]
    verdicts = [verdict(difference) for difference in differences if difference.bounded]
    if not verdicts:
        return said
    means = [
        f"{_signed_words(mean)} on average where {words}"
        for kind, words in (("lacking", "a block is absent"), ("complete", "none is"))
        if (mean := interval(results, "blocks", "means", kind)).known
    ]
    return (
        f"{said} Against the single block that does best at a center, all together are worse at "
        f"{verdicts.count('worse')} of {len(verdicts)} centers and better at {verdicts.count('better')}"
        f"{': ' if means else ''}{', '.join(means)}."
    )


def _elsewhere(results: Results, main: str | None) -> str:
    parts = []
    for name, arm in arms(results, "left_out").items():
        if (value := interval(arm, "pooled", HARRELL)).known:
            parts.append(f"{_words(value)}{_on(results, name, main)} ({name})")
    return f"At centers that took no part in training the model reaches {', '.join(parts)}." if parts else ""


def _on(results: Results, name: str, main: str | None) -> str:
    """On how many patients, where they are not those of the main arm."""
    n, all_n = (number(find(results, "arms", arm or "", "pooled", HARRELL, "n")) for arm in (name, main))
    return f" on {n:,.0f} patients" if n > 0 and n != all_n else ""


def _difference(results: Results, a: str, b: str) -> Interval:
    """Harrell's C of arm a minus arm b, whichever way round it was computed."""
    for row in sequence(results, "differences"):
        if find(row, "metric") == HARRELL:
            value = interval(row)
            if (find(row, "a"), find(row, "b")) == (a, b):
                return value
            if (find(row, "a"), find(row, "b")) == (b, a):
                return Interval(-value.mean, -value.high, -value.low)
    return Interval(math.nan, math.nan, math.nan)


# The tables ---------------------------------------------------------------------------------------------------------


def _dataset(results: Results) -> dict[str, Any]:
    found = mapping(results, "dataset")
    features = found.get("features")
    names = [_text(find(feature, "name") or feature) for feature in sequence(found, "features") if feature is not None]
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


def _arm_table(results: Results) -> dict[str, Any]:
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
        "median": {metric: _median_words(row["values"][metric].mean for row in alone) for metric in metrics},
    }


def _difference_table(results: Results) -> dict[str, Any]:
    """Paired differences of what the page speaks of; those with isolated centers and single horizons apart."""
    shown: list[Row] = []
    more: list[Row] = []
    kinds = {name: find(arm, "kind") for name, arm in arms(results).items()}
    for row in sequence(results, "differences"):
        if not isinstance(row, Mapping):
            continue
        a, b, metric = (_text(row.get(key)) for key in ("a", "b", "metric"))
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


def _hazard_ratio_table(results: Results) -> dict[str, Any]:
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


def _importance_table(results: Results) -> dict[str, Any]:
    """Importance of every feature by each explained model."""
    found = mapping(results, "explanation", "importance")
    features: dict[str, dict[str, tuple[Interval, Interval]]] = {}
    for arm in found:
        for row in sequence(found, arm):
            values = (interval(row, "drop"), interval(row, "loss"))
            features.setdefault(_text(find(row, "feature")), {})[arm] = values
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


def _gain_table(results: Results) -> dict[str, Any]:
    rows: list[Row] = []
    for row in sequence(results, "gain", "centers"):
        if isinstance(row, Mapping):
            scored = {
                key: {part: interval(row, key, part) for part in ("federated", "local", "gain")}
                for key in ("everybody", "own")
            }
            counts = {key: number(row.get(key)) for key in ("patients", "events")}
            rows.append({"center": _text(row.get("center")), **counts, **scored})
    rows.sort(key=lambda row: -_size(row["patients"]))
    return {
        "federated": _text(find(results, "gain", "federated")),
        "rows": rows,
        "slope": interval(results, "gain", "slope"),
        "mean": interval(results, "gain", "mean", "everybody"),
        "over_centers": interval(results, "gain", "slope_over_centers"),
    }


def _block_table(results: Results) -> dict[str, Any]:
    """Steps and single blocks with their gains; every center's difference to its best single block."""

    def rows(kind: str) -> list[Row]:
        return [
            {
                "blocks": " + ".join(str(block) for block in sequence(row, "blocks")),
                "value": interval(results, "arms", _text(find(row, "arm")), "pooled", HARRELL),
                **{metric: interval(row, "gain", metric) for metric in OVERALL},
                "verdict": verdict(gain) if (gain := interval(row, "gain", HARRELL)).known else "",
            }
            for row in sequence(results, "blocks", kind)
        ]

    centers = [
        {
            "center": _text(find(row, "center")),
            "patients": number(find(row, "patients")),
            "lacks": ", ".join(str(block) for block in sequence(row, "lacks")),
            "all": interval(row, "all"),
            "best": _text(find(row, "best")),
            "single": interval(row, "single", _text(find(row, "best"))),
            "difference": interval(row, "difference"),
        }
        for row in sequence(results, "blocks", "centers")
    ]
    return {"steps": rows("steps"), "single": rows("single"), "centers": centers, "metrics": OVERALL}


def _cause_table(results: Results) -> dict[str, Any]:
    """Concordance of each competing cause, and its incidence at the last horizon, predicted and observed."""
    horizons = numbers(results, "causes", "horizons")
    rows = []
    for row in sequence(results, "causes", "arms"):
        cause = _text(find(row, "cause"))
        incidence = {"predicted": numbers(row, "predicted"), "observed": numbers(results, "causes", "observed", cause)}
        rows.append(
            {
                "arm": _text(find(row, "arm")),
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


# Numbers in words ---------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    """A name, or a dash for none."""
    return "–" if value is None or value != value else str(value)


def _words(value: Interval) -> str:
    return f"{value.mean:.3f}" + (f" ({value.low:.3f}–{value.high:.3f})" if value.bounded else "")


def _signed_words(value: Interval) -> str:
    return signed(value.mean) + (f" ({signed(value.low)} to {signed(value.high)})" if value.bounded else "")


def _estimate(value: Interval) -> tuple[str, str]:
    """Value and interval for a cell of a table."""
    if not value.known:
        return "–", ""
    return f"{value.mean:.3f}", f"({value.low:.3f}–{value.high:.3f})" if value.bounded else ""


def _signed_interval(value: Interval) -> tuple[str, str]:
    if not value.known:
        return "–", ""
    return signed(value.mean), f"({signed(value.low)} to {signed(value.high)})" if value.bounded else ""


def _median_words(values: Iterable[float]) -> tuple[str, str]:
    known = [value for value in values if math.isfinite(value)]
    return (f"{statistics.median(known):.3f}", f"[{min(known):.3f}–{max(known):.3f}]") if known else ("–", "")


def _count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "–"


def _duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _rounds(arm: Mapping[str, Any]) -> str:
    chosen = [value for round_ in sequence(arm, "selected_rounds") if math.isfinite(value := number(round_))]
    if not chosen:
        return "–"
    low, high = min(chosen), max(chosen)
    return f"{low:.0f}" if low == high else f"{statistics.median(chosen):.0f} ({low:.0f}–{high:.0f})"
