"""Many tables at once give what each gives alone, by every engine, with every option."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from models.batched import vectorized
from models.batched.streams import Streams
from models.batched.tables import Tables
from models.batched.training import Engine, engine_for, measure_many, steps_of, train_many
from models.flat import get_weights
from models.survival.concordance import concordance_counts
from models.survival.network import CoxNetwork, SurvivalNetwork, build_network
from models.survival.separable import SeparableNetwork
from models.training import TrainingData, TrainingOptions, mean_loss, predict, train

FEATURES = 5
SIZES = (50, 1, 0, 23, 50, 7, 2, 120, 11, 49)


def tables_of(
    sizes: tuple[int, ...] = SIZES, seed: int = 0, ties: bool = True, missing: bool = False
) -> list[TrainingData]:
    found = []
    for j, n in enumerate(sizes):
        rng = np.random.default_rng([seed, j])
        x = rng.normal(size=(n, FEATURES)).astype(np.float32).astype(np.float64)
        time = rng.exponential(4 * np.exp(-x[:, 0])) + 0.01
        time = np.ceil(4 * time) / 4 if ties else time
        event = rng.random(n) < 0.6
        found.append(TrainingData(np.where(rng.random(x.shape) < 0.2, np.nan, x) if missing else x, time, event))
    return found


class Residual(CoxNetwork):
    """Any other network: a skip connection and a product of two layers."""

    def __init__(self, n_features: int, ties: Any = "efron") -> None:
        super().__init__(n_features, (), ties=ties)
        self.one, self.two = nn.Linear(n_features, 6), nn.Linear(n_features, 6)
        self.out = nn.Linear(6, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        risk: torch.Tensor = self.layers(x) + self.out(torch.tanh(self.one(x)) * torch.sigmoid(self.two(x)))
        return risk.squeeze(-1)


class Noisy(SeparableNetwork):
    """No Cox network: two outputs, normal noise, missing values, a loss that is a sum over patients."""

    accepts_missing = True
    noise = 3

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2 * n_features, 4), nn.Linear(4 + self.noise, 2)

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None, progress: Any = 1.0) -> torch.Tensor:
        missing = torch.isnan(x)
        hidden = torch.tanh(self.one(torch.cat([torch.where(missing, 0.0, x), missing.to(x.dtype)], -1)))
        drawn = hidden.new_zeros(*x.shape[:-1], self.noise) if noise is None else noise * progress
        output: torch.Tensor = self.two(torch.cat([hidden, drawn], -1))
        return output

    def endpoint(self, time: NDArray[np.float64], event: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
        return np.log1p(time), event.astype(np.float64)

    def terms(self, output: torch.Tensor, *endpoint: torch.Tensor) -> torch.Tensor:
        time, event = endpoint
        return event * (output[..., 0] - time) ** 2 + torch.nn.functional.softplus(output[..., 1])

    def risk(self, output: torch.Tensor) -> torch.Tensor:
        return -output[..., 0]


def network(name: str) -> Any:
    built = {
        "linear": lambda: build_network("cox", FEATURES, {"ties": "breslow"}),
        "linear efron": lambda: build_network("cox", FEATURES),
        "relu": lambda: build_network("deepsurv", FEATURES, {"hidden": [8, 6], "ties": "breslow"}),
        "selu": lambda: build_network("deepsurv", FEATURES, {"hidden": [7], "activation": "selu"}),
        "tanh": lambda: build_network("deepsurv", FEATURES, {"hidden": [4, 3, 5], "activation": "tanh"}),
        "elu": lambda: build_network("deepsurv", FEATURES, {"hidden": [9], "activation": "elu"}),
        "residual": lambda: Residual(FEATURES),
        "dropout": lambda: build_network("deepsurv", FEATURES, {"hidden": [4], "dropout": 0.3}),
        "noisy": lambda: Noisy(FEATURES),
    }[name]()
    torch.manual_seed(1)
    for p in built.parameters():
        nn.init.normal_(p, std=0.4)
    return built


NETWORKS = ("linear", "linear efron", "relu", "selu", "tanh", "elu", "residual", "dropout", "noisy")

OPTIONS = {
    "full batch": TrainingOptions(steps=4, learning_rate=0.2),
    "mini-batches": TrainingOptions(epochs=2, batch_size=10, learning_rate=0.05),
    "some steps": TrainingOptions(steps=7, batch_size=16, learning_rate=0.05),
    "momentum, decay": TrainingOptions(epochs=2, batch_size=12, optimizer="momentum", weight_decay=0.1),
    "adam, clipped": TrainingOptions(epochs=2, batch_size=9, optimizer="adam", learning_rate=0.02, clip_norm=0.5),
    "sgd, clipped": TrainingOptions(steps=3, clip_norm=0.05),
}


def streams(count: int) -> Streams:
    return Streams((3, 2**40, 17), np.arange(7, 7 + count, dtype=np.uint64) << np.uint64(30))


def alone(
    net: SurvivalNetwork, weights: NDArray[np.float32], data: list[TrainingData], options: TrainingOptions, **terms: Any
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    corrections = terms.pop("corrections", None)
    found = []
    for i, table in enumerate(data):
        correction = None if corrections is None else corrections[i]
        rng = streams(len(data)).generator(i)
        found.append(train(net, weights, table, options, rng, correction=correction, **terms))
    return np.array([w for w, _ in found]), np.array([loss for _, loss in found])


def require_close(ours: NDArray[np.floating], theirs: NDArray[np.floating], start: NDArray[np.floating]) -> None:
    """Changes within 1e-5 of how far training went, table by table, and a few float32 roundings of the weights."""
    change = theirs.astype(np.float64) - start
    far = np.linalg.norm(change, axis=1)
    assert (np.linalg.norm(ours - change, axis=1) <= 1e-5 * far + 1e-6 * np.linalg.norm(start)).all()


def engines(net: SurvivalNetwork) -> list[Engine]:
    best = engine_for(net)
    return ["compiled", "vectorized", "loop"] if best == "compiled" else list(dict.fromkeys([best, "loop"]))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_many_tables_at_once_equal_one_after_the_other(name: str, options: str) -> None:
    net, data, chosen = network(name), tables_of(missing=name == "noisy"), OPTIONS[options]
    weights = get_weights(net)
    rng = np.random.default_rng(4)
    corrections = rng.normal(size=(len(data), len(weights))) * 0.05
    variants: list[dict[str, Any]] = [{}, {"proximal": 0.3}, {"corrections": corrections}]
    if net.noise:
        variants.append({"progress": (0.25, 0.5)})
    if chosen.optimizer == "adam" and name in ("relu", "selu", "elu"):
        # A unit that is linear over all patients of a batch has a bias whose gradient is zero, and Adam scales its
        # rounding errors up to a step: no two orders of addition agree on it. A correction gives it a gradient.
        variants = [{"corrections": corrections}]
    for terms in variants:
        expected, losses = alone(net, weights, data, chosen, **terms)
        for engine in engines(net):
            packed = Tables.of(data, FEATURES)
            found = train_many(net, weights, packed, chosen, streams(len(data)), engine=engine, **terms)
            require_close(found[0], expected, weights)
            np.testing.assert_allclose(found[1], losses, rtol=1e-5, atol=1e-6, err_msg=engine)


def test_engines_are_chosen_by_what_a_network_is() -> None:
    found = {name: engine_for(network(name)) for name in NETWORKS}
    assert found.pop("residual") == found.pop("noisy") == "vectorized"
    assert found.pop("dropout") == "loop"
    assert set(found.values()) == {"compiled"}
    assert engine_for(network("relu"), "cuda") == "vectorized"
    assert engine_for(network("relu").double()) == "loop"


@pytest.mark.parametrize("engine", ["compiled", "vectorized"])
def test_a_table_does_not_depend_on_its_company(engine: Engine) -> None:
    net, data, options = network("tanh"), tables_of((50, 31, 50, 8, 50, 33, 34) * 3), OPTIONS["mini-batches"]
    packed, found = Tables.of(data, FEATURES), streams(len(data))
    together, losses = train_many(net, get_weights(net), packed, options, found, engine=engine)
    for chosen in (np.array([3]), np.array([1, 4, 5]), np.arange(2, 17)):
        few, their = train_many(net, get_weights(net), packed, options, found[chosen], chosen, engine=engine)
        np.testing.assert_array_equal(few, together[chosen])
        np.testing.assert_array_equal(their, losses[chosen])


@pytest.mark.parametrize("engine", ["compiled", "vectorized", "loop"])
def test_changes_are_scaled_in_float64(engine: Engine) -> None:
    net, packed = network("tanh"), Tables.of(tables_of((50, 31, 8)), FEATURES)
    scale = np.array([50.0, 0.0, 1 / 3])
    start = get_weights(net)
    call = partial(train_many, net, start, packed, OPTIONS["mini-batches"], streams(3), engine=engine)
    changes = call()[0]
    assert changes.dtype == np.float64
    np.testing.assert_array_equal(call(scale=scale)[0], changes * scale[:, None])
    np.testing.assert_array_equal((changes + start).astype(np.float32).astype(np.float64) - start, changes)


def test_what_is_not_a_number_stays_so_and_with_its_table() -> None:
    data = tables_of((20, 20, 20))
    data[1].x[3, 0] = 1e200
    net = network("relu")
    with np.errstate(over="ignore"):
        packed = Tables.of(data, FEATURES)
    for engine in ("compiled", "vectorized"):
        trained, _ = train_many(net, get_weights(net), packed, OPTIONS["full batch"], streams(3), engine=engine)
        np.testing.assert_array_equal(np.isfinite(trained).all(axis=1), [True, False, True])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_likelihood_and_slopes_with_ties_in_every_pattern(data: st.DataObject) -> None:
    # Times drawn from few values, any censoring; one full-batch step on a linear model is a step along the slope.
    sizes = tuple(data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    found = []
    for table in tables_of(sizes, seed=data.draw(st.integers(0, 99))):
        n = len(table)
        time = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), dtype=float)
        found.append(TrainingData(table.x, time, np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))))
    net = network(data.draw(st.sampled_from(["linear", "linear efron", "selu"])))
    options = TrainingOptions(steps=1, learning_rate=1.0)
    weights = get_weights(net)
    expected, losses = alone(net, weights, found, options)
    for engine in engines(net):
        ours, their = train_many(net, weights, Tables.of(found, FEATURES), options, streams(len(found)), engine=engine)
        require_close(ours, expected, weights)
        np.testing.assert_allclose(their, losses, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["linear efron", "relu", "residual", "noisy"])
def test_measures_of_many_tables(name: str) -> None:
    net, data = network(name), tables_of((40, 1, 0, 90, 12))
    losses, pairs = measure_many(net, get_weights(net), Tables.of(data, FEATURES))
    for j, table in enumerate(data):
        if len(table) == 0:
            assert np.isnan(losses[j])
            continue
        np.testing.assert_allclose(losses[j], mean_loss(net, get_weights(net), table), rtol=1e-5, atol=1e-7)
        expected = concordance_counts(table.time, table.event, predict(net, get_weights(net), table.x))
        np.testing.assert_array_equal(pairs[j], expected)


# -- padding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 10, 64])
def test_ragged_centers_waste_at_most_a_quarter_in_padding(batch_size: int | None) -> None:
    sizes = np.clip(np.exp(np.random.default_rng(0).normal(4.0, 1.2, 2000)), 5, 2000).astype(np.int64)
    steps, per_pass = steps_of(sizes, TrainingOptions(batch_size=batch_size))
    padded = real = 0
    seen = []
    for bucket in vectorized.buckets(-(-sizes // per_pass), steps, 1761):
        padded += int((steps[bucket.members] * bucket.width).sum())
        real += int(sizes[bucket.members].sum())
        seen += list(bucket.members)
        assert (np.diff(steps[bucket.members]) <= 0).all()
    assert sorted(seen) == list(range(2000))
    assert padded <= 1.25 * real


@given(st.integers(1, 10_000))
def test_the_ladder(n: int) -> None:
    assert n <= vectorized.ladder(n) <= max(n, (1 + vectorized.PADDING) * n)


def test_tables_hold_what_they_were_given() -> None:
    data = tables_of()
    packed = Tables.of(data, FEATURES)
    assert len(packed) == len(data)
    np.testing.assert_array_equal(packed.sizes, SIZES)
    np.testing.assert_array_equal(packed.events, [d.event.sum() for d in data])
    for j, table in enumerate(data):
        for name in ("x", "time", "event"):
            np.testing.assert_array_equal(getattr(packed.table(j), name), getattr(table, name))
