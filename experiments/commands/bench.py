"""``haemfed bench``: benchmarks."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from experiments.commands.console import explained


def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark; a wrong name lists them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
    centers: Annotated[str | None, typer.Option(help="Of simulation: numbers of centers, e.g. 10,100,500.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Of simulation: where a round's time goes.")] = False,
) -> None:
    """Run a benchmark; figures are ratios to a peer or a bound measured in the same run."""
    with explained():
        from experiments.benchmarks import BENCHMARKS, benchmark

        if name not in BENCHMARKS:
            raise ValueError(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
        options: dict[str, Any] = {"profile": True} if profile else {}
        if (centers is not None or profile) and name != "simulation":
            raise ValueError(f"--centers and --profile belong to the benchmark 'simulation', not {name!r}")
        if centers is not None:
            if not all(word.isdigit() and int(word) for word in centers.split(",")):
                raise ValueError(f"--centers is {centers!r}; give whole numbers with commas between, e.g. 10,100,500")
            options["centers"] = [int(word) for word in centers.split(",")]
        figures = benchmark(name)(**options)
        nested = all(isinstance(value, dict) for value in figures.values())
        columns = figures if nested else {"value": figures}
        table = Table("figure", *columns, title=name)
        for key in dict.fromkeys(key for column in columns.values() for key in column):
            cells = [column.get(key, "") for column in columns.values()]
            table.add_row(key, *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in cells))
        Console().print(table)
        if as_json:
            print(json.dumps({name: figures}))
