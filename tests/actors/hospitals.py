"""Made-up hospitals, good and bad, and an algorithm that tells who answered in which round.

Actors import this module by its name: their sources are functions of it, and so is the algorithm.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from actors.center import CenterSpec
from federation.algorithm import SERVER, Algorithm, Roster, register
from federation.averaging import ParameterAveraging
from federation.contribution import Contribution
from federation.memory import Memory
from federation.patients import Patients
from federation.state import State
from federation.strategies import FedAvg, Strategy
from harmonization import Cohort, CohortError, Feature, Schema
from models.preprocessing import PreprocessingOptions, Preprocessor, feature_sums
from models.training import TrainingOptions

SCHEMA = Schema(
    "made-up",
    "1",
    (
        Feature("age", "continuous", reference=60),
        Feature("blasts", "continuous"),
        Feature("mutated", "binary", "genomic"),
        Feature("sex", "categorical", categories=("f", "m")),
    ),
)
SIZES = {"Aachen": 40, "Bonn": 25, "Celle": 60}
NAMES = tuple(SIZES)


def patients(name: str) -> Cohort:
    """A hospital's patients; their risk rises with age, blasts and the mutation."""
    n = SIZES[name]
    rng = np.random.default_rng([7, NAMES.index(name)])
    age, blasts = rng.normal(60 + 3 * NAMES.index(name), 10, n), rng.gamma(2.0, 15.0, n)
    mutated, sex = (rng.random(n) < 0.3).astype(float), rng.integers(0, 2, n).astype(float)
    values = np.column_stack([age, blasts, mutated, sex])
    values[rng.random(values.shape) < 0.05] = np.nan
    died = rng.exponential(3 * np.exp(-0.05 * (age - 60) - 0.02 * (blasts - 30) - 0.8 * mutated))
    left = rng.uniform(0.5, 6, n)
    ids = np.array([f"secret-{name}-{i}" for i in range(n)])
    return Cohort(SCHEMA, ids, values, np.minimum(died, left), died <= left)


def lost_file(name: str) -> Cohort:
    """A hospital whose table is not where it should be."""
    raise CohortError("no such file", source=f"/data/{name}.csv")


def from_file(path: str, name: str) -> Cohort:
    """A hospital whose table comes when it comes."""
    if not Path(path).exists():
        raise CohortError("no such file", source=path)
    return patients(name)


def other_schema(name: str) -> Cohort:
    """A hospital that calls its blasts otherwise."""
    features = tuple(replace(f, unit="%") if f.name == "blasts" else f for f in SCHEMA.features)
    return replace(patients(name), schema=replace(SCHEMA, features=features))


def absurd(name: str) -> Cohort:
    """A hospital with one number so large that a network's output is not a number."""
    cohort = patients(name)
    cohort.values[3, 1] = 1e200
    return cohort


def crash(name: str) -> Cohort:
    """A hospital whose process dies while it loads."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def federation_of(names: tuple[str, ...] = NAMES, **sources: Callable[[str], Cohort]) -> list[CenterSpec]:
    """The hospitals as actors load them; `sources` replaces how some load."""
    return [
        CenterSpec(name, position, partial(sources.get(name, patients), name), SIZES[name])
        for position, name in enumerate(names)
    ]


def preprocessor() -> Preprocessor:
    """Fitted on the patients of all good hospitals."""
    pooled = Cohort.concatenate([patients(name) for name in NAMES])
    return Preprocessor.fit(feature_sums(pooled), SCHEMA, PreprocessingOptions())


def reducing() -> Preprocessor:
    """The same, to be completed by the principal components of all that is clinical."""
    options = PreprocessingOptions(reduce={"clinical": 2})
    pooled = Cohort.concatenate([patients(name) for name in NAMES])
    return Preprocessor.fit(feature_sums(pooled, options.reduce), SCHEMA, options)


def averaging(
    strategy: Strategy | None = None, kind: type[ParameterAveraging] = ParameterAveraging, **changes: Any
) -> ParameterAveraging:
    """A few rounds of parameter averaging, with mini-batches and dropout so that every random number matters."""
    settings: dict[str, Any] = {
        "model": "deepsurv",
        "model_parameters": {"hidden": [4], "dropout": 0.2},
        "training": TrainingOptions(epochs=1, batch_size=15, learning_rate=0.1),
        "rounds": 4,
        "preprocessor": preprocessor(),
    }
    return kind.create(strategy or FedAvg(), **settings | changes)


def wait_for(gate: str) -> None:
    """Wait until a file exists; meanwhile the process id is in a file beside it."""
    pid = Path(f"{gate}.pid")
    pid.write_text(str(os.getpid()))
    while not Path(gate).exists():
        time.sleep(0.02)


@register
@dataclass(frozen=True)
class RollCall(Algorithm):
    """Counts who answers in which round, and draws a random number each.

    Parameters
    ----------
    waits, wait_round, gate
        The center at position `waits` answers round `wait_round` only once the file `gate` exists.
    dies
        The center at this position makes the file `gate` in round 1 and kills its process, unless the file exists; in a
        folder that does not exist it cannot, and dies each time it is asked.
    fails
        The center at this position meets an error in every round.
    rounds
        Rounds at least.
    until_back
        Go on until a center that was missing in a round answers again, ten times as many rounds at most.
    """

    name = "roll-call"

    waits: int = -1
    wait_round: int = 1
    dies: int = -1
    fails: int = -1
    gate: str = ""
    rounds: int = field(default=3, metadata=SERVER)
    until_back: bool = field(default=False, metadata=SERVER)

    def start(self, roster: Roster) -> State:
        rounds = self.rounds * (10 if self.until_back else 1)
        shape = (rounds, len(roster.names))
        return {"round": np.array(0), "present": np.zeros(shape), "draws": np.zeros(shape)}

    def done(self, state: State) -> bool:
        r, present = int(state["round"]), state["present"]
        away = r > 0 and bool((present[:r].any(axis=0) & (present[r - 1] == 0)).any())
        return r >= self.rounds and not (self.until_back and away and r < len(present))

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        r = int(state["round"])
        if patients.position == self.waits and r == self.wait_round:
            wait_for(self.gate)
        if patients.position == self.dies and r == 1 and not Path(self.gate).exists():
            if Path(self.gate).parent.exists():
                Path(self.gate).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if patients.position == self.fails:
            raise OSError("disk full\nand a second line")
        me = np.arange(patients.centers) == patients.position
        return Contribution.of(len(patients.train), {"present": 1.0 * me, "draws": rng.normal() * me})

    def server_update(self, state: State, total: Contribution) -> State:
        r = int(state["round"])
        new = {name: state[name].copy() for name in ("present", "draws")}
        new["present"][r], new["draws"][r] = total["present"], total["draws"]
        return {**new, "round": np.array(r + 1)}

    def metrics(self, state: State) -> dict[str, float]:
        return {"present": float(state["present"][int(state["round"]) - 1].sum())}


@register
@dataclass(frozen=True)
class HeldAveraging(ParameterAveraging):
    """Parameter averaging in which the center at position 1 waits in a round until the file `gate` exists."""

    name = "held-averaging"

    wait_round: int = -1
    gate: str = ""

    def broadcast(self, state: State) -> State:
        return {**super().broadcast(state), "round": state["round"]}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        if patients.position == 1 and int(state["round"]) == self.wait_round:
            wait_for(self.gate)
        return super().client_update(state, patients, rng, memory)
