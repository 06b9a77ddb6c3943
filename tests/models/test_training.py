"""The gradient loop against torch.optim and autograd, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.flat import get_weights, penalty_mask
from models.survival.network import CoxNetwork, build_network
from models.training import TrainingData, TrainingOptions, batches, mean_loss, predict, train

Loss = Callable[[CoxNetwork], torch.Tensor]


def network(dropout: float = 0.0) -> CoxNetwork:
    """A small network in float64, so that comparisons see formulas rather than rounding."""
    built = build_network("deepsurv", 3, {"hidden": (6,), "activation": "tanh", "dropout": dropout})
    built.initialize(np.random.default_rng(0))
    return built.double()


def start() -> NDArray[np.float32]:
    return get_weights(network())


def data(seed: int = 0, n: int = 30) -> TrainingData:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    time = np.ceil(rng.exponential(4 * np.exp(-x[:, 0] * x[:, 1])) * 4) / 4
    return TrainingData(x, time, rng.random(n) < 0.6)


def with_torch_optim(options: TrainingOptions, table: TrainingData, extra: Loss | None = None) -> NDArray[np.float64]:
    """The same steps by torch.optim on an ordinary network; the ridge penalty as its weight_decay, biases free."""
    model = network()
    for p, value in zip(model.parameters(), network().parameters(), strict=True):
        p.data.copy_(value.data)
    weights = [p for p in model.parameters() if p.dim() > 1]
    biases = [p for p in model.parameters() if p.dim() == 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": options.weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    solver: torch.optim.Optimizer
    if options.optimizer == "adam":
        solver = torch.optim.Adam(groups, lr=options.learning_rate)
    else:
        momentum = options.momentum if options.optimizer == "momentum" else 0.0
        solver = torch.optim.SGD(groups, lr=options.learning_rate, momentum=momentum)
    x = torch.tensor(table.x)
    for rows in batches(len(table), options, np.random.default_rng(5)):
        solver.zero_grad()
        loss = model.loss(model(x[rows]), model.prepare(table.time[rows], table.event[rows]))
        (loss + extra(model) if extra else loss).backward()  # type: ignore[no-untyped-call]
        if options.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
        solver.step()
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()


def train_here(options: TrainingOptions, table: TrainingData, **keywords: Any) -> NDArray[np.float32]:
    return train(network(), start(), table, options, np.random.default_rng(5), **keywords)[0]


# The update rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_every_step_equals_torch_optim(optimizer: Any, batch_size: int | None, weight_decay: float) -> None:
    seen = [start()]
    for steps in range(1, 9):
        options = TrainingOptions(
            steps=steps,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=0.05,
            momentum=0.8,
            weight_decay=weight_decay,
        )
        ours = train_here(options, data())
        np.testing.assert_allclose(ours, with_torch_optim(options, data()), atol=2e-7)
        assert np.abs(ours - seen[-1]).max() > 1e-4
        seen.append(ours)


def test_decay_pulls_weights_and_leaves_biases_alone() -> None:
    nothing = TrainingData(np.zeros((5, 3)), np.arange(5.0), np.zeros(5, dtype=bool))  # no events: the penalty alone
    options = TrainingOptions(steps=1, learning_rate=0.1, weight_decay=2.0)
    expected = start() * (1 - 0.1 * 2.0 * penalty_mask(network()).numpy())
    np.testing.assert_allclose(train_here(options, nothing), expected, atol=1e-7)


def test_fedprox_term_equals_autograd_of_the_penalty() -> None:
    origin = torch.tensor(start(), dtype=torch.float64)
    options = TrainingOptions(steps=6, learning_rate=0.2)

    def penalty(model: CoxNetwork) -> torch.Tensor:
        flat = torch.cat([p.reshape(-1) for p in model.parameters()])
        return 0.7 / 2 * ((flat - origin) ** 2).sum()  # Li et al. 2020, eq. 2; biases too

    expected = with_torch_optim(options, data(), penalty)
    np.testing.assert_allclose(train_here(options, data(), proximal=0.7), expected, atol=2e-7)
    assert np.abs(expected - with_torch_optim(options, data())).max() > 1e-3


def test_correction_is_added_to_every_gradient() -> None:
    shift = np.random.default_rng(1).normal(size=len(start()))
    options = TrainingOptions(steps=4, learning_rate=0.1)

    def linear(model: CoxNetwork) -> torch.Tensor:
        return (torch.cat([p.reshape(-1) for p in model.parameters()]) * torch.tensor(shift)).sum()

    expected = with_torch_optim(options, data(), linear)
    np.testing.assert_allclose(train_here(options, data(), correction=shift), expected, atol=2e-7)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_clipping_equals_torch(optimizer: Any) -> None:
    options = TrainingOptions(steps=5, optimizer=optimizer, learning_rate=0.1, clip_norm=0.05)
    # torch divides by (norm + 1e-6)
    np.testing.assert_allclose(train_here(options, data()), with_torch_optim(options, data()), atol=1e-5)


def test_a_clipped_step_has_the_clipped_length_and_a_short_one_is_untouched() -> None:
    free = TrainingOptions(steps=1, learning_rate=1.0)
    step = train_here(free, data()).astype(float) - start()
    length = float(np.linalg.norm(step))
    clipped = train_here(TrainingOptions(steps=1, learning_rate=1.0, clip_norm=length / 4), data()) - start()
    np.testing.assert_allclose(clipped, step / 4, atol=1e-6)
    loose = train_here(TrainingOptions(steps=1, learning_rate=1.0, clip_norm=2 * length), data())
    np.testing.assert_array_equal(loose, train_here(free, data()))


def test_training_lowers_the_loss() -> None:
    table = data(n=80)
    before = mean_loss(network(), start(), table)
    weights = train_here(TrainingOptions(steps=200, optimizer="adam", learning_rate=0.02), table)
    assert mean_loss(network(), weights, table) < before - 0.2


# Batches ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 70), batch_size=st.integers(1, 40), epochs=st.integers(1, 4), seed=st.integers(0, 9))
def test_an_epoch_visits_every_patient_once(n: int, batch_size: int, epochs: int, seed: int) -> None:
    options = TrainingOptions(epochs=epochs, batch_size=batch_size)
    chosen = batches(n, options, np.random.default_rng(seed))
    per_pass = math.ceil(n / batch_size)
    assert len(chosen) == epochs * per_pass
    for epoch in range(epochs):
        one_pass = chosen[epoch * per_pass : (epoch + 1) * per_pass]
        assert sorted(np.concatenate(one_pass)) == list(range(n))
        sizes = [len(rows) for rows in one_pass]
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1


def test_passes_are_shuffled_differently_and_reproducibly() -> None:
    options = TrainingOptions(epochs=2, batch_size=50)
    first = np.concatenate(batches(100, options, np.random.default_rng(0)))
    assert list(first) == list(np.concatenate(batches(100, options, np.random.default_rng(0))))
    assert list(first[:100]) != list(first[100:])
    assert list(first[:100]) != list(range(100))


def test_steps_cycle_through_the_batches() -> None:
    chosen = batches(10, TrainingOptions(steps=5, batch_size=4, epochs=99), np.random.default_rng(0))
    assert len(chosen) == 5
    assert sorted(np.concatenate(chosen[:3])) == list(range(10))
    assert len(batches(10, TrainingOptions(steps=5), np.random.default_rng(0))) == 5


def test_the_full_batch_is_everybody_in_order() -> None:
    for rows in batches(4, TrainingOptions(epochs=3), np.random.default_rng(0)):
        assert rows.tolist() == [0, 1, 2, 3]


def test_a_center_without_patients_takes_no_step() -> None:
    empty = TrainingData(np.empty((0, 3)), np.empty(0), np.empty(0, dtype=bool))
    for options in (TrainingOptions(steps=3), TrainingOptions(epochs=2, batch_size=4)):
        assert batches(0, options, np.random.default_rng(0)) == []
        weights, loss = train(network(), start(), empty, options, np.random.default_rng(0))
        np.testing.assert_array_equal(weights, start())
        assert math.isnan(loss)


def test_a_center_without_events_learns_nothing() -> None:
    table = data()
    censored = TrainingData(table.x, table.time, np.zeros(len(table), dtype=bool))
    weights, loss = train(network(), start(), censored, TrainingOptions(steps=3), np.random.default_rng(0))
    np.testing.assert_array_equal(weights, start())
    assert loss == 0


# Randomness ------------------------------------------------------------------------------------------

NOISY = TrainingOptions(epochs=3, batch_size=7, optimizer="adam", learning_rate=0.01)


def noisy(seed: int) -> NDArray[np.float32]:
    return train(network(dropout=0.4), start(), data(), NOISY, np.random.default_rng(seed))[0]


def test_dropout_and_batches_follow_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = noisy(3)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(noisy(3), first)
    assert not np.array_equal(noisy(4), first)


def test_dropout_alone_is_seeded_too() -> None:
    options = TrainingOptions(steps=4, learning_rate=0.1)
    runs = [train(network(0.4), start(), data(), options, np.random.default_rng(seed))[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0], train_here(options, data()))


def test_torchs_global_generator_is_left_as_it_was() -> None:
    model, table, rng = network(0.4), data(), np.random.default_rng(0)
    wide = TrainingData(np.ones((30, 4)), table.time, table.event)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    train(model, start_weights := get_weights(model), table, NOISY, rng)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RuntimeError):  # also where training fails: a column too many
        train(model, start_weights, wide, NOISY, rng)
    assert torch.equal(torch.get_rng_state(), before)


# What is handed back ---------------------------------------------------------------------------------


def test_weights_handed_back_are_a_copy() -> None:
    # Keeping a reference to the live parameters as "the best weights" keeps the last ones instead.
    model, options = network().float(), TrainingOptions(steps=2)
    kept, _ = train(model, start(), data(), options, np.random.default_rng(0))
    before = kept.copy()
    for parameter in model.parameters():
        parameter.data.add_(1)
    train(model, kept, data(), options, np.random.default_rng(0))
    np.testing.assert_array_equal(kept, before)


def test_the_start_is_left_as_it_was() -> None:
    given_weights = start()
    train(network(), given_weights, data(), TrainingOptions(steps=2), np.random.default_rng(0))
    np.testing.assert_array_equal(given_weights, start())


def test_loss_is_the_mean_data_term_before_each_step() -> None:
    seen = []
    for steps in range(4):
        weights = train_here(TrainingOptions(steps=steps), data()) if steps else start()
        seen.append(mean_loss(network(), weights, data()))
    options = TrainingOptions(steps=4, weight_decay=0.0)
    assert train(network(), start(), data(), options, np.random.default_rng(5))[1] == pytest.approx(np.mean(seen))
    decayed = TrainingOptions(steps=1, weight_decay=5.0)  # the penalty is not in it
    assert train(network(), start(), data(), decayed, np.random.default_rng(5))[1] == pytest.approx(seen[0])


def test_evaluation_does_not_drop_units() -> None:
    model = network(dropout=0.5)
    model.train()
    assert mean_loss(model, start(), data()) == mean_loss(network(), start(), data())
    np.testing.assert_array_equal(predict(model, start(), data().x), predict(network(), start(), data().x))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("steps", 0),
        ("batch_size", -1),
        ("learning_rate", 0.0),
        ("clip_norm", 0.0),
        ("weight_decay", -0.1),
        ("momentum", 1.0),
        ("optimizer", "adamw"),
    ],
)
def test_wrong_options_are_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{field} is '?{value}'?; "):
        TrainingOptions(**{field: value})
