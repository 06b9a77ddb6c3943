"""Averaging with an aggregator that a minority of lying centers cannot move far (`federation.robust`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from federation.algorithm import SERVER, Roster, register
from federation.averaging import ParameterAveraging
from federation.contribution import Contribution, Contributions
from federation.kinds import MODEL, SUM, declare
from federation.memory import Memory
from federation.patients import PatientGroup, Patients
from federation.robust import AGGREGATORS, DETECTION, Floats, check_options, detection
from federation.state import State
from federation.strategies import FedBuff
from models.batched.streams import Streams


@register
@dataclass(frozen=True)
class RobustAveraging(ParameterAveraging):
    """`ParameterAveraging` that sees each center's update: contributions have a row for each center, the others' zero.

    Parameters
    ----------
    aggregator, options
        Name in `federation.robust.AGGREGATORS`, and its options.

    The state has, beside that of `ParameterAveraging`, ``detection``: `federation.robust.detection` of every round,
    shape (rounds, centers, 3).
    """

    name = "robust-averaging"
    kinds = declare({"updates": MODEL, "by_center": SUM})
    needs_single_contributions = True

    aggregator: str = field(default="median", metadata=SERVER)
    options: Mapping[str, float] = field(default_factory=dict, metadata=SERVER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self.aggregator, self.options)
        if isinstance(self.strategy, FedBuff):
            raise ValueError("fedbuff adds stale updates up; a robust aggregator has to see those of one round")
        if self.control_variates:
            raise ValueError("scaffold's control variates are a mean over centers; a robust aggregator has none")

    def start(self, roster: Roster) -> State:
        """As parent, and no update seen yet."""
        return {**super().start(roster), "detection": np.full((self.rounds, len(roster.names), len(DETECTION)), np.nan)}

    def server_update(self, state: State, total: Contribution) -> State:
        """As parent, with the aggregate in the place of the mean."""
        weights: Floats = total["by_center"][:, 0]
        whole, r = float(weights.sum()), int(state["round"])
        seen = state["detection"].copy()
        arrays: dict[str, Any] = {"weight": whole, "by_center": total["by_center"]}
        arrays["update"] = np.zeros(total["updates"].shape[1])
        if whole > 0:
            updates = total["updates"] / np.maximum(weights, 1e-300)[:, None]
            arrays["update"] = whole * AGGREGATORS[self.aggregator](updates, weights, **self.options)
            seen[r] = detection(updates, weights)
        return super().server_update({**state, "detection": seen}, Contribution.of(total.patients, arrays))

    def reject(self, contribution: Contribution) -> str:
        """A center's update longer than `max_norm`."""
        weights = contribution["by_center"][:, 0]
        norms = np.linalg.norm(contribution["updates"], axis=1)[weights > 0] / weights[weights > 0]
        return next((str(refusal) for norm in norms if (refusal := self._refusal(float(norm)))), "")

    # -- inside a center ---------------------------------------------------------------------------------------------

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """As parent, in the center's own row."""
        found = super().client_update(state, patients, rng, memory)
        updates = np.zeros((patients.centers, len(found["update"])))
        updates[patients.position] = found["update"]
        return Contribution.of(found.patients, {"updates": updates, "by_center": found["by_center"]})

    def client_updates(
        self, state: State, patients: PatientGroup, streams: Streams, memories: Sequence[Memory]
    ) -> Iterator[Contributions]:
        """As `client_update`, for many centers at once."""
        for part in super().client_updates(state, patients, streams, memories):
            rows = {**part.rows, "updates": part.arrays["update"]}
            yield Contributions(part.patients, {}, rows, part.positions, part.centers, part.refused)
