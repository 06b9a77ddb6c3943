"""The network over centers is that of the pooled patients, edge by edge and number by number."""

from __future__ import annotations

import numpy as np
import pytest

from federation import DisclosurePolicy, FitBayesianNetwork, InProcessFederation, Split, State, network_of, rounds, run
from harmonization import Cohort
from models.generative import BayesianNetwork, SearchOptions
from tests.federation.hospitals import federation_of
from tests.models.generative.tables import SCHEMA, patients

OPTIONS = {
    "bic": SearchOptions(bins=5),
    "bdeu": SearchOptions(score="bdeu", required=(("grade", "censoring_time"),)),
}
EVERYBODY = DisclosurePolicy(min_patients=0)


def dealt(cohort: Cohort, centers: int) -> dict[str, Cohort]:
    """Centers of very different size, the smallest of a single patient."""
    rng = np.random.default_rng(centers)
    share = rng.dirichlet(np.full(centers, 0.5))
    whose = np.append(np.arange(centers), rng.choice(centers, len(cohort) - centers, p=share))
    return {f"c{i}": cohort[whose == i] for i in range(centers)}


def broadcasts(federation: InProcessFederation, algorithm: FitBayesianNetwork) -> tuple[State, int]:
    states = list(rounds(algorithm, federation))
    return states[-1], len(states)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("centers", [3, 5, 45])
def test_the_network_is_the_pooled_one(centers: int, name: str) -> None:
    cohort, options = patients(500, seed=7), OPTIONS[name]
    algorithm = FitBayesianNetwork(SCHEMA, options)
    state, asked = broadcasts(federation_of(dealt(cohort, centers), policy=EVERYBODY), algorithm)
    mine, expected = network_of(state, algorithm), BayesianNetwork(options, law=None).fit(cohort).fitted_
    assert mine.edges == expected.edges
    assert len(mine.edges) >= 4
    assert mine.state.keys() == expected.state.keys()
    for key, array in expected.state.items():
        np.testing.assert_array_equal(mine.state[key], array, err_msg=key, strict=True)
    for a, b in zip(mine.tables, expected.tables, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
    assert asked <= mine.moves + 5
    assert mine.sample(20, seed=1).to_frame().equals(expected.sample(20, seed=1).to_frame())


def test_test_patients_are_not_counted() -> None:
    cohort, split = patients(300, seed=8), Split(seed=1, n_folds=3)
    parts = split.parts(cohort.ids, cohort.event, "only")
    algorithm = FitBayesianNetwork(SCHEMA)
    state = run(algorithm, federation_of({"only": cohort}, split=split))
    expected = BayesianNetwork(law=None).fit(cohort[parts == 0]).fitted_
    assert int(state["counted"]) == int((parts == 0).sum()) < 300
    assert network_of(state, algorithm).score == expected.score


def test_small_centers_withhold_under_the_policy() -> None:
    cohorts = dealt(patients(500, seed=7), 45)
    large = Cohort.concatenate([c for c in cohorts.values() if len(c) >= 3])
    algorithm = FitBayesianNetwork(SCHEMA)
    state = run(algorithm, federation_of(cohorts))
    assert int(state["counted"]) == len(large) < 500
    assert network_of(state, algorithm).edges == BayesianNetwork(law=None).fit(large).fitted_.edges


def test_who_comes_and_goes_makes_the_search_start_over() -> None:
    cohorts = dealt(patients(400, seed=9), 3)
    algorithm, federation = FitBayesianNetwork(SCHEMA), federation_of(cohorts)
    state, everybody = algorithm.start(federation.roster), federation.centers
    for r in range(60):
        federation.centers = everybody[:2] if r >= 4 else everybody
        if algorithm.done(state):
            break
        state = algorithm.server_update(state, federation.ask(algorithm, state))
    assert int(state["restarts"]) == 1
    left = Cohort.concatenate(list(cohorts.values())[:2])
    assert network_of(state, algorithm).score == BayesianNetwork(law=None).fit(left).fitted_.score

    with pytest.raises(ValueError, match="centers came and went 6 times"):  # noqa: PT012
        state = algorithm.start(federation.roster)
        for r in range(60):
            federation.centers = everybody[: 2 + r % 2]
            state = algorithm.server_update(state, federation.ask(algorithm, state))


def test_questions_name_neither_schema_nor_options() -> None:
    assert "wbc" not in FitBayesianNetwork(SCHEMA).declare()
