"""Scores, networks and tables are pgmpy's on the same discretized table."""

from __future__ import annotations

from collections import deque
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pgmpy.base import DAG
from pgmpy.causal_discovery import ExpertKnowledge, HillClimbSearch
from pgmpy.models import DiscreteBayesianNetwork
from pgmpy.parameter_estimator import DiscreteBayesianEstimator
from pgmpy.structure_score import BIC, BDeu

from harmonization import Cohort, Feature, Schema
from models.generative.bayesian_network import BayesianNetwork, FittedNetwork
from models.generative.scores import Law, ScoreName, family_score, family_scores, trials
from models.generative.search import ADD, FAMILIES, FLIP, PAIRS, REMOVE, NetworkSearch, SearchOptions, edges_of
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


BITS = tuple("abcdef")


def bits(seed: int) -> Cohort:
    """Sixty patients of six 0/1 features that depend on hidden ones and on each other."""
    rng = np.random.default_rng(seed)
    hidden, values = rng.random((60, 3)) < 0.5, np.zeros((60, 6))
    for j in range(6):
        two = rng.random() < 0.5
        cause = hidden[:, rng.integers(3)] ^ hidden[:, rng.integers(3)] if two else hidden[:, rng.integers(3)]
        other = values[:, rng.integers(j)] if j else cause
        noise, coin = rng.random(60) < 0.25, rng.random(60) < 0.5
        values[:, j] = np.where(noise, coin, np.where(rng.random(60) < 0.6, cause, other))
    schema = Schema("bits", "1", tuple(Feature(name, "binary") for name in BITS))
    return Cohort(schema, np.arange(60).astype(str), values, np.arange(1.0, 61), np.arange(60) % 2 == 0)


@pytest.mark.parametrize("tabu", [0, 1, 3, 100])
def test_every_move_is_the_best_that_pgmpy_allows_and_the_tabu_list_is_pgmpys(tabu: int) -> None:
    """Adding, leaving out, turning round. A climb seldom meets its list, so other moves are put into it before each."""
    kinds: list[str] = []
    for seed in (39, 57, 75):  # in which edges are turned round
        cohort, rng = bits(seed), np.random.default_rng(seed)
        out = tuple((name, time) for name in BITS for time in ("event_time", "censoring_time"))
        search = NetworkSearch(cohort.schema, SearchOptions(roots=(), forbidden=out, tabu=tabu, max_parents=3))
        frame = pd.DataFrame(cohort.values.astype(int), columns=list(BITS)).astype("category")
        judge: Any = BIC(frame, {name: [0, 1] for name in BITS})
        judge.local_score = cache(judge.local_score)
        climb: Any = HillClimbSearch(scoring_method=judge)
        climb.variables_ = list(BITS)
        dag, forbidden = DAG(), deque[Any](maxlen=tabu)
        dag.add_nodes_from(BITS)
        state = search.start()
        while True:
            if int(state["phase"]) == FAMILIES:
                for _ in range(3):
                    forbidden.append((("+", "-", "flip")[rng.integers(3)], tuple(rng.permutation(BITS)[:2].tolist())))
                state["tabu"] = np.array([numbered(move) for move in forbidden]).reshape(-1, 3)
            state = search.update(state, search.answer(search.broadcast(state), cohort), 60)
            if int(state["phase"]) == PAIRS:
                continue
            moves = climb._legal_operations_dag(dag, judge, forbidden, 3, [], [])
            best = max((round(gain, 8), *(-i for i in numbered(move)), move) for move, gain in moves)
            if best[0] < 1e-4:
                assert search.done(state)
                break
            kind, (parent, child) = best[-1]
            kinds.append(kind)
            if kind != "+":
                dag.remove_edge(parent, child)
            if kind != "-":
                dag.add_edge(*((child, parent) if kind == "flip" else (parent, child)))
            forbidden.append(({"+": "-", "-": "+", "flip": "flip"}[kind], (parent, child)))
            edges = {(BITS[a], BITS[b]) for a, b in np.argwhere(edges_of(state["order"])[:6, :6])}
            assert edges == set(dag.edges())
            assert state["tabu"].tolist() == [list(numbered(move)) for move in forbidden]
    assert "flip" in kinds


def numbered(move: tuple[str, tuple[str, str]]) -> tuple[int, int, int]:
    """A move of pgmpy's as the search has it."""
    kind, (parent, child) = move
    return {"+": ADD, "-": REMOVE, "flip": FLIP}[kind], BITS.index(parent), BITS.index(child)


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


@pytest.mark.parametrize("options", [{"bins": 0}, {"ess": 0.0}, {"max_parents": 0}, {"tabu": -1}, {"min_gain": 0.0}])
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SearchOptions(**options)
