"""``haemfed views``: ViewDefinitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments.commands.console import explained

app = typer.Typer(no_args_is_help=True, help="Views: from FHIR to tables, as SQL-on-FHIR ViewDefinitions.")


@app.command("test")
def views_test(
    directory: Annotated[Path, typer.Argument(help="Directory of test files, *.json.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Run test files of SQL on FHIR v2; exit code 1 if any test fails."""
    with explained():
        from experiments.view_tests import score_views

        score, table = score_views(directory)
        Console().print(table)
        for failure in score["failures"]:
            print(f"failed: {failure['file']}: {failure['test']}: {failure['reason']}")
        if as_json:
            print(json.dumps(score))
        if score["failed"]:
            raise typer.Exit(1)
