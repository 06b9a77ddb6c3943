"""pgmpy's own searches on counts summed over centers find what they find on the pooled table."""

from __future__ import annotations

from typing import Any

import pytest

from federation import DisclosurePolicy, FitBayesianNetwork
from models.generative import BayesianNetwork, SearchOptions
from models.generative.counted_score import CountedScore
from tests.federation.generative.test_bayesian_network import dealt
from tests.federation.hospitals import federation_of
from tests.models.generative.tables import SCHEMA, patients
from tests.models.generative.test_search import discretized, theirs

search = pytest.importorskip("pgmpy.causal_discovery")
ORDER = [(b, a) for i, a in enumerate(SCHEMA.names) for b in SCHEMA.names[i + 1 :]]


def score_of(options: SearchOptions) -> CountedScore:
    federation = federation_of(dealt(patients(400), 5), policy=DisclosurePolicy(min_patients=0))
    algorithm = FitBayesianNetwork(SCHEMA, options)
    state = algorithm.start(federation.roster)
    total = federation.ask(algorithm, state)
    state = algorithm.server_update(state, total)
    return CountedScore(algorithm.search, state, lambda asked: federation.ask(algorithm, asked), total.patients)


@pytest.mark.parametrize("name", ["bic", "bdeu"])
def test_searches_find_what_they_find_on_the_pooled_table(name: Any) -> None:
    options = SearchOptions(score=name, ess=5.0, bins=4, roots=(), forbidden=tuple(ORDER), max_parents=2)
    score = score_of(options)
    network = BayesianNetwork(options, law=None).fit(patients(400)).fitted_
    frame, states = discretized(network)
    pooled = theirs(name, frame, states)
    assert score.local_score("blasts", ("wbc", "age")) == pytest.approx(
        pooled.local_score("blasts", ("wbc", "age")), abs=1e-9
    )
    ours = search.GES(scoring_method=score, return_type="dag").fit(score.frame).causal_graph_
    expected = search.GES(scoring_method=pooled, return_type="dag").fit(frame).causal_graph_
    assert set(ours.edges()) == set(expected.edges())
    assert len(ours.edges()) >= 3
    climb = search.HillClimbSearch(
        scoring_method=score, max_indegree=2, return_type="dag", show_progress=False,
        expert_knowledge=search.ExpertKnowledge(forbidden_edges=list(ORDER)),
    )  # fmt: skip
    found = set(climb.fit(score.frame).causal_graph_.edges())
    assert found == {edge for edge in network.edges if edge[1] in SCHEMA.names}
    assert score.asked < score._cached_local_score.cache_info().misses / 2
