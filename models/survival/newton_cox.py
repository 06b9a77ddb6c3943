"""The exact Cox model by Newton's method from sums alone: one state machine, for one table or for a federation.

Every round a state is answered with sums over patients; the sum of the answers gives the next state.

0. *Times*: events and departures per cell of the declared grid. Their total says which cells have events.
1. *Newton*: risk-set sums at β, and the curvature with hazard steps predicted from the round before. The prediction
   errs by the square of the last step, so convergence stays quadratic, and no center sends a matrix per event time.
2. *Variance*: curvature and score residuals' products at the final β, and sums for the test of proportional hazards.

With ``strata="center"`` every center computes value, gradient and information of its own risk sets, so that nothing
about single event times leaves it after the first round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from models.survival.cox_sums import (
    Patients,
    Profile,
    Ties,
    curvature,
    event_sums,
    risk_sums,
    score_residuals,
)
from models.survival.time_grid import Cells, at_risk, event_counts

Floats = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]

TIMES, NEWTON, VARIANCE, DONE = range(4)
TRANSFORMS = ("km", "identity", "log", "rank")
"""Of time, in the test of proportional hazards: 1 - Kaplan-Meier, time, its logarithm, the mean rank of the event."""


_WORKING = (
    "times",
    "tied",
    "hazard",
    "predicted",
    "mean_steps",
    "transformed",
    "accepted_beta",
    "accepted_value",
    "risk",
    "tied_risk",
    "event_x",
)
"""Arrays of a state that its final form does without."""


@dataclass(frozen=True)
class NewtonCox:
    """How to fit.

    Parameters
    ----------
    ties
        ``efron`` or ``breslow``.
    alpha, l1_ratio
        Penalty alpha·(l1_ratio·‖β‖₁ + (1 − l1_ratio)/2·‖β‖²) on the scale of the total log likelihood.
    strata
        ``none``: one baseline hazard for all; ``center``: one each.
    tolerance
        Newton's last step, in standard errors.
    max_iter
        Rounds of Newton's method, halved steps included.
    """

    ties: Ties = "efron"
    alpha: float = 0.0
    l1_ratio: float = 0.0
    strata: Literal["none", "center"] = "none"
    tolerance: float = 1e-8
    max_iter: int = 30

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        if self.alpha < 0 or not 0 <= self.l1_ratio <= 1:
            raise ValueError(f"alpha is {self.alpha} and l1_ratio {self.l1_ratio}; alpha >= 0 and 0 <= l1_ratio <= 1")

    def start(self, n_features: int, times: Floats | None = None) -> dict[str, NDArray[Any]]:
        """The first state: β = 0.

        Parameters
        ----------
        times
            Time of each cell; its number by default.
        """
        first: dict[str, NDArray[Any]] = {"phase": np.array(TIMES), "iteration": np.array(0)}
        return first | {"beta": np.zeros(n_features)} | ({} if times is None else {"times": times})

    def done(self, state: State) -> bool:
        """Whether the state is final."""
        return int(state["phase"]) == DONE

    def broadcast(self, state: State) -> dict[str, NDArray[Any]]:
        """What an answer needs of a state."""
        wanted = ("phase", "beta", "cells", "tied", "hazard", "mean_steps", "transformed")
        return {name: state[name] for name in wanted if name in state}

    # -- where the patients are --------------------------------------------------------------------------------------

    def answer(self, state: State, x: Floats, cell: Cells, event: NDArray[np.bool_], size: int) -> dict[str, Floats]:
        """The sums that a state asks for.

        Parameters
        ----------
        x
            Design matrix, shape (n, p).
        cell, event
            On the time grid, shape (n,).
        size
            Number of cells of the grid.
        """
        phase = int(state["phase"])
        if phase == TIMES:
            return event_counts(cell, event, size)
        cells, beta = state["cells"], state["beta"]
        times = len(cells)
        patients = Patients.at(x, cell, event, cells)
        if self.strata == "center":
            return self._answer_alone(state, patients, np.bincount(patients.position[event] - 1, minlength=times))
        if phase == NEWTON:
            steps = state["hazard"]
            return {
                **risk_sums(patients, beta, state["tied"], times),
                "curvature": curvature(patients, beta, steps[0], steps[1]),
            }
        steps, mean_steps = state["hazard"], state["mean_steps"]
        residuals = score_residuals(patients, beta, (steps[0], steps[1]), (mean_steps[0], mean_steps[1], mean_steps[2]))
        return {
            "curvature": curvature(patients, beta, steps[0], steps[1]),
            "meat": residuals.T @ residuals,
            "event_x": event_sums(patients, times),
        }

    def _answer_alone(self, state: State, patients: Patients, deaths: NDArray[np.int64]) -> dict[str, Floats]:
        """Value, gradient and information of this center's own risk sets."""
        beta, times = state["beta"], len(deaths)
        tied = self._tied(deaths)
        profile = Profile.of(risk_sums(patients, beta, tied, times), beta, deaths.astype(np.float64), tied)
        steps = profile.steps(times)
        information = curvature(patients, beta, *steps) - profile.products
        if int(state["phase"]) == NEWTON:
            return {"value": np.array(profile.value), "gradient": profile.gradient, "information": information}
        mean_steps = profile.mean_steps(times)
        residuals = score_residuals(patients, beta, steps, mean_steps)
        schoenfeld = event_sums(patients, times) - deaths[:, None] * mean_steps[2]
        return {
            "information": information,
            "meat": residuals.T @ residuals,
            "slopes": state["transformed"] @ schoenfeld,
        }

    # -- where the sums arrive ---------------------------------------------------------------------------------------

    def update(self, state: State, total: Mapping[str, Floats]) -> dict[str, NDArray[Any]]:
        """The next state; without any event the final one, of a hazard that is nowhere: no `CoxFit` is made of it."""
        next_state = (self._know_times, self._step, self._finish)[int(state["phase"])]
        return next_state(dict(state), total)

    def _tied(self, deaths: NDArray[Any]) -> NDArray[np.int64]:
        return np.flatnonzero(deaths > 1) if self.ties == "efron" else np.zeros(0, dtype=np.int64)

    def _know_times(self, new: dict[str, NDArray[Any]], total: Mapping[str, Floats]) -> dict[str, NDArray[Any]]:
        cells = np.flatnonzero(total["events"])
        if not len(cells):
            nothing = dict.fromkeys(("event_times", "baseline", "deaths", "at_risk"), np.zeros(0))
            return {**new, **nothing, "phase": np.array(DONE)}
        deaths, risk = total["events"][cells], at_risk(total["leaving"])[cells]
        tied = self._tied(deaths)
        # At β = 0 the sums are the counts, so that the first curvature is exact.
        flat = Profile.of(
            {"risk": risk[:, None], "tied": deaths[tied, None], "event_x": np.zeros(0)}, np.zeros(0), deaths, tied
        )
        new["event_times"] = new["times"][cells] if "times" in new else cells.astype(np.float64)
        new |= {"phase": np.array(NEWTON), "cells": cells, "deaths": deaths, "at_risk": risk, "tied": tied}
        new |= {"hazard": np.stack(flat.steps(len(cells))), "null_value": np.array(flat.value)}
        new["predicted"] = np.array(False)
        return new

    def _step(self, new: dict[str, NDArray[Any]], total: Mapping[str, Floats]) -> dict[str, NDArray[Any]]:
        beta, iteration = new["beta"], int(new["iteration"]) + 1
        new["iteration"] = np.array(iteration)
        profile = None
        if self.strata == "center":
            value, gradient, information = float(total["value"]), total["gradient"], total["information"]
        else:
            profile = Profile.of(total, beta, new["deaths"], new["tied"])
            value, gradient = profile.value, profile.gradient
            information = total["curvature"] - profile.products
        penalized = value - self._penalty(beta)
        last = "accepted_beta" in new
        worse = last and not penalized >= float(new["accepted_value"]) - 1e-9 * (1 + abs(penalized))
        if worse and iteration < self.max_iter:
            change = (beta - new["accepted_beta"]) / 2
            return self._propose(new, new["accepted_beta"], change)
        new |= {"accepted_beta": beta, "accepted_value": np.array(penalized), "value": np.array(value)}
        if profile is not None:
            new |= {"risk": total["risk"], "tied_risk": total["tied"], "event_x": total["event_x"]}
            predicted = bool(new["predicted"])
            if predicted and not _positive(information) and iteration < self.max_iter:  # the step was too long for it
                return self._propose(new, beta, np.zeros_like(beta))
        change = self._newton(beta, gradient, information)
        length = float(np.sqrt(np.maximum(change @ information @ change, 0.0)))
        converged = length < self.tolerance
        if converged or iteration >= self.max_iter:
            return self._ask_for_variance(new, converged)
        return self._propose(new, beta, change)

    def _propose(self, new: dict[str, NDArray[Any]], base: Floats, change: Floats) -> dict[str, NDArray[Any]]:
        """Ask for the sums at base + change."""
        new["beta"] = base + change
        if self.strata == "none":
            new["hazard"] = np.stack(self._accepted(new).steps(len(new["cells"]), change))
            new["predicted"] = np.array(bool(change.any()))
        return new

    def _accepted(self, state: State) -> Profile:
        sums = {"risk": state["risk"], "tied": state["tied_risk"], "event_x": state["event_x"]}
        return Profile.of(sums, state["accepted_beta"], state["deaths"], state["tied"])

    def _ask_for_variance(self, new: dict[str, NDArray[Any]], converged: bool) -> dict[str, NDArray[Any]]:
        new |= {"phase": np.array(VARIANCE), "converged": np.array(converged), "beta": new["accepted_beta"]}
        if self.strata == "none":
            profile, times = self._accepted(new), len(new["cells"])
            new |= {"hazard": np.stack(profile.steps(times)), "mean_steps": np.stack(profile.mean_steps(times))}
        new["transformed"] = centered_transforms(new["event_times"], new["deaths"], new["at_risk"])
        return new

    def _finish(self, new: dict[str, NDArray[Any]], total: Mapping[str, Floats]) -> dict[str, NDArray[Any]]:
        """Covariances, slopes of the Schoenfeld residuals, Breslow's baseline hazard."""
        if self.strata == "center":
            information, slopes = total["information"], total["slopes"]
        else:
            information = total["curvature"] - self._accepted(new).products
            slopes = new["transformed"] @ (total["event_x"] - new["deaths"][:, None] * new["mean_steps"][2])
            new["baseline"] = np.cumsum(new["deaths"] / new["risk"][:, 0])
        penalized = information + self.alpha * (1 - self.l1_ratio) * np.eye(len(information))
        covariance = np.full_like(information, np.nan)
        if not self.alpha * self.l1_ratio and _positive(penalized):  # a lasso has no standard errors of this kind
            covariance = _inverse(penalized)
        final = {name: array for name, array in new.items() if name not in _WORKING}
        final |= {"phase": np.array(DONE), "information": information, "covariance": covariance}
        final |= {"robust_covariance": covariance @ total["meat"] @ covariance, "slopes": slopes}
        return final

    # -- one step ----------------------------------------------------------------------------------------------------

    def _penalty(self, beta: Floats) -> float:
        ridge = (1 - self.l1_ratio) / 2 * beta @ beta
        return float(self.alpha * (self.l1_ratio * np.abs(beta).sum() + ridge))

    def _newton(self, beta: Floats, gradient: Floats, information: Floats) -> Floats:
        """The change that maximizes the quadratic model, its penalty included."""
        ridge, lasso = self.alpha * (1 - self.l1_ratio), self.alpha * self.l1_ratio
        matrix = information + ridge * np.eye(len(beta))
        slope = gradient - ridge * beta
        if not lasso:
            return _solve(matrix, slope)
        return _lasso_step(matrix, slope, beta, lasso)


def centered_transforms(times: Floats, deaths: Floats, risk: Floats) -> Floats:
    """Each of `TRANSFORMS` of the event times, less its mean over events: shape (4, D)."""
    survival = np.cumprod(1 - deaths / risk)
    rank = np.cumsum(deaths) - (deaths - 1) / 2
    floor = times[times > 0].min(initial=np.inf) / 2  # a patient may die on the first day
    rows = np.stack([1 - survival, times, np.log(np.maximum(times, floor if np.isfinite(floor) else 1.0)), rank])
    centered: Floats = rows - (rows @ deaths / deaths.sum())[:, None]
    return centered


def _scales(matrix: Floats) -> Floats:
    diagonal = matrix.diagonal()
    return np.sqrt(np.where(diagonal > 0, diagonal, 1.0))


def _positive(matrix: Floats) -> bool:
    """Whether positive definite, in units in which the diagonal is 1."""
    scale = _scales(matrix)
    eigenvalues = np.linalg.eigvalsh(matrix / np.outer(scale, scale))
    return bool(eigenvalues[0] > 1e-12 * max(eigenvalues[-1], 1.0))


def _solve(matrix: Floats, right: Floats) -> Floats:
    """Least squares in units in which the diagonal is 1: a column that says nothing moves nothing."""
    scale = _scales(matrix)
    solution: Floats = np.linalg.lstsq(matrix / np.outer(scale, scale), right / scale, rcond=1e-12)[0] / scale
    return solution


def _inverse(matrix: Floats) -> Floats:
    scale = _scales(matrix)
    inverse: Floats = np.linalg.inv(matrix / np.outer(scale, scale)) / np.outer(scale, scale)
    return inverse


def _lasso_step(matrix: Floats, slope: Floats, beta: Floats, lasso: float) -> Floats:
    """Coordinate descent on slopeᵀc − cᵀ·matrix·c/2 − lasso·‖beta + c‖₁ (Friedman 2010, section 2.1)."""
    target = beta.copy()
    rest = slope.copy()  # slope − matrix·(target − beta)
    curvatures = np.where(matrix.diagonal() > 0, matrix.diagonal(), 1.0)
    for _ in range(10_000):
        largest = 0.0
        for j in range(len(beta)):
            free = target[j] + rest[j] / curvatures[j]
            moved = np.sign(free) * max(abs(free) - lasso / curvatures[j], 0.0) - target[j]
            if moved:
                target[j] += moved
                rest -= moved * matrix[:, j]
                largest = max(largest, abs(moved) * float(np.sqrt(curvatures[j])))
        if largest < 1e-11:
            break
    return target - beta
