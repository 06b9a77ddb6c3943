"""Discrete-time hazards: the log odds of an event in each interval, given survival so far."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import softplus

from models.survival.intervals import Floats, IntervalNetwork


class DiscreteHazardNetwork(IntervalNetwork):
    """Logistic hazard. Parameters as `IntervalNetwork`.

    With no hidden layer it is Cox's proportional odds model for discrete time: a logistic regression on one row per
    patient and interval. An event is in the interval (start, end] that its time lies in; a censored patient counts as
    observed in an interval if at least half of it was.

    References
    ----------
    Cox (1972), J R Stat Soc B 34:187, section 3. Gensheimer and Narasimhan (2019), PeerJ 7:e6257. Andreux et al.
    (2020), Federated survival analysis with discrete-time Cox models, arXiv:2006.08997.
    """

    @staticmethod
    def levels_of(probabilities: Floats, lengths: Floats) -> Floats:
        """Log odds."""
        odds: Floats = np.log(probabilities) - np.log1p(-probabilities)
        return odds

    def at_risk(self, time: Floats, event: NDArray[np.bool_]) -> Floats:
        """1 for each interval that a patient was at risk in."""
        starts = np.concatenate([[0.0], self.ends[:-1]])
        began = (time[:, None] > starts) | (np.arange(len(starts)) == 0)
        half = time[:, None] >= (starts + self.ends) / 2
        return np.where(event[:, None], began, half).astype(np.float64)

    def potential(self, output: torch.Tensor) -> torch.Tensor:
        """−log(1 − h)."""
        return softplus(output)

    def hazards(self, output: torch.Tensor) -> torch.Tensor:
        """−log(1 − h) per unit of time: survival is the product of 1 − h at the cuts, and exponential between them."""
        lengths = torch.as_tensor(np.diff(self.ends, prepend=0.0), dtype=output.dtype, device=output.device)
        return softplus(output) / lengths
