"""Fusion of blocks: a perceptron on the concatenation where all are there, and blind to what is absent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from models.batched.streams import Streams
from models.batched.tables import Tables
from models.batched.training import Engine, engine_for, train_many
from models.flat import bind, get_weights
from models.survival.multimodal import BlockEncoder, MultimodalCox, ranges_of
from models.training import TrainingData, TrainingOptions

MODALITY = ["clinical", "clinical", "genomic", "histopathology", "genomic", "genomic", "clinical"]
BLOCKS = ranges_of(MODALITY)
P = len(MODALITY)


def encoder(hidden: Sequence[int] = (4,), block_dropout: float = 0.3, seed: int = 0, **options: bool) -> BlockEncoder:
    made = BlockEncoder(list(BLOCKS.values()), 3, hidden, "tanh", block_dropout=block_dropout, **options).double()
    made.initialize(np.random.default_rng(seed))
    return made


def patients(n: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((n, P)))


def columns(name: str) -> list[int]:
    return [j for j, modality in enumerate(MODALITY) if modality == name]


def test_ranges_are_runs_of_neighbours() -> None:
    assert BLOCKS == {"clinical": [[0, 2], [6, 7]], "genomic": [[2, 3], [4, 6]], "histopathology": [[3, 4]]}


def test_linear_encoders_of_all_blocks_are_one_layer_on_the_concatenation() -> None:
    mine, x = encoder(hidden=()), patients()
    whole = nn.Linear(P, 3).double()
    with torch.no_grad():
        whole.bias.zero_()
        for encoder_, name in zip(mine.encoders, BLOCKS, strict=True):
            (layer,) = encoder_.children()
            assert isinstance(layer, nn.Linear)
            whole.weight[:, columns(name)] = layer.weight
            whole.bias.add_(layer.bias)
    torch.testing.assert_close(mine(x), whole(x))


def test_the_sum_is_over_the_blocks_that_are_there() -> None:
    mine, x = encoder(), patients()
    parts = [e(x[:, columns(name)]) for e, name in zip(mine.encoders, BLOCKS, strict=True)]
    x[:3, columns("genomic")] = torch.nan
    x[2, columns("histopathology")] = torch.nan
    torch.testing.assert_close(mine(x)[3:], sum(parts)[3:])
    torch.testing.assert_close(mine(x)[:2], (parts[0] + parts[2])[:2])
    torch.testing.assert_close(mine(x)[2], parts[0][2])


def test_a_value_missing_within_a_block_stands_at_the_mean() -> None:
    x = patients()
    known, zero = x.clone(), x.clone()
    known[1, 0], zero[1, 0] = torch.nan, 0.0
    torch.testing.assert_close(encoder()(known), encoder()(zero))
    aware = encoder(missing=True)
    assert not torch.allclose(aware(known)[1], aware(zero)[1])  # unless the encoder is told which are missing
    torch.testing.assert_close(aware(known)[2:], aware(zero)[2:])


@settings(deadline=None, max_examples=50)
@given(
    name=st.sampled_from(list(BLOCKS)),
    values=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=3, max_size=3),
    seed=st.integers(0, 100),
    missing=st.booleans(),
)
def test_what_stands_in_an_absent_block_has_no_say_and_no_gradient(
    name: str, values: list[float], seed: int, missing: bool
) -> None:
    mine, x = encoder(seed=seed, missing=missing), patients(seed=seed)
    b = list(BLOCKS).index(name)
    kept = torch.ones(len(x), len(BLOCKS), dtype=torch.bool)
    kept[:, b] = False
    absent = x.clone()
    absent[:, columns(name)] = torch.nan
    x[:, columns(name)] = torch.tensor(values[: len(columns(name))], dtype=torch.double)
    x.requires_grad_()
    torch.testing.assert_close(mine.encode(x, kept), mine(absent), rtol=0, atol=0)
    mine.encode(x, kept).square().sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert (x.grad[:, columns(name)] == 0).all()
    assert torch.isfinite(x.grad).all()
    assert all((p.grad is None) or (p.grad == 0).all() for p in mine.encoders[b].parameters())
    others = [p for i, e in enumerate(mine.encoders) if i != b for p in e.parameters()]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in others)


def test_a_patient_with_nothing_gets_nothing() -> None:
    x = patients()
    x[0] = torch.nan
    assert (encoder()(x)[0] == 0).all()
    noise = torch.zeros(len(x), len(BLOCKS), dtype=torch.double)
    assert not encoder().kept(encoder().present(x), noise)[0].any()


# Modality dropout -----------------------------------------------------------------------------------------------------


def test_blocks_are_dropped_as_often_as_asked_and_never_all() -> None:
    mine = encoder(block_dropout=0.3)
    noise = torch.as_tensor(np.random.default_rng(0).standard_normal((40_000, len(BLOCKS))))
    kept = mine.kept(torch.ones(len(noise), len(BLOCKS), dtype=torch.bool), noise)
    assert kept.any(dim=1).all()
    expected = 0.7 + 0.3**3 / 3  # of those of whom nothing would be left each block is the last as often
    assert (kept.double().mean(dim=0) - expected).abs().max() < 4 * math.sqrt(0.25 / len(noise))
    few = torch.tensor([[True, False, False], [False, True, True]]).repeat(1000, 1)
    kept = mine.kept(few, noise[:2000])
    assert not (kept & ~few).any()
    assert kept[0::2, 0].all()


def test_a_dropped_block_is_an_absent_one_and_without_noise_none_is() -> None:
    mine, x = encoder(), patients()
    noise = torch.zeros(len(x), len(BLOCKS), dtype=torch.double)
    noise[:, 1] = -5
    absent = x.clone()
    absent[:, columns("genomic")] = torch.nan
    torch.testing.assert_close(mine(x, noise), mine(absent))
    assert not torch.allclose(mine(x), mine(absent))
    assert encoder(block_dropout=0).noise == 0
    assert BlockEncoder([[[0, P]]], 3, block_dropout=0.3).noise == 0  # an only block is never dropped
    with pytest.raises(ValueError, match="block_dropout is 1"):
        encoder(block_dropout=1)


# The network ----------------------------------------------------------------------------------------------------------


def test_the_log_hazard_is_a_perceptron_of_the_sum() -> None:
    network = MultimodalCox(P, BLOCKS, encoder=(4,), size=3, hidden=(5,)).double()
    network.initialize(np.random.default_rng(0))
    x = patients()
    torch.testing.assert_close(network(x), network.layers(network.encoder(x)).squeeze(-1))
    assert network.noise == 3
    additive = MultimodalCox(P, BLOCKS, encoder=(4,), size=3).double()
    additive.initialize(np.random.default_rng(0))
    absent = x.clone()
    absent[:, columns("genomic")] = torch.nan
    own = additive.encoder.encoders[1](x[:, columns("genomic")])
    torch.testing.assert_close(additive(x) - additive(absent), additive.layers(own).squeeze(-1))


def test_all_weights_are_bound_and_a_change_of_one_shows() -> None:
    network = MultimodalCox(P, BLOCKS, encoder=(), size=2)
    network.initialize(np.random.default_rng(1))
    weights = get_weights(network)
    before = network(patients().float())
    flat, gradient = bind(network, weights)
    network(patients().float()).sum().backward()
    assert (gradient != 0).all()
    with torch.no_grad():
        flat += 0.1
    assert not torch.allclose(network(patients().float()), before)


def test_blocks_must_share_out_the_columns() -> None:
    with pytest.raises(ValueError, match="do not share out the 7 columns"):
        MultimodalCox(P, {"clinical": [[0, 3]], "genomic": [[2, 7]]})
    assert list(MultimodalCox(3).encoder.blocks) == [[(0, 3)]]


def tables(seed: int = 0) -> list[TrainingData]:
    """Tables of several sizes; one lacks a block throughout, in the others patients do here and there."""
    found = []
    for j, n in enumerate((30, 12, 40, 1, 25)):
        rng = np.random.default_rng([seed, j])
        x = rng.standard_normal((n, P)).astype(np.float32).astype(np.float64)
        time = rng.exponential(2 * np.exp(-x[:, 2])) + 0.01
        x[:, columns("genomic")] = np.where((rng.random(n) < 0.4)[:, None] | (j == 1), np.nan, x[:, columns("genomic")])
        found.append(TrainingData(x, time, rng.random(n) < 0.7))
    return found


@pytest.mark.parametrize("batch_size", [None, 8])
def test_trained_together_or_one_by_one_in_any_company(batch_size: int | None) -> None:
    network = MultimodalCox(P, BLOCKS, encoder=(4,), size=3, block_dropout=0.4)
    network.initialize(np.random.default_rng(0))
    start, options = get_weights(network), TrainingOptions(steps=6, batch_size=batch_size, learning_rate=0.2)
    assert engine_for(network) == "vectorized"
    data, names = tables(), np.arange(5, dtype=np.uint64)

    def many(which: list[int], engine: Engine) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        streams = Streams((7,), names[which])
        return train_many(network, start, Tables.of([data[j] for j in which], P), options, streams, engine=engine)

    changes, losses = many([0, 1, 2, 3, 4], "loop")
    together, losses_together = many([0, 1, 2, 3, 4], "vectorized")
    np.testing.assert_allclose(together, changes, atol=2e-5)
    np.testing.assert_allclose(losses_together, losses, atol=1e-5)
    np.testing.assert_array_equal(many([2, 4], "vectorized")[0], together[[2, 4]])
    genomic = slice(*_where(network, "encoder.encoders.1"))
    assert (changes[1, genomic] == 0).all()  # the center that lacks the block changes nothing of it
    assert (changes[0, genomic] != 0).any()


def _where(network: nn.Module, prefix: str) -> tuple[int, int]:
    """Where the parameters of a part are in the flat vector."""
    at, found = 0, []
    for name, p in network.named_parameters():
        if name.startswith(prefix):
            found += [at, at + p.numel()]
        at += p.numel()
    return min(found), max(found)
