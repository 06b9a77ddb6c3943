"""Scores, networks and tables are pgmpy's on the same discretized table."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pgmpy.causal_discovery import ExpertKnowledge, HillClimbSearch
from pgmpy.models import DiscreteBayesianNetwork
from pgmpy.parameter_estimator import DiscreteBayesianEstimator
from pgmpy.structure_score import BIC, BDeu

from models.generative.bayesian_network import BayesianNetwork, FittedNetwork
from models.generative.scores import Law, ScoreName, family_score, family_scores, trials
from models.generative.search import NetworkSearch, SearchOptions
from tests.models.generative.tables import SCHEMA, patients

ESS = 5.0


@cache
def fitted(score: ScoreName = "bic", **options: Any) -> FittedNetwork:
    return BayesianNetwork(SearchOptions(score=score, ess=ESS, bins=4, **options), law=None).fit(patients(400)).fitted_


def discretized(network: FittedNetwork) -> tuple[pd.DataFrame, dict[str, list[int]]]:
    """The features' states as pgmpy takes them, and all that there may be."""
    codes = network.discretizer.encode(patients(400))[:, :-1]
    cards = network.discretizer.cards(SCHEMA)[:-1]
    states = {name: list(range(card)) for name, card in zip(SCHEMA.names, cards, strict=True)}
    frame = pd.DataFrame(codes, columns=list(SCHEMA.names))
    return frame.astype({name: pd.CategoricalDtype(kept) for name, kept in states.items()}), states


def theirs(score: ScoreName, frame: pd.DataFrame, states: dict[str, list[int]]) -> Any:
    return BIC(frame, states) if score == "bic" else BDeu(frame, equivalent_sample_size=ESS, state_names=states)


@pytest.mark.parametrize("score", ["bic", "bdeu"])
def test_scores_are_pgmpys(score: ScoreName) -> None:
    frame, states = discretized(fitted())
    judge = theirs(score, frame, states)
    codes = frame.to_numpy(dtype=int)
    for child, a, b in permutations(range(5), 3):
        family = (child, a, b)
        shape = [len(states[SCHEMA.names[j]]) for j in family]
        counts = np.zeros(shape)
        np.add.at(counts, tuple(codes[:, family].T), 1)
        for parents in (0, 1, 2):
            table = counts.sum(axis=tuple(range(1 + parents, 3))).reshape(shape[0], -1)
            names = [SCHEMA.names[j] for j in family]
            expected = judge.local_score(names[0], tuple(names[1 : 1 + parents]))
            assert family_score(table, "categorical", 400, score, ESS) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("score", ["bic", "bdeu"])
@pytest.mark.parametrize("law", ["categorical", "event", "censoring"])
def test_many_scores_at_once_are_those_of_each(law: Law, score: ScoreName) -> None:
    rng = np.random.default_rng(1)
    cards = np.array([2, 3, 1])
    counts = rng.poisson(2.0, (6, 4, 6)).astype(float)
    together = family_scores(counts, law, cards, 300, score, ESS)
    for i, columns in enumerate((slice(0, 2), slice(2, 5), slice(5, 6))):
        assert together[i] == pytest.approx(family_score(counts[:, :, columns].reshape(6, -1), law, 300, score, ESS))


def test_times_are_scored_as_a_variable_per_bin_of_those_at_risk() -> None:
    """Each bin's choice is a binary variable of the patients still there: pgmpy scores that table."""
    rng = np.random.default_rng(2)
    bins, event, group = rng.integers(0, 3, 200), rng.random(200) < 0.5, rng.integers(0, 2, 200)
    counts = np.zeros((6, 2))
    np.add.at(counts, (2 * bins + event, group), 1)
    for law in ("event", "censoring"):
        expected = 0.0
        for b in range(3 if law == "event" else 2):
            here = bins >= b if law == "event" else (bins > b) | ((bins == b) & ~event)
            happened = (bins == b) & (event if law == "event" else ~event)
            frame = pd.DataFrame({"y": happened[here].astype(int), "g": group[here]}).astype("category")
            likelihood = BIC(frame, {"y": [0, 1], "g": [0, 1]})
            expected += likelihood.local_score("y", ("g",)) + np.log(here.sum()) - np.log(200)  # one penalty for all
        assert family_score(counts, law, 200, "bic", ESS) == pytest.approx(expected, abs=1e-9)  # type: ignore[arg-type]
        assert trials(counts, law).shape == (3 if law == "event" else 2, 2, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("score", ["bic", "bdeu"])
@pytest.mark.parametrize("order", [(0, 2, 1, 3, 4), (4, 3, 0, 1, 2)])
def test_the_network_is_pgmpys_where_nothing_ties(score: ScoreName, order: tuple[int, ...]) -> None:
    """Given the order of the features, equivalent networks with other directions are ruled out."""
    names = [SCHEMA.names[j] for j in order]
    backwards = tuple((b, a) for i, a in enumerate(names) for b in names[i + 1 :])
    network = fitted(score, roots=(), forbidden=backwards, max_parents=2)
    frame, states = discretized(network)
    search = HillClimbSearch(
        scoring_method=theirs(score, frame, states),
        max_indegree=2,
        expert_knowledge=ExpertKnowledge(forbidden_edges=list(backwards)),
        return_type="dag",
        show_progress=False,
    )
    edges = set(search.fit(frame).causal_graph_.edges())
    assert {e for e in network.edges if e[1] in names} == edges
    assert len(edges) >= 4


def test_without_an_order_the_score_is_that_of_pgmpys_search_or_better() -> None:
    network = fitted(roots=())
    frame, states = discretized(network)
    judge = theirs("bic", frame, states)
    search = HillClimbSearch(scoring_method=judge, max_indegree=3, return_type="dag", show_progress=False)
    mine = network.to_pgmpy()
    assert judge.score(mine) == pytest.approx(float(network.state["score"][:-2].sum()), abs=1e-6)
    assert judge.score(mine) >= judge.score(search.fit(frame).causal_graph_) - 1e-6


def test_tables_are_pgmpys() -> None:
    network = fitted()
    frame, states = discretized(network)
    mine = network.to_pgmpy()
    assert mine.check_model()
    model = DiscreteBayesianNetwork(mine.edges())
    model.add_nodes_from(mine.nodes())
    estimator = DiscreteBayesianEstimator(state_names=states, prior_type="BDeu", equivalent_sample_size=ESS)
    for cpd in estimator.fit(model, frame).parameters_:
        other = mine.get_cpds(cpd.variable)
        parents = [v for v in cpd.variables[1:]]
        aligned = np.moveaxis(other.values, [other.variables.index(v) for v in parents], range(1, 1 + len(parents)))
        np.testing.assert_allclose(aligned, cpd.values, atol=1e-12)


def test_experts_are_heard() -> None:
    required, forbidden = (("wbc", "age"), ("blasts", "censoring_time")), (("mutated", "grade"), ("grade", "mutated"))
    network = fitted(roots=("mutated",), required=required, forbidden=forbidden)
    assert set(required) <= set(network.edges)
    assert not set(forbidden) & set(network.edges)
    assert not [e for e in network.edges if e[1] == "mutated"]
    assert all(e[1] != "age" for e in fitted().edges)
    assert not [e for e in fitted().edges if e[0] in ("event_time", "censoring_time")]
    assert "event_time" in {child for _, child in fitted().edges}


@pytest.mark.parametrize("options", [{"max_parents": 1}, {"max_rows": 12}])
def test_families_are_bounded(options: dict[str, int]) -> None:
    network = fitted("bdeu", **options)
    cards = network.discretizer.cards(SCHEMA)
    for node in range(len(network.search.nodes)):
        parents = network.parents(node)
        assert len(parents) <= options.get("max_parents", 3)
        if len(parents) and "max_rows" in options:
            assert cards[min(node, 5)] * np.prod(cards[parents]) <= 12
    assert len(network.edges) < len(fitted("bdeu").edges)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forbidden": (("age", "ag"),)}, "no node is called 'ag'"),
        ({"required": (("age", "wbc"), ("wbc", "grade"), ("grade", "wbc"))}, "cycle"),
        ({"required": (("wbc", "age"),)}, "wbc → age is required and not allowed"),
        ({"required": (("event_time", "wbc"),)}, "not allowed"),
        ({"max_parents": 1, "required": (("age", "wbc"), ("grade", "wbc"))}, "give a node 2 parents"),
    ],
)
def test_contradictory_experts_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkSearch(SCHEMA, SearchOptions(**options))


@pytest.mark.parametrize("options", [{"bins": 0}, {"ess": 0.0}, {"max_parents": 0}])
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SearchOptions(**options)
