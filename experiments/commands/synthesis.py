"""``haemfed synthesize``: synthetic patients."""

from __future__ import annotations

from typing import Any

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
    resumable,
    run_directory,
    say,
    say_where,
    stoppable,
)


def synthesize(
    config: ConfigFile,
    set: Changes = None,
    data: Data = None,
    out: Out = None,
    resume: Resume = False,
    address: Address = None,
) -> None:
    """Fit generators, draw synthetic patients, compare them; write tables, FHIR, results.json and report.html."""
    with explained():
        from experiments.synthetic.config import load_synthetic
        from experiments.synthetic.run import run_synthesize

        loaded = load_synthetic(config, set or [])
        chosen = out or run_directory(loaded.name, resume)
        with stoppable(resumable(chosen)), progress_bars() as listen:
            results = run_synthesize(loaded, chosen, data, resume=resume, address=address, listen=listen)
        Console().print(generators(results))
        for note in results["notes"]:
            say(f"note: {note}")
        say_where(chosen, {"patients": "synthetic", "results": "results.json", "report": "report.html"}, results)


def generators(results: dict[str, Any]) -> Table:
    """The generators of a comparison of synthetic patients, a row for every arm."""
    heads = {"csf": "CSF", "gsf": "GSF", "sdv_quality": "SDMetrics", "discriminator_accuracy": "told apart"}
    heads |= {"tstr_c": "TSTR C", "membership_auc": "membership AUC"}
    table = Table(title=escape(results["name"]))
    table.add_column("generator, arm", no_wrap=True)
    for head in heads.values():
        table.add_column(head)
    for model, arms in results["models"].items():
        for arm, found in arms.items():
            means = [found[metric]["mean"] if metric in found else None for metric in heads]
            cells = ["" if mean is None else f"{mean:.3f}" for mean in means]
            table.add_row(f"{model}, {escape(arm)}" if model in results["fits"] else model, *cells)
    return table
