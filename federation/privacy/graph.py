"""Who masks with whom: a regular random graph of few neighbours (SecAgg+; Bell et al. 2020), or all with all.

With k neighbours each, a round costs n·k masks instead of n². How many are enough follows from three things that must
not happen: so many of a center's neighbours collude that their shares reveal it, so many drop out that its masks cannot
be taken off, or the graph of honest centers that stayed falls apart, by which a sum over a part would be revealed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from federation.randomness import generator

SECURITY, CORRECTNESS = 40, 20
"""A breach may have a probability of 2^-40, a round that has to be given up one of 2^-20 (Bell 2020, section 3)."""

LEAST = 12
"""With fewer neighbours two that collude would be a large part, however small the federation."""


@dataclass(frozen=True)
class Graph:
    """Neighbours of each center, in alphabetical order, and how many of their shares give a secret back."""

    neighbours: Mapping[str, tuple[str, ...]]
    threshold: int


@lru_cache(maxsize=64)
def neighbours_needed(n: int, threshold: float, colluding: float, dropout: float) -> int:
    """Smallest even number of neighbours for which neither a breach nor a failed round is likely; at most n - 1.

    Parameters
    ----------
    n
        Centers.
    threshold
        Share of a center's neighbours whose shares reveal its secrets of a round.
    colluding, dropout
        Largest fractions of centers that collude with the coordinator, and that drop out in one round.

    Notes
    -----
    Neighbours are a uniform draw without replacement, so the numbers of colluding and of remaining neighbours are
    hypergeometric; union bounds over centers. The graph is a ring in random order in which each is joined to the k/2
    next on both sides: it falls apart only if at two places k/2 in a row are gone (`falls_apart`).
    """
    from scipy.stats import hypergeom  # half of what a process takes to start, and 40 MB: for who needs it alone

    bad, left = math.floor(colluding * n), n - math.ceil(dropout * n)
    gone = bad + n - left
    for k in range(LEAST, n - 1, 2):
        t = needed(threshold, k)
        if (
            n * hypergeom.sf(t - 1, n - 1, bad, k) < 2.0**-SECURITY
            and n * hypergeom.cdf(t - 1, n - 1, left - 1, k) < 2.0**-CORRECTNESS
            and falls_apart(n, gone, k) < 2.0**-SECURITY
        ):
            return k
    return n - 1


def falls_apart(n: int, gone: int, k: int) -> float:
    """A bound on the probability that the ring falls apart if so many of its n centers are gone.

    A part is cut off by two gaps of k/2 centers each: the probability that those of two given places are all gone, by
    the number of pairs of places.
    """
    together = math.prod((gone - i) / (n - i) for i in range(min(k, n)))
    return math.comb(n, 2) * max(together, 0.0) if gone >= k else 0.0


def needed(threshold: float, count: int) -> int:
    """How many of `count` a threshold asks for: always more than half."""
    return max(math.ceil(threshold * count), count // 2 + 1)


@lru_cache(maxsize=64)
def graph_of(names: tuple[str, ...], threshold: float, k: int) -> Graph:
    """The graph of these centers: the same for everyone who makes it, so that nobody has to be told.

    Parameters
    ----------
    names
        Of all centers, in alphabetical order.
    """
    n = len(names)
    if k >= n - 1:
        found = {name: tuple(other for other in names if other != name) for name in names}
    else:
        order = generator(k, "secure aggregation", *names).permutation(n).tolist()
        found = {names[order[i]]: tuple(sorted(_around([names[j] for j in order], i, k // 2))) for i in range(n)}
    return Graph(found, needed(threshold, len(found[names[0]])))


def _around(ring: Sequence[str], i: int, reach: int) -> list[str]:
    return [ring[(i + d) % len(ring)] for d in range(-reach, reach + 1) if d]
