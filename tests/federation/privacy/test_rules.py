"""No rule of a center's policy is without an attack that succeeds without it and fails with it.

Most of them are in `test_disclosure`; those of size, masks and noise are here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.algorithm import register
from federation.center import Center, Question
from federation.contribution import Contribution
from federation.in_process import question_for
from federation.kinds import SUM, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.policy import DisclosurePolicy, Refused
from federation.preprocessing import FitPreprocessor, FitTimeGrid, OneRound
from federation.privacy.dp.accounting import Spending, spent_epsilon
from federation.privacy.dp.discrete_gaussian import seeded_source
from federation.privacy.dp.statistics import Noisy
from federation.randomness import entropies
from federation.splits import Split
from federation.state import State
from tests.federation.hospitals import SCHEMA, federation_of
from tests.federation.privacy.test_disclosure import REFERENCE, asked, center, complete
from tests.test_threat_model import found_in

ATTACKS = {
    "min_patients": "test_the_sum_of_one_patient_is_that_patient",
    "max_bytes": "test_a_list_of_patients_is_no_sum",
    "masked_only": "test_a_bare_sum_is_of_one_center",
    "min_cell": "test_a_cell_of_one_patient_says_what_became_of_him",
    "min_centers": "test_a_sum_over_one_center_is_its_own",
    "declared_only": "test_a_maximum_does_not_leave",
    "declared_edges": "test_groups_that_move_find_a_maximum",
    "max_parameters_per_patient": "test_a_model_with_more_parameters_than_patients_tells_members_from_others",
    "min_difference": "test_two_sums_give_a_patient_away_unless_the_ledger_is_asked",
    "max_questions": "test_many_questions_find_a_maximum",
    "noisy_only": "test_exact_counts_say_when_a_patient_died",
    "max_epsilon": "test_the_mean_of_many_noisy_answers_is_exact",
    "max_delta": "test_a_budget_of_any_delta_is_none",
    "secure_noise": "test_noise_that_follows_from_a_seed_comes_off",
    "simulation": "test_what_other_runs_have_asked_counts_but_in_simulation",
}
"""Rule -> the test that attacks a center with and without it."""


def test_every_rule_has_an_attack() -> None:
    assert {f.name for f in fields(DisclosurePolicy)} - {"planned"} == ATTACKS.keys()
    for name in ATTACKS.values():
        assert found_in("test_disclosure.py", name) or found_in("test_rules.py", name), name


def test_the_sum_of_one_patient_is_that_patient() -> None:
    cohort = complete(1)
    answer = center(cohort, DisclosurePolicy(min_patients=1)).answer(asked(FitPreprocessor(SCHEMA)))
    assert REFERENCE + answer["total"][0] == pytest.approx(cohort.column("age")[0])
    assert not center(cohort).answer(asked(FitPreprocessor(SCHEMA)))


@register
@dataclass(frozen=True)
class Rows(OneRound):
    """Says that it sums, and lists all patients."""

    name = "test-rows"
    kinds = declare({"rows": SUM})

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        return Contribution(len(patients.train), rows=patients.train.values)

    def server_update(self, state: State, total: Contribution) -> State:
        return {"round": np.array(1)}


def test_a_list_of_patients_is_no_sum() -> None:
    cohort = complete(200)
    answer = center(cohort).answer(asked(Rows()))
    np.testing.assert_array_equal(answer["rows"], cohort.values)
    small = DisclosurePolicy(max_bytes=2000)
    with pytest.raises(Refused, match="rule max_bytes: more than the 2000 bytes that the policy allows"):
        center(cohort, small).answer(asked(Rows()))
    assert center(cohort, small).answer(asked(FitPreprocessor(SCHEMA)))  # a sum is short, however many patients


def test_a_bare_sum_is_of_one_center() -> None:
    cohort = complete(20)
    answer = center(cohort).answer(asked(FitPreprocessor(SCHEMA)))
    assert answer["total"][2] == cohort.column("mutated").sum()  # how many have the mutation at this hospital
    with pytest.raises(Refused, match="masked_only"):
        center(cohort, DisclosurePolicy(masked_only=True)).answer(asked(FitPreprocessor(SCHEMA)))


def question(algorithm: Any, task: str = "run", split: Split | None = None) -> Question:
    roster = federation_of().roster
    return question_for(algorithm, algorithm.start(roster), task, split or Split(), roster, 10)


def events(here: Center, algorithm: Any, task: str = "run") -> Any:
    return here.answer(question(algorithm, task))["events"]


GRID = FitTimeGrid(horizon=10.0, cells=40)
NOISE = 4.0


def test_exact_counts_say_when_a_patient_died() -> None:
    """Who knows of all others knows the rest; not so under noise."""
    cohort = complete(60)
    victim = int(np.flatnonzero(cohort.event)[0])
    others = events(center(cohort[np.arange(60) != victim]), GRID)
    found = int(np.argmax(events(center(cohort), GRID) - others))
    assert GRID.edges[found] - 0.25 < cohort.time[victim] <= GRID.edges[found]
    strict = DisclosurePolicy(noisy_only=True, secure_noise=False)
    with pytest.raises(Refused, match="rule noisy_only"):
        events(center(cohort, strict), GRID)
    noisy = [
        int(np.argmax(events(center(cohort, strict), Noisy.of(GRID, NOISE), f"try {r}") - others)) for r in range(40)
    ]
    assert np.mean(np.array(noisy) == found) < 0.3


def test_the_mean_of_many_noisy_answers_is_exact(tmp_path: Path) -> None:
    cohort = complete(60)
    exact, algorithm = events(center(cohort), GRID), Noisy.of(GRID, NOISE)

    def mean(policy: DisclosurePolicy, directory: Path | None = None) -> Any:
        here, answers = center(cohort, policy, directory), []
        for _ in range(600):
            try:
                answers.append(events(here, algorithm))
            except Refused as refusal:
                assert "privacy budget" in str(refusal)  # noqa: PT017
                break
        return np.mean(answers, axis=0), len(answers)

    found, asked_for = mean(DisclosurePolicy())
    assert asked_for == 600
    assert np.abs(found - exact).max() < 5 * NOISE / np.sqrt(600)
    found, asked_for = mean(DisclosurePolicy(max_epsilon=2.0), tmp_path)
    assert 1 <= asked_for < 5
    assert np.abs(found - exact).max() > 2


def test_a_budget_of_any_delta_is_none() -> None:
    """With delta near 1 nothing costs anything; a center's own bound on delta holds."""
    spent = [Spending("patient", NOISE, 1.0, 600)]
    assert spent_epsilon(spent, 0.999999) < 2.0
    both = DisclosurePolicy(max_epsilon=2.0, max_delta=0.999999).stricter(
        DisclosurePolicy(max_epsilon=2.0, max_delta=1e-5)
    )
    assert both.max_delta == 1e-5
    assert spent_epsilon(spent, both.max_delta) > 20


def test_noise_that_follows_from_a_seed_comes_off() -> None:
    cohort, algorithm = complete(60), Noisy.of(GRID, NOISE)
    exact = events(center(cohort), GRID)

    def without_noise(here: Center) -> Any:
        """What who knows the run's seed makes of an answer."""
        asked_for = question(algorithm)
        mechanism = algorithm.mechanism(asked_for.state, SCHEMA)
        path = entropies(asked_for.seed, algorithm.name, asked_for.task, asked_for.round, here.name, "noise")
        alone = mechanism.release(Contribution(60, events=np.zeros(40)), seeded_source(*path))
        return here.answer(asked_for)["events"] - alone["events"]

    np.testing.assert_allclose(without_noise(center(cohort, DisclosurePolicy(secure_noise=False))), exact, atol=1e-4)
    assert np.abs(without_noise(center(cohort)) - exact).max() > 3
