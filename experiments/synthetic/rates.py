"""How often an attack succeeds, how much of that is due to having been in the training data, and intervals of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

Floats = NDArray[np.float64]
Z = float(norm.ppf(0.975))
"""Of intervals of 95%."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval."""

    value: float
    low: float
    high: float

    def named(self, name: str) -> dict[str, float]:
        """``name``, ``name_low`` and ``name_high``."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True)
class Rate:
    """A success rate by Wilson's score method: the interval's middle, and half its width.

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22.
    """

    value: float
    error: float

    @classmethod
    def of(cls, successes: float, attacks: int) -> Rate:
        """Of so many attacks; NaN without any."""
        if not attacks:
            return cls(np.nan, np.nan)
        scale, failures = attacks + Z**2, attacks - successes
        spread = np.sqrt(successes * failures / attacks + Z**2 / 4)
        return cls(float((successes + Z**2 / 2) / scale), float(Z * spread / scale))


def residual_risk(attack: Rate, control: Rate) -> Estimate:
    """Success on training patients beyond that on others, as a share of what was left to gain.

    (attack − control) / (1 − control), at most 1; negative if others are attacked more easily. The interval
    propagates both errors.

    References
    ----------
    Giomi et al. (2023), A unified framework for quantifying privacy risk in synthetic data, PoPETs 2023(2), section 4.
    """
    left = 1 - control.value
    risk = (attack.value - control.value) / left
    error = np.hypot(attack.error / left, (1 - attack.value) * control.error / left**2)
    return Estimate(risk, risk - float(error), risk + float(error))


def difference(training: Floats, heldout: Floats) -> Estimate:
    """Mean over training patients minus mean over held-out ones, with Welch's normal interval."""
    value = float(training.mean() - heldout.mean())
    error = Z * float(np.sqrt(training.var(ddof=1) / len(training) + heldout.var(ddof=1) / len(heldout)))
    return Estimate(value, value - error, value + error)


def roc_auc(members: Floats, others: Floats) -> Estimate:
    """How often a member's score is the higher one of a member's and another's (ties count half).

    The interval is that of DeLong's variance.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), Comparing the areas under correlated ROC curves, Biometrics 44.
    """
    n, m = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))
    below = (ranks[:n] - rankdata(members)) / m  # share of others below each member
    above = 1 - (ranks[n:] - rankdata(others)) / n
    auc = float(below.mean())
    error = Z * float(np.sqrt(below.var(ddof=1) / n + above.var(ddof=1) / m))
    return Estimate(auc, auc - error, auc + error)
