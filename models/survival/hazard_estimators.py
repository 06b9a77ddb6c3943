"""Discrete-time and piecewise-constant hazards as scikit-survival estimators, for one table and no federation."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted, validate_data
from sksurv.util import check_array_survival

from models.flat import get_weights
from models.survival.discrete_hazard import DiscreteHazardNetwork
from models.survival.estimator_parts import SurvivalEstimator, minimize
from models.survival.intervals import INTERVALS, IntervalNetwork
from models.survival.network import Activation
from models.survival.piecewise_hazard import PiecewiseHazardNetwork
from models.survival.time_scale import TimeScale
from models.training import Optimizer, TrainingData, predict, predict_survival, train

Floats = NDArray[np.float64]


class _HazardEstimator(SurvivalEstimator):
    """What the estimators share: cuts at quantiles of the event times, and prediction."""

    _kind: ClassVar[type[IntervalNetwork]]
    intervals: int
    time_varying: bool
    network_: IntervalNetwork
    weights_: NDArray[np.floating]
    cuts_: Floats

    def _start(self, X: ArrayLike, y: Any, **layers: Any) -> tuple[Floats, NDArray[np.bool_], Floats]:
        """Check the data, find the cuts, and build the network."""
        x = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        event, time = check_array_survival(x, y)
        if not event.any():
            raise ValueError("all samples are censored; a hazard cannot be told from that")
        self.unique_times_ = np.unique(time)
        edges = self.unique_times_[self.unique_times_ > 0]
        cells = np.searchsorted(edges, time[event], side="left")
        times = TimeScale(float(edges[-1]), edges, np.bincount(cells, minlength=len(edges)).astype(float), len(time))
        declared = self._kind.declare({"intervals": self.intervals, "time_varying": self.time_varying}, (), times)
        self.network_ = self._kind(x.shape[1], **declared, **layers)
        self.cuts_ = self.network_.cuts
        return x, event, time

    def predict(self, X: ArrayLike) -> Floats:
        """Minus the restricted mean survival time up to the last time of the training data, shape (n_samples,)."""
        x = self._checked(X)
        return predict(self.network_, self.weights_, x)

    def predict_survival_function(self, X: ArrayLike, return_array: bool = False) -> NDArray[Any]:
        """Survival probability per sample: step functions, or an array (n_samples, n_times) at `unique_times_`."""
        return self._functions(self._survival(X), return_array)

    def predict_cumulative_hazard_function(self, X: ArrayLike, return_array: bool = False) -> NDArray[Any]:
        """Cumulative hazard per sample: step functions, or an array (n_samples, n_times) at `unique_times_`."""
        return self._functions(-np.log(self._survival(X)), return_array)

    def _survival(self, X: ArrayLike) -> Floats:
        x = self._checked(X)
        return predict_survival(self.network_, self.weights_, x, self.unique_times_)

    def _checked(self, X: ArrayLike) -> Floats:
        check_is_fitted(self, "weights_")
        x: Floats = validate_data(self, X, dtype=np.float64, reset=False)
        return x


class _LinearHazard(_HazardEstimator):
    def __init__(
        self, intervals: int = INTERVALS, alpha: float = 0.0, time_varying: bool = False, max_iter: int = 500
    ) -> None:
        self.intervals = intervals
        self.alpha = alpha
        self.time_varying = time_varying
        self.max_iter = max_iter

    def fit(self, X: ArrayLike, y: Any) -> Any:
        """Fit to X of shape (n_samples, n_features) and a structured array of (event, time)."""
        x, event, time = self._start(X, y)
        network = self.network_.double()
        network.initialize(np.random.default_rng(0))
        target = network.prepare(time, event)
        # On standardized features, else those on large scales would not converge; the penalty is of their own units.
        mean, unit = x.mean(axis=0), x.std(axis=0)
        unit[unit == 0] = 1.0
        design, ridge = torch.as_tensor((x - mean) / unit), torch.as_tensor(self.alpha / unit**2)
        (slopes,) = network.layers.parameters()

        def loss() -> torch.Tensor:
            return network.loss(network(design), target) * len(time) + (ridge * slopes**2).sum() / 2

        minimize(list(network.parameters()), loss, self.max_iter, tolerance=1e-4)
        with torch.no_grad():
            slopes.div_(torch.as_tensor(unit))
            network.levels.sub_(slopes @ torch.as_tensor(mean))
        self.weights_ = torch.cat([p.detach().reshape(-1) for p in network.parameters()]).numpy().copy()
        self.coef_ = slopes.detach().numpy().copy() if self.time_varying else slopes[0].detach().numpy().copy()
        self.intercept_ = network.levels.detach().numpy().copy()
        return self


class _DeepHazard(_HazardEstimator):
    def __init__(
        self,
        hidden: tuple[int, ...] = (32,),
        activation: Activation = "relu",
        dropout: float = 0.0,
        intervals: int = INTERVALS,
        time_varying: bool = False,
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
        self.intervals = intervals
        self.time_varying = time_varying
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any) -> Any:
        """Fit to X of shape (n_samples, n_features) and a structured array of (event, time)."""
        x, event, time = self._start(X, y, hidden=self.hidden, activation=self.activation, dropout=self.dropout)
        rng = np.random.default_rng(self.random_state)
        self.network_.initialize(rng)
        start, data = get_weights(self.network_), TrainingData(x, time, event)
        self.weights_, _ = train(self.network_, start, data, self._training_options(), rng)
        return self


_LINEAR = """

    Parameters
    ----------
    intervals
        How many, with ends at quantiles of the event times.
    alpha
        Ridge penalty alpha/2 · ‖coef‖², on the scale of the total log likelihood; levels are free.
    time_varying
        Whether each interval has coefficients of its own.
    max_iter
        Of L-BFGS, in float64.

    Attributes
    ----------
    coef_
        Shape (n_features,), or (intervals, n_features) if they vary with time.
    intercept_
        Levels of the intervals, shape (intervals,).
    cuts_
        Ends of the intervals.
    """

_DEEP = """

    Parameters
    ----------
    hidden, activation, dropout, intervals, time_varying
        See `models.survival.intervals.IntervalNetwork`.
    epochs, batch_size, optimizer, learning_rate, weight_decay, clip_norm
        See `models.training.TrainingOptions`.
    random_state
        Seed of weights, batches and dropout.

    Attributes
    ----------
    cuts_
        Ends of the intervals, at quantiles of the event times.
    """


class DiscreteHazard(_LinearHazard):
    __doc__ = "Discrete-time hazards, logistic in the features (`DiscreteHazardNetwork`)." + _LINEAR
    _kind = DiscreteHazardNetwork


class PiecewiseHazard(_LinearHazard):
    __doc__ = "Piecewise-constant hazards, log-linear in the features (`PiecewiseHazardNetwork`)." + _LINEAR
    _kind = PiecewiseHazardNetwork


class DeepDiscreteHazard(_DeepHazard):
    __doc__ = "Discrete-time hazards by a multilayer perceptron (Gensheimer and Narasimhan 2019)." + _DEEP
    _kind = DiscreteHazardNetwork


class DeepPiecewiseHazard(_DeepHazard):
    __doc__ = "Piecewise-constant hazards by a multilayer perceptron (Kvamme and Borgan 2021)." + _DEEP
    _kind = PiecewiseHazardNetwork


__all__ = ["DeepDiscreteHazard", "DeepPiecewiseHazard", "DiscreteHazard", "PiecewiseHazard"]
