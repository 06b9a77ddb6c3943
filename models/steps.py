"""How a table is trained on, in numbers: options, data, and which patients each gradient step takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Optimizer = Literal["sgd", "momentum", "adam"]


@dataclass(frozen=True)
class TrainingOptions:
    """How a center (or pooled data) is trained on in one round.

    Parameters
    ----------
    epochs
        Passes over the patients; ignored if `steps` is given.
    steps
        Gradient steps instead of epochs, cycling through the batches.
    batch_size
        Patients per step; None for all of them (full batch).
    optimizer
        ``sgd``, ``momentum`` (heavy ball) or ``adam``; its memory starts empty each round.
    learning_rate
    momentum
        For ``momentum``.
    weight_decay
        Ridge penalty: weight_decay/2 · ‖weights‖² is added to the loss per patient (biases are free).
    clip_norm
        Longest allowed gradient (Euclidean norm); None for no limit.
    """

    epochs: int = 1
    steps: int | None = None
    batch_size: int | None = None
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float | None = None

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch_size", "learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; it must not be negative")
        if self.optimizer not in get_args(Optimizer):
            raise ValueError(f"optimizer is {self.optimizer!r}; use one of {', '.join(get_args(Optimizer))}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it lies in [0, 1)")


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A design matrix with its endpoint.

    Parameters
    ----------
    x
        Shape (n, p); NaN where a value is missing and kept so.
    time
        Shape (n,).
    event
        bool of shape (n,); for a network of competing causes int64, 0 for censoring, else the cause's number.
    """

    x: NDArray[np.float64]
    time: NDArray[np.float64]
    event: NDArray[Any]

    def __len__(self) -> int:
        return len(self.time)


def batches(n: int, options: TrainingOptions, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Patients of each gradient step: shuffled once per pass, cut into batches of nearly equal size."""
    if n == 0:
        return []
    per_pass = 1 if options.batch_size is None else math.ceil(n / options.batch_size)
    steps = options.steps if options.steps is not None else options.epochs * per_pass
    chosen: list[NDArray[np.int64]] = []
    while len(chosen) < steps:
        order = np.arange(n) if per_pass == 1 else rng.permutation(n)
        chosen += np.array_split(order, per_pass)
    return chosen[:steps]


def done_before(step: int, steps: int, progress: tuple[float, float]) -> float:
    """The part of the whole training that is done before a step of a round, counted from 1."""
    begin, end = progress
    return begin + (end - begin) * (step - 1) / steps
