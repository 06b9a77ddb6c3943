"""What the clusters are: lesions that distinguish each from all other patients, sizes, and a line that names them.

A lesion *defines* a cluster if at least ``min_frequency`` of its tested patients have it, its odds against all other
patients are raised (lower bound of the odds ratio's interval > 1), and Fisher's exact test says so with a false
discovery rate of at most ``max_q`` over all clusters and lesions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, fisher_exact, norm

from clustering.events import MISSING, EventTable
from clustering.partition import match_draws


@dataclass(frozen=True)
class Rule:
    """When a lesion defines a cluster."""

    min_frequency: float = 0.3
    max_q: float = 0.05


@dataclass(frozen=True)
class Summary:
    """Tidy tables of a classification.

    Parameters
    ----------
    clusters
        One row a cluster: ``cluster``, ``patients``, ``share``, ``mean_events``, ``defining`` (a tuple of lesions,
        most frequent first), ``description``; with draws also ``present`` (fraction of draws that have the cluster)
        and, over these, ``patients_low``, ``patients_high``.
    genes
        One row a cluster and lesion; see `gene_table`.
    """

    clusters: pd.DataFrame
    genes: pd.DataFrame


def summarize(
    table: EventTable,
    labels: np.ndarray,
    draws: np.ndarray | None = None,
    *,
    level: float = 0.95,
    rule: Rule | None = None,
    seed: int = 0,
) -> Summary:
    """Describe every cluster of a classification.

    Parameters
    ----------
    table
        The patients.
    labels
        Shape (patients,), integers >= 0.
    draws
        Shape (draws, patients): adds intervals over the classification's own uncertainty.
    level
        Of all intervals.
    rule
        When a lesion defines a cluster.
    seed
        Of the draws of frequencies.

    Raises
    ------
    ValueError
        If labels or draws do not fit the table.
    """
    labels = _checked(table, labels)
    matched = None if draws is None else match_draws(draws, labels)
    genes = gene_table(table, labels, level=level, rule=rule)
    if matched is not None:
        genes = genes.join(_frequencies_over_draws(table, np.unique(labels), matched, level, seed))
    defining = _defining(genes)
    rows = []
    for name in np.unique(labels):
        inside = labels == name
        row = {
            "cluster": int(name),
            "patients": int(inside.sum()),
            "share": inside.mean(),
            "mean_events": table.counts[inside].mean(),
            "defining": defining[int(name)],
            "description": _line(defining[int(name)], int(inside.sum())),
        }
        if matched is not None:
            sizes = (matched == name).sum(1)
            row["present"] = (sizes > 0).mean()
            row["patients_low"], row["patients_high"] = (float(end) for end in _interval(sizes[sizes > 0], level))
        rows.append(row)
    return Summary(pd.DataFrame(rows), genes)


def describe(table: EventTable, labels: np.ndarray, rule: Rule | None = None) -> dict[int, str]:
    """A line for each cluster: its defining lesions, most frequent first, and its size: ``NPM1+ DNMT3A+ (n=312)``."""
    labels = _checked(table, labels)
    defining = _defining(gene_table(table, labels, rule=rule))
    return {name: _line(lesions, int((labels == name).sum())) for name, lesions in defining.items()}


def gene_table(table: EventTable, labels: np.ndarray, *, level: float = 0.95, rule: Rule | None = None) -> pd.DataFrame:
    """Every lesion in every cluster against all other patients; patients who were not tested count nowhere.

    Parameters
    ----------
    table
        The patients.
    labels
        Shape (patients,), integers >= 0.
    level
        Of the intervals.
    rule
        When a lesion defines a cluster.

    Returns
    -------
    pd.DataFrame
        One row a cluster and lesion, clusters in increasing order, lesions in the table's: ``cluster``, ``gene``;
        ``tested``, ``mutated``, ``frequency``; the same of the others (``rest_tested``, ``rest_mutated``,
        ``rest_frequency``); ``odds_ratio``, ``odds_low``, ``odds_high`` with 1/2 added to each cell (Haldane 1956,
        Anscombe 1956) and Wald's interval; ``p`` of Fisher's exact test, two-sided; ``q`` after Benjamini & Hochberg
        (1995) over all rows that have a p; ``defining``. Not a number where one side has nobody tested.
    """
    labels = _checked(table, labels)
    if not 0 < level < 1:
        raise ValueError(f"level: in (0, 1) (found {level})")
    rule = rule or Rule()
    names = np.unique(labels)
    inside = (labels[:, None] == names).T.astype(np.int64)
    tested = inside @ (table.events != MISSING)
    mutated = inside @ (table.events == 1)
    rest_tested, rest_mutated = tested.sum(0) - tested, mutated.sum(0) - mutated

    a, b = mutated + 0.5, tested - mutated + 0.5
    c, d = rest_mutated + 0.5, rest_tested - rest_mutated + 0.5
    informed = (tested > 0) & (rest_tested > 0)
    log_odds = np.where(informed, np.log(a * d / (b * c)), np.nan)
    margin = norm.ppf((1 + level) / 2) * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    p = np.full(tested.shape, np.nan)
    for k, g in np.argwhere(informed):
        ours, theirs = mutated[k, g], rest_mutated[k, g]
        cells = [[ours, tested[k, g] - ours], [theirs, rest_tested[k, g] - theirs]]
        p[k, g] = min(fisher_exact(cells).pvalue, 1.0)  # rounding may exceed 1
    q = np.full(p.shape, np.nan)
    if informed.any():
        q[informed] = false_discovery_control(p[informed], method="bh")

    frame = pd.DataFrame(
        {
            "cluster": np.repeat(names, len(table.genes)),
            "gene": np.tile(np.array(table.genes, dtype=object), len(names)),
            "tested": tested.ravel(),
            "mutated": mutated.ravel(),
            "frequency": _ratio(mutated, tested).ravel(),
            "rest_tested": rest_tested.ravel(),
            "rest_mutated": rest_mutated.ravel(),
            "rest_frequency": _ratio(rest_mutated, rest_tested).ravel(),
            "odds_ratio": np.exp(log_odds).ravel(),
            "odds_low": np.exp(log_odds - margin).ravel(),
            "odds_high": np.exp(log_odds + margin).ravel(),
            "p": p.ravel(),
            "q": q.ravel(),
        }
    )
    frame["defining"] = (
        (frame["frequency"] >= rule.min_frequency) & (frame["odds_low"] > 1) & (frame["q"] <= rule.max_q)
    )
    return frame


def _frequencies_over_draws(
    table: EventTable, names: np.ndarray, matched: np.ndarray, level: float, seed: int
) -> pd.DataFrame:
    """Posterior of each frequency averaged over membership: a mixture over the draws that have the cluster.

    Given a draw's members the frequency is Beta(1/2 + mutated, 1/2 + tested - mutated), Jeffreys' posterior; one
    value is drawn from each, so that the interval holds both the patients' sampling and the membership's doubt. In
    a draw whose members were not tested it is the prior's.
    """
    rng = np.random.default_rng(seed)
    tested, mutated = (table.events != MISSING).astype(np.float32), (table.events == 1).astype(np.float32)
    columns: dict[str, list[np.ndarray]] = {"frequency_mean": [], "frequency_low": [], "frequency_high": []}
    for name in names:
        inside = (matched == name).astype(np.float32)  # sums of up to 2^24 patients are exact
        inside = inside[inside.any(1)]
        members, positive = inside @ tested, inside @ mutated
        frequency = rng.beta(0.5 + positive, 0.5 + members - positive)
        unknown = ~(members > 0).any(0)  # never tested in this cluster
        values = (
            (frequency.mean(0), *_interval(frequency, level)) if len(inside) else (np.full(unknown.shape, np.nan),) * 3
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(np.where(unknown, np.nan, value))
    return pd.DataFrame({name: np.concatenate(values) for name, values in columns.items()})


def _checked(table: EventTable, labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (len(table),) or len(table) == 0 or labels.min() < 0:
        raise ValueError(f"labels: one >= 0 for each of {len(table)} patients (found shape {labels.shape})")
    return labels


def _interval(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Central interval over the first axis; not a number where there is none."""
    if len(values) == 0:
        return np.array(np.nan), np.array(np.nan)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray(low), np.asarray(high)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


def _defining(genes: pd.DataFrame) -> dict[int, tuple[str, ...]]:
    result = {}
    for name, rows in genes.groupby("cluster"):
        chosen = rows[rows["defining"]].sort_values("frequency", ascending=False, kind="stable")
        result[int(str(name))] = tuple(chosen["gene"])
    return result


def _line(lesions: tuple[str, ...], patients: int) -> str:
    return f"{' '.join(f'{gene}+' for gene in lesions) or 'no defining lesion'} (n={patients})"


def shares_by_group(draws: np.ndarray, labels: np.ndarray, groups: np.ndarray, level: float = 0.9) -> pd.DataFrame:
    """Which share of each group's patients is in each cluster of a partition, and how sure that is.

    The clusters of every draw are matched to the partition's (`clustering.partition.match_draws`); patients of a
    cluster that the partition does not have are in none.

    Parameters
    ----------
    draws
        Shape (draws, patients), integers >= 0.
    labels
        Shape (patients,), the partition.
    groups
        Shape (patients,), names.
    level
        Of the central posterior intervals.

    Returns
    -------
    pd.DataFrame
        One row a group and cluster: ``group``, ``patients`` of the group, ``cluster``, ``share`` (posterior mean),
        ``low``, ``high``.
    """
    matched, names = match_draws(draws, labels), np.unique(labels)
    rows = []
    for group in np.unique(groups):
        inside = matched[:, groups == group]
        for name in names:
            share = (inside == name).mean(1)
            low, high = np.quantile(share, ((1 - level) / 2, (1 + level) / 2))
            rows.append((group, inside.shape[1], int(name), float(share.mean()), float(low), float(high)))
    return pd.DataFrame(rows, columns=["group", "patients", "cluster", "share", "low", "high"])
