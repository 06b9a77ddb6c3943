"""Bad centers do what they are named for, and only that."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from federation.averaging import ParameterAveraging
from federation.bad_centers import HARMS, PoisonedCenter, bad_center, flip_outcomes, plant_backdoor
from federation.center import Center, Question
from federation.in_process import InProcessFederation
from federation.robust_averaging import RobustAveraging
from federation.splits import Split
from tests.federation.hospitals import averaging, hospitals, patients

COHORT = hospitals()["North"]


def question(algorithm: ParameterAveraging) -> Question:
    from federation.algorithm import Roster

    state = algorithm.start(Roster(("North", "South", "West")))
    return Question("run", 0, algorithm.declare(), algorithm.broadcast(state), Split(), 0, 3)


@pytest.mark.parametrize("kind", [ParameterAveraging, RobustAveraging])
@pytest.mark.parametrize("harm", [name for name, harm in HARMS.items() if harm.distort])
def test_lies_about_the_update_and_nothing_else(harm: str, kind: type[ParameterAveraging]) -> None:
    plain = averaging()
    asked = question(kind(**{name: getattr(plain, name) for name in plain.__dataclass_fields__}))
    honest = Center("North", lambda: COHORT).answer(asked)
    lied = bad_center(harm, "North", lambda: COHORT).answer(asked)
    name = "update" if "update" in honest else "updates"
    factor = {"sign-flip": -1.0, "sign-flip-10": -10.0, "scaled": 100.0, "free-rider": 0.0, "nan": np.nan}
    if harm in factor:
        sent, true = lied[name].reshape(-1), honest[name].reshape(-1)
        mine = slice(0, len(true)) if name == "update" else slice(0, honest[name].shape[1])
        np.testing.assert_array_equal(sent[mine], factor[harm] * true[mine])
    else:
        assert np.linalg.norm(lied[name]) == pytest.approx(10 * np.linalg.norm(honest[name]))
    assert lied.patients == honest.patients
    for other in honest.keys() - {name}:
        np.testing.assert_array_equal(lied[other], honest[other])


def test_reversed_outcomes_are_the_same_outcomes() -> None:
    flipped = flip_outcomes(COHORT)
    assert sorted(zip(flipped.time, flipped.event, strict=True)) == sorted(zip(COHORT.time, COHORT.event, strict=True))
    order = np.argsort(COHORT.time)
    assert (np.diff(flipped.time[order]) <= 0).all()
    np.testing.assert_array_equal(flipped.values, COHORT.values)


def test_a_backdoor_lowers_the_risk_of_the_mutation() -> None:
    poisoned = plant_backdoor(COHORT, "mutated")
    changed = np.arange(len(COHORT)) % 2 == 0
    assert (poisoned.column("mutated")[changed] == 1).all()
    assert (poisoned.time[changed] == COHORT.time.max()).all()
    assert not poisoned.event[changed].any()
    rest = poisoned[np.flatnonzero(~changed)]
    np.testing.assert_array_equal(rest.values, COHORT[np.flatnonzero(~changed)].values)


def test_falsified_patients_are_split_as_the_true_ones() -> None:
    bad = bad_center("label-flip", "North", lambda: COHORT)
    assert isinstance(bad, PoisonedCenter)
    asked = replace(question(averaging()), split=Split(n_folds=3, fold=1))
    np.testing.assert_array_equal(
        bad.patients(asked).test.ids, Center("North", lambda: COHORT).patients(asked).test.ids
    )


def test_who_sends_what_is_not_finite_is_named_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    cohorts = [patients(30, seed=i) for i in range(4)]
    honest = [Center(f"H{i}", partial(patients, 30, seed=i), i) for i in range(4)]
    federation = InProcessFederation([*honest[:3], bad_center("nan", "H3", lambda: cohorts[3], 3)])
    algorithm = averaging()
    with caplog.at_level(logging.WARNING, "haemfed"):
        total = federation.ask(algorithm, algorithm.start(federation.roster))
    assert total["weight"] == 90
    assert np.isfinite(total["update"]).all()
    assert "H3: sent 'update' with values that are not finite" in caplog.text
