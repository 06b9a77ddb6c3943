"""``haemfed run``, ``sweep`` and ``results``: survival models."""

from __future__ import annotations

import shlex
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.commands.console import (
    Address,
    Changes,
    ConfigFile,
    Data,
    Out,
    Resume,
    explained,
    progress_bars,
    run_directory,
    say,
    say_where,
    stoppable,
)


def run(
    config: ConfigFile,
    set: Changes = None,
    data: Data = None,
    out: Out = None,
    resume: Resume = False,
    address: Address = None,
) -> None:
    """Train and compare all arms; write results.json and report.html; log to MLflow."""
    with explained():
        from experiments.config import load_config
        from experiments.experiment import run_experiment

        loaded = load_config(config, set or [])
        chosen = out or run_directory(loaded.name, resume)
        again = ["haemfed", "run", str(config), *(word for change in set or [] for word in ("--set", change))]
        again += ["--data", str(data)] if data else []
        again += ["--address", address] if address else []
        again += ["--out", str(chosen), "--resume"]
        with stoppable(f"go on with: {shlex.join(again)}"), progress_bars() as listen:
            results = run_experiment(loaded, chosen, data, resume=resume, address=address, listen=listen)
        Console().print(summary(results))
        for note in results["notes"]:
            say(f"note: {note}")
        say_where(chosen, {"results": "results.json", "report": "report.html"}, results)


def sweep(
    config: ConfigFile,
    set: Changes = None,
    data: Data = None,
    out: Out = None,
    address: Address = None,
) -> None:
    """Search configuration fields (section sweep) on federated validation; write the best as YAML."""
    with explained():
        from experiments.config import load_config
        from experiments.sweep import run_sweep

        loaded = load_config(config, set or [])
        chosen = out or run_directory(f"{loaded.name}-sweep", resume=False)
        best = run_sweep(loaded, chosen, data, address=address, say=say)
        print(f"best:    {best['path']}  (validation {best['metric']} {best['value']:.4f}, {best['trials']} trials)")
        print(f"use it:  haemfed run {best['path']}")


def results(
    config: Annotated[Path, typer.Argument(help="List of what to run.")] = Path("experiments/configs/results.yaml"),
    only: Annotated[list[str] | None, typer.Option(help="Run only this run, cohort or model; may be repeated.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller runs, to try it.")] = False,
    update: Annotated[Path | None, typer.Option(help="Markdown file whose marked section becomes the table.")] = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="Directory of the runs; runs/results by default.")] = None,
    address: Address = None,
) -> None:
    """Run the whole comparison, or what --out still lacks of it, and write its table (Markdown, CSV, HTML)."""
    with explained():
        from experiments.comparison import load_comparison, run_comparison

        chosen = out or Path("runs") / ("results-quick" if quick else "results")
        command = ["haemfed", "results", str(config), *(["--quick"] if quick else []), "--out", str(chosen)]
        with stoppable("the same command goes on"), progress_bars() as listen:
            comparison = run_comparison(
                load_comparison(config),
                config.parent,
                chosen,
                data,
                quick=quick,
                only=only or (),
                update=update,
                command=shlex.join(command),
                address=address,
                listen=listen,
                say=say,
            )
        for name in ("results.md", "results.csv", "results.html"):
            print(chosen / name)
        if comparison.errors:
            raise typer.Exit(1)


def summary(results: dict[str, Any]) -> Table:
    """The arms, one row each; isolated centers as one row."""
    table = Table(title=escape(results["name"]))
    table.add_column("arm", no_wrap=True)
    for heading in ("Harrell C", "Uno C", "IBS"):
        table.add_column(heading)

    def cell(estimate: dict[str, float | None] | None) -> str:
        if not estimate or estimate["mean"] is None:
            return ""
        if estimate["low"] is None or estimate["high"] is None:
            return f"{estimate['mean']:.3f}"
        return f"{estimate['mean']:.3f} ({estimate['low']:.3f}–{estimate['high']:.3f})"

    local = [a["pooled"]["harrell_c"]["mean"] for a in results["arms"].values() if a["kind"] == "local"]
    for name, arm in results["arms"].items():
        if arm["kind"] != "local":
            table.add_row(escape(name), *(cell(arm["pooled"].get(m)) for m in ("harrell_c", "uno_c", "ibs")))
    known = sorted(c for c in local if c is not None)
    if known:
        words = f"median {median(known):.3f} ({known[0]:.3f}–{known[-1]:.3f})"
        table.add_row(f"local, {len(known)} centers (range)", words, "", "")
    return table
