"""Options of the samplers side by side: every combination is a trial of Ray Tune, with its chains in one process.

``haemfed stratify`` with a section ``tune``. All trials have the same patients and the same streams, so that what
differs is the options. Chains run for their budget of sweeps; a target is not looked at.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ray import tune
from scipy.special import logsumexp
from sklearn.metrics import adjusted_rand_score

from actors.cluster import ray_session
from clustering.chain import Sampler, Step
from clustering.events import EventTable
from clustering.hdmm.assignment import assign_mfnch, assign_posterior
from clustering.hdmm.components import extract_components
from clustering.mixture import MixtureSampler
from experiments.files import write_text
from experiments.running import CONFIG
from experiments.settings import ConfigError
from experiments.stratify.config import SAMPLERS, StratifyConfig
from experiments.stratify.patients import Patients, read_patients
from experiments.stratify.results import classify, of_components
from experiments.stratify.serial import run_serial
from federation.randomness import generator


@dataclass(frozen=True)
class Trial:
    """A method with some of its options; ``changes`` are those of the section ``tune``."""

    method: str
    changes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {in_words(self.changes)}"


def in_words(changes: Mapping[str, Any]) -> str:
    """``base_weight=0.5, top_prior=(1.0, 1.0)``."""
    return ", ".join(f"{name}={value}" for name, value in changes.items())


def trials_of(config: StratifyConfig) -> list[Trial]:
    """Every combination of the values of each method's options, in the order in which they are written."""
    assert config.tune is not None
    found = []
    for method, options in (("cb", config.tune.cb), ("hdmm", config.tune.hdmm)):
        if options:
            found += [Trial(method, dict(zip(options, values, strict=True))) for values in product(*options.values())]
    return found


def run_tuning(
    config: StratifyConfig,
    out: Path,
    data_dir: Path | None = None,
    *,
    address: str | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Try every combination of ``config.tune``; write trials.json and trials.csv.

    Parameters
    ----------
    config
        With a section ``tune``.
    out
        Directory of the run.
    data_dir
        Where the data set of ``data.outcome`` is.
    address
        Of a Ray cluster; None starts Ray here.
    say
        Takes a line for each finished trial.

    Returns
    -------
    dict
        What trials.json holds: ``trials``, a row each, see `judge`; ``patients`` and ``held_out``, their numbers.

    Raises
    ------
    CohortError
        For a wrong cell, row or column of the table, or a table without events.
    ConfigError
        For wrong options, named, before any trial; if ``out`` holds a run; or if no trial finished.
    """
    out, trials = out.absolute(), trials_of(config)
    train, test = _patients(config, data_dir)
    for trial in trials:
        _sampler(config, trial, train)  # a wrong value is an error now, not in every trial
    if (out / CONFIG).exists():
        raise ConfigError(f"{out}: holds a run; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    config.write(out / CONFIG)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    with ray_session(address):
        # the patients are put into the object store once, and each trial reads them there
        trainable = tune.with_parameters(_run_trial, config=config, train=train, test=test)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"number": tune.grid_search(list(range(len(trials))))},
            tune_config=tune.TuneConfig(reuse_actors=True),  # to start a process takes seconds
            run_config=tune.RunConfig(
                name="tune", storage_path=str(out), verbose=0, callbacks=[_Listener(say, list(map(str, trials)))]
            ),
        )
        grid = tuner.fit()
    finished = {(result.config or {})["number"]: result for result in (grid[i] for i in range(len(grid)))}
    rows = []
    for number, trial in enumerate(trials):
        result = finished[number]
        row: dict[str, Any] = {"trial": number + 1, "method": trial.method, "options": dict(trial.changes)}
        if result.error is not None:
            rows.append(row | {"error": str(result.error).strip().splitlines()[-1]})
        else:
            rows.append(row | json.loads((result.metrics or {})["row"]))
    if not any("k" in row for row in rows):
        raise ConfigError(f"no trial finished: {rows[0]['error']}")
    results = {"name": config.name, "patients": len(train.table), "held_out": len(test.table), "trials": rows}
    write_text(json.dumps(results, indent=1, allow_nan=False), out / "trials.json")
    write_text(table_of(rows).to_csv(index=False), out / "trials.csv")
    if config.tracking.enabled:
        from experiments.stratify.tracking import track_trials  # MLflow takes seconds to import

        results["mlflow"] = track_trials(config, results, out)
    return results


def table_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a trial; a column for each option (``hdmm.base_weight``), empty for the other method."""
    flat = [
        {key: row[key] for key in ("trial", "method")}
        | {f"{row['method']}.{name}": value for name, value in row["options"].items()}
        | {key: value for key, value in row.items() if key not in ("trial", "method", "options")}
        for row in rows
    ]
    frame = pd.DataFrame(flat)
    options = [column for column in frame.columns if "." in column]
    return frame[["trial", "method", *options, *(c for c in frame.columns[2:] if c not in options)]]


def judge(config: StratifyConfig, trial: Trial, train: Patients, test: Patients) -> dict[str, Any]:
    """Run a trial's chains and say what they found.

    Returns
    -------
    dict
        ``k`` of the classification (the catch-all not counted), ``k_low``, ``k_high``, ``k_mean`` of the draws;
        ``rhat`` and ``ess``, the worst of the summaries; ``log_likelihood``, mean of the draws; ``log_p_held_out``,
        mean log P(x | n) of the held-out patients in nats (cb alone); ``ari`` to the known classes, and ``ari_mfnch``
        if mfnch is among the methods (hdmm alone); ``seconds``. What is not known is left out.
    """
    started = time.perf_counter()
    plan = config.chains
    sampler = _sampler(config, trial, train)
    chains = run_serial(sampler, plan.seed, plan.chains, plan.steps, plan.spacing, plan.burn_in, config.draws)
    assigned = {}
    if trial.method == "cb":
        found = classify(chains.labels, config.classification, plan.seed)
    else:
        components = extract_components(train.table, [[step.draw for step in chain] for chain in chains.kept])
        found = of_components(*assign_posterior(components), chains.labels)
        if "mfnch" in config.methods:
            assigned["ari_mfnch"] = assign_mfnch(train.table, components, **config.methods["mfnch"])[0]
    row: dict[str, Any] = {
        "k": found.k,
        "k_low": found.k_interval[0],
        "k_high": found.k_interval[1],
        "k_mean": float(chains.scalars["clusters"].mean()),
        "rhat": chains.r_hat if math.isfinite(chains.r_hat) else None,
        "ess": chains.ess,
        "log_likelihood": float(chains.scalars["log_likelihood"].mean()),
    }
    if isinstance(sampler, MixtureSampler) and len(test.table):
        steps = [step for chain in chains.kept for step in chain]
        row["log_p_held_out"] = float(log_predictive(sampler, steps, test.table, test.groups).mean())
    if train.truth is not None:
        known = (train.truth != "") & ~np.isin(train.truth, config.data.unclassed)
        for name, labels in {"ari": found.labels, **assigned}.items():
            row[name] = float(adjusted_rand_score(train.truth[known], labels[known]))
    return row | {"seconds": round(time.perf_counter() - started, 1)}


def log_predictive(
    sampler: MixtureSampler, steps: Sequence[Step], table: EventTable, groups: np.ndarray | None = None
) -> np.ndarray:
    """Posterior predictive log P(x | n) of further patients, shape (patients,), in nats.

    Parameters
    ----------
    sampler, steps
        Of the patients that were fitted, and draws of all its chains.
    table, groups
        The further patients, all with events, and their groups, shape (patients,), if the fitted ones have any.
    """
    laws = MixtureSampler(table)  # of any options: the law of a patient given its component is the same
    each = np.empty((len(steps), len(table)))
    for place, step in zip(each, steps, strict=True):
        log_p = np.column_stack([laws.log_likelihoods(step.draw["theta"]), laws.log_uniform])
        shares = sampler.log_shares(step.draw, step.scalars["concentration"], groups)
        place[:] = logsumexp(log_p + shares, axis=1)
    return np.asarray(logsumexp(each, axis=0) - np.log(len(each)))


def _patients(config: StratifyConfig, data_dir: Path | None) -> tuple[Patients, Patients]:
    """Patients with events: those of all trials, and those held out, drawn by the seed."""
    assert config.tune is not None
    everybody = read_patients(config.data, data_dir)
    patients = everybody.select(everybody.table.counts > 0)
    number = len(patients.table)
    held_out = int(config.tune.held_out * number)
    if number - held_out < 2:
        raise ConfigError(f"{config.data.csv}: {number} patients with events in the genes that are kept are too few")
    order = generator(config.chains.seed, "held out").permutation(number)
    return patients.select(np.sort(order[held_out:])), patients.select(np.sort(order[:held_out]))


def _sampler(config: StratifyConfig, trial: Trial, patients: Patients) -> Sampler:
    options = {**config.options(trial.method), **trial.changes}
    if trial.method == "cb" and patients.groups is not None:
        options["groups"] = patients.groups
    try:
        return SAMPLERS[trial.method](patients.table, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"tune.{trial.method}: {error}") from None


def _run_trial(changes: dict[str, Any], config: StratifyConfig, train: Patients, test: Patients) -> None:
    """In a process of Ray Tune; the row travels as text, so that Tune need not know its types."""
    try:
        row = judge(config, trials_of(config)[changes["number"]], train, test)
    except Exception as error:  # the other trials go on, and the table says why this one has no numbers
        row = {"error": f"{type(error).__name__}: {error}"}
    tune.report({"row": json.dumps(row)})


class _Listener(tune.Callback):
    """Says one line per finished trial."""

    def __init__(self, say: Callable[[str], None], names: Sequence[str]) -> None:
        self._say, self._names, self._done = say, names, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_say": print}  # Tune keeps its callbacks on disk; a console cannot go there

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._done += 1
        row = json.loads((trial.last_result or {}).get("row", "{}"))
        shown = [key for key in ("k", "rhat", "log_p_held_out", "ari") if row.get(key) is not None]
        words = row.get("error") or ", ".join(f"{key} {row[key]:.4g}" for key in shown)
        self._say(f"trial {self._done}/{len(self._names)}: {self._names[trial.config['number']]}: {words}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._done += 1
        self._say(f"trial {self._done}/{len(self._names)} failed: {self._names[trial.config['number']]}")
