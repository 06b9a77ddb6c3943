"""SAVAE as scikit-survival estimators, for one table and no federation; missing values are allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted, validate_data
from sksurv.util import check_array_survival

from models.flat import bind, get_weights
from models.likelihoods import Variable, VariableKind
from models.survival.estimator_parts import SurvivalEstimator
from models.survival.network import Activation
from models.survival.savae import SAVAENetwork
from models.survival.time_heads import HeadName
from models.training import Optimizer, TrainingData, train

Floats = NDArray[np.float64]


class _SAVAEEstimator(SurvivalEstimator):
    """What the estimators share: constants of scale, training, and prediction from latent points."""

    network_: SAVAENetwork
    weights_: NDArray[np.floating]

    def __init__(
        self,
        latent: int = 5,
        hidden: int = 50,
        activation: Activation = "tanh",
        dropout: float = 0.0,
        head: HeadName = "weibull",
        components: int = 3,
        pieces: int = 5,
        reconstruction_weight: float = 0.1,
        kl_weight: float = 0.03,
        annealing: float = 0.3,
        draws: int = 128,
        kinds: Mapping[int | str, VariableKind] | None = None,
        epochs: int = 40,
        batch_size: int | None = 64,
        optimizer: Optimizer = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-3,
        clip_norm: float | None = 5.0,
        random_state: int = 0,
    ) -> None:
        self.latent = latent
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.head = head
        self.components = components
        self.pieces = pieces
        self.reconstruction_weight = reconstruction_weight
        self.kl_weight = kl_weight
        self.annealing = annealing
        self.draws = draws
        self.kinds = kinds
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _validate(self, X: ArrayLike, reset: bool) -> Floats:
        x: Floats = validate_data(
            self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=reset, ensure_min_samples=2 if reset else 1
        )
        return x

    def _fit(self, x: Floats, time: Floats, event: NDArray[Any], causes: int) -> None:
        happened = event > 0
        if not happened.any():
            raise ValueError("all samples are censored; a law of the time needs events")
        if not (time >= 0).all():
            raise ValueError(f"times must not be negative, found {time.min():g}")
        with np.errstate(invalid="ignore"):
            known = np.maximum((~np.isnan(x)).sum(axis=0), 1)
            self.mean_ = np.nansum(x, axis=0) / known
            self.scale_ = np.sqrt(np.nansum((x - self.mean_) ** 2, axis=0) / known)
        self.scale_[~(self.scale_ > 1e-12 * (1 + np.abs(self.mean_)))] = 1.0
        self.unique_times_ = np.unique(time)
        cuts = np.unique(np.quantile(time[happened], np.arange(1, self.pieces) / self.pieces))
        self.network_ = SAVAENetwork(
            x.shape[1],
            latent=self.latent,
            hidden=self.hidden,
            activation=self.activation,
            dropout=self.dropout,
            head=self.head,
            components=self.components,
            cuts=[float(c) for c in cuts if c > 0],
            causes=causes,
            reconstruction_weight=self.reconstruction_weight,
            kl_weight=self.kl_weight,
            annealing=self.annealing,
            draws=self.draws,
            variables=[v.to_dict() for v in self._variables(x)],
            time_scale=max(float(time.sum() / happened.sum()), 1e-12),  # the exponential law's mean
            horizon=float(time.max()),
        )
        rng = np.random.default_rng(self.random_state)
        self.network_.initialize(rng)
        data = TrainingData(self._design(x), time, event)
        start = get_weights(self.network_)
        self.weights_, _ = train(self.network_, start, data, self._training_options(), rng)

    def _variables(self, x: Floats) -> list[Variable]:
        chosen: dict[int | str, VariableKind] = dict(self.kinds or {})
        names = list(getattr(self, "feature_names_in_", []))
        found = []
        for j in range(x.shape[1]):
            values = np.unique(x[~np.isnan(x[:, j]), j])
            default: VariableKind = "bernoulli" if len(values) == 2 else "gaussian"
            kind = chosen.pop(j, None) or (chosen.pop(names[j], None) if names else None) or default
            if kind == "lognormal" and len(values) and not values[0] > 0:
                raise ValueError(f"column {names[j] if names else j} holds {values[0]:g}; a lognormal is positive")
            found.append(Variable(kind, (j,), float(self.mean_[j]), float(self.scale_[j])))
        if chosen:
            raise ValueError(f"kinds names unknown columns {list(chosen)}")
        return found

    def _design(self, x: Floats) -> Floats:
        design: Floats = (x - self.mean_) / self.scale_
        return design

    @torch.no_grad()
    def _output(self, X: ArrayLike) -> torch.Tensor:
        check_is_fitted(self, "weights_")
        x = self._validate(X, reset=False)
        bind(self.network_, self.weights_)
        output: torch.Tensor = self.network_.eval()(torch.as_tensor(self._design(x), dtype=torch.float32))
        return output.double()

    def predict(self, X: ArrayLike) -> Floats:
        """Minus the restricted mean survival until the last training time (higher = worse), shape (n_samples,)."""
        return np.asarray(self.network_.risk(self._output(X)))

    def predict_survival_function(self, X: ArrayLike, return_array: bool = False) -> NDArray[Any]:
        """Posterior predictive survival per sample: step functions, or an array (n_samples, n_times) at
        `unique_times_`; the network's own curves are smooth."""
        times = torch.as_tensor(self.unique_times_)
        return self._functions(self.network_.survival(self._output(X), times).numpy(), return_array)

    def predict_survival(self, X: ArrayLike, times: ArrayLike) -> Floats:
        """Survival at some times, shape (n_samples, n_times); only the steps before them are computed, not all."""
        step = np.searchsorted(self.unique_times_, np.asarray(times), side="right")
        wanted, place = np.unique(step[step > 0] - 1, return_inverse=True)
        output = self._output(X)
        survival = np.ones((len(output), len(step)))
        curves = self.network_.survival(output, torch.as_tensor(self.unique_times_[wanted])).numpy()
        survival[:, step > 0] = curves[:, place]
        return survival

    def predict_cumulative_hazard_function(self, X: ArrayLike, return_array: bool = False) -> NDArray[Any]:
        """−log of the posterior predictive survival."""
        survival = self.predict_survival_function(X, return_array=True)
        return self._functions(-np.log(np.maximum(survival, 1e-300)), return_array)


class SAVAE(_SAVAEEstimator):
    """Survival analysis variational autoencoder (Apellániz et al. 2024).

    Parameters
    ----------
    latent, hidden, activation, dropout, head, components, reconstruction_weight, kl_weight, annealing, draws
        See `models.survival.savae.SAVAENetwork`.
    pieces
        Pieces of the ``piecewise`` head, cut at quantiles of the event times.
    kinds
        Column -> kind of variable (`models.likelihoods.Variable`), by position or name; by default a column of two
        values is ``bernoulli`` and any other ``gaussian``.
    epochs, batch_size, optimizer, learning_rate, weight_decay, clip_norm
        See `models.training.TrainingOptions`.
    random_state
        Seed of weights, batches, latent draws and dropout. Prediction draws nothing.

    Attributes
    ----------
    network_, weights_
        The fitted network.
    mean_, scale_
        Of the columns, by which they are standardized.
    unique_times_
        Times of the training data.
    """

    def fit(self, X: ArrayLike, y: Any) -> SAVAE:
        """Fit to X of shape (n_samples, n_features), which may hold NaN, and a structured array of (event, time)."""
        x = self._validate(X, reset=True)
        event, time = check_array_survival(x, y)
        self._fit(x, np.asarray(time, dtype=np.float64), event, causes=1)
        return self


class CompetingRisksSAVAE(_SAVAEEstimator):
    """SAVAE with a law of the time to each of several causes (CR-SAVAE); parameters as in `SAVAE`.

    Attributes
    ----------
    n_causes_
        Number of causes.
    """

    n_causes_: int

    def fit(self, X: ArrayLike, time: ArrayLike, cause: ArrayLike) -> CompetingRisksSAVAE:
        """Fit to X of shape (n_samples, n_features), which may hold NaN.

        Parameters
        ----------
        time
            Of the first event or of censoring, shape (n_samples,).
        cause
            0 for censoring, else the number of the cause, from 1 on, shape (n_samples,).

        Raises
        ------
        ValueError
            If a cause never happens, or shapes differ.
        """
        x = self._validate(X, reset=True)
        t, c = np.asarray(time, dtype=np.float64), np.asarray(cause)
        if t.shape != (len(x),) or c.shape != t.shape:
            raise ValueError(f"time and cause have shapes {t.shape} and {c.shape}, X has {len(x)} samples")
        if not np.isfinite(t).all():
            raise ValueError("time holds a value that is not finite")
        codes = c.astype(np.int64)
        self.n_causes_ = int(codes.max(initial=0))
        present = np.unique(codes)
        if not np.array_equal(codes, c) or present[0] < 0 or len(present[present > 0]) != self.n_causes_:
            raise ValueError(f"cause holds {np.unique(c).tolist()}; it holds 0 for censoring and 1, 2, … without a gap")
        self._fit(x, t, codes, causes=self.n_causes_)
        return self

    def predict_cumulative_incidence(self, X: ArrayLike, return_array: bool = False) -> NDArray[Any]:
        """Probability of each cause by time: step functions of shape (n_samples, n_causes), or an array (n_samples,
        n_causes, n_times) at `unique_times_`. With the survival they add up to 1."""
        times = torch.as_tensor(self.unique_times_)
        return self._functions(self.network_.incidence(self._output(X), times).numpy(), return_array)

    def predict_cause(self, X: ArrayLike, cause: int) -> Floats:
        """Risk of a cause, shape (n_samples,): the time lost to it until the last training time, ∫F; higher = worse."""
        if not 1 <= cause <= self.n_causes_:
            raise ValueError(f"cause is {cause}; there are causes 1 to {self.n_causes_}")
        return np.asarray(self.network_.cause_risk(self._output(X))[:, cause - 1])
