"""What the scikit-survival estimators of this folder have in common: step functions, training options, L-BFGS."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sksurv.base import SurvivalAnalysisMixin
from sksurv.functions import StepFunction

from models.training import TrainingOptions

Floats = NDArray[np.float64]

_TRAINING = ("epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "clip_norm")


class SurvivalEstimator(BaseEstimator, SurvivalAnalysisMixin):  # type: ignore[misc]
    """A scikit-survival estimator whose curves step at the times of its training data."""

    unique_times_: Floats

    def _functions(self, values: Floats, return_array: bool) -> NDArray[Any]:
        """Values at `unique_times_` (the last axis), as they are or as an array of step functions."""
        if return_array:
            return values
        functions = np.empty(values.shape[:-1], dtype=object)
        for place in np.ndindex(functions.shape):
            functions[place] = StepFunction(self.unique_times_, values[place])
        return functions

    def predict_survival(self, X: ArrayLike, times: ArrayLike) -> Floats:
        """Survival at some times, shape (n_samples, n_times): that of the step functions, 1 before their first step."""
        curves = self.predict_survival_function(X, return_array=True)
        with_start = np.concatenate([np.ones((len(curves), 1)), curves], axis=1)
        found: Floats = with_start[:, np.searchsorted(self.unique_times_, np.asarray(times), side="right")]
        return found

    def _training_options(self) -> TrainingOptions:
        """Those of an estimator that is trained by steps, from its own parameters."""
        return TrainingOptions(**{name: getattr(self, name) for name in _TRAINING})


def minimize(
    parameters: Sequence[torch.Tensor], loss: Callable[[], torch.Tensor], max_iter: int, tolerance: float
) -> None:
    """Minimize a smooth convex loss over parameters in place, by L-BFGS with strong Wolfe line searches.

    Afterwards the parameters' ``grad`` is that of the minimum; if an entry of it is above `tolerance`, a
    `ConvergenceWarning` says so.
    """
    solver = torch.optim.LBFGS(
        parameters,
        max_iter=max_iter,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> torch.Tensor:
        solver.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(objective)  # type: ignore[no-untyped-call]
    objective()
    slope = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
    if not slope.abs().max() < tolerance:
        warnings.warn(f"no convergence in max_iter={max_iter} iterations", ConvergenceWarning, stacklevel=3)
