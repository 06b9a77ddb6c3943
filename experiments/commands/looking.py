"""``haemfed datasets`` and ``ui``: what data sets there are, and what runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from experiments.commands.console import explained


def datasets() -> None:
    """List the data sets that configurations can name."""
    with explained():
        from experiments.datasets import available_datasets, resolve_data_dir

        directory = resolve_data_dir(None)
        table = Table("name", "here", "description", "source", title="Data sets")
        for name, card in available_datasets().items():
            here = "yes" if all(directory and (directory / file).exists() for file in card.files) else "no"
            table.add_row(name, here if card.files else "yes", card.description, card.source)
        Console().print(table)


def ui(
    runs: Annotated[Path, typer.Option(help="Directory that holds mlflow.db.")] = Path("runs"),
    uri: Annotated[str | None, typer.Option(help="Any MLflow tracking URI instead.")] = None,
    port: int = 5000,
) -> None:
    """Open MLflow's page on the runs."""
    with explained():
        from experiments.mlflow_runs import default_uri, serve_ui

        found = uri
        if found is None:
            stores = sorted(runs.rglob("mlflow.db"), key=lambda p: p.stat().st_mtime)
            if not stores:
                raise ValueError(f"{runs}: no mlflow.db below it; run an experiment first or give --uri")
            found = default_uri(stores[-1].parent)
        raise typer.Exit(serve_ui(found, port))
