"""Hill climbing over Bayesian networks as a state machine: a state, the counts it asks for, the next state.

1. *Marginals*: histograms of every variable; bins follow from their sum.
2. *Pairs*: counts of every two variables, which score all networks of one edge.
3. After every accepted move, counts of the nodes whose parents changed, by state of every variable: they score every
   further parent of these nodes. An edge left out needs no question, since its family is a margin of a known one; nor
   does an edge turned round, which leaves out one and adds another.

Counts are whole numbers and add exactly, so that the network is the same whoever holds which patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort, Schema
from models.generative.discretization import Discretizer, marginal_counts
from models.generative.drawing import HOSPITAL
from models.generative.scores import Law, ScoreName, family_score, family_scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
State = Mapping[str, NDArray[Any]]

EVENT_TIME, CENSORING_TIME = "event_time", "censoring_time"
"""Names of the two last nodes."""

MARGINALS, PAIRS, FAMILIES, DONE = range(4)
ADD, REMOVE, FLIP = range(3)


@dataclass(frozen=True)
class SearchOptions:
    """What networks are searched, and how.

    Parameters
    ----------
    score
        ``bic`` or ``bdeu``.
    ess
        Equivalent sample size: of the score ``bdeu``, and of the prior by which probabilities are smoothed.
    bins, time_bins
        Most bins of a number, and of time.
    max_parents
        Of a feature or a time.
    max_rows
        Largest number of states of a child times configurations of its parents; bounds what a center sends.
    roots
        Features that have no parents; by default ``age``, where there is one, and the center, which age may depend on.
    forbidden, required
        Edges (parent, child) between features, ``event_time`` and ``censoring_time``.
    tabu
        A move is not taken back during so many further ones.
    min_gain
        Of the score; the search ends when no move gains as much.
    max_moves
        It ends then at the latest.
    """

    score: ScoreName = "bic"
    ess: float = 1.0
    bins: int = 8
    time_bins: int = 10
    max_parents: int = 3
    max_rows: int = 2048
    roots: tuple[str, ...] | None = None
    forbidden: tuple[tuple[str, str], ...] = ()
    required: tuple[tuple[str, str], ...] = ()
    tabu: int = 100
    min_gain: float = 1e-4
    max_moves: int = 10_000

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        for name in ("bins", "time_bins", "max_parents", "max_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; 1 or more")
        if self.ess <= 0:
            raise ValueError(f"ess is {self.ess}; more than 0 patients")
        if self.tabu < 0:
            raise ValueError(f"tabu is {self.tabu}; 0 (no list) or more moves")
        if self.min_gain <= 0:
            raise ValueError(
                f"min_gain is {self.min_gain}; more than 0, or equivalent networks follow each other without end"
            )


@dataclass(frozen=True)
class NetworkSearch:
    """The search.

    Parameters
    ----------
    schema
        Of the cohorts.
    options
        See `SearchOptions`.
    """

    schema: Schema
    options: SearchOptions = SearchOptions()

    def __post_init__(self) -> None:
        names, roots = self.nodes, self.options.roots
        for edge in (*self.options.forbidden, *self.options.required, *((root,) for root in roots or ())):
            for name in edge:
                if name not in names:
                    raise ValueError(f"no node is called {name!r}; there are {', '.join(names)}")
        if _cyclic(self._start_parents()):
            raise ValueError(f"the required edges make a cycle: {self.options.required}")
        for parent, child in self.options.required:
            if not self._allowed()[names.index(parent), names.index(child)]:
                raise ValueError(f"the edge {parent} → {child} is required and not allowed")
        if (most := int(self._start_parents().sum(0).max())) > self.options.max_parents:
            raise ValueError(f"required edges give a node {most} parents; max_parents is {self.options.max_parents}")

    @property
    def nodes(self) -> tuple[str, ...]:
        """The features, and last the times."""
        return (*self.schema.names, EVENT_TIME, CENSORING_TIME)

    def laws(self) -> tuple[Law, ...]:
        """Of the nodes."""
        features: list[Law] = ["categorical" for _ in self.schema.names]
        return (*features, "event", "censoring")

    def start(self) -> dict[str, NDArray[Any]]:
        """The first state."""
        return {"phase": np.array(MARGINALS), "moves": np.array(0)}

    def done(self, state: State) -> bool:
        """Whether the state is final."""
        return int(state["phase"]) == DONE

    def broadcast(self, state: State) -> dict[str, NDArray[Any]]:
        """What an answer needs of a state."""
        return {name: state[name] for name in ("phase", "bins", "missing", "time_bins", "asked") if name in state}

    # -- where the patients are --------------------------------------------------------------------------------------

    @staticmethod
    def answer(state: State, cohort: Cohort, codes: Ints | None = None) -> dict[str, Floats]:
        """The counts that a state asks for.

        Parameters
        ----------
        codes
            The patients' states (`Discretizer.encode`), if at hand.
        """
        if int(state["phase"]) == MARGINALS:
            return marginal_counts(cohort)
        discretizer = Discretizer.from_arrays(state)
        cards = discretizer.cards(cohort.schema)
        codes = discretizer.encode(cohort) if codes is None else codes
        offsets = np.append(0, np.cumsum(cards))
        if int(state["phase"]) == PAIRS:
            present = np.zeros((len(codes), offsets[-1]))
            present[np.arange(len(codes))[:, None], codes + offsets[:-1]] = 1.0
            return {"pairs": present.T @ present[:, : offsets[-2]]}
        return {f"family{i}": _count(codes, cards, family) for i, family in enumerate(state["asked"])}

    # -- where the sums arrive ---------------------------------------------------------------------------------------

    def update(self, state: State, total: Mapping[str, Floats], patients: int) -> dict[str, NDArray[Any]]:
        """The next state.

        Parameters
        ----------
        patients
            Behind the total.
        """
        new = dict(state)
        if int(state["phase"]) == MARGINALS:
            discretizer = Discretizer.of(total, self.options.bins, self.options.time_bins)
            new |= {f"marginal/{name}": array for name, array in total.items()}
            return new | discretizer.to_arrays() | {"phase": np.array(PAIRS), "counted": np.array(patients)}
        cards = Discretizer.from_arrays(state).cards(self.schema)
        if int(state["phase"]) == PAIRS:
            new |= self._score_pairs(total["pairs"], cards, patients)
            if "asked" in new:  # families of required edges
                return new
        else:
            for i, row in enumerate(state["asked"]):
                counts = total[f"family{i}"]
                for node in [
                    n for n in range(len(self.nodes)) if self._variable(n) == row[0] and self._is(new, n, row)
                ]:
                    self._score(new, node, counts, cards, patients)
        return self._move(new)

    def _variable(self, node: int) -> int:
        """The counted variable of a node: both times are counted as one."""
        return min(node, len(self.schema.names))

    def _is(self, state: State, node: int, row: Ints) -> bool:
        order = state["order"][node]
        return np.array_equal(order[order >= 0], row[1:][row[1:] >= 0])

    def _score_pairs(self, pairs: Floats, cards: Ints, patients: int) -> dict[str, NDArray[Any]]:
        nodes = len(self.nodes)
        new: dict[str, NDArray[Any]] = {
            "phase": np.array(FAMILIES),
            "order": np.full((nodes, self.options.max_parents), -1),
            "score": np.zeros(nodes),
            "gain": np.full((nodes, nodes), -np.inf),  # of another parent (row) of a child (column)
            "loss": np.full((nodes, nodes), -np.inf),  # gain by leaving out a parent
            "tabu": np.zeros((0, 3), np.int64),
        }
        offsets = np.append(0, np.cumsum(cards))
        for node in range(nodes):
            variable = self._variable(node)
            self._score(new, node, pairs[offsets[variable] : offsets[variable + 1]], cards, patients)
        for parent, child in np.argwhere(self._start_parents()):
            _append(new["order"], child, parent)
        wanted = [n for n in range(nodes) if new["order"][n][0] >= 0]
        if wanted:
            new["asked"] = self._ask(new["order"], wanted)
        return new

    def _score(self, state: dict[str, NDArray[Any]], node: int, counts: Floats, cards: Ints, patients: int) -> None:
        """File a node's family and the gains of its parents to be, and of those to be left out."""
        options, law, order = self.options, self.laws()[node], state["order"][node]
        parents = order[order >= 0]
        features = cards[:-1]
        states = int(cards[self._variable(node)])
        table = counts[:, : features[0]].sum(axis=1).reshape(states, -1)
        state[f"table/{node}"] = table
        by_parent = table.reshape(states, *features[parents])
        score = family_score(table, law, patients, options.score, options.ess)
        state["score"][node] = score
        gain, loss = np.full(len(self.nodes), -np.inf), np.full(len(self.nodes), -np.inf)
        if len(parents) < options.max_parents:
            block = counts.reshape(states, -1, int(features.sum()))
            gain[:-2] = family_scores(block, law, features, patients, options.score, options.ess) - score
            gain[:-2][table.size * features > options.max_rows] = -np.inf
            gain[parents] = -np.inf
        for i, parent in enumerate(parents):
            margin = by_parent.sum(axis=1 + i).reshape(states, -1)
            loss[parent] = family_score(margin, law, patients, options.score, options.ess) - score
        state["gain"][:, node], state["loss"][:, node] = gain, loss

    def _ask(self, order: Ints, nodes: list[int]) -> Ints:
        rows = {(self._variable(node), *order[node]) for node in nodes}
        return np.array(sorted(rows), np.int64)

    # -- moves -------------------------------------------------------------------------------------------------------

    def _start_parents(self) -> NDArray[np.bool_]:
        edges = np.zeros((len(self.nodes), len(self.nodes)), bool)
        for parent, child in self.options.required:
            edges[self.nodes.index(parent), self.nodes.index(child)] = True
        return edges

    def _allowed(self) -> NDArray[np.bool_]:
        """Which edges (parent, child) may be: none from a time, none to a root."""
        names, roots = self.nodes, self.options.roots
        allowed = ~np.eye(len(names), dtype=bool)
        allowed[-2:] = False
        for root in [n for n in ("age", HOSPITAL) if n in names] if roots is None else roots:
            allowed[:, names.index(root)] = False
        if roots is None and HOSPITAL in names and "age" in names:  # hospitals differ in their patients' age
            allowed[names.index(HOSPITAL), names.index("age")] = True
        for parent, child in self.options.forbidden:
            allowed[names.index(parent), names.index(child)] = False
        return allowed

    def _move(self, new: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The best move, and the families to ask for after it; the end if there is none."""
        order, moves = new["order"], int(new["moves"])
        edges = edges_of(order)
        required = self._start_parents()
        gains = self._gains(new, edges, required)
        best = int(np.argmax(np.round(gains, 8)))  # equivalent networks differ by rounding; the first of them is taken
        kind, parent, child = (int(i) for i in np.unravel_index(best, gains.shape))
        if not gains[kind, parent, child] >= self.options.min_gain or moves >= self.options.max_moves:
            working = ("gain", "loss", "tabu", "asked")
            return {n: a for n, a in new.items() if n not in working} | {"phase": np.array(DONE)}
        order = order.copy()
        if kind in (REMOVE, FLIP):
            _discard(order, child, parent)
        if kind == ADD:
            _append(order, child, parent)
        if kind == FLIP:
            _append(order, parent, child)
        undone = {ADD: (REMOVE, parent, child), REMOVE: (ADD, parent, child), FLIP: (FLIP, parent, child)}[kind]
        if self.options.tabu:
            new["tabu"] = np.concatenate([new["tabu"], [undone]])[-self.options.tabu :]
        new["order"], new["moves"] = order, np.array(moves + 1)
        new["asked"] = self._ask(order, [child, parent] if kind == FLIP else [child])
        return new

    def _gains(self, state: State, edges: NDArray[np.bool_], required: NDArray[np.bool_]) -> Floats:
        """Of every move (kind, parent, child); -inf where it is not allowed."""
        allowed, descends = self._allowed(), _closure(edges)
        gains = np.full((3, *edges.shape), -np.inf)
        gains[ADD] = np.where(allowed & ~edges & ~edges.T & ~descends.T, state["gain"], -np.inf)
        gains[REMOVE] = np.where(edges & ~required, state["loss"], -np.inf)
        around = (edges.astype(np.int64) @ descends.astype(np.int64)) > 0  # another way from parent to child
        turnable = edges & ~required & allowed.T & ~around
        gains[FLIP] = np.where(turnable, np.where(edges, state["loss"], 0.0) + state["gain"].T, -np.inf)
        for kind, parent, child in state["tabu"]:
            gains[kind, parent, child] = -np.inf
            if kind == FLIP:
                gains[kind, child, parent] = -np.inf
        return gains


def _count(codes: Ints, cards: Ints, family: Ints) -> Floats:
    """Counts by the family's states (child first), and in columns by each feature's states.

    A family with as many parents as there may be is counted by the states of the first feature alone, since it can have
    no further parent.
    """
    full = bool((family >= 0).all())
    family = family[family >= 0]
    features = cards[:1] if full else cards[:-1]
    row = np.ravel_multi_index(tuple(codes[:, family].T), tuple(cards[family]))
    rows, columns = int(np.prod(cards[family])), int(features.sum())
    offsets = np.append(0, np.cumsum(features)[:-1])
    flat = row[:, None] * columns + codes[:, : len(features)] + offsets
    counts = np.bincount(flat.ravel(), minlength=rows * columns)
    return counts.reshape(rows, columns).astype(np.float64)


def edges_of(order: Ints) -> NDArray[np.bool_]:
    """Edges (parent, child), shape (nodes, nodes), from parents in their order, rows filled up with -1."""
    edges = np.zeros((len(order), len(order)), bool)
    for child, parents in enumerate(order):
        edges[parents[parents >= 0], child] = True
    return edges


def _append(order: Ints, child: int, parent: int) -> None:
    order[child, int((order[child] >= 0).sum())] = parent


def _discard(order: Ints, child: int, parent: int) -> None:
    kept = order[child][(order[child] >= 0) & (order[child] != parent)]
    order[child] = -1
    order[child, : len(kept)] = kept


def _closure(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which node (column) can be reached from which (row)."""
    reached = edges.copy()
    for node in range(len(edges)):
        reached |= reached[:, node : node + 1] & reached[node]
    return reached


def _cyclic(edges: NDArray[np.bool_]) -> bool:
    return bool(_closure(edges).diagonal().any())
