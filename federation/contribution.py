"""What leaves a center: named arrays that can be added to another center's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Contribution(Mapping[str, Floats]):
    """Named float64 arrays, and the number of patients they were computed from.

    Sums are taken in float64 and rounded to a model's precision once, by the algorithm, so that the number of partial
    sums hardly matters.

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


def total(contributions: Iterable[Contribution]) -> Contribution:
    """Add up in the given order; an empty contribution if there are none."""
    result = Contribution()
    for contribution in contributions:
        result = result + contribution
    return result
