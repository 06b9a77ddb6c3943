"""Aggregators that a minority of lying centers cannot move far, as functions of the centers' updates side by side.

They have to see updates one by one, so they and secure aggregation exclude each other. Each takes updates of shape
(centers, parameters) and weights of shape (centers,), and gives the aggregate, shape (parameters,). Updates that are
not finite are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Aggregator = Callable[..., Floats]


def _finite(aggregate: Aggregator) -> Aggregator:
    """Leave out updates that are not finite, and those without weight."""

    @wraps(aggregate)
    def checked(updates: Floats, weights: Floats, **options: float) -> Floats:
        kept = np.isfinite(updates).all(axis=1) & (weights > 0)
        if not kept.any():
            raise ValueError(f"none of {len(updates)} updates is finite and has a weight")
        return aggregate(updates[kept], weights[kept], **options)

    return checked


@_finite
def mean(updates: Floats, weights: Floats) -> Floats:
    """Weighted mean: what FedAvg takes, and one center can move at will."""
    found: Floats = weights @ updates / weights.sum()
    return found


@_finite
def median(updates: Floats, weights: Floats) -> Floats:
    """Weighted median of each coordinate (Yin 2018): the lowest value that half of the weight does not exceed."""
    order = np.argsort(updates, axis=0)
    reached = np.cumsum(weights[order], axis=0) >= weights.sum() / 2 * (1 - 1e-12)
    first = np.argmax(reached, axis=0)
    found: Floats = np.take_along_axis(np.take_along_axis(updates, order, 0), first[None], 0)[0]
    return found


@_finite
def trimmed_mean(updates: Floats, weights: Floats, trim: float = 0.2) -> Floats:
    """Mean of each coordinate without the `trim` of the weight on both sides (Yin 2018)."""
    if not 0 <= trim < 0.5:
        raise ValueError(f"trim is {trim}; it is a fraction from 0 and below 0.5")
    order = np.argsort(updates, axis=0)
    sorted_updates, share = np.take_along_axis(updates, order, 0), weights[order] / weights.sum()
    above = np.cumsum(share, axis=0)
    inside = np.clip(np.minimum(above, 1 - trim) - np.maximum(above - share, trim), 0, None)
    found: Floats = (inside * sorted_updates).sum(axis=0) / inside.sum(axis=0)
    return found


@_finite
def krum(updates: Floats, weights: Floats, bad: float = 0.2) -> Floats:
    """The update with the nearest neighbours (Blanchard 2017); weights do not count.

    `bad` is the fraction of lying centers that it is safe against; each update is judged by its n - f - 2 nearest.
    """
    n = len(updates)
    near = max(1, n - int(np.ceil(bad * n)) - 2)
    squares = (updates**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * updates @ updates.T, 0)
    np.fill_diagonal(distances, np.inf)
    scores = np.sort(distances, axis=1)[:, : min(near, n - 1)].sum(axis=1) if n > 1 else np.zeros(1)
    found: Floats = updates[np.argmin(scores)]
    return found


@_finite
def geometric_median(updates: Floats, weights: Floats, steps: int = 100, tolerance: float = 1e-10) -> Floats:
    """The point with the least weighted sum of distances, by smoothed Weiszfeld steps (RFA; Pillutla 2022)."""
    point = weights @ updates / weights.sum()
    smallest = 1e-9 * (np.abs(updates).max() + 1e-300)
    for _ in range(steps):
        pull = weights / np.maximum(np.linalg.norm(updates - point, axis=1), smallest)
        new = pull @ updates / pull.sum()
        moved, point = float(np.linalg.norm(new - point)), new
        if moved <= tolerance * float(np.linalg.norm(new)):
            break
    found: Floats = point
    return found


@_finite
def bounded_mean(updates: Floats, weights: Floats, norm: float | None = None) -> Floats:
    """Weighted mean of updates shortened to a norm; by default the median of their norms (Sun 2019)."""
    norms = np.linalg.norm(updates, axis=1)
    limit = float(np.median(norms)) if norm is None else norm
    return mean(updates * np.minimum(1, limit / np.maximum(norms, 1e-300))[:, None], weights)


AGGREGATORS: Mapping[str, Aggregator] = {
    "mean": mean,
    "median": median,
    "trimmed-mean": trimmed_mean,
    "krum": krum,
    "geometric-median": geometric_median,
    "bounded-mean": bounded_mean,
}

DETECTION = ("norm", "cosine", "distance")
"""What `detection` says of each update."""


def detection(updates: Floats, weights: Floats) -> Floats:
    """How each update compares with the others, shape (centers, 3); NaN for updates without weight.

    ``norm``: its length over the median length. ``cosine``: of the angle to the coordinate-wise median of all updates;
    a reversed update has a negative one. ``distance``: from that median, times the root of the weight (the mean of n
    patients' gradients scatters with 1/√n, so small centers would all look odd), over the median of the same. An
    update that is not finite has infinite norm and distance.
    """
    found = np.full((len(updates), len(DETECTION)), np.nan)
    taking_part = weights > 0
    finite = np.isfinite(updates).all(axis=1) & taking_part
    found[taking_part & ~finite] = (np.inf, 0.0, np.inf)
    if not finite.any():
        return found
    kept, center = updates[finite], median(updates, weights)
    norms = np.linalg.norm(kept, axis=1)
    scattered = np.linalg.norm(kept - center, axis=1) * np.sqrt(weights[finite])
    angles = kept @ center / np.maximum(norms * np.linalg.norm(center), 1e-300)
    typical = np.maximum((np.median(norms), np.median(scattered)), 1e-300)
    found[finite] = np.column_stack([norms / typical[0], angles, scattered / typical[1]])
    return found


def check_options(aggregator: str, options: Mapping[str, float]) -> None:
    """Raise ValueError if there is no such aggregator, or it does not take these options."""
    if aggregator not in AGGREGATORS:
        raise ValueError(f"no aggregator {aggregator!r}; there are {', '.join(AGGREGATORS)}")
    known = [name for name in signature(AGGREGATORS[aggregator]).parameters if name not in ("updates", "weights")]
    for name in options.keys() - set(known):
        raise ValueError(f"aggregator {aggregator!r} has no option {name!r}; it has {', '.join(known) or 'none'}")
    for name, value in options.items():
        if name in ("trim", "bad") and not 0 <= value < 0.5:
            raise ValueError(f"{name} is {value}; it is a fraction from 0 and below 0.5")
        if name in ("norm", "steps", "tolerance") and not value > 0:
            raise ValueError(f"{name} is {value}; it must be positive")
