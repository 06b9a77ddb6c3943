"""The figures of a conformance report, each made from ``report.json`` alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.drawing import STYLE, WIDTH

PRESENT = "present"
REASONS = {  # the project's reasons, from a result that is no number to nothing at all
    PRESENT: "#0072b2",
    "below detection": "#56b4e9",
    "above detection": "#9ad0f0",
    "quarantined": "#b2182b",
    "failed": "#e08214",
    "not done": "#f0c05a",
    "not applicable": "#7f7f7f",
    "unknown": "#b8b8b8",
    "not tested": "#9970ab",
    "outside window": "#5aae61",
    "not reported": "#e3e3e3",
}
COLUMNS = 3
LIMIT = "#b2182b"


def draw_all(counts: dict[str, Any]) -> dict[str, Figure]:
    """All figures that there is something to show of, by name; `counts` as in ``report.json``."""
    drawn = {"completeness": completeness_figure(counts), "values": values_figure(counts)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def in_cohort(counts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The features that are columns or scores of the cohort."""
    return {name: feature for name, feature in counts["features"].items() if feature["in_cohort"]}


def rows_of_completeness(counts: dict[str, Any]) -> list[tuple[tuple[str, ...], dict[str, int]]]:
    """Features that are missing in the same number of patients for the same reasons, the least complete first."""
    alike: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for name, feature in in_cohort(counts).items():
        parts = {PRESENT: feature["present"], **feature["missing"]}
        alike.setdefault(tuple(sorted(parts.items())), []).append(name)
    rows = [(tuple(names), dict(parts)) for parts, names in alike.items()]
    return sorted(rows, key=lambda row: (row[1][PRESENT], -len(row[0])))


@rc_context(STYLE)
def completeness_figure(counts: dict[str, Any]) -> Figure | None:
    """A bar per feature, or per group of features alike: present, and why missing."""
    kept, rows = counts["patients"]["kept"], rows_of_completeness(counts)
    if not kept or not rows:
        return None
    figure = Figure(figsize=(WIDTH, 1.3 + 0.25 * len(rows)))
    ax: Axes = figure.subplots()
    places = np.arange(len(rows))
    left = np.zeros(len(rows))
    for reason, colour in REASONS.items():
        share = np.array([parts.get(reason, 0) / kept for _, parts in rows])
        if share.any():
            ax.barh(places, share, left=left, color=colour, label=reason, height=0.78)
            left += share
    for place, (_, parts) in enumerate(rows):
        ax.text(1.008, place, f"{parts[PRESENT] / kept:.0%}", va="center", fontsize=8.5)
    ax.set_yticks(places, [_names(names) for names, _ in rows], fontsize=8.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlabel(f"of {kept:,} patients")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=6, fontsize=8.5, handlelength=1.1, columnspacing=1.2)
    return figure


@rc_context(STYLE)
def values_figure(counts: dict[str, Any]) -> Figure | None:
    """A histogram per number, over its plausible range."""
    shown = {name: f for name, f in in_cohort(counts).items() if f.get("histogram")}
    if not shown:
        return None
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 2.15 * rows))
    axes = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for ax, (name, feature) in zip(axes, shown.items(), strict=False):
        _histogram(ax, name, feature)
    for ax in list(axes)[len(shown) :]:
        ax.set_visible(False)
    figure.set_layout_engine("constrained", h_pad=0.1, w_pad=0.08)
    return figure


def _histogram(ax: Axes, name: str, feature: dict[str, Any]) -> None:
    edges, number = np.array(feature["histogram"]["edges"]), np.array(feature["histogram"]["counts"])
    widths = np.diff(edges)
    if decades := len(edges) > 3 and not np.allclose(widths, widths[0]):
        edges[0] = max(edges[0], edges[1] / (edges[2] / edges[1]))  # what lies below, zeros too, in a bar as wide
        ax.set_xscale("log")
    ax.stairs(number, edges, fill=True, color="#0072b2", alpha=0.85)
    low, high = feature["low"], feature["high"]
    first, last = (edges[0], edges[-1]) if decades else (min(edges[0], low or edges[0]), edges[-1])
    margin = (last / first) ** 0.05 if decades else 0.05 * (last - first)
    ax.set_xlim(*((first / margin, last * margin) if decades else (first - margin, last + margin)))
    for limit in (low, high):
        if limit is not None and first <= limit <= last and not (decades and limit <= 0):
            ax.axvline(limit, color=LIMIT, linewidth=1, linestyle=(0, (4, 3)))
    middle = feature["quantiles"]["0.5"]
    if not decades or middle > 0:
        ax.axvline(middle, color="#1a1a1a", linewidth=1.1)
    unit = f", {feature['unit']}" if feature["unit"] else ""
    ax.set_title(f"{name}{unit}", fontsize=9.5, pad=15)
    said = f"n {feature['present']:,}, median {middle:.4g}"
    said += f"; {feature['quarantined']:,} set aside" if feature["quarantined"] else ""
    ax.text(0, 1.04, said, transform=ax.transAxes, fontsize=8, color="#5b6570")
    ax.set_ylim(0, 1.05 * max(number.max(), 1))
    ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.tick_params(labelsize=8)


def _names(names: tuple[str, ...], shown: int = 3) -> str:
    first = ", ".join(names[:shown])
    return first if len(names) <= shown else f"{first} and {len(names) - shown} more"
