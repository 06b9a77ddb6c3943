"""The pictures of a simulation study: ARI and number of clusters of every method against the mean number of events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.drawing import STYLE, WIDTH

LOOKS: dict[str, tuple[str, str, str]] = {  # colour of Okabe and Ito's palette, marker, line
    "oracle": ("#1a1a1a", "", "--"),
    "cb": ("#0072b2", "o", "-"),
    "cb_classes": ("#56b4e9", "s", "-"),
    "hdmm": ("#d98200", "v", "-"),
    "multinomial": ("#c05c97", "D", "-"),
    "mfnch": ("#009e73", "^", "-"),
}
WORDS = {
    "oracle": "oracle",
    "cb": "mixture, VI",
    "cb_classes": "mixture, classes",
    "hdmm": "HDMM, posterior",
    "multinomial": "HDMM, multinomial",
    "mfnch": "HDMM, MFNCH",
}

Rows = Sequence[Mapping[str, Any]]


def draw_all(results: Mapping[str, Any]) -> dict[str, Figure]:
    """Both figures for every ``alpha_hdmm``, by name."""
    drawn = {}
    for h in alphas(results["rows"], "alpha_hdmm"):
        drawn[f"ari_h{h:g}"] = ari_figure(results["rows"], h)
        drawn[f"clusters_h{h:g}"] = clusters_figure(results["rows"], h)
    return drawn


def alphas(rows: Rows, key: str) -> list[float]:
    """The values of a parameter, in increasing order."""
    return sorted({row[key] for row in rows if row[key] is not None})


@rc_context(STYLE)
def ari_figure(rows: Rows, alpha_hdmm: float) -> Figure:
    """Adjusted Rand index to the true clusters; mean and standard deviation over replicates."""

    def finish(ax: Axes, clusters: int) -> None:
        ax.set_ylim(-0.06, 1.04)

    title = f"Agreement with the true clusters (HDMM with α_HDMM = {alpha_hdmm:g})"
    return _panels(rows, alpha_hdmm, "ari", "ARI", title, finish)


@rc_context(STYLE)
def clusters_figure(rows: Rows, alpha_hdmm: float) -> Figure:
    """Number of clusters that have patients; dashed grey is the truth."""
    shown = [row for row in rows if row["method"] != "oracle" and row["alpha_hdmm"] in (None, alpha_hdmm)]
    most = max(row["clusters"] for row in shown), max(row["k"] + (row["k_sd"] or 0.0) for row in shown)

    def finish(ax: Axes, clusters: int) -> None:
        ax.axhline(clusters, color="#8a8a8a", linestyle=(0, (4, 3)), linewidth=1.2, zorder=0)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        ax.set_ylim(0, 1.06 * max(most))

    title = f"Number of clusters (HDMM with α_HDMM = {alpha_hdmm:g}; dashed: the truth)"
    return _panels(shown, alpha_hdmm, "k", "clusters", title, finish)


def _panels(
    rows: Rows, alpha_hdmm: float, value: str, label: str, title: str, finish: Callable[[Axes, int], None]
) -> Figure:
    """Rows of panels by ``alpha_sim``, columns by true number of clusters, a line a method."""
    sims, truths = alphas(rows, "alpha_sim"), sorted({int(row["clusters"]) for row in rows})
    methods = [name for name in LOOKS if any(row["method"] == name for row in rows)]
    figure = Figure(figsize=(WIDTH, 1.3 + 2.5 * len(sims)))
    axes = figure.subplots(len(sims), len(truths), squeeze=False, sharex=True, sharey=True)
    for (i, a), (j, k) in ((i, j) for i in enumerate(sims) for j in enumerate(truths)):
        ax = axes[i, j]
        for number, name in enumerate(methods):
            line = [
                row
                for row in rows
                if (row["alpha_sim"], row["clusters"], row["method"]) == (a, k, name)
                and row["alpha_hdmm"] in (None, alpha_hdmm)
            ]
            _line(ax, sorted(line, key=lambda row: row["events"]), value, name, 0.06 * (number - len(methods) / 2))
        ax.set_title(f"K = {k}, α_sim = {a:g}", fontweight="normal")
        ax.grid(axis="y")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        finish(ax, k)
    for ax in axes[:, 0]:
        ax.set_ylabel(label)
    for ax in axes[-1]:
        ax.set_xlabel("mean number of events λ")
    handles = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(methods), fontsize=8.5)
    figure.suptitle(title, x=0.008, ha="left")
    return figure


def _line(ax: Axes, rows: Rows, value: str, method: str, aside: float) -> None:
    """Means along λ with their standard deviations, set aside so that bars do not hide one another."""
    colour, marker, style = LOOKS[method]
    x = np.array([row["events"] for row in rows]) + aside
    mean = np.array([row[value] for row in rows])
    spread = np.array([row[f"{value}_sd"] or 0.0 for row in rows])
    above = 3 if method == "oracle" else 2
    ax.plot(
        x, mean, style, color=colour, marker=marker, markersize=4.2, linewidth=1.3, label=WORDS[method], zorder=above
    )
    if spread.any():
        ax.vlines(x, mean - spread, mean + spread, colors=colour, linewidth=1.0, alpha=0.6)
