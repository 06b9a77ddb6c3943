"""Powers of the likelihood and replicas that trade places, against enumeration."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from clustering.chain import steps
from clustering.mixture import MixtureSampler, TemperedMixtureSampler, geometric_heats
from tests.clustering.mixture.exact import SMALL, canonical, exact_posterior, mfm_prior, table


def check(found: Counter[tuple[int, ...]], exact: dict[tuple[int, ...], float], slack: float) -> None:
    draws = found.total()
    for z, p in exact.items():
        assert abs(found[z] / draws - p) < 4.5 * np.sqrt(slack * p * (1 - p) / draws) + 0.01 * p + 1e-4, z


@pytest.mark.parametrize("heat", [0.3, 0.7])
def test_a_power_of_the_likelihood_has_its_own_exact_posterior(heat: float) -> None:
    """New components below full heat: Algorithm 8 with importance weights, no other move changes the labels."""
    sampler = MixtureSampler(SMALL, gamma=0.7, geometric=0.3, scale=0.4, annealing=3, split_merges=0.0)
    exact = exact_posterior(SMALL, 0.4, mfm_prior(len(SMALL), 0.7, 0.3), heat)
    rng, found = np.random.default_rng(2), Counter[tuple[int, ...]]()
    state = sampler.start(rng, heat)
    for _ in range(25_000):
        state = sampler.advance(state, 8, rng, heat)
        found[canonical(state["labels"])] += 1
    check(found, exact, slack=8)


def test_the_coldest_replica_has_the_posterior() -> None:
    sampler = MixtureSampler(SMALL, gamma=0.7, geometric=0.3, scale=0.4, annealing=3)
    tempered = TemperedMixtureSampler(sampler, (1.0, 0.6, 0.3))
    exact = exact_posterior(SMALL, 0.4, mfm_prior(len(SMALL), 0.7, 0.3))
    found, cold = Counter[tuple[int, ...]](), set()
    for step in islice(steps(tempered, 5, 0, spacing=2), 15_000):
        found[canonical(step.draw["labels"])] += 1
        cold.add(step.scalars["replica"])
    check(found, exact, slack=6)
    assert cold == {0.0, 1.0, 2.0}  # every replica has been the coldest
    assert 0 < step.scalars["swap_rate"] < 1


def test_a_tempered_chain_resumes_to_the_same_bits() -> None:
    rng = np.random.default_rng(1)
    data = table((rng.random((30, 6)) < 0.4) | (np.arange(6) == 0))
    sampler = TemperedMixtureSampler(MixtureSampler(data, annealing=5), geometric_heats(0.5, 3))
    first, second = islice(steps(sampler, 3, 0), 2)
    resumed = next(steps(sampler, 3, 0, after=(1, first.state)))
    for name, value in second.state.items():
        np.testing.assert_array_equal(resumed.state[name], value)


@pytest.mark.parametrize("heats", [(), (0.9, 0.5), (1.0, 1.0), (1.0, 0.0)])
def test_heats_must_fall_from_one(heats: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="heats"):
        TemperedMixtureSampler(MixtureSampler(SMALL), heats)
