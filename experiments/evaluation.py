"""From fits to results: every arm's predictions on the same test patients, metrics with intervals, gains, curves.

The schema of what comes out is in docs/results.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import linregress
from scipy.stats import t as student
from sksurv.nonparametric import kaplan_meier_estimator

from experiments.arms import Fits, able_centers, left_out_arm
from experiments.blocks import block_arms, compare_blocks
from experiments.competing import compare_causes
from experiments.config import Config
from experiments.detection import detection_tables
from experiments.exact_cox import CENTRALIZED, FEDERATED, as_network, exact_arms, hazard_ratio_tables
from experiments.explaining import explanation
from experiments.fitting import Fit
from experiments.study import Study
from federation.averaging import validation_metrics
from federation.randomness import entropy
from federation.splits import TRAIN
from models.survival.metrics import Prediction, TestSet, calibration_curve, evaluate, evaluate_by_center
from models.survival.resampling import Estimate, bootstrap_weights, paired_difference

Floats = NDArray[np.float64]
Metrics = Mapping[str, Estimate]

FEWEST_FOR_INTERVAL = 10
"""Patients that a center needs for an interval."""


@dataclass(frozen=True, eq=False)
class Arm:
    """One arm's out-of-fold predictions, a test set and prediction per repeat, and its metrics."""

    kind: str
    tests: Sequence[TestSet]
    predictions: Sequence[Prediction]
    pooled: Metrics
    centers: Mapping[str, Metrics]
    seconds: float = 0.0
    selected_rounds: Sequence[int] = ()
    histories: Sequence[Floats] = ()

    def to_dict(self) -> dict[str, Any]:
        """As in results.json."""
        return {
            "kind": self.kind,
            "pooled": {name: estimate.to_dict() for name, estimate in self.pooled.items()},
            "centers": {c: {name: _of_center(e) for name, e in metrics.items()} for c, metrics in self.centers.items()},
            "seconds": self.seconds,
            "selected_rounds": list(self.selected_rounds),
        }


class Evaluator:
    """Scores arms of one study, all on the same bootstrap draws."""

    def __init__(self, study: Study, fits: Fits) -> None:
        self.study, self.fits = study, fits
        self.horizons = study.config.evaluation.horizons
        self.times = np.linspace(0, self.horizons[-1], 61)[1:]
        self.weights = bootstrap_weights(
            study.center,
            study.config.evaluation.bootstrap,
            entropy(f"{study.config.seed}/bootstrap"),
            patient=study.cohort.ids,
        )
        self.tests = [self._test_set(repeat) for repeat in range(study.config.split.repeats)]

    # -- arms --------------------------------------------------------------------------------------------------------

    def fold_arm(self, arm: str, kind: str, own: str | None = None, config: Config | None = None) -> Arm | None:
        """An arm with one fit per (repeat, fold), predicting all test patients; None if a fit is missing.

        Parameters
        ----------
        own
            Name of the only center for which metrics per center are wanted.
        config
            By which the fits predict; the study's by default.
        """
        study, n = self.study, len(self.study.cohort)
        config = config or study.config
        predictions, fitted = [], []
        for repeat, test in enumerate(self.tests):
            risk, survival = np.full(n, np.nan), np.full((n, len(self.times)), np.nan)
            for fold in range(study.config.split.folds):
                fit = self.fits.get(arm, repeat, fold)
                if fit is None:
                    return None
                rows = test.fold == fold
                risk[rows], survival[rows] = fit.predict(config.model.name, study.cohort[rows], self.times)
                fitted.append(fit)
            predictions.append(Prediction(risk, survival, self.times))
        return self._score(kind, self.tests, predictions, own, fitted)

    def fine_tuned_arm(self, arm: str, centers: Sequence[str]) -> Arm | None:
        """Each center's personalized model on its own test patients."""
        study = self.study
        tests, predictions = [], []
        codes = np.searchsorted(np.array(study.names), study.center)
        for repeat, test in enumerate(self.tests):
            risk = np.full(len(study.cohort), np.nan)
            survival = np.full((len(risk), len(self.times)), np.nan)
            for fold in range(study.config.split.folds):
                for name in centers:
                    fit = self.fits.get(f"{arm}/{name}", repeat, fold)
                    rows = (test.fold == fold) & (study.center == name)
                    if fit is None or not rows.any():
                        continue
                    risk[rows], survival[rows] = fit.predict(study.config.model.name, study.cohort[rows], self.times)
            # another model in each center: pairs are compared within fold and center only
            fold_and_center = test.fold * len(study.names) + codes
            training = {int(u): test.training[int(u) // len(study.names)] for u in np.unique(fold_and_center)}
            tests.append(TestSet(test.time, test.event, fold_and_center, test.center, training))
            predictions.append(Prediction(risk, survival, self.times))
        return self._score("fine_tuned", tests, predictions, None, [])

    def left_out_arm(self, arm: str) -> Arm | None:
        """Each left-out center's patients, all of them, by a model trained on the other centers."""
        study, n = self.study, len(self.study.cohort)
        risk, survival = np.full(n, np.nan), np.full((n, len(self.times)), np.nan)
        model = np.zeros(n, dtype=np.intp)
        training = {0: (study.cohort.time, study.cohort.event)}  # of nobody's prediction
        fitted = []
        for code, name in enumerate(study.names, start=1):
            fit = self.fits.get(arm, 0, name)
            if fit is None:
                continue
            rows = study.center == name
            risk[rows], survival[rows] = fit.predict(study.config.model.name, study.cohort[rows], self.times)
            model[rows] = code
            training[code] = (study.cohort.time[~rows], study.cohort.event[~rows])
            fitted.append(fit)
        if not fitted:
            return None
        test = TestSet(study.cohort.time, study.cohort.event, model, study.center, training)
        return self._score("left_out", [test], [Prediction(risk, survival, self.times)], None, fitted)

    def score_arm(self, values: Floats) -> Arm:
        """A published score of each patient as the prediction."""
        predictions = [Prediction(values) for _ in self.tests]
        return self._score("score", self.tests, predictions, None, [])

    def _score(
        self,
        kind: str,
        tests: Sequence[TestSet],
        predictions: Sequence[Prediction],
        own: str | None,
        fits: Sequence[Fit],
    ) -> Arm:
        pooled = evaluate(tests, predictions, self.weights, self.horizons)
        mine = None if own is None else self.study.center == own
        centers = evaluate_by_center(tests, predictions, self.weights, self.horizons, subset=mine)
        known = {str(name): metrics for name, metrics in centers.items() if metrics["harrell_c"].n > 0}
        return Arm(
            kind,
            tests,
            predictions,
            pooled,
            known,
            sum(f.seconds for f in fits),
            [f.selected_round for f in fits],
            [f.history for f in fits],
        )

    def _test_set(self, repeat: int) -> TestSet:
        study = self.study
        training = {}
        for fold in range(study.config.split.folds):
            train = study.parts(study.split(repeat, fold)) == TRAIN
            training[fold] = (study.cohort.time[train], study.cohort.event[train])
        return TestSet(study.cohort.time, study.cohort.event, study.folds(repeat), study.center, training)

    # -- comparisons -------------------------------------------------------------------------------------------------

    def difference(self, arms: Mapping[str, Arm], a: str, b: str, metric: str) -> dict[str, Any] | None:
        """Arm a − arm b on the patients whom both predict, and the same draws.

        Where the arms' models differ in reach (a fine-tuned model is its center's alone), only pairs that both arms
        judged by one model count.
        """
        if metric not in arms[a].pooled or metric not in arms[b].pooled:
            return None
        first, second = arms[a], arms[b]
        repeats = min(len(first.tests), len(second.tests))
        both = np.ones(len(self.study.cohort), dtype=bool)
        for arm in (first, second):
            both &= ~np.isnan(arm.predictions[0].risk)
        values = []
        tests = [_common(x, y) for x, y in zip(first.tests[:repeats], second.tests[:repeats], strict=True)]
        for arm in (first, second):
            if both.all() and all(x is y for x, y in zip(tests, arm.tests, strict=False)) and repeats == len(arm.tests):
                values.append(arm.pooled[metric])
                continue
            predictions = arm.predictions[:repeats]
            values.append(evaluate(tests, predictions, self.weights, self.horizons, subset=both)[metric])
        found = paired_difference(*values)
        return {"a": a, "b": b, "metric": metric, **_interval(found), **self.non_inferiority(found, metric)}

    def non_inferiority(self, difference: Estimate, metric: str) -> dict[str, Any]:
        """One-sided 95% lower bound of a difference of concordances, and whether it lies above minus the margin."""
        if metric not in ("harrell_c", "uno_c"):
            return {"lower": None, "non_inferior": None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no replicate is known: NaN
            lower = float(np.nanpercentile(difference.replicates, 5))
        known = math.isfinite(lower)
        return {
            "lower": _number(lower),
            "non_inferior": lower > -self.study.config.evaluation.margin if known else None,
        }

    def differences(self, arms: Mapping[str, Arm], first: str) -> list[dict[str, Any]]:
        """Federated arms against the centralized one, both against each score, and what starts from the first arm."""
        learned = [name for name in arms if arms[name].kind in ("federated", "centralized")]
        pairs = [(a, "centralized") for a in learned if a != "centralized" and "centralized" in arms]
        pairs += [(a, s) for a in learned for s in arms if arms[s].kind == "score"]
        pairs += [(FEDERATED, CENTRALIZED)] if {FEDERATED, CENTRALIZED} <= arms.keys() else []
        pairs += [(a, first) for a in arms if arms[a].kind in ("fine_tuned", "left_out") and first in arms]
        found = [self.difference(arms, a, b, m) for a, b in pairs for m in ("harrell_c", "uno_c", "ibs")]
        return [d for d in found if d is not None]

    def gain(self, arms: Mapping[str, Arm], federated: str) -> dict[str, Any] | None:
        """What each center gains by federating, and the slope of the gain over the logarithm of its size."""
        rows: list[dict[str, Any]] = []
        gains: dict[str, list[Floats]] = {"everybody": [], "own": []}
        for name in self.study.cohorts:
            local = arms.get(f"local/{name}")
            if local is None or name not in local.centers:
                continue
            row: dict[str, Any] = {
                "center": name,
                "patients": len(self.study.cohorts[name]),
                "events": int(self.study.cohorts[name].event.sum()),
            }
            for scored_on, values in gains.items():
                everybody = scored_on == "everybody"
                f = (arms[federated].pooled if everybody else arms[federated].centers[name])["harrell_c"]
                i = (local.pooled if everybody else local.centers[name])["harrell_c"]
                gain = paired_difference(f, i)
                row[scored_on] = {"federated": _number(f.mean), "local": _number(i.mean), "gain": _interval(gain)}
                values.append(np.append(gain.mean, gain.replicates))
            rows.append(row)
        if not rows:
            return None
        size = np.log10([row["patients"] for row in rows])
        return {
            "federated": federated,
            "centers": rows,
            "mean": {scored_on: _percentiles(_mean(np.array(values))) for scored_on, values in gains.items()},
            **_slopes(size, np.array(gains["everybody"])),
        }

    # -- what plots need ---------------------------------------------------------------------------------------------

    def curves(self, arm: Arm) -> dict[str, Any] | None:
        """Training and validation per round: mean, minimum and maximum over fits, and concordance per center."""
        histories = [h for h in arm.histories if h.size]
        if not histories:
            return None
        rounds = min(len(h) for h in histories)
        per_fit = [
            [validation_metrics(h[r]) if np.isfinite(h[r]).any() else {} for r in range(rounds)] for h in histories
        ]
        result: dict[str, Any] = {"round": list(range(rounds))}
        named = {"train_loss": "train_loss", "validation_loss": "loss", "validation_concordance": "concordance"}
        for key, metric in named.items():
            table = np.array([[row.get(metric, np.nan) for row in rows] for rows in per_fit])
            result[key] = {n: _numbers(f(table)) for n, f in (("mean", _mean), ("low", _min), ("high", _max))}
        result["centers"] = {}
        if histories[0].shape[1] == len(self.study.names):
            stacked = np.stack([h[:rounds] for h in histories])  # fits, rounds, centers, columns
            with np.errstate(invalid="ignore", divide="ignore"):
                concordance = np.nansum(stacked[..., 2], axis=0) / np.nansum(stacked[..., 3], axis=0)
            for j, name in enumerate(self.study.names):
                if np.isfinite(concordance[:, j]).any():
                    result["centers"][name] = _numbers(concordance[:, j])
        return result

    def kaplan_meier(self, arm: Arm) -> list[dict[str, Any]]:
        """Observed survival in thirds of predicted risk, by fold (first repeat)."""
        groups = ("low risk", "middle", "high risk")
        test, risk = arm.tests[0], arm.predictions[0].risk
        third = np.full(len(risk), -1)
        for fold in np.unique(test.fold):
            rows = np.flatnonzero((test.fold == fold) & ~np.isnan(risk))
            third[rows] = np.argsort(np.argsort(risk[rows], kind="stable")) * len(groups) // max(len(rows), 1)
        at_risk_times = np.linspace(0, self.horizons[-1], 6)
        result = []
        for code, group in enumerate(groups):
            rows = third == code
            if not rows.any():
                continue
            event, time = test.event[rows], test.time[rows]
            times, survival, (low, high) = kaplan_meier_estimator(event, time, conf_type="log-log")
            shown = times <= self.horizons[-1] * 1.2
            result.append(
                {
                    "group": group,
                    "times": _numbers(times[shown]),
                    "survival": _numbers(survival[shown]),
                    "low": _numbers(low[shown]),
                    "high": _numbers(high[shown]),
                    "at_risk_times": _numbers(at_risk_times),
                    "at_risk": [int((time >= t).sum()) for t in at_risk_times],
                }
            )
        return result

    def calibration(self, arm: Arm) -> dict[str, dict[str, list[float | None]]]:
        """Predicted and observed risk in fifths of predicted risk per horizon (first repeat)."""
        result = {}
        for horizon in self.horizons:
            curve = calibration_curve(arm.tests[0], arm.predictions[0], horizon)
            columns = ("predicted", "observed", "low", "high", "n")
            result[f"{horizon:g}"] = {c: _numbers(getattr(curve, c)) for c in columns}
        return result


def evaluate_study(study: Study, fits: Fits) -> dict[str, Any]:
    """The parts of results.json that come from predictions: arms, differences, gain, curves, plots' data, notes."""
    evaluator = Evaluator(study, fits)
    config = study.config
    notes = [f"{name} took no part: {why}" for name, why in study.failed.items()]
    arms: dict[str, Arm | None] = {}
    for position, score in enumerate(study.schema.scores):
        arms[f"score/{score.name}"] = evaluator.score_arm(study.cohort.scores[:, position])
    for name, values in study.computed_scores.items():
        arms[f"score/{name}"] = evaluator.score_arm(values)
    if config.arms.centralized:
        arms["centralized"] = evaluator.fold_arm("centralized", "centralized")
    for strategy in config.strategies:
        arms[strategy.arm] = evaluator.fold_arm(strategy.arm, "federated")
    for name in block_arms(config, study.schema):
        arms[name] = evaluator.fold_arm(name, "block")
    for name, kind in exact_arms(config).items():
        arms[name] = evaluator.fold_arm(name, kind, config=as_network(config))
    first = config.strategies[0].arm
    if config.arms.fine_tuning:
        arms[f"{first}+fine-tuned"] = evaluator.fine_tuned_arm("fine-tuned", list(study.cohorts))
    if config.arms.left_out:
        arms[left_out_arm(config)] = evaluator.left_out_arm(left_out_arm(config))
    if config.arms.local:
        able = able_centers(study)
        for name in able:
            arms[f"local/{name}"] = evaluator.fold_arm(f"local/{name}", "local", own=name)
        small = [name for name in study.cohorts if name not in able]
        if small:
            least = config.arms.local
            notes.append(
                f"{len(small)} of {len(study.cohorts)} centers have fewer than {least.min_patients} training patients "
                f"or {least.min_events} events in some fold and train no isolated model: {', '.join(small)}"
            )
    notes += [f"{name}: a fit is missing, the arm is left out" for name, arm in arms.items() if arm is None]
    found = {name: arm for name, arm in arms.items() if arm is not None}
    learned = {name: arm for name, arm in found.items() if arm.kind in ("federated", "centralized")}
    curves = {name: evaluator.curves(arm) for name, arm in learned.items()}
    return {
        "arms": {name: arm.to_dict() for name, arm in found.items()},
        "differences": evaluator.differences(found, first),
        "gain": evaluator.gain(found, first) if first in found else None,
        "blocks": compare_blocks(evaluator, found),
        "causes": compare_causes(evaluator, found),
        "curves": {name: curve for name, curve in curves.items() if curve is not None},
        "kaplan_meier": {name: evaluator.kaplan_meier(arm) for name, arm in learned.items()},
        "calibration": {name: evaluator.calibration(arm) for name, arm in learned.items()},
        "hazard_ratios": hazard_ratio_tables(config, fits),
        "explanation": explanation(study, fits),
        "detection": detection_tables(study, fits),
        "notes": notes,
    }


def _slopes(size: Floats, gains: Floats) -> dict[str, Any]:
    """Slope of the gain over the logarithm of size: with its interval over patients, and over centers.

    Parameters
    ----------
    gains
        Of each center, the estimate and then its bootstrap replicates, shape (centers, 1 + replicates).
    """
    if len(np.unique(size)) < 2:
        return {"slope": None, "slope_over_centers": None}
    centered = size - size.mean()
    over_patients = _percentiles(centered @ gains / (centered @ centered))
    if len(size) < 3:
        return {"slope": over_patients, "slope_over_centers": None}
    fitted = linregress(size, gains[:, 0])  # as of centers drawn at random: what of other centers one may expect
    margin = float(student.ppf(0.975, len(size) - 2)) * fitted.stderr
    bounds = (fitted.slope, fitted.slope - margin, fitted.slope + margin)
    return {
        "slope": over_patients,
        "slope_over_centers": dict(zip(("mean", "low", "high"), map(_number, bounds), strict=True)),
    }


def _percentiles(values: Floats) -> dict[str, float | None]:
    """An estimate followed by its replicates, as an interval."""
    if not np.isfinite(values[1:]).any():
        return {"mean": _number(values[0]), "low": None, "high": None}
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return {"mean": _number(values[0]), "low": _number(low), "high": _number(high)}


def _common(a: TestSet, b: TestSet) -> TestSet:
    """The test set in which a pair counts if it counts in both: units are pairs of folds."""
    if a is b:
        return a
    pairs, unit = np.unique(np.stack([a.fold, b.fold]), axis=1, return_inverse=True)
    unit = unit.reshape(-1)
    training = {code: b.training[int(pairs[1, code])] for code in range(pairs.shape[1])}
    return TestSet(a.time, a.event, unit, a.center, training)


def _of_center(estimate: Estimate) -> dict[str, float | int | None]:
    """A center's estimate; with a handful of patients a bootstrap interval says nothing and is left out."""
    plain = estimate.to_dict()
    return plain if estimate.n >= FEWEST_FOR_INTERVAL else {**plain, "low": None, "high": None}


def _number(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def _numbers(values: NDArray[np.generic]) -> list[float | None]:
    return [_number(float(v)) for v in values]


def _interval(estimate: Estimate) -> dict[str, float | None]:
    return {"mean": _number(estimate.mean), "low": _number(estimate.low), "high": _number(estimate.high)}


def _over_fits(function: Any, table: Floats) -> Floats:
    values = np.full(table.shape[1], np.nan)
    some = np.isfinite(table).any(axis=0)
    values[some] = function(table[:, some], axis=0)
    return values


def _mean(table: Floats) -> Floats:
    return _over_fits(np.nanmean, table)


def _min(table: Floats) -> Floats:
    return _over_fits(np.nanmin, table)


def _max(table: Floats) -> Floats:
    return _over_fits(np.nanmax, table)


__all__ = ["Evaluator", "evaluate_study"]
