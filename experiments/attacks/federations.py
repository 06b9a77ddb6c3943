"""What attacks have in common: federations of a study's centers in this process, and what is fitted on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.attacks.config import AttackConfig
from experiments.config import Config
from experiments.fitting import RunTask, prepare
from experiments.private_fitting import prepare_private
from experiments.study import Study
from federation.algorithm import Algorithm, run
from federation.averaging import ParameterAveraging
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.splits import Split
from federation.state import State
from harmonization import Cohort
from models.preprocessing import Preprocessor
from models.survival.network import network_class

Floats = NDArray[np.float64]


class DrawnCenter(Center):
    """A center whose split was drawn beforehand."""

    def __init__(self, parts: NDArray[np.int64], *rest: Any, **options: Any) -> None:
        super().__init__(*rest, **options)
        self._drawn = parts

    def _parts(self, split: Split) -> NDArray[np.int64]:
        return self._drawn


def centers_of(
    cohorts: Mapping[str, Cohort],
    policy: DisclosurePolicy | None = None,
    parts: Mapping[str, NDArray[np.int64]] | None = None,
) -> list[Center]:
    """Centers over cohorts in memory, in their order; `parts` prescribes who trains at each."""
    found: list[Center] = []
    for j, (name, cohort) in enumerate(cohorts.items()):
        rest: Any = (name, lambda cohort=cohort: cohort, j, cohort.schema, policy)
        found.append(Center(*rest) if parts is None else DrawnCenter(parts[name], *rest))
    return found


def runner(federation: InProcessFederation) -> RunTask:
    """Runs algorithms on a federation, each under a task of its own."""

    def run_task(step: str, algorithm: Algorithm) -> State:
        federation.task = step
        return run(algorithm, federation)

    return run_task


def prepared(config: Config, study: Study, federation: InProcessFederation) -> ParameterAveraging:
    """The training algorithm of the experiment's first strategy."""
    privacy, strategy, run_task = config.federation.differential_privacy, config.strategies[0], runner(federation)
    if privacy is not None:
        return prepare_private(config, privacy, strategy, study.schema, run_task)[0]
    return prepare(config, strategy, study.schema, run_task)[0]


def preprocessor_of(algorithm: ParameterAveraging) -> Preprocessor:
    """The fitted one."""
    assert algorithm.preprocessor is not None
    return algorithm.preprocessor


def interval(values: Floats) -> dict[str, float]:
    """An estimate followed by its bootstrap replicates, as mean, low and high."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return {"mean": float(values[0]), "low": float(low), "high": float(high)}


def wilson(hits: int, n: int) -> dict[str, float]:
    """A share with Wilson's 95% interval."""
    z = 1.959964
    if n == 0:
        return {"mean": 0.0, "low": 0.0, "high": 1.0}
    share, center = hits / n, (hits + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(hits * (n - hits) / n + z**2 / 4)
    return {"mean": share, "low": float(max(0.0, center - half)), "high": float(min(1.0, center + half))}


def under_privacy(config: AttackConfig, changes: dict[str, Any], privacy: dict[str, Any] | None) -> Config | None:
    """The experiment with some changes under differential privacy of patients; None if its loss is no sum over them."""
    if privacy is None or not network_class(config.target(changes).model.name).separable:
        return None
    return config.target({**changes, "ridge": None, "federation.differential_privacy": privacy})
