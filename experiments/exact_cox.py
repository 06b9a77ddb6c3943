"""The exact Cox model as arms of an experiment: over the centers and on the pooled patients, with hazard ratios.

Its fits are kept as those of a linear network, so that they are evaluated like any other arm. The hazard ratios come
from a fit to all patients.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sksurv.util import Surv

from actors.coordinator import Coordinator, Task
from experiments.arms import Fits, folds_of
from experiments.config import Config, ExactCoxSection, ModelSection
from experiments.fitting import Fit, RunTask, fit_preprocessor
from experiments.running import Listener
from experiments.study import Study
from federation.algorithm import Algorithm, run
from federation.baseline import FitBaseline
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.preprocessing import FitTimeGrid
from federation.splits import TRAIN, Split
from federation.state import State
from federation.survival import FitCox, cox_fit
from harmonization import Schema
from models.preprocessing import Preprocessor
from models.survival.baseline import BaselineHazard
from models.survival.cox_fit import CoxFit
from models.survival.exact_cox import ExactCox

FEDERATED, CENTRALIZED = "exact-cox/federated", "exact-cox/centralized"

Solve = Callable[[Preprocessor], tuple[CoxFit, int | None]]
"""Fits to standardized columns: the model, and how many broadcasts it took, if any."""
Item = tuple[int, int | str, Split]


def as_network(config: Config) -> Config:
    """The configuration by which the arms' fits predict."""
    return config.model_copy(update={"model": ModelSection()})


def exact_arms(config: Config) -> dict[str, str]:
    """Name and kind of the arms that the configuration asks for."""
    if config.exact_cox is None:
        return {}
    return {FEDERATED: "federated"} | ({CENTRALIZED: "centralized"} if config.arms.centralized else {})


def missing(study: Study, fits: Fits, arm: str) -> Iterator[Item]:
    """Every (repeat, fold) that is not on disk, and the fit to all patients."""
    if arm not in exact_arms(study.config):
        return
    items: list[Item] = [(repeat, fold, study.split(repeat, fold)) for repeat, fold in folds_of(study.config)]
    for item in (*items, (0, "final", Split(study.config.seed))):
        if not fits.path(arm, *item[:2]).exists():
            yield item


def run_exact_federated(study: Study, coordinator: Coordinator, fits: Fits, listen: Listener) -> None:
    """Fit what is missing on the actor system."""
    section, todo = study.config.exact_cox, list(missing(study, fits, FEDERATED))
    for done, (repeat, fold, split) in enumerate(todo):
        assert section is not None
        listen("exact Cox", done / len(todo), f"{FEDERATED} {repeat}-{fold}")

        def run_task(step: str, algorithm: Algorithm, at: Item = (repeat, fold, split)) -> State:
            task = Task(f"{FEDERATED}/{at[0]}-{at[1]}/{step}", algorithm, at[2], study.seed(at[0]))
            *_, last = coordinator.run(task)
            assert last.final is not None
            return last.final

        def solve(preprocessor: Preprocessor, section: ExactCoxSection = section, ask: RunTask = run_task) -> Any:
            algorithm = _algorithm(section, preprocessor)
            state = ask("cox", algorithm)
            return cox_fit(state, algorithm, study.schema), int(state["round"])

        _fit_and_save(study, fits, FEDERATED, repeat, fold, run_task, solve)


def run_exact_centralized(study: Study, fits: Fits, listen: Listener) -> None:
    """Fit what is missing on the pooled patients: preprocessing on all of them, risk sets on one table."""
    section, todo = study.config.exact_cox, list(missing(study, fits, CENTRALIZED))
    for done, (repeat, fold, split) in enumerate(todo):
        assert section is not None
        listen("exact Cox", done / len(todo), f"{CENTRALIZED} {repeat}-{fold}")
        rows = study.parts(split) == TRAIN
        cohort, center = study.cohort[rows], study.center[rows]

        def run_task(step: str, algorithm: Algorithm, here: Any = cohort) -> State:
            alone = Center("alone", lambda: here, policy=DisclosurePolicy(min_patients=1))
            return run(algorithm, InProcessFederation([alone]))

        def solve(
            preprocessor: Preprocessor,
            section: ExactCoxSection = section,
            here: Any = cohort,
            labels: NDArray[np.str_] = center,
        ) -> tuple[CoxFit, None]:
            grid = _algorithm(section, preprocessor).grid
            cell, event = grid.cells(here.time, here.event, here.schema.time_unit)
            outcome = Surv.from_arrays(event, grid.times(cell, here.schema.time_unit))
            model = ExactCox(section.ties, section.penalty, section.l1_ratio)
            x = preprocessor.transform(here)
            fitted = model.fit(x, outcome, strata=labels if section.strata == "center" else None).fit_
            return fitted, None

        _fit_and_save(study, fits, CENTRALIZED, repeat, fold, run_task, solve)


def _algorithm(section: ExactCoxSection, preprocessor: Preprocessor) -> FitCox:
    return FitCox(
        ties=section.ties,
        strata=section.strata,
        resolution=section.resolution,
        alpha=section.penalty,
        l1_ratio=section.l1_ratio,
        preprocessor=preprocessor,
    )


def _fit_and_save(
    study: Study, fits: Fits, arm: str, repeat: int, fold: int | str, run_task: RunTask, solve: Solve
) -> None:
    """Preprocessor, coefficients, and a baseline hazard on the experiment's grid, as the other arms have it."""
    config, began = study.config, time.perf_counter()
    assert config.exact_cox is not None
    options = replace(config.exact_cox.preprocessing or config.preprocessing, missing="impute")
    preprocessor, patients = fit_preprocessor(options, study.schema, run_task)
    evaluation = config.evaluation
    grid = run_task("grid", FitTimeGrid(evaluation.follow_up, evaluation.grid_cells, evaluation.grid_points))["grid"]
    fitted, broadcasts = solve(preprocessor)
    weights = fitted.coefficients.astype(np.float32)
    baseline = run_task("baseline", FitBaseline("cox", {}, weights, preprocessor, grid))
    path = fits.path(arm, repeat, fold)
    if fold == "final":
        path.parent.mkdir(parents=True, exist_ok=True)
        table = hazard_ratios(fitted, preprocessor, study.schema, broadcasts, patients)
        path.with_suffix(".json").write_text(json.dumps(table))
    Fit(
        weights,
        preprocessor,
        BaselineHazard(baseline["times"], baseline["cumulative"]),
        np.empty((0, 0, 0)),
        broadcasts or fitted.iterations,
        time.perf_counter() - began,
    ).save(path)


# The table of hazard ratios -----------------------------------------------------------------------------------------


def hazard_ratios(
    fitted: CoxFit, preprocessor: Preprocessor, schema: Schema, broadcasts: int | None, patients: int
) -> dict[str, Any]:
    """Hazard ratios with 95% intervals and p values, for one standard deviation or for 1 against 0."""
    names = preprocessor.names(schema)
    numeric = {f.name: f.unit for f in schema.features if f.numeric}
    components = {name for name in names[len(preprocessor.keep) :][: len(preprocessor.rotation)]}
    zero_one = [name not in numeric and name not in components for name in names]
    ones = np.ones(len(preprocessor.rotation))
    scale = np.concatenate([preprocessor.scale, ones, preprocessor.indicator_scale])
    per = np.where(zero_one, scale, 1.0)
    summary, robust = fitted.summary(), fitted.summary(robust=True)
    tests = fitted.proportional_hazards()
    rows = []
    for j, name in enumerate(names):
        at = summary.iloc[j]
        unit = "" if zero_one[j] else f"{scale[j]:.3g} {numeric.get(name, '')}".strip()
        rows.append(
            {
                "feature": name,
                "per": unit or "yes",
                "log_hazard_ratio": _number(at["coefficient"] / per[j]),
                "hazard_ratio": _number(np.exp(at["coefficient"] / per[j])),
                "low": _number(at["low"] ** (1 / per[j])),
                "high": _number(at["high"] ** (1 / per[j])),
                "p": _number(at["p"]),
                "robust_p": _number(robust["p"].iloc[j]),
                "proportional_hazards_p": _number(tests["p"].iloc[j]),
            }
        )
    return {
        "patients": patients,
        "events": fitted.events,
        "converged": fitted.converged,
        "broadcasts": broadcasts,
        "log_likelihood": _number(fitted.log_likelihood),
        "proportional_hazards_p": _number(tests["p"].iloc[-1]),
        "rows": rows,
    }


def hazard_ratio_tables(config: Config, fits: Fits) -> dict[str, Any] | None:
    """The part ``hazard_ratios`` of results.json; None without such arms."""
    found = {}
    for arm in exact_arms(config):
        path = fits.path(arm, 0, "final").with_suffix(".json")
        if path.exists():
            found[arm] = json.loads(path.read_text())
    if not found:
        return None
    apart = None
    if len(found) == 2:
        a, b = ({row["feature"]: row["log_hazard_ratio"] for row in table["rows"]} for table in found.values())
        if a.keys() == b.keys():
            apart = max(abs(a[name] - b[name]) for name in a)
    assert config.exact_cox is not None
    shown = config.exact_cox.model_dump(mode="json", exclude={"preprocessing"})
    return {"options": shown, "arms": found, "largest_difference": apart}


def _number(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None
