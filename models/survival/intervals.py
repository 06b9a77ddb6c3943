"""Networks that give a number for each interval of time: what discrete-time and piecewise-constant hazards share.

Both likelihoods are of an exponential family, summed over patients and intervals: with o the network's number for an
interval, w how much of the interval a patient was at risk for, and d whether the event was in it, minus the log
likelihood is Σ A(o)·w − o·d. No patient's term depends on another patient, so sums over centers are the pooled sum.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.preprocessing import Design
from models.survival.network import Activation, draw_weights, perceptron
from models.survival.separable import SeparableNetwork
from models.survival.time_scale import TimeScale

Floats = NDArray[np.float64]

INTERVALS = 10
"""By default. Kvamme and Borgan find results little sensitive to it, with cuts at quantiles of the event times."""


class IntervalNetwork(SeparableNetwork):
    """Multilayer perceptron and a level for each interval; with no hidden layer its numbers are linear in the features.

    Parameters
    ----------
    n_features
        Width of the design matrix.
    hidden, activation, dropout
        See `models.survival.network.CoxNetwork`; no hidden layer by default.
    time_varying
        Whether the perceptron has an output for each interval, so that effects change over time. Otherwise it has one,
        which is added to the level of every interval.
    intervals
        How many there are to be; their ends are then quantiles of the event times (`declare`).
    cuts
        Ends of the intervals, increasing; the first begins at 0. Follow-up after the last counts as censored there, and
        predictions beyond it have the last interval's hazard.
    horizon
        Until when survival is integrated for the risk; the last cut by default.
    levels
        Where the levels of the intervals start; 0 by default.
    """

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
        dropout: float = 0.0,
        time_varying: bool = False,
        intervals: int = INTERVALS,
        cuts: Sequence[float] = (),
        horizon: float | None = None,
        levels: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if not isinstance(intervals, int | np.integer) or intervals < 1:
            raise ValueError(f"intervals is {intervals!r}; it is a whole number from 1 on")
        if any(b <= a for a, b in itertools.pairwise([0.0, *cuts])):
            raise ValueError(f"cuts are {list(cuts)}; they are above 0 and increase")
        if horizon is not None and not horizon > 0:
            raise ValueError(f"horizon is {horizon!r}; it must be positive")
        self.cuts = np.array(cuts, dtype=np.float64)
        self.horizon = horizon
        size = len(cuts) or intervals
        if levels and len(levels) != size:
            raise ValueError(f"there are {len(levels)} levels for {size} intervals")
        self._start = np.array(levels if levels else np.zeros(size), dtype=np.float64)
        self.layers = perceptron(n_features, hidden, size if time_varying else 1, activation, dropout)
        self.levels = nn.Parameter(torch.zeros(size))

    @classmethod
    def declare(cls, parameters: Mapping[str, Any], design: Design, times: TimeScale) -> dict[str, Any]:
        """With cuts at quantiles of the federation's event times, levels that fit them, and its horizon."""
        found = dict(parameters)
        if not found.get("cuts"):
            found["cuts"] = times.cuts(found.get("intervals", INTERVALS)).tolist()
        cuts = np.array(found["cuts"], dtype=np.float64)
        if not found.get("levels"):
            found["levels"] = cls.levels_of(times.probabilities(cuts), np.diff(cuts, prepend=0.0)).tolist()
        found.setdefault("horizon", times.horizon)
        return found

    @staticmethod
    def levels_of(probabilities: Floats, lengths: Floats) -> Floats:
        """The network's numbers at which an interval's event has some probability, shape (intervals,)."""
        raise NotImplementedError

    def at_risk(self, time: Floats, event: NDArray[np.bool_]) -> Floats:
        """How much of each interval a patient was at risk for, w above; shape (n, intervals)."""
        raise NotImplementedError

    def potential(self, output: torch.Tensor) -> torch.Tensor:
        """A of the network's numbers."""
        raise NotImplementedError

    def hazards(self, output: torch.Tensor) -> torch.Tensor:
        """Hazard per unit of time in each interval, within which survival decreases exponentially."""
        raise NotImplementedError

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the perceptron's weights, and set the levels to where they start."""
        draw_weights(self.layers, rng)
        with torch.no_grad():
            self.levels.copy_(torch.as_tensor(self._start, dtype=self.levels.dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Each interval's number, shape (n, intervals)."""
        numbers: torch.Tensor = self.layers(x) + self.levels
        return numbers

    @property
    def ends(self) -> Floats:
        """The cuts; raises ValueError if nobody has set them yet."""
        if not self.cuts.size:
            raise ValueError("the intervals have no ends yet; give the parameter cuts, or complete it by `declare`")
        return self.cuts

    def endpoint(self, time: Floats, event: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """w and d of each patient and interval, each of shape (n, intervals)."""
        interval = np.searchsorted(self.ends, time, side="left")  # (start, end]; beyond the last cut: none
        happened = event[:, None] & (interval[:, None] == np.arange(len(self.ends)))
        return self.at_risk(time, event & (interval < len(self.ends))), happened.astype(np.float64)

    def terms(self, output: torch.Tensor, *endpoint: torch.Tensor) -> torch.Tensor:
        """Minus the log likelihood of each patient."""
        at_risk, event = endpoint
        return (self.potential(output) * at_risk - output * event).sum(-1)

    def survival(self, output: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Probability of living beyond each of some times, shape (n, times)."""
        spent = self._spent(times.to(output)).to(output)
        return torch.exp(-self.hazards(output) @ spent.T)

    def risk(self, output: torch.Tensor) -> torch.Tensor:
        """Minus the restricted mean survival time up to the horizon, in closed form; shape (n,)."""
        horizon = self.ends[-1] if self.horizon is None else self.horizon
        lengths = self._spent(torch.tensor([horizon], dtype=output.dtype))[0].to(output)
        cumulated = self.hazards(output) * lengths
        before = torch.exp(-(cumulated.cumsum(-1) - cumulated))
        small = cumulated.abs() < 1e-6
        mean = -torch.expm1(-cumulated) / torch.where(small, 1.0, cumulated)
        return -(before * lengths * torch.where(small, 1 - cumulated / 2, mean)).sum(-1)

    def _spent(self, times: torch.Tensor) -> torch.Tensor:
        """The part of each interval that lies before each time, the last one being open, shape (times, intervals)."""
        ends = torch.as_tensor(self.ends, dtype=times.dtype)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        lengths = torch.cat([ends[:-1] - starts[:-1], ends.new_full((1,), torch.inf)])
        return torch.minimum((times[:, None] - starts).clamp(min=0.0), lengths)
