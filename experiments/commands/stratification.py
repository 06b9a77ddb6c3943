"""``haemfed stratify`` and ``grid``: subgroups of patients by their lesions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    resumable,
    run_directory,
    say,
    say_where,
    stoppable,
)

if TYPE_CHECKING:
    from experiments.stratify.config import StratifyConfig


def stratify(
    source: Annotated[Path, typer.Argument(help="Configuration (.yaml), or a CSV of 0/1 columns (empty: not tested).")],
    truth: Annotated[str | None, typer.Option(help="Column of a known classification.")] = None,
    method: Annotated[str | None, typer.Option(help="Methods, separated by commas: cb, hdmm, mfnch.")] = None,
    set: Changes = None,
    data: Data = None,
    out: Out = None,
    resume: Resume = False,
    address: Address = None,
) -> None:
    """Find subgroups of patients by their lesions; write results.json, clusters.csv and report.html."""
    with explained():
        from experiments.stratify.config import load_stratify
        from experiments.stratify.run import run_stratify

        loaded = load_stratify(source, truth, method.split(",") if method else (), set or [])
        if loaded.tune is not None:
            compare_options(loaded, data, out, resume, address)
            return
        chosen = out or run_directory(loaded.name, resume)
        with stoppable(resumable(chosen)), progress_bars() as bars:
            results = run_stratify(loaded, chosen, data, resume=resume, address=address, listen=bars)
        Console().print(stratification(results))
        files = {"results": "results.json", "clusters": "clusters.csv", "report": "report.html"}
        say_where(chosen, files, results)


def compare_options(
    loaded: StratifyConfig, data: Path | None, out: Path | None, resume: bool, address: str | None
) -> None:
    """The section ``tune`` of a stratification: all trials, and their table."""
    from experiments.stratify.tuning import run_tuning

    if resume:
        raise ValueError("a comparison of options (section tune) does not resume; leave --resume away")
    chosen = out or run_directory(f"{loaded.name}-tune", resume=False)
    results = run_tuning(loaded, chosen, data, address=address, say=say)
    Console().print(comparison(results))
    say_where(chosen, {"trials": "trials.csv"}, results)


def grid(
    config: ConfigFile,
    set: Changes = None,
    out: Out = None,
    resume: Resume = False,
    address: Address = None,
) -> None:
    """Compare the methods on simulated cohorts over a grid of settings; write results.json, figures and report.html."""
    with explained():
        from experiments.stratify.grid import run_grid
        from experiments.stratify.grid_config import load_grid
        from experiments.stratify.grid_report import in_words, overview

        loaded = load_grid(config, set or [])
        chosen = out or run_directory(loaded.name, resume)
        with stoppable(resumable(chosen)), progress_bars() as bars:
            listen = lambda done, piece: bars("cohorts", done, piece)  # noqa: E731
            results = run_grid(loaded, chosen, resume=resume, address=address, listen=listen)
        heads, rows = overview(results["rows"])
        table = Table(
            title=escape(loaded.name), caption="ARI (clusters), means over λ and replicates; HDMM with its α_HDMM"
        )
        for head in heads:
            table.add_column(head, no_wrap=not head)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        for sentence in in_words(results["rows"]):
            print(sentence)
        say_where(chosen, {"results": "results.json", "report": "report.html"}, results)


def stratification(results: dict[str, Any]) -> Table:
    """The methods of a stratification, one row each."""
    table = Table(title=escape(results["name"]))
    for heading in ("method", "K", "90%", "ARI", "R-hat", "ESS", "sweeps/s"):
        table.add_column(heading, no_wrap=True)
    for row in results["methods"]:
        low, high = row["k_interval"]
        ari = "{:.3f} ({:.3f}–{:.3f})".format(row["ari"], *row["ari_interval"]) if "ari" in row else ""
        r_hat = f"{row['rhat_max']:.3f}" if row["rhat_max"] is not None else ""
        speed = f"{row['sweeps_per_s']:.0f}"
        table.add_row(row["method"], str(row["k"]), f"{low}–{high}", ari, r_hat, f"{row['ess_min']:.0f}", speed)
    return table


def comparison(results: dict[str, Any]) -> Table:
    """The trials of a comparison of options, one row each; columns that no trial fills are left out."""
    from experiments.stratify.tuning import in_words

    numbers = {
        "K": "k",
        "R-hat": "rhat",
        "ESS": "ess",
        "log lik.": "log_likelihood",
        "held out": "log_p_held_out",
        "ARI": "ari",
        "MFNCH": "ari_mfnch",
    }
    shown = {head: key for head, key in numbers.items() if any(row.get(key) is not None for row in results["trials"])}
    table = Table("", "options", "90%", *shown, title=escape(results["name"]))
    for row in results["trials"]:
        words = f"{row['method']} {in_words(row['options'])}" + (": " + row["error"] if "error" in row else "")
        interval = f"{row['k_low']}–{row['k_high']}" if "k" in row else ""
        cells = ["" if (x := row.get(key)) is None else f"{x:.4g}" for key in shown.values()]
        table.add_row(str(row["trial"]), escape(words), interval, *cells)
    return table
