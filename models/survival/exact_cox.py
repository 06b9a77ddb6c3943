"""The exact Cox model as a scikit-survival estimator: the federated algorithm's own steps, on one table."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data
from sksurv.base import SurvivalAnalysisMixin
from sksurv.functions import StepFunction
from sksurv.util import check_array_survival

from models.survival.baseline import BaselineHazard, breslow_sums
from models.survival.cox_fit import CoxFit
from models.survival.cox_sums import Ties
from models.survival.newton_cox import NewtonCox

Floats = NDArray[np.float64]


class ExactCox(BaseEstimator, SurvivalAnalysisMixin):  # type: ignore[misc]
    """Proportional hazards model with standard errors and tests, by Newton's method.

    Parameters
    ----------
    ties, alpha, l1_ratio, max_iter
        See `models.survival.newton_cox.NewtonCox`; the penalty is on the scale of X.

    Attributes
    ----------
    coef_
        Log hazard ratios, shape (n_features,).
    fit_
        `models.survival.cox_fit.CoxFit`: standard errors, p values, test of proportional hazards. Its baseline hazard
        is that of a patient with X at its mean.
    baseline_, unique_times_
        Breslow's cumulative hazard of a patient with X = 0, at the times of the training data.
    """

    def __init__(self, ties: Ties = "efron", alpha: float = 0.0, l1_ratio: float = 0.0, max_iter: int = 30) -> None:
        self.ties = ties
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.max_iter = max_iter

    def fit(self, X: ArrayLike, y: Any, strata: ArrayLike | None = None) -> ExactCox:
        """Fit to X of shape (n_samples, n_features) and a structured array of (event, time).

        Parameters
        ----------
        strata
            Labels of shape (n_samples,), each with its own baseline hazard in the likelihood.
        """
        x = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        event, time = check_array_survival(x, y)
        unique, cell = np.unique(time, return_inverse=True)  # one table needs no grid: every time is a cell
        labels = np.zeros(len(x)) if strata is None else np.asarray(strata)
        members = [labels == label for label in np.unique(labels)]
        kind: Literal["none", "center"] = "none" if strata is None else "center"
        solver = NewtonCox(self.ties, self.alpha, self.l1_ratio, kind, max_iter=self.max_iter)
        mean = x.mean(axis=0)
        state = solver.start(x.shape[1], unique)
        while not solver.done(state):
            asked = solver.broadcast(state)
            answers = [solver.answer(asked, (x - mean)[m], cell[m], event[m], len(unique) + 1) for m in members]
            state = solver.update(state, {n: np.sum([a[n] for a in answers], axis=0) for n in answers[0]})
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(x.shape[1])])
        self.fit_ = CoxFit.of(state, [str(name) for name in names])
        if not self.fit_.converged:
            warnings.warn(f"no convergence in max_iter={self.max_iter} iterations", ConvergenceWarning, stacklevel=2)
        self.coef_ = self.fit_.coefficients
        self.unique_times_ = unique
        sums = breslow_sums(time, event, x @ self.coef_, unique)
        self.baseline_ = BaselineHazard.fit(unique, sums["events"], sums["risk"])
        return self

    def predict(self, X: ArrayLike) -> Floats:
        """Log relative hazard (higher = worse), shape (n_samples,)."""
        check_is_fitted(self, "coef_")
        x = validate_data(self, X, dtype=np.float64, reset=False)
        risk: Floats = x @ self.coef_
        return risk

    def predict_survival_function(self, X: ArrayLike, return_array: bool = False) -> NDArray[Any]:
        """Survival per sample: step functions, or an array (n_samples, n_times) at `unique_times_`."""
        return self._functions(self.baseline_.survival(self.predict(X), self.unique_times_), return_array)

    def predict_cumulative_hazard_function(self, X: ArrayLike, return_array: bool = False) -> NDArray[Any]:
        """Cumulative hazard per sample, likewise."""
        return self._functions(np.exp(self.predict(X))[:, None] * self.baseline_.cumulative[None, :], return_array)

    def _functions(self, values: Floats, return_array: bool) -> NDArray[Any]:
        if return_array:
            return values
        functions = np.empty(len(values), dtype=object)
        functions[:] = [StepFunction(self.unique_times_, row) for row in values]
        return functions
