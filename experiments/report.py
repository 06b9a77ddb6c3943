"""One page that says what a run found: `results.json` in words, tables and figures.

The page stands alone (figures are inside, nothing is loaded), and every sentence is computed: a difference whose
interval holds 0 is called not distinguishable, whatever its sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from experiments import plots
from experiments.files import write_text
from experiments.findings import summary
from experiments.pages import embedded, template
from experiments.reading import (
    arms,
    find,
    mapping,
    number,
    sequence,
)
from experiments.report_tables import (
    arm_table,
    block_table,
    cause_table,
    dataset_table,
    difference_table,
    gain_table,
    hazard_ratio_table,
    importance_table,
)
from experiments.wording import count, duration, estimate, signed_estimate, text

Results = dict[str, Any]

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
    page = template(
        Path(__file__).with_name("report.html.jinja"),
        estimate=estimate,
        signed=signed_estimate,
        count=count,
        duration=duration,
    )
    figures = plots.draw_all(results) if figures is None else figures
    kinds = {str(find(arm, "kind")) for arm in arms(results).values()}
    return page.render(
        name=results.get("name") or "Experiment",
        started=str(results.get("started") or "")[:16].replace("T", " "),
        seconds=number(results.get("seconds")),
        seed=results.get("seed"),
        summary=summary(results),
        dataset=dataset_table(results),
        arms=arm_table(results),
        kinds={kind: words for kind, words in KIND_WORDS.items() if kind in kinds},
        differences=difference_table(results),
        gain=gain_table(results),
        blocks=block_table(results),
        causes=cause_table(results),
        hazard_ratios=hazard_ratio_table(results),
        importance=importance_table(results),
        detection={text(arm): rows for arm, rows in mapping(results, "detection").items()},
        figures=[(name, CAPTIONS[name], embedded(figure)) for name, figure in figures.items()],
        glossary=GLOSSARY,
        notes=[text(note) for note in sequence(results, "notes") if note is not None],
        versions={package: text(version) for package, version in mapping(results, "versions").items()},
        timings={stage: number(taken) for stage, taken in mapping(results, "timings").items()},
        config=yaml.safe_dump(results.get("config") or {}, sort_keys=False, allow_unicode=True),
    )
