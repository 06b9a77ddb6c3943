"""Sums that do not depend on the order of their terms, nor on how they are grouped into partial sums.

Floating-point addition is not associative, so plain sums change with the number of hosts and with who answers first.
Here every term is cut at fixed places of the number line (powers of 2^32) into digits of 32 bits, of which the three
highest that any term reaches are added up as whole numbers, exactly (pre-rounding; Demmel & Nguyen 2013, IEEE ARITH,
with bins of fixed place). What is cut off is below 2^-64 of the largest term, less than a plain sum in float64 loses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from federation.contribution import Contribution, Contributions

Floats = NDArray[np.float64]

_DIGITS = 3
_STEP = 2.0**32
_SMALLEST, _LARGEST = 2.0**-896, 2.0**960
"""Range of the unit of the highest digit. Terms below 2^-896 count as zero."""


_CENTERS, _ROWS = "/centers", "/rows"
"""Under which the number of terms travels, and before the roster's length and the name of an array with a row for each
center: of such an array only the rows of the centers that answered travel. No array of an answer has these names."""


class Sum(Protocol):
    """What a host adds contributions up with: bare (`Total`) or masked (`federation.privacy`)."""

    def unfit(self, contributions: Contributions) -> Mapping[int, Exception]:
        """Why some contributions cannot be added, by index."""

    def require(self, contribution: Contribution) -> None:
        """Raise Refused or ValueError if a center's contribution cannot be added."""

    def add(self, contribution: Contribution, center: str) -> None:
        """Add a center's contribution."""

    def add_stacked(self, contributions: Contributions, centers: Sequence[str]) -> None:
        """Add those of many centers."""

    def merge(self, other: Self) -> None:
        """Add another partial sum."""


class Total:
    """A sum of contributions, or a part of one.

    Parameters
    ----------
    patients
        Behind the terms so far.
    centers
        Terms so far, those of centers that withhold left out.

    Notes
    -----
    Terms have to be finite (the wall lets no others out) and below 2^991; at most 2^20 of them can be added.
    """

    def __init__(self) -> None:
        self.patients, self.centers = 0, 0
        self._digits: dict[str, Floats] = {}  # per name (1 + 3, size): unit of the highest digit, then the digits
        self._rows: dict[str, list[Floats]] = {}  # per name, parts whose columns are a center's place and its row
        self._shapes: dict[str, tuple[int, ...]] = {}

    def __bool__(self) -> bool:
        """Whether anything but zeros of centers that withhold was added."""
        return bool(self._shapes)

    def unfit(self, contributions: Contributions) -> Mapping[int, Exception]:
        """Why some cannot be added: all can that the wall lets out."""
        return {}

    def require(self, contribution: Contribution) -> None:
        """Raise ValueError if names or shapes differ from the others'."""
        if contribution and self._shapes:
            self._check({name: array.shape for name, array in contribution.items()})

    def add(self, contribution: Contribution, center: str = "") -> None:
        """Add one center's, whoever's; raises ValueError if its names or shapes differ from the others'."""
        if contribution:
            self._check({name: array.shape for name, array in contribution.items()})
            self.centers += 1
        self.patients += contribution.patients
        for name, array in contribution.items():
            _add(self._of(name), array.reshape(1, -1))

    def add_stacked(self, contributions: Contributions, centers: Sequence[str] = ()) -> None:
        """Add the contributions of many centers, whoever they are."""
        if len(contributions) == 0:
            return
        self._check(contributions.shapes)
        self.patients += int(contributions.patients.sum())
        self.centers += len(contributions)
        for name, array in contributions.arrays.items():
            terms = np.ascontiguousarray(array, dtype=np.float64)
            _add(self._of(name), terms.reshape(len(array), -1))
        for name, rows in contributions.rows.items():
            self._rows.setdefault(name, []).append(np.column_stack([contributions.positions, rows]))

    def merge(self, other: Total) -> None:
        """Add another partial sum."""
        if other:
            self._check(other._shapes)
        self.patients += other.patients
        self.centers += other.centers
        for name, digits in other._digits.items():
            _merge(self._of(name), digits)
        for name, parts in other._rows.items():
            self._rows.setdefault(name, []).extend(parts)

    def result(self) -> Contribution:
        """The sum, each number rounded once."""
        arrays = {}
        for name, shape in self._shapes.items():
            unit, *digits = self._with_rows(name)
            value = (digits[2] / _STEP + digits[1]) / _STEP + digits[0]
            arrays[name] = (value * unit).reshape(shape)
        return Contribution.of(self.patients, arrays)

    def to_arrays(self) -> dict[str, Floats]:
        """As plain arrays, to travel."""
        found = {name: digits.reshape(1 + _DIGITS, *self._shapes[name]) for name, digits in self._digits.items()}
        found |= {
            f"{_ROWS}/{self._shapes[name][0]}/{name}": np.concatenate(parts) for name, parts in self._rows.items()
        }
        return found | ({_CENTERS: np.array(float(self.centers))} if found else {})

    @classmethod
    def from_arrays(cls, patients: int, arrays: Mapping[str, Floats], centers: int | None = None) -> Total:
        """Inverse of `to_arrays`.

        Parameters
        ----------
        centers
            The roster's length, for who does not trust the sender to know it.

        Raises
        ------
        ValueError
            If the arrays are no partial sum.
        """
        total = cls()
        total.patients = patients
        for name, array in arrays.items():
            if name == _CENTERS:
                total.centers = int(array)
                continue
            if name.startswith(f"{_ROWS}/"):
                _, _, length, name = name.split("/", 3)
                if centers not in (None, int(length)):
                    raise ValueError(f"{name!r} has {length} rows; the federation has {centers} centers")
                _check_rows(name, array, int(length))
                shape: tuple[int, ...] = (int(length), array.shape[1] - 1)
                total._rows[name] = [np.array(array)]
            else:
                if array.ndim < 1 or len(array) != 1 + _DIGITS or array.dtype != np.float64:
                    raise ValueError(f"{name!r} of shape {array.shape} and type {array.dtype} is no partial sum")
                shape = array.shape[1:]
                total._digits[name] = np.array(array).reshape(1 + _DIGITS, -1)
            if total._shapes.setdefault(name, shape) != shape:
                raise ValueError(f"{name!r} has shape {total._shapes[name]} and {shape} in one partial sum")
        return total

    def _of(self, name: str) -> Floats:
        """The digits of an array, zero at first."""
        if name not in self._digits:
            self._digits[name] = _zero(self._shapes[name])
        return self._digits[name]

    def _with_rows(self, name: str) -> Floats:
        """The digits of an array, the rows of centers added."""
        parts = self._rows.get(name)
        if not parts:
            return self._of(name)
        digits = self._digits[name].copy() if name in self._digits else _zero(self._shapes[name])
        joined = np.concatenate(parts)
        if len(np.unique(joined[:, 0])) == len(joined):  # else (it is not meant to be) one part after the other
            parts = [joined]
        columns = joined.shape[1] - 1
        for part in parts:
            touched = (part[:, :1].astype(np.int64) * columns + np.arange(columns)).ravel()
            some = digits[:, touched]  # a copy
            _add(some, np.ascontiguousarray(part[:, 1:]).reshape(1, -1))
            digits[:, touched] = some
        return digits

    def _check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Names and shapes must be those of the first; there they are set."""
        mine = self._shapes
        if mine == shapes:
            return
        if not mine:
            mine.update(shapes)
            return
        if mine.keys() != shapes.keys():
            raise ValueError(f"contributions differ in {sorted(mine.keys() ^ shapes.keys())}")
        name = next(n for n in mine if mine[n] != shapes[n])
        raise ValueError(f"{name!r} has shape {mine[name]} in one contribution, {shapes[name]} in another")


def _zero(shape: tuple[int, ...]) -> Floats:
    digits = np.zeros((1 + _DIGITS, math.prod(shape)))
    digits[0] = _SMALLEST
    return digits


def _check_rows(name: str, rows: Floats, centers: int) -> None:
    """Raise ValueError unless these are rows of different centers, their places in front."""
    if rows.ndim != 2 or rows.dtype != np.float64 or rows.shape[1] < 2:
        raise ValueError(f"{name!r} of shape {rows.shape} and type {rows.dtype} is no partial sum of rows")
    places = rows[:, 0]
    known = (places >= 0) & (places < centers) & (places == np.floor(places))
    if not known.all() or len(np.unique(places)) < len(places):
        raise ValueError(f"{name!r} has rows of centers that are none of the {centers}, or several of one")


def total(contributions: Iterable[Contribution]) -> Contribution:
    """The sum; a contribution without arrays if there is none."""
    found = Total()
    for contribution in contributions:
        found.add(contribution)
    return found.result()


@njit(cache=True)
def _raise(digits, i, unit):  # type: ignore[no-untyped-def]
    """Let the highest digit of column i have this (larger) unit: lower digits fall off."""
    while digits[0, i] < unit:
        digits[0, i] *= _STEP
        digits[3, i] = digits[2, i]
        digits[2, i] = digits[1, i]
        digits[1, i] = 0.0


@njit(cache=True)
def _add(digits, terms):  # type: ignore[no-untyped-def]
    """Add terms of shape (k, size), all finite."""
    k, size = terms.shape
    largest = np.zeros(size)
    for j in range(k):
        row = terms[j]
        for i in range(size):
            largest[i] = max(largest[i], abs(row[i]))
    for i in range(size):
        if largest[i] >= digits[0, i] * _STEP:
            unit = digits[0, i]
            while largest[i] >= unit * _STEP and unit < _LARGEST:
                unit *= _STEP
            _raise(digits, i, unit)
    units, high, middle, low = digits[0], digits[1], digits[2], digits[3]
    step = _STEP
    inverse = np.empty(size)
    for i in range(size):
        inverse[i] = 1.0 / units[i]
    for j in range(k):
        row = terms[j]
        for i in range(size):
            scaled = row[i] * inverse[i]  # a power of two: exact
            whole = np.trunc(scaled)
            high[i] += whole
            scaled = (scaled - whole) * step
            whole = np.trunc(scaled)
            middle[i] += whole
            low[i] += np.trunc((scaled - whole) * step)


@njit(cache=True)
def _merge(mine, other):  # type: ignore[no-untyped-def]
    for i in range(mine.shape[1]):
        if other[0, i] > mine[0, i]:
            _raise(mine, i, other[0, i])
        shift, unit = 0, other[0, i]
        while unit < mine[0, i]:
            unit *= _STEP
            shift += 1
        for d in range(1, _DIGITS + 1 - shift):
            mine[d + shift, i] += other[d, i]
