"""The federated Breslow estimator of the baseline hazard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, Roster, register
from federation.contribution import Contribution
from federation.kinds import SUM, WHOLE_COUNT, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.preprocessing import OneRound
from federation.state import State
from models.preprocessing import Preprocessor
from models.survival.baseline import BaselineHazard, breslow_sums


@register
@dataclass(frozen=True)
class FitBaseline(OneRound):
    """Events and summed hazard at risk on a shared grid, and from their totals the cumulative baseline hazard.

    Parameters
    ----------
    model, model_parameters
        Declaration of the network.
    weights, preprocessor, grid
        Trained weights of shape (P,), fitted preprocessor, increasing times of shape (K,).
    """

    name = "baseline-hazard"
    kinds = declare({"events": WHOLE_COUNT, "risk": SUM})

    model: str
    model_parameters: Mapping[str, Any] = field(default_factory=dict)
    weights: NDArray[np.float32] | None = field(default=None, metadata=SERVER)
    preprocessor: Preprocessor | None = field(default=None, metadata=SERVER)
    grid: NDArray[np.float64] | None = field(default=None, metadata=SERVER)

    def start(self, roster: Roster) -> State:
        """What the centers need to compute each patient's hazard."""
        assert self.weights is not None
        assert self.preprocessor is not None
        assert self.grid is not None
        arrays = self.preprocessor.to_arrays("preprocessor/")
        return {"round": np.array(0), "weights": self.weights, "grid": self.grid, **arrays}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Breslow sums over training patients."""
        from models.survival.network import build_network  # imports torch
        from models.training import predict

        preprocessor = Preprocessor.from_arrays(state, "preprocessor/")
        network = build_network(self.model, preprocessor.n_features, self.model_parameters)
        data = patients.design("train", preprocessor)
        sums = breslow_sums(data.time, data.event, predict(network, state["weights"], data.x), state["grid"])
        return Contribution.of(len(data), sums)

    def server_update(self, state: State, total: Contribution) -> State:
        """The cumulative baseline hazard on the grid."""
        baseline = BaselineHazard.fit(state["grid"], total["events"], total["risk"])
        return {"round": np.array(1), "times": baseline.times, "cumulative": baseline.cumulative}
