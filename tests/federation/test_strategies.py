"""The server's steps against the published algorithms, and one contract for every strategy."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.algorithm import run
from federation.strategies import STRATEGIES, Strategy, build_strategy, known_strategies
from tests.federation.hospitals import NOISY, averaging, federation_of, hospitals, pooled, require_equal_states, states

Floats = NDArray[np.float64]

rng = np.random.default_rng(0)
START = rng.normal(size=6)
UPDATES = [rng.normal(size=6) * scale for scale in (1, 0.1, 2, 0.5, 1e-3, 1, 3)]


def stepped(strategy: Strategy) -> list[Floats]:
    """The weights after each of a series of mean updates."""
    weights, moments, seen = START.copy(), strategy.start(6), []
    for update in UPDATES:
        weights, moments = strategy.step(weights, update, moments)
        seen.append(weights)
    return seen


# Plain transcriptions of the papers ------------------------------------------------------------------


def fedavg(eta: float = 1.0) -> list[Floats]:
    """McMahan et al. 2017, algorithm 1: the weighted mean replaces the weights (η = 1)."""
    x, seen = START.copy(), []
    for delta in UPDATES:
        x = x + eta * delta
        seen.append(x)
    return seen


def fedavgm(eta: float, beta: float) -> list[Floats]:
    """Hsu et al. 2019, section 4.3: v ← β·v + Δw, w ← w − v, with Δw pointing uphill."""
    w, v, seen = START.copy(), np.zeros(6), []
    for delta in UPDATES:
        v = beta * v + (-delta)
        w = w - eta * v
        seen.append(w)
    return seen


def fedopt(kind: str, eta: float, beta1: float, beta2: float, tau: float) -> list[Floats]:
    """Reddi et al. 2021, algorithm 2, lines 11 to 16, v₋₁ = τ²."""
    x, m, v, seen = START.copy(), np.zeros(6), np.full(6, tau**2), []
    for delta in UPDATES:
        m = beta1 * m + (1 - beta1) * delta
        if kind == "fedadagrad":
            v = v + delta**2
        elif kind == "fedyogi":
            v = v - (1 - beta2) * delta**2 * np.sign(v - delta**2)
        elif kind == "fedadam":
            v = beta2 * v + (1 - beta2) * delta**2
        x = x + eta * m / (np.sqrt(v) + tau)
        seen.append(x)
    return seen


OTHER = {"learning_rate": 0.1, "beta1": 0.8, "tau": 0.05}


@pytest.mark.parametrize(
    ("name", "parameters", "published"),
    [
        ("fedavg", {}, fedavg),
        ("fedavg", {"learning_rate": 0.5}, lambda: fedavg(0.5)),
        ("fedprox", {"mu": 0.3}, fedavg),  # its difference lies with the centers
        ("scaffold", {}, fedavg),
        ("fedavgm", {}, lambda: fedavgm(1.0, 0.9)),
        ("fedavgm", {"learning_rate": 0.3, "momentum": 0.5}, lambda: fedavgm(0.3, 0.5)),
        ("fedadagrad", OTHER, lambda: fedopt("fedadagrad", 0.1, 0.8, 0.0, 0.05)),
        ("fedadam", OTHER | {"beta2": 0.7}, lambda: fedopt("fedadam", 0.1, 0.8, 0.7, 0.05)),
        ("fedyogi", OTHER | {"beta2": 0.7}, lambda: fedopt("fedyogi", 0.1, 0.8, 0.7, 0.05)),
        # The defaults are the paper's: β₁ = 0.9 (0 for FedAdagrad), β₂ = 0.99, τ = 1e-3.
        ("fedadagrad", {}, lambda: fedopt("fedadagrad", 0.01, 0.0, 0.0, 1e-3)),
        ("fedadam", {}, lambda: fedopt("fedadam", 0.01, 0.9, 0.99, 1e-3)),
        ("fedyogi", {}, lambda: fedopt("fedyogi", 0.01, 0.9, 0.99, 1e-3)),
    ],
)
def test_equals_the_publication(name: str, parameters: dict[str, Any], published: Callable[[], list[Floats]]) -> None:
    for ours, theirs in zip(stepped(build_strategy(name, parameters)), published(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_they_differ() -> None:
    last = {name: tuple(np.round(stepped(build_strategy(name))[-1], 9)) for name in STRATEGIES}
    assert last["fedavg"] == last["fedprox"] == last["scaffold"]
    assert len(set(last.values())) == 5


# One contract ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_step_is_a_pure_function_of_arrays(name: str) -> None:
    strategy = build_strategy(name)
    weights, update, moments = START.copy(), UPDATES[0].copy(), strategy.start(6)
    assert all(m.shape == (6,) and m.dtype == np.float64 for m in moments.values())
    before = {key: m.copy() for key, m in moments.items()}
    new, after = strategy.step(weights, update, moments)
    np.testing.assert_array_equal(weights, START)
    np.testing.assert_array_equal(update, UPDATES[0])
    for key, m in moments.items():
        np.testing.assert_array_equal(m, before[key])
    assert after.keys() == moments.keys()
    assert new.shape == (6,)
    assert new.dtype == np.float64
    again, _ = strategy.step(weights, update, moments)
    np.testing.assert_array_equal(again, new)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_first_step_goes_where_the_centers_went(name: str) -> None:
    new = stepped(build_strategy(name))[0]
    assert (np.sign(new - START) == np.sign(UPDATES[0])).all()
    strategy = build_strategy(name)
    unchanged, _ = strategy.step(START, np.zeros(6), strategy.start(6))
    np.testing.assert_array_equal(unchanged, START)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_trains_a_federation(name: str) -> None:
    learning = {"learning_rate": 0.1} if name in ("fedadam", "fedyogi", "fedadagrad") else {}
    strategy = build_strategy(name, learning)
    algorithm = averaging(strategy, rounds=12)
    seen = states(algorithm, federation_of())
    losses = [algorithm.metrics(state)["train_loss"] for state in seen[1:13]]
    assert losses[-1] < losses[0] - 0.03
    for before, after in pairwise(seen[:13]):  # every round moves, not the first ones alone
        assert np.abs(after["weights"] - before["weights"]).max() > 1e-4
    assert seen[-1]["weights"].dtype == np.float32


@pytest.mark.parametrize("name", STRATEGIES)
def test_two_runs_are_identical_bit_for_bit(name: str) -> None:
    runs = [run(averaging(build_strategy(name), **NOISY), federation_of(task="t")) for _ in range(2)]
    require_equal_states(*runs)
    other = run(averaging(build_strategy(name), **NOISY), federation_of(task="t", seed=1))
    assert not np.array_equal(other["weights"], runs[0]["weights"])


# Built from names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("fedsgd", {}, "unknown strategy 'fedsgd'; use one of fedavg, fedprox"),
        ("fedprox", {"nu": 1}, "strategy 'fedprox' has no parameter 'nu'; it has .*mu"),
        ("fedadam", {"tau": "small"}, "strategy 'fedadam': tau: "),
    ],
)
def test_wrong_names_and_parameters_are_named(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_strategy(name, parameters)


def test_parameters_reach_the_strategy() -> None:
    assert build_strategy("fedprox", {"mu": 0.5, "learning_rate": 2}).proximal == 0.5
    assert build_strategy("fedprox", {"learning_rate": 2}).learning_rate == 2
    assert build_strategy("scaffold").control_variates
    assert not build_strategy("fedavg").control_variates


class Halved(Strategy):
    """As somebody else's package would bring it."""

    def step(self, weights: Floats, update: Floats, moments: Any) -> Any:
        return weights + update / 2, moments


def test_strategies_of_installed_packages_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(group: str) -> list[Any]:
        assert group == "haemfed.strategies"
        return [SimpleNamespace(name="halved", load=lambda: Halved)]

    monkeypatch.setattr("federation.strategies.entry_points", installed)
    known_strategies.cache_clear()
    try:
        assert isinstance(build_strategy("halved"), Halved)
        assert known_strategies().keys() == {*STRATEGIES, "halved"}
    finally:
        known_strategies.cache_clear()


# The examples of the documentation -------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[2] / "docs" / "strategies.md"


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_algorithm_in_the_documentation_works() -> None:
    here: dict[str, Any] = {"__name__": __name__}
    exec(examples()[1], here)
    events = run(here["EventsByAge"](), federation_of())["events"]
    table, _ = pooled(hospitals())
    known = ~np.isnan(table.column("age"))
    expected = np.histogram(table.column("age")[known & table.event], bins=[10 * k for k in range(11)])[0]
    np.testing.assert_array_equal(events[1:9], expected[1:9])


def test_the_strategy_in_the_documentation_works() -> None:
    here: dict[str, Any] = {"__name__": __name__}
    exec(examples()[0], here)
    strategy = here["FedAvgDecay"](decay=0.5)
    steps = np.diff([START, *stepped(strategy)], axis=0)
    np.testing.assert_allclose(steps, [update * 0.5**r for r, update in enumerate(UPDATES)], atol=1e-12)
    assert np.isfinite(run(averaging(strategy), federation_of())["weights"]).all()
