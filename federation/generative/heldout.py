"""How good synthetic patients are, asked of patients whom no generator saw and who stay in their centers.

The test patients of a split are counted and summed: fidelity is computed from these sums and the same sums of the
synthetic patients. A survival model of synthetic patients travels, and counts of the pairs it puts in order come back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, Algorithm, Roster, register
from federation.contribution import Contribution
from federation.kinds import COUNT, SUM, Kind, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.preprocessing import OneRound
from federation.state import State
from models.generative.drawing import without_center
from models.generative.heldout_sums import associations_of, counts_of, ranks_of
from models.preprocessing import Preprocessor
from models.survival.concordance import concordance_counts
from models.survival.time_grid import TimeGrid

Floats = NDArray[np.float64]

OF_PAIRS, OF_LESIONS = Kind("sum", behind="fewest"), Kind("sum", behind="fewest_lesions")
"""Of two columns all is shown, or nothing: what is left of a table with known margins would tell the rest."""


@register
@dataclass(frozen=True)
class SumHeldout(Algorithm):
    """Counts of the test patients of all centers, and then sums over every two of their clinical columns.

    Two rounds: ranks among all patients follow from the counts of the first. The synthetic patients need not be there.
    A center with fewer test patients than its policy's least answers with nothing.

    Parameters
    ----------
    resolution, horizon
        Of the grid of times, in days.
    """

    name = "heldout-sums"
    kinds = declare(
        {
            **dict.fromkeys(("cells", "states", "burden", "leaving", "fewest", "fewest_lesions"), COUNT),
            "events": Kind("count", behind="leaving"),
            **dict.fromkeys(("known", "totals", "squares", "products"), OF_PAIRS),
            **dict.fromkeys(("both", "first_only", "neither"), OF_LESIONS),
        }
    )

    resolution: float = 1.0
    horizon: float = 36525.0

    def __post_init__(self) -> None:
        TimeGrid(self.resolution, self.horizon)  # checks both

    @property
    def grid(self) -> TimeGrid:
        """The shared time grid."""
        return TimeGrid(self.resolution, self.horizon)

    def start(self, roster: Roster) -> State:
        """Nothing is known."""
        return {"round": np.array(0)}

    def done(self, state: State) -> bool:
        """After the second round."""
        return int(state["round"]) == 2

    def broadcast(self, state: State) -> State:
        """The ranks."""
        return {name: state[name] for name in ("round", "ranks") if name in state}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Counts of test patients, or sums over pairs of their columns."""
        test = without_center(patients.test)
        if len(test) < max(patients.min_patients, 1):
            return Contribution()
        found = counts_of(test, self.grid) if int(state["round"]) == 0 else associations_of(test, state["ranks"])
        return Contribution.of(len(test), found)

    def server_update(self, state: State, total: Contribution) -> State:
        """What was known, and the sums."""
        known = {**state, **total, "round": np.array(int(state["round"]) + 1)}
        return known if "ranks" in state else {**known, "ranks": ranks_of(total["cells"]), "patients": _number(total)}


@register
@dataclass(frozen=True)
class JudgeHeldout(OneRound):
    """How many pairs of test patients of one center linear models put in order; a pair counts inside its center.

    Parameters
    ----------
    models
        Preprocessor, and coefficients of its columns; they reach centers as arrays.
    """

    name = "heldout-concordance"
    kinds = declare({"concordant": SUM, "comparable": SUM})

    models: tuple[tuple[Preprocessor, Floats], ...] = field(default=(), metadata=SERVER)

    def start(self, roster: Roster) -> State:
        """The models as arrays."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for i, (preprocessor, coefficients) in enumerate(self.models):
            arrays |= preprocessor.to_arrays(f"{i}/") | {f"{i}/coefficients": coefficients}
        return {"round": np.array(0), "models": np.array(len(self.models)), **arrays}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Concordant pairs by each model, and comparable pairs, within the center."""
        test = without_center(patients.test)
        if len(test) < max(patients.min_patients, 1):
            return Contribution()
        pairs = []
        for i in range(int(state["models"])):
            design = Preprocessor.from_arrays(state, f"{i}/").transform(test)
            pairs.append(concordance_counts(test.time, test.event, design @ state[f"{i}/coefficients"]))
        concordant, comparable = np.array(pairs).reshape(-1, 2).T
        return Contribution(len(test), concordant=concordant, comparable=comparable)

    def server_update(self, state: State, total: Contribution) -> State:
        """The pairs of all centers."""
        return {"round": np.array(1), **total, "patients": _number(total)}


def _number(total: Contribution) -> NDArray[np.int64]:
    return np.array(total.patients)
