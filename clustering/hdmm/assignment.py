"""Which component a patient belongs to: by posterior exposure, by multinomials, or by Fisher's noncentral law.

Dall'Olio et al. (PLOS Comput Biol 2023) fit the hierarchical mixture of multinomials, then give each patient to the
component under which its lesions are most likely, with the components' parameters computed from the draws: as
multinomials, or as multivariate Fisher's noncentral hypergeometric laws with Cornfield's odds, which with one ball a
gene are conditional Bernoulli laws given the patient's number of events. As published, components weigh the same.

Everywhere, column k of the probabilities is component k + 1 of `Components`. The catch-all takes part in the posterior
assignment, and in the others where asked: its patients have label -1, and the rows sum to one less its probability.
Patients without events, of whom every component thinks alike, have the components' weights in the cohort for
probabilities, and so go to the component of largest weight. If there is no component, all patients are one cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.special import softmax

from clustering.chain import State
from clustering.conditional_bernoulli import logpmf
from clustering.events import MISSING, EventTable
from clustering.hdmm.components import Components, extract_components
from clustering.mfnch import cornfield_odds

Estimator = Literal["simulation", "real"]
Untested = Literal["marginalized", "absent"]

_LEAST, _GAP = 1e-20, 1e-10
"""The published code's floor of a mean, and its least distance from the number of balls: keep odds finite."""


def classify_mfnch(
    table: EventTable,
    chains: Sequence[Sequence[State]],
    estimator: Estimator = "real",
    catch_all: bool = False,
    untested: Untested = "marginalized",
) -> tuple[np.ndarray, np.ndarray]:
    """Extract the components of the chains' draws and assign the patients by `assign_mfnch`.

    Parameters
    ----------
    table
        The patients that the chains ran on.
    chains
        For each chain its draws (`HDMMSampler.draw`), burn-in left out.
    estimator
        Of the means in Cornfield's odds, see `mfnch_odds`.
    catch_all
        Whether the catch-all is a component like the others, as in the paper's code for simulations.
    untested
        See `assign_mfnch`.

    Returns
    -------
    labels, probability
        Shapes (patients,), from 0, -1 for the catch-all, and (patients, K). The number of clusters is that of distinct
        labels from 0.

    Raises
    ------
    ValueError
        As `extract_components` and `assign_mfnch`.
    """
    return assign_mfnch(table, extract_components(table, chains), estimator, catch_all, untested)


def mfnch_odds(components: Components, estimator: Estimator = "real") -> np.ndarray:
    """Cornfield's odds μ_g / (m_g − μ_g) of each component, shape (K + 1, genes).

    Parameters
    ----------
    components
        Of the draws.
    estimator
        What the paper used for its simulations, where μ_g is the mean over draws of the component's tokens of gene g
        per patient with a token in it, and m_g the tokens of g in the cohort; or for its real data, where μ_g is the
        mean number of tokens itself, so that the odds are n_kg / (N_g − n_kg).

    Raises
    ------
    ValueError
        For an estimator of another name.
    """
    if estimator not in ("simulation", "real"):
        raise ValueError(f"estimator: {estimator}, but must be simulation or real")
    counts = components.counts
    per = 1 if estimator == "real" else np.maximum(components.holders[:, :, None], 1)
    mean = (counts / per).mean(0)
    m = components.counts[0].sum(0)  # every draw has all tokens
    mean = np.maximum(np.minimum(mean, m - _GAP), _LEAST)
    return cornfield_odds(mean, np.maximum(m, 1))  # a gene that nobody has: an urn of one ball, never drawn


def assign_posterior(components: Components) -> tuple[np.ndarray, np.ndarray]:
    """Each patient's component of largest mean exposure.

    Returns
    -------
    labels, probability
        Shapes (patients,), -1 for the catch-all, and (patients, K); rows sum to one less the catch-all's exposure.
    """
    exposure = components.exposure
    if components.number == 0:
        return np.zeros(len(exposure), np.int64), np.ones((len(exposure), 1))
    return exposure.argmax(1) - 1, exposure[:, 1:].copy()


def assign_multinomial(
    table: EventTable, components: Components, catch_all: bool = False, untested: Untested = "marginalized"
) -> tuple[np.ndarray, np.ndarray]:
    """Each patient's component of highest multinomial likelihood.

    The probabilities of the genes are the component's share of tokens over all draws.

    Parameters
    ----------
    table
        Patients, not necessarily those of the chains; genes as there.
    catch_all
        Whether the catch-all is a component like the others.
    untested
        Genes not tested are ``marginalized``, which leaves the multinomial of the tested ones, or taken for ``absent``,
        as in `assign_mfnch`.

    Returns
    -------
    labels, probability
        Shapes (patients,) and (patients, K); without the catch-all, rows sum to one.

    Raises
    ------
    ValueError
        If the number of genes is another, or for a treatment of untested genes of another name.
    """
    mean = np.maximum(components.counts.mean(0), _LEAST)
    events = _as_tested(_checked(table, components).events, untested)
    log_p = np.log(mean / mean.sum(1, keepdims=True))
    tested = (events != MISSING) @ np.exp(log_p).T
    n = table.counts[:, None]
    log_likelihood = (events == 1) @ log_p.T - n * np.log(np.maximum(tested, 1e-300))
    return _most_likely(log_likelihood, table, components, catch_all)


def assign_mfnch(
    table: EventTable,
    components: Components,
    estimator: Estimator = "real",
    catch_all: bool = False,
    untested: Untested = "marginalized",
) -> tuple[np.ndarray, np.ndarray]:
    """Each patient's component of highest likelihood under Fisher's noncentral law, given the number of events.

    Parameters
    ----------
    table
        Patients, not necessarily those of the chains; genes as there.
    estimator
        As in `mfnch_odds`.
    catch_all
        Whether the catch-all is a component like the others.
    untested
        Genes not tested are ``marginalized`` exactly, or taken for ``absent``: the paper's tables know no missing
        value, so that this alone gives its assignments.

    Returns
    -------
    labels, probability
        Shapes (patients,) and (patients, K); without the catch-all, rows sum to one.

    Raises
    ------
    ValueError
        If the number of genes is another, or for an estimator or a treatment of untested genes of another name.
    """
    events = _as_tested(_checked(table, components).events, untested)
    log_odds = np.log(mfnch_odds(components, estimator))
    return _most_likely(logpmf(events, log_odds), table, components, catch_all)


def _checked(table: EventTable, components: Components) -> EventTable:
    genes = components.counts.shape[2]
    if len(table.genes) != genes:
        raise ValueError(f"table: {len(table.genes)} genes, but the components have {genes}")
    return table


def _as_tested(events: np.ndarray, untested: Untested) -> np.ndarray:
    if untested not in ("marginalized", "absent"):
        raise ValueError(f"untested: {untested}, but must be marginalized or absent")
    return events if untested == "marginalized" else np.maximum(events, 0)


def _most_likely(
    log_likelihood: np.ndarray, table: EventTable, components: Components, catch_all: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities from log likelihoods (patients, K + 1)."""
    if components.number == 0:
        return np.zeros(len(table), np.int64), np.ones((len(table), 1))
    # a catch-all without tokens is no law
    first = 0 if catch_all and components.counts[:, 0].any() else 1
    probability = softmax(log_likelihood[:, first:], axis=1)
    weights = components.weights[first:]
    probability[table.counts == 0] = weights / weights.sum()
    return probability.argmax(1) - (1 - first), probability[:, 1 - first :]
