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
from models.generative.scores import probabilities
from models.generative.search import NetworkSearch, SearchOptions, edges_of
from models.generative.survival_law import LawOptions, SurvivalLaw

if TYPE_CHECKING:
    from pgmpy.models import DiscreteBayesianNetwork

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
State = Mapping[str, NDArray[Any]]
Conditions = Mapping[str, float | str | None]

_LAW = LawOptions()
_MOST_DRAWS = 5_000_000
"""Patients drawn at most to find those that fulfil conditions."""


@dataclass(frozen=True, eq=False)
class FittedNetwork:
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

    def sample(self, n: int, seed: int, conditions: Conditions | None = None) -> Cohort:
        """Draw patients who never were.

        Parameters
        ----------
        n
            How many.
        seed
            Of all random numbers.
        conditions
            Values that all have, by feature: a number, a category's name, 0 or 1, or None for missing.

        Returns
        -------
        Cohort
            With the schema of the real ones, but for causes: an event is any of them. Scores are missing.

        Raises
        ------
        ValueError
            If a condition names no feature or no possible value, or hardly any patient fulfils all of them.
        """
        rng = np.random.default_rng(np.random.SeedSequence([seed]))
        fixed = {self.schema.index(name): value for name, value in (conditions or {}).items()}
        states = {j: self._state(j, value) for j, value in fixed.items()}
        codes = self._draw_features(n, states, rng)
        decoder = Decoder(self.discretizer, self._marginals, self.least)
        values = decoder.values(codes, self.schema, rng)
        for j, value in fixed.items():
            if self.schema.features[j].numeric and value is not None:
                values[:, j] = float(value)
        ids = np.array([f"synthetic-{seed}-{i}" for i in range(n)], dtype=str)
        bins, event = self._draw_times(codes, rng)
        time = decoder.times(bins, event, self.schema, rng)
        schema = replace(self.schema, causes=())
        cohort = Cohort(schema, ids, values, time, event, np.full((n, len(schema.scores)), np.nan))
        return cohort if self.law is None else self.law.draw(cohort, rng)

    @property
    def _marginals(self) -> dict[str, Floats]:
        prefix = "marginal/"
        return {k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)}

    def _state(self, feature: int, value: float | str | None) -> int:
        f = self.schema.features[feature]
        number = np.nan if value is None else value
        if f.kind == "categorical" and value is not None:
            if value not in f.categories:
                raise ValueError(f"{f.name!r} is conditioned on {value!r}; it is one of {', '.join(f.categories)}")
            number = float(f.categories.index(str(value)))
        if isinstance(number, str) or (f.kind == "binary" and number not in (0, 1) and value is not None):
            raise ValueError(f"{f.name!r} is conditioned on {value!r}; it is a {f.kind} feature")
        low, high = (-np.inf if f.low is None else f.low), (np.inf if f.high is None else f.high)
        if value is not None and not low <= number <= high:
            raise ValueError(f"{f.name!r} is conditioned on {value!r}; its range is {low:g} to {high:g}")
        # Where no other value may be missing, 0 stands for it; only this feature's state is looked at.
        row = np.zeros((1, len(self.schema.features)))
        row[0, feature] = number
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
        kept: list[Ints] = []
        missing, drawn, batch = n, 0, n
        while missing:
            if drawn + batch > max(_MOST_DRAWS, n):
                raise ValueError(f"of {drawn} patients drawn only {n - missing} fulfil the conditions; ask for less")
            codes = np.empty((batch, len(self.schema.features)), np.int64)
            keep = np.ones(batch)
            for j in self._sequence:
                table = self.tables[j][0]
                configuration = self._configuration(j, codes)
                if j in fixed:
                    codes[:, j] = fixed[j]
                    keep *= table[fixed[j], configuration] / table[fixed[j]].max()
                    continue
                cumulative = np.cumsum(table, axis=0)[:, configuration]
                codes[:, j] = np.minimum((rng.random(batch) > cumulative).sum(axis=0), len(table) - 1)
            chosen = codes[rng.random(batch) < keep] if fixed else codes
            drawn += batch
            kept.append(chosen[:missing])
            missing -= len(kept[-1])
            share = (n - missing + 1) / (drawn + 1)  # of those drawn so far that were kept
            batch = int(min(1.1 * missing / share + 64, 200_000))
        return np.concatenate(kept) if kept else np.empty((0, len(self.schema.features)), np.int64)

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


class BayesianNetwork:
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
    network_
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
        self.network_ = FittedNetwork(search, state, law)
        return self

    def sample(self, n: int, seed: int, conditions: Conditions | None = None) -> Cohort:
        """See `FittedNetwork.sample`."""
        return self.network_.sample(n, seed, conditions)
