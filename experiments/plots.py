"""The figures of a run, each made from `results.json` alone (``docs/results.md`` is its schema).

Every function takes the results and returns a matplotlib `Figure`, or None when there is nothing to show: numbers may
be missing anywhere. No figure touches pyplot. Kinds of arms keep one colour *and* one marker everywhere, so that a page
printed in grey says the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from experiments.drawing import (
    COLOURS,
    MARKERS,
    RISK_COLOURS,
    RISK_LINES,
    STYLE,
    WIDTH,
    draw_point,
    kind_of,
    label_of,
    new_figure,
    write_title,
)
from experiments.model_plots import FIGURES
from experiments.reading import (
    HARRELL,
    Floats,
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


@rc_context(STYLE)
def arms_figure(results: dict[str, Any]) -> Figure | None:
    """Forest plot: Harrell's C of every arm on all centers' test patients; isolated centers as one row of points."""
    pooled = {name: interval(arm, "pooled", HARRELL) for name, arm in arms(results).items()}
    pooled = {name: value for name, value in pooled.items() if value.known}
    kinds = {name: kind_of(find(results, "arms", name)) for name in pooled}
    alone = np.array([value.mean for name, value in pooled.items() if kinds[name] == "local"])
    if not pooled:
        return None

    rows: list[tuple[float, str, str, str]] = []  # place, label, value in words, kind
    place, last = 0.0, None
    for name, value in pooled.items():
        kind = kinds[name]
        if kind == "local" and last == "local":
            continue
        place += 0.0 if last is None else 1.0 if kind == last else 1.25
        if kind == "local":
            place += 0.25
            label = "1 isolated center" if alone.size == 1 else f"{alone.size} isolated centers"
            words = f"{np.median(alone):.3f}" + (" (median)" if alone.size > 1 else "")
            rows.append((place, label, words, kind))
            place += 0.25
        else:
            words = f"{value.mean:.3f}" + (f" ({value.low:.3f}–{value.high:.3f})" if value.bounded else "")
            rows.append((place, label_of(name), words, kind))
        last = kind

    figure, axes = new_figure(1.5 + 0.36 * (place + 1))
    ax: Axes = axes[0, 0]
    reference = centralized_arm(results)
    if reference in pooled:
        ax.axvline(pooled[reference].mean, color=COLOURS["centralized"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    forest = iter([name for name in pooled if kinds[name] != "local"])
    for y, _, words, kind in rows:
        if kind == "local":
            _strip(ax, y, alone)
        else:
            name = next(forest)
            draw_point(ax, pooled[name].mean, y, pooled[name], kind, across=True, label=label_of(name))
        ax.text(1.015, y, words, transform=ax.get_yaxis_transform(), va="center", fontsize=9.5)
    ax.set_yticks([y for y, *_ in rows], labels=[label for _, label, _, _ in rows])
    for tick, (_, _, _, kind) in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set_color({"score": "#555555", "local": "#8a5200"}.get(kind, COLOURS[kind]))  # text needs more contrast
    ax.set_ylim(place + 0.7, -0.7)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    ax.margins(x=0.04)
    ax.set_xlabel("Harrell C on all centers' test patients (0.5: chance, 1: perfect order), 95% interval")
    write_title(figure, "How well each way of training orders patients by risk")
    return figure


def _strip(ax: Axes, y: float, values: Floats) -> None:
    """All values as points around y, with quartile box and median."""
    jitter = (np.arange(values.size) * 0.618034 + 0.5) % 1 - 0.5  # golden ratio: neighbours never line up
    order = np.argsort(values, kind="stable")
    ax.plot(
        values[order],
        y + 0.5 * jitter,
        MARKERS["local"],
        color=COLOURS["local"],
        markersize=4.5 if values.size > 5 else 6.5,
        alpha=0.55,
        markeredgewidth=0,
        label="isolated centers",
    )
    if values.size > 4:
        low, high = np.quantile(values, [0.25, 0.75])
        box = ax.barh(y, high - low, left=low, height=0.72, facecolor="none", edgecolor="#7a4a00", linewidth=1.1)
        box.set_label("_box")
    if values.size > 1:
        ax.vlines(float(np.median(values)), y - 0.36, y + 0.36, colors="#7a4a00", linewidth=2.4)


@rc_context(STYLE)
def curves_figure(results: dict[str, Any]) -> Figure | None:
    """Loss and validation concordance per round, one row per arm, with the range over folds."""
    found = mapping(results, "curves")
    known = [*arms(results, "federated", "centralized"), *found]
    names = [name for name in dict.fromkeys(known) if _has_curve(found.get(name))]
    main = main_arm(results)
    names.sort(key=lambda name: name != main)  # the main arm first
    if not names:
        return None

    figure, axes = new_figure(0.9 + 1.95 * len(names), len(names), 3)
    limits = []
    for row, name in enumerate(names):
        curve, arm = found[name], find(results, "arms", name)
        colour = COLOURS[kind_of(arm)]
        train, validation, concordance = axes[row]
        rounds = numbers(curve, "round")
        # A Cox loss grows with the number of patients at risk: training and validation each need their own scale.
        _band(train, rounds, curve.get("train_loss"), colour, "training")
        _band(validation, rounds, curve.get("validation_loss"), colour, "validation")
        train.set_title(label_of(name, 44))
        for values in mapping(curve, "centers").values():
            line = numbers(values)
            if line.size == rounds.size and np.isfinite(line).any():
                concordance.plot(rounds, line, color="#b8b8b8", linewidth=0.6, alpha=0.7, zorder=1, label="_center")
        limits += _band(concordance, rounds, curve.get("validation_concordance"), colour, "all centers")
        for ax, words in zip(axes[row], ("Training loss", "Validation loss", "Validation Harrell C"), strict=True):
            ax.set_ylabel(words)
        chosen = numbers(arm, "selected_rounds")
        chosen = chosen[np.isfinite(chosen)]
        for ax in axes[row]:
            ax.grid(axis="y")
            if chosen.size:
                ax.plot(
                    chosen,
                    np.zeros(chosen.size),
                    "^",
                    color="#1a1a1a",
                    markersize=5,
                    alpha=0.6,
                    clip_on=False,
                    transform=ax.get_xaxis_transform(),
                    markeredgewidth=0,
                    label="_chosen",
                    zorder=5,
                )
            if rounds.size and np.isfinite(rounds).any():
                first, last = np.nanmin(rounds), np.nanmax(rounds)
                ax.set_xlim(first - 0.02 * (last - first) - 0.01, last + 0.02 * (last - first) + 0.01)
            ax.xaxis.get_major_locator().set_params(integer=True)
    if limits:
        low, high = min(limits), max(limits)
        room = max(0.08 * (high - low), 0.01)
        for ax in axes[:, 2]:
            ax.set_ylim(low - room, high + room)
    for ax in axes.flat:
        ax.set_visible(any(line.get_label()[0] != "_" for line in ax.lines))  # e.g. no validation patients
    for ax in axes[-1]:
        ax.set_xlabel("Round")
    write_title(figure, "Progress of training on training and validation patients")
    return figure


def _has_curve(curve: object) -> bool:
    keys = ("train_loss", "validation_loss", "validation_concordance")
    rounds = numbers(curve, "round").size
    return any(rounds == (line := numbers(curve, key, "mean")).size and np.isfinite(line).any() for key in keys)


def _band(
    ax: Axes,
    rounds: Floats,
    values: object,
    colour: str,
    label: str,
) -> list[float]:
    """A line with its minimum-maximum band; returns the values drawn."""
    mean, low, high = (numbers(values, key) for key in ("mean", "low", "high"))
    if mean.size != rounds.size or not np.isfinite(mean).any():
        return []
    marker = "o" if np.isfinite(mean).sum() == 1 else ""
    ax.plot(rounds, mean, color=colour, marker=marker, label=label, zorder=3)
    drawn = [mean]
    if low.size == high.size == rounds.size:
        ax.fill_between(rounds, low, high, color=colour, alpha=0.22, linewidth=0, zorder=2)
        drawn += [low, high]
    every = np.concatenate(drawn)
    return [float(value) for value in every[np.isfinite(every)]]


@rc_context(STYLE)
def centers_figure(results: dict[str, Any]) -> Figure | None:
    """Harrell's C of every center's own test patients: alone, federated and pooled; the largest center first."""
    sizes = mapping(results, "dataset", "centers")
    main, pooled = main_arm(results), centralized_arm(results)
    names = dict.fromkeys([*sizes, *(center for arm in (main, pooled) for center in _centers_of(results, arm))])
    rows = []
    for center in sorted(names, key=lambda name: -np.nan_to_num(number(find(sizes, name, "patients")))):
        by_arm = {
            "local": interval(results, "arms", f"local/{center}", "centers", center, HARRELL),
            "federated": interval(results, "arms", main or "", "centers", center, HARRELL),
            "centralized": interval(results, "arms", pooled or "", "centers", center, HARRELL),
        }
        if any(value.known for value in by_arm.values()):
            rows.append((center, by_arm))
    if not rows:
        return None

    step = 0.46 if len(rows) <= 8 else 0.33 if len(rows) <= 20 else 0.25
    figure, axes = new_figure(1.55 + step * len(rows))
    ax: Axes = axes[0, 0]
    offsets = {"local": -0.26, "federated": 0.0, "centralized": 0.26}
    words = {"local": "center alone", "federated": label_of(main or ""), "centralized": label_of(pooled or "")}
    labelled: set[str] = set()
    for y, (_, by_arm) in enumerate(rows):
        if y % 2:
            ax.axhspan(y - 0.5, y + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
        for kind, value in by_arm.items():
            if value.known:
                label = f"_{kind}" if kind in labelled else words[kind]
                labelled.add(kind)
                size = 6 if len(rows) <= 20 else 4.2
                draw_point(ax, value.mean, y + offsets[kind], value, kind, across=True, label=label, markersize=size)
    ax.axvline(0.5, color="#666666", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    labels = []
    for center, _ in rows:
        patients, events = (number(find(sizes, center, key)) for key in ("patients", "events"))
        counts = "/".join("–" if math.isnan(count) else f"{count:.0f}" for count in (patients, events))
        labels.append(f"{label_of(center, 28)}  {counts}")
    ax.set_yticks(range(len(rows)), labels=labels, fontsize=10 if len(rows) <= 20 else 8.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    low, high = ax.get_xlim()
    ax.set_xlim(max(low, -0.02), min(high, 1.02))
    ax.grid(axis="x")
    ax.text(-0.006, 1, "Center, patients/events ", transform=ax.transAxes, ha="right", va="bottom", color="#555555")
    hidden = len(names) - len(rows)
    more = f"\n{hidden} centers have no pair of test patients to compare, and are not shown" if hidden > 1 else ""
    more = "\n1 center has no pair of test patients to compare, and is not shown" if hidden == 1 else more
    ax.set_xlabel(f"Harrell C on the center's own test patients (0.5: chance), 95% interval{more}")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    write_title(figure, "What each center's own patients get from federating")
    return figure


def _centers_of(results: Mapping[str, Any], arm: str | None) -> Iterator[str]:
    yield from mapping(results, "arms", arm or "", "centers")


@rc_context(STYLE)
def gain_figure(results: dict[str, Any]) -> Figure | None:
    """Gain of federating over training alone against the size of the center."""
    rows = [row for row in sequence(results, "gain", "centers") if number(find(row, "patients")) > 0]
    panels = {
        "everybody": "Scored on everybody's test patients",
        "own": "Scored on the center's own test patients",
    }
    gains = {key: [(number(row["patients"]), interval(row, key, "gain")) for row in rows] for key in panels}
    gains = {key: [(size, gain) for size, gain in pairs if gain.known] for key, pairs in gains.items()}
    shown = [key for key, pairs in gains.items() if pairs]
    if not shown:
        return None

    figure, axes = new_figure(4.6, 1, len(shown))
    for ax, key in zip(axes[0], shown, strict=True):
        ax.axhline(0, color="#1a1a1a", linewidth=1)
        for size, gain in gains[key]:
            certain = not gain.holds_zero
            draw_point(
                ax,
                size,
                gain.mean,
                gain,
                "federated",
                across=False,
                markersize=6,
                fade=0.9 if certain else 0.4,
                markerfacecolor=COLOURS["federated"] if certain else "white",
                label="_center",
            )
        sizes = np.array([size for size, _ in gains[key]])
        low, high = sizes.min() / 1.4, sizes.max() * 1.4
        slope = interval(results, "gain", "slope")
        if key == "everybody" and slope.known and np.unique(sizes).size > 1:
            # Least squares run through the point of means, which the slope alone does not tell.
            middle = np.log10(sizes).mean(), np.mean([gain.mean for _, gain in gains[key]])
            ends = np.log10([sizes.min(), sizes.max()])
            ax.plot(
                10**ends,
                middle[1] + slope.mean * (ends - middle[0]),
                color=COLOURS["local"],
                linewidth=2,
                label="regression",
            )
            bounds = f"\n({signed(slope.low)} to {signed(slope.high)})" if slope.bounded else ""
            ax.text(
                0.98,
                0.98,
                f"{signed(slope.mean)} per tenfold size{bounds}",
                transform=ax.transAxes,
                ha="right",
                va="top",
                color="#8a5200",
            )
        ax.set_xscale("log")
        ax.set_xlim(low, high)
        ax.xaxis.set_major_locator(FixedLocator(_round_sizes(low, high)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        ax.margins(y=0.14)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
        ax.grid(axis="y")
        ax.set_xlabel("Patients of the center (log scale)")
        ax.set_title(panels[key])
    axes[0, 0].set_ylabel("Gain in Harrell C\n(federated \N{MINUS SIGN} center alone)")
    write_title(figure, "Gain of federating by size of the center")
    return figure


def _tick(value: float) -> str:
    value = round(value, 6)
    return signed(value, 2 if round(value, 2) == value else 3)


def _round_sizes(low: float, high: float) -> list[float]:
    """As many round numbers between two sizes as have room, seven at most."""
    ticks: list[float] = []
    for digits in ((10, 12, 15, 20, 25, 30, 40, 50, 60, 80), (10, 15, 20, 30, 50, 70), (10, 20, 50), (10, 30), (10,)):
        every = [digit * 10.0**power for power in range(-1, 7) for digit in digits]
        ticks = [tick for tick in every if low <= tick <= high and tick == round(tick)]
        if len(ticks) <= 7:
            break
    return ticks or [float(round((low * high) ** 0.5))]


@rc_context(STYLE)
def kaplan_meier_figure(results: dict[str, Any]) -> Figure | None:
    """Observed survival of the patients at low, middle and high predicted risk, with the numbers at risk."""
    names = [name for name in _shown_arms(results, "kaplan_meier") if _curves_of(results, name)]
    if not names:
        return None
    figure = Figure(figsize=(WIDTH, 5.2))
    grid = figure.add_gridspec(2, len(names), height_ratios=[4.4, 1])
    top: Axes | None = None
    for column, name in enumerate(names):
        ax = figure.add_subplot(grid[0, column], sharex=top, sharey=top)
        table = figure.add_subplot(grid[1, column], sharex=ax)
        top = top or ax
        groups = _curves_of(results, name)
        for index, group in enumerate(groups):
            colour, dashes = RISK_COLOURS[index % 3], RISK_LINES[index % 3]
            times, survival, low, high = _steps(group)
            ax.step(
                times, survival, where="post", color=colour, linestyle=dashes, linewidth=2, label=_risk(group, index)
            )
            ax.fill_between(times, low, high, step="post", color=colour, alpha=0.17, linewidth=0)
        ax.set_ylim(0, 1.02)
        ax.set_xlim(left=0)
        ax.grid(axis="y")
        ax.set_xlabel("Time (years)")
        times = numbers(groups[0], "at_risk_times")
        if np.isfinite(times).sum() > 1:  # the numbers at risk stand under their ticks
            ax.set_xticks(_thinned(times[np.isfinite(times)], 16 // len(names)))
        ax.set_title(label_of(name, 44))
        ax.legend(loc="best", title="Predicted risk", alignment="left", fontsize=9, title_fontsize=9)
        if column == 0:
            ax.set_ylabel("Survival (Kaplan–Meier)")
        _at_risk(table, groups, room=16 // len(names))
    write_title(figure, "Observed survival by predicted risk")
    return figure


def _shown_arms(results: Mapping[str, Any], key: str) -> list[str]:
    """The main federated arm and the centralized one, or else the first arm there is."""
    there = mapping(results, key)
    chosen = [name for name in (main_arm(results), centralized_arm(results)) if name is not None and name in there]
    return chosen or list(there)[:1]


def _curves_of(results: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    groups = [group for group in sequence(results, "kaplan_meier", name) if isinstance(group, Mapping)]
    return [group for group in groups if _steps(group)[0].size]


def _steps(group: Mapping[str, Any]) -> list[Floats]:
    """Times, survival and its bounds from time 0 on, where it is one; bounds that are missing are NaN."""
    times, *values = (numbers(group, key) for key in ("times", "survival", "low", "high"))
    survival, low, high = (x if x.size == times.size else np.full(times.size, math.nan) for x in values)
    known = np.isfinite(times) & np.isfinite(survival)
    if not known.any():
        return [np.empty(0)] * 4
    columns = [x[known] for x in (times, survival, low, high)]
    if columns[0][0] > 0:
        columns = [np.insert(x, 0, start) for x, start in zip(columns, (0.0, 1.0, 1.0, 1.0), strict=True)]
    return columns


def _risk(group: Mapping[str, Any], index: int) -> str:
    name = group.get("group")
    return label_of(name) if isinstance(name, str) else ("low", "middle", "high")[index % 3]


def _thinned(values: Any, room: int) -> Any:
    """Every second, third, ... so that no more than ``room`` are left."""
    return values[:: max(1, math.ceil(len(values) / room))]


def _at_risk(ax: Axes, groups: Sequence[Mapping[str, Any]], *, room: int) -> None:
    """The numbers at risk under the curves, as clinicians know them; at most ``room`` of them in a row."""
    for index, group in enumerate(groups):
        times, counts = numbers(group, "at_risk_times"), numbers(group, "at_risk")
        colour = RISK_COLOURS[index % 3]
        for time, count in _thinned(list(zip(times, counts, strict=False)), room):
            if math.isfinite(time) and math.isfinite(count):
                ax.text(time, index, f"{count:.0f}", ha="center", va="center", fontsize=8.5, color=colour)
    ax.set_ylim(len(groups) - 0.4, -0.6)
    ax.set_yticks(range(len(groups)), labels=[_risk(group, index) for index, group in enumerate(groups)], fontsize=9)
    for index, tick in enumerate(ax.get_yticklabels()):
        tick.set_color(RISK_COLOURS[index % 3])
    ax.tick_params(axis="y", length=0, pad=18)  # the number at time 0 is as wide as that
    ax.tick_params(axis="x", length=0, labelbottom=False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.set_title("Number at risk", fontsize=9, fontweight="normal")


@rc_context(STYLE)
def calibration_figure(results: dict[str, Any]) -> Figure | None:
    """Observed against predicted risk of groups of patients, one panel per horizon."""
    names = _shown_arms(results, "calibration")
    horizons = dict.fromkeys(key for name in names for key in mapping(results, "calibration", name))
    shown = sorted((key for key in horizons if any(_groups_of(results, name, key) for name in names)), key=horizon)
    if not shown:
        return None
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure, axes = new_figure(0.4 + rows * {1: 5.0, 2: 4.7, 3: 3.35}[columns], rows, columns)
    for ax in axes.flat[len(shown) :]:
        ax.remove()
    for place, (ax, key) in enumerate(zip(axes.flat, shown, strict=False)):
        most = 0.05
        for name in reversed(names):  # the main arm on top
            kind = kind_of(find(results, "arms", name))
            points = _groups_of(results, name, key)
            ax.plot(
                [x for x, _ in points],
                [value.mean for _, value in points],
                color=COLOURS[kind],
                linewidth=0.8,
                alpha=0.6,
                label="_join",
            )
            hollow = {"markerfacecolor": "white", "markersize": 7.5} if kind == "centralized" else {"markersize": 5}
            for index, (x, value) in enumerate(points):
                label = "_group" if index else label_of(name)
                draw_point(ax, x, value.mean, value, kind, across=False, label=label, fade=0.8, **hollow)
                most = max(most, x, value.mean, value.high if value.bounded else 0)
        top = min(1.0, most * 1.05)
        ax.plot([0, top], [0, top], color="#666666", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0, label="_diagonal")
        ax.set_xlim(-0.02 * top, top * 1.02)
        ax.set_ylim(-0.02 * top, top * 1.02)
        ax.set_aspect("equal")
        percent = FuncFormatter(lambda value, _: f"{100 * value:.0f}%")
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_major_locator().set_params(nbins=6)
            axis.set_major_formatter(percent)
        ax.grid()
        ax.set_title(f"Within {years(key)}")
        ax.set_xlabel("Predicted risk")
        if place % columns == 0:
            ax.set_ylabel("Observed risk, 95% interval")
    axes.flat[0].legend(loc="upper left", fontsize=9, borderaxespad=0.1)  # few risks lie so far above the diagonal
    write_title(figure, "Predicted and observed risk")
    return figure


def _groups_of(results: Mapping[str, Any], name: str, key: str) -> list[tuple[float, Interval]]:
    """Predicted risk and observed risk of each group that has both."""
    parts = [numbers(results, "calibration", name, key, part) for part in ("predicted", "observed", "low", "high")]
    size = parts[0].size
    predicted, observed, low, high = (part if part.size == size else np.full(size, math.nan) for part in parts)
    points = zip(predicted.tolist(), map(Interval, observed.tolist(), low.tolist(), high.tolist()), strict=True)
    return [(x, value) for x, value in points if math.isfinite(x) and value.known]


@rc_context(STYLE)
def blocks_figure(results: dict[str, Any]) -> Figure | None:
    """Left: Harrell's C as blocks are added. Right: at each center, all blocks minus the best single one."""
    main = find(results, "blocks", "federated")
    values = [
        (str(sequence(row, "blocks")[-1]), interval(results, "arms", str(find(row, "arm")), "pooled", HARRELL))
        for row in sequence(results, "blocks", "steps")
        if sequence(row, "blocks")
    ]
    centers = [
        (str(find(row, "center")), interval(row, "difference"), sequence(row, "lacks"))
        for row in sequence(results, "blocks", "centers")
    ]
    centers = [row for row in centers if row[1].known]
    if main is None or not values or not all(value.known for _, value in values):
        return None
    figure, axes = new_figure(1.4 + 0.3 * max(len(values), len(centers)), 1, 2 if centers else 1)
    ax: Axes = axes[0, 0]
    for y, (_, value) in enumerate(values):
        draw_point(ax, value.mean, y, value, "federated" if y == len(values) - 1 else "block", across=True)
    ax.set_yticks(range(len(values)), labels=[("+ " if y else "") + label_of(n) for y, (n, _) in enumerate(values)])
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.grid(axis="x")
    ax.set_xlabel("Harrell C, blocks added one by one")
    if centers:
        ax = axes[0, 1]
        ax.axvline(0, color="#1a1a1a", linewidth=1)
        for y, (_, value, lacks) in enumerate(centers):
            hollow = {"markerfacecolor": "white"} if lacks else {}
            draw_point(ax, value.mean, y, value, "federated", across=True, **hollow)
        ax.set_yticks(range(len(centers)), labels=[label_of(name, 16) for name, *_ in centers])
        ax.set_ylim(len(centers) - 0.4, -0.6)
        ax.grid(axis="x")
        ax.set_xlabel("All blocks minus the best single one")
    write_title(figure, "What each block of features adds")
    return figure


ALL: dict[str, Callable[[dict[str, Any]], Figure | None]] = {
    "arms": arms_figure,
    "gain": gain_figure,
    "centers": centers_figure,
    "blocks": blocks_figure,
    "kaplan_meier": kaplan_meier_figure,
    "calibration": calibration_figure,
    "curves": curves_figure,
}
"""Every figure, in reading order."""


def draw_all(results: dict[str, Any]) -> dict[str, Figure]:
    """Every figure that has something to show."""
    return {name: figure for name, draw in {**ALL, **FIGURES}.items() if (figure := draw(results)) is not None}
