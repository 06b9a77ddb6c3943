"""When a patient's event comes and when follow-up ends, given the features: two Cox models, for any generator.

What is seen of a real patient is the earlier of two times. So both have a model: the hazard of the event, and the
hazard of censoring (of which an event is the censoring). A generated patient gets a time of each, and the earlier is
seen, so that hazards and censoring come out as in the real patients, for every feature that the models know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort
from harmonization.schema import DAYS_PER
from models.preprocessing import PreprocessingOptions, Preprocessor, feature_sums
from models.survival.newton_cox import NewtonCox
from models.survival.time_grid import TimeGrid

Floats = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class LawOptions:
    """How the two models are fitted.

    Parameters
    ----------
    ridge
        Penalty per patient: many features, rare ones among them, else give hazards without bound.
    resolution, horizon
        Of the time grid, in days (`models.survival.time_grid.TimeGrid`).
    preprocessing
        Of the features.
    """

    ridge: float = 0.03
    resolution: float = 1.0
    horizon: float = 36525.0
    preprocessing: PreprocessingOptions = PreprocessingOptions(missing="impute")

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        if self.ridge < 0:
            raise ValueError(f"ridge is {self.ridge}; 0 or more")
        TimeGrid(self.resolution, self.horizon)

    @property
    def grid(self) -> TimeGrid:
        """The time grid."""
        return TimeGrid(self.resolution, self.horizon)


@dataclass(frozen=True, eq=False)
class CoxLaw:
    """One time's law.

    Parameters
    ----------
    coefficients
        Log hazard ratios per unit of the design matrix, shape (p,).
    cells
        Of the time grid, where the cumulative hazard rises, shape (k,); empty if nobody's time is of this kind.
    cumulative
        Of a patient whose design row is zero, shape (k,).
    """

    coefficients: Floats
    cells: Floats
    cumulative: Floats

    @classmethod
    def of(cls, state: State) -> CoxLaw:
        """From a final state of `models.survival.newton_cox.NewtonCox`."""
        return cls(state["beta"], state["event_times"].astype(np.float64), state["baseline"])

    def draw(self, x: Floats, rng: np.random.Generator) -> Floats:
        """Times in cells, shape (n,); infinite beyond the last time that was seen.

        The cumulative hazard at the time is a unit exponential number. Between two times it is taken to rise evenly.
        """
        needed = rng.exponential(size=len(x)) / np.exp(x @ self.coefficients)
        hazard, cells = np.append(0.0, self.cumulative), np.append(0.0, self.cells)
        time = np.interp(needed, hazard, cells)
        return np.where(needed > hazard[-1], np.inf, time)


@dataclass(frozen=True, eq=False)
class SurvivalLaw:
    """The two laws.

    Parameters
    ----------
    preprocessor
        Makes the design matrix.
    event, censoring
        Laws of the two times.
    options
        Of the fit.

    Raises
    ------
    ValueError
        If nobody's time lies within the horizon.
    """

    preprocessor: Preprocessor
    event: CoxLaw
    censoring: CoxLaw
    options: LawOptions

    def __post_init__(self) -> None:
        if not len(self.event.cells) + len(self.censoring.cells):
            raise ValueError(f"no patient's time lies within the horizon of {self.options.horizon:g} days")

    @classmethod
    def fit(cls, cohort: Cohort, options: LawOptions | None = None) -> SurvivalLaw:
        """Fit to one table."""
        options = options or LawOptions()
        preprocessor = Preprocessor.fit(feature_sums(cohort), cohort.schema, options.preprocessing)
        x = preprocessor.transform(cohort)
        solver, laws = NewtonCox(alpha=options.ridge * len(cohort)), []
        for happened in (cohort.event, ~cohort.event):
            cell, event = options.grid.cells(cohort.time, happened, cohort.schema.time_unit)
            state = solver.start(x.shape[1])
            while not solver.done(state):
                answer = solver.answer(solver.broadcast(state), x, cell, event, options.grid.size)
                state = solver.update(state, answer)
            laws.append(CoxLaw.of(state))
        return cls(preprocessor, laws[0], laws[1], options)

    def draw(self, cohort: Cohort, rng: np.random.Generator) -> Cohort:
        """The same patients with times and events drawn given their features.

        A patient for whom both times lie beyond the last that was seen is censored then; where nobody was censored, he
        has the event then.
        """
        x = self.preprocessor.transform(cohort)
        comes, leaves = self.event.draw(x, rng), self.censoring.draw(x, rng)
        last = max(float(law.cells[-1]) for law in (self.event, self.censoring) if len(law.cells))
        if len(self.censoring.cells):
            leaves = np.minimum(leaves, last)
        else:
            comes = np.minimum(comes, last)
        cell = np.rint(np.minimum(comes, leaves))
        time = cell * self.options.resolution / DAYS_PER[cohort.schema.time_unit]
        return replace(cohort, time=time, event=comes <= leaves)
