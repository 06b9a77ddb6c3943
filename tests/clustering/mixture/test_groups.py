"""Groups that share components: enumeration, the prior (Geweke 2004), and weights that differ by group."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from clustering.chain import steps
from clustering.mixture import ConditionalBernoulliMixture, MixtureSampler, TemperedMixtureSampler
from clustering.simulation import simulate
from tests.clustering.mixture.exact import SMALL, canonical, exact_posterior, grouped_prior, mfm_prior, table

GROUPS = np.array(["Ulm", "Ulm", "Padova", "Padova", "Ulm"])


def test_the_prior_of_groups_sums_to_one_and_has_its_limits() -> None:
    prior = grouped_prior([0, 0, 1, 1, 0], 0.7, 0.3, (2.0, 0.5))
    assert sum(np.exp(list(prior.values()))) == pytest.approx(1.0, rel=1e-4)
    alike = grouped_prior([0, 0, 1, 1, 0], 0.7, 0.3, (4000.0, 1.0))  # α so large that all groups have the weights β
    for z, value in mfm_prior(5, 0.7, 0.3).items():
        assert alike[z] == pytest.approx(value, abs=4e-3)


@pytest.mark.parametrize(("heat", "split_merges"), [(1.0, 0.1), (0.5, 1.0)])
def test_partitions_of_a_tiny_cohort_in_groups(heat: float, split_merges: float) -> None:
    """All 52 partitions of five patients in two groups have their exact posterior probability."""
    draws = 40_000
    sampler = MixtureSampler(
        SMALL,
        groups=GROUPS,
        gamma=0.7,
        geometric=0.3,
        scale=0.4,
        group_prior=(2.0, 0.5),
        annealing=5,
        split_merges=split_merges,
    )
    prior = grouped_prior([1, 1, 0, 0, 1], 0.7, 0.3, (2.0, 0.5))
    exact = exact_posterior(SMALL, 0.4, prior, heat)
    rng = np.random.default_rng(3)
    state, found = sampler.start(rng, heat), Counter[tuple[int, ...]]()
    for _ in range(draws):
        state = sampler.advance(state, 6, rng, heat)
        found[canonical(state["labels"])] += 1
    for z, p in exact.items():
        error = np.sqrt(p * (1 - p) / draws * (3 if heat == 1 else 8))
        assert abs(found[z] / draws - p) < 4.5 * error + 0.01 * p + 1e-4, z


def test_geweke_in_groups() -> None:
    """Sweeps alternating with new events given labels and weights return the prior of K, α and scale."""
    genes, group = 5, np.array([0, 0, 0, 1, 1, 2])
    rng = np.random.default_rng(8)
    n = rng.integers(1, 4, len(group))
    events = np.zeros((len(group), genes), np.int8)
    for i in range(len(group)):
        events[i, : n[i]] = 1

    def sampler() -> MixtureSampler:
        return MixtureSampler(
            table(events),
            groups=group,
            annealing=2,
            scale_bounds=(0.1, 3.0),
            geometric=0.3,
            group_prior=(2.0, 0.5),
            split_merges=0.5,
        )

    state = sampler().start(rng)
    scale, clusters, alpha = [], [], []
    for step in range(20_000):
        for i in range(len(group)):
            weights = np.exp(state["theta"][state["labels"][i]])
            sets = list(combinations(range(genes), int(n[i])))
            p = np.array([weights[list(s)].prod() for s in sets])
            events[i] = 0
            events[i, list(sets[rng.choice(len(sets), p=p / p.sum())])] = 1
        state = sampler().advance(state, 1, rng)
        if step % 10 == 0:
            scale.append(float(state["scale"]))
            clusters.append(len(state["theta"]))
            alpha.append(float(state["alpha"]))
    assert kstest(np.log(scale), "uniform", (np.log(0.1), np.log(30))).pvalue > 1e-3
    assert kstest(alpha, "gamma", (2.0, 0.0, 2.0)).pvalue > 1e-3
    sizes = np.zeros(len(group) + 1)
    for z, value in grouped_prior(group.tolist(), 1.0, 0.3, (2.0, 0.5)).items():
        sizes[max(z) + 1] += np.exp(value)
    found = np.bincount(clusters, minlength=len(group) + 1) / len(clusters)
    assert np.abs(found - sizes).max() < 4.5 * np.sqrt(0.25 / len(clusters) * 2)


def test_groups_have_the_shares_that_they_have() -> None:
    """Two hospitals draw from the same classes in opposite proportions: a patient's prior is its hospital's."""
    rng = np.random.default_rng(4)
    cohort = simulate(3, 4.0, 0.05, rng, patients=600, genes=30, fewest=1)
    many = np.bincount(cohort.labels).argmax()
    hospital = np.where((cohort.labels == many) ^ (rng.random(600) < 0.1), "A", "B")
    mixture = ConditionalBernoulliMixture(sweeps=600, spacing=5, random_state=1)
    mixture.fit(cohort.table, groups=hospital)
    share = np.array([[np.mean(mixture.labels_[hospital == h] == k) for h in "AB"] for k in range(3)])
    # a patient of the largest class with one common lesion is more likely of it where the class is common
    one = cohort.table.select(np.flatnonzero(cohort.table.counts == 1)[:1])
    by_hospital = [mixture.predict_proba(one, groups=np.array([h]))[0] for h in "AB"]
    unknown = mixture.predict_proba(one, groups=np.array(["C"]))[0]
    top = int(share[:, 0].argmax())
    assert by_hospital[0][top] > unknown[top] > by_hospital[1][top]
    none = pd.DataFrame(
        np.zeros((1, 30), int), columns=list(cohort.table.genes)
    )  # without lesions nothing but the hospital's shares is left
    np.testing.assert_allclose(mixture.predict_proba(none, groups=np.array(["A"]))[0], share[:, 0], atol=0.03)
    with pytest.raises(ValueError, match="2 names for 1 patients"):
        mixture.predict_proba(one, groups=np.array(["A", "B"]))


def test_chains_in_groups_repeat_resume_and_temper() -> None:
    rng = np.random.default_rng(2)
    data = table((rng.random((80, 9)) < 0.4) | (np.arange(9) == 0))
    for sampler in (
        MixtureSampler(data, groups=np.arange(80) % 7),
        TemperedMixtureSampler(MixtureSampler(data, groups=np.arange(80) % 7), (1.0, 0.6)),
    ):
        chain = steps(sampler, 4, 1, spacing=5)
        first, second = next(chain), next(chain)
        resumed = next(steps(sampler, 4, 1, spacing=5, after=(1, first.state)))
        for name in second.state:
            np.testing.assert_array_equal(second.state[name], resumed.state[name])
    assert second.draw["sizes"].shape == (7, len(second.draw["theta"]))
    assert second.draw["sizes"].sum() == 80
    assert second.draw["beta"].sum() == pytest.approx(1.0)


def test_impossible_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="4 names for 5 patients"):
        MixtureSampler(SMALL, groups=GROUPS[:4])
    with pytest.raises(ValueError, match="Dirichlet process"):
        MixtureSampler(SMALL, "dp", groups=GROUPS)
