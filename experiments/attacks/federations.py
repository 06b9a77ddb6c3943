"""What attacks have in common: federations of a study's centers in this process, and what is fitted on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.config import Config
from experiments.fitting import RunTask, prepare
from experiments.private_fitting import prepare_private
from experiments.study import Study
from federation.algorithm import Algorithm, run
from federation.averaging import ParameterAveraging
from federation.center import Center, Question
from federation.contribution import Contribution
from federation.in_process import InProcessFederation, question_for
from federation.policy import DisclosurePolicy, Refused
from federation.privacy.dp.settings import DifferentialPrivacy
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
    policy = DisclosurePolicy(**{**vars(policy or DisclosurePolicy()), "simulation": True})
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


def prepared(
    config: Config, study: Study, federation: InProcessFederation, privacy: DifferentialPrivacy | None = None
) -> ParameterAveraging:
    """The training algorithm of the experiment's first strategy, under its differential privacy or another."""
    strategy, run_task = config.strategies[0], runner(federation)
    if (privacy := privacy or config.federation.differential_privacy) is not None:
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


def under_privacy(
    config: Config, section: Sequence[DifferentialPrivacy], *, sums: bool = False
) -> dict[str, DifferentialPrivacy]:
    """By name those of which there is a mechanism for an experiment's updates: of patients where the loss is a sum over
    them, of centers with any loss. For `sums` over patients: of patients."""
    separable = sums or network_class(config.model.name).separable
    return {
        f"differential privacy of {privacy.unit}s": privacy
        for privacy in section
        if (separable if privacy.unit == "patient" else not sums)
    }


def question_of(federation: InProcessFederation, algorithm: Algorithm, state: State) -> Question:
    """What a federation would ask next."""
    return question_for(
        algorithm, state, federation.task, federation.split, federation.roster, federation.checkpoint_every
    )


def answered(center: Center, question: Question) -> Contribution | None:
    """What a center answers; None if it refuses."""
    try:
        return center.answer(question) or None
    except Refused:
        return None
