"""The protocol between parties and coordinator: dropouts at every step, and what the coordinator could learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from federation.contribution import Contribution
from federation.privacy.aggregator import Aggregator, MaskedSum
from federation.privacy.fixed_point import FixedPoint, Words, add
from federation.privacy.graph import Graph, graph_of
from federation.privacy.masks import MaskStream
from federation.privacy.party import Opening, Party, ProtocolError, Shares
from federation.privacy.shamir import InconsistentShares, combine

FORMAT = FixedPoint()
LAYOUT = (("x", (3,)),)


@dataclass
class Session:
    """A session step by step, with everything that the coordinator receives."""

    numbers: Mapping[str, list[float]]
    degree: int = 100
    threshold: float = 0.55
    masked: dict[str, np.ndarray] = field(default_factory=dict)
    shares: dict[str, Shares] = field(default_factory=dict)
    openings: dict[str, Opening] = field(default_factory=dict)
    rounds: int = 1

    def __post_init__(self) -> None:
        self.names = sorted(self.numbers)
        self.parties = {name: Party(name) for name in self.names}
        self.graph: Graph = graph_of(tuple(self.names), self.threshold, self.degree)
        self.aggregator = Aggregator(self.graph, FORMAT)

    def run(
        self,
        silent: frozenset[str] = frozenset(),
        lost: frozenset[str] = frozenset(),
        late: frozenset[str] = frozenset(),
        told: Callable[[str, frozenset[str]], frozenset[str]] = lambda _, survivors: survivors,
    ) -> Contribution:
        """Who never shares, who is lost before it sends its numbers, and who after; what each is told of survivors."""
        self.share(silent)
        return self.round(0, silent | lost, late, told)

    def share(self, silent: frozenset[str] = frozenset()) -> None:
        """The beginning of a session."""
        for name, party in self.parties.items():
            if name not in silent:
                keys = {n: self.parties[n].public for n in self.graph.neighbours[name]}
                self.shares[name] = party.share("one", keys, self.graph.threshold, self.rounds)
        self.aggregator.take_shares(self.shares)
        self.inboxes = self.aggregator.inboxes()

    def round(
        self,
        number: int,
        lost: frozenset[str] = frozenset(),
        late: frozenset[str] = frozenset(),
        told: Callable[[str, frozenset[str]], frozenset[str]] = lambda _, survivors: survivors,
    ) -> Contribution:
        """One round of the session."""
        self.aggregator.begin(number)
        self.openings.clear()
        for name in self.inboxes:
            if name in lost:
                continue
            if inbox := self.inboxes[name]:
                self.parties[name].receive("one", inbox)
                self.inboxes[name] = {}
            words = FORMAT.encode(np.array([1.0, *self.numbers[name]]), len(self.names))
            self.parties[name].mask("one", number, words, MaskStream(words.shape))
            self.masked[name] = words.copy()
            self.aggregator.take_masked(MaskedSum((name,), LAYOUT, words))
        survivors = frozenset(self.aggregator.survivors)
        for name in survivors - late:
            self.openings[name] = self.parties[name].reveal("one", number, told(name, survivors))
        return self.aggregator.result(self.openings)


def bare(numbers: Mapping[str, list[float]], names: Any) -> np.ndarray:
    """The sum in fixed point without masks."""
    total = FORMAT.encode(np.zeros(3), len(numbers))
    for name in names:
        add(total, FORMAT.encode(np.array(numbers[name]), len(numbers)))
    return FORMAT.decode(total)


def some(n: int, seed: int = 0) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    return {f"hospital {i}": (rng.normal(size=3) * 10.0 ** rng.integers(-8, 8)).tolist() for i in range(n)}


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 14), st.sampled_from([4, 8, 100]), st.data())
def test_the_sum_of_the_survivors_bit_for_bit_or_nothing(n: int, degree: int, data: st.DataObject) -> None:
    numbers = some(n, n)
    fate = data.draw(st.lists(st.sampled_from(["stays"] * 5 + ["silent", "lost", "late"]), min_size=n, max_size=n))
    gone = {f: frozenset(name for name, x in zip(sorted(numbers), fate, strict=True) if x == f) for f in set(fate)}
    session = Session(numbers, degree)
    try:
        found = session.run(*(gone.get(kind, frozenset()) for kind in ("silent", "lost", "late")))
    except ProtocolError:
        assert any(x != "stays" for x in fate)  # enough stayed for nobody's neighbours
        return
    kept = [name for name, x in zip(sorted(numbers), fate, strict=True) if x in ("stays", "late")]
    np.testing.assert_array_equal(found["x"], bare(numbers, kept))
    assert found.patients == len(kept)


@pytest.mark.parametrize("kind", ["silent", "lost", "late"])
def test_a_third_may_go_at_any_step(kind: str) -> None:
    numbers = some(12)
    gone = frozenset(sorted(numbers)[:4])
    found = Session(numbers).run(**{kind: gone})
    np.testing.assert_array_equal(found["x"], bare(numbers, numbers if kind == "late" else numbers.keys() - gone))


@pytest.mark.parametrize("kind", ["silent", "lost", "late"])
def test_if_half_goes_nothing_is_revealed(kind: str) -> None:
    numbers = some(12)
    session = Session(numbers)
    with pytest.raises(ProtocolError, match="are needed"):
        session.run(**{kind: frozenset(sorted(numbers)[:6])})


Beside = Callable[[list[float]], list[float]]


def one_center(value: float, rounds: int = 60, beside: Beside = lambda _: []) -> np.ndarray:
    """What the coordinator received of one center in many sessions, as fractions of what is possible.

    `beside` is what a center that tells too much would send as well.
    """
    found = []
    for _ in range(rounds):
        numbers = {"a": [value] * 3, "b": [0.5] * 3, "c": [1.5 - value] * 3, "d": [2.0] * 3}
        session = Session(numbers)
        total = session.run()
        np.testing.assert_array_equal(total["x"], 4.0)  # neighbouring inputs with the same sum
        seen = [
            np.array(beside(numbers["a"])),
            np.frombuffer(session.shares["a"].sealed + b"".join(session.shares["a"].shares.values()), np.uint8) / 255,
            session.masked["a"].ravel() / 2.0**64,
            np.frombuffer(session.openings["a"].sealed, np.uint8) / 255,
            np.frombuffer(session.openings["a"].parts + session.openings["a"].pads, np.uint8) / 255,
        ]
        found.append(np.concatenate(seen))
    return np.array(found)


def test_the_transcripts_of_two_neighbouring_inputs_cannot_be_told_apart() -> None:
    """Every message of a center, number by number: the same even distribution, whatever the center had."""
    require_alike(one_center(0.0), one_center(1.5))


def require_alike(zero: np.ndarray, one: np.ndarray) -> None:
    """Fail if many sessions of two inputs can be told apart."""
    assert zero.shape == one.shape
    words = slice(-8 - 9 * 32, -9 * 32)  # the masked numbers: one count and three values, of two limbs
    assert zero[:, words].shape == (60, 8)
    p = np.array([stats.ks_2samp(a, b).pvalue for a, b in zip(zero.T, one.T, strict=True)])
    assert p.min() > 1e-3 / len(p)  # Bonferroni
    assert stats.kstest(p, "uniform").statistic < 0.25
    for numbers in (zero[:, words], one[:, words]):
        assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-4
        bits = np.unpackbits((numbers.ravel()[:, None] * 256).astype(np.uint8), axis=1).mean(axis=0)
        assert abs(bits - 0.5).max() < 0.1


class Bare(MaskStream):
    """No masks at all."""

    def _drawn(self, seeds: Sequence[bytes]) -> Iterator[Words]:
        yield from (np.zeros_like(words) for words in super()._drawn(seeds))


class Reused(MaskStream):
    """Every mask from the same seed."""

    def _drawn(self, seeds: Sequence[bytes]) -> Iterator[Words]:
        yield from super()._drawn([bytes(16)] * len(seeds))


class HalfMasked(MaskStream):
    """The higher limb left as it is."""

    def _drawn(self, seeds: Sequence[bytes]) -> Iterator[Words]:
        for words in super()._drawn(seeds):
            words[:, 1] = 0
            yield words


class Short(MaskStream):
    """The highest byte of every word missing."""

    def _drawn(self, seeds: Sequence[bytes]) -> Iterator[Words]:
        for words in super()._drawn(seeds):
            words >>= np.uint64(8)
            yield words


@pytest.mark.parametrize("stream", [Bare, Reused, HalfMasked, Short])
def test_masks_that_hide_too_little_are_told_apart(stream: type[MaskStream], monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum comes out all the same; that the transcripts leak is what has to be noticed."""
    for module in (__name__, "federation.privacy.aggregator"):
        monkeypatch.setattr(f"{module}.MaskStream", stream)
    zero, one = one_center(0.0), one_center(1.5)
    with pytest.raises(AssertionError):
        require_alike(zero, one)


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_a_norm_beside_the_masked_numbers_is_told_apart(jitter: float) -> None:
    """Bare, or with noise that hides one session's but not that of many."""
    rng = np.random.default_rng(0)

    def norm(numbers: list[float]) -> list[float]:
        return [float(np.linalg.norm(numbers) + jitter * rng.normal())]

    zero, one = one_center(0.0, beside=norm), one_center(1.5, beside=norm)
    require_alike(zero[:, 1:], one[:, 1:])  # but for the norm
    with pytest.raises(AssertionError):
        require_alike(zero, one)


def test_all_but_the_threshold_know_nothing_of_a_center() -> None:
    """Neighbours one short of the threshold that answer to the end leave the mask as it was."""
    session = Session({name: [1.0, 2.0, 3.0] for name in "abcdefg"})
    session.run()
    giving = [name for name in session.openings if name != "a"][: session.graph.threshold - 1]
    with pytest.raises(ProtocolError, match="nothing of the sum is known"):
        session.aggregator._secrets({name: session.openings[name] for name in giving})


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from(["stays"] * 8 + ["lost", "late"]), min_size=30, max_size=30))
def test_who_is_lost_in_one_round_is_back_in_the_next(fates: list[str]) -> None:
    """Secrets of three rounds shared once: each round's sum is that of its own survivors."""
    numbers = some(10)
    session = Session(numbers, rounds=3)
    session.share()
    for number in range(3):
        fate = dict(zip(session.names, fates[10 * number :], strict=False))
        gone = {kind: frozenset(n for n in session.names if fate[n] == kind) for kind in ("lost", "late")}
        if sum(x == "stays" for x in fate.values()) < 7 or (number == 0 and gone["lost"]):
            continue  # too few, or an inbox that was never opened
        found = session.round(number, gone["lost"], gone["late"])
        np.testing.assert_array_equal(found["x"], bare(numbers, set(numbers) - gone["lost"]))


def test_no_neighbour_gives_both_secrets_of_a_center() -> None:
    session = Session(some(8))
    gone = frozenset(sorted(session.numbers)[:2])
    session.run(lost=gone)
    party = session.parties[sorted(session.numbers)[-1]]
    for told in (frozenset(session.names), frozenset(session.names) - gone):
        with pytest.raises(ProtocolError, match="reveals once"):
            party.reveal("one", 0, told)


def test_a_center_reveals_to_enough_survivors_alone() -> None:
    session = Session(some(8))
    session.run()
    session = Session(some(8))
    with pytest.raises(ProtocolError, match=r"3 of .* neighbours are said to have survived, 4 are needed"):
        session.run(told=lambda name, survivors: frozenset({name, *sorted(survivors - {name})[:3]}))


def test_telling_centers_of_different_survivors_is_noticed() -> None:
    """The attack that would take both of a center's masks off: what they reveal stays encrypted."""
    session = Session(some(8))
    victim, fooled = session.names[0], session.names[4:]

    def told(name: str, survivors: frozenset[str]) -> frozenset[str]:
        return survivors - {victim} if name in fooled else survivors

    with pytest.raises(ProtocolError, match=r"was told of other survivors than its neighbours; nothing is known"):
        session.run(told=told)
    # Whatever the coordinator combines: four shares are needed to read what one reveals, and a group has three others.
    places = {name: {n: i for i, n in enumerate(session.graph.neighbours[name])} for name in session.names}
    read = {}
    for name, opening in session.openings.items():
        for chosen in combinations(session.graph.neighbours[name], session.graph.threshold):
            parts = [opening.parts[32 * places[name][n] :][:32] for n in chosen]
            pads = [session.openings[n].pads[32 * places[n][name] :][:32] for n in chosen]
            shares = [bytes(a ^ b for a, b in zip(*both, strict=True)) for both in zip(parts, pads, strict=True)]
            try:
                read[name] = combine([places[name][n] + 1 for n in chosen], shares)
            except InconsistentShares:
                continue
    assert not read
    session = Session(some(8))
    session.run()  # the same attempt with one group reads everything
    assert len(session.aggregator._secrets(session.openings)) == 8


def test_a_session_is_used_once_and_its_steps_in_order() -> None:
    session = Session(some(5))
    session.run()
    name = session.names[0]
    party, keys = session.parties[name], {n: session.parties[n].public for n in session.graph.neighbours[name]}
    with pytest.raises(ProtocolError, match="has taken part in session 'one' before"):
        party.share("one", keys, session.graph.threshold)
    with pytest.raises(ProtocolError, match="is not in session 'two'"):
        party.mask("two", 0, np.zeros((2, 4), dtype=np.uint64), MaskStream((2, 4)))
    party.share("two", keys, session.graph.threshold)
    with pytest.raises(ProtocolError, match="after it has the shares of its"):
        party.mask("two", 0, np.zeros((2, 4), dtype=np.uint64), MaskStream((2, 4)))


def test_a_round_is_masked_once_and_only_if_it_was_prepared() -> None:
    session = Session(some(5), rounds=2)
    session.share()
    session.round(0)
    words = np.zeros((2, 4), dtype=np.uint64)
    for number in (0, 2, -1):
        with pytest.raises(ProtocolError, match="masks once in a round, of the 2 it has prepared"):
            session.parties[session.names[0]].mask("one", number, words, MaskStream(words.shape))
    with pytest.raises(ProtocolError, match="reveals once in a round, after it has masked"):
        session.parties[session.names[0]].reveal("one", 1, frozenset(session.names))
    with pytest.raises(ProtocolError, match=r"1000 rounds; hospital 0 prepares from 1 to 64"):
        session.parties[session.names[0]].share(
            "more", {n: session.parties[n].public for n in session.names[1:]}, 3, 1000
        )


def test_a_center_accepts_no_threshold_that_protects_nothing_and_no_forged_share() -> None:
    session = Session(some(6))
    name, *others = session.names
    keys = {n: session.parties[n].public for n in others}
    with pytest.raises(ProtocolError, match=r"threshold 2 of 5 neighbours.*wants more than half"):
        session.parties[name].share("low", keys, 2)
    with pytest.raises(ProtocolError, match="the same key for two centers"):
        session.parties[name].share("twins", keys | {others[0]: keys[others[1]]}, 3)
    session.parties[name].share("forged", keys, 3)
    with pytest.raises(ProtocolError, match="did not make"):
        session.parties[name].receive("forged", {others[0]: bytes(80)})
    with pytest.raises(ProtocolError, match="is no neighbour"):
        session.parties[name].receive("forged", {"stranger": bytes(80)})


def test_masks_differ_from_round_to_round() -> None:
    """The same numbers in two sessions of the same parties: their difference is no difference of numbers."""
    session = Session({name: [1.0, 2.0, 3.0] for name in "abcde"})
    session.run()
    first = session.masked["a"]
    session.shares.clear()
    for name, party in session.parties.items():
        keys = {n: session.parties[n].public for n in session.graph.neighbours[name]}
        session.shares[name] = party.share("two", keys, session.graph.threshold)
    session.parties["a"].receive("two", {n: s.shares["a"] for n, s in session.shares.items() if n != "a"})
    words = FORMAT.encode(np.array([1.0, 1.0, 2.0, 3.0]), 5)
    session.parties["a"].mask("two", 0, words, MaskStream(words.shape))
    assert (words != first).all()


def test_what_is_drawn_ahead_is_what_would_be_drawn() -> None:
    """Also if other centers survive than the last time, or the numbers have another shape."""
    numbers = some(8)
    session = Session(numbers, rounds=4)
    session.share()
    session.round(0)
    lost = frozenset(session.names[:1])
    for number, gone, shape in ((1, frozenset[str](), (2, 4)), (2, lost, (2, 4)), (3, lost, (2, 9))):
        stream = MaskStream(shape)
        for party in session.parties.values():
            party.prepare("one", number, stream)
        mine = session.parties[session.names[-1]]._session
        assert mine is not None
        drawn = np.zeros(shape, dtype=np.uint64)
        mine.draw(number, drawn, stream)
        assert mine.mask_ahead is not None
        np.testing.assert_array_equal(mine.mask_ahead[1], drawn)
        found = session.round(number, gone)
        np.testing.assert_array_equal(found["x"], bare(numbers, numbers.keys() - gone))
    session.parties[session.names[0]].prepare("one", 4, MaskStream((2, 4)))  # there is no such round
    session.parties[session.names[0]].prepare("two", 1, MaskStream((2, 4)))


def test_what_does_not_belong_to_the_session_is_not_added() -> None:
    aggregator = Aggregator(graph_of(("a", "b", "c"), 0.55, 2), FORMAT)
    words = np.zeros((2, 4), dtype=np.uint64)
    with pytest.raises(ValueError, match="stranger: not in this session"):
        aggregator.take_masked(MaskedSum(("stranger",), LAYOUT, words))
    aggregator.take_shares({name: Shares(b"", {}) for name in "abc"})
    aggregator.take_masked(MaskedSum(("a",), LAYOUT, words))
    with pytest.raises(ValueError, match="a: not in this session, or there twice"):
        aggregator.take_masked(MaskedSum(("a",), LAYOUT, words))
    with pytest.raises(ValueError, match="contributions differ in"):
        aggregator.take_masked(MaskedSum(("b",), (("y", (3,)),), words))
    with pytest.raises(ValueError, match="are not 4 numbers"):
        aggregator.take_masked(MaskedSum(("b",), LAYOUT, words[:, :2]))
