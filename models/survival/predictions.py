"""What is evaluated: test patients with their folds and centers, and what an arm predicted for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from sksurv.nonparametric import kaplan_meier_estimator

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class TestSet:
    """The test patients of one repeat: each is tested once, by the model of its fold.

    Parameters
    ----------
    time : ndarray, shape = (n,)
        Time of event or censoring, in years.
    event : ndarray of bool, shape = (n,)
        True for an event, False for censoring.
    fold : ndarray of int, shape = (n,)
        The fold in which the patient was tested.
    center : ndarray of str or int, shape = (n,)
    training : mapping of int to (time, event)
        For each fold the outcomes of its *training* patients. The censoring distribution G is theirs:
        taken from the test patients, it would depend on what is being evaluated.

    Raises
    ------
    ValueError
        If shapes do not fit, a time is negative or missing, or a fold has no training patients.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    time: FloatArray
    event: BoolArray
    fold: IntArray
    center: npt.NDArray[np.generic]
    training: Mapping[int, tuple[npt.ArrayLike, npt.ArrayLike]]

    def __post_init__(self) -> None:
        time, event = outcome(self.time, self.event, "")
        object.__setattr__(self, "time", time)
        object.__setattr__(self, "event", event)
        object.__setattr__(self, "fold", np.asarray(self.fold, dtype=np.intp))
        object.__setattr__(self, "center", np.asarray(self.center))
        for name in ("fold", "center"):
            if getattr(self, name).shape != time.shape:
                raise ValueError(f"{name} must have time's shape {time.shape}, got {getattr(self, name).shape}")
        training = {}
        for fold in self.folds.tolist():
            if fold not in self.training:
                raise ValueError(f"training has no patients for fold {fold}")
            training[fold] = outcome(*self.training[fold], f"training[{fold}] ")
            if not training[fold][0].size:
                raise ValueError(f"training has no patients for fold {fold}")
        object.__setattr__(self, "training", training)

    @cached_property
    def folds(self) -> IntArray:
        """The folds there are, shape (n_folds,)."""
        return np.unique(self.fold)

    @cached_property
    def uncensored_until_own_time(self) -> FloatArray:
        """G(time) under each patient's fold, shape (n,); NaN beyond the training follow-up."""
        result = np.empty(self.time.size)
        for fold, curve in self._censoring.items():
            result[self.fold == fold] = curve.at(self.time[self.fold == fold])
        return result

    def uncensored_until(self, times: FloatArray) -> FloatArray:
        """G(t) under each patient's fold, shape (n, len(times)); NaN beyond the training follow-up."""
        result = np.empty((self.time.size, times.size))
        for fold, curve in self._censoring.items():
            result[self.fold == fold] = curve.at(times)
        return result

    @cached_property
    def _censoring(self) -> dict[int, _Censoring]:
        return {fold: _Censoring.fit(*self.training[fold]) for fold in self.folds.tolist()}


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one arm predicted for the patients of one `TestSet`, in the same order.

    Parameters
    ----------
    risk : ndarray, shape = (n,)
        Higher is worse. NaN where the arm has no prediction: only pairs with both predicted count.
    survival : ndarray, shape = (n, n_times), optional
        Probability of being event-free at ``times``; a row with a NaN counts as not predicted.
    times : ndarray, shape = (n_times,), optional
        Increasing, in years. Between them the curve is read by linear interpolation, from S(0) = 1;
        after the last it is unknown.

    Raises
    ------
    ValueError
        If shapes do not fit, a risk is infinite, or a probability lies outside [0, 1].
    """

    risk: FloatArray
    survival: FloatArray | None = None
    times: FloatArray | None = None

    def __post_init__(self) -> None:
        risk = np.asarray(self.risk, dtype=np.float64)
        if risk.ndim != 1 or np.isinf(risk).any():
            raise ValueError(f"risk must have shape (n,) and no infinite value, got shape {risk.shape}")
        object.__setattr__(self, "risk", risk)
        if (self.survival is None) != (self.times is None):
            raise ValueError("survival and times go together: give both or neither")
        if self.survival is None:
            return
        survival = np.asarray(self.survival, dtype=np.float64)
        times = np.asarray(self.times, dtype=np.float64)
        if times.ndim != 1 or not times.size or not (times >= 0).all() or not (np.diff(times) > 0).all():
            raise ValueError(f"times must be increasing and not negative, got {times}")
        if survival.shape != (risk.size, times.size):
            raise ValueError(f"survival must have shape {(risk.size, times.size)}, got {survival.shape}")
        if (survival < -1e-6).any() or (survival > 1 + 1e-6).any():
            raise ValueError(f"survival must lie in [0, 1], got {np.nanmin(survival)} to {np.nanmax(survival)}")
        object.__setattr__(self, "survival", survival)
        object.__setattr__(self, "times", times)

    def survival_at(self, times: FloatArray) -> FloatArray:
        """Survival at any times, shape (n, len(times)); NaN after the curves' last time."""
        if self.survival is None or self.times is None:
            raise ValueError("this prediction has no survival curves")
        grid, curves = self.times, self.survival
        if grid[0] > 0:
            grid = np.concatenate(([0.0], grid))
            curves = np.concatenate((np.ones((curves.shape[0], 1)), curves), axis=1)
        right = np.clip(np.searchsorted(grid, times, side="left"), 0, grid.size - 1)
        left = np.maximum(right - 1, 0)
        width = np.where(right > left, grid[right] - grid[left], 1.0)
        share = np.minimum((times - grid[left]) / width, 1.0)
        result: FloatArray = curves[:, left] * (1 - share) + curves[:, right] * share
        result[:, times > grid[-1] * (1 + 1e-9)] = np.nan
        return result


@dataclass(frozen=True, eq=False)
class _Censoring:
    """G(t), the probability of not being censored until t: a Kaplan-Meier step function."""

    times: FloatArray
    values: FloatArray

    @classmethod
    def fit(cls, time: npt.ArrayLike, event: npt.ArrayLike) -> _Censoring:
        times, values = kaplan_meier_estimator(event, time, reverse=True)
        return cls(times, np.concatenate(([1.0], values)))

    def at(self, times: FloatArray) -> FloatArray:
        result: FloatArray = self.values[np.searchsorted(self.times, times, side="right")]
        if self.values[-1] > 0:
            result[times > self.times[-1]] = np.nan
        return result


def chosen_patients(tests: Sequence[TestSet], subset: npt.ArrayLike | None) -> BoolArray:
    """The mask of the patients to evaluate on, shape (n,): all of them without a subset."""
    if not tests:
        raise ValueError("tests must hold at least one repeat")
    n = tests[0].time.size
    mask = np.ones(n, dtype=np.bool_) if subset is None else np.asarray(subset)
    if mask.dtype != np.bool_ or mask.shape != (n,):
        raise ValueError(f"subset must be a mask of shape ({n},), got {mask.dtype} {mask.shape}")
    return mask


def outcome(time: npt.ArrayLike, event: npt.ArrayLike, where: str) -> tuple[FloatArray, BoolArray]:
    """Times and events as arrays, checked; `where` opens the error message."""
    t, e = np.asarray(time, dtype=np.float64), np.asarray(event)
    if t.ndim != 1 or e.shape != t.shape:
        raise ValueError(f"{where}time and event must have one shape (n,), got {t.shape} and {e.shape}")
    if not np.isfinite(t).all() or (t < 0).any():
        raise ValueError(f"{where}time must be finite and not negative")
    if e.dtype != np.bool_:
        if not np.isin(e, (0, 1)).all():
            raise ValueError(f"{where}event must be boolean, got {e.dtype}")
        e = e.astype(np.bool_)
    return t, e
