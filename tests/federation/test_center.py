"""The wall: what leaves a center, what is written down about it, and that asking twice changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.algorithm import Algorithm, register
from federation.averaging import COLUMNS, ParameterAveraging
from federation.center import Center, Question
from federation.contribution import Contribution
from federation.in_process import question_for
from federation.memory import Memory
from federation.patients import Patients
from federation.policy import DisclosurePolicy, Refused
from federation.preprocessing import FitPreprocessor, OneRound
from federation.splits import Split
from federation.state import State, file_name
from federation.strategies import Scaffold
from harmonization import Cohort, SchemaError
from tests.federation.hospitals import (
    NOISY,
    SCHEMA,
    audit,
    averaging,
    federation_of,
    hospitals,
    patients,
    require_equal_states,
    states,
)

SPLIT = Split(n_folds=5, validation=0.2)


@register
@dataclass(frozen=True)
class Leaky(OneRound):
    """Answers with whatever its parameters say."""

    name = "leaky"

    claimed: int = 10
    fill: float = 0.0
    size: int = 1
    fail: bool = False

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        if self.fail:
            raise ZeroDivisionError("no\nluck")
        memory.leave({"seen": np.ones(1)})
        return Contribution(self.claimed, total=np.full(self.size, self.fill))

    def server_update(self, state: State, total: Contribution) -> State:
        return {"round": np.array(1)}


def center(cohort: Cohort | None = None, directory: Path | None = None, **options: Any) -> Center:
    return Center("North", lambda: hospitals()["North"] if cohort is None else cohort, directory=directory, **options)


def ask(algorithm: Algorithm, state: State, round: int = 0, **changes: Any) -> Question:
    question = Question("run", round, algorithm.declare(), algorithm.broadcast(state), SPLIT, seed=0, centers=3)
    return replace(question, **changes)


def leaky(**parameters: Any) -> Question:
    return ask(Leaky(**parameters), {"round": np.array(0)})


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in audit(directory, ["North"])]


# The disclosure policy -------------------------------------------------------------------------------


def test_a_center_with_too_few_training_patients_withholds(tmp_path: Path) -> None:
    for n, answers in ((0, False), (2, False), (3, True)):
        here = center(patients(n), tmp_path / str(n))
        question = replace(ask(FitPreprocessor(SCHEMA), {"round": np.array(0)}), split=Split())
        assert bool(here.answer(question)) == answers
        (line,) = lines(tmp_path / str(n))
        assert ("withheld" in line) != answers
        if not answers:
            assert line["withheld"] == f"{n} training patients, the policy wants 3"
            assert "arrays" not in line


def test_it_is_training_patients_that_count(tmp_path: Path) -> None:
    here = center(policy=DisclosurePolicy(min_patients=50))  # of 60, in five folds with a fifth for validation
    assert not here.answer(ask(FitPreprocessor(SCHEMA), {"round": np.array(0)}))
    assert center(policy=DisclosurePolicy(min_patients=35)).answer(ask(FitPreprocessor(SCHEMA), {"round": np.array(0)}))


@pytest.mark.parametrize(
    ("parameters", "policy", "message"),
    [
        ({"fill": np.nan}, DisclosurePolicy(), "'total' has values that are not finite"),
        ({"fill": np.inf}, DisclosurePolicy(), "'total' has values that are not finite"),
        ({"claimed": 2}, DisclosurePolicy(), "rule min_patients: fewer patients than the policy's 3"),
        ({"size": 1001}, DisclosurePolicy(max_bytes=8000), "rule max_bytes: more than the 8000 bytes"),
    ],
)
def test_what_breaks_the_policy_is_refused_and_written_down(
    tmp_path: Path, parameters: dict[str, Any], policy: DisclosurePolicy, message: str
) -> None:
    here = center(directory=tmp_path, policy=policy)
    # NaN and infinity are no JSON; they come out of the computation rather than the declaration.
    fill = parameters.pop("fill", 0.0)
    declared = json.loads(leaky(**parameters).algorithm)
    declared["parameters"]["fill"] = str(fill)
    with pytest.raises(Refused, match=message):
        here.answer(replace(leaky(), algorithm=json.dumps(declared)))
    (line,) = lines(tmp_path)
    assert message in line["refused"]
    assert "bytes" not in line
    assert not (tmp_path / "memory").exists()  # nor is anything remembered


def test_a_small_validation_part_is_not_looked_at() -> None:
    # Two patients' concordance would say who of them lived longer.
    algorithm = averaging()
    federation = federation_of()
    question = ask(algorithm, algorithm.start(federation.roster))
    column = COLUMNS.index("patients")
    n_validation = (SPLIT.parts(hospitals()["North"].ids, hospitals()["North"].event, "North") == 1).sum()
    seen = center().answer(question)["by_center"][0, column]
    assert seen == n_validation == 10
    strict = center(policy=DisclosurePolicy(min_patients=11)).answer(question)
    assert not strict["by_center"][0, 2:].any()
    np.testing.assert_array_equal(strict["update"], center().answer(question)["update"])


# The audit log ---------------------------------------------------------------------------------------


def test_every_answer_is_one_json_line(tmp_path: Path) -> None:
    algorithm = averaging(Scaffold(), rounds=2)
    federation = federation_of(directory=tmp_path, split=SPLIT, task="study/training")
    final = states(algorithm, federation)[-1]
    entries = lines(tmp_path)
    assert [entry["round"] for entry in entries] == [0, 1, 2]
    for entry in entries:
        assert entry["center"] == "North"
        assert entry["task"] == "study/training"
        assert entry["algorithm"] == algorithm.declare()
        assert entry["patients"] == 38
        size = len(final["weights"])
        expected = {"update": [size], "weight": [], "by_center": [3, 6], "control": [size], "population": []}
        assert entry["arrays"] == expected
        assert entry["bytes"] == 8 * (size + 1 + 18 + size + 1)
        assert datetime.fromisoformat(entry["time"]).tzinfo is not None


def test_the_log_names_no_patient_and_is_for_the_center_alone(tmp_path: Path) -> None:
    states(averaging(), federation_of(directory=tmp_path))
    text = "\n".join(audit(tmp_path))
    for cohort in hospitals().values():
        assert not any(patient in text for patient in cohort.ids)
    for path in (tmp_path / "audit").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_the_log_is_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        center(directory=tmp_path).answer(leaky())
    assert len(lines(tmp_path)) == 2


def test_without_a_directory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    states(averaging(Scaffold()), federation_of())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "Köln", "a:b*?", "x" * 60])
def test_any_name_makes_a_file_in_its_place(tmp_path: Path, name: str) -> None:
    here = Center(name, lambda: hospitals()["North"], directory=tmp_path)
    algorithm = averaging(Scaffold())
    here.answer(ask(algorithm, algorithm.start(federation_of().roster), task="a/../b"))
    assert [p.name for p in (tmp_path / "audit").iterdir()] == [f"{file_name(name)}.jsonl"]
    assert [p.name for p in (tmp_path / "memory").iterdir()] == [file_name(name, "a/../b")]
    assert {p.name for p in tmp_path.iterdir()} == {"audit", "memory"}


# Whose patients --------------------------------------------------------------------------------------


def test_the_source_is_the_centers_own_and_asked_once() -> None:
    calls = []

    def load() -> Cohort:
        calls.append(1)
        return hospitals()["North"]

    here = Center("North", load)
    assert not calls  # nobody's data are read before they are needed
    assert here.load() == 60
    here.answer(leaky())
    here.answer(leaky())
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "2"}, "center North: .*version is '2' here and '1' there"),
        (
            {"features": (replace(SCHEMA.features[0], unit="months"), *SCHEMA.features[1:])},
            "center North: .*'age': unit is 'months' here and '' there",
        ),
        (
            {"features": tuple(replace(f, name="blast_count") if f.name == "blasts" else f for f in SCHEMA.features)},
            "'blast_count' exists here only",
        ),
    ],
)
def test_another_schema_is_refused_naming_the_difference(change: dict[str, Any], message: str) -> None:
    here = center(replace(hospitals()["North"], schema=replace(SCHEMA, **change)), schema=SCHEMA)
    with pytest.raises(SchemaError, match=message):
        here.load()
    with pytest.raises(SchemaError, match=message):
        here.answer(leaky())


def test_times_are_converted_to_the_federations_unit() -> None:
    algorithm = averaging()
    question = ask(algorithm, algorithm.start(federation_of().roster))
    expected = center(schema=SCHEMA).answer(question)
    for unit in ("days", "months"):
        answer = center(hospitals()["North"].in_time_unit(unit), schema=SCHEMA).answer(question)
        for name in expected:
            np.testing.assert_allclose(answer[name], expected[name], atol=1e-9)


def test_an_algorithm_that_is_not_installed_is_not_run(tmp_path: Path) -> None:
    question = replace(leaky(), algorithm='{"algorithm": "exec", "parameters": {"code": "1"}}')
    with pytest.raises(Refused, match="this center knows no algorithm 'exec'"):
        center(directory=tmp_path).answer(question)
    (line,) = lines(tmp_path)
    assert "knows no algorithm 'exec'" in line["refused"]
    assert "bytes" not in line  # nothing left


# Asked twice -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("disk", [False, True])
def test_a_round_asked_twice_is_answered_the_same(tmp_path: Path, disk: bool) -> None:
    algorithm = averaging(Scaffold(), **NOISY)
    here = center(directory=tmp_path if disk else None)
    run = states(algorithm, federation_of(split=SPLIT))
    first = [here.answer(ask(algorithm, state, r)) for r, state in enumerate(run[:3])]
    again = here.answer(ask(algorithm, run[2], 2))
    for name in again:
        np.testing.assert_array_equal(again[name], first[2][name])
    # And from an earlier round on, as after a crash of the coordinator.
    for r in (1, 2):
        again = here.answer(ask(algorithm, run[r], r))
        for name in again:
            np.testing.assert_array_equal(again[name], first[r][name])


def test_random_numbers_depend_on_seed_task_round_and_center() -> None:
    algorithm = averaging(**NOISY)
    question = replace(ask(algorithm, algorithm.start(federation_of().roster)), split=Split())  # everybody trains
    base = center().answer(question)["update"]
    np.testing.assert_array_equal(center().answer(question)["update"], base)
    for changes in ({"seed": 1}, {"task": "other"}, {"round": 1}):
        assert not np.array_equal(center().answer(replace(question, **changes))["update"], base)
    elsewhere = Center("Elsewhere", lambda: hospitals()["North"])
    assert not np.array_equal(elsewhere.answer(question)["update"], base)


# Memory ----------------------------------------------------------------------------------------------


def remember(memory: Memory, round: int, value: float, keep_from: int = 0) -> float:
    """One round that reads what was left and leaves a number; returns what it read."""
    opened = memory.open(round)
    past = float(opened.recall().get("x", np.array(-1.0)))
    opened.leave({"x": np.array(value)})
    opened.commit(keep_from)
    return past


@pytest.mark.parametrize("disk", [False, True])
def test_a_round_reads_what_the_rounds_before_left(tmp_path: Path, disk: bool) -> None:
    memory = Memory(tmp_path if disk else None)
    assert [remember(memory, r, r) for r in (0, 1, 2, 5)] == [-1, 0, 1, 2]
    assert remember(memory, 2, 22) == 1  # the run went back; what later rounds left is gone
    assert remember(memory, 6, 6) == 22


def test_memory_outlives_the_process(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    for r in range(4):
        remember(memory, r, r)
    assert remember(Memory(tmp_path), 4, 4) == 3
    assert remember(Memory(tmp_path), 2, 2) == 1
    assert remember(Memory(tmp_path), 0, 0) == -1


def test_memory_keeps_what_a_resumed_run_may_ask_for_and_no_more(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    for r in range(10):
        remember(memory, r, r, keep_from=r // 4 * 4)
    assert sorted(int(p.stem) for p in tmp_path.iterdir()) == [7, 8, 9]  # round 8 reads what round 7 left
    assert remember(Memory(tmp_path), 8, 8) == 7


def test_a_refused_answer_leaves_no_memory(tmp_path: Path) -> None:
    here = center(directory=tmp_path, policy=DisclosurePolicy(max_bytes=4))
    with pytest.raises(Refused):
        here.answer(leaky())
    assert not (tmp_path / "memory").exists()


def test_each_task_has_a_memory_of_its_own(tmp_path: Path) -> None:
    algorithm = averaging(Scaffold())
    run = states(algorithm, federation_of())
    first = center(directory=tmp_path)
    first.answer(ask(algorithm, run[0], 0, task="a"))
    fresh = center(directory=tmp_path).answer(ask(algorithm, run[1], 1, task="b"))
    alone = center().answer(ask(algorithm, run[1], 1, task="b"))
    np.testing.assert_array_equal(fresh["control"], alone["control"])


def test_a_new_process_answers_as_the_old_one_would_have(tmp_path: Path) -> None:
    algorithm = averaging(Scaffold(), **NOISY)
    run = states(algorithm, federation_of(split=SPLIT))
    one = center(directory=tmp_path / "one")
    answers = [one.answer(ask(algorithm, run[r], r)) for r in range(3)]
    for r in range(3):
        restarted = center(directory=tmp_path / "many").answer(ask(algorithm, run[r], r))
        require_equal_states(dict(restarted), dict(answers[r]))


# The question ----------------------------------------------------------------------------------------


def test_a_question_knows_how_far_a_resumed_run_may_go_back() -> None:
    algorithm, federation = averaging(rounds=30), federation_of()
    state = {**algorithm.start(federation.roster), "round": np.array(17)}
    for every, keep_from in ((1, 17), (5, 15), (10, 10), (100, 0)):
        question = question_for(algorithm, state, "run", SPLIT, federation.roster, every)
        assert question.keep_from == keep_from
        assert question.round == 17


def test_a_question_broadcasts_what_centers_need_and_no_more() -> None:
    # Not the history, the best weights or the server's moments: they may be large, and are nobody's business.
    algorithm = averaging(Scaffold())
    state = algorithm.start(federation_of().roster)
    broadcast = algorithm.broadcast(state)
    assert isinstance(algorithm, ParameterAveraging)
    plain = {name for name in broadcast if not name.startswith("preprocessor/")}
    assert plain == {"weights", "control", "training", "progress"}
