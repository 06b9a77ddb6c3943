"""Asynchronous averaging (FedBuff) on a virtual clock.

Hospitals answer at different hours. Here each center takes a drawn time to train; the coordinator follows the clock:
who begins from which weights, and whose update is in when. When a job begins and ends does not depend on what it finds,
so the coordinator knows both beforehand, asks once per server step, and nobody waits. A center keeps the update it is
still "working on" in its memory and sends it in the step it is due: what leaves is a weighted sum, as in any round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import Roster, register
from federation.averaging import COLUMNS, ParameterAveraging, validation_metrics
from federation.contribution import Contribution, Contributions
from federation.memory import Memory
from federation.patients import PatientGroup, Patients
from federation.randomness import generator
from federation.state import State
from federation.strategies import FedBuff
from models.batched.streams import Streams

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Latency:
    """How long centers take for a job, in units of the median center's median job.

    Parameters
    ----------
    pace_spread, job_spread
        Standard deviations of the logarithm between centers, and between the jobs of one center.
    seed
        Of the draws.
    """

    pace_spread: float
    job_spread: float
    seed: int = 0

    def duration(self, center: int, job: int) -> float:
        """Of a center's job number `job`."""
        pace = generator(self.seed, "latency", center).normal(scale=self.pace_spread)
        return float(np.exp(pace + generator(self.seed, "latency", center, job).normal(scale=self.job_spread)))

    def synchronous(self, trains: NDArray[np.bool_]) -> Floats:
        """When each round of a synchronous run ends, which waits for its slowest center.

        Parameters
        ----------
        trains
            Who trains in which round, shape (rounds, centers).
        """
        longest = [
            max((self.duration(int(j), r) for j in np.flatnonzero(row)), default=0.0) for r, row in enumerate(trains)
        ]
        found: Floats = np.cumsum(longest)
        return found


def time_to_concordance(state: State, target: float, latency: Latency) -> float:
    """When on the virtual clock the weights first reach a C-index on validation patients; infinite if they never do.

    Parameters
    ----------
    state
        Final state of a run: of `BufferedAveraging`, or of `ParameterAveraging`, whose rounds wait for their slowest
        center.
    target
        Harrell's C over pairs within centers (`federation.averaging.validation_metrics`).
    latency
        Of the centers; for buffered averaging the strategy's is in the state's clock already.
    """
    history, steps = state["history"], int(state["round"])
    waiting = latency.synchronous(history[: max(steps - 1, 0), :, COLUMNS.index("weight")] > 0)
    clock = state["clock"] if "clock" in state else np.concatenate([[0.0], waiting])
    for r in range(steps):  # row r is about the weights after r steps
        if validation_metrics(history[r])["concordance"] >= target:
            return float(clock[r])
    return float("inf")


@register
@dataclass(frozen=True)
class BufferedAveraging(ParameterAveraging):
    """`ParameterAveraging` without rounds; `rounds` is the number of server steps, `sample` is not used.

    The state has, beside that of `ParameterAveraging`: ``clock`` the times at which the server took its steps, shape
    (rounds + 1,); ``ends``, ``began``, ``jobs`` when each center's job ends (infinite: it rests), from which step's
    weights it began, and how many jobs it has begun; and for the question, ``training`` who begins now, ``due`` the
    weight of what each center sends (0: nothing), and ``fresh`` whether that is what it only begins now.
    """

    name = "buffered-averaging"

    def start(self, roster: Roster) -> State:
        """As parent, with the first centers at work."""
        n = len(roster.names)
        state = dict(super().start(roster))
        state |= {
            "clock": np.full(self.rounds + 1, np.nan),
            "ends": np.full(n, np.inf),
            "began": np.zeros(n, dtype=np.int64),
            "jobs": np.zeros(n, dtype=np.int64),
        }
        state["clock"][0] = 0.0
        return state | self._step(state, 0)

    def broadcast(self, state: State) -> State:
        """As parent, with what is due."""
        return {**super().broadcast(state), "due": state["due"], "fresh": state["fresh"]}

    def server_update(self, state: State, total: Contribution) -> State:
        """As parent, with the clock moved on."""
        new = dict(super().server_update(state, total))
        return new | self._step(new, int(new["round"]))

    def _step(self, state: State, version: int) -> dict[str, NDArray[Any]]:
        """Follow the clock until the buffer is full: who begins with these weights, and what comes in."""
        assert isinstance(self.strategy, FedBuff)
        n, seed = len(state["ends"]), int(state["seed"])
        ends, began, jobs, clock = (state[name].copy() for name in ("ends", "began", "jobs", "clock"))
        begins, fresh, due = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool), np.zeros(n)
        if version < self.rounds:
            at_work = max(1, round(self.strategy.concurrency * n))
            latency = Latency(self.strategy.pace_spread, self.strategy.job_spread, seed)
            order = generator(seed, self.name, version, "begin").permutation(n)
            now, received, waits = float(clock[version]), 0, np.full(n, np.inf)

            def begin() -> None:
                """Centers that rest and have not begun from these weights yet start, in a drawn order."""
                for j in order:
                    if np.isfinite(ends).sum() >= at_work:
                        return
                    if not (np.isfinite(ends[j]) or np.isfinite(waits[j]) or begins[j]):
                        ends[j] = now + latency.duration(int(j), int(jobs[j]))
                        begins[j], began[j], jobs[j] = True, version, jobs[j] + 1

            begin()
            while received < min(self.strategy.buffer, at_work) and np.isfinite(ends).any():
                j = int(np.argmin(ends))
                now = max(now, float(ends[j]))
                if due[j] > 0:  # who has sent already in this step sends in the next
                    waits[j], ends[j] = ends[j], np.inf
                    continue
                ends[j] = np.inf
                due[j] = (1.0 + version - began[j]) ** -self.strategy.damping
                fresh[j] = bool(began[j] == version)
                received += 1
                begin()
            ends = np.minimum(ends, waits)
            clock[version + 1] = now
        return {
            "ends": ends,
            "began": began,
            "jobs": jobs,
            "clock": clock,
            "training": begins,
            "due": due,
            "fresh": fresh,
        }

    # -- inside a center ---------------------------------------------------------------------------------------------

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Validate, send what is due, and begin if it is time."""
        found = dict(super().client_update(state, patients, rng, memory))
        update, weight = self._due(state, patients.position, found["update"], float(found["weight"]), memory)
        return Contribution.of(len(patients.train), {**found, "update": update, "weight": weight})

    def client_updates(
        self, state: State, patients: PatientGroup, streams: Streams, memories: Sequence[Memory]
    ) -> Iterator[Contributions]:
        """As `client_update`, for many centers at once."""
        done = 0
        for part in super().client_updates(state, patients, streams, memories):
            update, weight = part.arrays["update"].copy(), part.arrays["weight"].copy()
            for i, position in enumerate(part.positions):
                if i not in part.refused:
                    found = self._due(state, int(position), update[i], float(weight[i]), memories[done + i])
                    update[i], weight[i] = found
            done += len(part)
            arrays = {"update": update, "weight": weight}
            yield Contributions(part.patients, arrays, part.rows, part.positions, part.centers, part.refused)

    def _due(self, state: State, position: int, new: Floats, weight: float, memory: Memory) -> tuple[Floats, float]:
        """What is sent now, and its weight; `new` is the weighted change of a job that begins now, if one does."""
        due, fresh = float(state["due"][position]), bool(state["fresh"][position])
        begins = bool(state["training"][position])
        kept = memory.recall()
        if begins:
            memory.leave({"update": np.array(new), "weight": np.array(weight)})
        if due == 0:
            return np.zeros_like(new), 0.0
        if fresh:
            return due * new, weight
        if "update" not in kept:  # its job was lost with a memory that is not on disk
            return np.zeros_like(new), 0.0
        return due * kept["update"], float(kept["weight"])
