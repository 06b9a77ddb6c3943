"""``haemfed audit``: what left which center, and whether the logs that say so are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from experiments.commands.console import explained

app = typer.Typer(no_args_is_help=True, help="Audit logs: what left which center.")

Logs = Annotated[Path, typer.Argument(help="Directory of audit logs, e.g. runs/demo/centers/audit.")]


def logs_in(directory: Path) -> list[Path]:
    """The logs of a directory; raises ValueError if there are none."""
    found = sorted(directory.glob("*.jsonl"))
    if not found:
        raise ValueError(f"{directory}: no audit logs (*.jsonl); a run keeps them in centers/audit of its directory")
    return found


def summary_of(directory: Path, center: str | None = None) -> Table:
    """A line per center and algorithm: how often asked, what left."""
    from federation.policy import read_audit  # takes seconds to import

    logs_in(directory)
    entries = read_audit(directory)
    if center is not None and center not in entries:
        raise ValueError(f"{directory}: no center {center!r}; there are {', '.join(sorted(entries))}")
    table = Table(
        "center", "task", "answers", "masked", "patients", "bytes", "withheld", "refused", "failed", title="audit"
    )
    for name in sorted(entries) if center is None else [center]:
        for task in dict.fromkeys(entry["task"] for entry in entries[name]):
            mine = [entry for entry in entries[name] if entry["task"] == task]
            sent = [entry for entry in mine if "bytes" in entry]
            counts = [str(sum(key in entry for entry in mine)) for key in ("withheld", "refused", "failed")]
            patients = str(max((entry["patients"] for entry in sent), default=0))
            masked = str(sum("masked" in entry for entry in sent))
            size = f"{sum(entry['bytes'] for entry in sent):,}"
            table.add_row(name, task, str(len(sent)), masked, patients, size, *counts)
    return table


@app.command()
def show(directory: Logs, center: Annotated[str | None, typer.Option(help="Of one center only.")] = None) -> None:
    """What left each center, task by task."""

    with explained():
        Console().print(summary_of(directory, center))


@app.command()
def verify(directory: Logs) -> None:
    """Check that no line was changed, put in or removed; exit code 1 if one was. Prints each log's last hash."""
    from federation.policy import verify_audit

    with explained():
        for path in logs_in(directory):
            lines, last = verify_audit(path)
            print(f"{path.name}: {lines} lines, last {last}")
