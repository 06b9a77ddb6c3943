"""Elementary symmetric functions by ratios, against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustering.elementary import (
    draw_events,
    inverse_ratios_of_union,
    inverse_ratios_without,
    log_elementary,
    suffix_coefficients,
)


def exact(weights: list[float], degree: int) -> list[Fraction]:
    e = [Fraction(1)] + [Fraction(0)] * degree
    for w in weights:
        for n in range(degree, 0, -1):
            e[n] += Fraction(w) * e[n - 1]
    return e


logs = st.lists(st.floats(-300, 300), min_size=0, max_size=9)


@settings(deadline=None, max_examples=150)
@given(logs)
def test_logarithms_equal_exact_arithmetic(weights: list[float]) -> None:
    degree = 6
    values = [float(np.exp(t)) for t in weights]
    log_e = np.zeros(degree + 1)
    log_elementary(np.array(values), np.ones(len(values), bool), degree, log_e)
    for n, e in enumerate(exact(values, degree)):
        if e == 0:
            assert log_e[n] == -np.inf
        else:
            assert log_e[n] == pytest.approx(_log(e.numerator) - _log(e.denominator), rel=1e-11, abs=1e-10)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(-300, 20) | st.floats(-3, 3), min_size=1, max_size=9), st.data())
def test_inverse_ratios_without_one_gene_equal_exact_arithmetic(logs_of: list[float], data: st.DataObject) -> None:
    values = np.exp(np.array(logs_of))
    tested = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    gene = data.draw(st.integers(0, len(values) - 1))
    others = [float(w) for g, w in enumerate(values) if tested[g] and g != gene]
    degree = len(others)
    slow, fast, work = np.zeros(degree + 1), np.zeros(degree + 1), np.zeros(degree + 1)
    inverse_ratios_without(values, tested, gene, degree, slow)
    suffix = np.zeros((len(values) + 1, degree + 1))
    suffix_coefficients(values, tested, degree, suffix)
    before = np.zeros((len(values) + 1, degree + 1))  # the suffixes of the genes in reverse are prefixes
    suffix_coefficients(values[::-1].copy(), tested[::-1].copy(), degree, before)
    prefix = before[len(values) - gene]
    valid = inverse_ratios_of_union(prefix, suffix[gene + 1], degree, float(values.max()), work, fast)
    assert valid or values.min() < 1e-15 or values.max() > 1e3
    e = exact(others, degree)
    for n in range(1, degree + 1):
        ratio = e[n - 1] / e[n]
        assert abs(Fraction(slow[n]) / ratio - 1) < 1e-12
        assert not valid or abs(Fraction(fast[n]) / ratio - 1) < 1e-12


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
