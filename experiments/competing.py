"""Competing causes in an experiment: concordance of each cause, and its predicted incidence beside the observed one.

Metrics elsewhere in results.json are of an event of any cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sksurv.nonparametric import cumulative_incidence_competing_risks

from models.survival.competing import times_of_cause
from models.survival.metrics import Prediction, evaluate

if TYPE_CHECKING:
    from experiments.evaluation import Arm, Evaluator

Floats = NDArray[np.float64]

KINDS = ("federated", "centralized", "score")
"""Arms that are compared."""


def compare_causes(evaluator: Evaluator, arms: Mapping[str, Arm]) -> dict[str, Any] | None:
    """The part of results.json; None if the patients' schema names no causes.

    The concordance of a cause is Wolbers' (a patient with another cause never has this one), by the risk of that
    cause where the model tells causes apart, else by the one risk it predicts. Incidences are averaged over test
    patients and repeats; observed are Aalen and Johansen's.
    """
    cohort = evaluator.study.cohort
    if cohort.cause is None:
        return None
    rows: list[dict[str, Any]] = []
    for name, arm in arms.items():
        if arm.kind not in KINDS:
            continue
        own = _predictions(evaluator, name, arm)
        for j, cause in enumerate(cohort.schema.causes):
            time, event = times_of_cause(cohort.time, cohort.cause, j + 1)
            tests = [replace(test, time=time, event=event) for test in arm.tests]
            risks = [p.risk for p in arm.predictions] if own is None else [risk[:, j] for risk, _ in own]
            found = evaluate(tests, [Prediction(r) for r in risks], evaluator.weights, evaluator.horizons)["harrell_c"]
            predicted = None if own is None else np.nanmean([incidence[:, j] for _, incidence in own], axis=(0, 1))
            rows.append(
                {
                    "arm": name,
                    "cause": cause,
                    "concordance": found.to_dict(),
                    "predicted": None if predicted is None else predicted.tolist(),
                }
            )
    observed = _observed(cohort.time, cohort.cause, len(cohort.schema.causes), np.array(evaluator.horizons))
    return {
        "horizons": list(evaluator.horizons),
        "events": {c: int((cohort.cause == j).sum()) for j, c in enumerate(cohort.schema.causes, start=1)},
        "observed": dict(zip(cohort.schema.causes, observed.tolist(), strict=True)),
        "arms": rows,
    }


def _predictions(evaluator: Evaluator, name: str, arm: Arm) -> list[tuple[Floats, Floats]] | None:
    """Out-of-fold risk (n, causes) and incidence (n, causes, horizons) per repeat; None if the arm has one risk."""
    study, horizons = evaluator.study, np.array(evaluator.horizons)
    n, causes = len(study.cohort), len(study.schema.causes)
    found = []
    for repeat, test in enumerate(arm.tests):
        risk, incidence = np.full((n, causes), np.nan), np.full((n, causes, len(horizons)), np.nan)
        for fold in test.folds.tolist():
            fit = evaluator.fits.get(name, repeat, fold)
            if fit is None or fit.parameters.get("causes", 1) == 1:
                return None
            rows = test.fold == fold
            risk[rows], incidence[rows] = fit.causes(study.config.model.name, study.cohort[rows], horizons)
        found.append((risk, incidence))
    return found


def _observed(time: Floats, cause: NDArray[np.int64], causes: int, times: Floats) -> Floats:
    """Aalen and Johansen's incidence of each cause, shape (causes, times)."""
    moments, curves = cumulative_incidence_competing_risks(cause, time)  # a row for any cause, and up to the last seen
    known = np.concatenate([np.zeros((len(curves), 1)), curves], axis=1)[1:, np.searchsorted(moments, times, "right")]
    observed = np.zeros((causes, len(times)))
    observed[: len(known)] = known
    return observed
