"""Averaging with an aggregator that a minority of lying centers cannot move far (`federation.robust`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from federation.algorithm import SERVER, register
from federation.averaging import ParameterAveraging
from federation.contribution import Contribution, Contributions
from federation.kinds import MODEL, SUM, declare
from federation.memory import Memory
from federation.patients import PatientGroup, Patients
from federation.robust import AGGREGATORS, Floats
from federation.state import State
from models.batched.streams import Streams


@register
@dataclass(frozen=True)
class RobustAveraging(ParameterAveraging):
    """`ParameterAveraging` that sees each center's update: contributions have a row for each center, the others' zero.

    Parameters
    ----------
    aggregator, options
        Name in `federation.robust.AGGREGATORS`, and its options.
    """

    name = "robust-averaging"
    kinds = declare({"updates": MODEL, "by_center": SUM})
    needs_single_contributions = True

    aggregator: str = field(default="median", metadata=SERVER)
    options: Mapping[str, float] = field(default_factory=dict, metadata=SERVER)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.aggregator not in AGGREGATORS:
            raise ValueError(f"no aggregator {self.aggregator!r}; there are {', '.join(AGGREGATORS)}")
        if self.control_variates:
            raise ValueError("scaffold's control variates are a mean over centers; a robust aggregator has none")

    def server_update(self, state: State, total: Contribution) -> State:
        """As parent, with the aggregate in the place of the mean."""
        weights: Floats = total["by_center"][:, 0]
        whole = float(weights.sum())
        arrays: dict[str, Any] = {"weight": whole, "by_center": total["by_center"]}
        arrays["update"] = np.zeros(total["updates"].shape[1])
        if whole > 0:
            updates = total["updates"] / np.maximum(weights, 1e-300)[:, None]
            arrays["update"] = whole * AGGREGATORS[self.aggregator](updates, weights, **self.options)
        return super().server_update(state, Contribution.of(total.patients, arrays))

    def reject(self, contribution: Contribution) -> str:
        """A center's update longer than `max_norm`."""
        weights = contribution["by_center"][:, 0]
        norms = np.linalg.norm(contribution["updates"], axis=1)[weights > 0] / weights[weights > 0]
        return next((why for norm in norms if (why := self._too_long(float(norm)))), "")

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
