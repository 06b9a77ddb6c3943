"""Piecewise-constant hazards: the logarithm of the hazard in each interval."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.survival.intervals import Floats, IntervalNetwork


class PiecewiseHazardNetwork(IntervalNetwork):
    """Hazard that is constant within intervals. Parameters as `IntervalNetwork`.

    With no hidden layer it is the piecewise exponential model: a Poisson regression of events on one row per patient
    and interval, with the logarithm of the time at risk as offset. Unless effects vary with time the hazards are
    proportional, and with many intervals the coefficients approach those of the Cox model of all patients.

    References
    ----------
    Friedman (1982), Ann Stat 10:101. Kvamme and Borgan (2021), Lifetime Data Anal 27:710 (PC-Hazard).
    """

    @staticmethod
    def levels_of(probabilities: Floats, lengths: Floats) -> Floats:
        """Log hazards."""
        levels: Floats = np.log(-np.log1p(-probabilities) / lengths)
        return levels

    def at_risk(self, time: Floats, event: NDArray[np.bool_]) -> Floats:
        """Time at risk within each interval."""
        starts = np.concatenate([[0.0], self.ends[:-1]])
        spent: Floats = np.clip(time[:, None] - starts, 0.0, self.ends - starts)
        return spent

    def potential(self, output: torch.Tensor) -> torch.Tensor:
        """The hazard."""
        return torch.exp(output)

    def hazards(self, output: torch.Tensor) -> torch.Tensor:
        """The hazard."""
        return torch.exp(output)
