"""Survival described without a model: Kaplan-Meier, Nelson-Aalen, restricted mean, log-rank, all from counts on a grid.

Events and departures per time add over centers, so every estimate here is that of the pooled patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtri

from models.survival.time_grid import at_risk

if TYPE_CHECKING:  # centers' processes do without
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SurvivalCurve:
    """One group's survival, from the counts at the times when anything happened.

    Parameters
    ----------
    times
        Increasing, shape (K,).
    events, at_risk
        At each time; at risk just before it. Shape (K,).
    """

    times: Floats
    events: Floats
    at_risk: Floats

    @classmethod
    def of(cls, times: Floats, events: Floats, leaving: Floats) -> SurvivalCurve:
        """From counts per time (a total of `models.survival.time_grid.event_counts`); times without any are dropped."""
        happened = leaving > 0
        return cls(times[happened], events[happened], at_risk(leaving)[happened])

    @property
    def survival(self) -> Floats:
        """Kaplan-Meier estimate just after each time (Kaplan and Meier 1958, JASA 53:457)."""
        return np.cumprod(1 - self.events / self.at_risk).astype(np.float64)

    @property
    def _greenwood(self) -> Floats:
        """Variance of log S (Greenwood 1926); infinite once S is 0."""
        left = self.at_risk - self.events
        terms: Floats = np.divide(self.events, self.at_risk * left, out=np.full_like(left, np.inf), where=left > 0)
        variance: Floats = np.cumsum(terms)
        return variance

    def survival_band(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Pointwise limits from the normal approximation to log(-log S) (Kalbfleisch and Prentice 2002, eq. 1.12).

        Before the first event nothing has varied: both are 1. Once S is 0, both are 0.
        """
        survival, low, high = self.survival, np.ones_like(self.times), np.ones_like(self.times)
        inside = (survival > 0) & (survival < 1)
        log_survival = np.log(survival[inside])
        margin = ndtri((1 + level) / 2) * np.sqrt(self._greenwood[inside]) / log_survival
        low[inside], high[inside] = survival[inside] ** np.exp(-margin), survival[inside] ** np.exp(margin)
        low[survival <= 0] = high[survival <= 0] = 0
        return low, high

    @property
    def cumulative_hazard(self) -> Floats:
        """Nelson-Aalen estimate (Aalen 1978, Ann Stat 6:701)."""
        estimate: Floats = np.cumsum(self.events / self.at_risk)
        return estimate

    def cumulative_hazard_band(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Pointwise limits from the normal approximation to log H, with binomial variance (Klein 1991, eq. 2.2)."""
        hazard = self.cumulative_hazard
        variance = np.cumsum((self.at_risk - self.events) * self.events / self.at_risk**3)
        ratio = np.divide(np.sqrt(variance), hazard, out=np.zeros_like(hazard), where=hazard > 0)
        margin = np.exp(ndtri((1 + level) / 2) * ratio)
        return hazard / margin, hazard * margin

    def median(self) -> float:
        """First time at which half or fewer survive; NaN if more do to the end."""
        reached = np.flatnonzero(self.survival <= 0.5 * (1 + 1e-12))
        return float(self.times[reached[0]]) if len(reached) else float("nan")

    def restricted_mean(self, horizon: float) -> tuple[float, float]:
        """Mean survival up to a horizon, and its standard error (Klein and Moeschberger 2003, section 4.5).

        Raises
        ------
        ValueError
            If the last patient left before the horizon, alive: the curve is not known up to there.
        """
        if self.times[-1] < horizon and self.survival[-1] > 0:
            raise ValueError(f"the last patient was seen at {self.times[-1]:g}; choose a horizon no later than that")
        before = self.times < horizon
        edges = np.concatenate([[0.0], self.times[before], [horizon]])
        areas = np.concatenate([[1.0], self.survival[before]]) * np.diff(edges)
        mean = float(areas.sum())
        after = np.cumsum(areas[::-1])[::-1][1:]  # what is left of the area from each event on
        left = (self.at_risk - self.events)[before]
        parts = np.divide(self.events[before], self.at_risk[before] * left, out=np.zeros_like(left), where=left > 0)
        return mean, float(np.sqrt((after**2 * parts).sum()))

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """Time, counts and estimates with their limits, one row per time."""
        low, high = self.survival_band(level)
        hazard_low, hazard_high = self.cumulative_hazard_band(level)
        import pandas as pd

        return pd.DataFrame(
            {
                "time": self.times,
                "at_risk": self.at_risk,
                "events": self.events,
                "survival": self.survival,
                "survival_low": low,
                "survival_high": high,
                "cumulative_hazard": self.cumulative_hazard,
                "cumulative_hazard_low": hazard_low,
                "cumulative_hazard_high": hazard_high,
            }
        )


def log_rank_sums(events: Floats, leaving: Floats) -> dict[str, Floats]:
    """Excess of events over expectation in each group, and its covariance: these add over strata.

    Parameters
    ----------
    events, leaving
        Counts per group and time, shape (groups, K).

    Returns
    -------
    dict
        ``excess`` (groups,) and ``variance`` (groups, groups), hypergeometric.

    References
    ----------
    Mantel (1966), Cancer Chemother Rep 50:163. Peto and Peto (1972), J R Stat Soc A 135:185.
    """
    risk, deaths = at_risk(leaving), events.sum(axis=0)
    total = risk.sum(axis=0)
    risk, deaths, total = risk[:, deaths > 0], deaths[deaths > 0], total[deaths > 0]
    share = risk / total
    scale = deaths * np.divide(total - deaths, total - 1, out=np.zeros_like(total), where=total > 1)
    variance = np.diag(share @ scale) - (share * scale) @ share.T
    return {"excess": events.sum(axis=1) - share @ deaths, "variance": variance}


@dataclass(frozen=True)
class LogRank:
    """Test that groups have one hazard.

    Parameters
    ----------
    statistic, degrees_of_freedom, p
        Chi-squared under the hypothesis. A group that is never at risk beside another takes no part.
    """

    statistic: float
    degrees_of_freedom: int
    p: float

    @classmethod
    def of(cls, excess: Floats, variance: Floats) -> LogRank:
        """From (a total of) `log_rank_sums`."""
        informative = variance.diagonal() > 1e-12
        freedom = int(informative.sum()) - 1
        if freedom < 1:
            return cls(0.0, 0, float("nan"))
        inverse = np.linalg.pinv(variance[np.ix_(informative, informative)], hermitian=True)
        statistic = float(excess[informative] @ inverse @ excess[informative])
        return cls(statistic, freedom, float(chdtrc(freedom, statistic)))
