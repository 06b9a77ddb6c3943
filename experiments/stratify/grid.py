"""What drives the number of clusters: every method on simulated cohorts over a grid of settings, in parallel on Ray.

The work is cut into pieces, one model on one cohort. A piece is a function of the configuration and its own name:
its cohort and its chains draw from streams of (seed, name), so that nothing depends on the order of the pieces or on
who works on them. Each is a small file, and a run that goes on makes the missing ones. Patients without events count
nowhere: no method can place them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from actors.cluster import ray_session
from actors.parallel import parallel_map
from clustering.events import EventTable
from clustering.hdmm import HDMMSampler
from clustering.hdmm.assignment import assign_mfnch, assign_multinomial, assign_posterior
from clustering.hdmm.components import extract_components
from clustering.mixture import MixtureSampler
from clustering.simulation import Simulated, oracle_labels, simulate
from experiments.files import write_text
from experiments.running import CONFIG, kept_config, versions
from experiments.settings import ConfigError
from experiments.stratify.grid_config import Budget, GridConfig
from experiments.stratify.results import Classification, classify, interval_of_k, of_components
from experiments.stratify.serial import SerialChains, run_serial
from federation.randomness import generator

METHODS = {
    "oracle": "each patient's most probable cluster for one who knows odds and shares",
    "cb": "conditional-Bernoulli mixture, partition of least expected variation of information",
    "cb_classes": "conditional-Bernoulli mixture, each patient's most probable cluster",
    "hdmm": "hierarchical mixture of multinomials, component of largest mean exposure",
    "multinomial": "its components, the one of highest multinomial likelihood",
    "mfnch": "its components, the one of highest likelihood under Fisher's noncentral law (simulation estimator)",
}
"""The methods compared, in the order of tables and figures."""

PUBLISHED = ("hdmm", "multinomial", "mfnch")
"""Those that depend on ``alpha_hdmm``."""

CELL = ("alpha_sim", "clusters", "events", "alpha_hdmm", "method")
"""What names a row of the results."""


@dataclass(frozen=True)
class Piece:
    """One model on one cohort: ``cb`` (and the oracle) or ``hdmm`` with one ``alpha_hdmm``."""

    alpha_sim: float
    clusters: int
    events: int
    replicate: int
    model: Literal["cb", "hdmm"]
    alpha_hdmm: float | None = None

    @property
    def cohort(self) -> str:
        """The cohort's name, such as ``a0.02_K5_l3_r0``."""
        return f"a{self.alpha_sim:g}_K{self.clusters}_l{self.events}_r{self.replicate}"

    @property
    def name(self) -> str:
        """The piece's own, such as ``a0.02_K5_l3_r0_hdmm1``."""
        return f"{self.cohort}_{self.model}" + ("" if self.alpha_hdmm is None else f"{self.alpha_hdmm:g}")


def pieces(config: GridConfig) -> list[Piece]:
    """All work: whole replicates one after the other, within each the largest cohorts first."""
    design = config.design
    models: list[tuple[Literal["cb", "hdmm"], float | None]] = [("cb", None)]
    models += [("hdmm", h) for h in design.numbers(design.alpha_hdmm)]
    return [
        Piece(a, k, events, replicate, *model)
        for replicate, events, k, a, model in product(
            range(config.replicates),
            sorted(design.events, reverse=True),
            sorted(design.clusters, reverse=True),
            design.numbers(design.alpha_sim),
            models,
        )
    ]


def run_grid(
    config: GridConfig,
    out: Path,
    *,
    resume: bool = False,
    address: str | None = None,
    listen: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Make all pieces that ``out`` lacks; write results.json, results.csv, figures and report.html.

    Parameters
    ----------
    config
        What to run.
    out
        Directory of the run.
    resume
        Go on with the pieces in ``out``; the design may have grown or shrunk.
    address
        Of a Ray cluster; None starts Ray here.
    listen
        Called with the fraction done and the last piece's name.

    Returns
    -------
    dict
        What results.json holds (the same bits however the run was cut or spread), and ``seconds``: ``cb`` and ``hdmm``,
        mean time of a piece on one CPU.

    Raises
    ------
    ConfigError
        If ``out`` holds a run and ``resume`` is not set, or its pieces were made with other settings.
    """
    out = out.absolute()
    _claim(config, out, resume)
    folder, work = out / "pieces", pieces(config)
    missing = [piece for piece in work if not _path(folder, piece).exists()]
    if missing:
        with ray_session(address):
            for done, (piece, found) in enumerate(parallel_map(partial(run_piece, config), missing), start=1):
                write_text(json.dumps(found), _path(folder, piece))
                if listen is not None:
                    listen((len(work) - len(missing) + done) / len(work), piece.name)
    # what was just made is read back too: one path for all, and floats survive JSON to the bit
    made = [json.loads(_path(folder, piece).read_text(encoding="utf-8")) for piece in work]
    results: dict[str, Any] = {
        "name": config.name,
        "seed": config.seed,
        "methods": METHODS,
        "rows": summarize(row for one in made for row in one["rows"]),
        "versions": versions("arviz", "numba", "numpy", "scipy"),
        "config": config.model_dump(mode="json", exclude={"tracking"}),
    }
    write_text(json.dumps(results, indent=1, allow_nan=False), out / "results.json")
    write_text(pd.DataFrame(results["rows"]).to_csv(index=False), out / "results.csv")
    seconds = {
        model: fmean(one["seconds"] for piece, one in zip(work, made, strict=True) if piece.model == model)
        for model in ("cb", "hdmm")
    }
    from experiments.stratify.grid_report import write_pages  # matplotlib takes a second to import

    write_pages(results, seconds, out)
    tracked = {}
    if config.tracking.enabled:
        from experiments.stratify.tracking import track_grid  # MLflow takes seconds to import

        tracked = {"mlflow": track_grid(config, results, seconds, out)}
    return results | tracked | {"seconds": seconds}


def run_piece(config: GridConfig, piece: Piece) -> dict[str, Any]:
    """Draw a piece's cohort and fit its model.

    Returns
    -------
    dict
        ``rows``, one a method; ``seconds``.
    """
    started = time.perf_counter()
    cohort = draw_cohort(config, piece)
    some = cohort.table.counts > 0
    if not some.any():
        raise ConfigError(f"{piece.cohort}: no patient has an event; ask for more patients or events")
    table, truth = cohort.table.select(some), cohort.labels[some]
    seed = int(generator(config.seed, "chains", piece.name).integers(2**63))
    if piece.model == "cb":
        oracle = oracle_labels(cohort)[some]
        found = {"oracle": {"labels": oracle, "k": len(np.unique(oracle))}} | _mixture(table, config.cb, seed)
    else:
        assert piece.alpha_hdmm is not None
        found = _multinomials(table, config, piece.alpha_hdmm, seed)
    known = {"true_k": len(np.unique(truth)), "patients": len(truth)}
    rows = []
    for method, one in found.items():
        ari = float(adjusted_rand_score(truth, one.pop("labels")))
        rows.append({**asdict(piece), "method": method, **known, "ari": ari, **one})
    return {"rows": rows, "seconds": round(time.perf_counter() - started, 2)}


def draw_cohort(config: GridConfig, piece: Piece) -> Simulated:
    """The cohort of a piece; all pieces of a cohort draw the same."""
    design = config.design
    rng = generator(config.seed, "cohort", piece.cohort)
    return simulate(piece.clusters, piece.events, piece.alpha_sim, rng, design.patients, design.genes)


def _mixture(table: EventTable, budget: Budget, seed: int) -> dict[str, dict[str, Any]]:
    """The conditional-Bernoulli mixture, classified in two ways."""
    chains = _run(MixtureSampler(table), budget, seed)
    return {
        method: _found(classify(chains.labels, how, seed), chains)
        for method, how in (("cb", "vi"), ("cb_classes", "classes"))
    }


def _multinomials(table: EventTable, config: GridConfig, base_weight: float, seed: int) -> dict[str, dict[str, Any]]:
    """The hierarchical mixture of multinomials, assigned in three ways."""
    budget = config.hdmm
    sampler = HDMMSampler(table, base_weight=base_weight, initial_clusters=budget.initial_clusters)
    chains = _run(sampler, budget, seed)
    components = extract_components(table, [[step.draw for step in chain] for chain in chains.kept])
    assigned = {
        "hdmm": assign_posterior(components),
        "multinomial": assign_multinomial(table, components, budget.catch_all),
        "mfnch": assign_mfnch(table, components, "simulation", budget.catch_all),
    }
    return {method: _found(of_components(*one, chains.labels), chains) for method, one in assigned.items()}


def _run(sampler: MixtureSampler | HDMMSampler, budget: Budget, seed: int) -> SerialChains:
    length = budget.sweeps // budget.spacing
    return run_serial(sampler, seed, budget.chains, length, budget.spacing, budget.burn_in, budget.draws)


def _found(classification: Classification, chains: SerialChains) -> dict[str, Any]:
    """A method's labels, its K, and what its chains say of K and of themselves."""
    low, high = classification.k_interval
    return {
        "labels": classification.labels,
        "k": len(np.unique(classification.labels)),
        "k_low": low,
        "k_high": high,
        "k_chains": [list(interval_of_k(labels)) for labels in chains.labels],
        "k_draws": float(chains.scalars["clusters"].mean()),
        "rhat": chains.r_hat if math.isfinite(chains.r_hat) else None,
        "ess": chains.ess,
    }


def summarize(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means and standard deviations over replicates, a row a cell and method.

    Parameters
    ----------
    rows
        Of `run_piece`.

    Returns
    -------
    list
        ``CELL``'s keys, ``alpha_hdmm`` None for methods without it; ``n`` replicates; ``ari``, ``k`` (clusters that
        have patients, the catch-all among them), ``k_draws`` (clusters of a draw) and ``true_k`` (that have patients),
        each with ``_sd`` (None of one replicate); ``k_covered``, the share of replicates whose 90% interval of K over
        the draws holds the truth, ``k_covered_from_all`` of those in which each chain's own does; ``rhat``, the
        largest, None if some chains do not say; ``ess``, the smallest. What the oracle lacks is None.
    """
    cells: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        cells.setdefault(tuple(row[key] for key in CELL), []).append(row)

    def place(cell: tuple[Any, ...]) -> tuple[Any, ...]:
        a, clusters, events, h, method = cell
        return a, clusters, events, -1.0 if h is None else h, list(METHODS).index(method)

    return [dict(zip(CELL, cell, strict=True)) | _over_replicates(cells[cell]) for cell in sorted(cells, key=place)]


def _over_replicates(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = sorted(rows, key=lambda row: row["replicate"])  # sums of floats depend on their order
    found: dict[str, Any] = {"n": len(rows)}
    for name in ("ari", "k", "k_draws", "true_k"):
        values = [float(row[name]) for row in rows if name in row]
        found[name] = fmean(values) if values else None
        found[f"{name}_sd"] = stdev(values) if len(values) > 1 else None
    chains = [row for row in rows if "rhat" in row]
    covered = [row["k_low"] <= row["true_k"] <= row["k_high"] for row in chains]
    found["k_covered"] = fmean(covered) if chains else None
    from_all = [all(low <= row["true_k"] <= high for low, high in row["k_chains"]) for row in chains]
    found["k_covered_from_all"] = fmean(from_all) if chains else None
    r_hats = [row["rhat"] for row in chains]
    found["rhat"] = max(r_hats) if r_hats and None not in r_hats else None
    found["ess"] = min(row["ess"] for row in chains) if chains else None
    return found


def _path(folder: Path, piece: Piece) -> Path:
    return folder / f"{piece.name}.json"


def _claim(config: GridConfig, out: Path, resume: bool) -> None:
    """Write the configuration; pieces of one directory have all settings in common that they depend on."""
    before = kept_config(out, resume)
    if before is not None:
        for key, was, now in _settings(before, config.to_dict()):
            if was != now:
                raise ConfigError(f"{out}: its pieces were made with {key} {was}, not {now}; choose another --out")
    (out / "pieces").mkdir(parents=True, exist_ok=True)
    config.write(out / CONFIG)


def _settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What the pieces depend on besides their names: key, value then, value now."""
    yield "seed", before["seed"], now["seed"]
    for section, keys in (("design", ("patients", "genes")), ("cb", now["cb"]), ("hdmm", now["hdmm"])):
        for key in keys:
            yield f"{section}.{key}", before[section][key], now[section][key]
