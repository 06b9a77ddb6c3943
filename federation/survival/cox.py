"""The exact Cox model over centers: coefficients, errors and tests of the pooled patients (WebDISCO, Lu 2015)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from federation.algorithm import SERVER, Algorithm, Roster, register
from federation.contribution import Contribution
from federation.kinds import MODEL, SUM, WHOLE_COUNT, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.state import State
from harmonization import Schema
from harmonization.schema import DAYS_PER
from models.preprocessing import Preprocessor
from models.survival.cox_fit import CoxFit
from models.survival.cox_sums import Ties
from models.survival.newton_cox import TIMES, NewtonCox
from models.survival.time_grid import TimeGrid

logger = logging.getLogger("haemfed")

_RESTARTS = 5
"""How often a fit starts over because other centers answered than before."""


@register
@dataclass(frozen=True)
class FitCox(Algorithm):
    """Newton's method on the pooled partial likelihood, or on the one stratified by center.

    The design is standardized by a federated preprocessor; `cox_fit` gives the fitted model.

    Parameters
    ----------
    ties, strata
        See `models.survival.newton_cox.NewtonCox`.
    resolution, horizon
        Of the shared time grid, in days (`models.survival.time_grid.TimeGrid`).
    alpha, l1_ratio, tolerance, max_iter
        For the coordinator.
    preprocessor
        For the coordinator; it reaches centers as arrays.
    outcome
        ``event``, or ``censoring``: the hazard of the end of follow-up, of which an event is the censoring.

    Notes
    -----
    Without strata a center's sums at neighbouring event times may differ by a single patient. They should then be seen
    by nobody alone (secure sums), or a coarser resolution, or strata="center", be used.
    """

    name = "cox"
    kinds = declare(
        {
            **dict.fromkeys(("events", "leaving"), WHOLE_COUNT),
            **dict.fromkeys(("risk", "tied", "value"), SUM),
            **dict.fromkeys(("event_x", "curvature", "gradient", "information", "meat", "slopes"), MODEL),
        }
    )

    ties: Ties = "efron"
    strata: Literal["none", "center"] = "none"
    resolution: float = 1.0
    horizon: float = 36525.0
    alpha: float = field(default=0.0, metadata=SERVER)
    l1_ratio: float = field(default=0.0, metadata=SERVER)
    tolerance: float = field(default=1e-8, metadata=SERVER)
    max_iter: int = field(default=30, metadata=SERVER)
    preprocessor: Preprocessor | None = field(default=None, metadata=SERVER)
    outcome: Literal["event", "censoring"] = "event"

    def __post_init__(self) -> None:
        TimeGrid(self.resolution, self.horizon)  # both check their parameters
        NewtonCox(alpha=self.alpha, l1_ratio=self.l1_ratio)

    @property
    def grid(self) -> TimeGrid:
        """The shared time grid."""
        return TimeGrid(self.resolution, self.horizon)

    @property
    def solver(self) -> NewtonCox:
        """The steps, the same as for one table."""
        return NewtonCox(self.ties, self.alpha, self.l1_ratio, self.strata, self.tolerance, self.max_iter)

    def start(self, roster: Roster) -> State:
        """β = 0, and the preprocessor."""
        assert self.preprocessor is not None, "the coordinator needs a fitted preprocessor"
        first = self.solver.start(self.preprocessor.n_features)
        counters = {"round": np.array(0), "patients": np.array(0), "restarts": np.array(0)}
        return counters | first | self.preprocessor.to_arrays("preprocessor/")

    def done(self, state: State) -> bool:
        """After the round for the variance."""
        return self.solver.done(state)

    def broadcast(self, state: State) -> State:
        """What the solver's answer needs, and the preprocessor."""
        preprocessor = {name: array for name, array in state.items() if name.startswith("preprocessor/")}
        return self.solver.broadcast(state) | preprocessor

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Sums over training patients; over a center's own risk sets if those are the strata."""
        data = patients.design("train", Preprocessor.from_arrays(state, "preprocessor/"))
        happened = data.event if self.outcome == "event" else ~data.event
        cell, event = self.grid.cells(data.time, happened, patients.train.schema.time_unit)
        return Contribution.of(len(data), self.solver.answer(state, data.x, cell, event, self.grid.size))

    def server_update(self, state: State, total: Contribution) -> State:
        """One step of the solver; from the beginning if other patients answered than before.

        Raises
        ------
        ValueError
            If that happens again and again.
        """
        counters = {"round": np.array(int(state["round"]) + 1), "patients": np.array(total.patients)}
        if int(state["phase"]) == TIMES or total.patients == int(state["patients"]):
            return {**self.solver.update(state, total), **counters}
        # A sum over other risk sets than those that were counted would be of no model. Start over with who is here.
        restarts = int(state["restarts"]) + 1
        if restarts > _RESTARTS:
            raise ValueError(
                f"centers came and went {restarts} times during the fit (now {total.patients} patients, before "
                f"{state['patients']}); leave out those that are not steadily reachable"
            )
        logger.warning("cox: %d patients answered, %d before; starting over", total.patients, state["patients"])
        preprocessor = {name: array for name, array in state.items() if name.startswith("preprocessor/")}
        fresh = self.solver.start(len(state["beta"]))
        return {**fresh, **preprocessor, **counters, "restarts": np.array(restarts)}

    def metrics(self, state: State) -> dict[str, float]:
        """Log partial likelihood (no penalty) of the last step that was accepted."""
        return {"log_likelihood": float(state["value"])} if "value" in state else {}


def cox_fit(state: State, algorithm: FitCox, schema: Schema) -> CoxFit:
    """The fitted model, per standard deviation of each column, from a final state.

    Divide a coefficient and its error by the preprocessor's scale for those of one unit. The baseline hazard is that of
    a patient at the federation's mean, in the schema's time unit.
    """
    fitted = Preprocessor.from_arrays(state, "preprocessor/")
    return CoxFit.of(state, fitted.names(schema), algorithm.resolution / DAYS_PER[schema.time_unit])
