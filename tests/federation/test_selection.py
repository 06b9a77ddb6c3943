"""The best round is chosen on validation patients; test patients influence nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.algorithm import run
from federation.averaging import COLUMNS, Selection, result, validation_metrics
from federation.baseline import FitBaseline
from federation.center import Center
from federation.contribution import Contribution
from federation.in_process import InProcessFederation
from federation.preprocessing import FitPreprocessor, FitTimeGrid, preprocessor_of
from federation.splits import TEST, TRAIN, VALIDATION, Split
from federation.state import State
from federation.strategies import Scaffold
from harmonization import Cohort
from models.survival.metrics import concordance_counts
from models.survival.network import build_network
from models.training import TrainingOptions, mean_loss, predict
from tests.federation.hospitals import (
    NOISY,
    SCHEMA,
    averaging,
    design,
    federation_of,
    hospitals,
    preprocessor,
    states,
)

SPLIT = Split(n_folds=4, fold=2, validation=0.3)
OVERFIT: Mapping[str, Any] = {
    "model_parameters": {"hidden": [16]},
    "training": TrainingOptions(steps=5, learning_rate=0.5, optimizer="momentum"),
}
"""Training long enough for validation to turn."""


def parts(split: Split = SPLIT) -> dict[str, NDArray[np.int64]]:
    return {name: split.parts(c.ids, c.event, name) for name, c in hospitals().items()}


def spoiled(part: int, seed: int = 0) -> dict[str, Cohort]:
    """The hospitals with other values, times and events for the patients of one part."""
    rng = np.random.default_rng(seed)
    changed = {}
    for name, cohort in hospitals().items():
        here = parts()[name] == part
        values, time, event = cohort.values.copy(), cohort.time.copy(), cohort.event.copy()
        values[here, :3] = np.column_stack([rng.normal(0, 500, here.sum()), rng.poisson(90, here.sum()), ~here[here]])
        time[here], event[here] = rng.uniform(0, 50, here.sum()), rng.random(here.sum()) < 0.9
        changed[name] = replace(cohort, values=values, time=time, event=event)
    return changed


def fit(cohorts: Mapping[str, Cohort], **changes: Any) -> dict[str, NDArray[Any]]:
    """Everything that is fitted for one model: preprocessor, time grid, weights, baseline hazard."""
    federation = federation_of(cohorts, parts())
    prepared = run(FitPreprocessor(SCHEMA), federation)
    grid = run(FitTimeGrid(horizon=6.0), federation)["grid"]
    settings: dict[str, Any] = {"rounds": 8, **OVERFIT, "selection": Selection(patience=3)} | changes
    algorithm = averaging(preprocessor=preprocessor_of(prepared), **settings)
    trained = run(algorithm, federation)
    baseline = run(
        FitBaseline("deepsurv", settings["model_parameters"], result(trained), preprocessor_of(prepared), grid),
        federation,
    )
    kept = ("history", "best_weights", "best_round", "weights")
    return {**prepared, "grid": grid, **{name: trained[name] for name in kept}, **baseline}


# Test patients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"strategy": Scaffold(), **NOISY}, {"selection": Selection("concordance")}])
def test_no_test_patient_has_any_influence(changes: dict[str, Any]) -> None:
    first, second = fit(hospitals(), **changes), fit(spoiled(TEST), **changes)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_training_and_validation_patients_have() -> None:
    # So the test above can fail.
    first = fit(hospitals())
    trained = fit(spoiled(TRAIN))
    for name in ("mean", "grid", "history", "weights", "best_weights", "cumulative"):
        assert not np.array_equal(first[name], trained[name], equal_nan=True), name
    validated = fit(spoiled(VALIDATION), selection=Selection())
    plain = fit(hospitals(), selection=Selection())
    for name in ("mean", "scale", "grid", "weights"):
        np.testing.assert_array_equal(plain[name], validated[name], err_msg=name)
    assert not np.array_equal(plain["history"], validated["history"])


def test_with_splits_drawn_by_id_test_patients_values_and_times_do_not_count() -> None:
    changed = {
        name: replace(
            c,
            values=np.where((parts()[name] == TEST)[:, None], c.values[::-1], c.values),
            time=np.where(parts()[name] == TEST, c.time + 40, c.time),
        )
        for name, c in hospitals().items()
    }
    a, b = (run(averaging(**OVERFIT), federation_of(cohorts, split=SPLIT)) for cohorts in (hospitals(), changed))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_validation_is_measured_on_validation_patients_before_training() -> None:
    seen = states(averaging(**OVERFIT), federation_of(split=SPLIT))
    network = build_network("deepsurv", preprocessor().n_features, OVERFIT["model_parameters"])
    for r, state in enumerate(seen[:-1]):
        for j, (name, cohort) in enumerate(hospitals().items()):
            data = design(cohort[parts()[name] == VALIDATION])
            row = dict(zip(COLUMNS, seen[-1]["history"][r, j], strict=True))
            risk = predict(network, state["weights"], data.x)
            assert (row["concordant"], row["comparable"]) == concordance_counts(data.time, data.event, risk)
            loss = mean_loss(network, state["weights"], data)
            assert row["validation_loss"] == pytest.approx(len(data) * loss, rel=1e-6)
            assert row["patients"] == len(data)


# The best round --------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["loss", "concordance"])
def test_the_best_round_is_the_best_of_the_history(metric: Literal["loss", "concordance"]) -> None:
    algorithm = averaging(rounds=15, selection=Selection(metric), **OVERFIT)
    seen = states(algorithm, federation_of(split=SPLIT))
    values = np.array([validation_metrics(rows)[metric] for rows in seen[-1]["history"]])
    best = int(values.argmin() if metric == "loss" else values.argmax())
    assert seen[-1]["best_round"] == best
    assert 0 < best < 15  # neither end: the choice matters
    np.testing.assert_array_equal(result(seen[-1]), seen[best]["weights"])
    assert not np.array_equal(result(seen[-1]), seen[-1]["weights"])


def test_the_last_rounds_weights_can_be_the_best() -> None:
    algorithm = averaging(rounds=4)
    seen = states(algorithm, federation_of(split=SPLIT))
    assert len(seen) == 6  # the question after the last training round validates its weights
    assert seen[-1]["best_round"] == 4
    np.testing.assert_array_equal(result(seen[-1]), seen[4]["weights"])


def test_the_best_weights_are_a_copy() -> None:
    # best = module.state_dict() without a copy is overwritten by the rounds that follow.
    algorithm = averaging(rounds=15, **OVERFIT)
    kept: dict[int, NDArray[np.float32]] = {}
    final: State = {}
    federation = federation_of(split=SPLIT)
    for state in states(algorithm, federation):
        kept[int(state["round"])] = state["weights"].copy()
        final = state
    best = int(final["best_round"])
    np.testing.assert_array_equal(result(final), kept[best])
    for later in range(best + 1, 16):
        assert not np.array_equal(result(final), kept[later])


def test_of_equal_rounds_the_first_is_kept() -> None:
    still = averaging(rounds=4, training=TrainingOptions(steps=1, learning_rate=1e-30))
    assert run(still, federation_of(split=SPLIT))["best_round"] == 0


def test_without_validation_patients_it_is_the_last_round() -> None:
    algorithm = averaging(rounds=6, selection=Selection(patience=1), **OVERFIT)
    seen = states(algorithm, federation_of())
    assert seen[-1]["best_round"] == 6
    np.testing.assert_array_equal(result(seen[-1]), seen[6]["weights"])


class Silent(Center):
    """Does not validate in some rounds, as if those who have validation patients had dropped out."""

    rounds: tuple[int, ...] = ()

    def answer(self, question):  # type: ignore[no-untyped-def]
        answer = super().answer(question)
        heard = answer["by_center"].copy()
        heard[:, COLUMNS.index("concordant") :] *= question.round not in self.rounds
        return Contribution.of(answer.patients, {**answer, "by_center": heard})


@pytest.mark.parametrize("silent", [(11, 12, 15), (0, 1), (0, 12, 15)])
def test_a_round_without_validation_is_never_better_than_one_with(silent: tuple[int, ...]) -> None:
    centers = [Silent(name, lambda c=c: c, j, SCHEMA) for j, (name, c) in enumerate(hospitals().items())]  # type: ignore[misc]
    for center in centers:
        center.rounds = silent
    algorithm = averaging(rounds=15, **OVERFIT)
    seen = states(algorithm, InProcessFederation(centers, split=SPLIT))
    values = np.array([validation_metrics(rows)["loss"] for rows in seen[-1]["history"]])
    assert np.isnan(values[list(silent)]).all()
    best = int(np.nanargmin(values))
    assert 0 < best < 11
    assert seen[-1]["best_round"] == best
    np.testing.assert_array_equal(result(seen[-1]), seen[best]["weights"])


# Early stopping --------------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_after_so_many_rounds_without_a_better_one(patience: int) -> None:
    algorithm = averaging(rounds=30, selection=Selection(patience=patience), **OVERFIT)
    seen = states(algorithm, federation_of(split=SPLIT))
    final = seen[-1]
    assert final["stopped"]
    asked = int(final["round"])
    assert asked < 31
    assert asked - 1 - int(final["best_round"]) == patience
    np.testing.assert_array_equal(result(final), seen[int(final["best_round"])]["weights"])
    patient = run(replace(algorithm, selection=Selection()), federation_of(split=SPLIT))
    np.testing.assert_array_equal(final["history"][:asked], patient["history"][:asked])  # nothing else changes


def test_no_patience_trains_all_rounds() -> None:
    final = run(averaging(rounds=15, **OVERFIT), federation_of(split=SPLIT))
    assert not final["stopped"]
    assert final["round"] == 16


# The metrics -----------------------------------------------------------------------------------------


def test_metrics_are_ratios_of_sums_over_centers() -> None:
    rows = np.array([[10, 5, 30, 40, 20, 8], [30, 6, 1, 10, 5, 4], [np.nan] * 6, [0] * 6], dtype=float)
    shown = validation_metrics(rows)
    assert shown == {"train_loss": 11 / 40, "concordance": 31 / 50, "loss": 12 / 25}
    assert validation_metrics(rows[0]) == {"train_loss": 0.5, "concordance": 0.75, "loss": 0.4}


def test_without_anything_to_divide_by_they_are_unknown() -> None:
    assert all(np.isnan(value) for value in validation_metrics(np.zeros((3, 6))).values())
