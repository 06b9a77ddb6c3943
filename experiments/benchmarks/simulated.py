"""The task of the benchmarks of rounds, and haemfed on it.

A 20-32-32-1 perceptron with Cox loss (Breslow), 50 patients per center, one local epoch of 5 steps on batches of 10,
every center every round. This module is all that the measured processes import beside haemfed: nothing that haemfed
itself does without (torch) may be imported here.
"""

from __future__ import annotations

import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.center import CenterSpec
from actors.cluster import ray_session
from actors.coordinator import Coordinator, Task
from federation.averaging import ParameterAveraging
from federation.checkpoint import save_state
from federation.preprocessing import FitPreprocessor, preprocessor_of
from federation.strategies import FedAvg
from harmonization import Cohort, Feature, Schema
from models.preprocessing import Preprocessor
from models.steps import TrainingOptions

PATIENTS, FEATURES, HIDDEN, BATCH, RATE = 50, 20, (32, 32), 10, 0.05
SCHEMA = Schema("benchmark", "1", tuple(Feature(f"x{j}", "continuous") for j in range(FEATURES)))

COMPARED_ROUNDS = 3
"""Rounds after which the weights of all engines are compared."""


def simulated_center(index: int) -> Cohort:
    """50 patients with exponential survival times."""
    rng = np.random.default_rng([7, index])
    x = rng.standard_normal((PATIENTS, FEATURES))
    death = rng.exponential(np.exp(-0.5 * x[:, 0]))
    censoring = rng.exponential(2.0, PATIENTS)
    ids = np.array([f"{index}-{i}" for i in range(PATIENTS)])
    return Cohort(SCHEMA, ids, x, np.minimum(death, censoring), death <= censoring)


def sizes_of(centers: int, ragged: bool) -> NDArray[np.int64]:
    """Patients of each center: 50, or log-normal between 5 and 2,000 with the same sum."""
    if not ragged:
        return np.full(centers, 50)
    drawn = np.exp(np.random.default_rng(1).normal(0.0, 1.0, centers))
    sizes = np.clip(np.round(drawn * 50 * centers / drawn.sum()), 5, 2000).astype(np.int64)
    sizes[np.argmax(sizes)] += 50 * centers - sizes.sum()  # rounding and the lower end
    found: NDArray[np.int64] = sizes
    return found


def ragged_center(index: int, patients: int) -> Cohort:
    """Like `simulated_center`, of any size."""
    parts = [simulated_center(index * 1000 + part) for part in range(-(-patients // 50))]
    return Cohort.concatenate(parts)[np.arange(patients)]


def specs_of(centers: int, ragged: bool = False) -> list[CenterSpec]:
    """The centers as actors load them."""
    sizes = sizes_of(centers, ragged).tolist()
    return [
        CenterSpec(f"{j}", j, partial(ragged_center, j, n) if ragged else partial(simulated_center, j), n)
        for j, n in enumerate(sizes)
    ]


def averaging(preprocessor: Preprocessor, rounds: int) -> ParameterAveraging:
    """The training task."""
    return ParameterAveraging.create(
        FedAvg(),
        model="deepsurv",
        model_parameters={"hidden": list(HIDDEN), "ties": "breslow"},
        training=TrainingOptions(epochs=1, batch_size=BATCH, learning_rate=RATE),
        rounds=rounds,
        preprocessor=preprocessor,
    )


def worker(centers: int, rounds: int, ragged: bool, out: Path, began: float) -> None:
    """Run the task; writes the timings as JSON and what the peers need as arrays."""
    found: dict[str, Any] = {}
    with ray_session(), tempfile.TemporaryDirectory() as scratch:
        coordinator = Coordinator(specs_of(centers, ragged), SCHEMA, directory=Path(scratch))
        coordinator.load()
        prepared = finish(coordinator, Task("preprocessor", FitPreprocessor(SCHEMA)))
        preprocessor = preprocessor_of(prepared["state"])
        first = finish(coordinator, Task("first", averaging(preprocessor, 1)))
        found["first_round_s"] = time.time() - began - first["seconds"][1]  # [1] is a validation round
        compared = finish(coordinator, Task("compared", averaging(preprocessor, COMPARED_ROUNDS)))
        timed = finish(coordinator, Task("timed", averaging(preprocessor, rounds)))
        coordinator.close()
    ms = 1000 * np.array(timed["seconds"][1:-1])
    found |= {"haemfed_ms": float(np.median(ms)), "haemfed_spread_ms": float(np.subtract(*np.percentile(ms, [75, 25])))}
    save_state(
        out / "compared.npz", {"weights": compared["state"]["weights"], **preprocessor.to_arrays("preprocessor/")}
    )
    (out / "figures.json").write_text(json.dumps(found))


def finish(coordinator: Coordinator, task: Task) -> dict[str, Any]:
    """Run a task to its end: the final state, and what each round took."""
    seconds: list[float] = []
    for progress in coordinator.run(task):
        seconds += progress.seconds
    if coordinator.dropouts:
        raise RuntimeError(f"centers dropped out: {coordinator.dropouts}")
    return {"state": progress.final, "seconds": seconds}
