"""What Cox's partial likelihood needs of the patients: sums over risk sets, which add over centers.

With the log relative hazard η = βᵀx and e = exp(η), the likelihood, its gradient and the products of means in its
second derivative need, at each event time, Σe and Σe·x over those at risk (and over those with a tied event, for
Efron). The rest of the second derivative is Σ e·H·x·xᵀ over patients, H being the hazard accumulated until a patient
leaves: one matrix instead of one per event time, once H is known.

References
----------
Cox (1972), J R Stat Soc B 34:187. Efron (1977), JASA 72:557. Lu et al. (2015), JAMIA 22:1212 (WebDISCO).
Lin and Wei (1989), JASA 84:1074. Therneau and Grambsch (2000), Modeling Survival Data, chapters 3, 4 and 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.survival.time_grid import Cells

Floats = NDArray[np.float64]

Ties = Literal["breslow", "efron"]
"""How tied event times are handled."""

_HIGHEST = 600.0
"""A log hazard beyond this counts as this, so that a step too far has a value, and is taken back."""


@dataclass(frozen=True, eq=False)
class Patients:
    """Patients laid out on the event times.

    Parameters
    ----------
    x
        Design matrix, shape (n, p).
    position
        Number of event times up to and including each patient's time: those at which they are at risk; shape (n,).
    event
        Whether the event was seen (then at event time ``position - 1``), shape (n,).
    """

    x: Floats
    position: NDArray[np.int64]
    event: NDArray[np.bool_]

    @classmethod
    def at(cls, x: Floats, cell: Cells, event: NDArray[np.bool_], event_cells: Cells) -> Patients:
        """From cells of a time grid and the increasing cells in which anybody has an event."""
        return cls(x, np.searchsorted(event_cells, cell, side="right"), event)

    def hazard(self, beta: Floats) -> Floats:
        """exp(βᵀx)."""
        hazard: Floats = np.exp(np.clip(self.x @ beta, -_HIGHEST, _HIGHEST))
        return hazard

    def sums(self, weight: Floats, values: Floats, times: int) -> Floats:
        """Weighted sums of rows over the patients who leave at each position, shape (times + 1, columns)."""
        n = len(self.position)
        table = csr_array((weight, (self.position, np.arange(n))), shape=(times + 1, n))
        return np.asarray(table @ values)


def risk_sums(patients: Patients, beta: Floats, tied: NDArray[np.int64], times: int) -> dict[str, Floats]:
    """Sums over risk sets and ties.

    Parameters
    ----------
    tied
        Event times at which the events are tied, shape (k,); empty for Breslow.
    times
        Number of event times, D.

    Returns
    -------
    dict
        ``risk`` (D, 1 + p): Σe and Σe·x over those at risk; ``tied`` (k, 1 + p): the same over tied events;
        ``event_x`` (p,): Σx over events.
    """
    ones_x = np.column_stack([np.ones(len(patients.x)), patients.x])
    hazard = patients.hazard(beta)
    leaving = patients.sums(hazard, ones_x, times)
    events = patients.sums(hazard * patients.event, ones_x, times)[1:]
    return {
        "risk": np.cumsum(leaving[::-1], axis=0)[::-1][1:],
        "tied": events[tied],
        "event_x": patients.x[patients.event].sum(axis=0),
    }


def curvature(patients: Patients, beta: Floats, hazard: Floats, tied_hazard: Floats) -> Floats:
    """Σ e·H·x·xᵀ, shape (p, p), given the hazard steps of `Profile` at (or predicted for) β, each of shape (D,)."""
    weight = patients.hazard(beta) * _exposure(patients, hazard[:, None], tied_hazard[:, None])[:, 0]
    product: Floats = patients.x.T @ (weight[:, None] * patients.x)
    return product


def _exposure(patients: Patients, steps: Floats, tied_steps: Floats) -> Floats:
    """Sum of steps until each patient leaves; an event among ties is spared its share of them (Efron)."""
    running = np.concatenate([np.zeros((1, steps.shape[1])), np.cumsum(steps, axis=0)])[patients.position]
    running[patients.event] -= tied_steps[patients.position[patients.event] - 1]
    return running


@dataclass(frozen=True, eq=False)
class Profile:
    """The log partial likelihood at one β, from total sums. Events are rows; the l-th of d tied ones has fraction l/d.

    Parameters
    ----------
    time
        Event time of each event, shape (E,).
    fraction
        l/d, all zero for Breslow, shape (E,).
    denominator, mean
        Σe − (l/d)·Σ_tied e, and the weighted mean of x by the same weights: shapes (E,) and (E, p).
    value, gradient
        Log partial likelihood and its gradient, of shape (p,).
    """

    time: NDArray[np.int64]
    fraction: Floats
    denominator: Floats
    mean: Floats
    value: float
    gradient: Floats

    @classmethod
    def of(cls, sums: Mapping[str, Floats], beta: Floats, deaths: Floats, tied: NDArray[np.int64]) -> Profile:
        """From a total of `risk_sums`.

        Parameters
        ----------
        deaths
            Events at each event time, shape (D,).
        """
        count = deaths.astype(np.int64)
        time = np.repeat(np.arange(len(count)), count)
        fraction = np.zeros(len(time))
        rows = sums["risk"][time]
        if len(tied):
            rank = np.arange(len(time)) - np.repeat(np.cumsum(count) - count, count)
            fraction = np.where(np.isin(time, tied), rank / count[time], 0.0)
            tie = np.zeros_like(sums["risk"])
            tie[tied] = sums["tied"]
            rows = rows - fraction[:, None] * tie[time]
        mean = rows[:, 1:] / rows[:, :1]
        value = float(beta @ sums["event_x"] - np.log(rows[:, 0]).sum())
        return cls(time, fraction, rows[:, 0], mean, value, sums["event_x"] - mean.sum(axis=0))

    @property
    def products(self) -> Floats:
        """Σ mean·meanᵀ over events: the information is `curvature` less this."""
        result: Floats = self.mean.T @ self.mean
        return result

    def steps(self, times: int, change: Floats | None = None) -> tuple[Floats, Floats]:
        """Σ 1/denominator and Σ fraction/denominator at each event time, shapes (D,).

        Parameters
        ----------
        change
            Predict for β + change: d log denominator = meanᵀ·change, so the error is of second order.
        """
        inverse = 1 / self.denominator
        if change is not None:
            inverse = inverse * np.exp(np.clip(-self.mean @ change, -_HIGHEST, _HIGHEST))
        spared = self.fraction * inverse
        first, second = (np.bincount(self.time, weights=w, minlength=times) for w in (inverse, spared))
        return first.astype(np.float64), second.astype(np.float64)

    def mean_steps(self, times: int) -> tuple[Floats, Floats, Floats]:
        """Σ mean/denominator, Σ fraction·mean/denominator, and the average mean, at each event time: shapes (D, p)."""
        events = len(self.time)
        inverse = 1 / self.denominator

        def over_times(weight: Floats) -> Floats:
            table = csr_array((weight, (self.time, np.arange(events))), shape=(times, events))
            return np.asarray(table @ self.mean)

        average = over_times(1 / np.bincount(self.time, minlength=times)[self.time])
        return over_times(inverse), over_times(self.fraction * inverse), average


def score_residuals(
    patients: Patients,
    beta: Floats,
    steps: tuple[Floats, Floats],
    mean_steps: tuple[Floats, Floats, Floats],
) -> Floats:
    """Each patient's share of the gradient, shape (n, p); what `Profile.steps` and `Profile.mean_steps` say at β.

    Tied events share the risk set as Efron's approximation has it (Therneau and Grambsch, section 4.3).
    """
    along_x = _exposure(patients, steps[0][:, None], steps[1][:, None]) * patients.x
    residuals: Floats = -patients.hazard(beta)[:, None] * (along_x - _exposure(patients, mean_steps[0], mean_steps[1]))
    here = patients.position[patients.event] - 1
    residuals[patients.event] += patients.x[patients.event] - mean_steps[2][here]
    return residuals


def event_sums(patients: Patients, times: int) -> Floats:
    """Σx over the events of each event time, shape (D, p): with the means, Schoenfeld residuals."""
    return patients.sums(patients.event.astype(np.float64), patients.x, times)[1:]
