"""The network over 3, 5 and 45 centers behind Ray is the pooled one, bit for bit."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import ray

from actors.center import CenterActor, CenterSpec
from actors.federation import Host, RayFederation
from federation import DisclosurePolicy, FitBayesianNetwork, FitColumnMixtures, Roster, mixture_of, network_of, run
from harmonization import Cohort
from models.generative import BayesianNetwork, MixtureOptions, SearchOptions, fit_mixture
from tests.models.generative.tables import SCHEMA, patients

OPTIONS = SearchOptions(bins=5)
EVERYBODY = DisclosurePolicy(min_patients=0)


def source(centers: int, which: int) -> Cohort:
    """A center's part of 400 patients, dealt unevenly."""
    dealt = np.sort(np.minimum((np.random.default_rng(centers).random(400) ** 2 * centers).astype(int), centers - 1))
    dealt[:centers] = np.arange(centers)
    return patients(400, seed=13)[dealt == which]


@pytest.mark.parametrize(
    "centers", [45, pytest.param(3, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)]
)
def test_the_network_and_the_mixtures_are_the_pooled_ones(centers: int, cluster: None) -> None:
    names = [f"c{i}" for i in range(centers)]
    specs = [CenterSpec(n, i, partial(source, centers, i), len(source(centers, i))) for i, n in enumerate(names)]
    packed = [specs[::2], specs[1::2]]
    actors = [CenterActor.options(num_cpus=0).remote(part, SCHEMA, EVERYBODY, None) for part in packed]
    hosts = [Host(actor, tuple(s.name for s in part)) for actor, part in zip(actors, packed, strict=True)]
    algorithm, columns = FitBayesianNetwork(SCHEMA, OPTIONS), FitColumnMixtures(MixtureOptions(4, max_iter=10))
    try:
        roster = Roster(tuple(names), seed=1)
        state = run(algorithm, RayFederation(hosts, roster, task="network"))
        mixtures = mixture_of(run(columns, RayFederation(hosts, roster, task="mixtures")), columns)
    finally:
        for actor in actors:
            ray.kill(actor)
    pooled = Cohort.concatenate([source(centers, i) for i in range(centers)])
    found, expected = network_of(state, algorithm), BayesianNetwork(OPTIONS, law=None).fit(pooled).fitted_
    assert found.edges == expected.edges
    assert int(state["round"]) <= found.moves + 5
    for key, array in expected.state.items():
        np.testing.assert_array_equal(found.state[key], array, err_msg=key, strict=True)
    numeric = [j for j, feature in enumerate(SCHEMA.features) if feature.numeric]
    reference = fit_mixture(pooled.values[:, numeric, None], columns.options)
    for name in ("means", "covariances", "weights", "lower_bound"):
        np.testing.assert_allclose(getattr(mixtures, name), getattr(reference, name), rtol=1e-6, err_msg=name)
