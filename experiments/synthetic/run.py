"""``haemfed synthesize`` from configuration to report: the main path, top to bottom."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from actors.cluster import ray_session
from actors.coordinator import Coordinator
from actors.parallel import parallel_map
from experiments.datasets import resolve_data_dir
from experiments.experiment import describe_run, start_federation
from experiments.files import read_json, write_json
from experiments.running import CONFIG, Listener, Timings, kept_config, silent, versions
from experiments.settings import ConfigError
from experiments.study import Study
from experiments.synthetic.arms import (
    CENTRALIZED,
    FEDERATED,
    ISOLATED,
    Draw,
    Files,
    Patients,
    able_centers,
    draws_of,
    is_drawn,
    read_sample,
    run_draws,
    run_federated,
)
from experiments.synthetic.augmentation import LEAST_PATIENTS, SMALL
from experiments.synthetic.config import SyntheticConfig, parse_synthetic
from experiments.synthetic.fitting import fit_of
from experiments.synthetic.heldout import run_heldout
from experiments.synthetic.measuring import run_measures
from experiments.synthetic.privacy import verdicts
from experiments.synthetic.results import differences_of, goals_of, tell, values_of
from experiments.synthetic.study import load_study
from experiments.synthetic.tables import DIRECTORY, write_tables
from federation.privacy.dp.accounting import Spending, spent_epsilon
from models.generative.drawing import class_feature, value_of

logger = logging.getLogger("haemfed")


def run_synthesize(
    config: SyntheticConfig,
    out: Path,
    data_dir: Path | None = None,
    *,
    resume: bool = False,
    address: str | None = None,
    listen: Listener = silent,
) -> dict[str, Any]:
    """Fit every generator in every arm, draw, measure; write results.json, report.html, tables; log to MLflow.

    Parameters
    ----------
    out
        Directory of the run. Every step of a fit, every sample and every measure of it is a file there, so that an
        interrupted run goes on.
    data_dir
        Where downloaded data sets are.
    resume
        Go on with what `out` holds.
    address
        Of a Ray cluster; None starts Ray here.

    Returns
    -------
    dict
        What results.json holds (docs/results.md).

    Raises
    ------
    ConfigError
        If a package is missing, or `out` is in use or was made by another configuration.
    CohortError, QuorumError
        If the data are wrong, or too few centers answer.
    """
    config.require_packages()
    out, data_dir = out.absolute(), resolve_data_dir(data_dir)  # other processes may stand elsewhere
    started, timings, files = datetime.now(UTC), Timings(), Files(out)
    with timings.stage("load"):
        study = load_study(config, data_dir)
        require_possible_patients(config, study)
    claim(config, out, resume)
    draws = draws_of(config, study)
    with ray_session(address):

        def start() -> Coordinator:
            return start_federation(study, out, planned_spending(config, files, draws))

        with timings.stage("federated arm"):
            dropouts = run_federated(config, study, files, start, listen)
        with timings.stage("centralized and isolated arms, samples"):
            run_draws(config, study, data_dir, files, parallel_map, listen)
        with timings.stage("measures"):
            run_measures(config, study, data_dir, files, parallel_map, listen)
        with timings.stage("federated measures"):
            dropouts |= run_heldout(config, study, data_dir, files, start, parallel_map, listen)
    with timings.stage("results"):
        results = describe(config, study, started) | summarize(config, study, data_dir, files, draws)
        results["notes"] += [f"{name} dropped out: {why}" for name, why in dropouts.items()]
        results["privacy"] = privacy_results(config, files, draws)
        results |= {"tables": [], "timings": timings.seconds}

    def keep() -> None:
        results["seconds"] = round((datetime.now(UTC) - started).total_seconds(), 1)
        write_json(results, out / "results.json")

    keep()  # whatever becomes of the tables
    with timings.stage("tables"):
        written, not_written = write_tables(config, data_dir, files, draws)
    results["tables"] = [str(path.relative_to(out)) for path in written]
    results["notes"] += not_written
    keep()
    with timings.stage("report"):
        from experiments.synthetic.report import write_pages  # matplotlib takes a second to import

        write_pages(results, shown_patients(config, data_dir, files, draws), out)
    logged = read_json(out / "mlflow.json")  # there if it was logged before it was resumed
    if logged is not None:
        results["mlflow"] = logged
    elif config.tracking.enabled:
        from experiments.synthetic.tracking import track  # MLflow takes seconds to import

        with timings.stage("tracking"):
            results["mlflow"] = track(config, results, out)
        write_json(results["mlflow"], out / "mlflow.json")
    keep()
    return results


def claim(config: SyntheticConfig, out: Path, resume: bool) -> None:
    """Make the run's directory and keep its configuration there.

    A run may go on with more seeds or samples, and with other patients to write, who are not judged. Generators that do
    not know the centers stay so.
    """
    kept = kept_config(out, resume)
    if kept is not None:
        before = parse_synthetic(kept, str(out / CONFIG))
        if before == config:
            return
        may: dict[str, Any] = {"seeds": max(before.seeds, config.seeds), "samples": max(before.samples, config.samples)}
        if (before.sample.center is None) == (config.sample.center is None):
            may["sample"] = config.sample
        allowed = before.model_copy(update=may)
        if allowed != config:
            key = next(k for k, v in config.to_dict().items() if allowed.to_dict()[k] != v)
            raise ConfigError(f"{out}: was made with another configuration ({key!r} differs); choose another --out")
        if before.sample != config.sample:
            shutil.rmtree(out / DIRECTORY, ignore_errors=True)
        (out / "mlflow.json").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    config.write(out / CONFIG)


def planned_spending(config: SyntheticConfig, files: Files, draws: Sequence[Draw]) -> tuple[Spending, ...] | None:
    """What the federated fits that are not on disk yet will cost a center's patients; None without noise."""
    privacy = config.federation.differential_privacy
    if privacy is None:
        return None
    fits = sum(draw.arm == FEDERATED and not is_drawn(config, files, draw) for draw in draws)
    return tuple(replace(s, count=fits * s.count) for s in privacy.spending(config.most_answers)) if fits else ()


def privacy_results(config: SyntheticConfig, files: Files, draws: Sequence[Draw]) -> dict[str, Any] | None:
    """What the federated fits have cost a center's patients, one by one and together; None without noise."""
    privacy = config.federation.differential_privacy
    if privacy is None:
        return None
    answers = [int(fit_of(files.fit(draw))["broadcasts"]) for draw in draws if draw.arm == FEDERATED]
    noise = privacy.noise_multiplier(config.most_answers)

    def cost(count: int) -> float:
        return spent_epsilon([Spending("patient", noise, 1.0, count)], privacy.delta, privacy.accountant)

    return {
        "unit": "patient",
        "delta": privacy.delta,
        "noise": privacy.noise,
        "noise_multiplier": noise,
        "answers": answers,
        "epsilon": [cost(count) for count in answers],
        "epsilon_of_run": cost(sum(answers)),
        "covers": "what leaves a center for a federated fit; not the centralized and isolated ones, nor evaluation",
    }


def require_possible_patients(config: SyntheticConfig, study: Study) -> None:
    """Raise ConfigError, before hours of fitting, if there are no patients as ``sample`` or a measure wants them."""
    schema, wanted = study.schema, config.sample
    for key, names in (("conditions", tuple(wanted.conditions)), ("balance", (wanted.balance,))):
        for name in names:
            if name is not None and name not in schema.names:
                raise ConfigError(f"sample.{key}: data set {schema.name!r} has no feature {name!r}")
    learned = Patients(config, study, 0).learned()
    try:
        fixed = {schema.index(name): value_of(schema, name, value) for name, value in wanted.conditions.items()}
        if (
            wanted.balance is not None
            and np.isnan(learned.values[:, class_feature(schema, wanted.balance, fixed)]).all()
        ):
            raise ValueError(f"balance is {wanted.balance!r}, which is known of none of the training patients")
    except ValueError as error:
        raise ConfigError(f"sample: {error}") from error
    values = learned.values.copy()
    for j, value in fixed.items():
        column, feature = learned.values[:, j], schema.features[j]
        if not (np.isnan(column).any() if np.isnan(value) else feature.numeric or (column == value).any()):
            raise ConfigError(f"sample: {feature.name!r} is conditioned on what none of the training patients has")
        values[:, j] = value
    if fixed and not schema.obey(values, tuple(fixed))[1].any():
        raise ConfigError(f"sample.conditions: no patient can have all of them by the implications of {schema.name!r}")
    if "augmentation" in config.measures:
        sizes = [len(Patients(config, study, 0).train(ISOLATED + name)) for name in study.cohorts]
        if not any(LEAST_PATIENTS <= size < SMALL for size in sizes):
            raise ConfigError(
                f"measures: augmentation is for centers of {LEAST_PATIENTS} to {SMALL - 1} training patients; there is "
                f"none among {len(sizes)}: leave it out, or partition otherwise"
            )


def describe(config: SyntheticConfig, study: Study, started: datetime) -> dict[str, Any]:
    """What results.json says of configuration, versions and data set."""
    about = describe_run(config.study, study, started)
    held = [len(Patients(config, study, repeat).heldout()) for repeat in range(config.seeds)]
    return {
        **about,
        "description": config.description,
        "config": config.to_dict(),
        "command": sys.argv,
        "seeds": config.seeds,
        "samples": config.samples,
        "heldout": held,
        "versions": about["versions"] | versions("ctgan", "sdv"),
    }


def summarize(
    config: SyntheticConfig, study: Study, data_dir: Path | None, files: Files, draws: list[Draw]
) -> dict[str, Any]:
    """What results.json says of generators and arms."""
    values = values_of(config, files, draws)
    models = tell(values)
    notes = []
    for draw in draws:
        if files.failed(draw).exists():
            why = json.loads(files.failed(draw).read_text())["why"]
            notes.append(f"{draw.model}, {draw.arm}, seed {draw.repeat}: no generator ({why})")
    if config.arms.isolated is not None and not able_centers(config, study) and len(study.cohorts) > 1:
        notes.append(f"no center has {config.arms.isolated.min_patients} training patients: no isolated arms")
    notes += [f"{name} could not be loaded: {why}" for name, why in study.failed.items()]
    judged = "privacy" in config.measures
    return {
        "models": models,
        "differences": differences_of(values),
        "goals": goals_of(values),
        "verdicts": {m: {a: _judged(found) for a, found in arms.items()} for m, arms in models.items()}
        if judged
        else {},
        "same_patients": same_patients(config, data_dir, files, draws),
        "fits": {
            model: {
                arm: [dict(fit_of(files.fit(d))) for d in draws if (d.model, d.arm) == (model, arm)]
                for arm in models.get(model, {})
            }
            for model in config.generators
        },
        "notes": notes,
    }


def _judged(found: dict[str, dict[str, float | None]]) -> Any:
    return verdicts({metric: e["mean"] for metric, e in found.items() if e["mean"] is not None})


def same_patients(config: SyntheticConfig, data_dir: Path | None, files: Files, draws: list[Draw]) -> dict[str, Any]:
    """How much of the federated and the centralized samples, drawn by the same random numbers, is the same.

    Returns
    -------
    dict
        Model -> ``features``, whether all are, to the last bit and in all samples, and ``outcomes``, the share of the
        patients whose time, to the day it is drawn to, and event are.
    """
    found: dict[str, Any] = {}
    for model in config.generators:
        features, outcomes = [], []
        for repeat in range(config.seeds):
            one, other = (Draw(model, arm, repeat) for arm in (FEDERATED, CENTRALIZED))
            if one not in draws or other not in draws:
                continue
            patients = Patients.load(config, data_dir, repeat)
            for sample in range(config.samples):
                a, b = (read_sample(patients, files, draw, sample) for draw in (one, other))
                features.append(np.array_equal(a.values, b.values, equal_nan=True))
                outcomes.append(float(((a.time == b.time) & (a.event == b.event)).mean()))
        if features:
            found[model] = {"features": all(features), "outcomes": float(np.mean(outcomes))}
    return found


def shown_patients(config: SyntheticConfig, data_dir: Path | None, files: Files, draws: list[Draw]) -> dict[str, Any]:
    """Held-out patients of the first seed as ``held-out``, and the first sample of every model and arm as MODEL/ARM."""
    patients = Patients.load(config, data_dir, 0)
    shown = {"held-out": patients.heldout()}
    for draw in draws:
        if draw.repeat == 0 and not files.failed(draw).exists():
            shown[f"{draw.model}/{draw.arm}"] = read_sample(patients, files, draw, 0)
    return shown
