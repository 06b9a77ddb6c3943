"""SAVAE over blocks: its encoder is the sum over the blocks that are there, all else is SAVAE's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.batched.streams import Streams
from models.batched.tables import Tables
from models.batched.training import Engine, engine_for, train_many
from models.flat import get_weights
from models.survival.concordance import concordance_counts
from models.survival.multimodal_savae import MultimodalSAVAE
from models.training import TrainingData, TrainingOptions, predict, predict_survival, train

P = 5
BLOCKS = {"clinical": [[0, 2], [4, 5]], "genomic": [[2, 4]]}
GENOMIC = [2, 3]


def network(**options: Any) -> MultimodalSAVAE:
    made = MultimodalSAVAE(P, BLOCKS, latent=2, hidden=8, time_scale=2.0, horizon=4.0, **options)
    made.initialize(np.random.default_rng(0))
    return made


def table(n: int = 200, seed: int = 0, absent: float = 0.4) -> TrainingData:
    """The hazard depends on one column of each block; the second genomic column is half of a clinical one."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, P))
    time = rng.exponential(2 * np.exp(-1.0 * x[:, 0] - 1.0 * x[:, 2])) + 0.01
    event = time < rng.uniform(1, 8, n)
    x[rng.random(x.shape) < 0.1] = np.nan
    x[np.ix_(np.flatnonzero(rng.random(n) < absent), np.array(GENOMIC))] = np.nan
    return TrainingData(x, np.minimum(time, 8.0), event)


def test_the_encoder_sums_over_the_blocks_that_are_there() -> None:
    mine = network()
    x = torch.as_tensor(np.random.default_rng(1).standard_normal((6, P)), dtype=torch.float32)
    clinical, genomic = (
        e(torch.cat([x[:, j], torch.zeros(6, len(j))], -1))
        for e, j in zip(mine.encoder.encoders, ([0, 1, 4], GENOMIC), strict=True)
    )
    x[:3, GENOMIC] = torch.nan
    mean, log_variance = mine.encode(x)
    here = torch.tensor([[0.0], [0.0], [0.0], [1.0], [1.0], [1.0]])
    torch.testing.assert_close(torch.cat([mean, log_variance], -1), clinical + here * genomic)


def test_a_block_dropped_in_training_is_not_seen_but_reconstructed() -> None:
    mine = network().train()
    assert mine.noise == 2 + 2
    x = torch.as_tensor(np.random.default_rng(1).standard_normal((6, P)), dtype=torch.float32)
    noise = torch.zeros(6, 4)
    noise[:, 3] = -5
    other = x.clone()
    other[:, GENOMIC] += 1
    seen, changed = mine(x, noise), mine(other, noise)
    torch.testing.assert_close(seen[:, 1:], changed[:, 1:])  # the law of the time
    assert not torch.allclose(seen[:, 0], changed[:, 0])  # the reconstruction
    noise[:, 3] = 0
    assert not torch.allclose(mine(x, noise)[:, 1:], seen[:, 1:])


def test_it_learns_from_both_blocks_and_does_with_one() -> None:
    mine, data = network(), table()
    options = TrainingOptions(steps=150, batch_size=50, optimizer="adam", learning_rate=0.02)
    weights, _ = train(mine, get_weights(mine), data, options, np.random.default_rng(0))
    new = table(300, seed=1, absent=0.0)
    lacking = np.where(np.isin(np.arange(P), GENOMIC), np.nan, new.x)
    c = {}
    for name, x in (("both", new.x), ("clinical", lacking)):
        concordant, comparable = concordance_counts(new.time, new.event, predict(mine, weights, x))
        c[name] = concordant / comparable
        survival = predict_survival(mine, weights, x, np.array([0.0, 1.0, 4.0]))
        assert np.isfinite(survival).all()
        np.testing.assert_allclose(survival[:, 0], 1)
        assert (np.diff(survival, axis=1) <= 0).all()
    assert c["both"] > c["clinical"] + 0.02
    assert c["clinical"] > 0.6


@pytest.mark.parametrize("batch_size", [None, 16])
def test_trained_together_or_one_by_one(batch_size: int | None) -> None:
    mine = network()
    assert engine_for(mine) == "vectorized"
    start, data = get_weights(mine), [table(30, 1), table(21, 2, absent=1.0), table(40, 3)]
    options = TrainingOptions(steps=4, batch_size=batch_size, learning_rate=0.05)

    def many(engine: Engine) -> np.ndarray[Any, Any]:
        streams = Streams((1,), np.arange(3, dtype=np.uint64))
        return train_many(mine, start, Tables.of(data, P), options, streams, engine=engine)[0]

    np.testing.assert_allclose(many("vectorized"), many("loop"), atol=2e-5)


def test_columns_must_be_shared_out() -> None:
    with pytest.raises(ValueError, match="do not share out the 5 columns"):
        MultimodalSAVAE(P, {"clinical": [[0, 2]]})
