"""What leaves a center: named arrays that can be added to another center's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from federation.policy import Refused

Floats = NDArray[np.float64]


class Contribution(Mapping[str, Floats]):
    """Named float64 arrays, and the number of patients they were computed from.

    They are added up by `federation.summation.Total`, in which the order and the number of partial sums do not matter.

    Parameters
    ----------
    patients
        Patients behind the arrays.
    arrays
        Named arrays or numbers.
    """

    __slots__ = ("_arrays", "patients")

    def __init__(self, patients: int = 0, /, **arrays: ArrayLike) -> None:
        self.patients = int(patients)
        self._arrays = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}

    @classmethod
    def of(cls, patients: int, arrays: Mapping[str, ArrayLike]) -> Contribution:
        """From a mapping whose names need not be identifiers."""
        return cls(patients, **dict(arrays))

    def __getitem__(self, name: str) -> Floats:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __add__(self, other: Contribution) -> Contribution:
        """Add name by name; a contribution without arrays (a center that withholds) is the zero.

        Raises
        ------
        ValueError
            If names or shapes differ.
        """
        if not self._arrays or not other._arrays:
            return Contribution.of(self.patients + other.patients, self._arrays or other._arrays)
        if self._arrays.keys() != other._arrays.keys():
            raise ValueError(f"contributions differ in {sorted(self._arrays.keys() ^ other._arrays.keys())}")
        for name, array in self._arrays.items():
            if array.shape != other[name].shape:
                raise ValueError(
                    f"{name!r} has shape {array.shape} in one contribution, {other[name].shape} in another"
                )
        return Contribution.of(
            self.patients + other.patients, {name: array + other[name] for name, array in self._arrays.items()}
        )

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes."""
        return sum(array.nbytes for array in self._arrays.values())


@dataclass(frozen=True, eq=False)
class Contributions:
    """Contributions of k centers side by side, not yet added up.

    Parameters
    ----------
    patients
        Patients behind each, shape (k,).
    arrays
        Named arrays of shape (k, ...).
    rows
        What becomes one row of an array with a row for every center of the roster (its other rows are zero), shape
        (k, columns).
    positions, centers
        Which row is whose, shape (k,), and the length of the roster.
    refused
        Why the algorithm lets some of them not out, by index.
    """

    patients: NDArray[np.int64]
    arrays: Mapping[str, Floats]
    rows: Mapping[str, Floats] = field(default_factory=dict)
    positions: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    centers: int = 0
    refused: Mapping[int, Refused] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, i: int) -> Contribution:
        """One center's."""
        arrays = {name: array[i] for name, array in self.arrays.items()}
        for name, rows in self.rows.items():
            arrays[name] = np.zeros((self.centers, rows.shape[1]))
            arrays[name][self.positions[i]] = rows[i]
        return Contribution.of(int(self.patients[i]), arrays)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the arrays of one contribution."""
        return {n: a.shape[1:] for n, a in self.arrays.items()} | {
            n: (self.centers, a.shape[1]) for n, a in self.rows.items()
        }

    @property
    def nbytes(self) -> int:
        """Size of one contribution in bytes."""
        return sum(8 * math.prod(shape) for shape in self.shapes.values())

    def without(self, refused: Mapping[int, Exception]) -> Contributions:
        """Those of the other centers."""
        if not refused:
            return self
        kept = np.setdiff1d(np.arange(len(self)), list(refused))
        return Contributions(
            self.patients[kept],
            {name: array[kept] for name, array in self.arrays.items()},
            {name: rows[kept] for name, rows in self.rows.items()},
            self.positions[kept],
            self.centers,
        )
