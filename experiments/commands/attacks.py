"""``haemfed attack``: what a federation gives away, and what stops it."""

from __future__ import annotations

from typing import Annotated

import typer

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
    say_where,
    stoppable,
)


def attack(
    name: Annotated[
        str, typer.Argument(help="robustness, inversion, membership, property, differencing, small_cells.")
    ],
    config: ConfigFile,
    set: Changes = None,
    data: Data = None,
    out: Out = None,
    resume: Resume = False,
    address: Address = None,
) -> None:
    """Attack a federation, with and without its defences; write results.json, table.md, figures and report.html."""
    with explained():
        from experiments.attacks.config import load_attacks
        from experiments.attacks.run import run_attack

        loaded = load_attacks(config, set or [])
        chosen = out or run_directory(f"{loaded.name}-{name}", resume)
        with stoppable(resumable(chosen)), progress_bars() as listen:
            results = run_attack(name, loaded, chosen, data, resume=resume, address=address, listen=listen)
        for sentence in results["findings"]:
            print(sentence)
        say_where(chosen, {"results": "results.json", "tables": "table.md", "report": "report.html"})
