"""Simulation-based calibration: the rank of the truth among posterior draws is uniform (Talts et al. 2018)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kstest

from clustering.mixture import MixtureSampler
from clustering.mixture.weights import draw_prior
from tests.clustering.mixture.exact import table

BOUNDS, GEOMETRIC, GROUP_PRIOR, DRAWS = (0.1, 3.0), 0.4, (2.0, 0.5), 19


def truth(
    rng: np.random.Generator, patients: int, genes: int, groups: np.ndarray | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Parameters from the prior and events from the law, by enumeration."""
    scale = float(np.exp(rng.uniform(*np.log(BOUNDS))))
    proportions = rng.dirichlet(np.ones(rng.geometric(GEOMETRIC)))
    alpha = 1.0
    if groups is None:
        drawn = rng.choice(len(proportions), patients, p=proportions)
    else:
        alpha = rng.gamma(GROUP_PRIOR[0], 1 / GROUP_PRIOR[1])
        own = rng.dirichlet(np.maximum(alpha * proportions, 1e-9), groups.max() + 1)
        drawn = np.array([rng.choice(len(proportions), p=own[group]) for group in groups])
    _, labels = np.unique(drawn, return_inverse=True)
    theta = np.array([draw_prior(genes, scale, rng) for _ in range(labels.max() + 1)])
    events = np.zeros((patients, genes), np.int8)
    tested = rng.random((patients, genes)) < 0.85
    for i, n in enumerate(rng.integers(1, 4, patients)):
        tested[i, : n + 1] = True
        sets = list(combinations(np.flatnonzero(tested[i]), n))
        log_p = np.array([theta[labels[i], list(s)].sum() for s in sets])
        p = np.exp(log_p - log_p.max())
        events[i, list(sets[rng.choice(len(sets), p=p / p.sum())])] = 1
    state = {"labels": labels, "theta": theta, "scale": np.array(scale), "alpha": np.array(alpha)}
    return np.where(tested, events, -1), state


@pytest.mark.slow
@pytest.mark.parametrize("groups", [None, np.arange(10) % 3], ids=["one group", "three groups"])
def test_ranks_of_the_truth_are_uniform(groups: np.ndarray | None) -> None:
    rng = np.random.default_rng(11)
    names = ("log_likelihood", "clusters", "entropy", "scale", *(() if groups is None else ("concentration",)))
    ranks: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(400):
        events, state = truth(rng, patients=10, genes=6, groups=groups)
        sampler = MixtureSampler(
            table(events),
            groups=groups,
            geometric=GEOMETRIC,
            group_prior=GROUP_PRIOR,
            scale_bounds=BOUNDS,
            annealing=2,
            split_merges=1.0,
        )
        true = sampler.scalars(state)
        now = sampler.advance(sampler.start(rng), 300, rng)
        drawn = []
        for _ in range(DRAWS):
            now = sampler.advance(now, 60, rng)
            drawn.append(sampler.scalars(now))
        for name in names:
            values = np.array([d[name] for d in drawn])
            below = (values < true[name]).sum() + rng.integers((values == true[name]).sum() + 1)
            ranks[name].append((below + rng.random()) / (DRAWS + 1))
    for name in names:
        assert kstest(ranks[name], "uniform").pvalue > 1e-3, (name, np.histogram(ranks[name], 5)[0])
