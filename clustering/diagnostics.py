"""Whether chains have converged and agree, by quantities that do not depend on how clusters are numbered.

R-hat and effective sample sizes are ArviZ's, rank-normalized and split (Vehtari et al., Bayesian Analysis 2021).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from clustering.events import EventTable
from clustering.partition import minimize_vi
from clustering.stability import Agreement, pairwise


def _import_arviz() -> Any:
    """ArviZ takes seconds to import, so it is imported where it is used; without its announcement of a next version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def diagnose(scalars: Mapping[str, np.ndarray], *, r_hat: float = 1.05, ess: float = 400.0) -> pd.DataFrame:
    """R-hat and effective sample sizes of some summaries.

    A summary with one value throughout has converged: R-hat 1, sample sizes not a number. One that is constant in
    every chain but not across them has not: R-hat infinite. A single chain has R-hat not a number.

    Parameters
    ----------
    scalars
        Name -> shape (chains, draws), at least 4 draws after burn-in.
    r_hat, ess
        ``converged`` asks for R-hat below, and both sample sizes at least, this.

    Returns
    -------
    pd.DataFrame
        One row a summary, by name: ``r_hat``, ``ess_bulk``, ``ess_tail``, ``mean``, ``sd``, ``constant``,
        ``converged``.

    Raises
    ------
    ValueError
        For a summary of another shape, with fewer than 4 draws, or not finite.
    """
    rows = []
    for name, values in scalars.items():
        trace = np.asarray(values, dtype=float)
        if trace.ndim != 2 or trace.shape[0] < 1 or trace.shape[1] < 4:
            raise ValueError(f"scalars[{name!r}]: shape (chains, at least 4 draws) (found {trace.shape})")
        if not np.isfinite(trace).all():
            raise ValueError(f"scalars[{name!r}]: not finite in {int((~np.isfinite(trace)).sum())} draws")
        constant = bool((trace == trace.flat[0]).all())
        rank, bulk, tail = _arviz(trace)
        rows.append(
            {
                "r_hat": rank,
                "ess_bulk": bulk,
                "ess_tail": tail,
                "mean": trace.mean(),
                "sd": trace.std(),
                "constant": constant,
                "converged": rank < r_hat and (constant or min(bulk, tail) >= ess),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(list(scalars), name="scalar"))


def _arviz(trace: np.ndarray) -> tuple[float, float, float]:
    """R-hat, bulk and tail sample sizes."""
    if (trace == trace[:, :1]).all():
        return (1.0 if (trace == trace.flat[0]).all() else np.inf), np.nan, np.nan
    arviz = _import_arviz()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of one chain, and of halves that are constant
        return (
            float(arviz.rhat(trace, method="rank")),
            float(arviz.ess(trace, method="bulk")),
            float(arviz.ess(trace, method="tail")),
        )


def choose_pairs(patients: int, pairs: int = 20, seed: int = 0) -> np.ndarray:
    """Pairs of patients to watch, drawn without replacement.

    Parameters
    ----------
    patients
        Number of patients, at least 2.
    pairs
        At most this many.
    seed
        Of the choice.

    Returns
    -------
    np.ndarray
        Shape (pairs, 2), i < j in each.
    """
    if patients < 2:
        raise ValueError(f"patients: at least 2 make a pair (found {patients})")
    possible = patients * (patients - 1) // 2
    chosen = np.random.default_rng(seed).choice(possible, min(pairs, possible), replace=False)
    # pair number j (j - 1) / 2 + i, for i < j
    j = np.array([(1 + math.isqrt(1 + 8 * int(number))) // 2 for number in chosen], dtype=np.int64)
    return np.stack([chosen - j * (j - 1) // 2, j], axis=1)


def co_clustering(labels: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Whether the patients of each pair share a cluster, draw by draw.

    Parameters
    ----------
    labels
        Shape (..., patients): (draws, patients) or (chains, draws, patients).
    pairs
        Shape (pairs, 2), indices of patients.

    Returns
    -------
    np.ndarray
        Shape (pairs, ...), int8: one trace a pair, as `diagnose` takes them.
    """
    labels, pairs = np.asarray(labels), np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"pairs: shape (pairs, 2) (found {pairs.shape})")
    same = labels[..., pairs[:, 0]] == labels[..., pairs[:, 1]]
    return np.asarray(np.moveaxis(same, -1, 0), dtype=np.int8)


def uncertain_pairs(together: np.ndarray, least: float = 0.05) -> dict[str, np.ndarray]:
    """The pairs whose patients are neither nearly always nor nearly never together, as `diagnose` takes them.

    Of the others R-hat says nothing: a handful of draws decides it.

    Parameters
    ----------
    together
        Shape (chains, draws, pairs), 0 or 1.
    least
        Share of the draws, of all chains, that either outcome must have.

    Returns
    -------
    dict
        ``pair <number>`` -> shape (chains, draws).
    """
    if together.shape[2] == 0:
        return {}
    share = together.mean((0, 1))
    return {f"pair {p}": together[:, :, p] for p in np.flatnonzero((share >= least) & (share <= 1 - least))}


def agreement(chains: Sequence[np.ndarray], *, runs: int = 8, seed: int = 0) -> Agreement:
    """Agreement of the partitions that minimize the expected variation of information in each chain alone.

    Parameters
    ----------
    chains
        The draws of each chain, shape (draws, patients).
    runs, seed
        Of each search (`clustering.partition.minimize_vi`).
    """
    return pairwise([minimize_vi(draws, runs=runs, seed=seed).labels for draws in chains])


def to_inference_data(
    scalars: Mapping[str, np.ndarray],
    labels: np.ndarray | None = None,
    table: EventTable | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Any:
    """What the chains drew, as an ``arviz.InferenceData``.

    Parameters
    ----------
    scalars
        Name -> shape (chains, draws): the posterior; but ``log_likelihood``, a name that ArviZ keeps for values per
        patient, is ``lp`` of the group ``sample_stats``.
    labels
        Shape (chains, draws, patients), posterior variable ``labels`` over the dimension ``patient``.
    table
        The patients: observed data ``events`` over ``patient`` and ``gene``, and their names as coordinates.
    attributes
        Of the posterior: settings, seeds.

    Raises
    ------
    ValueError
        If the shapes do not agree.
    """
    shapes = {np.shape(values) for values in scalars.values()}
    if labels is not None:
        shapes.add(np.shape(labels)[:2])
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"scalars, labels: of one shape (chains, draws) (found {sorted(shapes)})")
    if labels is not None and table is not None and np.shape(labels)[2] != len(table):
        raise ValueError(f"labels: of {np.shape(labels)[2]} patients, but the table has {len(table)}")
    arviz = _import_arviz()
    posterior = {name: np.asarray(values) for name, values in scalars.items() if name != "log_likelihood"}
    coordinates: dict[str, Any] = {}
    if labels is not None:
        posterior["labels"] = np.asarray(labels)
        coordinates["patient"] = np.arange(np.shape(labels)[2])
    groups: dict[str, Any] = {"posterior": posterior, "posterior_attrs": dict(attributes or {})}
    dimensions = {"labels": ["patient"]}
    if "log_likelihood" in scalars:
        groups["sample_stats"] = {"lp": np.asarray(scalars["log_likelihood"])}
    if table is not None:
        groups["observed_data"] = {"events": table.events}
        dimensions["events"] = ["patient", "gene"]
        coordinates |= {"patient": table.ids, "gene": list(table.genes)}
    return arviz.from_dict(**groups, coords=coordinates, dims=dimensions)
