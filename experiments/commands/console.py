"""What all commands share: options, where a run is written, errors and Ctrl-C in one line, progress bars."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)

ConfigFile = Annotated[Path, typer.Argument(help="Configuration, YAML (examples: experiments/configs/).")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="key=value; dots for parts, e.g. training.steps=3")]
Data = Annotated[Path | None, typer.Option("--data", help="Directory of downloaded data sets.", envvar="HAEMFED_DATA")]
Out = Annotated[Path | None, typer.Option("--out", help="Directory of the run; runs/<name>-<time> by default.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out (or the latest).")]
Address = Annotated[str | None, typer.Option(help="Ray cluster: auto or ray://host:port. Here by default.")]


def run_directory(name: str, resume: bool) -> Path:
    """``runs/<name>-<time>``; to resume, the latest one."""
    if resume:
        latest = sorted(p.parent for p in Path("runs").glob(f"{name}-[0-9]*/config.yaml"))
        if not latest:
            raise ValueError(f"runs/{name}-*: no run to resume; leave --resume away")
        return latest[-1]
    return Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def say(line: str) -> None:
    """A line beside the results, on standard error, as it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def say_where(out: Path, files: Mapping[str, str], results: Mapping[str, Any] | None = None) -> None:
    """Print where a run's files are, and how to open it in MLflow if its results say that it is there."""
    lines = {what: str(out / name) for what, name in files.items()}
    if results is not None and "mlflow" in results:
        lines["MLflow"] = f"haemfed ui --runs {out.parent}   (run {results['mlflow']['run_id']})"
    width = max(len(what) for what in lines) + 1
    for what, line in lines.items():
        print(f"{what + ':':<{width}} {line}")


@contextmanager
def explained() -> Iterator[None]:
    """Expected errors in one line and exit code 1; quiet logs (HAEMFED_LOG=DEBUG for more)."""
    from experiments.datasets import DatasetError
    from experiments.partition import PartitionError
    from experiments.settings import ConfigError
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
        say(f"error: {error}")
        raise typer.Exit(1) from None
    except Exception as error:
        if level == "DEBUG" or not type(error).__module__.startswith("ray"):
            raise
        first = str(error).strip().splitlines()[0]
        say(f"error: lost Ray ({type(error).__name__}: {first}); a run goes on with --resume")
        raise typer.Exit(1) from None


@contextmanager
def stoppable(words: str) -> Iterator[None]:
    """Ctrl-C in one line, ``stopped; <words>``, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"\nstopped; {words}")
        raise typer.Exit(130) from None


def resumable(out: Path) -> str:
    """The words of `stoppable` for a command with ``--out`` and ``--resume``."""
    return f"the same command with --out {out} --resume goes on"


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
