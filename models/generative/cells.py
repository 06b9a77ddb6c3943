"""Cells of numbers that everybody knows beforehand, fine enough to keep a distribution and coarse enough to count.

A histogram over them adds over centers, needs no minimum or maximum of any patient, and is the same for haemoglobin and
for lactate dehydrogenase: a cell is a 32nd of an octave, so that whole numbers up to 64 have one each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PER_OCTAVE = 32
LOWEST, HIGHEST = -10, 20
"""Octaves: numbers below 2^-10 count as zero, those above 2^20 as the last cell."""

ONE_SIDE = PER_OCTAVE * (HIGHEST - LOWEST)
SIZE = 2 * ONE_SIDE + 1
"""Cells: negative, zero, positive."""

DECIMALS = 4
"""Values may have 0, 1, 2 or more decimals."""

_ALMOST_ONE = 1 - 1e-9  # the end of a run, which is not in it


def cell_of(values: Floats) -> Ints:
    """The cell of each number (no NaN), in increasing order of the numbers."""
    fraction, exponent = np.frexp(np.abs(values))
    octave = exponent - 1 - LOWEST
    place = octave * PER_OCTAVE + np.floor((2 * fraction - 1) * PER_OCTAVE)
    place = np.where(np.abs(values) < 2.0**LOWEST, -1, np.minimum(place, ONE_SIDE - 1)).astype(np.int64) + 1
    return np.asarray(ONE_SIDE + np.where(values < 0, -place, place), np.int64)


def _magnitude(place: Ints) -> Floats:
    """Least absolute value of the cells at a distance from zero (1 is the first that is not zero)."""
    octave, step = np.divmod(place - 1, PER_OCTAVE)
    return np.asarray(2.0 ** (octave + LOWEST) * (1 + step / PER_OCTAVE), np.float64)


def bounds(first: Ints, last: Ints) -> tuple[Floats, Floats]:
    """From where to where runs of cells reach, each from `first` to `last`; the zero cell is the number 0."""
    a, b = first - ONE_SIDE, last - ONE_SIDE
    low = np.where(a > 0, _magnitude(np.maximum(a, 1)), np.where(a < 0, -_magnitude(1 - a), 0.0))
    high = np.where(b > 0, _magnitude(np.maximum(b, 0) + 1), np.where(b < 0, -_magnitude(np.maximum(-b, 1)), 0.0))
    return low, high


def decimals_of(values: Floats) -> Ints:
    """How many decimals each number has (3 stands for three or more)."""
    needed = np.full(len(values), DECIMALS - 1)
    values = np.clip(values, -(2.0**HIGHEST), 2.0**HIGHEST)
    for d in range(DECIMALS - 2, -1, -1):
        scaled = values * 10.0**d
        needed[np.abs(scaled - np.rint(scaled)) < 1e-4] = d  # float32 exports hold 17.6 as 17.60000038
    return needed


def runs(counts: Floats, least: int) -> tuple[Ints, Ints]:
    """Join occupied cells into runs of at least `least` patients; cells that have as many by themselves stay alone.

    Returns
    -------
    first, last
        Cells of each run, in order.
    """
    first: list[int] = []
    last: list[int] = []
    held: list[float] = []
    for cell in np.flatnonzero(counts):
        count = float(counts[cell])
        if held and held[-1] < least and count < least:
            last[-1], held[-1] = int(cell), held[-1] + count
        else:
            first.append(int(cell))
            last.append(int(cell))
            held.append(count)
    while len(held) > 1 and min(held) < least:  # what is left over joins the smaller of its neighbours
        i = int(np.argmin(held))
        neighbours = [j for j in (i - 1, i + 1) if 0 <= j < len(held)]
        left = min(i, min(neighbours, key=lambda j: held[j]))
        last[left], held[left] = last[left + 1], held[left] + held[left + 1]
        del first[left + 1], last[left + 1], held[left + 1]
    return np.array(first, np.int64), np.array(last, np.int64)


def draw(counts: Floats, size: int, decimals: int, least: int, rng: np.random.Generator) -> Floats:
    """Numbers from a histogram: a run of cells by its count, then evenly within, with so many decimals.

    Parameters
    ----------
    counts
        Per cell, shape (SIZE,), not all 0.
    decimals
        3 leaves the numbers as drawn.
    least
        See `runs`: no run stands for fewer patients, so that a single one is not given away.
    """
    first, last, until = _shares(counts, least)
    chosen = rng.choice(len(first), size, p=np.diff(until, prepend=0.0) / until[-1])
    return _within(first[chosen], last[chosen], rng.random(size), decimals)


def quantile(counts: Floats, levels: Floats, decimals: int, least: int) -> Floats:
    """Numbers at levels (0 to 1) of a histogram, as `draw` draws them."""
    first, last, until = _shares(counts, least)
    wanted = np.clip(levels, 0.0, 1.0) * until[-1]
    chosen = np.minimum(np.searchsorted(until, wanted, side="right"), len(until) - 1)
    share = np.diff(until, prepend=0.0)[chosen]
    u = np.clip((wanted - until[chosen] + share) / share, 0.0, _ALMOST_ONE)
    return _within(first[chosen], last[chosen], u, decimals)


def normal_scores(counts: Floats, decimals: int, least: int, most: int) -> tuple[Floats, Floats]:
    """A line through at most so many points from numbers to the normal law, a number's score the quantile of its rank.

    Returns
    -------
    knots, scores
        Middle of the numbers with so many decimals in runs of cells, and the normal quantiles of the middle of their
        ranks; both increase.
    """
    first, last, until = _shares(counts, least)
    ends = [_within(first, last, np.full(len(first), u), decimals) for u in (0.0, _ALMOST_ONE)]
    middle = np.mean(ends, axis=0)
    level = (until - np.diff(until, prepend=0.0) / 2) / until[-1]
    kept = np.unique(np.searchsorted(level, np.linspace(level[0], level[-1], most)))
    return middle[kept], np.asarray(ndtri(level[kept]), np.float64)


def _shares(counts: Floats, least: int) -> tuple[Ints, Ints, Floats]:
    """The runs, and how many patients there are up to the end of each."""
    first, last = runs(counts, least)
    return first, last, np.cumsum(counts)[last]


def _within(first: Ints, last: Ints, u: Floats, decimals: int) -> Floats:
    """A number in each run, at a part u of it, in [0, 1)."""
    low, high = bounds(first, last)
    even = low + u * (high - low)
    if decimals >= DECIMALS - 1:
        return even
    unit = 10.0**decimals
    # The numbers with so many decimals in [low, high): negative cells are open below, which matters to no one.
    start, stop = np.ceil(low * unit - 1e-9), np.ceil(high * unit - 1e-9)
    whole = np.floor(start + u * np.maximum(stop - start, 1.0))
    return np.asarray(np.where((stop > start) | (low == high), whole / unit, even), np.float64)
