"""Training many tables from the same weights, each on its own: one computation for `models.training` in a loop.

Three engines give the same results: compiled code for Cox perceptrons on the CPU, stacked torch for any other network
that tells the losses of many tables apart (and on a GPU), and the loop itself for all others, and for networks that use
torch's random numbers as they train (dropout) or keep buffers. Torch is imported when a network comes that needs it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from models.batched import compiled
from models.batched.streams import Streams
from models.batched.tables import Tables
from models.steps import TrainingOptions, batches
from models.survival.concordance import concordance_counts
from models.survival.perceptron import CoxPerceptron

if TYPE_CHECKING:
    from models.survival.network import SurvivalNetwork

Engine = Literal["compiled", "vectorized", "loop"]

_ACTIVATIONS = {"relu": compiled.RELU, "selu": compiled.SELU, "tanh": compiled.TANH, "elu": compiled.ELU}
_OPTIMIZERS = {"sgd": compiled.SGD, "momentum": compiled.MOMENTUM, "adam": compiled.ADAM}


def engine_for(network: SurvivalNetwork | CoxPerceptron, device: str = "cpu") -> Engine:
    """The fastest engine that gives the one-table results."""
    if isinstance(network, CoxPerceptron):
        return "compiled"
    from torch import nn

    from models.survival.network import CoxNetwork

    random = any(isinstance(m, nn.Dropout | nn.RReLU) for m in network.modules())
    if random or any(True for _ in network.buffers()) or next(network.parameters()).dtype.itemsize != 4:
        return "loop"
    if type(network) is CoxNetwork and device == "cpu":
        return "compiled"
    pairs = (("loss", "losses"), ("prepare", "prepare_many"))  # written together, lest one of a pair was overridden
    same = all(_owner(network, one) is _owner(network, many) for one, many in pairs)
    return "vectorized" if same else "loop"


def _owner(network: SurvivalNetwork, method: str) -> type | None:
    """The class that a method is from."""
    return next((kind for kind in type(network).__mro__ if method in vars(kind)), None)


def steps_of(sizes: NDArray[np.int64], options: TrainingOptions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gradient steps of a round, and steps in one pass over the patients, of tables of the given sizes."""
    per_pass = np.where(sizes > 0, 1 if options.batch_size is None else -(-sizes // options.batch_size), 0)
    steps = per_pass * options.epochs if options.steps is None else np.where(sizes > 0, options.steps, 0)
    return steps, per_pass


def train_many(
    network: SurvivalNetwork | CoxPerceptron,
    weights: NDArray[np.floating],
    tables: Tables,
    options: TrainingOptions,
    streams: Streams,
    which: NDArray[np.int64] | None = None,
    *,
    proximal: float = 0.0,
    corrections: NDArray[np.floating] | None = None,
    scale: NDArray[np.float64] | None = None,
    progress: tuple[float, float] = (0.0, 1.0),
    engine: Engine | None = None,
    device: str = "cpu",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far `models.training.train` goes on each table.

    Parameters
    ----------
    network
        Gives the loss. A `CoxPerceptron` is for the compiled engine.
    weights
        Where every table starts, shape (P,).
    streams
        The generator of each table to be trained on, k of them.
    which
        The tables to be trained on, shape (k,); all by default.
    proximal
        FedProx's μ.
    corrections
        SCAFFOLD's c − cᵢ, shape (k, P).
    scale
        What each table's change is multiplied by, shape (k,); 1 by default.
    progress
        Which part of the whole training this is.
    engine, device
        The fastest engine on the CPU by default; ``cuda`` is for the vectorized one.

    Returns
    -------
    changes : float64 array of shape (k, P)
        Trained weights, which are float32, less `weights`, times `scale`.
    losses : float64 array of shape (k,)
        Mean over steps of the data term of the loss, before each step; NaN without steps.
    """
    chosen = np.arange(len(tables)) if which is None else which
    start = np.asarray(weights, dtype=np.float32)
    engine = engine or engine_for(network, device)
    if engine == "loop":
        from models.training import train

        assert not isinstance(network, CoxPerceptron)
        trained, losses = np.empty((len(chosen), len(start)), dtype=np.float32), np.empty(len(chosen))
        for i, j in enumerate(chosen):
            correction = None if corrections is None else corrections[i]
            rng, data = streams.generator(i), tables.table(j)
            found = train(
                network, start, data, options, rng, proximal=proximal, correction=correction, progress=progress
            )
            trained[i], losses[i] = found
        return _changes(trained, start, scale), losses
    sizes = tables.sizes[chosen]
    steps, per_pass = steps_of(sizes, options)
    shift = None if corrections is None else corrections.astype(np.float32)
    passes = np.where(per_pass > 1, -(-steps // np.maximum(per_pass, 1)), 0)
    orders = streams.permutations(sizes, passes)
    if engine == "compiled":
        factors = np.ones(len(chosen)) if scale is None else scale
        perceptron = _perceptron(network)
        return _compiled(perceptron, start, tables, chosen, options, steps, per_pass, orders, proximal, shift, factors)
    from models.batched import vectorized

    assert not isinstance(network, CoxPerceptron)
    trained, losses = np.tile(start, (len(chosen), 1)), np.full(len(chosen), np.nan)
    rows = _batches(tables, chosen, steps, per_pass, orders)
    noise = _noise(network.noise, sizes, options, streams) if network.noise else None
    largest = -(-sizes // np.maximum(per_pass, 1))
    able = np.flatnonzero(steps > 0)
    for bucket in vectorized.buckets(largest[able], steps[able], len(start)):
        members = able[bucket.members]
        trained[members], losses[members] = vectorized.train_bucket(
            network,
            start,
            tables,
            chosen[members],
            [rows[j] for j in members],
            bucket.width,
            options,
            proximal,
            None if shift is None else shift[members],
            None if noise is None else [noise[j] for j in members],
            progress,
            device,
        )
    network.to("cpu")
    return _changes(trained, start, scale), losses


def _changes(
    trained: NDArray[np.float32], start: NDArray[np.float32], scale: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    changes = trained.astype(np.float64) - start
    return changes if scale is None else changes * scale[:, None]


def measure_many(
    network: SurvivalNetwork | CoxPerceptron,
    weights: NDArray[np.floating],
    tables: Tables,
    which: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loss per patient, shape (k,), and concordant and comparable pairs, shape (k, 2), of one network on each table."""
    chosen = np.arange(len(tables)) if which is None else which
    losses, pairs = np.full(len(chosen), np.nan), np.zeros((len(chosen), 2))
    if engine_for(network) == "compiled":
        perceptron = _perceptron(network)
        widths, places, kind, _ = _architecture(perceptron)
        efron = perceptron.ties == "efron"
        endpoint = (tables.time, tables.event, tables.starts)
        flat = np.asarray(weights, dtype=np.float32)
        compiled.measure(flat, widths, places, kind, efron, tables.x, *endpoint, chosen, losses, pairs)
        return losses, pairs
    from models.training import mean_loss, predict

    assert not isinstance(network, CoxPerceptron)
    for i, j in enumerate(chosen):
        data = tables.table(j)
        if len(data):
            pairs[i] = concordance_counts(data.time, data.event, predict(network, weights, data.x))
            losses[i] = mean_loss(network, weights, data)
    return losses, pairs


def _perceptron(network: SurvivalNetwork | CoxPerceptron) -> CoxPerceptron:
    if isinstance(network, CoxPerceptron):
        return network
    from models.survival.network import CoxNetwork

    assert isinstance(network, CoxNetwork)
    return network.perceptron()


def _compiled(
    network: CoxPerceptron,
    start: NDArray[np.float32],
    tables: Tables,
    which: NDArray[np.int64],
    options: TrainingOptions,
    steps: NDArray[np.int64],
    per_pass: NDArray[np.int64],
    orders: NDArray[np.int32],
    proximal: float,
    corrections: NDArray[np.float32] | None,
    scale: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    widths, places, kind, mask = _architecture(network)
    changes, losses = np.empty((len(which), len(start))), np.empty(len(which))
    compiled.train(
        start,
        widths,
        places,
        kind,
        network.ties == "efron",
        mask,
        tables.x,
        tables.time,
        tables.event,
        tables.place,
        tables.starts,
        which,
        steps,
        per_pass,
        orders,
        _OPTIMIZERS[options.optimizer],
        np.float32(options.learning_rate),
        np.float32(options.momentum),
        np.float32(options.weight_decay),
        np.float32(proximal),
        float(options.clip_norm or 0.0),
        np.empty((0, len(start)), dtype=np.float32) if corrections is None else corrections,
        scale,
        changes,
        losses,
    )
    return changes, losses


@lru_cache(maxsize=8)
def _architecture(
    network: CoxPerceptron,
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, NDArray[np.float32]]:
    """Layout of the layers (`compiled.layout`), the activation's number, and the penalty mask."""
    layout = compiled.layout(np.array(network.widths, dtype=np.int64))
    return (*layout, _ACTIVATIONS[network.activation], network.penalized())


def _noise(
    numbers: int, sizes: NDArray[np.int64], options: TrainingOptions, streams: Streams
) -> list[NDArray[np.float64]]:
    """The normal numbers of each table's patients, step after step, as `models.training.train` draws them."""
    found = []
    for i, n in enumerate(sizes):
        rng = streams.generator(i)
        patients = sum(len(rows) for rows in batches(int(n), options, rng))
        rng.integers(2**63)  # the seed of dropout
        found.append(rng.standard_normal((patients, numbers)))
    return found


def _batches(
    tables: Tables,
    which: NDArray[np.int64],
    steps: NDArray[np.int64],
    per_pass: NDArray[np.int64],
    orders: NDArray[np.int32],
) -> list[list[NDArray[np.int64]]]:
    """Rows of `tables` of every gradient step of every table, as `models.training.batches` cuts them."""
    found, at = [], 0
    for j, k, cuts in zip(which, steps, per_pass, strict=True):
        first, last = tables.starts[j], tables.starts[j + 1]
        place, rows = tables.place[first:last], []
        for _ in range(-(-k // cuts) if k else 0):
            order = orders[at : at + last - first] if cuts > 1 else np.arange(last - first)
            at += last - first if cuts > 1 else 0
            rows += [first + part for part in np.array_split(place[order], cuts)]
        found.append(rows[:k])
    return found
