"""Scores of families of a Bayesian network from counts alone, for one child and every further parent at once.

A *law* says what kind of child it is. ``categorical``: the usual one. ``event`` and ``censoring``: of a variable whose
states are pairs (bin of time, censored or event), the chance of the event in each bin for those still at risk, and the
chance to be censored for those at risk who have no event; the two multiply to the likelihood of what is seen of a time.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Law = Literal["categorical", "event", "censoring"]
ScoreName = Literal["bic", "bdeu"]


def trials(counts: Floats, law: Law) -> Floats:
    """Counts by outcome of each of a child's choices.

    A categorical variable is one choice among its states, an event or censoring time one choice per bin of time.

    Parameters
    ----------
    counts
        By state of the child, shape (states, ...).

    Returns
    -------
    array
        Shape (choices, outcomes, ...); for times the outcomes are no and yes.
    """
    if law == "categorical":
        return counts[None]
    by_time = counts.reshape(-1, 2, *counts.shape[1:])
    censored, events = by_time[:, 0], by_time[:, 1]
    at_risk = np.cumsum((censored + events)[::-1], axis=0)[::-1]
    if law == "event":
        return np.stack([at_risk - events, events], axis=1)
    # In the last bin everybody leaves: no choice.
    return np.stack([at_risk - events - censored, censored], axis=1)[:-1]


def family_scores(counts: Floats, law: Law, cards: Ints, patients: float, score: ScoreName, ess: float) -> Floats:
    """Scores of a child given its parents and one further variable, for each of many of these.

    Parameters
    ----------
    counts
        By state of the child, configuration of the parents, and state of each further variable one after the other:
        shape (states, configurations, sum of `cards`).
    law
        Of the child.
    cards
        States of each further variable, shape (variables,); a single 1 scores the family as it is.
    patients
        Of all centers.
    score
        ``bic`` or ``bdeu``, as pgmpy's.
    ess
        Equivalent sample size of ``bdeu``.

    Returns
    -------
    array
        Shape (variables,).

    References
    ----------
    Koller & Friedman (2009), Probabilistic Graphical Models, eq. 18.9 (BDeu: Heckerman et al. 1995) and section 18.3.5.
    """
    table = trials(counts, law)  # (choices, outcomes, configurations, columns)
    choices, outcomes, configurations, _ = table.shape
    starts = np.append(0, np.cumsum(cards)[:-1])
    given = table.sum(axis=1)
    if score == "bic":
        columns = xlogy(table, table).sum(axis=(0, 1, 2)) - xlogy(given, given).sum(axis=(0, 1))
        penalty = 0.5 * np.log(patients) * choices * (outcomes - 1) * configurations * cards
        return np.asarray(np.add.reduceat(columns, starts) - penalty, np.float64)
    alpha = np.repeat(ess / (configurations * cards), cards)
    beta = alpha / outcomes
    cells = (gammaln(table + beta) - gammaln(beta)).sum(axis=(0, 1, 2))
    margins = (gammaln(alpha) - gammaln(given + alpha)).sum(axis=(0, 1))
    return np.asarray(np.add.reduceat(cells + margins, starts), np.float64)


def family_score(counts: Floats, law: Law, patients: float, score: ScoreName, ess: float) -> float:
    """Score of a child given its parents; counts of shape (states, configurations)."""
    return float(family_scores(counts[:, :, None], law, np.ones(1, np.int64), patients, score, ess)[0])


def probabilities(counts: Floats, law: Law, ess: float) -> Floats:
    """Conditional probabilities, smoothed by a Dirichlet prior.

    Categories start from `ess` patients spread evenly over states and configurations (pgmpy's BDeu prior), bins of time
    from `ess` patients per configuration who fare as all patients do.

    Parameters
    ----------
    counts
        Shape (states, configurations).

    Returns
    -------
    array
        Shape (choices, outcomes, configurations), summing to 1 over outcomes.
    """
    table = trials(counts, law)
    if law == "categorical":
        prior = np.full_like(table, ess / table[0].size)
    else:
        everybody = table.sum(axis=2, keepdims=True)
        seen = everybody.sum(axis=1, keepdims=True)
        prior = ess * np.where(seen > 0, everybody / np.maximum(seen, 1.0), [[[1.0], [0.0]]])
        prior = np.broadcast_to(prior, table.shape)
    smoothed = table + prior
    return np.asarray(smoothed / smoothed.sum(axis=1, keepdims=True), np.float64)
