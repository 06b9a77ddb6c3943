"""The ``haemfed`` command."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from experiments.auditing import app as audit
from experiments.keys import app as keys

if TYPE_CHECKING:
    from experiments.stratify.config import StratifyConfig

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated survival models for rare blood diseases: hospitals train together, patients stay at home.",
)
views = typer.Typer(no_args_is_help=True, help="Views: from FHIR to tables, as SQL-on-FHIR ViewDefinitions.")
app.add_typer(views, name="views")
app.add_typer(audit, name="audit")
app.add_typer(keys, name="keys")
console = Console(stderr=True)

ConfigFile = Annotated[Path, typer.Argument(help="Configuration, YAML (examples: experiments/configs/).")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="key=value; dots for parts, e.g. training.steps=3")]
Data = Annotated[Path | None, typer.Option("--data", help="Directory of downloaded data sets.", envvar="HAEMFED_DATA")]
Out = Annotated[Path | None, typer.Option("--out", help="Directory of the run; runs/<name>-<time> by default.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster: auto or ray://host:port. Here by default.")]


@app.command()
def run(
    config: ConfigFile,
    set: Changes = None,
    data: Data = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out (or the latest).")] = False,
    address: Address = None,
) -> None:
    """Train and compare all arms; write results.json and report.html; log to MLflow."""
    with explained():
        from experiments.config import load_config
        from experiments.experiment import run_experiment

        loaded = load_config(config, set or [])
        chosen = out or run_directory(loaded.name, resume)
        try:
            with progress_bars() as listen:
                results = run_experiment(loaded, chosen, data, resume=resume, address=address, listen=listen)
        except KeyboardInterrupt:
            again = ["haemfed", "run", str(config), *(word for change in set or [] for word in ("--set", change))]
            again += ["--data", str(data)] if data else []
            again += ["--address", address] if address else []
            again += ["--out", str(chosen), "--resume"]
            console.print(f"\nstopped; go on with: {shlex.join(again)}", highlight=False, markup=False, soft_wrap=True)
            raise typer.Exit(130) from None
        Console().print(summary(results))
        for note in results["notes"]:
            console.print(f"note: {note}", markup=False)
        print(f"results: {chosen / 'results.json'}")
        print(f"report:  {chosen / 'report.html'}")
        if "mlflow" in results:
            print(f"MLflow:  haemfed ui --runs {chosen.parent}   (run {results['mlflow']['run_id']})")


@app.command()
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
        best = run_sweep(loaded, chosen, data, address=address, say=lambda line: console.print(line, highlight=False))
        print(f"best:    {best['path']}  (validation {best['metric']} {best['value']:.4f}, {best['trials']} trials)")
        print(f"use it:  haemfed run {best['path']}")


@app.command()
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
        try:
            with progress_bars() as listen:
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
                    say=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
                )
        except KeyboardInterrupt:
            console.print("\nstopped; the same command goes on", highlight=False, markup=False)
            raise typer.Exit(130) from None
        for name in ("results.md", "results.csv", "results.html"):
            print(chosen / name)
        if comparison.errors:
            raise typer.Exit(1)


@app.command()
def stratify(
    source: Annotated[Path, typer.Argument(help="Configuration (.yaml), or a CSV of 0/1 columns (empty: not tested).")],
    truth: Annotated[str | None, typer.Option(help="Column of a known classification.")] = None,
    method: Annotated[str | None, typer.Option(help="Methods, separated by commas: cb, hdmm, mfnch.")] = None,
    set: Changes = None,
    data: Data = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the chains in --out (or the latest).")] = False,
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
        try:
            with progress_bars() as bars:
                results = run_stratify(loaded, chosen, data, resume=resume, address=address, listen=bars)
        except KeyboardInterrupt:
            console.print(f"\nstopped; the same command with --out {chosen} --resume goes on", markup=False)
            raise typer.Exit(130) from None
        Console().print(stratification(results))
        print(f"results:  {chosen / 'results.json'}")
        print(f"clusters: {chosen / 'clusters.csv'}")
        print(f"report:   {chosen / 'report.html'}")
        if "mlflow" in results:
            print(f"MLflow:   haemfed ui --runs {chosen.parent}   (run {results['mlflow']['run_id']})")


def compare_options(
    loaded: StratifyConfig, data: Path | None, out: Path | None, resume: bool, address: str | None
) -> None:
    """The section ``tune`` of a stratification: all trials, and their table."""
    from experiments.stratify.tuning import run_tuning

    if resume:
        raise ValueError("a comparison of options (section tune) does not resume; leave --resume away")
    chosen = out or run_directory(f"{loaded.name}-tune", resume=False)
    say = lambda line: console.print(line, highlight=False, markup=False)  # noqa: E731
    results = run_tuning(loaded, chosen, data, address=address, say=say)
    Console().print(comparison(results))
    print(f"trials: {chosen / 'trials.csv'}")
    if "mlflow" in results:
        print(f"MLflow: haemfed ui --runs {chosen.parent}   (run {results['mlflow']['run_id']})")


@app.command()
def grid(
    config: ConfigFile,
    set: Changes = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Make what --out (or the latest run) still lacks.")] = False,
    address: Address = None,
) -> None:
    """Compare the methods on simulated cohorts over a grid of settings; write results.json, figures and report.html."""
    with explained():
        from experiments.stratify.grid import run_grid
        from experiments.stratify.grid_config import load_grid

        loaded = load_grid(config, set or [])
        chosen = out or run_directory(loaded.name, resume)
        try:
            with progress_bars() as bars:
                results = run_grid(
                    loaded,
                    chosen,
                    resume=resume,
                    address=address,
                    listen=lambda done, piece: bars("cohorts", done, piece),
                )
        except KeyboardInterrupt:
            console.print(f"\nstopped; the same command with --out {chosen} --resume goes on", markup=False)
            raise typer.Exit(130) from None
        from experiments.stratify.grid_report import in_words, overview

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
        print(f"results: {chosen / 'results.json'}")
        print(f"report:  {chosen / 'report.html'}")
        if "mlflow" in results:
            print(f"MLflow:  haemfed ui --runs {chosen.parent}   (run {results['mlflow']['run_id']})")


@app.command()
def synthesize(
    config: ConfigFile,
    set: Changes = None,
    data: Data = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out (or the latest).")] = False,
    address: Address = None,
) -> None:
    """Fit generators, draw synthetic patients, compare them; write tables, FHIR, results.json and report.html."""
    with explained():
        from experiments.synthetic.config import load_synthetic
        from experiments.synthetic.run import run_synthesize

        loaded = load_synthetic(config, set or [])
        chosen = out or run_directory(loaded.name, resume)
        try:
            with progress_bars() as listen:
                results = run_synthesize(loaded, chosen, data, resume=resume, address=address, listen=listen)
        except KeyboardInterrupt:
            console.print(f"\nstopped; the same command with --out {chosen} --resume goes on", markup=False)
            raise typer.Exit(130) from None
        Console().print(generators(results))
        for note in results["notes"]:
            console.print(f"note: {note}", markup=False)
        print(f"patients: {chosen / 'synthetic'}")
        print(f"results:  {chosen / 'results.json'}")
        print(f"report:   {chosen / 'report.html'}")
        if "mlflow" in results:
            print(f"MLflow:   haemfed ui --runs {chosen.parent}   (run {results['mlflow']['run_id']})")


@app.command()
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
        for what, name in names.items():
            print(f"{what + ':':<12}{out / name}")


@app.command()
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


@app.command()
def attack(
    name: Annotated[
        str, typer.Argument(help="robustness, inversion, membership, property, differencing, small_cells.")
    ],
    config: ConfigFile,
    set: Changes = None,
    data: Data = None,
    out: Out = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Measure what --out (or the latest run) still lacks.")
    ] = False,
    address: Address = None,
) -> None:
    """Attack a federation, with and without its defences; write results.json, table.md, figures and report.html."""
    with explained():
        from experiments.attacks.config import load_attacks
        from experiments.attacks.run import run_attack

        loaded = load_attacks(config, set or [])
        chosen = out or run_directory(f"{loaded.name}-{name}", resume)
        try:
            with progress_bars() as listen:
                results = run_attack(name, loaded, chosen, data, resume=resume, address=address, listen=listen)
        except KeyboardInterrupt:
            console.print(f"\nstopped; the same command with --out {chosen} --resume goes on", markup=False)
            raise typer.Exit(130) from None
        for sentence in results["findings"]:
            print(sentence)
        print(f"results: {chosen / 'results.json'}")
        print(f"tables:  {chosen / 'table.md'}")
        print(f"report:  {chosen / 'report.html'}")


@app.command()
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
                console.print(f"not compared: {name}: {why}", highlight=False, markup=False, soft_wrap=True)
        print(in_words(results))
        print(f"results: {chosen / RESULTS}")
        print(f"report:  {chosen / PAGE}")
        if results["deviations"]:
            raise typer.Exit(1)


@app.command()
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


@app.command()
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


@app.command()
def ui(
    runs: Annotated[Path, typer.Option(help="Directory that holds mlflow.db.")] = Path("runs"),
    uri: Annotated[str | None, typer.Option(help="Any MLflow tracking URI instead.")] = None,
    port: int = 5000,
) -> None:
    """Open MLflow's page on the runs."""
    with explained():
        from experiments.tracking import default_uri, serve_ui

        found = uri
        if found is None:
            stores = sorted(runs.rglob("mlflow.db"), key=lambda p: p.stat().st_mtime)
            if not stores:
                raise ValueError(f"{runs}: no mlflow.db below it; run an experiment first or give --uri")
            found = default_uri(stores[-1].parent)
        raise typer.Exit(serve_ui(found, port))


@app.command()
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


@views.command("test")
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


def run_directory(name: str, resume: bool) -> Path:
    """``runs/<name>-<time>``; to resume, the latest one."""
    if resume:
        latest = sorted(p.parent for p in Path("runs").glob(f"{name}-[0-9]*/config.yaml"))
        if not latest:
            raise ValueError(f"runs/{name}-*: no run to resume; leave --resume away")
        return latest[-1]
    return Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


@contextmanager
def explained() -> Iterator[None]:
    """Expected errors in one line and exit code 1; quiet logs (HAEMFED_LOG=DEBUG for more)."""
    from experiments.config import ConfigError
    from experiments.datasets import DatasetError
    from experiments.partition import PartitionError
    from federation.quorum import QuorumError
    from harmonization import CohortError

    level = os.environ.get("HAEMFED_LOG", "WARNING")
    handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])
    for noisy in ("mlflow", "alembic", "ray", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        yield
    except (ConfigError, CohortError, DatasetError, PartitionError, QuorumError, ValueError, OSError) as error:
        if level == "DEBUG":
            raise
        console.print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except Exception as error:
        if level == "DEBUG" or not type(error).__module__.startswith("ray"):
            raise
        first = str(error).strip().splitlines()[0]
        said = f"error: lost Ray ({type(error).__name__}: {first}); a run goes on with --resume"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


@contextmanager
def progress_bars() -> Iterator[Any]:
    """A listener that draws a bar per stage with the time left; one line per stage where there is no terminal."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )
    bars: dict[str, TaskID] = {}
    said: dict[str, int] = {}
    interactive = sys.stderr.isatty()
    with Progress(*columns, console=console, disable=not interactive) as progress:

        def listen(stage: str, fraction: float, words: str) -> None:
            if not interactive:
                tenth = int(fraction * 10)
                if said.get(stage) != tenth:
                    said[stage] = tenth
                    print(f"{stage}: {fraction:4.0%} {words}", file=sys.stderr, flush=True)
                return
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=1.0, words=words)
            progress.update(bars[stage], completed=fraction, words=words)

        yield listen


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


if __name__ == "__main__":
    app()
