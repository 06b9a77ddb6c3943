"""The whole comparison: many experiments from one list, each in a directory of its own, and one table of them all.

``haemfed results`` goes on where it was: an experiment whose results are there is not run again, one that was
interrupted goes on from its fits, and one that fails is named in the table and stops nobody else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import Field, model_validator

from actors.cluster import ray_session
from experiments.comparison_table import END, START, Comparison, Run, write_table
from experiments.config import Config, parse_config
from experiments.experiment import run_experiment
from experiments.files import read_json
from experiments.running import silent
from experiments.settings import ConfigError, Section, check, read_yaml
from harmonization.schema import Modality

logger = logging.getLogger("haemfed")

Changes = dict[str, Any]
Features = dict[str, tuple[Modality, ...] | None]
Say = Callable[[str], None]


class Cohort(Section):
    """Patients, and what is tried on them.

    Parameters
    ----------
    config
        Configuration from which all runs on these patients start, beside the list.
    title
        Heading in the table.
    published
        Use case in ``published.yaml`` to read beside.
    features
        Name -> feature blocks; null for all.
    runs
        Model -> names of the features it is tried with.
    changes
        To the configuration, for all runs on these patients.
    """

    config: str
    title: str
    published: str | None = None
    features: Features = Field(default_factory=lambda: cast(Features, {"all": None}))
    runs: dict[str, tuple[str, ...]]
    changes: Changes = Field(default_factory=dict)


class ComparisonConfig(Section):
    """What ``haemfed results`` runs.

    Parameters
    ----------
    models
        Name -> changes that make a configuration one of this model.
    cohorts
        Name -> patients.
    common, quick
        Changes for all runs, and for all that are only tried (``--quick``).
    """

    models: dict[str, Changes]
    cohorts: dict[str, Cohort]
    common: Changes = Field(default_factory=dict)
    quick: Changes = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> ComparisonConfig:
        for name, cohort in self.cohorts.items():
            for model, features in cohort.runs.items():
                if model not in self.models:
                    raise ValueError(f"cohort {name!r} names the model {model!r}; there are {', '.join(self.models)}")
                for chosen in features:
                    if chosen not in cohort.features:
                        known = ", ".join(cohort.features)
                        raise ValueError(
                            f"cohort {name!r}: no features {chosen!r} (model {model!r}); there are {known}"
                        )
        return self


@dataclass(frozen=True)
class Planned:
    """One run of the list, and its configuration or why there is none."""

    run: Run
    config: Config | None
    error: str = ""


def load_comparison(path: Path) -> ComparisonConfig:
    """Read and check a list; raises ConfigError."""
    return check(ComparisonConfig, read_yaml(path), str(path))


def plan(listed: ComparisonConfig, directory: Path, *, quick: bool = False, only: Sequence[str] = ()) -> list[Planned]:
    """The runs of a list, those that are wanted.

    Parameters
    ----------
    directory
        Where the cohorts' configurations are.
    only
        Names of runs, cohorts or models; all by default.

    Raises
    ------
    ConfigError
        If a name in `only` is none.
    """
    planned = []
    for cohort_name, cohort in listed.cohorts.items():
        for model, chosen in cohort.runs.items():
            for features in chosen:
                name = "-".join((cohort_name, model, features)).replace(" ", "").replace("+", "-")
                run = Run(name, cohort_name, cohort.title, model, features, cohort.published)
                parts = (listed.common, cohort.changes, listed.models[model], listed.quick if quick else {})
                try:
                    data = read_yaml(directory / cohort.config)
                    for changes in parts:
                        data = merged(data, changes)
                    blocks = cohort.features[features]
                    data = merged(data, {"name": name} | ({"dataset": {"modalities": list(blocks)}} if blocks else {}))
                    planned.append(Planned(run, parse_config(data, f"{name} ({cohort.config})")))
                except ConfigError as error:
                    planned.append(Planned(run, None, str(error)))
    known = {name for p in planned for name in (p.run.name, p.run.cohort, p.run.model)}
    for name in only:
        if name not in known:
            raise ConfigError(f"--only {name}: no such run, cohort or model; there are {', '.join(sorted(known))}")
    return [p for p in planned if not only or {p.run.name, p.run.cohort, p.run.model} & set(only)]


def merged(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The data with changes made, mapping by mapping; lists and plain values are replaced."""
    result = dict(data)
    for key, value in changes.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = merged(before, value) if both else value  # type: ignore[arg-type]
    return result


def run_comparison(
    listed: ComparisonConfig,
    directory: Path,
    out: Path,
    data_dir: Path | None = None,
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    update: Path | None = None,
    command: str = "haemfed results",
    address: str | None = None,
    listen: Any = silent,
    say: Say = logger.info,
) -> Comparison:
    """Run what is missing, and write ``results.md``, ``results.csv`` and ``results.html`` of all runs that are there.

    Parameters
    ----------
    out
        Directory of the runs.
    update
        A Markdown file whose section between the marks is rewritten, too.
    command
        Printed with the table.

    Raises
    ------
    ConfigError
        If the list or `update` is wrong; nothing has been run then.
    """
    wanted = plan(listed, directory, quick=quick, only=only)
    if update is not None:
        text = update.read_text(encoding="utf-8") if update.is_file() else ""
        if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
            raise ConfigError(
                f"{update}: needs one line {START} and after it one line {END}; put them where the table goes"
            )
    errors: dict[str, str] = {}
    with ray_session(address):
        for done, item in enumerate(wanted, start=1):
            if item.config is None:
                errors[item.run.name] = item.error
            else:
                errors |= _run(item, item.config, out / item.run.name, data_dir, listen)
            state = f"failed: {errors[item.run.name]}" if item.run.name in errors else "done"
            say(f"{done} of {len(wanted)}: {item.run.name}: {state}")
    found = {}
    everything = plan(listed, directory, quick=quick)
    for item in everything:
        place = out / item.run.name
        if item.config is not None and _finished(item.config, place):  # not that of another list
            found[item.run.name] = read_json(place / "results.json") or {}
    comparison = Comparison([item.run for item in everything], found, errors)
    write_table(comparison, out, command, update)
    return comparison


def _run(item: Planned, config: Config, out: Path, data_dir: Path | None, listen: Any) -> Mapping[str, str]:
    """Run one experiment unless its results are there; why it failed, by name."""
    if _finished(config, out):
        return {}
    try:
        run_experiment(
            config,
            out,
            data_dir,
            resume=out.exists(),
            listen=lambda stage, part, words: listen(item.run.name, part, f"{stage} {words}"),
        )
    except Exception as error:  # whatever it is, the other runs are worth having
        logger.debug("%s failed", item.run.name, exc_info=True)
        first = " ".join(str(error).split()) or type(error).__name__
        return {item.run.name: first[:500]}
    return {}


def _finished(config: Config, out: Path) -> bool:
    """Whether the results of this very configuration are there."""
    results = out / "results.json"
    if not results.exists():
        return False
    try:
        return parse_config(json.loads(results.read_text())["config"]) == config
    except (ConfigError, KeyError, ValueError):
        return False
