"""One page that says what an attack found, its tables as Markdown, and its figures as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from experiments.attacks.figures import draw_all
from experiments.files import write_text
from experiments.pages import embedded, save_figures, template

TITLES = {
    "robustness": "Bad centers against aggregators",
    "inversion": "Gradient inversion",
    "membership": "Membership inference",
    "property": "Property inference",
    "differencing": "Differencing",
    "small_cells": "Small cells",
}
WORDS = {
    "robustness": "Some centers lie about their updates or train on falsified patients. Concordance is of the model "
    "that comes out, on test patients of all centers; the loss is against honest plain averaging, fold by fold.",
    "inversion": "The coordinator looks for patients who would have given the update that a center sent. Error 1 is "
    "what guessing the federation's mean for everybody has; 0 is exact.",
    "membership": "Who was in the training set? AUC 0.5 is chance. Against models the attacker has shadow models and "
    "everybody's data; against sums, the sums of a center or of the federation and one patient's row.",
    "property": "How frequent is a mutation at a center? Skill 0 is that of the federation's frequency, 1 exact.",
    "differencing": "The same sums are asked twice, once without a patient whom only the split leaves out.",
    "small_cells": "Counts by mutation and year of follow-up. Who is the only one with a mutation is found by "
    "whoever knows of it, and with the patient the year and the fate.",
}
CAPTIONS = {
    "robustness": "A panel for each harm; dotted: chance. Bars are 95% intervals of the paired loss over folds.",
    "inversion": "Each mark is a center. On the dashed line the attacker knows no more than the mean.",
    "membership": "Points are AUCs, lines 95% intervals over patients; dashed: chance, and 0.55.",
    "membership_roc": "How many members are found at how many false alarms, all target models together.",
    "property": "Each point is a mutation at a center, as large as the center; on the dashed line it is exact.",
    "differencing": "Points are shares, lines 95% intervals (Wilson).",
    "small_cells": "Points are shares, lines 95% intervals (Wilson).",
}


LOSS = "C; loss and its 95% interval over folds"


@dataclass(frozen=True)
class Shown:
    """A table as text; a cell may have several lines."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        text = ["| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |" for line in lines]
        return f"**{self.title}**\n\n" + "\n".join(text) + "\n"


def write_pages(results: Mapping[str, Any], out: Path) -> None:
    """report.html, table.md, and figures/ as PNG and SVG: to temporary names first, then renamed."""
    figures = draw_all(results)
    save_figures(figures, out / "figures")
    shown = tables(results)
    text = "\n".join([*(f"- {sentence}" for sentence in results["findings"]), "", *(t.markdown() for t in shown)])
    write_text(text, out / "table.md")
    page = template(Path(__file__).with_name("report.html.jinja")).render(
        results=results,
        title=TITLES[results["attack"]],
        words=WORDS[results["attack"]],
        figures=[(name, CAPTIONS[name], embedded(figure)) for name, figure in figures.items()],
        tables=shown,
        config=yaml.safe_dump(results["config"], sort_keys=False, allow_unicode=True),
    )
    write_text(page, out / "report.html")


def tables(results: Mapping[str, Any]) -> list[Shown]:
    """What the page and table.md show."""
    rows = results["table"]
    if results["attack"] == "robustness":
        return _robustness(rows)
    found = [_plain(TITLES[results["attack"]], rows)]
    if choices := results.get("choices"):
        found.append(_plain("Which model to release, chosen on inner validation patients", choices))
    return found


def _plain(title: str, rows: Sequence[Mapping[str, Any]]) -> Shown:
    """A column for each figure."""
    keys = [key for key in rows[0] if key != "name"] if rows else []
    head = ["", *(key.replace("_", " ") for key in keys)]
    return Shown(title, head, [[row["name"], *(_cell(row.get(key)) for key in keys)] for row in rows])


def _robustness(rows: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """A table for each share: harm by aggregator."""
    aggregators = list(dict.fromkeys(row["aggregator"] for row in rows))
    cells = {(row["harm"], row["share"], row["aggregator"]): row for row in rows}
    honest = [_concordance(cells.get(("none", 0.0, a))) for a in aggregators]
    found = [Shown(f"Honest centers: {LOSS}", ["", *aggregators], [["none", *honest]])]
    for share in sorted({row["share"] for row in rows if row["share"] > 0}):
        here = [harm for harm in dict.fromkeys(row["harm"] for row in rows) if harm != "none"]
        body = [[harm, *(_concordance(cells.get((harm, share, a))) for a in aggregators)] for harm in here]
        found.append(Shown(f"{share:.0%} of the centers are bad: {LOSS}", ["", *aggregators], body))
    backdoors = [row for row in rows if row["harm"] == "backdoor" and "gene" in row]
    if backdoors:
        base = {row["aggregator"]: row["gene"] for row in rows if row["harm"] == "none" and "gene" in row}
        body = [
            [a, f"{base[a]:+.2f}", *(f"{row['gene']:+.2f}" for row in backdoors if row["aggregator"] == a)]
            for a in aggregators
            if a in base
        ]
        shares = [f"{s:.0%}" for s in sorted({row["share"] for row in backdoors})]
        found.append(Shown("Backdoor: log hazard ratio of the mutation", ["", "honest", *shares], body))
    detected = [row for row in rows if row.get("detected") is not None and row["share"] > 0]
    if detected:
        names = list(dict.fromkeys(row["harm"] for row in detected))
        kinds = list(dict.fromkeys(row["aggregator"] for row in detected))
        share = min({row["share"] for row in detected}, key=lambda s: abs(s - 0.2))
        values = {(r["harm"], r["aggregator"]): r["detected"] for r in detected if r["share"] == share}
        body = [[h, *(_detected(values.get((h, a))) for a in kinds)] for h in names]
        title = f"AUC of telling bad centers by detection statistics, {share:.0%} bad: mean, 95% interval"
        found.append(Shown(title, ["", *kinds], body))
    return found


def _concordance(row: Mapping[str, Any] | None) -> str:
    if row is None or "c" not in row:
        return "no model"
    loss = row["loss"]
    failed = f", {row['failed']} of {row['fits']} fits failed" if row["failed"] else ""
    return f"{row['c']:.3f};\n{loss['mean']:+.3f}\n({loss['low']:.3f} to {loss['high']:.3f}){failed}"


def _detected(value: Mapping[str, float] | None) -> str:
    """An area under the curve, which is from 0 to 1, whatever the law of t says."""
    if value is None:
        return "–"
    low, high = np.clip([value["low"], value["high"]], 0, 1)
    return f"{value['mean']:.2f}\n({low:.2f} to {high:.2f})"


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
