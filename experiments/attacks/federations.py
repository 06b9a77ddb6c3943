"""What attacks have in common: federations of a study's centers in this process, and what is fitted on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments.config import Config, StrategySection
from experiments.fitting import averaging, fit_preprocessor
from experiments.study import Study
from federation.algorithm import Algorithm, run
from federation.averaging import ParameterAveraging
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.preprocessing import FitTimeGrid, time_scale_of
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


def prepared(
    config: Config, study: Study, federation: InProcessFederation, strategy: StrategySection | None = None
) -> tuple[ParameterAveraging, Floats]:
    """The training algorithm of the experiment on a federation, as `experiments.fitting.prepare` makes it; and the time
    grid of a released baseline hazard."""

    def run_task(step: str, algorithm: Algorithm) -> State:
        return run(algorithm, federation)

    model = network_class(config.model.name)
    options = config.preprocessing
    if options.missing is None:
        found: Literal["impute", "mask", "keep"] = "mask" if model.masks_blocks else "keep"
        options = replace(options, missing=found if model.accepts_missing else "impute")
    preprocessor, patients = fit_preprocessor(options, study.schema, run_task)
    evaluation = config.evaluation
    timed = run_task("grid", FitTimeGrid(evaluation.follow_up, evaluation.grid_cells, evaluation.grid_points))
    times = time_scale_of(timed, evaluation.horizons[-1])
    parameters = model.declare(config.model.parameters, preprocessor.design(study.schema), times)
    first = config.strategies[0] if strategy is None else strategy
    return averaging(config, first, preprocessor, patients, parameters), timed["grid"]


def preprocessor_of(algorithm: ParameterAveraging) -> Preprocessor:
    """The fitted one."""
    assert algorithm.preprocessor is not None
    return algorithm.preprocessor


def interval(values: Floats) -> dict[str, float]:
    """An estimate followed by its bootstrap replicates, as mean, low and high."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return {"mean": float(values[0]), "low": float(low), "high": float(high)}
