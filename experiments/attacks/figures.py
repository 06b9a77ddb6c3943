"""The pictures of the attacks, each from results.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from experiments.drawing import STYLE, WIDTH

COLOURS = ("#1a1a1a", "#0072b2", "#d98200", "#009e73", "#c05c97", "#56b4e9", "#8a8a8a", "#e0c000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

Results = Mapping[str, Any]


def draw_all(results: Results) -> dict[str, Figure]:
    """Every figure of an attack, by name."""
    with rc_context(STYLE):
        return {
            "robustness": _robustness,
            "inversion": _inversion,
            "membership": _membership,
            "property": _property,
            "differencing": _exposed,
            "small_cells": _exposed,
        }[results["attack"]](results)


def _robustness(results: Results) -> dict[str, Figure]:
    """Concordance over the share of bad centers, a panel for each harm, a line for each aggregator."""
    table = results["table"]
    harms = [harm for harm in dict.fromkeys(row["harm"] for row in table) if harm != "none"]
    aggregators = list(dict.fromkeys(row["aggregator"] for row in table))
    columns = min(4, len(harms))
    lines = -(-len(harms) // columns)
    figure = Figure(figsize=(WIDTH, 0.8 + 2.3 * lines), layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True)).ravel()
    for ax, harm in zip(axes, harms, strict=False):
        for k, aggregator in enumerate(aggregators):
            rows = [r for r in table if r["aggregator"] == aggregator and r["harm"] in (harm, "none") and "c" in r]
            rows.sort(key=lambda r: r["share"])
            x = np.array([100 * r["share"] for r in rows]) + 0.35 * (k - (len(aggregators) - 1) / 2)
            y = [r["c"] for r in rows]
            half = [(r["loss"]["high"] - r["loss"]["low"]) / 2 for r in rows]
            ax.errorbar(
                x,
                y,
                yerr=half,
                color=COLOURS[k % 8],
                marker=MARKERS[k % 8],
                markersize=4,
                linewidth=1.2,
                elinewidth=0.7,
                label=aggregator,
            )
        ax.axhline(0.5, color="#999999", linewidth=0.7, linestyle=":")
        ax.set_title(harm, fontsize=9, loc="left")
        ax.set_xticks([100 * s for s in sorted({r["share"] for r in table})])
    for ax in axes[len(harms) :]:
        ax.set_visible(False)
    figure.supxlabel("bad centers, %", fontsize=9)
    figure.supylabel("Harrell C on test patients", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8)
    return {"robustness": figure}


def _inversion(results: Results) -> dict[str, Figure]:
    """Reconstruction error over the size of the center, a panel for each model, a mark for each defence."""
    centers = results["centers"]
    models = list(dict.fromkeys(row["model"] for row in centers))
    defences = list(dict.fromkeys(row["defence"] for row in centers))
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(models), sharey=True))
    for ax, model in zip(axes, models, strict=True):
        for k, defence in enumerate(defences):
            rows = [r for r in centers if r["model"] == model and r["defence"] == defence]
            ax.plot(
                [r["patients"] for r in rows],
                [min(r["error"], 1.6) for r in rows],
                linestyle="",
                marker=MARKERS[k % 8],
                markersize=4.5,
                color=COLOURS[k % 8],
                alpha=0.75,
                label=defence,
            )
        ax.axhline(1, color="#666666", linewidth=0.9, linestyle="--")
        ax.set_xscale("log")
        ax.set_xlabel("training patients of the center")
        ax.set_title(model, fontsize=9, loc="left")
        ax.set_ylim(-0.05, 1.7)
    axes[0].set_ylabel("squared error / that of guessing the mean")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8)
    return {"inversion": figure}


def _membership(results: Results) -> dict[str, Figure]:
    """AUC of every attack with its interval, and the receiver operating curve against models."""
    figure = Figure(figsize=(WIDTH, 0.9 + 0.34 * len(results["table"])), layout="constrained")
    _intervals(figure.subplots(), results["table"], "auc", "AUC of telling members from others", (0.5, 0.55))
    curves = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    ax, side = curves.subplots(1, 2, width_ratios=(3, 2))
    side.axis("off")
    for k, (name, curve) in enumerate(results["curves"].items()):
        dashes = ("-", "--", ":")[k // 8 % 3]
        ax.plot(
            curve["false_positive"], curve["true_positive"], dashes, color=COLOURS[k % 8], linewidth=1.3, label=name
        )
    ax.plot([1e-3, 1], [1e-3, 1], color="#999999", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(1e-3, 1)
    ax.set_ylim(1e-3, 1)
    ax.set_xlabel("false positive rate")
    ax.set_ylabel("true positive rate")
    side.legend(*ax.get_legend_handles_labels(), frameon=False, fontsize=8, loc="center left")
    return {"membership": figure, "membership_roc": curves}


def _property(results: Results) -> dict[str, Figure]:
    """Inferred prevalence against the true one, a panel for each channel and defence."""
    channels = list(dict.fromkeys((r["channel"], r["defence"]) for r in results["centers"]))
    columns = min(3, len(channels))
    lines = -(-len(channels) // columns)
    figure = Figure(figsize=(WIDTH, 0.5 + 2.9 * lines), layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True)).ravel()
    for ax, (channel, defence) in zip(axes, channels, strict=False):
        rows = [r for r in results["centers"] if (r["channel"], r["defence"]) == (channel, defence)]
        size = np.array([r["patients"] for r in rows])
        ax.scatter(
            [r["true"] for r in rows], [r["inferred"] for r in rows], s=3 + size / 12, color="#0072b2", alpha=0.35
        )
        ax.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=0.8)
        skill = next(r for r in results["table"] if (r["channel"], r["defence"]) == (channel, defence))["skill"]
        ax.set_title(f"{channel}, {defence}: {skill['mean']:.2f}", fontsize=7.5, loc="left")
    for ax in axes[len(channels) :]:
        ax.set_visible(False)
    high = max(0.1, *(r["true"] for r in results["centers"])) * 1.05
    axes[0].set_xlim(-0.02, high)
    axes[0].set_ylim(-0.1, high)
    figure.supxlabel("prevalence of a mutation at a center", fontsize=9)
    figure.supylabel("inferred", fontsize=9)
    return {"property": figure}


def _exposed(results: Results) -> dict[str, Figure]:
    """Share of patients exposed under each defence."""
    figure = Figure(figsize=(WIDTH, 1.0 + 0.34 * len(results["table"])), layout="constrained")
    _intervals(figure.subplots(), results["table"], "exposed", "share of the attacked patients that are exposed", (0,))
    return {results["attack"]: figure}


def _intervals(ax: Any, rows: Sequence[Mapping[str, Any]], key: str, label: str, lines: Sequence[float]) -> None:
    """A row for each entry: its name, its value and the interval."""
    for i, row in enumerate(rows):
        value = row[key]
        ax.plot([value["low"], value["high"]], [i, i], color="#0072b2", linewidth=1.6, solid_capstyle="butt")
        ax.plot(value["mean"], i, "o", color="#0072b2", markersize=5)
    for x in lines:
        ax.axvline(x, color="#999999", linewidth=0.8, linestyle="--")
    ax.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8.5)
    ax.invert_yaxis()
    ax.set_xlabel(label)
    ax.margins(x=0.08, y=0.15)
