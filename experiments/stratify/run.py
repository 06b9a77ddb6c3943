"""A stratification from top to bottom: read the table, run each method's chains, write what they found."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.metrics import adjusted_rand_score

from actors.chains import ChainsResult, Progress, run_chains
from actors.cluster import ray_session
from clustering.events import EventTable, read_events
from experiments.config import ConfigError
from experiments.stratify.config import SAMPLERS, StratifyConfig
from experiments.stratify.results import Classification, classify

NO_EVENTS = "no events"
"""The class of patients without any lesion: nothing in the table tells them apart."""

Listen = Callable[[str, Progress], None]


def run_stratify(
    config: StratifyConfig, out: Path, *, resume: bool = False, address: str | None = None, listen: Listen | None = None
) -> dict[str, Any]:
    """Run all methods and write results.json, clusters.csv, posterior-<method>.nc and config.yaml.

    Returns
    -------
    dict
        What results.json holds.

    Raises
    ------
    CohortError
        For a wrong cell, row or column of the table, or a table without events.
    ConfigError
        For wrong sampler options, or a run to resume that had another configuration.
    """
    started = datetime.now(UTC)
    table, truth = read_events(config.data.csv, config.data.truth, config.data.exclude)
    table = table.only_genes((table.events == 1).sum(0) >= config.data.min_events)
    some = table.counts > 0
    if not some.any():
        raise ConfigError(f"{config.data.csv}: no patient has an event in a gene seen {config.data.min_events} times")
    _claim(config, out, resume)
    clusters = pd.DataFrame({"id": table.ids})
    methods = []
    with ray_session(address):
        for method, options in config.methods.items():
            try:
                sampler = SAMPLERS[method](table.select(some), **options)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"methods.{method}: {error}") from None
            home = out / "chains" / method
            heard = None if listen is None else (lambda progress, method=method: listen(method, progress))
            chains = run_chains(sampler, config.chains, home, resume=(home / "chains.json").exists(), listen=heard)
            found = classify(draw["labels"] for chain in range(chains.shape[0]) for draw in chains.draws(chain))
            clusters[f"{method}_cluster"] = _spread(found.labels.astype(str), some, NO_EVENTS)
            clusters[f"{method}_probability"] = _spread(found.probability, some, 1.0)
            methods.append(_summary(method, found, chains, None if truth is None else truth[some]))
            write_posterior(chains, out / f"posterior-{method}.nc")
    results = {"name": config.name, "methods": methods, **_provenance(config, table, started)}
    clusters.to_csv(out / "clusters.csv", index=False)
    (out / "results.json").write_text(json.dumps(results, indent=2, allow_nan=False), encoding="utf-8")
    return results


def write_posterior(chains: ChainsResult, path: Path) -> None:
    """The scalars of the chains after burn-in, as ArviZ InferenceData."""
    import arviz  # takes seconds

    kept = {name: values[:, chains.first :] for name, values in chains.scalars.items()}
    density = kept.pop("log_likelihood")  # ArviZ keeps the name for pointwise values, and calls this one lp
    temporary = path.with_name(f".{path.name}")  # a reader may have the old file open
    arviz.from_dict(posterior=kept, sample_stats={"lp": density}).to_netcdf(str(temporary), engine="h5netcdf")
    temporary.replace(path)


def _claim(config: StratifyConfig, out: Path, resume: bool) -> None:
    """Write the configuration; a resumed run may change its budget, nothing that its draws depend on."""
    path, plain = out / "config.yaml", config.to_dict()
    if path.exists():
        if not resume:
            raise ConfigError(f"{out}: holds a run; give --resume or another --out")
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
        for section in ("data", "methods"):
            if before[section] != plain[section]:
                raise ConfigError(f"{out}: was run with {section} {before[section]}, not {plain[section]}")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _spread(values: np.ndarray, some: np.ndarray, otherwise: Any) -> np.ndarray:
    """Values of some patients, and one value for all others."""
    spread = np.full(len(some), otherwise, dtype=object)
    spread[some] = values
    return spread


def _summary(method: str, found: Classification, chains: ChainsResult, truth: np.ndarray | None) -> dict[str, Any]:
    n_chains, length = chains.shape
    row: dict[str, Any] = {
        "method": method,
        "k": found.k,
        "k_interval": list(found.k_interval),
        "rhat_max": chains.r_hat if np.isfinite(chains.r_hat) else None,
        "ess_min": chains.ess,
        "sweeps_per_s": chains.sweeps_per_second,
        "chains": n_chains,
        "steps": length,
        "target_reached": chains.reached,
    }
    if truth is not None:
        row["ari"] = float(adjusted_rand_score(truth, found.labels))
    return row


def _provenance(config: StratifyConfig, table: EventTable, started: datetime) -> dict[str, Any]:
    return {
        "started": started.isoformat(),
        "command": sys.argv,
        "seed": config.chains.seed,
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("arviz", "numba", "numpy", "ray")},
        },
        "data": {
            "csv": str(config.data.csv),
            "patients": len(table),
            "patients_without_events": int((table.counts == 0).sum()),
            "genes": len(table.genes),
            "events": int(table.counts.sum()),
            "not_tested": int((table.events < 0).sum()),
        },
        "config": config.to_dict(),
    }
