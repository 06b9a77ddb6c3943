"""The coordinator's side of secure aggregation: it passes shares on, adds up what it cannot read, takes off the masks.

Everything it ever receives goes through the four methods that take something in; the tests read along there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from federation.contribution import Contribution
from federation.privacy.fixed_point import FixedPoint, Words, add
from federation.privacy.graph import Graph
from federation.privacy.masks import SEED_BYTES, MaskStream, seal
from federation.privacy.party import ProtocolError, Shares
from federation.privacy.shamir import InconsistentShares, combine

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
    """One session of secure aggregation.

    Parameters
    ----------
    graph
        Who masks with whom.
    fixed_point
        How numbers are encoded.

    Attributes
    ----------
    survivors
        The centers whose masked numbers are in the sum.
    """

    def __init__(self, graph: Graph, fixed_point: FixedPoint) -> None:
        self._graph, self._fixed_point = graph, fixed_point
        self._shares: dict[str, Shares] = {}
        self._layout: Layout | None = None
        self._words: Words | None = None
        self.survivors: list[str] = []

    def take_shares(self, shares: Mapping[str, Shares]) -> None:
        """What centers sent at the beginning of the session."""
        self._shares |= shares

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

    def result(self, revealed: Mapping[str, Mapping[str, bytes]]) -> Contribution:
        """Take the masks off.

        Parameters
        ----------
        revealed
            For each center that answered to the end, a share for each of its neighbours.

        Raises
        ------
        ProtocolError
            If there are too few shares, or they do not belong together; then nothing is known of the sum.
        """
        if self._words is None or self._layout is None:
            raise ProtocolError("no center has sent anything")
        survivors = set(self.survivors)
        secrets = {owner: self._secret(owner, revealed) for owner in self._shares}
        stream = MaskStream(self._words.shape)
        for owner, secret in secrets.items():
            if owner in survivors:
                stream.subtract(self._words, secret)
                continue
            seeds = seal(secret, self._shares[owner].sealed)
            for i, other in enumerate(self._graph.neighbours[owner]):
                if other in survivors:  # whose half of the pair's mask is still in the sum
                    undo = stream.subtract if other < owner else stream.add
                    undo(self._words, seeds[i * SEED_BYTES : (i + 1) * SEED_BYTES])
        values = self._fixed_point.decode(self._words)
        arrays, begin = {}, 1
        for name, shape in self._layout:
            end = begin + int(np.prod(shape))
            arrays[name] = values[begin:end].reshape(shape)
            begin = end
        return Contribution.of(round(float(values[0])), arrays)

    def _secret(self, owner: str, revealed: Mapping[str, Mapping[str, bytes]]) -> bytes:
        """What enough neighbours gave shares of."""
        neighbours: Sequence[str] = self._graph.neighbours[owner]
        giving = [i for i, n in enumerate(neighbours) if owner in revealed.get(n, {})][: self._graph.threshold]
        if len(giving) < self._graph.threshold:
            raise ProtocolError(
                f"{len(giving)} neighbours of {owner} gave a share, {self._graph.threshold} are needed; "
                "nothing of the sum is known"
            )
        try:
            return combine([i + 1 for i in giving], [revealed[neighbours[i]][owner] for i in giving])
        except InconsistentShares as error:
            raise ProtocolError(f"shares for {owner}: {error}") from None
