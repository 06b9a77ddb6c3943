"""An experiment from configuration to report: the main path, top to bottom."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from actors.cluster import ray_session
from actors.coordinator import Coordinator
from experiments.arms import Fits, federated_fits, require_sums_of_several, run_federated, run_pooled
from experiments.config import Config, parse_config
from experiments.datasets import available_datasets, resolve_data_dir
from experiments.evaluation import evaluate_study
from experiments.exact_cox import FEDERATED, missing, run_exact_centralized, run_exact_federated
from experiments.explaining import explain_centralized, explain_federated, require_known_features, unexplained
from experiments.files import read_json, write_json
from experiments.private_fitting import planned_spending, privacy_results, require_budget
from experiments.running import CONFIG, Listener, Timings, kept_config, silent, versions
from experiments.settings import ConfigError
from experiments.study import Declared, Study
from federation.privacy.dp.accounting import Spending
from federation.quorum import QuorumError

logger = logging.getLogger("haemfed")

PACKAGES = ("haemfed", "ray", "torch", "numpy", "pandas", "scikit-survival", "mlflow")


def run_experiment(
    config: Config,
    out: Path,
    data_dir: Path | None = None,
    *,
    resume: bool = False,
    address: str | None = None,
    listen: Listener = silent,
) -> dict[str, Any]:
    """Fit every arm, evaluate, write ``results.json`` and ``report.html``, and log to MLflow.

    Parameters
    ----------
    out
        Directory of the run. Every fit is a file there, so an interrupted run can be resumed.
    data_dir
        Where downloaded data sets are.
    resume
        Go on with what `out` holds.
    address
        Of a Ray cluster; None starts Ray here.

    Raises
    ------
    ConfigError
        If `out` is in use, or was made by another configuration.
    CohortError, QuorumError
        If the data are wrong, or too few centers answer.
    """
    out, data_dir = out.absolute(), resolve_data_dir(data_dir)  # other processes may stand elsewhere
    prepare_directory(config, out, resume)
    started, timings = datetime.now(UTC), Timings()
    fits = Fits(out / "fits")

    before = Declared.of(config, data_dir)  # centers harmonize their exports on their own nodes, before all else
    if before is None:
        with timings.stage("load"):
            study = Study.load(config, data_dir)
    dropouts = read_json(out / "dropouts.json") or {}  # of the part of the run before it was interrupted
    coordinator: Coordinator | None = None
    with ray_session(address):
        try:
            if before is not None:
                coordinator = start_federation(before, out)
                with timings.stage("harmonize"):
                    dropouts |= load_centers(coordinator)
                with timings.stage("load"):
                    study = Study.load(config, data_dir)
            require_known_features(config, study.schema)
            todo = any(not fits.path(f.arm, f.repeat, f.fold).exists() for f in federated_fits(study))
            todo |= any(missing(study, fits, FEDERATED)) or unexplained(study, fits, config.strategies[0].arm)
            if todo:
                if coordinator is None:
                    coordinator = start_federation(study, out)
                    with timings.stage("start centers"):
                        dropouts |= load_centers(coordinator)
                with timings.stage("federated arms"):
                    run_federated(study, coordinator, fits, out / "checkpoints", listen)
                    run_exact_federated(study, coordinator, fits, listen)
                with timings.stage("explanation"):
                    explain_federated(study, coordinator, fits, listen)
        finally:
            if coordinator is not None:
                dropouts |= coordinator.dropouts
                write_json(dropouts, out / "dropouts.json")
                coordinator.close()
        with timings.stage("centralized and isolated arms"):
            run_pooled(study, fits, listen)
            run_exact_centralized(study, fits, listen)
            explain_centralized(study, fits, listen)

    with timings.stage("evaluation"):
        results = describe_run(config, study, started) | evaluate_study(study, fits)
        results["privacy"] = privacy_results(config)
    results["notes"] += [f"{name} dropped out: {why}" for name, why in dropouts.items() if name not in study.failed]
    if config.federation.policy.simulation:
        results["notes"].append(
            "a simulation (federation.policy.simulation): ledgers are of this run alone, and no registry vouches for "
            "the centers that share noise"
        )
    results["timings"] = timings.seconds
    results["seconds"] = round((datetime.now(UTC) - started).total_seconds(), 1)
    write_outputs(results, out, timings)
    logged = read_json(out / "mlflow.json")  # there if it was logged before it was resumed
    if logged is not None:
        results["mlflow"] = logged
    elif config.tracking.enabled:
        from experiments.tracking import track  # MLflow takes seconds to import

        with timings.stage("tracking"):
            results["mlflow"] = track(config, study, fits, results, out)
        write_json(results["mlflow"], out / "mlflow.json")
    results["seconds"] = round((datetime.now(UTC) - started).total_seconds(), 1)
    write_json(results, out / "results.json")
    return results


def start_federation(study: Study | Declared, out: Path, planned: tuple[Spending, ...] | None = None) -> Coordinator:
    """Start the center actors and the coordinator; `planned` is what noisy answers will cost, by default the fits'."""
    section = study.config.federation
    specs = study.specs()
    require_sums_of_several(study.config, len(specs))
    policy = section.policy
    if section.differential_privacy is not None:
        planned = planned_spending(study.config, Fits(out / "fits"))
    if planned is not None:
        policy = replace(policy, noisy_only=True, planned=planned)
    return Coordinator(
        specs,
        study.schema,
        policy,
        out / "centers",
        section.quorum,
        section.timeout,
        section.hosts,
        device=section.device,
        secure_aggregation=section.secure_aggregation,
        signed=section.signed,
    )


def load_centers(coordinator: Coordinator) -> dict[str, str]:
    """Let the centers load their data: why some cannot take part, by name.

    Raises
    ------
    ConfigError
        If the run would exceed a center's privacy budget.
    QuorumError
        If too few centers can take part.
    """
    try:
        failed = coordinator.load()
    except QuorumError as error:
        names, _, why = str(error).partition(": ")[2].partition(": ")
        require_budget({names: why})
        raise
    require_budget(failed)
    return failed


def prepare_directory(config: Config, out: Path, resume: bool) -> None:
    """Make the run's directory and keep its configuration there."""
    kept = kept_config(out, resume)
    if kept is not None:
        before = parse_config(kept, str(out / CONFIG))
        if before != config:
            key = next(k for k, v in config.to_dict().items() if before.to_dict()[k] != v)
            raise ConfigError(f"{out}: was made with another configuration ({key!r} differs); choose another --out")
        return
    if resume and out.exists():
        logger.info("%s holds no run; starting one", out)
    out.mkdir(parents=True, exist_ok=True)
    config.write(out / CONFIG)


def describe_run(config: Config, study: Study, started: datetime) -> dict[str, Any]:
    """What results.json says of configuration, versions and data set."""
    card = available_datasets()[config.dataset.name]
    return {
        "schema_version": 1,
        "name": config.name,
        "description": config.description,
        "seed": config.seed,
        "started": started.isoformat(timespec="seconds"),
        "config": config.to_dict(),
        "versions": versions(*PACKAGES),
        "dataset": {
            "name": config.dataset.name,
            "description": card.description,
            "simulated": card.simulated or None,
            "source": card.source,
            "licence": card.licence,
            "schema_hash": study.schema.hash,
            "time_unit": study.schema.time_unit,
            "patients": len(study.cohort),
            "events": int(study.cohort.event.sum()),
            "features": len(study.schema.features),
            "centers": {
                name: {"patients": len(cohort), "events": int(cohort.event.sum())}
                for name, cohort in study.cohorts.items()
            },
        },
    }


def write_outputs(results: dict[str, Any], out: Path, timings: Timings) -> None:
    """results.json, report.html and the figures."""
    from experiments.plots import draw_all  # matplotlib takes a second to import
    from experiments.report import write_report

    write_json(results, out / "results.json")
    with timings.stage("report"):
        directory = out / "figures"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        figures = draw_all(results)
        write_report(results, out / "report.html", figures)
        for name, figure in figures.items():
            figure.savefig(directory / f"{name}.png", dpi=110)
