"""Bootstrap intervals over patients, drawn once and shared by every arm.

A bootstrap replicate of a cohort is a vector of multiplicities: how often each patient was drawn.
All replicates together are one matrix ``W [replicates, patients]``. A metric that can be written in
terms of multiplicities (a ratio of sums over patients, or over pairs of patients) is then computed
for all replicates by matrix products, and because every arm sees the same ``W``, the difference of
two arms has replicates too: that is all a paired comparison needs.

Patients are drawn within their center, so every replicate keeps the centers' sizes: the intervals
speak of new patients of these centers, not of new centers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

__all__ = [
    "Estimate",
    "bootstrap_weights",
    "paired_difference",
    "percentile_interval",
    "spread_over_folds",
]


@dataclass(frozen=True)
class Estimate:
    """A metric's value with its bootstrap interval.

    Attributes
    ----------
    mean : float
        The value on the patients as they are (each counted once), averaged over repeats.
    low, high : float
        95% percentile interval of the replicates.
    spread : float
        Standard deviation of the metric over the (repeat, fold) test sets; NaN if fewer than two of
        them have a value. It says how much one split differs from another, and is no standard error.
    n, events : int
        Patients the metric speaks of, and how many of them had the event (at any time).
    replicates : ndarray, shape = (n_replicates,)
        The bootstrap values, for paired differences. Not serialised.
    fold_values : ndarray, shape = (n_repeats * n_folds,)
        The value in each test set, NaN where it has none. Not serialised.
    """

    mean: float
    low: float
    high: float
    spread: float
    n: int
    events: int
    replicates: FloatArray = field(repr=False, compare=False)
    fold_values: FloatArray = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for JSON: NaN becomes None, the arrays stay behind."""
        numbers = {"mean": self.mean, "low": self.low, "high": self.high, "spread": self.spread}
        plain = {name: float(x) if math.isfinite(x) else None for name, x in numbers.items()}
        return {**plain, "n": int(self.n), "events": int(self.events)}


def bootstrap_weights(
    center: npt.ArrayLike,
    n_replicates: int,
    seed: int,
    *,
    patient: Sequence[str] | Sequence[int] | npt.NDArray[np.generic] | None = None,
) -> FloatArray:
    """Draw patients with replacement within each center.

    Every center draws from its own stream, ``SeedSequence([seed, center])``: its weights depend
    neither on the other centers present nor, if ids are given, on the order of the patients.

    Parameters
    ----------
    center : array-like, shape = (n,)
        The center each patient belongs to.
    n_replicates : int
        Number of bootstrap replicates; 0 gives an empty matrix (point estimates only).
    seed : int
        Non-negative.
    patient : array-like, shape = (n,), optional
        Ids, unique within a center.

    Returns
    -------
    weights : ndarray, shape = (n_replicates, n)
        Multiplicities. In every row each center's weights add up to its number of patients.

    Raises
    ------
    ValueError
        If the shapes do not fit, a number is negative, or ids repeat within a center.

    References
    ----------
    Davison, A. C., Hinkley, D. V., "Bootstrap Methods and their Application", Cambridge University
    Press, 1997, section 3.2 (several samples) and 2.7 (multinomial weights).
    """
    labels = np.asarray(center)
    if labels.ndim != 1:
        raise ValueError(f"center must have shape (n,), got {labels.shape}")
    if n_replicates < 0 or seed < 0:
        raise ValueError(f"n_replicates and seed must not be negative, got {n_replicates} and {seed}")
    ids = np.arange(labels.size) if patient is None else np.asarray(patient)
    if ids.shape != labels.shape:
        raise ValueError(f"patient must have center's shape {labels.shape}, got {ids.shape}")

    weights = np.zeros((n_replicates, labels.size))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        unique, first = np.unique(ids[members], return_index=True)
        if unique.size < members.size:
            raise ValueError(f"patient has repeated ids in center {label.item()!r}")
        members = members[first]
        digest = hashlib.blake2b(str(label.item()).encode(), digest_size=8).digest()
        rng = np.random.default_rng([seed, int.from_bytes(digest, "little")])
        share = np.full(members.size, 1.0 / members.size)
        weights[:, members] = rng.multinomial(members.size, share, size=n_replicates)
    return weights


def percentile_interval(replicates: FloatArray, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Percentile interval of each row, over the replicates that have a value.

    In a small group some replicates draw no comparable pair and have no value. Where fewer than
    half of them have one, the rest say little about the whole distribution: the interval is NaN.

    Parameters
    ----------
    replicates : ndarray, shape = (m, n_replicates)
    level : float

    Returns
    -------
    low, high : ndarray, shape = (m,)
    """
    m, total = replicates.shape
    ordered = np.sort(replicates, axis=1)  # NaN goes last
    count = np.isfinite(replicates).sum(axis=1)
    enough = (2 * count >= total) & (count > 0)
    low, high = np.full(m, np.nan), np.full(m, np.nan)
    rows, last = np.flatnonzero(enough), count[enough] - 1
    for bound, q in ((low, (1 - level) / 2), (high, (1 + level) / 2)):
        position = q * last
        below = np.floor(position).astype(np.intp)
        above = np.minimum(below + 1, last)
        left, right = ordered[rows, below], ordered[rows, above]
        bound[rows] = left + (position - below) * (right - left)
    return low, high


def spread_over_folds(fold_values: FloatArray) -> FloatArray:
    """Standard deviation of each row's values that exist; NaN if fewer than two do.

    Parameters
    ----------
    fold_values : ndarray, shape = (m, n_folds)

    Returns
    -------
    spread : ndarray, shape = (m,)
    """
    known = np.isfinite(fold_values)
    count = known.sum(axis=1)
    mean = np.where(known, fold_values, 0.0).sum(axis=1) / np.maximum(count, 1)
    squares = np.where(known, (fold_values - mean[:, None]) ** 2, 0.0).sum(axis=1)
    return np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)


def paired_difference(a: Estimate, b: Estimate) -> Estimate:
    """The estimate of ``a - b`` when both were computed with the same weights.

    Replicate by replicate both arms saw the same patients, so what makes a sample easy or hard for
    both cancels and the interval is narrower than that of two independent arms. The spread is that
    of the fold-wise differences; ``n`` and ``events`` are those of the smaller arm.

    Raises
    ------
    ValueError
        If the two do not have equally many replicates.
    """
    if a.replicates.shape != b.replicates.shape:
        raise ValueError(
            f"a and b must come from the same weights, got {a.replicates.size} and {b.replicates.size} replicates"
        )
    replicates = a.replicates - b.replicates
    same_folds = a.fold_values.shape == b.fold_values.shape
    fold_values = a.fold_values - b.fold_values if same_folds else np.empty(0)
    low, high = percentile_interval(replicates[None, :])
    mean = a.mean - b.mean
    known = math.isfinite(mean)
    return Estimate(
        mean=mean,
        low=float(low[0]) if known else math.nan,
        high=float(high[0]) if known else math.nan,
        spread=float(spread_over_folds(fold_values[None, :])[0]),
        n=min(a.n, b.n),
        events=min(a.events, b.events),
        replicates=replicates,
        fold_values=fold_values,
    )
