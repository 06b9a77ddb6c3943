"""Figures of what models have learned: hazard ratios, importance, partial dependence; from `results.json` alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.drawing import COLOURS, MARKERS, STYLE, draw_point, kind_of, label_of, new_figure, write_title
from experiments.reading import Interval, find, horizon, interval, mapping, number, numbers, sequence, years

MOST = 25
"""Rows of a figure; tables have all."""
FARTHEST = 30.0
"""Largest hazard ratio that is drawn, and its inverse the smallest."""


def ordered_hazard_ratios(results: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Mapping[str, Any]]]]:
    """(feature, for what difference, arm -> row), the smallest p value of the first arm first."""
    tables = mapping(results, "hazard_ratios", "arms")
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for arm, table in tables.items():
        for row in sequence(table, "rows"):
            rows.setdefault(str(find(row, "feature")), {})[arm] = row

    def p_value(found: Mapping[str, Mapping[str, Any]]) -> float:
        p = number(next(iter(found.values())).get("p"))
        return p if math.isfinite(p) else 2.0

    ordered = sorted(rows.items(), key=lambda item: p_value(item[1]))
    return [(name, str(next(iter(found.values())).get("per") or ""), found) for name, found in ordered]


@rc_context(STYLE)
def hazard_ratios_figure(results: dict[str, Any]) -> Figure | None:
    """Forest plot of the exact Cox model's hazard ratios, over the centers and on the pooled patients."""
    rows = ordered_hazard_ratios(results)[:MOST]
    if not rows:
        return None
    figure, axes = new_figure(1.6 + 0.3 * len(rows))
    ax: Axes = axes[0, 0]
    ax.axvline(1, color="#1a1a1a", linewidth=1)
    _paired_rows(ax, results, [{arm: _ratio(row) for arm, row in found.items()} for *_, found in rows])
    labels = [f"{label_of(name, 40)}" + ("" if per in ("", "yes") else f"  (per {per})") for name, per, _ in rows]
    ax.set_yticks(range(len(rows)), labels=labels)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.set_xlim(max(low, 1 / FARTHEST), min(high, FARTHEST))  # a rare feature's interval may be without end
    ax.xaxis.set_major_locator(LogLocator(base=10, subs=(0.5, 1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(axis="x")
    ax.set_xlabel("Hazard ratio with 95% interval (log scale)")
    all_rows = len(ordered_hazard_ratios(results))
    left_out = f": the {len(rows)} smallest p values of {all_rows}" if all_rows > MOST else ""
    write_title(figure, "Hazard ratios" + left_out)
    return figure


def _ratio(row: Mapping[str, Any]) -> Interval:
    return Interval(*(number(row.get(key)) for key in ("hazard_ratio", "low", "high")))


@rc_context(STYLE)
def importance_figure(results: dict[str, Any]) -> Figure | None:
    """Drop in concordance once a feature is shuffled, of the federated and the centralized model."""
    found = mapping(results, "explanation", "importance")
    by_feature: dict[str, dict[str, Interval]] = {}
    for arm in found:
        for row in sequence(found, arm):
            by_feature.setdefault(str(find(row, "feature")), {})[arm] = interval(row, "drop")
    rows = list(by_feature.items())[:MOST]  # in the order of the first arm's list
    if not rows:
        return None
    figure, axes = new_figure(1.6 + 0.3 * len(rows))
    ax: Axes = axes[0, 0]
    ax.axvline(0, color="#1a1a1a", linewidth=1)
    _paired_rows(ax, results, [values for _, values in rows])
    ax.set_yticks(range(len(rows)), labels=[label_of(name, 40) for name, _ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="x")
    ax.set_xlabel("Drop in concordance within centers when the feature is shuffled")
    more = f": the first {len(rows)} of {len(by_feature)}" if len(by_feature) > MOST else ""
    write_title(figure, f"What the models rest on{more}")
    return figure


def _paired_rows(ax: Axes, results: Mapping[str, Any], rows: Sequence[Mapping[str, Interval]]) -> None:
    """One row per feature, arms a little apart, with a legend."""
    names = list(dict.fromkeys(arm for row in rows for arm in row))
    for j, arm in enumerate(names):
        kind = kind_of(find(results, "arms", arm))
        shift = 0.3 * (j - (len(names) - 1) / 2)
        for y, row in enumerate(rows):
            if arm in row and row[arm].known:
                draw_point(ax, row[arm].mean, y + shift, row[arm], kind, across=True, markersize=5)
        ax.plot([], [], f"{MARKERS[kind]}-", color=COLOURS[kind], markersize=5, label=label_of(arm))
    ax.legend(loc="lower right")


@rc_context(STYLE)
def dependence_figure(results: dict[str, Any]) -> Figure | None:
    """Average predicted survival at the middle horizon if everybody had a value of a feature."""
    found = mapping(results, "explanation", "partial_dependence")
    features = list(dict.fromkeys(name for arm in found.values() for name in mapping(arm)))
    if not features:
        return None
    columns = min(3, len(features))
    lines = math.ceil(len(features) / columns)
    figure, axes = new_figure(0.9 + 2.7 * lines, lines, columns, sharey=True)
    shown = ""
    for place, name in enumerate(features):
        ax: Axes = axes[place // columns, place % columns]
        for j, arm in enumerate(found):
            curve = mapping(found, arm, name)
            horizons = sorted(mapping(curve, "survival"), key=horizon)
            if not horizons:
                continue
            shown = horizons[len(horizons) // 2]
            _dependence(ax, curve, shown, COLOURS[kind_of(find(results, "arms", arm))], j, arm)
        ax.set_title(label_of(name, 28))
        unit = str(find(next(iter(found.values())), name, "unit") or "")
        ax.set_xlabel(label_of(unit))
        ax.grid(axis="y")
    for place in range(len(features), lines * columns):
        axes[place // columns, place % columns].set_visible(False)
    axes[0, 0].legend(loc="lower left", fontsize=8)
    for line in axes:
        line[0].set_ylabel(f"Mean survival at {years(shown)}")
    write_title(figure, "Partial dependence")
    return figure


def _dependence(ax: Axes, curve: Mapping[str, Any], at: str, colour: str, place: int, arm: str) -> None:
    """A line with its range; points for categories."""
    mean, low, high = (numbers(curve, "survival", at, key) for key in ("mean", "low", "high"))
    values = sequence(curve, "values")
    if any(isinstance(value, str) for value in values):
        x = np.arange(len(values)) + 0.16 * (place - 0.5)
        ax.vlines(x, low, high, colors=colour)
        ax.plot(x, mean, "o", color=colour, markersize=5, label=label_of(arm, 22))
        ax.set_xticks(range(len(values)), labels=[label_of(str(value), 10) for value in values])
        return
    x = numbers(curve, "values")
    ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.plot(x, mean, "-" if place == 0 else "--", color=colour, label=label_of(arm, 22))


FIGURES: dict[str, Callable[[dict[str, Any]], Figure | None]] = {
    "hazard_ratios": hazard_ratios_figure,
    "importance": importance_figure,
    "partial_dependence": dependence_figure,
}
"""Every figure of this module, in reading order."""
