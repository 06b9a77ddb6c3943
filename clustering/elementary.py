"""Elementary symmetric functions e_n(w) by their ratios ρ_n = e_n / e_{n-1}: positive, without overflow or subtraction.

Adding a weight w to a set gives e'_n = e_n + w e_{n-1}, hence ρ'_n = ρ_{n-1} (ρ_n + w) / (ρ_{n-1} + w), and ρ'_1 =
ρ_1 + w. By Newton's inequalities the ratios decrease, so that products of two sets' polynomials have log-concave terms
and can be summed from their largest outwards.
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
def _terms(a: np.ndarray, b: np.ndarray, n: int, top: int) -> float:
    """Σ_j a_j b_{n-j} over its largest term, which is that of j = ``top``."""
    total, term = 1.0, 1.0
    for j in range(top, n):
        if a[j + 1] <= 0.0:
            break
        term *= a[j + 1] / b[n - j]
        total += term
        if term < 1e-17 * total:
            break
    term = 1.0
    for j in range(top, 0, -1):
        if b[n - j + 1] <= 0.0:
            break
        term *= b[n - j + 1] / a[j]
        total += term
        if term < 1e-17 * total:
            break
    return total


@njit(cache=True)
def union_inverse_ratios(a: np.ndarray, b: np.ndarray, degree: int, result: np.ndarray) -> None:
    """1 / ρ_n = e_{n-1} / e_n, n = 1 … degree, of the union of two disjoint sets given their ratios; inf past its size.

    The largest term of e_n is the product of the n largest ratios of both sets.
    """
    top, before = 0, 1.0
    for n in range(1, degree + 1):
        next_a = a[top + 1]
        next_b = b[n - top]
        largest = max(next_a, next_b)
        if largest <= 0.0:
            result[n : degree + 1] = np.inf
            return
        if next_a >= next_b:
            top += 1
        total = _terms(a, b, n, top)
        result[n] = before / (total * largest)
        before = total


@njit(cache=True)
def log_elementary(weights: np.ndarray, tested: np.ndarray, degree: int, result: np.ndarray) -> None:
    """log e_0 … log e_degree of the tested genes' weights, by one pass of O(genes · degree)."""
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
