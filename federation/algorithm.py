"""The protocol of a federated algorithm, and the loop that runs any of them.

An algorithm has two halves. ``client_update`` runs inside a center, behind its wall, and answers with a contribution.
The rest runs at the coordinator and sees only the sum of the contributions.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, get_type_hints

import numpy as np
from pydantic import TypeAdapter

from federation.contribution import Contribution, Contributions
from federation.kinds import Kind
from federation.memory import Memory
from federation.patients import PatientGroup, Patients
from federation.state import State
from harmonization import Schema
from models.batched.streams import Streams

if TYPE_CHECKING:
    from federation.privacy.dp.mechanism import Mechanism

A = TypeVar("A", bound="Algorithm")

SERVER = {"server": True}
"""Metadata of a dataclass field that stays at the coordinator and is not declared to centers."""


@dataclass(frozen=True)
class Roster:
    """The centers that take part, and the seed of the run.

    Parameters
    ----------
    names
        All centers of the federation, in a fixed order; an answer's rows per center follow it.
    seed
        Of every random number drawn in the run.
    """

    names: tuple[str, ...]
    seed: int = 0


class Algorithm(ABC):
    """A federated algorithm: a frozen dataclass of plain parameters, registered under a name.

    A center rebuilds it from its declaration, the name and parameters as JSON; code never travels.
    """

    name: ClassVar[str]
    needs_single_contributions: ClassVar[bool] = False
    """Whether it has to tell the centers' contributions apart; then it is refused under secure aggregation."""
    rows_of_centers: ClassVar[frozenset[str]] = frozenset()
    """Arrays with a row for each center, of which the algorithm needs no more than the sum over rows. Under secure
    aggregation all centers add to the first row, since a row of its own would be a center's number bare."""
    under_noise: ClassVar[str] = ""
    """Name of an algorithm for the same end whose answers have bounds, where this one's have none."""
    kinds: ClassVar[Mapping[str, Kind]] = {}
    """What kind of thing each array of an answer is, by name or pattern (`federation.kinds`)."""

    @abstractmethod
    def start(self, roster: Roster) -> State:
        """The first state, with ``round`` 0."""

    @abstractmethod
    def done(self, state: State) -> bool:
        """Whether the state is final."""

    @abstractmethod
    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """A center's answer to a state; must depend on its arguments alone, since a question may be asked twice."""

    def client_updates(
        self, state: State, patients: PatientGroup, streams: Streams, memories: Sequence[Memory]
    ) -> Iterator[Contributions] | None:
        """The answers of many centers computed together, equal to `client_update` of each.

        Yields them in the order of the centers, in parts that fit in memory; None (the default) if the algorithm has no
        such way and each center has to be asked by itself.

        Parameters
        ----------
        streams, memories
            Each center's generator and memory.
        """
        return None

    @abstractmethod
    def server_update(self, state: State, total: Contribution) -> State:
        """The next state, from the sum of the centers' answers."""

    def bounds(self, state: State, schema: Schema) -> Mapping[str, float]:
        """By how much (Euclidean norm) one patient can change each array of an answer, whatever the patients are; for
        noise on counts and sums (`federation.privacy.dp.statistics.Noisy`). Nothing by default: not known."""
        return {}

    def cuts(self, state: State, schema: Schema) -> Mapping[str, Sequence[float]]:
        """The values at which an answer to a state divides patients to count them, by feature; none by default."""
        return {}

    def mechanism(self, state: State, schema: Schema) -> Mechanism | None:
        """The noise under which answers to a state leave a center of this schema; None (the default) for none."""
        return None

    def reject(self, contribution: Contribution) -> str:
        """Why the coordinator should not take a (partial) sum, whatever the centers' walls thought; else empty."""
        return ""

    def broadcast(self, state: State) -> State:
        """The part of the state that centers need; everything by default."""
        return state

    def metrics(self, state: State) -> dict[str, float]:
        """What a person wants to see after a round; nothing by default."""
        return {}

    def declare(self) -> str:
        """Name and parameters as JSON."""
        mine = [f for f in fields(self) if not f.metadata.get("server")]  # type: ignore[arg-type]
        values = {f.name: getattr(self, f.name) for f in mine}
        plain = json.loads(TypeAdapter(dict[str, Any]).dump_json(values))
        return json.dumps({"algorithm": self.name, "parameters": plain}, sort_keys=True)


def answers_together(
    algorithm: Algorithm, state: State, patients: PatientGroup, streams: Streams, memories: Sequence[Memory]
) -> Iterator[Contributions] | None:
    """`Algorithm.client_updates`, unless a subclass has changed what one center does and not what many do."""
    ancestors = type(algorithm).__mro__
    one, many = (next(i for i, c in enumerate(ancestors) if n in vars(c)) for n in ("client_update", "client_updates"))
    return None if one < many else algorithm.client_updates(state, patients, streams, memories)


_REGISTRY: dict[str, type[Algorithm]] = {}


def register(cls: type[A]) -> type[A]:
    """Make an algorithm known by its name, so that centers can build it from a declaration."""
    _REGISTRY[cls.name] = cls
    return cls


def build(declaration: str) -> Algorithm:
    """Build an algorithm from its declaration.

    Raises
    ------
    ValueError
        If the name is not registered here or a parameter is wrong: a center runs only what it has installed.
    """
    declared = json.loads(declaration)
    name = declared["algorithm"]
    if name not in _REGISTRY:
        raise ValueError(f"this center knows no algorithm {name!r}; it has {', '.join(sorted(_REGISTRY))}")
    cls = _REGISTRY[name]
    kinds = get_type_hints(cls)
    known = {f.name for f in fields(cls) if not f.metadata.get("server")}  # type: ignore[arg-type]
    for parameter in declared["parameters"].keys() - known:
        raise ValueError(f"algorithm {name!r} has no parameter {parameter!r}; it has {', '.join(sorted(known))}")
    return cls(**{p: TypeAdapter(kinds[p]).validate_python(v) for p, v in declared["parameters"].items()})


class Federation(Protocol):
    """Centers that can be asked together: in this process or behind Ray."""

    @property
    def roster(self) -> Roster:
        """Who takes part."""

    def ask(self, algorithm: Algorithm, state: State) -> Contribution:
        """Broadcast the state, let each center answer behind its wall, and add up.

        Raises
        ------
        QuorumError
            If too few centers answered.
        """


Hook = Callable[[State], bool | None]
"""Called after every round with the new state; returning True stops the run."""


def rounds(algorithm: Algorithm, federation: Federation, state: State | None = None) -> Iterator[State]:
    """Ask, add up, update, until the algorithm is done; yields the state after every round.

    Parameters
    ----------
    state
        Where to go on from, e.g. a checkpoint; the algorithm's first state by default.
    """
    state = algorithm.start(federation.roster) if state is None else state
    while not algorithm.done(state):
        total = federation.ask(algorithm, state)
        state = algorithm.server_update(state, total)
        yield state


def run(
    algorithm: Algorithm, federation: Federation, state: State | None = None, after_round: Sequence[Hook] = ()
) -> State:
    """Run an algorithm to its end (see `rounds`) and return its final state.

    Parameters
    ----------
    after_round
        Hooks for checkpoints, progress, tracking.
    """
    final = state
    for final in rounds(algorithm, federation, state):
        if any([hook(final) for hook in after_round]):
            break
    if final is None:
        raise ValueError(f"{algorithm.name} was done before its first round")
    return final
