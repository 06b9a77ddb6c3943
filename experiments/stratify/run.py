"""A stratification from top to bottom: read the table, run the chains, classify, write what was found."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sksurv.compare import compare_survival
from sksurv.util import Surv

from actors.chains import ChainsResult, Progress, run_chains
from actors.cluster import ray_session
from clustering.diagnostics import agreement, diagnose, uncertain_pairs
from clustering.stability import Bootstrap
from clustering.summary import Summary, shares_by_group, summarize
from experiments.files import write_json, write_text
from experiments.running import CONFIG, Listener, kept_config, silent, versions
from experiments.settings import ConfigError
from experiments.stratify.agreement import Comparison, compare
from experiments.stratify.bootstrap import Refit, judge_refits, refit_resamples
from experiments.stratify.config import CHAINS_OF, StratifyConfig
from experiments.stratify.patients import Patients, read_patients
from experiments.stratify.results import Classification, Draws, classification_of, labels_of, thinned
from harmonization.files import replacing

NO_EVENTS = "no events"
"""The class of patients without any lesion: nothing in the table tells them apart."""


@dataclass(frozen=True)
class Found:
    """What a method found among the patients with events.

    Parameters
    ----------
    method
        Its name.
    chains, labels
        The chains it read, and of each the labels of the thinned draws, shape (draws, patients).
    classification, summary
        The clusters, and what defines them.
    comparison
        With the known classification, patients of no class left out; None without.
    ari_all
        Adjusted Rand index with them; None without classes that are none.
    log_rank
        Chi square, degrees of freedom and p of clusters of at least ten patients (Mantel 1966); None without outcome.
    chains_ari
        Least adjusted Rand index between the classifications of single chains; None where a method has none.
    shares
        Shares of the clusters in each group of patients (`clustering.summary.shares_by_group`); None without groups.
    bootstrap
        How the clusters hold in refits to resamples of the patients, the catch-all's left out; None without resamples.
    """

    method: str
    chains: ChainsResult
    labels: list[np.ndarray]
    classification: Classification
    summary: Summary
    comparison: Comparison | None
    ari_all: float | None
    log_rank: tuple[float, int, float] | None
    chains_ari: float | None
    shares: pd.DataFrame | None
    bootstrap: Bootstrap | None


def run_stratify(
    config: StratifyConfig,
    out: Path,
    data_dir: Path | None = None,
    *,
    resume: bool = False,
    address: str | None = None,
    listen: Listener = silent,
) -> dict[str, Any]:
    """Run all methods; write results.json, clusters.csv, genes-<method>.csv, posterior-<chains>.nc and the report.

    With groups also shares-cb.csv, the shares of the clusters in each group; with resamples stability-<method>.csv.

    Parameters
    ----------
    config
        What to run.
    out
        Directory of the run.
    data_dir
        Where the data set of ``data.outcome`` is.
    resume
        Go on with the chains in ``out``.
    address
        Of a Ray cluster; None starts Ray here.
    listen
        Called with what is being done, the part of it that is done, and how it looks.

    Returns
    -------
    dict
        What results.json holds.

    Raises
    ------
    CohortError
        For a wrong cell, row or column of the table, or a table without events.
    ConfigError
        For wrong options of a method, or a run to resume that had another configuration.
    """
    started, out = datetime.now(UTC), out.absolute()
    everybody = read_patients(config.data, data_dir)
    some = everybody.table.counts > 0
    if not some.any():
        raise ConfigError(f"{config.data.csv}: no patient has an event in a gene seen {config.data.min_events} times")
    patients = everybody.select(some)
    _claim(config, out, resume)
    with ray_session(address):
        chains = {
            name: _run_chains(config, name, patients, out, listen)
            for name in dict.fromkeys(CHAINS_OF[method] for method in config.methods)
        }
        refits = {name: _refit(config, name, patients, out, listen) for name in chains}
    draws = {name: thinned(ran, config.draws) for name, ran in chains.items()}
    for name, ran in chains.items():
        write_posterior(ran, out / f"posterior-{name}.nc")
    found = []
    for method in config.methods:
        name = CHAINS_OF[method]
        found.append(_find(config, method, patients, chains[name], draws[name], refits[name]))
    clusters = pd.DataFrame({"id": everybody.table.ids})
    for one in found:
        clusters[f"{one.method}_cluster"] = _spread(one.classification.labels.astype(str), some, NO_EVENTS)
        clusters[f"{one.method}_probability"] = _spread(one.classification.probability, some, 1.0)
        write_text(one.summary.genes.to_csv(index=False), out / f"genes-{one.method}.csv")
        if one.shares is not None:
            write_text(one.shares.to_csv(index=False), out / f"shares-{one.method}.csv")
        if one.bootstrap is not None:
            write_text(one.bootstrap.clusters.to_csv(index=False), out / f"stability-{one.method}.csv")
    write_text(clusters.to_csv(index=False), out / "clusters.csv")
    results = {"name": config.name, "methods": [_row(one) for one in found], **_provenance(config, everybody, started)}
    results["seconds"] = round((datetime.now(UTC) - started).total_seconds(), 1)
    write_json(results, out / "results.json")
    from experiments.stratify.report import write_pages  # matplotlib takes a second to import

    write_pages(results, found, patients, out)
    if config.tracking.enabled:
        from experiments.stratify.tracking import track  # MLflow takes seconds to import

        results["mlflow"] = track(config, results, found, out)
        write_json(results, out / "results.json")
    return results


def _run_chains(config: StratifyConfig, name: str, patients: Patients, out: Path, listen: Listener) -> ChainsResult:
    sampler = config.sampler(name, patients)
    home = out / "chains" / name

    def heard(at: Progress) -> None:
        words = f"R-hat {at.r_hat:.3f}, ESS {at.ess:.0f}" if np.isfinite(at.r_hat) else ""
        listen(name, min(at.steps) / config.chains.steps, words)

    return run_chains(sampler, config.chains, home, resume=(home / "chains.json").exists(), listen=heard)


def _refit(config: StratifyConfig, name: str, patients: Patients, out: Path, listen: Listener) -> list[Refit]:
    resamples = config.bootstrap.resamples
    if resamples == 0:
        return []

    def heard(done: int) -> None:
        listen(f"resamples {name}", done / resamples, "")

    return refit_resamples(config, name, patients, out / "bootstrap" / name, heard)


def _find(
    config: StratifyConfig, method: str, patients: Patients, chains: ChainsResult, draws: Draws, refits: list[Refit]
) -> Found:
    """One method's classification of the patients with events, and what there is to say of it."""
    labels, seed, table = labels_of(draws), config.chains.seed, patients.table
    options: Mapping[str, Any] = config.methods["mfnch"] if method == "mfnch" else {}
    try:
        classification = classification_of(method, table, draws, config.classification, options, seed)
    except (TypeError, ValueError) as error:
        if method != "mfnch":
            raise
        raise ConfigError(f"methods.mfnch: {error}") from None
    chains_ari = None
    if method == "cb" and config.classification == "vi":
        chains_ari = agreement(labels, runs=4, seed=seed).worst_ari
    own = classification.labels
    comparison = ari_all = None
    if patients.truth is not None:
        classed = np.where(np.isin(patients.truth, config.data.unclassed), "", patients.truth)
        drawn = labels if method == "cb" else None
        comparison = compare(classed, own, drawn, seed=seed)
        whole = compare(patients.truth, own, None, seed=seed, resamples=1) if config.data.unclassed else None
        ari_all = None if whole is None else whole.ari
    summary = summarize(table, own, np.concatenate(labels) if method == "cb" else None, seed=seed)
    tested = log_rank(patients, own)
    shares = None
    if patients.groups is not None and method == "cb":
        shares = shares_by_group(np.concatenate(labels), own, patients.groups)
    held = judge_refits(config, method, own, refits) if refits and (own > 0).any() else None
    return Found(method, chains, labels, classification, summary, comparison, ari_all, tested, chains_ari, shares, held)


def log_rank(patients: Patients, labels: np.ndarray, fewest: int = 10) -> tuple[float, int, float] | None:
    """Chi square, degrees of freedom and p of the log-rank test between clusters with ``fewest`` patients or more."""
    if patients.years is None or patients.event is None:
        return None
    known = np.isfinite(patients.years)
    names, sizes = np.unique(labels[known], return_counts=True)
    known &= np.isin(labels, names[sizes >= fewest])
    if len(np.unique(labels[known])) < 2 or not patients.event[known].any():
        return None
    y = Surv.from_arrays(patients.event[known] == 1, patients.years[known])
    chi_square, p = compare_survival(y, labels[known])
    return float(chi_square), int((sizes >= fewest).sum()) - 1, float(p)


def write_posterior(chains: ChainsResult, path: Path) -> None:
    """The scalars of the chains after burn-in, as ArviZ InferenceData."""
    from clustering.diagnostics import to_inference_data

    kept = {name: values[:, chains.first :] for name, values in chains.scalars.items()}
    with replacing(path) as temporary:  # a reader may have the old file open
        to_inference_data(kept).to_netcdf(str(temporary), engine="h5netcdf")


def _claim(config: StratifyConfig, out: Path, resume: bool) -> None:
    """Write the configuration; a resumed run may change its budget, nothing that its draws depend on."""
    before, plain = kept_config(out, resume), config.to_dict()
    if before is not None:
        for section in ("data", "methods"):
            if before[section] != plain[section]:
                raise ConfigError(f"{out}: was run with {section} {before[section]}, not {plain[section]}")
    out.mkdir(parents=True, exist_ok=True)
    config.write(out / CONFIG)


def _spread(values: np.ndarray, some: np.ndarray, otherwise: Any) -> np.ndarray:
    """Values of some patients, and one value for all others."""
    spread = np.full(len(some), otherwise, dtype=object)
    spread[some] = values
    return spread


def _row(found: Found) -> dict[str, Any]:
    chains, own = found.chains, found.classification
    row: dict[str, Any] = {
        "method": found.method,
        "k": own.k,
        "k_interval": list(own.k_interval),
        "rhat_max": chains.r_hat if np.isfinite(chains.r_hat) else None,
        "ess_min": chains.ess,
        "sweeps_per_s": chains.sweeps_per_second,
        "chains": chains.shape[0],
        "steps": chains.shape[1],
        "target_reached": chains.reached,
        "mean_probability": float(own.probability.mean()),
    }
    if found.comparison is not None:
        row["ari"] = found.comparison.ari
        row["ari_interval"] = list(found.comparison.bootstrap)
        if found.comparison.posterior is not None:
            row["ari_posterior"] = list(found.comparison.posterior)
    if found.ari_all is not None:
        row["ari_all"] = found.ari_all
    if found.chains_ari is not None:
        row["chains_ari_min"] = found.chains_ari
    if own.ball is not None:
        row["expected_vi"], row["ball_radius"] = own.ball.expected_vi, own.ball.radius
        row["ball_k"] = list(own.ball.k)
    if found.log_rank is not None:
        row["log_rank"] = dict(zip(("chi_square", "df", "p"), found.log_rank, strict=True))
    row["diagnostics"] = _diagnostics(chains)
    row["clusters"] = [
        {"cluster": int(c["cluster"]), "patients": int(c["patients"]), "defining": list(c["defining"])}
        for c in found.summary.clusters.to_dict("records")
    ]
    if found.bootstrap is not None:
        held = found.bootstrap
        row["bootstrap"] = {
            "resamples": len(held.ari),
            "ari": float(held.ari.mean()),
            "ari_interval": list(held.ari_interval),
            "recovered": int((held.clusters["jaccard"] > 0.75).sum()),
            "dissolved": int((held.clusters["jaccard"] <= 0.5).sum()),
        }
        by_cluster = {int(c["cluster"]): c for c in held.clusters.to_dict("records")}
        for cluster in row["clusters"]:
            if (c := by_cluster.get(cluster["cluster"])) is not None:
                cluster["jaccard"] = _finite(c["jaccard"])
                cluster["jaccard_interval"] = [_finite(c["jaccard_low"]), _finite(c["jaccard_high"])]
    return row


def _diagnostics(chains: ChainsResult) -> dict[str, dict[str, float | None]]:
    """R-hat and effective sample sizes of every scalar, and the worst of the uncertain pairs as ``co_clustering``."""
    first, (count, length) = chains.first, chains.shape
    if count < 2 or length - first < 4:
        return {}
    found = diagnose({name: values[:, first:] for name, values in chains.scalars.items()})
    columns = ("r_hat", "ess_bulk", "ess_tail")
    rows = {str(name): {c: _finite(row[c]) for c in columns} for name, row in found.iterrows()}
    pairs = uncertain_pairs(chains.together[:, first:])
    if pairs:
        worst = diagnose(pairs)
        rows["co_clustering"] = {
            "pairs": float(len(pairs)),
            "r_hat": _finite(worst["r_hat"].max()),
            "ess_bulk": _finite(worst["ess_bulk"].min()),
            "ess_tail": _finite(worst["ess_tail"].min()),
        }
    return rows


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _provenance(config: StratifyConfig, patients: Patients, started: datetime) -> dict[str, Any]:
    table = patients.table
    return {
        "started": started.isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": config.chains.seed,
        "versions": versions("arviz", "numba", "numpy", "ray"),
        "data": {
            "csv": str(config.data.csv),
            "patients": len(table),
            "patients_without_events": int((table.counts == 0).sum()),
            "genes": len(table.genes),
            "events": int(table.counts.sum()),
            "not_tested": int((table.events < 0).sum()),
            "with_outcome": 0 if patients.years is None else int(np.isfinite(patients.years).sum()),
        },
        "config": config.to_dict(),
    }
