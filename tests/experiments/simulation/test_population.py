"""The copula gives the marginals and odds ratios it was asked for, and says so where nobody could."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from experiments.simulation import Bernoulli, Exclusive, LogNormal, Marginal, Normal, Population, SimulationError
from experiments.simulation.population import both, complete, upper_quadrant


@settings(max_examples=50, deadline=None)
@given(h=st.floats(-2, 2), k=st.floats(-2, 2), r=st.floats(-0.95, 0.95))
def test_the_quadrant_is_scipys(h: float, k: float, r: float) -> None:
    expected = multivariate_normal(cov=[[1, r], [r, 1]]).cdf([-h, -k])
    assert upper_quadrant(h, k, r) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(p=st.floats(0.01, 0.99), q=st.floats(0.01, 0.99), log_ratio=st.floats(-3, 3))
@example(p=0.5, q=0.5, log_ratio=2.3e-16)
def test_both_has_the_odds_ratio(p: float, q: float, log_ratio: float) -> None:
    joint = both(p, q, np.exp(log_ratio))
    cells = joint, p - joint, q - joint, 1 - p - q + joint
    assert min(cells) > 0
    assert np.log(cells[0] * cells[3] / (cells[1] * cells[2])) == pytest.approx(log_ratio, abs=1e-5)


def test_what_is_not_stated_is_independent_given_the_rest() -> None:
    matrix = complete(4, [(0, 1, 0.8), (1, 2, 0.5), (2, 3, -0.6)])  # a path: correlations multiply along it
    assert np.allclose(matrix[0], [1, 0.8, 0.4, -0.24], atol=1e-7)
    cycle = complete(4, [(0, 1, 0.6), (1, 2, 0.6), (2, 3, 0.6), (0, 3, 0.1)])
    assert np.allclose([cycle[0, 1], cycle[1, 2], cycle[2, 3], cycle[0, 3]], [0.6, 0.6, 0.6, 0.1], atol=1e-7)
    inverse = np.linalg.inv(cycle)
    assert abs(inverse[0, 2]) < 1e-7
    assert abs(inverse[1, 3]) < 1e-7


def test_drawn_patients_are_as_stated() -> None:
    population = Population(
        {
            "age": Normal(70, 10, 20, 100),
            "wbc": LogNormal(12, 0.8, 0, 400),
            "a": Bernoulli(0.3),
            "b": Bernoulli(0.1),
            "group": Exclusive({"c": 0.4, "d": 0.2}),
        },
        {("a", "b"): 4.0, ("c", "a"): 0.3},
        {("age", "wbc"): 0.5, ("wbc", "b"): 0.2},
    )
    n = 60_000
    table, scores = population.draw(n, np.random.default_rng(0))
    assert list(table) == ["age", "wbc", "a", "b", "c", "d"]
    for name, p in {"a": 0.3, "b": 0.1, "c": 0.4, "d": 0.2}.items():
        assert abs(table[name].mean() - p) < 4 * np.sqrt(p * (1 - p) / n), name
    assert not ((table["c"] == 1) & (table["d"] == 1)).any()
    for first, second, ratio in (("a", "b", 4.0), ("c", "a", 0.3)):
        x, y = table[first] == 1, table[second] == 1
        cells = [(i & j).sum() for i in (x, ~x) for j in (y, ~y)]
        found = np.log(cells[0] * cells[3] / (cells[1] * cells[2]))
        assert abs(found - np.log(ratio)) < 4 * np.sqrt(sum(1 / c for c in cells)), (first, second)
    assert np.median(table["wbc"]) == pytest.approx(12, rel=0.02)
    assert table["age"].std() == pytest.approx(10, rel=0.02)
    assert np.corrcoef(scores[:, 0], np.log(table["wbc"]))[0, 1] == pytest.approx(0.5, abs=0.02)
    assert np.allclose(norm.isf(0.3), scores[table["a"] == 1, 2].min(), atol=0.01)


TWO: dict[str, Marginal] = {"a": Bernoulli(0.3), "b": Bernoulli(0.2), "group": Exclusive({"c": 0.4, "d": 0.2})}


@pytest.mark.parametrize(
    ("odds", "correlations", "message"),
    [
        ({("a", "d"): 2.0}, {}, "'d', which is not binary or not the first"),
        ({("a", "nobody"): 2.0}, {}, "names 'nobody'"),
        ({("a", "b"): -1.0}, {}, "odds ratio of 'a' and 'b' is -1"),
        ({("a", "b"): 2.0}, {("b", "a"): 0.1}, "stated twice"),
        ({}, {("a", "x"): 0.1}, "'x' is in a pair"),
        ({}, {("a", "b"): 0.9, ("a", "group"): 0.9, ("b", "group"): -0.9}, "cannot all hold together"),
    ],
)
def test_impossible_populations_are_refused(
    odds: dict[tuple[str, str], float], correlations: dict[tuple[str, str], float], message: str
) -> None:
    with pytest.raises(SimulationError, match=message):
        Population(TWO, odds, correlations).correlation()
