"""Elementary symmetric functions e_n(w), as they are or by their ratios ρ_n = e_n / e_{n-1}; never a subtraction.

Adding a weight w to a set gives e'_n = e_n + w e_{n-1}: fast, and exact to rounding unless it underflows. Hence
ρ'_n = ρ_{n-1} (ρ_n + w) / (ρ_{n-1} + w), and ρ'_1 = ρ_1 + w: ratios are of the size of weights and never overflow,
for a division a term. The first is used where it provably loses nothing, else the second.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def add_weight(ratios: np.ndarray, weight: float, result: np.ndarray) -> None:
    """Ratios ρ_1 … ρ_D (at index 1 … D) of a set with one more weight; ``result`` may be ``ratios``."""
    before = ratios[1]
    result[1] = before + weight
    for n in range(2, len(ratios)):
        here = ratios[n]
        if before > weight:  # the quotient near 1 first: the other may fall below the smallest float
            result[n] = before / (before + weight) * (here + weight)
        else:
            result[n] = before * ((here + weight) / (before + weight)) if before > 0.0 else 0.0
        before = here


@njit(cache=True)
def suffix_ratios(weights: np.ndarray, tested: np.ndarray, degree: int, result: np.ndarray) -> None:
    """Ratios of the tested genes g, g+1, …, for every g; ``result`` has shape (genes + 1, at least degree + 1)."""
    genes = len(weights)
    result[genes, : degree + 1] = 0.0
    for g in range(genes - 1, -1, -1):
        if tested[g]:
            add_weight(result[g + 1, : degree + 1], weights[g], result[g, : degree + 1])
        else:
            result[g, : degree + 1] = result[g + 1, : degree + 1]


@njit(cache=True)
def suffix_coefficients(weights: np.ndarray, tested: np.ndarray, degree: int, result: np.ndarray) -> None:
    """e_0 … e_degree of the tested genes g, g+1, …, for every g; ``result`` is (genes + 1, at least degree + 1)."""
    genes = len(weights)
    result[genes, 0] = 1.0
    result[genes, 1 : degree + 1] = 0.0
    for g in range(genes - 1, -1, -1):
        w = weights[g] if tested[g] else 0.0
        result[g, 0] = 1.0
        for n in range(1, degree + 1):
            result[g, n] = result[g + 1, n] + w * result[g + 1, n - 1]


@njit(cache=True)
def inverse_ratios_of_union(
    a: np.ndarray, b: np.ndarray, degree: int, largest: float, e: np.ndarray, result: np.ndarray
) -> bool:
    """1 / ρ_n = e_{n-1} / e_n, n = 1 … degree, of the union of two disjoint sets given their coefficients.

    Parameters
    ----------
    a, b
        e_0 … e_degree of either set.
    largest
        The largest weight of both.
    e
        Work space, at least degree + 1.

    Returns
    -------
    bool
        Whether no digit can have been lost: all terms are positive, so only what underflowed can matter, and it does
        not where every e_n is far above the smallest float times what later weights can have made of it. Otherwise
        ``result`` is void (`inverse_ratios_without` has no such limits).
    """
    for n in range(degree + 1):
        e[n] = b[n]
    for j in range(1, degree + 1):
        factor = a[j]
        if factor == 0.0:
            break
        for n in range(j, degree + 1):
            e[n] += factor * b[n - j]
    lowest, highest = 1.0, 1.0
    for n in range(1, degree + 1):
        lowest, highest = min(lowest, e[n]), max(highest, e[n])
    if not (lowest > 1e-200 and highest < 1e200 and (largest <= 1.0 or largest**degree < 1e60)):
        return False
    for n in range(1, degree + 1):
        result[n] = e[n - 1] / e[n]
    return True


@njit(cache=True)
def inverse_ratios_without(weights: np.ndarray, tested: np.ndarray, gene: int, degree: int, result: np.ndarray) -> None:
    """1 / ρ_n, n = 1 … degree, of the tested genes but one, for weights of any size; inf past their number."""
    ratios = np.zeros(degree + 2)
    for g in range(len(weights)):
        if tested[g] and g != gene:
            add_weight(ratios[: degree + 1], weights[g], ratios[: degree + 1])
    for n in range(1, degree + 1):
        result[n] = 1.0 / ratios[n] if ratios[n] > 0.0 else np.inf


@njit(cache=True)
def log_elementary(weights: np.ndarray, tested: np.ndarray, degree: int, result: np.ndarray) -> None:
    """log e_0 … log e_degree of the tested genes' weights, by one pass of O(genes · degree).

    The plain recursion e'_n = e_n + w e_{n-1} is several times as fast as that of the ratios, and loses no digit as
    long as no weight is above 1 and every e_n is far above the smallest float: whatever underflowed on the way could
    have added less than 1e-290. Else it is the ratios'.
    """
    result[0] = 1.0
    result[1 : degree + 1] = 0.0
    largest, size = 0.0, 0
    for g in range(len(weights)):
        if tested[g]:
            w = weights[g]
            size += 1
            largest = max(largest, w)
            for n in range(min(size, degree), 0, -1):
                result[n] += w * result[n - 1]
    lowest = 1.0
    for n in range(1, min(size, degree) + 1):
        lowest = min(lowest, result[n])
    if largest <= 1.0 and lowest > 1e-250:
        for n in range(degree + 1):
            result[n] = np.log(result[n]) if result[n] > 0.0 else -np.inf
        return
    ratios = np.zeros(degree + 2)
    for g in range(len(weights)):
        if tested[g]:
            add_weight(ratios[: degree + 1], weights[g], ratios[: degree + 1])
    result[0] = 0.0
    for n in range(1, degree + 1):
        result[n] = result[n - 1] + (np.log(ratios[n]) if ratios[n] > 0.0 else -np.inf)


@njit(cache=True)
def draw_events(
    weights: np.ndarray, tested: np.ndarray, n: int, rng: np.random.Generator, suffix: np.ndarray, result: np.ndarray
) -> None:
    """One exact draw from the conditional Bernoulli law of n events among the tested genes (sequential).

    Gene g has an event with probability w_g / (w_g + ρ_m), ρ_m of the genes after g and m the events still to place.
    """
    suffix_ratios(weights, tested, n, suffix)
    left = n
    for g in range(len(weights)):
        result[g] = 0
        if tested[g] and left > 0 and rng.random() * (weights[g] + suffix[g + 1, left]) < weights[g]:
            result[g] = 1
            left -= 1
