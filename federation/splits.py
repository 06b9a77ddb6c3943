"""Train, validation and test patients, drawn inside each center from patient ids alone.

The draw depends on (seed, repeat, center, id) and never on the order of the patients or on other centers, so every arm
of an experiment, on any machine, sees the same split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federation.randomness import entropy

TRAIN, VALIDATION, TEST = 0, 1, 2


@dataclass(frozen=True)
class Split:
    """One fold of a repeated K-fold, with validation patients taken out of the training patients.

    Parameters
    ----------
    seed, repeat, fold, n_folds
        Which split; fold in 0 ... n_folds-1. With ``n_folds=0`` there is no test part.
    validation
        Fraction of the non-test patients held out for validation.
    """

    seed: int = 0
    repeat: int = 0
    fold: int = 0
    n_folds: int = 0
    validation: float = 0.0

    def folds(self, ids: NDArray[np.str_], event: NDArray[np.bool_], center: str) -> NDArray[np.int64]:
        """The fold in which each patient is tested, shape (n,); balanced for events and censored patients."""
        if self.n_folds == 0:
            return np.full(len(ids), -1)
        rank = _rank(ids, event, f"{self.seed}/{self.repeat}/fold/{center}")
        start = entropy(f"{self.seed}/{self.repeat}/{center}") % self.n_folds  # tiny centers do not all test in fold 0
        return (rank + start) % self.n_folds

    def parts(self, ids: NDArray[np.str_], event: NDArray[np.bool_], center: str) -> NDArray[np.int64]:
        """TRAIN, VALIDATION or TEST for each patient of a center, shape (n,)."""
        parts = np.where(self.folds(ids, event, center) == self.fold, TEST, TRAIN)
        rest = np.flatnonzero(parts == TRAIN)
        count = round(self.validation * len(rest))
        if count:
            rank = _rank(ids[rest], event[rest], f"{self.seed}/{self.repeat}/{self.fold}/validation/{center}")
            spaced = np.floor((np.arange(count) + 0.5) * len(rest) / count)  # over events, then censored: keeps the mix
            parts[rest[np.isin(rank, spaced)]] = VALIDATION
        return parts


def _rank(ids: NDArray[np.str_], event: NDArray[np.bool_], path: str) -> NDArray[np.int64]:
    """Position of each patient in an order random in (path, id): patients with an event first."""
    keys = np.array([entropy(f"{path}/{i}") for i in ids], dtype=np.uint64)
    order = np.lexsort((ids, keys, ~event)) if len(ids) else np.empty(0, dtype=np.int64)
    rank = np.empty(len(ids), dtype=np.int64)
    rank[order] = np.arange(len(ids))
    return rank
