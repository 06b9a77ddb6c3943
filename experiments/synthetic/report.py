"""One page that compares generators, and its figures as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from experiments.files import write_text
from experiments.pages import embedded, save_figures, template
from experiments.synthetic.arms import CENTRALIZED, FEDERATED, ISOLATED
from experiments.synthetic.figures import METRICS, NAMES, draw_all
from experiments.synthetic.privacy import VERDICTS
from harmonization import Cohort

CAPTIONS = {
    "metrics": "Points are means over seeds and samples, lines hold 95% of the single results. The dashed line is what "
    "real patients reach: the training patients themselves, models trained on them, or chance where it is one half.",
    "marginals": "Grey: real patients whom no generator saw. Lines: as many synthetic patients as have trained, of the "
    "federated arm, or centralized where there is none. What lies beyond the 97% quantile is counted in the last bin.",
    "frequencies": "Each point is a lesion, a category, or (crosses) how often a feature is missing; on the line it is "
    "as frequent among synthetic as among held-out patients. Training patients show how far chance alone leads.",
    "correlations": "Spearman's correlation of synthetic minus that of held-out patients, numbers first, then the most "
    "frequent lesions: white is no difference. Training patients show how far chance alone leads.",
    "comutations": "Red lesions come together more often than by chance, blue ones exclude each other. The two "
    "triangles of a good generator mirror each other; r is the correlation between them.",
    "kaplan_meier": "Grey: held-out patients with their 95% band. A good generator's curves stay within it.",
}


def write_pages(results: Mapping[str, Any], shown: Mapping[str, Cohort], out: Path) -> None:
    """report.html, and each figure as PNG in figures/: to temporary names first, then renamed."""
    figures = draw_all(results, shown)
    save_figures(figures, out / "figures", {"png": {"dpi": 130}})
    write_text(render(results, figures), out / "report.html")


def render(results: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """The page as text."""
    models = results["models"]
    known = dict.fromkeys(m for arms in models.values() for found in arms.values() for m in found)
    judged = {m: v for arms in results["verdicts"].values() for found in arms.values() for m, v in found.items()}
    return template(Path(__file__).with_name("report.html.jinja")).render(
        results=results,
        summary=in_words(results),
        names=NAMES,
        words=METRICS,
        shown=[metric for metric in METRICS if metric in known],
        known=list(known),
        judged={metric: judged[metric] for metric in VERDICTS if metric in judged},
        figures=[(name, CAPTIONS[name], embedded(figure)) for name, figure in figures.items()],
        config=yaml.safe_dump(results["config"], sort_keys=False, allow_unicode=True),
    )


def in_words(results: Mapping[str, Any]) -> list[str]:
    """What was found, a sentence or two per model that was federated."""
    said = []
    for model, arms in results["models"].items():
        own = arms.get(FEDERATED)
        if own is None:
            continue
        numbers = [f"{words} {own[m]['mean']:.3f}" for m, words in METRICS.items() if _known(own, m)]
        text = f"{NAMES[model]}, federated: {', '.join(numbers[:5])}."
        same = results["same_patients"].get(model)
        if same is not None and same["features"]:
            text += " Its patients are those of the centralized generator, bit for bit."
        elif _known(own, "csf") and _known(arms.get(CENTRALIZED, {}), "csf"):
            text += f" On pooled patients clinical fidelity is {arms[CENTRALIZED]['csf']['mean']:.3f}."
        alone = [
            found["csf"]["mean"] for arm, found in arms.items() if arm.startswith(ISOLATED) and _known(found, "csf")
        ]
        if alone and _known(own, "csf"):
            text += f" The clinical fidelity of the best of {len(alone)} centers alone is {max(alone):.3f}."
        said.append(text)
    goals = results["goals"]
    if goals:
        said.append(f"{sum(row['reached'] for row in goals)} of {len(goals)} goals are reached.")
    return said


def _known(found: Mapping[str, Any], metric: str) -> bool:
    return metric in found and found[metric]["mean"] is not None
