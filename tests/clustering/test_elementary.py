"""Elementary symmetric functions by ratios, against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustering.elementary import add_weight, draw_events, log_elementary, union_inverse_ratios


def exact(weights: list[float], degree: int) -> list[Fraction]:
    e = [Fraction(1)] + [Fraction(0)] * degree
    for w in weights:
        for n in range(degree, 0, -1):
            e[n] += Fraction(w) * e[n - 1]
    return e


logs = st.lists(st.floats(-300, 300), min_size=0, max_size=9)


@settings(deadline=None, max_examples=150)
@given(logs, logs)
def test_unions_and_logarithms_equal_exact_arithmetic(first: list[float], second: list[float]) -> None:
    degree = 6
    a, b = [float(np.exp(t)) for t in first], [float(np.exp(t)) for t in second]
    ratios = []
    for weights in (a, b):
        r = np.zeros(degree + 2)
        for w in weights:
            add_weight(r, w, r)
        ratios.append(r)
    inverse, log_e = np.zeros(degree + 1), np.zeros(degree + 1)
    union_inverse_ratios(*ratios, degree, inverse)
    log_elementary(np.array(a + b), np.ones(len(a + b), bool), degree, log_e)
    e = exact(a + b, degree)
    for n in range(1, degree + 1):
        if e[n] == 0:
            assert inverse[n] == np.inf or n > len(a + b) + 1
            assert log_e[n] == -np.inf
        else:
            ratio = e[n - 1] / e[n]
            assert abs(Fraction(inverse[n]) / ratio - 1) < 1e-12
            log_exact = _log(e[n].numerator) - _log(e[n].denominator)
            assert log_e[n] == pytest.approx(log_exact, rel=1e-11, abs=1e-10)


def _log(number: int) -> float:
    """Logarithm of any positive integer."""
    shift = max(0, number.bit_length() - 900)
    return float(np.log(float(number >> shift)) + shift * np.log(2.0))


def test_draws_have_the_enumerated_probabilities() -> None:
    weights, n, draws = np.array([0.02, 3.0, 1.0, 0.5, 7.0]), 2, 60_000
    tested = np.array([True, True, False, True, True])
    rng, suffix, x = np.random.default_rng(1), np.zeros((6, 3)), np.zeros(5, np.int64)
    found: dict[tuple[int, ...], int] = {}
    for _ in range(draws):
        draw_events(weights, tested, n, rng, suffix, x)
        key = tuple(np.flatnonzero(x))
        found[key] = found.get(key, 0) + 1
    sets = [(i, j) for i in range(5) for j in range(i + 1, 5) if tested[i] and tested[j]]
    p = np.array([weights[i] * weights[j] for i, j in sets])
    p /= p.sum()
    expected = draws * p
    chi = sum((found.get(s, 0) - m) ** 2 / m for s, m in zip(sets, expected, strict=True))
    assert sum(found.values()) == sum(found.get(s, 0) for s in sets) == draws
    assert chi < 24  # 5 degrees of freedom, p about 2e-4
