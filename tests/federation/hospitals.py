"""Three made-up hospitals that differ in size, age, event rate and baseline hazard, and federations of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import Algorithm, rounds
from federation.averaging import ParameterAveraging
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.splits import TRAIN, Split
from federation.state import State
from federation.strategies import FedAvg, Strategy
from harmonization import Cohort, Feature, Schema
from models.preprocessing import PreprocessingOptions, Preprocessor, feature_sums
from models.training import TrainingData, TrainingOptions

SCHEMA = Schema(
    "made-up",
    "1",
    (
        Feature("age", "continuous", reference=60),
        Feature("blasts", "count"),
        Feature("mutated", "binary", "genomic"),
        Feature("grade", "categorical", categories=("low", "mid", "high")),
    ),
)


def patients(n: int, seed: int = 0, age: float = 60, speed: float = 1.0, follow_up: float = 6) -> Cohort:
    """n patients whose risk rises with age, blasts and the mutation; `speed` multiplies the baseline hazard."""
    rng = np.random.default_rng(seed)
    values = np.column_stack(
        [rng.normal(age, 10, n), rng.poisson(10, n), rng.random(n) < 0.3, rng.choice(3, n)]
    ).astype(float)
    log_hazard = 0.05 * (values[:, 0] - 60) + 0.1 * (values[:, 1] - 10) + 0.8 * values[:, 2]
    values[rng.random(values.shape) < 0.06] = np.nan
    died, left = rng.exponential(3 / speed * np.exp(-log_hazard)), rng.uniform(0.3, follow_up, n)
    ids = np.array([f"patient-{seed}-{i}" for i in range(n)])
    return Cohort(SCHEMA, ids, values, np.minimum(died, left), died <= left)


@cache
def hospitals() -> Mapping[str, Cohort]:
    """Training on them should weigh the largest most, and in another order by events than by patients."""
    return {
        "North": patients(60, 1, age=52, speed=0.3, follow_up=2),
        "South": patients(37, 2, age=66, speed=2.0, follow_up=9),
        "West": patients(17, 3, age=74, speed=1.0),
    }


class Drawn(Center):
    """A center whose split was drawn beforehand, whatever its patients' outcomes are."""

    def __init__(self, parts: NDArray[np.int64], name: str, *rest: Any, **options: Any) -> None:
        super().__init__(name, *rest, **options)
        self._drawn = parts

    def _parts(self, split: Split) -> NDArray[np.int64]:
        return self._drawn


def federation_of(
    cohorts: Mapping[str, Cohort] | None = None,
    parts: Mapping[str, NDArray[np.int64]] | None = None,
    schema: Schema | None = None,
    policy: DisclosurePolicy | None = None,
    directory: Path | None = None,
    **options: Any,
) -> InProcessFederation:
    """The hospitals in this process; `parts` prescribes their split."""
    centers: list[Center] = []
    for j, (name, cohort) in enumerate((hospitals() if cohorts is None else cohorts).items()):
        rest: Any = (name, lambda cohort=cohort: cohort, j, schema, policy, directory)
        centers.append(Center(*rest) if parts is None else Drawn(parts[name], *rest))
    return InProcessFederation(centers, **options)


EVERYBODY = Split()


def pooled(cohorts: Mapping[str, Cohort], split: Split = EVERYBODY) -> tuple[Cohort, NDArray[np.str_]]:
    """All training patients in one table, and each one's hospital."""
    chosen = {name: c[split.parts(c.ids, c.event, name) == TRAIN] for name, c in cohorts.items()}
    hospital = np.concatenate([np.full(len(c), name) for name, c in chosen.items()])
    return Cohort.concatenate(list(chosen.values())), hospital


@cache
def preprocessor(missing: Literal["impute", "keep"] = "impute") -> Preprocessor:
    """Fitted on all patients of all hospitals."""
    return Preprocessor.fit(feature_sums(pooled(hospitals())[0]), SCHEMA, PreprocessingOptions(missing=missing))


@cache
def reducing() -> Preprocessor:
    """The same, to be completed by the principal components of all that is clinical."""
    options = PreprocessingOptions(reduce={"clinical": 2})
    return Preprocessor.fit(feature_sums(pooled(hospitals())[0], options.reduce), SCHEMA, options)


def design(cohort: Cohort) -> TrainingData:
    return TrainingData(preprocessor().transform(cohort), cohort.time, cohort.event)


SMALL = {"hidden": [4], "activation": "tanh"}
"""A network small enough for hundreds of rounds."""


def averaging(strategy: Strategy | None = None, **changes: Any) -> ParameterAveraging:
    """A few rounds of one full-batch step."""
    settings: dict[str, Any] = {
        "model": "deepsurv",
        "model_parameters": SMALL,
        "training": TrainingOptions(steps=1, learning_rate=0.5),
        "rounds": 3,
        "preprocessor": preprocessor(),
    }
    return ParameterAveraging.create(strategy or FedAvg(), **settings | changes)


NOISY: Mapping[str, Any] = {
    "model_parameters": {"hidden": [4], "dropout": 0.3},
    "training": TrainingOptions(epochs=1, batch_size=16, learning_rate=0.1),
}
"""Mini-batches and dropout, so that every random number matters."""


def states(algorithm: Algorithm, federation: InProcessFederation, start: State | None = None) -> list[State]:
    """The state before the first round and after every round."""
    start = algorithm.start(federation.roster) if start is None else start
    return [start, *rounds(algorithm, federation, start)]


def require_equal_states(a: State, b: State) -> None:
    """Same arrays, bit for bit."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


def audit(directory: Path, names: Sequence[str] = ("North", "South", "West")) -> Iterator[str]:
    """Lines of the audit logs."""
    for name in names:
        yield from (directory / "audit" / f"{name}.jsonl").read_text().splitlines()
