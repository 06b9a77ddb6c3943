"""What a simulation study found, on one page: sentences that are computed, a table, the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from experiments.files import write_text
from experiments.pages import embedded, save_figures, template
from experiments.stratify.grid import PUBLISHED
from experiments.stratify.grid_figures import WORDS, alphas, draw_all

CAPTIONS = {
    "ari": "Each panel is one kind of cohort; lines are means over replicates, bars one standard deviation. The oracle "
    "knows odds and shares: nobody can do better on average.",
    "clusters": "Clusters that have patients, the HDMM's catch-all among them. Its assignments choose among the "
    "components that every chain has and that are surely there; a single draw has many more (results.csv, k_draws).",
}
TIE = 1e-9
"""Indices nearer than this are equal."""

AGREED = 1.05
"""R-hat below which chains agree."""


def write_pages(results: Mapping[str, Any], seconds: Mapping[str, float], out: Path) -> None:
    """report.html, and each figure as PNG and SVG in figures/: to temporary names first, then renamed."""
    drawn = draw_all(results)
    save_figures(drawn, out / "figures")
    heads, rows = overview(results["rows"])
    page = template(Path(__file__).with_name("grid.html.jinja")).render(
        results=results,
        summary=in_words(results["rows"]),
        heads=heads,
        rows=rows,
        seconds=seconds,
        figures=[(name, CAPTIONS[name.split("_")[0]], embedded(figure)) for name, figure in drawn.items()],
        config=yaml.safe_dump(results["config"], sort_keys=False, allow_unicode=True),
    )
    write_text(page, out / "report.html")


def overview(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a table: ARI and clusters of every method in every kind of cohort, means over λ.

    The HDMM's rows end in ``alpha_hdmm``.
    """
    methods: list[tuple[str, float | None]] = [(name, None) for name in ("oracle", "cb", "cb_classes")]
    methods += list(product(PUBLISHED, alphas(rows, "alpha_hdmm")))
    kinds = list(product(alphas(rows, "alpha_sim"), sorted({row["clusters"] for row in rows})))
    table = []
    for method, h in methods:
        cells = [WORDS[method] if h is None else f"{WORDS[method].replace(',', '')} {h:g}"]
        for kind in kinds:
            some = [
                row
                for row in rows
                if (row["method"], row["alpha_hdmm"], row["alpha_sim"], row["clusters"]) == (method, h, *kind)
            ]
            cells.append(f"{fmean(row['ari'] for row in some):.3f} ({fmean(row['k'] for row in some):.1f})")
        table.append(cells)
    return ["", *(f"α_sim {a:g}, K {k}" for a, k in kinds)], table


def in_words(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the table says, a sentence or three for each ``alpha_sim``, and how far the chains can be trusted."""
    said = []
    for a in alphas(rows, "alpha_sim"):
        cells = _by_cell([row for row in rows if row["alpha_sim"] == a])
        short = {name: fmean(c["oracle"] - c[name] for c in cells) for name in ("cb", "cb_classes")}
        names = sorted({name for c in cells for name in c if name.split(" ")[0] in PUBLISHED})
        best = min(names, key=lambda name: fmean(c["oracle"] - c[name] for c in cells))
        behind = fmean(c["oracle"] - c[best] for c in cells)
        method, h = best.split(" ")
        wins = sum(max(c["cb"], c["cb_classes"]) >= max(c[name] for name in names) - TIE for c in cells)
        best_words = f"{WORDS[method].removeprefix('HDMM, ')} with α_HDMM = {h}"
        said.append(
            f"α_sim = {a:g}: the mixture is {short['cb']:.3f} below the oracle's ARI on average "
            f"({short['cb_classes']:.3f} by most probable clusters); of all assignments of the HDMM, {best_words} "
            f"comes nearest ({behind:.3f} below). In {wins} of {len(cells)} kinds of cohort one of the mixture's "
            "classifications is at least as good as each of the HDMM's."
        )
    for name, words in (("cb", "mixture"), ("hdmm", "HDMM")):
        chains = [row for row in rows if row["method"] == name]
        covered, from_all = (fmean(row[key] for row in chains) for key in ("k_covered", "k_covered_from_all"))
        agreed = sum(row["rhat"] is not None and row["rhat"] < AGREED for row in chains)
        said.append(
            f"Chains of the {words}: the 90% interval of the number of clusters of a draw holds the truth in "
            f"{covered:.0%} of the runs, and that of each chain alone in {from_all:.0%}; R-hat is below {AGREED} "
            f"throughout in {agreed} of {len(chains)} cells"
            + (": elsewhere that number still depends on where the chains began." if agreed < len(chains) else ".")
        )
    return said


def _by_cell(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """For each kind of cohort the ARI of every method; of those with ``alpha_hdmm``, under ``method alpha``."""
    cells: dict[tuple[int, int], dict[str, float]] = {}
    for row in rows:
        name = row["method"] if row["alpha_hdmm"] is None else f"{row['method']} {row['alpha_hdmm']:g}"
        cells.setdefault((row["clusters"], row["events"]), {})[name] = row["ari"]
    return list(cells.values())
