"""A Bayesian network over centers: the same search as on one table, its counts added up over centers."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, Algorithm, Roster, register
from federation.contribution import Contribution
from federation.kinds import COUNT, WHOLE_COUNT, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.state import State
from harmonization import Schema
from models.generative import cells
from models.generative.bayesian_network import FittedNetwork
from models.generative.discretization import UNUSED, Discretizer
from models.generative.search import MARGINALS, PAIRS, NetworkSearch, SearchOptions
from models.generative.survival_law import SurvivalLaw

logger = logging.getLogger("haemfed")

_RESTARTS = 5
"""How often a search starts over because other centers answered than before."""


@register
@dataclass(frozen=True)
class FitBayesianNetwork(Algorithm):
    """The network of the training patients of all centers; `network_of` gives it.

    Takes as many broadcasts as moves are accepted, and two (three with required edges).

    Parameters
    ----------
    schema
        The federation's.
    options
        See `models.generative.search.SearchOptions`.

    Notes
    -----
    What leaves a center are counts, many of them of one patient or none, as in any table of many variables. They should
    be seen by nobody alone (secure sums): only their totals matter here. ``bins``, ``max_parents`` and ``max_rows``
    bound how fine they are.
    """

    name = "bayesian-network"
    kinds = declare(
        {
            "missing": WHOLE_COUNT,
            **dict.fromkeys(("values", "decimals", "events", "censored", "time_decimals", "pairs", "family*"), COUNT),
        }
    )

    schema: Schema | None = field(default=None, metadata=SERVER)
    options: SearchOptions = field(default=SearchOptions(), metadata=SERVER)

    @property
    def search(self) -> NetworkSearch:
        """The search, the same as on one table."""
        assert self.schema is not None, "the coordinator needs the schema"
        return NetworkSearch(self.schema, self.options)

    def start(self, roster: Roster) -> State:
        """Nothing is known."""
        return {"round": np.array(0), "restarts": np.array(0), **self.search.start()}

    def done(self, state: State) -> bool:
        """Once no move gains anything."""
        return self.search.done(state)

    def broadcast(self, state: State) -> State:
        """Bins, and the families asked for."""
        return self.search.broadcast(state)

    def bounds(self, state: State, schema: Schema) -> dict[str, float]:
        """A patient has one value of each feature, and so one cell of each table."""
        features, numbers = len(schema.features), sum(f.numeric for f in schema.features)
        if int(state["phase"]) == MARGINALS:
            each = {"missing": features, "values": numbers, "decimals": numbers}
            of_feature = {name: float(np.sqrt(count)) for name, count in each.items() if count}
            return {**of_feature, "events": 1.0, "censored": 1.0, "time_decimals": 1.0}
        if int(state["phase"]) == PAIRS:
            return {"pairs": float(np.sqrt(features * (features + 1)))}
        return {f"family{i}": 1.0 for i in range(len(state["asked"]))}

    def cuts(self, state: State, schema: Schema) -> dict[str, list[float]]:
        """The upper ends of the bins, which follow from the patients of all centers."""
        if int(state["phase"]) == MARGINALS:
            return {}
        numbers = [feature.name for feature in schema.features if feature.numeric]
        known = [row[row != UNUSED] for row in Discretizer.from_arrays(state).bins]
        return {name: cells.bounds(ends, ends)[1].tolist() for name, ends in zip(numbers, known, strict=True)}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Counts of training patients."""
        codes = None if int(state["phase"]) == MARGINALS else _codes(patients, state)
        return Contribution.of(len(patients.train), NetworkSearch.answer(state, patients.train, codes))

    def server_update(self, state: State, total: Contribution) -> State:
        """The best move; from the beginning if other patients answered than before.

        Raises
        ------
        ValueError
            If that happens again and again.
        """
        counters = {"round": np.array(int(state["round"]) + 1)}
        if int(state["phase"]) == MARGINALS:
            total = self._possible(total)
        if int(state["phase"]) == MARGINALS or total.patients == int(state["counted"]):
            return {**self.search.update(state, total, total.patients), **counters}
        restarts = int(state["restarts"]) + 1
        if restarts > _RESTARTS:
            raise ValueError(
                f"centers came and went {restarts} times during the search (now {total.patients} patients, before "
                f"{state['counted']}); leave out those that are not steadily reachable"
            )
        logger.warning(
            "%s: %d patients answered, %d before; starting over", self.name, total.patients, state["counted"]
        )
        return {**self.search.start(), **counters, "restarts": np.array(restarts)}

    def _possible(self, total: Contribution) -> Contribution:
        """Without counts of values that nobody has, which noise made up: out of range, no whole number, negative."""
        assert self.schema is not None
        numbers = [feature for feature in self.schema.features if feature.numeric]
        place, arrays = np.arange(cells.SIZE), dict(total)
        least = cells.cell_of(np.zeros(1))
        for name in ("events", "censored"):
            arrays[name] = np.where(place < least, 0.0, total[name])
        if numbers:
            low = cells.cell_of(np.array([-np.finfo(float).max if f.low is None else f.low for f in numbers]))
            high = cells.cell_of(np.array([np.finfo(float).max if f.high is None else f.high for f in numbers]))
            possible = (place >= low[:, None]) & (place <= high[:, None])
            whole = np.unique(cells.cell_of(np.arange(2.0**cells.HIGHEST)))
            possible[[f.kind == "count" for f in numbers]] &= np.isin(place, whole)
            arrays["values"] = np.where(possible, total["values"], 0.0)
        return Contribution.of(total.patients, arrays)

    def metrics(self, state: State) -> dict[str, float]:
        """Accepted moves and the score so far."""
        score = {"score": float(state["score"].sum())} if "score" in state else {}
        return {"moves": float(state["moves"]), **score}


def network_of(state: State, algorithm: FitBayesianNetwork, law: SurvivalLaw | None = None) -> FittedNetwork:
    """The network in a final state, with laws of times (`federation.generative.fit_survival_law`) if there are any."""
    return FittedNetwork(algorithm.search, {n: a for n, a in state.items() if n not in ("round", "restarts")}, law)


_CODES: WeakKeyDictionary[Patients, tuple[bytes, NDArray[np.int64]]] = WeakKeyDictionary()


def _codes(patients: Patients, state: State) -> NDArray[np.int64]:
    """The training patients' states, computed once for the same bins."""
    discretizer = Discretizer.from_arrays(state)
    key = b"".join(np.ascontiguousarray(a).tobytes() for a in discretizer.to_arrays().values())
    found = _CODES.get(patients)
    if found is None or found[0] != key:
        found = _CODES[patients] = key, discretizer.encode(patients.train)
    return found[1]
