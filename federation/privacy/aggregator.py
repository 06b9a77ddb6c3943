"""The coordinator's side of secure aggregation: it passes shares on, adds up what it cannot read, takes off the masks.

Everything it ever receives goes through the three methods that take something in; the tests read along there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federation.contribution import Contribution, Floats
from federation.privacy.fixed_point import FixedPoint, Words, add
from federation.privacy.graph import Graph
from federation.privacy.masks import SEED_BYTES, MaskStream, seal
from federation.privacy.party import Opening, ProtocolError, Shares
from federation.privacy.shamir import SHARE_BYTES, Octets, combine_many

Layout = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of a contribution's arrays, by name; in front of them is the number of patients."""


@dataclass(frozen=True)
class MaskedSum:
    """The sum of some centers' masked numbers: all that leaves a host.

    Parameters
    ----------
    members
        Whose.
    layout
        What the numbers are.
    words
        Shape (limbs, 1 + size).
    """

    members: tuple[str, ...]
    layout: Layout
    words: Words


class Aggregator:
    """One session of secure aggregation: some rounds over the same centers.

    Parameters
    ----------
    graph
        Who masks with whom.
    fixed_point
        How numbers are encoded.

    Attributes
    ----------
    survivors
        The centers whose masked numbers are in the sum of the present round.
    """

    def __init__(self, graph: Graph, fixed_point: FixedPoint) -> None:
        self._graph, self._fixed_point = graph, fixed_point
        self._names = tuple(graph.neighbours)
        self._index = {name: i for i, name in enumerate(self._names)}
        places = {name: {n: a for a, n in enumerate(others)} for name, others in graph.neighbours.items()}
        self._neighbours = np.array([[self._index[n] for n in graph.neighbours[name]] for name in self._names])
        self._places = np.array([[places[n][name] for n in graph.neighbours[name]] for name in self._names])
        """Which of its neighbour's neighbours a center is."""
        self._shares: dict[str, Shares] = {}
        self.begin(0)

    def begin(self, number: int) -> None:
        """A round of the session."""
        self._number = number
        self._layout: Layout | None = None
        self._words: Words | None = None
        self.survivors: list[str] = []

    def take_shares(self, shares: Mapping[str, Shares]) -> None:
        """What centers sent at the beginning of the session."""
        self._shares |= shares

    @property
    def participants(self) -> Collection[str]:
        """The centers that have shared their secrets."""
        return self._shares.keys()

    def inboxes(self) -> dict[str, dict[str, bytes]]:
        """For each center that takes part, the shares of its neighbours that do."""
        return {
            name: {n: self._shares[n].shares[name] for n in self._graph.neighbours[name] if n in self._shares}
            for name in self._shares
        }

    def take_masked(self, part: MaskedSum) -> None:
        """Add a host's masked sum.

        Raises
        ------
        ValueError
            If it cannot be added to the others.
        """
        size = 1 + sum(int(np.prod(shape)) for _, shape in part.layout)
        if part.words.dtype != np.uint64 or part.words.shape != (self._fixed_point.limbs, size):
            raise ValueError(f"words of shape {part.words.shape} are not {size} numbers")
        if unknown := sorted(set(part.members) - self._shares.keys() | set(part.members) & set(self.survivors)):
            raise ValueError(f"{', '.join(unknown[:5])}: not in this session, or there twice")
        if self._words is None or self._layout is None:
            self._layout, self._words = part.layout, np.array(part.words)
        elif self._layout != part.layout:
            raise ValueError(f"contributions differ in {sorted(set(self._layout) ^ set(part.layout))}")
        else:
            add(self._words, part.words)
        self.survivors += part.members

    def result(self, openings: Mapping[str, Opening]) -> Contribution:
        """Take the masks off.

        Parameters
        ----------
        openings
            Of each center that answered to the end.

        Raises
        ------
        ProtocolError
            If there are too few shares, or they do not belong together; then nothing is known of the sum.
        """
        if self._words is None or self._layout is None:
            raise ProtocolError("no center has sent anything")
        survivors, k = set(self.survivors), self._neighbours.shape[1]
        stream = MaskStream(self._words.shape)
        subtracted: list[bytes] = []
        added: list[bytes] = []
        for owner, secret in self._secrets(openings).items():
            if owner in survivors:
                subtracted.append(secret)
                continue
            sealed = self._shares[owner].sealed[self._number * k * SEED_BYTES :][: k * SEED_BYTES]
            seeds = seal(secret, sealed)
            for i, other in enumerate(self._graph.neighbours[owner]):
                if other in survivors:  # whose half of the pair's mask is still in the sum
                    (subtracted if other < owner else added).append(seeds[i * SEED_BYTES : (i + 1) * SEED_BYTES])
        stream.subtract(self._words, subtracted)
        stream.add(self._words, added)
        return sum_of(self._fixed_point.decode(self._words), self._layout)

    def _secrets(self, openings: Mapping[str, Opening]) -> dict[str, bytes]:
        """For each center of the session, what enough neighbours gave shares of."""
        (n, k), t = self._neighbours.shape, self._graph.threshold
        given = np.zeros(n, dtype=bool)
        parts, pads, shares = np.zeros((3, n, k, SHARE_BYTES), dtype=np.uint8)
        for name, opening in openings.items():
            if not len(opening.sealed) == len(opening.parts) == len(opening.pads) == k * SHARE_BYTES:
                raise ProtocolError(f"{name} sent shares of another length than its {k} neighbours'")
        senders = [self._index[name] for name in openings]
        given[senders] = True
        parts[senders] = _stacked([opening.parts for opening in openings.values()], k)
        pads[senders] = _stacked([opening.pads for opening in openings.values()], k)
        chosen, enough = self._choose(given)
        readable = np.flatnonzero(given & enough)
        chosen = chosen[readable]
        others = np.take_along_axis(self._neighbours[readable], chosen, axis=1)
        theirs = np.take_along_axis(self._places[readable], chosen, axis=1)
        keys, whole = combine_many(chosen + 1, parts[readable[:, None], chosen] ^ pads[others, theirs])
        names = [self._names[i] for i in readable.tolist()]
        if not whole.all():
            fooled = names[int(np.argmin(whole))]
            raise ProtocolError(f"{fooled} was told of other survivors than its neighbours; nothing is known")
        opened = [seal(key, openings[name].sealed) for name, key in zip(names, keys, strict=True)]
        shares[readable] = _stacked(opened, k)
        given[:] = False
        given[readable] = True
        chosen, enough = self._choose(given)
        owners = [i for i, name in enumerate(self._names) if name in self._shares]
        for i in owners:
            if not enough[i]:
                raise ProtocolError(
                    f"{int(given[self._neighbours[i]].sum())} neighbours of {self._names[i]} gave a share, {t} are "
                    "needed; nothing of the sum is known"
                )
        chosen = chosen[owners]
        others = np.take_along_axis(self._neighbours[owners], chosen, axis=1)
        theirs = np.take_along_axis(self._places[owners], chosen, axis=1)
        secrets, whole = combine_many(chosen + 1, shares[others, theirs])
        for i, fits in zip(owners, whole, strict=True):
            if not fits:
                raise ProtocolError(f"shares for {self._names[i]}: they do not belong together")
        return {self._names[i]: secret for i, secret in zip(owners, secrets, strict=True)}

    def _choose(self, given: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Of each center the first neighbours that gave something, as many as the threshold; and who has so many."""
        among = given[self._neighbours]
        t = self._graph.threshold
        return np.argsort(~among, axis=1, kind="stable")[:, :t], among.sum(axis=1) >= t


def _stacked(texts: Sequence[bytes], k: int) -> Octets:
    """Shares for k neighbours each, shape (texts, k, `SHARE_BYTES`)."""
    return np.frombuffer(b"".join(texts), dtype=np.uint8).reshape(len(texts), k, SHARE_BYTES)


def sum_of(values: Floats, layout: Layout) -> Contribution:
    """A contribution from its numbers in the order of a layout, the number of patients in front of them."""
    arrays, begin = {}, 1
    for name, shape in layout:
        end = begin + int(np.prod(shape))
        arrays[name] = values[begin:end].reshape(shape)
        begin = end
    return Contribution.of(round(float(values[0])), arrays)
