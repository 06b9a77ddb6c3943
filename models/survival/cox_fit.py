"""A fitted Cox model as a reader of a report wants it: coefficients, intervals, tests, baseline hazard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtri

from models.survival.baseline import BaselineHazard
from models.survival.newton_cox import TRANSFORMS, centered_transforms

if TYPE_CHECKING:  # centers' processes do without
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CoxFit:
    """A fitted Cox model.

    Parameters
    ----------
    names
        Of the columns of the design matrix, length p.
    coefficients
        Log hazard ratios per unit of the design matrix, shape (p,).
    covariance, robust_covariance
        From the information, and Lin and Wei's sandwich, shape (p, p); NaN for a lasso or a singular information.
    log_likelihood, null_log_likelihood
        At the coefficients and at zero (of the unstratified model).
    events
        Number of events.
    converged, iterations
        Of Newton's method.
    baseline
        Breslow's cumulative hazard of a patient whose design row is zero; None with strata.
    """

    names: tuple[str, ...]
    coefficients: Floats
    covariance: Floats
    robust_covariance: Floats
    log_likelihood: float
    null_log_likelihood: float
    events: int
    converged: bool
    iterations: int
    baseline: BaselineHazard | None
    _slopes: Floats
    _spread: Floats

    @classmethod
    def of(cls, state: Mapping[str, NDArray[Any]], names: Sequence[str], unit: float = 1.0) -> CoxFit:
        """From a final state of `models.survival.newton_cox.NewtonCox`.

        Parameters
        ----------
        unit
            What one unit of the state's times (a cell, unless they were given) is.

        Raises
        ------
        ValueError
            If there was no event.
        """
        deaths = state["deaths"]
        if not len(deaths):
            raise ValueError("no patient has an event up to the horizon; a Cox model needs events")
        transformed = centered_transforms(state["event_times"], deaths, state["at_risk"])
        baseline = None
        if "baseline" in state:
            baseline = BaselineHazard(unit * state["event_times"], state["baseline"])
        return cls(
            names=tuple(names),
            coefficients=state["beta"],
            covariance=state["covariance"],
            robust_covariance=state["robust_covariance"],
            log_likelihood=float(state["value"]),
            null_log_likelihood=float(state["null_value"]),
            events=int(deaths.sum()),
            converged=bool(state["converged"]),
            iterations=int(state["iteration"]),
            baseline=baseline,
            _slopes=state["slopes"],
            _spread=transformed**2 @ deaths,
        )

    def standard_errors(self, robust: bool = False) -> Floats:
        """Of the coefficients, shape (p,)."""
        errors: Floats = np.sqrt((self.robust_covariance if robust else self.covariance).diagonal())
        return errors

    def summary(self, robust: bool = False, level: float = 0.95) -> pd.DataFrame:
        """Coefficient, hazard ratio with interval, standard error, z and two-sided p value of each column."""
        import pandas as pd

        error = self.standard_errors(robust)
        z = self.coefficients / error
        margin = ndtri((1 + level) / 2) * error
        return pd.DataFrame(
            {
                "coefficient": self.coefficients,
                "standard_error": error,
                "hazard_ratio": np.exp(self.coefficients),
                "low": np.exp(self.coefficients - margin),
                "high": np.exp(self.coefficients + margin),
                "z": z,
                "p": chdtrc(1, z**2),
            },
            index=pd.Index(self.names, name="feature"),
        )

    def proportional_hazards(self, transform: str = "km") -> pd.DataFrame:
        """Test that each log hazard ratio is constant over time, and (last row) that all are.

        Parameters
        ----------
        transform
            Of time, one of `models.survival.newton_cox.TRANSFORMS`. Tied events have their mean rank.

        References
        ----------
        Grambsch and Therneau (1994), Biometrika 81:515, with their average variance of the residuals.
        """
        import pandas as pd

        if transform not in TRANSFORMS:
            raise ValueError(f"transform is {transform!r}; use one of {', '.join(TRANSFORMS)}")
        row = TRANSFORMS.index(transform)
        slope, scale = self._slopes[row], self.events / self._spread[row]
        along = self.covariance @ slope
        statistic = np.append(along**2 / self.covariance.diagonal(), slope @ along) * scale
        freedom = np.append(np.ones(len(slope)), len(slope))
        return pd.DataFrame(
            {"statistic": statistic, "degrees_of_freedom": freedom.astype(int), "p": chdtrc(freedom, statistic)},
            index=pd.Index([*self.names, "all"], name="feature"),
        )
