"""A Bayesian network of patients: which feature depends on which, when the event comes, and when follow-up ends.

Values are states of `models.generative.discretization`; missing is a state like another, so values are generated as
missing at their rate and together with what they are missing with. A patient gets an event and a censoring time, and
the earlier of the two is seen, as with real patients: from two Cox models of all features (`survival_law`), or from the
network's own discrete-time hazards. The network is found by `models.generative.search`, on one table as over centers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort, Schema
from models.generative.discretization import Decoder, Discretizer
from models.generative.drawing import GenerativeModel, PatientGenerator
from models.generative.scores import probabilities
from models.generative.search import NetworkSearch, SearchOptions, edges_of
from models.generative.survival_law import LawOptions, SurvivalLaw

if TYPE_CHECKING:
    from pgmpy.models import DiscreteBayesianNetwork

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
State = Mapping[str, NDArray[Any]]

_LAW = LawOptions()


@dataclass(frozen=True, eq=False)
class FittedNetwork(PatientGenerator):
    """A network to draw patients from.

    Parameters
    ----------
    search
        By which it was found.
    state
        The search's final state.
    law
        Of times and events given the features, in place of the network's own hazards by bin of time, which know few
        parents. None: the network's own.
    least
        Values are drawn from parts of a distribution that stand for at least so many patients.
    """

    search: NetworkSearch
    state: State
    law: SurvivalLaw | None = None
    least: int = 5

    @property
    def schema(self) -> Schema:
        """Of the patients."""
        return self.search.schema

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Parent and child, in the order of the nodes."""
        nodes = self.search.nodes
        return tuple((nodes[a], nodes[b]) for a, b in np.argwhere(edges_of(self.state["order"])))

    @property
    def score(self) -> float:
        """Of the whole network."""
        return float(self.state["score"].sum())

    @property
    def moves(self) -> int:
        """Moves that were accepted."""
        return int(self.state["moves"])

    @cached_property
    def discretizer(self) -> Discretizer:
        """The states."""
        return Discretizer.from_arrays(self.state)

    @cached_property
    def tables(self) -> tuple[Floats, ...]:
        """Conditional probabilities of each node (`models.generative.scores.probabilities`)."""
        pairs = enumerate(self.search.laws())
        return tuple(probabilities(self.state[f"table/{i}"], law, self.search.options.ess) for i, law in pairs)

    def parents(self, node: int) -> Ints:
        """Positions of a node's parents, in the order of its table's configurations."""
        order: Ints = self.state["order"][node]
        return order[order >= 0]

    def _propose(self, n: int, fixed: Mapping[int, float], rng: np.random.Generator) -> Cohort:
        """Patients with their times by the network's own hazards, which a law replaces."""
        codes = self._draw_features(n, {j: self._state(j, value) for j, value in fixed.items()}, rng)
        decoder = Decoder(self.discretizer, self._marginals, self.least)
        values = decoder.values(codes, self.schema, rng)
        for j, value in fixed.items():
            values[:, j] = value
        if self.law is not None:
            return self._cohort(values)
        bins, event = self._draw_times(codes, rng)
        return self._cohort(values, decoder.times(bins, event, self.schema, rng), event)

    def _occurs(self, feature: int, value: float) -> bool:
        """By the counts."""
        if np.isnan(value) and not self.discretizer.missing[feature]:
            return False
        if self.schema.features[feature].numeric and not np.isnan(value):
            return True
        return bool(self.state[f"table/{feature}"][self._state(feature, value)].sum() > 0)

    @property
    def _marginals(self) -> dict[str, Floats]:
        prefix = "marginal/"
        return {k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)}

    def _state(self, feature: int, value: float) -> int:
        # Where no other value may be missing, 0 stands for it; only this feature's state is looked at.
        row = np.zeros((1, len(self.schema.features)))
        row[0, feature] = value
        one = Cohort(replace(self.schema, scores=(), causes=()), np.array(["x"]), row, np.zeros(1), np.zeros(1, bool))
        return int(self.discretizer.encode(one)[0, feature])

    @cached_property
    def _sequence(self) -> tuple[int, ...]:
        """Features, each after its parents."""
        waiting, done = list(range(len(self.schema.features))), []
        while waiting:
            ready = [j for j in waiting if all(p in done for p in self.parents(j))]
            done += ready
            waiting = [j for j in waiting if j not in ready]
        return tuple(done)

    def _configuration(self, node: int, codes: Ints) -> Ints:
        parents = self.parents(node)
        if not len(parents):
            return np.zeros(len(codes), np.int64)
        cards = self.discretizer.cards(self.schema)[parents]
        return np.asarray(np.ravel_multi_index(tuple(codes[:, parents].T), tuple(cards)), np.int64)

    def _draw_features(self, n: int, fixed: Mapping[int, int], rng: np.random.Generator) -> Ints:
        """Draw features in turn; patients with fixed ones are kept by the chance of these, relative to the largest."""
        codes = np.empty((n, len(self.schema.features)), np.int64)
        keep = np.ones(n)
        for j in self._sequence:
            table = self.tables[j][0]
            configuration = self._configuration(j, codes)
            if j in fixed:
                codes[:, j] = fixed[j]
                keep *= table[fixed[j], configuration] / table[fixed[j]].max()
                continue
            cumulative = np.cumsum(table, axis=0)[:, configuration]
            codes[:, j] = np.minimum((rng.random(n) > cumulative).sum(axis=0), len(table) - 1)
        return codes[rng.random(n) < keep] if fixed else codes

    def _draw_times(self, codes: Ints, rng: np.random.Generator) -> tuple[Ints, NDArray[np.bool_]]:
        """Bin of time, and whether the event comes first; in one bin it does before censoring."""
        event, censoring = (self.tables[node][:, 1, self._configuration(node, codes)] for node in (-2, -1))
        happens = rng.random(event.shape) < event
        leaves = rng.random(event.shape) < np.concatenate([censoring, np.ones((1, len(codes)))])
        first_event = np.where(happens.any(0), happens.argmax(0), len(event))
        first_leaving = leaves.argmax(0)
        return np.minimum(first_event, first_leaving), first_event <= first_leaving

    def to_pgmpy(self) -> DiscreteBayesianNetwork:
        """The network of the features for pgmpy's inference, states by number (needs ``haemfed[synthetic]``)."""
        from pgmpy.factors.discrete import TabularCPD
        from pgmpy.models import DiscreteBayesianNetwork

        names, cards = self.schema.names, self.discretizer.cards(self.schema)
        features = [edge for edge in self.edges if edge[1] in names]
        network = DiscreteBayesianNetwork(features)
        network.add_nodes_from(names)
        for j, name in enumerate(names):
            parents = self.parents(j)
            evidence = {"evidence": [names[p] for p in parents], "evidence_card": cards[parents].tolist()}
            network.add_cpds(TabularCPD(name, int(cards[j]), self.tables[j][0], **(evidence if len(parents) else {})))
        return network


class BayesianNetwork(GenerativeModel[FittedNetwork]):
    """The network of one table.

    Parameters
    ----------
    options
        See `SearchOptions`.
    law
        How to fit the laws of times (`models.generative.survival_law`), which know all features; None keeps the
        network's own hazards by bin of time, which know few.

    Attributes
    ----------
    fitted_
        The fitted network.
    """

    def __init__(self, options: SearchOptions | None = None, law: LawOptions | None = _LAW) -> None:
        self.options = options or SearchOptions()
        self.law = law

    def fit(self, cohort: Cohort) -> BayesianNetwork:
        """Find the network of a cohort's features, times and events."""
        search = NetworkSearch(cohort.schema, self.options)
        state = search.start()
        codes: Ints | None = None
        while not search.done(state):
            asked = search.broadcast(state)
            if codes is None and "bins" in asked:
                codes = Discretizer.from_arrays(asked).encode(cohort)
            state = search.update(state, search.answer(asked, cohort, codes), len(cohort))
        law = None if self.law is None else SurvivalLaw.fit(cohort, self.law)
        self.fitted_ = FittedNetwork(search, state, law)
        return self
