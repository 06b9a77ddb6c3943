"""The ``haemfed`` command."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer

from experiments.commands import audit, keys, views
from experiments.commands.attacks import attack
from experiments.commands.bench import bench
from experiments.commands.harmonization import conform, exports, fhir, harmonize
from experiments.commands.looking import datasets, ui
from experiments.commands.stratification import grid, stratify
from experiments.commands.synthesis import synthesize
from experiments.commands.training import results, run, sweep

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated survival models for rare blood diseases: hospitals train together, patients stay at home.",
)
COMMANDS: Sequence[Callable[..., None]] = (
    *(run, sweep, results),
    *(stratify, grid, synthesize),
    *(harmonize, fhir, attack, conform, exports),
    *(datasets, ui, bench),
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(views.app, name="views")
app.add_typer(audit.app, name="audit")
app.add_typer(keys.app, name="keys")

if __name__ == "__main__":
    app()
