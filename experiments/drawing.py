"""How figures look: one style, one colour and one marker for each kind of arm, and the few shapes all of them draw."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reading import KINDS, Interval, find

WIDTH = 9.6  # inches: a page of the report

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same widths on every machine
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.axisbelow": True,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "haemfed",
}


COLOURS = {  # Okabe and Ito's palette, chosen for different lightness too
    "score": "#8a8a8a",
    "local": "#d98200",
    "block": "#56b4e9",
    "centralized": "#1a1a1a",
    "federated": "#0072b2",
    "fine_tuned": "#c05c97",
    "left_out": "#009e73",
}
MARKERS = {
    "score": "D",
    "local": "v",
    "block": "P",
    "centralized": "s",
    "federated": "o",
    "fine_tuned": "^",
    "left_out": "X",
}
RISK_COLOURS = ("#4a9bd4", "#b07a00", "#8c1515")  # low, middle, high: ever darker
RISK_LINES = ("-", "--", "-")


def label_of(name: str, longest: int = 34) -> str:
    """Text for matplotlib: short, and a dollar is a dollar."""
    text = " ".join(str(name).split())
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return text.replace("$", r"\$")


def kind_of(arm: object) -> str:
    kind = find(arm, "kind")
    return kind if kind in KINDS else "score"


def draw_point(ax: Axes, x: float, y: float, value: Interval, kind: str, *, across: bool, **style: Any) -> None:
    """A marker with its interval as a line; ``across``: the value runs along x.

    The line is drawn from bound to bound: a percentile interval need not hold its estimate.
    """
    if value.bounded:
        line = ax.hlines if across else ax.vlines
        line(y if across else x, value.low, value.high, colors=COLOURS[kind], linewidth=1.5, alpha=style.pop("fade", 1))
    style.pop("fade", None)
    ax.plot(x, y, MARKERS[kind], color=COLOURS[kind], markersize=style.pop("markersize", 6.5), **style)


def new_figure(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def write_title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.008, ha="left")
