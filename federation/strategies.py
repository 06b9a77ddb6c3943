"""Server strategies: what the coordinator does with the weighted mean of the centers' updates.

A new strategy is one short class with a ``step``; docs/strategies.md shows one in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

Floats = NDArray[np.float64]
Moments = dict[str, Floats]


@dataclass(frozen=True)
class Strategy:
    """Federated averaging: add the mean update to the weights (FedAvg, McMahan et al. 2017).

    Parameters
    ----------
    learning_rate
        Of the server; 1 replaces the weights by the centers' weighted mean.
    """

    learning_rate: float = 1.0

    @property
    def proximal(self) -> float:
        """FedProx's μ, applied by the centers."""
        return 0.0

    @property
    def control_variates(self) -> bool:
        """Whether centers keep SCAFFOLD's control variates."""
        return False

    def start(self, size: int) -> Moments:
        """The server's own memory before the first round, arrays of shape (size,)."""
        return {}

    def step(self, weights: Floats, update: Floats, moments: Moments) -> tuple[Floats, Moments]:
        """New weights and memory from the weighted mean update, all of shape (size,)."""
        return weights + self.learning_rate * update, moments


@dataclass(frozen=True)
class FedAvg(Strategy):
    """The plain mean."""


@dataclass(frozen=True)
class FedProx(Strategy):
    """FedAvg whose centers minimize loss + μ/2·‖w − w_t‖² (Li et al. 2020, eq. 2)."""

    mu: float = 0.01

    @property
    def proximal(self) -> float:
        return self.mu


@dataclass(frozen=True)
class Scaffold(Strategy):
    """FedAvg whose centers correct their gradients by control variates (Karimireddy et al. 2020, option II)."""

    @property
    def control_variates(self) -> bool:
        return True


@dataclass(frozen=True)
class FedAvgM(Strategy):
    """Server momentum (Hsu et al. 2019)."""

    momentum: float = 0.9

    def start(self, size: int) -> Moments:
        return {"velocity": np.zeros(size)}

    def step(self, weights: Floats, update: Floats, moments: Moments) -> tuple[Floats, Moments]:
        velocity = self.momentum * moments["velocity"] + update
        return weights + self.learning_rate * velocity, {"velocity": velocity}


@dataclass(frozen=True)
class _Adaptive(Strategy):
    """What the adaptive server optimizers share (Reddi et al. 2021, algorithm 2)."""

    learning_rate: float = 0.01
    beta1: float = 0.9
    tau: float = 1e-3

    def start(self, size: int) -> Moments:
        return {"first": np.zeros(size), "second": np.full(size, self.tau**2)}

    def second(self, update: Floats, second: Floats) -> Floats:
        """The new second moment."""
        raise TypeError("use FedAdagrad, FedAdam or FedYogi")

    def step(self, weights: Floats, update: Floats, moments: Moments) -> tuple[Floats, Moments]:
        first = self.beta1 * moments["first"] + (1 - self.beta1) * update
        second = self.second(update, moments["second"])
        return weights + self.learning_rate * first / (np.sqrt(second) + self.tau), {"first": first, "second": second}


@dataclass(frozen=True)
class FedAdagrad(_Adaptive):
    """Second moments summed over rounds; without momentum by default, as published."""

    beta1: float = 0.0

    def second(self, update: Floats, second: Floats) -> Floats:
        return second + update**2


@dataclass(frozen=True)
class FedAdam(_Adaptive):
    """Second moments as an exponential average."""

    beta2: float = 0.99

    def second(self, update: Floats, second: Floats) -> Floats:
        return self.beta2 * second + (1 - self.beta2) * update**2


@dataclass(frozen=True)
class FedYogi(_Adaptive):
    """Second moments that change by a controlled amount."""

    beta2: float = 0.99

    def second(self, update: Floats, second: Floats) -> Floats:
        return second - (1 - self.beta2) * update**2 * np.sign(second - update**2)


@dataclass(frozen=True)
class FedBuff(Strategy):
    """Buffered asynchronous aggregation (Nguyen et al. 2022, AISTATS, algorithm 1), on a virtual clock.

    Centers train all the time, each from the weights it found when it began; the server takes a step whenever `buffer`
    updates are in, with the weight (1 + staleness)^-`damping` for an update that began so many steps ago. How long a
    center takes is drawn: log-normal around a pace of its own (`federation.buffered.Latency`).

    Parameters
    ----------
    buffer
        Updates in a step; no more than train at a time.
    concurrency
        Fraction of the centers that train at a time.
    damping
        1/2 is the publication's 1/√(1 + staleness); 0 counts stale updates in full.
    pace_spread, job_spread
        Standard deviation of the log pace between centers, and of the log duration between the jobs of one.
    """

    buffer: int = 10
    concurrency: float = 1.0
    damping: float = 0.5
    pace_spread: float = 1.0
    job_spread: float = 0.25

    def __post_init__(self) -> None:
        if self.buffer < 1:
            raise ValueError(f"buffer is {self.buffer}; it is a number of updates, at least 1")
        if not 0 < self.concurrency <= 1:
            raise ValueError(f"concurrency is {self.concurrency}; it is a fraction of the centers, above 0 and up to 1")
        for name in ("damping", "pace_spread", "job_spread"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")


STRATEGIES: dict[str, type[Strategy]] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedavgm": FedAvgM,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "fedadagrad": FedAdagrad,
    "scaffold": Scaffold,
    "fedbuff": FedBuff,
}
"""Strategies by the name configurations use."""


@cache
def known_strategies() -> dict[str, type[Strategy]]:
    """The strategies here and those of installed packages (entry points of the group ``haemfed.strategies``)."""
    return STRATEGIES | {entry.name: entry.load() for entry in entry_points(group="haemfed.strategies")}


def build_strategy(name: str, parameters: Mapping[str, Any] | None = None) -> Strategy:
    """A strategy from its name and parameters.

    Raises
    ------
    ValueError
        If the name or a parameter is unknown or wrong.
    """
    strategies = known_strategies()
    if name not in strategies:
        raise ValueError(f"unknown strategy {name!r}; use one of {', '.join(strategies)}")
    known = strategies[name].__dataclass_fields__
    for parameter in parameters or {}:
        if parameter not in known:
            raise ValueError(f"strategy {name!r} has no parameter {parameter!r}; it has {', '.join(known)}")
    try:
        return TypeAdapter(strategies[name]).validate_python(dict(parameters or {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"strategy {name!r}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
