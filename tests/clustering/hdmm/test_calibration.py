"""Simulation-based calibration: the prior's draw has a uniform rank among the posterior's (Talts et al. 2018)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from clustering.events import EventTable
from clustering.hdmm import HDMMSampler

PATIENTS, EVENTS, GENES, BASE = 6, 3, 4, 0.6
PRIORS = (3.0, 2.0), (3.0, 2.0)
DRAWS, SPACING, REPLICATES = 19, 25, 300


def model(rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A state from the prior (components by stick breaking, to a rest of no weight) and the tokens' genes."""
    gamma, alpha = (rng.gamma(shape) / rate for shape, rate in PRIORS)
    sticks = rng.beta(1, gamma, 400)
    beta = sticks * np.concatenate([[1.0], np.cumprod(1 - sticks)[:-1]])
    z = []
    for _ in range(PATIENTS):
        # θ ~ DP(α, β) by the Pólya urn of its draws
        mine: list[int] = []
        for n in range(EVENTS):
            fresh = rng.random() * (n + alpha) < alpha
            mine.append(int(rng.choice(len(beta), p=beta / beta.sum())) if fresh else mine[rng.integers(n)])
        z += mine
    used, z_used = np.unique(z, return_inverse=True)
    phi = rng.dirichlet(np.full(GENES, BASE), len(used))
    genes = np.array([rng.choice(GENES, p=phi[k]) for k in z_used])
    state = {
        "z": z_used.astype(np.int16),
        "beta": beta[used],
        "rest": np.array(1 - beta[used].sum()),
        "alpha": np.array(alpha),
        "gamma": np.array(gamma),
    }
    return state, genes


def ranks(method: str, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Ranks of the true α, γ, number of components and log likelihood, each 0 … DRAWS, (replicates, 4).

    The truth is itself a draw of the posterior given its tokens, so a chain that starts there needs no burn-in; its
    draws are far enough apart to be as good as independent.
    """
    x = np.tile(np.r_[np.ones(EVENTS), np.zeros(GENES - EVENTS)], (PATIENTS, 1)).astype(np.int8)
    table = EventTable(np.arange(PATIENTS).astype(str), tuple("abcd"), x)
    result = np.empty((replicates, 4))
    for r in range(replicates):
        sampler = HDMMSampler(table, BASE, None, False, *PRIORS, method=method, blocks=2)  # type: ignore[arg-type]
        state, genes = model(rng)
        sampler.tokens.gene[:] = genes  # tokens are draws with repetition, which no table of 0 and 1 holds
        kept = [state]
        for _ in range(DRAWS):
            state = sampler.advance(state, SPACING, rng)
            kept.append(state)
        names = "concentration", "top_concentration", "clusters", "log_likelihood"
        values = np.array([[sampler.scalars(s)[name] for name in names] for s in kept])
        values = values + 1e-9 * rng.random(values.shape)  # ties at random
        result[r] = (values[1:] < values[0]).sum(0)
    return result


@pytest.mark.parametrize("method", ["dense", "sparse"])
def test_ranks_are_uniform(method: str) -> None:
    found = ranks(method, REPLICATES, np.random.default_rng(8))
    bins = (DRAWS + 1) // 2
    for column in found.T:
        counts = np.bincount((column // 2).astype(int), minlength=bins)
        statistic = ((counts - REPLICATES / bins) ** 2).sum() / (REPLICATES / bins)
        assert chi2.sf(statistic, bins - 1) > 1e-4
        spread = (column + np.random.default_rng(0).random(REPLICATES)) / (DRAWS + 1)
        assert kstest(spread, "uniform").pvalue > 1e-4
