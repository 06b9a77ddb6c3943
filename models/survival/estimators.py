"""Linear Cox and DeepSurv as scikit-survival estimators, for one table and no federation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted, validate_data
from sksurv.util import check_array_survival

from models.flat import get_weights
from models.survival.baseline import BaselineHazard, breslow_sums
from models.survival.estimator_parts import SurvivalEstimator, minimize
from models.survival.likelihood import RiskSets, Ties, log_partial_likelihood
from models.survival.network import Activation, CoxNetwork, build_network
from models.training import Optimizer, TrainingData, predict, train

Floats = NDArray[np.float64]


class _CoxEstimator(SurvivalEstimator):
    """What linear Cox and DeepSurv share: prediction from a fitted network and a Breslow baseline."""

    network_: CoxNetwork
    weights_: NDArray[np.floating]
    baseline_: BaselineHazard

    def _validate(self, X: ArrayLike, y: Any) -> tuple[Floats, NDArray[np.bool_], Floats]:
        x = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        event, time = check_array_survival(x, y)
        if not event.any():
            raise ValueError("all samples are censored; a Cox model needs events")
        return x, event, time

    def _finish(self, x: Floats, event: NDArray[np.bool_], time: Floats) -> None:
        self.unique_times_ = np.unique(time)
        sums = breslow_sums(time, event, self.predict(x), self.unique_times_)
        self.baseline_ = BaselineHazard.fit(self.unique_times_, sums["events"], sums["risk"])

    def predict(self, X: ArrayLike) -> Floats:
        """Log relative hazard (higher = worse), shape (n_samples,)."""
        check_is_fitted(self, "weights_")
        return predict(self.network_, self.weights_, validate_data(self, X, dtype=np.float64, reset=False))

    def predict_cumulative_hazard_function(self, X: ArrayLike, return_array: bool = False) -> NDArray[Any]:
        """Cumulative hazard per sample: step functions, or an array (n_samples, n_times) at `unique_times_`."""
        risk = np.exp(self.predict(X))[:, None]
        return self._functions(risk * self.baseline_.cumulative[None, :], return_array)

    def predict_survival_function(self, X: ArrayLike, return_array: bool = False) -> NDArray[Any]:
        """Survival probability per sample: step functions, or an array of shape (n_samples, n_times)."""
        return self._functions(self.baseline_.survival(self.predict(X), self.unique_times_), return_array)


class LinearCox(_CoxEstimator):
    """Ridge-penalized proportional hazards model, solved to convergence by L-BFGS in float64.

    Parameters
    ----------
    alpha
        Ridge penalty alpha/2 · ‖coef‖², on the scale of the total log likelihood (as in scikit-survival).
    ties
        ``efron`` or ``breslow``.
    max_iter
        Of L-BFGS.

    Attributes
    ----------
    coef_
        Log hazard ratios, shape (n_features,).
    unique_times_
        Times of the training data, at which the survival functions step.
    """

    def __init__(self, alpha: float = 0.0, ties: Ties = "efron", max_iter: int = 500) -> None:
        self.alpha = alpha
        self.ties = ties
        self.max_iter = max_iter

    def fit(self, X: ArrayLike, y: Any, strata: ArrayLike | None = None) -> LinearCox:
        """Fit to X of shape (n_samples, n_features) and a structured array of (event, time).

        Parameters
        ----------
        strata
            Labels of shape (n_samples,), e.g. hospitals, each with its own baseline hazard in the likelihood.
        """
        x, event, time = self._validate(X, y)
        target = RiskSets.of(time, event, strata, self.ties)
        # In units in which the information's diagonal is about 1: else features on large scales would not converge.
        unit = np.sqrt(x.var(axis=0) * event.sum() + self.alpha)
        unit[unit == 0] = 1.0
        design, ridge = torch.as_tensor((x - x.mean(axis=0)) / unit), torch.as_tensor(self.alpha / unit**2)
        scaled = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)

        def loss() -> torch.Tensor:
            return -log_partial_likelihood(design @ scaled, target) + (ridge * scaled**2).sum() / 2

        minimize([scaled], loss, self.max_iter, tolerance=1e-5)
        self.network_ = build_network("cox", x.shape[1], {"ties": self.ties}).double()
        self.weights_ = self.coef_ = scaled.detach().numpy() / unit
        self._finish(x, event, time)
        return self


class DeepSurv(_CoxEstimator):
    """Cox model with a multilayer perceptron for the log hazard (Katzman et al. 2018).

    Parameters
    ----------
    hidden, activation, dropout, ties
        See `models.survival.network.CoxNetwork`.
    epochs, batch_size, optimizer, learning_rate, weight_decay, clip_norm
        See `models.training.TrainingOptions`.
    random_state
        Seed of weights, batches and dropout.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (32, 32),
        activation: Activation = "relu",
        dropout: float = 0.0,
        ties: Ties = "efron",
        epochs: int = 200,
        batch_size: int | None = None,
        optimizer: Optimizer = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        clip_norm: float | None = None,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.ties = ties
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any) -> DeepSurv:
        """Fit to X of shape (n_samples, n_features) and a structured array of (event, time)."""
        x, event, time = self._validate(X, y)
        rng = np.random.default_rng(self.random_state)
        declared = {"hidden": self.hidden, "activation": self.activation, "dropout": self.dropout, "ties": self.ties}
        self.network_ = build_network("deepsurv", x.shape[1], declared)
        self.network_.initialize(rng)
        start, data = get_weights(self.network_), TrainingData(x, time, event)
        self.weights_, _ = train(self.network_, start, data, self._training_options(), rng)
        self._finish(x, event, time)
        return self
