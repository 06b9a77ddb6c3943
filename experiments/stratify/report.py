"""One page that says what a stratification found, and its figures as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from matplotlib.figure import Figure

from experiments.files import write_text
from experiments.pages import embedded, save_figures, template
from experiments.stratify.figures import draw_all
from experiments.stratify.patients import Patients

if TYPE_CHECKING:
    from experiments.stratify.run import Found

METHODS = {
    "cb": "Conditional-Bernoulli mixture: clusters differ in which lesions patients have, given how many; exact "
    "inference over the number of clusters.",
    "hdmm": "Hierarchical Dirichlet process mixture of multinomials, as the field publishes it; patients go to their "
    "component of largest mean exposure.",
    "mfnch": "The same components; patients go to the one under whose noncentral hypergeometric law their lesions are "
    "most likely (Dall'Olio et al. 2023).",
}
CAPTIONS = {
    "components": "Each row is a cluster with its defining lesions, each column a lesion: the darker, the more of the "
    "cluster's tested patients have it.",
    "co_clustering": "Dark blocks along the diagonal are patients whom nearly all draws put together; colour off the "
    "diagonal is doubt about who belongs where.",
    "traces": "Chains that agree overlap, in the traces and in the histograms; the classification uses the steps after "
    "burn-in alone.",
    "kaplan_meier": "Observed survival of the largest clusters. The log-rank test compares all clusters with ten "
    "patients or more; clusters were found without looking at survival.",
    "shares": "Each row is a group of patients, each column a cluster: every group has its own shares of the same "
    "clusters. Intervals are in shares-cb.csv; small groups are drawn towards the common shares.",
    "stability": "The method is refitted to resamples of the patients; a cluster that nearly all refits have does not "
    "hang on a few patients. Points are means, lines hold 95% of the resamples; 0.75 and 0.5 are Hennig's thresholds.",
    "comparison": "Each column is a given class: the darker a cell, the larger the share of the class that is in the "
    "cluster. Numbers are patients; the interval is a bootstrap over patients.",
}


def write_pages(results: Mapping[str, Any], found: Sequence[Found], patients: Patients, out: Path) -> None:
    """report.html, and each figure as PNG and SVG in figures/: to temporary names first, then renamed."""
    drawn = {one.method: draw_all(one, patients) for one in found}
    for method, figures in drawn.items():
        save_figures({f"{method}_{name}": figure for name, figure in figures.items()}, out / "figures")
    write_text(render(results, found, drawn), out / "report.html")


def render(results: Mapping[str, Any], found: Sequence[Found], drawn: Mapping[str, Mapping[str, Figure]]) -> str:
    """The page as text; ``drawn`` are the figures by method and name."""
    rows = {row["method"]: row for row in results["methods"]}
    return template(Path(__file__).with_name("report.html.jinja")).render(
        results=results,
        summary=[in_words(rows[one.method]) for one in found],
        rows=rows,
        methods=METHODS,
        stability={one.method: _stability(one) for one in found},
        clusters={one.method: one.summary.clusters.to_dict("records") for one in found},
        figures={
            method: [(name, CAPTIONS[name], embedded(figure)) for name, figure in figures.items()]
            for method, figures in drawn.items()
        },
        config=yaml.safe_dump(results["config"], sort_keys=False, allow_unicode=True),
    )


def _stability(found: Found) -> dict[int, tuple[float, float, float]]:
    """Mean Jaccard index and its interval of each cluster of which anybody was drawn."""
    if found.bootstrap is None:
        return {}
    table = found.bootstrap.clusters.dropna()
    columns = (table[name] for name in ("cluster", "jaccard", "jaccard_low", "jaccard_high"))
    return {int(k): (float(m), float(a), float(b)) for k, m, a, b in zip(*columns, strict=True)}


def in_words(row: Mapping[str, Any]) -> str:
    """One method's result as a sentence or three."""
    low, high = row["k_interval"]
    said = [f"{row['method']}: {row['k']} clusters (90% of the draws have {low} to {high})."]
    if row["rhat_max"] is None:
        said.append("One chain, or too few steps, cannot show convergence.")
    elif row["rhat_max"] < 1.05:
        said.append(f"The chains agree (R-hat {row['rhat_max']:.3f}, effective sample size {row['ess_min']:.0f}).")
    else:
        said.append(f"The chains do not agree yet (R-hat {row['rhat_max']:.2f}): run them longer (--resume).")
    if "ari" in row:
        ends = row["ari_interval"]
        said.append(f"Adjusted Rand index to the given classes {row['ari']:.3f} ({ends[0]:.3f}–{ends[1]:.3f}).")
    if "bootstrap" in row:
        held = row["bootstrap"]
        named = sum("jaccard" in c for c in row["clusters"])
        said.append(
            f"In {held['resamples']} resamples of the patients {held['recovered']} of {named} clusters are recovered "
            f"(mean Jaccard index above 0.75), {held['dissolved']} dissolve (at most 0.5); ARI to the classification "
            f"{held['ari']:.3f} ({held['ari_interval'][0]:.3f}–{held['ari_interval'][1]:.3f})."
        )
    if not low <= row["k"] <= high and row["method"] == "cb":
        said.append(
            "The classification has another number of clusters than the draws: their borders are uncertain; "
            "classification: classes gives each patient's most probable cluster instead."
        )
    return " ".join(said)
