"""Running an attack: its pieces in parallel on Ray, each to its own file, so that an interrupted run goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from actors.cluster import ray_session
from actors.parallel import parallel_map
from experiments.attacks.config import AttackConfig
from experiments.datasets import resolve_data_dir
from experiments.experiment import describe_run
from experiments.files import read_json, write_json, write_text
from experiments.running import CONFIG, Listener, kept_config, silent
from experiments.settings import ConfigError, check
from experiments.study import Study

ATTACKS = ("robustness", "inversion", "membership", "property", "differencing", "small_cells")
"""Each a module of this room with ``pieces``, ``measure`` and ``summarize``."""


@dataclass(frozen=True)
class Work:
    """A piece for another process."""

    attack: str
    config: str
    data_dir: Path | None
    piece: str
    out: Path


def run_attack(
    attack: str,
    config: AttackConfig,
    out: Path,
    data_dir: Path | None = None,
    *,
    resume: bool = False,
    address: str | None = None,
    listen: Listener = silent,
) -> dict[str, Any]:
    """Measure, summarize, and write results.json, table.md, report.html and figures.

    Parameters
    ----------
    attack
        Name in `ATTACKS`.
    out
        Directory of the run; pieces that are there are not measured again.

    Raises
    ------
    ConfigError
        If there is no such attack, or `out` holds another run.
    """
    if attack not in ATTACKS:
        raise ConfigError(f"no attack {attack!r}; there are {', '.join(ATTACKS)}")
    out, data_dir = out.absolute(), resolve_data_dir(data_dir)
    _prepare(attack, config, out, resume)
    started = datetime.now(UTC)
    module = import_module(f"experiments.attacks.{attack}")
    study = Study.load(config.target(), data_dir)
    keys: list[str] = module.pieces(config, study)
    text = config.model_dump_json()
    todo = [Work(attack, text, data_dir, key, _path(out, key)) for key in keys if not _path(out, key).exists()]
    if todo:
        with ray_session(address):
            for done, (work, _) in enumerate(parallel_map(do_piece, todo), start=1):
                listen(attack, done / len(todo), work.piece)
    rows = [row for key in keys for row in json.loads(_path(out, key).read_text())]
    seconds = round((datetime.now(UTC) - started).total_seconds(), 1)
    results = {
        **describe_run(study.config, study, started),
        "name": config.name,
        "description": config.description,
        "seed": config.seed,
        "attack": attack,
        "config": config.model_dump(mode="json"),
        "seconds": seconds,
        **module.summarize(config, study, rows),
    }
    write_json(results, out / "results.json")
    from experiments.attacks.report import write_pages  # matplotlib takes a second to import

    write_pages(results, out)
    return results


def do_piece(work: Work) -> int:
    """Measure and save; the number of rows. Runs in another process."""
    config = AttackConfig.model_validate_json(work.config)
    study = Study.load(config.target(), work.data_dir)
    rows: Sequence[Any] = import_module(f"experiments.attacks.{work.attack}").measure(config, study, work.piece)
    work.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(list(rows)), work.out)
    return len(rows)


def _path(out: Path, piece: str) -> Path:
    return out / "pieces" / f"{piece.replace('/', '_')}.json"


def _prepare(attack: str, config: AttackConfig, out: Path, resume: bool) -> None:
    kept = kept_config(out, resume)
    if kept is not None:
        before = check(AttackConfig, kept, str(out / CONFIG))
        if before != config or (read_json(out / "attack.json") or {}).get("attack") != attack:
            raise ConfigError(f"{out}: was made by another attack or configuration; choose another --out")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_json({"attack": attack}, out / "attack.json")
    config.write(out / CONFIG)
