"""What survival models and curves of synthetic patients say of real ones."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.exceptions import ConvergenceWarning
from sksurv.util import Surv

from harmonization import Cohort
from models.preprocessing import PreprocessingOptions, Preprocessor, feature_sums
from models.survival.concordance import concordance_counts
from models.survival.descriptive import LogRank, SurvivalCurve, log_rank_sums
from models.survival.estimators import DeepSurv
from models.survival.exact_cox import ExactCox

Floats = NDArray[np.float64]

RIDGE = 0.03
"""Penalty per patient of the Cox model that predicts."""

HIDDEN, EPOCHS = (32,), 100
"""Of DeepSurv, which with its defaults learns the patients of such tables by heart."""

FOR_PREDICTION = PreprocessingOptions(missing="impute")
FOR_HAZARD_RATIOS = PreprocessingOptions(min_count=10, min_frequency=0.02, missing="impute")
"""Only features frequent enough for a hazard ratio to be known to some degree."""

AT_RISK = 0.1
"""Curves are compared as long as this fraction of the held-out patients is followed."""


def trained_concordance(train: Cohort, test: Cohort, seed: int) -> tuple[float, float]:
    """Harrell's C on the test patients of a ridge Cox model and of DeepSurv, fitted to the training patients.

    Preprocessing is the training patients' own. NaN if they have no event, or no feature that varies.
    """
    cox = trained_cox(train)
    if cox is None:
        return float("nan"), float("nan")
    preprocessor, coefficients = cox
    x, y = preprocessor.transform(train), Surv.from_arrays(train.event, train.time)
    at = preprocessor.transform(test)
    network = DeepSurv(HIDDEN, epochs=EPOCHS, random_state=seed).fit(x, y)
    found = []
    for risk in (at @ coefficients, network.predict(at)):
        concordant, comparable = concordance_counts(test.time, test.event, risk)
        found.append(concordant / comparable if comparable else float("nan"))
    return found[0], found[1]


def trained_cox(train: Cohort) -> tuple[Preprocessor, Floats] | None:
    """A ridge Cox model: preprocessing, and coefficients of its columns. None without events or features that vary."""
    try:
        preprocessor = Preprocessor.fit(feature_sums(train), train.schema, FOR_PREDICTION)
    except ValueError:  # no feature varies
        return None
    if not train.event.any():
        return None
    x, y = preprocessor.transform(train), Surv.from_arrays(train.event, train.time)
    return preprocessor, ExactCox(alpha=RIDGE * len(train)).fit(x, y).coef_


@dataclass(frozen=True, eq=False)
class HazardRatios:
    """Log hazard ratios of a table's common features, and what is needed to find the same in another table.

    Parameters
    ----------
    preprocessor
        Makes the design matrix; of the table whose hazard ratios are the reference.
    coefficients, errors
        Log hazard ratio of a standard deviation, and its standard error, shape (p,).
    """

    preprocessor: Preprocessor
    coefficients: Floats
    errors: Floats

    @classmethod
    def fit(cls, cohort: Cohort, preprocessor: Preprocessor | None = None) -> HazardRatios | None:
        """From all features at once; each has a normal prior of one around 0. None without events or features."""
        if not cohort.event.any():
            return None
        try:
            preprocessor = preprocessor or Preprocessor.fit(feature_sums(cohort), cohort.schema, FOR_HAZARD_RATIOS)
        except ValueError:  # no feature varies
            return None
        x, y = preprocessor.transform(cohort), Surv.from_arrays(cohort.event, cohort.time)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of a poor generator's patients: still an answer
            fit = ExactCox(alpha=1.0).fit(x, y).fit_
        return cls(preprocessor, fit.coefficients, fit.standard_errors())

    def interval(self) -> tuple[Floats, Floats]:
        """95% limits."""
        margin = float(ndtri(0.975)) * self.errors
        return self.coefficients - margin, self.coefficients + margin

    def recovered(self, synthetic: Cohort) -> dict[str, float]:
        """``hazard_ratio_coverage``: the fraction of synthetic log hazard ratios inside these intervals, and
        ``hazard_ratio_overlap``: the mean of the overlap's fractions of both intervals, 0 if disjoint.

        References
        ----------
        Karr, Kohnen, Oganian, Reiter and Sanil (2006), Am Stat 60:224.
        """
        other = HazardRatios.fit(synthetic, self.preprocessor)
        if other is None:
            return {"hazard_ratio_coverage": float("nan"), "hazard_ratio_overlap": float("nan")}
        (low, high), (other_low, other_high) = self.interval(), other.interval()
        inside = (other.coefficients >= low) & (other.coefficients <= high)
        common = np.maximum(0, np.minimum(high, other_high) - np.maximum(low, other_low))
        overlap = (common / (high - low) + common / (other_high - other_low)) / 2
        return {"hazard_ratio_coverage": float(inside.mean()), "hazard_ratio_overlap": float(overlap.mean())}


def compared_curves(real: Cohort, synthetic: Cohort) -> dict[str, float]:
    """``km_distance``: mean over time of the absolute difference of the Kaplan-Meier curves, up to the last time at
    which a tenth of the real patients is followed; ``logrank_p``: of the test that both have one hazard.
    """
    pooled = np.concatenate([real.time, synthetic.time])
    times, cell = np.unique(pooled, return_inverse=True)
    cells = cell[: len(real)], cell[len(real) :]
    leaving = np.array([np.bincount(c, minlength=len(times)) for c in cells], dtype=np.float64)
    events = np.array(
        [np.bincount(c[who.event], minlength=len(times)) for c, who in zip(cells, (real, synthetic), strict=True)],
        dtype=np.float64,
    )
    return curves_of_counts(times, events, leaving)


def curves_of_counts(times: Floats, events: Floats, leaving: Floats) -> dict[str, float]:
    """The same from counts at increasing times: of events, and of all who leave; real patients, then synthetic ones."""
    followed = np.repeat(times, leaving[0].astype(np.int64))
    horizon = float(np.quantile(followed, 1 - AT_RISK, method="lower"))
    edges = np.append(np.append(0.0, times[times < horizon]), horizon)
    steps = [_survival(SurvivalCurve.of(times, e, n), edges[:-1]) for e, n in zip(events, leaving, strict=True)]
    area = float(np.abs(steps[0] - steps[1]) @ np.diff(edges))
    return {
        "km_distance": area / horizon if horizon > 0 else float("nan"),
        "logrank_p": LogRank.of(**log_rank_sums(events, leaving)).p,
    }


def _survival(curve: SurvivalCurve, at: Floats) -> Floats:
    """Just after some times; as at the curve's last time afterwards."""
    survival: Floats = np.append(1.0, curve.survival)[np.searchsorted(curve.times, at, "right")]
    return survival
