"""``haemfed harmonize``, ``fhir``, ``conform`` and ``exports``: between a hospital's files and a cohort."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments.commands.console import (
    Address,
    Changes,
    ConfigFile,
    Data,
    Out,
    explained,
    progress_bars,
    run_directory,
    say,
    say_where,
)


def harmonize(
    source: Annotated[Path, typer.Argument(help="FHIR R4: a .json, .ndjson or .gz file, or a directory of them.")],
    out: Annotated[Path | None, typer.Option("--out", help="Directory of the cohort and its reports.")] = None,
    dictionary: Annotated[str | None, typer.Option(help="Data dictionary: aml, mds, cmml, mm, or a file.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="What the tables in SOURCE mean (docs/tables.md).")] = None,
    init: Annotated[bool, typer.Option("--init", help="Propose a mapping of a CSV or Excel file, and stop.")] = False,
    threshold: Annotated[float, typer.Option(help="Largest share of resources that may be set aside.")] = 1.0,
    validated: Annotated[float, typer.Option(help="Share of resources that fhir.resources validates, too.")] = 0.0,
    workers: Annotated[int | None, typer.Option(help="Processes that read; all cores by default.")] = None,
) -> None:
    """Make a cohort of a hospital's FHIR or tables, with provenance, reasons for what is missing, and a quarantine."""
    with explained():
        from experiments.harmonize.command import harmonize_source, write_proposal
        from experiments.harmonize.overview import overview
        from experiments.harmonize.report import PAGE, write_report
        from harmonization.harmonize import COHORT, PROVENANCE, QUARANTINE, REASONS, REPORT

        if init:
            print(f"mapping: {write_proposal(source, dictionary, out)}   (confirm every guess in it)")
            return
        if out is None:
            raise ValueError("where to? Give --out")
        with progress_bars() as bars:
            found = harmonize_source(
                source,
                dictionary,
                mapping,
                quarantine=out / QUARANTINE,
                threshold=threshold,
                validated=validated,
                workers=workers or os.cpu_count() or 1,
                listen=bars,
            )
        found.write(out)
        write_report(found.counts, out / PAGE, source.absolute().name)
        for table in overview(found.counts):
            Console().print(table)
        names = {"cohort": COHORT, "provenance": PROVENANCE, "reasons": REASONS, "counts": REPORT, "report": PAGE}
        if found.quarantine.refused:
            names["quarantine"] = QUARANTINE
        say_where(out, names)


def fhir(
    cohort: Annotated[Path, typer.Argument(help="A cohort's table, .parquet or .csv, with its schema beside it.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the NDJSON files.")],
    dictionary: Annotated[str, typer.Option(help="Data dictionary: aml, mds, cmml, mm, or a file.")],
    seed: Annotated[int, typer.Option(help="Of the invented dates.")] = 0,
) -> None:
    """Write a cohort as FHIR R4 bulk NDJSON, for a center's own server; harmonize reads it back to the same bits."""
    with explained():
        from harmonization import Dictionary, read_cohort
        from harmonization.writing import write_fhir

        described = Dictionary.read(dictionary)
        for kind, number in write_fhir(read_cohort(cohort, described.schema()), described, out, seed).items():
            print(f"{number:>9,} {out / kind}.ndjson")


def conform(
    config: ConfigFile,
    set: Changes = None,
    data: Data = None,
    out: Out = None,
    dictionary: Annotated[str | None, typer.Option(help="Data dictionary; the data set's by default.")] = None,
    address: Address = None,
) -> None:
    """Ask all centers for counts, and name those that look like another unit or an empty panel; exit code 1 if any."""
    with explained():
        from experiments.config import load_config
        from experiments.harmonize.conform import PAGE, RESULTS, in_words, run_conform

        loaded = load_config(config, set or [])
        chosen = out or run_directory(f"{loaded.name}-conform", resume=False)
        results = run_conform(loaded, chosen, data, dictionary, address)
        for one in results["deviations"]:
            print(one["words"])
        for name, why in results["centers"].items():
            if why:
                say(f"not compared: {name}: {why}")
        print(in_words(results))
        say_where(chosen, {"results": RESULTS, "report": PAGE})
        if results["deviations"]:
            raise typer.Exit(1)


def exports(
    source: Annotated[str, typer.Argument(help="Data set (haemfed datasets), or a configuration.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the exports.")],
    centers: Annotated[int | None, typer.Option(help="Number of hospitals; the real ones by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of conventions, invented dates and faults.")] = 0,
    faults: Annotated[int, typer.Option(help="Faults seeded into each hospital's export.")] = 3,
    dictionary: Annotated[str | None, typer.Option(help="Data dictionary; the data set's by default.")] = None,
    data: Data = None,
) -> None:
    """Rewrite patients as hospitals' exports, FHIR and tables with faults in them: what harmonization is tested on."""
    with explained():
        from experiments.harmonize.command import make_exports

        manifest, hospitals, patients = make_exports(
            source, out, centers=centers, seed=seed, faults=faults, dictionary=dictionary, data=data
        )
        print(f"{patients} patients in {hospitals} hospitals")
        print(f"manifest: {manifest}")
