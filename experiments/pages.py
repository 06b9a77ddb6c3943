"""Pages that stand alone, from Jinja templates, with figures inside; and the figures as files."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from matplotlib import rc_context
from matplotlib.figure import Figure

from experiments.drawing import STYLE
from harmonization.files import replacing

FORMATS: Mapping[str, Mapping[str, Any]] = {"png": {"dpi": 150}, "svg": {"metadata": {"Date": None}}}
"""Of figures as files, with options; without its date an SVG is the same bytes each time."""


def template(path: Path, **filters: Callable[..., Any]) -> Template:
    """A template, which may build on others beside it or in this folder.

    Text is escaped, since names of centers, features and codes come from outside; a variable that is missing is an
    error.
    """
    environment = Environment(
        loader=FileSystemLoader([path.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(path.name)


def embedded(figure: Figure) -> str:
    """The figure as an SVG data address: sharp in print, and the same bytes for the same results."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def save_figures(
    figures: Mapping[str, Figure], folder: Path, formats: Mapping[str, Mapping[str, Any]] = FORMATS
) -> None:
    """Write each figure as ``NAME.FORMAT`` into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        for name, figure in figures.items():
            for kind, options in formats.items():
                with replacing(folder / f"{name}.{kind}") as temporary:
                    figure.savefig(temporary, format=kind, **options)
