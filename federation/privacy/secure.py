"""Secure aggregation of a round: what a host does for its centers, and the steps that the coordinator asks for.

1. *join* (once a task): who contributes, and their public keys.
2. *share* (once a session of many rounds): every center shares the secrets of all its rounds among its neighbours.
3. *answer*: the question itself. Every center masks its contribution; a host sends the sum of its centers'.
4. *reveal*: shares for taking the masks off. Only here a sum becomes readable, and only the sum over all survivors, if
   they were told of the same.

A session lasts as long as the same centers take part with the same keys, so that most rounds are steps 3 and 4.
A center that withholds its contribution does not join; one that is lost or late after step 2 is a dropout like any
other, and its masks are taken off by its neighbours' shares. If too few are left, the round fails and nothing is known.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from federation.algorithm import Algorithm
from federation.center import Question, built
from federation.contribution import Contribution, Contributions
from federation.group import CenterGroup
from federation.policy import Refused
from federation.privacy.aggregator import Aggregator, Layout, MaskedSum
from federation.privacy.fixed_point import FixedPoint, Floats, OutOfRange, Words, add
from federation.privacy.graph import graph_of, needed, neighbours_needed
from federation.privacy.keys import Identities, KeyRegistryError
from federation.privacy.masks import MaskStream
from federation.privacy.party import AHEAD, Opening, Party, ProtocolError, Shares
from federation.privacy.shamir import SHARE_BYTES
from federation.quorum import QuorumError, describe

logger = logging.getLogger("haemfed")

SMALLEST = 3
"""Of two centers each would see the other's numbers in the sum."""

MOST_AHEAD = 2**25
"""Bytes of masks that a host draws ahead at most."""

PAUSE = 0.0005
"""Seconds until it begins, so that its last answer is on its way: while it draws, it does nothing else."""

K = TypeVar("K", bound=Hashable)
Call = Callable[[str, Mapping[Any, tuple[Any, ...]]], Mapping[Any, Any]]
"""Asks hosts to take a step, ``(step, {host: arguments})``: the answers of those that answered. Why others did not is
noted by the caller."""


@dataclass(frozen=True)
class SecureAggregation:
    """Settings of secure aggregation.

    Parameters
    ----------
    threshold
        Fraction of the participants that must have masked for a sum to be revealed, and of a center's neighbours
        whose shares take its masks off. Above a half.
    neighbours
        With how many others a center masks; None for as few as the next two parameters allow
        (`federation.privacy.graph.neighbours_needed`).
    colluding, dropout
        Largest fractions of centers expected to collude with the coordinator, and to drop out of a round.
    fixed_point
        How numbers are encoded.
    """

    threshold: float = 0.55
    neighbours: int | None = None
    colluding: float = 0.05
    dropout: float = 0.1
    fixed_point: FixedPoint = FixedPoint()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        if not 0.5 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; it is a fraction above 0.5 and up to 1")
        if self.neighbours is not None and (self.neighbours < 2 or self.neighbours % 2):
            raise ValueError(f"neighbours is {self.neighbours}; it is an even number, 2 or more, or null")
        for name in ("colluding", "dropout"):
            if not 0 <= getattr(self, name) < 0.5:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a fraction below 0.5")

    def least(self, n: int) -> int:
        """Fewest of n centers over which a sum is revealed."""
        return max(SMALLEST, needed(self.threshold, n))

    def sharers(self, n: int) -> int:
        """How many of n centers certainly add a share of the noise to a sum that is revealed, and tell nobody."""
        return max(1, self.least(n) - math.floor(self.colluding * n))

    def degree(self, n: int) -> int:
        """Neighbours of each of n centers."""
        if self.neighbours is not None:
            return self.neighbours
        return neighbours_needed(n, self.threshold, self.colluding, self.dropout)


class FixedPointSum:
    """Adds up contributions of a host in fixed point, each masked by its center before it is added.

    Parameters
    ----------
    fixed_point, centers
        How numbers are encoded, so that sums over so many centers cannot overflow.
    rows
        Arrays whose rows are added up into one (`Algorithm.rows_of_centers`; `with_rows` gives them back).
    mask
        Masks a center's numbers in place; None adds them up bare (what secure aggregation must equal).
    """

    def __init__(
        self,
        fixed_point: FixedPoint,
        centers: int,
        rows: frozenset[str] = frozenset(),
        mask: Callable[[str, Words], None] | None = None,
    ) -> None:
        self._fixed_point, self._centers, self._rows, self._mask = fixed_point, centers, rows, mask
        self.members: list[str] = []
        self.layout: Layout | None = None
        self.words: Words | None = None
        self._flattened: tuple[Contributions, Layout, Floats] | None = None

    def unfit(self, contributions: Contributions) -> Mapping[int, Exception]:
        """Why some contributions cannot be added, by index."""
        (layout, values), bound = self._flat(contributions), self._fixed_point.bound(self._centers)
        reasons = {}
        for i in np.flatnonzero(~(np.abs(values) < bound).all(axis=1)):
            try:
                self._fixed_point.encode(values[i], self._centers)
            except OutOfRange as error:
                reasons[int(i)] = _refused(layout, error)
        return reasons

    def require(self, contribution: Contribution) -> None:
        """Raise as `add` does, and add nothing."""
        if contribution:
            self._encoded(contribution)

    def add(self, contribution: Contribution, center: str) -> None:
        """Add one center's.

        Raises
        ------
        Refused
            If it does not fit into the fixed point.
        ValueError
            If names or shapes differ from the others'.
        """
        self._add([center], *self._encoded(contribution))

    def _encoded(self, contribution: Contribution) -> tuple[Layout, Words]:
        arrays = {name: contribution[name] for name in sorted(contribution)}
        for name in self._rows & arrays.keys():  # one of the rows is this center's, the others are zeros
            arrays[name] = arrays[name].sum(axis=0, keepdims=True)
        layout = tuple((name, array.shape) for name, array in arrays.items())
        values = np.concatenate([[float(contribution.patients)], *(array.ravel() for array in arrays.values())])
        self._require_layout(layout)
        try:
            return layout, self._fixed_point.encode(values, self._centers)[None]
        except OutOfRange as error:
            raise _refused(layout, error) from None

    def add_stacked(self, contributions: Contributions, centers: Sequence[str]) -> None:
        """Add those of many centers."""
        if centers:
            layout, values = self._flat(contributions)
            self._add(centers, layout, self._fixed_point.encode_rows(values, self._centers))

    def merge(self, other: FixedPointSum) -> None:
        """Add another host's part, or another part of this host's."""
        if other.words is None or other.layout is None:
            return
        self._merge(other.members, other.layout, other.words)

    def _flat(self, contributions: Contributions) -> tuple[Layout, Floats]:
        """Layout, and one row a center."""
        if self._flattened is not None and self._flattened[0] is contributions:  # asked whether it fits, then added
            return self._flattened[1:]
        k, shapes = len(contributions), contributions.shapes
        columns: list[Floats] = [contributions.patients.astype(np.float64)[:, None]]
        layout = []
        for name in sorted(shapes):
            array = contributions.arrays.get(name)
            if name in self._rows:
                array = contributions.rows[name][:, None] if array is None else array.sum(axis=1, keepdims=True)
            elif array is None:
                array = np.zeros((k, *shapes[name]))
                array[np.arange(k), contributions.positions] = contributions.rows[name]
            layout.append((name, array.shape[1:]))
            columns.append(array.reshape(k, -1))
        self._flattened = contributions, tuple(layout), np.concatenate(columns, axis=1)
        return self._flattened[1:]

    def _add(self, centers: Sequence[str], layout: Layout, words: Words) -> None:
        self._require_layout(layout)  # before they mask: a center masks once
        if self._mask is not None:
            for center, mine in zip(centers, words, strict=True):
                self._mask(center, mine)
        self._merge(centers, layout, words)

    def _require_layout(self, layout: Layout) -> None:
        if self.layout is not None and layout != self.layout:
            raise ValueError(f"contributions differ in {sorted(set(self.layout) ^ set(layout))}")

    def _merge(self, members: Sequence[str], layout: Layout, words: Words) -> None:
        self._require_layout(layout)
        if self.words is None:
            self.layout, self.words = layout, np.zeros(words.shape[-2:], dtype=np.uint64)
        add(self.words, words)
        self.members += members


def with_rows(total: Contribution, rows: frozenset[str], centers: int) -> Contribution:
    """A sum whose arrays with a row for each center have all of their rows again; what is known is in the first."""
    if not rows & total.keys():
        return total
    arrays = dict(total)
    for name in rows & total.keys():
        arrays[name] = np.concatenate([total[name], np.zeros((centers - 1, *total[name].shape[1:]))])
    return Contribution.of(total.patients, arrays)


class Parties:
    """The centers of a host in secure aggregation: each has its own keys and masks for itself.

    Parameters
    ----------
    group
        The centers.
    settings
        Of secure aggregation.
    identities
        By which centers know each other; None takes any key that the coordinator passes on.
    ahead
        Whether to draw a round's masks between rounds, in a thread, while the host would wait for the coordinator.
    """

    def __init__(
        self,
        group: CenterGroup,
        settings: SecureAggregation,
        identities: Identities | None = None,
        ahead: bool = False,
    ) -> None:
        self._group, self.settings, self._identities = group, settings, identities
        self._thread = ThreadPoolExecutor(1) if ahead else None
        self._preparing: Future[None] | None = None
        self._stream: MaskStream | None = None
        self._parties: dict[str, Party] = {}
        self._session, self._names, self._least = "", frozenset[str](), SMALLEST
        self._question: Question | None = None
        self._ready: set[str] = set()
        self._failed: dict[str, str] = {}

    def join(self, question: Question, left_out: Sequence[str]) -> tuple[dict[str, bytes], dict[str, str]]:
        """Public keys of the centers that will contribute, and why others cannot."""
        self._settle()
        joining, failed = {}, {}
        self._question = question = replace(question, masked="join")
        for center in self._group.centers:
            if center.name in left_out:
                continue
            try:
                patients = center.patients(question)
                if why := center.withholds(patients):
                    center.log(question, withheld=why)
                    continue
                if center.name not in self._parties:
                    self._parties[center.name] = Party(center.name, self._identities)
            except Exception as error:  # one center's failure must not take the others down
                failed[center.name] = center.note(error, question)
                continue
            joining[center.name] = self._parties[center.name].announcement
        return joining, failed

    def share(self, session: str, keys: Mapping[str, bytes], rounds: int) -> tuple[dict[str, Shares], dict[str, str]]:
        """Begin a session of some rounds with the centers that joined, given everybody's keys; why others abstain.

        A center whose key is not among them (it was started anew since it joined) takes no part.

        Raises
        ------
        ProtocolError
            If they are too few, or one is not signed by the identity that this node's registry has for its center:
            neighbours or not, so many are to share the noise of a sum.
        """
        graph = graph_of(tuple(sorted(keys)), self.settings.threshold, self.settings.degree(len(keys)))
        if len(keys) < SMALLEST:
            raise ProtocolError(f"{len(keys)} centers take part in secure aggregation; {SMALLEST} are needed")
        if self._identities is not None:
            try:
                for name, key in keys.items():
                    self._identities.opened(name, key)
            except KeyRegistryError as error:
                raise ProtocolError(str(error)) from None
        self._settle()
        self._session, self._names, self._ready, self._failed = session, frozenset(keys), set(), {}
        self._least = self.settings.least(len(keys))
        found, abstained, least = {}, {}, graph.threshold + 1  # so many neighbours, and the center itself
        for center in self._group.centers:
            party = self._parties.get(center.name)
            if party is None or keys.get(center.name) != party.announcement:
                continue
            if center.policy.min_centers > least:
                refusal = Refused(
                    f"rule min_centers: masks could come off a sum over {least} centers, the policy wants "
                    f"{center.policy.min_centers}"
                )
                abstained[center.name] = center.note(refusal, self._question)
                continue
            neighbours = {n: keys[n] for n in graph.neighbours[center.name]}
            found[center.name] = party.share(session, neighbours, graph.threshold, rounds)
        return found, abstained

    def answer(
        self, question: Question, session: str, number: int, inboxes: Mapping[str, Mapping[str, bytes]]
    ) -> tuple[MaskedSum | None, dict[str, str]]:
        """The masked sum of the answers of the centers in the session, and why others failed.

        Parameters
        ----------
        number
            Which of the session's rounds this is.
        inboxes
            The shares of each center's neighbours, with the first round.
        """
        self._require(session)
        for name, shares in inboxes.items():
            try:
                self._parties[name].receive(session, shares)
                self._ready.add(name)
            except ProtocolError as error:
                self._failed[name] = str(error)

        def mask(name: str, words: Words) -> None:
            if self._stream is None or self._stream.shape != words.shape:
                self._stream = MaskStream(words.shape)
            self._parties[name].mask(session, number, words, self._stream)

        rows = built(question.algorithm).rows_of_centers

        def empty() -> FixedPointSum:
            return FixedPointSum(self.settings.fixed_point, len(self._names), rows, mask)

        left_out = [c.name for c in self._group.centers if c.name not in self._ready]
        asked = replace(
            question,
            masked=f"{session} {number}",
            sharers=self.settings.sharers(len(self._names)),
            registered=self._identities is not None,
        )
        total, dropouts = self._group.add_up(asked, left_out, empty)
        if total.words is None or total.layout is None:
            return None, self._failed | dropouts
        return MaskedSum(tuple(total.members), total.layout, total.words), self._failed | dropouts

    def reveal(self, session: str, number: int, survivors: Sequence[str]) -> tuple[dict[str, Opening], dict[str, str]]:
        """Each surviving center's shares for its neighbours' masks, and why others give none.

        Raises
        ------
        ProtocolError
            If the sum would be over fewer than the centers' shares of noise were made for.
        """
        self._require(session)
        alive = self._names.intersection(survivors)
        if len(alive) < self._least:
            raise ProtocolError(f"{len(alive)} centers survived; the noise of a sum needs {self._least}")
        found, failed = {}, {}
        for name in (n for n in self._parties if n in alive and n in self._ready):
            try:
                found[name] = self._parties[name].reveal(session, number, alive)
            except ProtocolError as error:
                failed[name] = str(error)
        if self._thread is not None and self._stream is not None and self._stream.nbytes * len(found) <= MOST_AHEAD:
            self._preparing = self._thread.submit(self._prepare, session, number + 1, self._stream, tuple(found))
        return found, failed

    def _prepare(self, session: str, number: int, stream: MaskStream, names: Sequence[str]) -> None:
        time.sleep(PAUSE)
        for name in names:
            self._parties[name].prepare(session, number, stream)

    def _settle(self) -> None:
        """Let what is drawn ahead be finished: from here on this thread is alone."""
        if self._preparing is not None:
            self._preparing.result()
            self._preparing = None

    def _require(self, session: str) -> None:
        self._settle()
        if session != self._session:
            raise ProtocolError(f"the centers of this host are not in session {session!r}")


STEPS = ("join", "share", "answer", "reveal")


def rounds_ahead(centers: int, neighbours: int) -> int:
    """How many rounds a session prepares: up to `AHEAD`, and so that the shares take about 32 MiB in all."""
    return max(1, min(AHEAD, 2**25 // (2 * SHARE_BYTES * centers * neighbours)))


@dataclass
class _Session:
    """Of the coordinator: who takes part, the shares, and the number of the next round."""

    name: str
    keys: Mapping[str, bytes]
    rounds: int
    aggregator: Aggregator
    abstained: dict[str, str] = field(default_factory=dict)
    """Why centers that joined take no part."""
    next: int = 0


@dataclass
class SecureRounds:
    """The coordinator's half: asks hosts for the steps, round after round.

    Parameters
    ----------
    settings
        Of secure aggregation.
    left_out
        Centers that are not asked.
    hosts
        Whom to ask; may change between rounds. The same host has the same name here from task to task.
    min_centers
        Fewest centers in a sum; at least `SMALLEST`.

    Attributes
    ----------
    keys
        Public keys of who joined, by host; forgotten when a host fails, which may have lost its own.
    unable
        Why others of a host did not join.
    """

    settings: SecureAggregation
    left_out: tuple[str, ...] = ()
    hosts: Sequence[Hashable] = ()
    min_centers: int = SMALLEST
    keys: dict[Any, dict[str, bytes]] = field(default_factory=dict)
    unable: dict[Any, dict[str, str]] = field(default_factory=dict)
    _asked: tuple[object, ...] | None = None
    _session: _Session | None = None

    def ask(
        self,
        algorithm: Algorithm,
        question: Question,
        call: Call,
        failed: dict[str, str],
        enough: Callable[[], None],
    ) -> Contribution:
        """The sum of the centers' answers to a question.

        Parameters
        ----------
        call
            Asks hosts for a step, and notes in `failed` what fails.
        failed
            Why centers dropped out, by name.
        enough
            Raises QuorumError if too many have; called before anything can be revealed.

        Raises
        ------
        QuorumError
            If too few centers are left to reveal a sum.
        """
        if algorithm.needs_single_contributions:
            raise ValueError(
                f"algorithm {algorithm.name!r} has to see each center's contribution by itself, which secure "
                "aggregation prevents; leave out secure_aggregation or choose an algorithm that works on sums"
            )
        asked = (question.task, question.split, self.left_out)
        if self._asked != asked:  # other centers may withhold
            self.keys, self._asked = {}, asked
        answered = set(self.hosts)
        try:
            return self._ask(algorithm, question, call, failed, enough, answered)
        except ProtocolError as error:
            raise QuorumError(f"round {question.round}: secure aggregation: {error}") from None
        finally:
            if len(answered) < len(self.hosts):  # a host that failed may not know the session
                self._session = None
            for host in [h for h in self.keys if h not in answered]:
                del self.keys[host]

    def _ask(
        self,
        algorithm: Algorithm,
        question: Question,
        call: Call,
        failed: dict[str, str],
        enough: Callable[[], None],
        answered: set[Any],
    ) -> Contribution:
        hosts = self.hosts

        def step(name: str, arguments: Mapping[Any, tuple[Any, ...]]) -> Mapping[Any, Any]:
            found = call(name, arguments)
            answered.difference_update(arguments.keys() - found.keys())
            return found

        for host, (keys, why) in step("join", {h: (self.left_out,) for h in hosts if h not in self.keys}).items():
            self.keys[host], self.unable[host] = keys, why
        for host in hosts:
            failed |= self.unable.get(host, {})
        everybody = {name: key for host in hosts for name, key in self.keys.get(host, {}).items()}
        names = tuple(sorted(everybody))
        if len(names) < SMALLEST:
            raise ProtocolError(
                f"{len(names)} centers take part, {SMALLEST} are needed: of two, each would see the other's numbers"
            )
        least = max(SMALLEST, self.min_centers, needed(self.settings.threshold, len(names)))
        graph = graph_of(names, self.settings.threshold, self.settings.degree(len(names)))
        session, inboxes = self._session, {}
        if session is None or session.keys != everybody or session.next == session.rounds:
            session = _Session(
                f"{question.task} {secrets.token_hex(16)}",
                everybody,
                rounds_ahead(len(names), len(graph.neighbours[names[0]])),
                Aggregator(graph, self.settings.fixed_point),
            )
            self._session = session
            invited = {h: (session.name, everybody, session.rounds) for h in hosts if self.keys.get(h)}
            for shares, why in step("share", invited).values():
                session.aggregator.take_shares(shares)
                session.abstained |= why
            inboxes = _by_host(session.aggregator.inboxes(), self.keys)
        failed |= session.abstained
        aggregator, number = session.aggregator, session.next
        aggregator.begin(number)
        session.next += 1
        taking = [h for h in hosts if any(name in aggregator.participants for name in self.keys.get(h, ()))]
        answers = step("answer", {h: (session.name, number, inboxes.get(h, {})) for h in taking})
        for host in (h for h in hosts if h in answers):  # in the order of hosts, not of arrival
            part, why = answers[host]
            failed |= why
            if part is None:
                continue
            try:
                aggregator.take_masked(part)
            except (ValueError, TypeError, AttributeError) as error:
                failed |= dict.fromkeys(part.members, f"sent what cannot be added: {describe(error)}")
        survivors = tuple(sorted(aggregator.survivors))
        enough()
        if len(survivors) < least:
            raise ProtocolError(f"{len(survivors)} of {len(names)} centers sent their numbers, {least} are needed")
        alive = {h: (session.name, number, survivors) for h in hosts if set(self.keys.get(h, ())) & set(survivors)}
        openings: dict[str, Opening] = {}
        for found, why in step("reveal", alive).values():
            openings |= found
            failed |= why
        total = with_rows(aggregator.result(openings), algorithm.rows_of_centers, question.centers)
        if why := algorithm.reject(total):
            raise QuorumError(f"round {question.round}: {why}; whose it is cannot be told from a sum")
        return total


def _refused(layout: Layout, error: OutOfRange) -> Refused:
    """Which array's number does not fit."""
    first = 1
    for name, shape in layout:
        first += math.prod(shape)
        if error.index < first:
            return Refused(f"{name!r}: {error}", f"it is {error.value:.6g}")
    return Refused(f"patients: {error}", f"it is {error.value:.6g}")


def _by_host(by_center: Mapping[str, Any], keys: Mapping[Any, Mapping[str, bytes]]) -> dict[Any, dict[str, Any]]:
    """What is for centers, as what is for hosts."""
    found = {host: {name: by_center[name] for name in names if name in by_center} for host, names in keys.items()}
    return {host: inbox for host, inbox in found.items() if inbox}
