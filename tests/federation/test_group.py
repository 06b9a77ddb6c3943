"""Centers that answer together give what each gives alone, through walls of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.algorithm import answers_together, run
from federation.averaging import COLUMNS, ParameterAveraging
from federation.center import Center, Question
from federation.contribution import Contributions
from federation.group import CenterGroup
from federation.in_process import InProcessFederation, question_for
from federation.memory import Memory, SharedMemory
from federation.policy import LOG, AuditLog, DisclosurePolicy, Refused, read_audit
from federation.splits import Split
from federation.state import State
from federation.strategies import STRATEGIES, FedBuff, Scaffold, Strategy
from federation.summation import Total
from models.training import TrainingOptions
from tests.federation.hospitals import (
    NOISY,
    SCHEMA,
    averaging,
    federation_of,
    hospitals,
    patients,
    preprocessor,
    states,
)

SPLIT = Split(seed=1, validation=0.25)
MODELS: dict[str, dict[str, Any]] = {
    "linear": {"model": "cox", "model_parameters": {}},
    "linear, breslow": {"model": "cox", "model_parameters": {"ties": "breslow"}},
    "tanh": {},
    "relu, three layers": {"model_parameters": {"hidden": [5, 4, 3]}},
    "dropout": {"model_parameters": NOISY["model_parameters"]},
    "savae, missing values": {
        "model": "savae",
        "model_parameters": {"latent": 2, "hidden": 4, "annealing": 1.0, "kl_weight": 1.0},
        "preprocessor": preprocessor("keep"),
    },
}
MINI = TrainingOptions(epochs=2, batch_size=12, learning_rate=0.05, weight_decay=0.01)


def one_by_one(algorithm: ParameterAveraging, monkeypatch: pytest.MonkeyPatch) -> State:
    """The same algorithm with every center computing alone."""
    with monkeypatch.context() as patched:
        patched.setattr(type(algorithm), "client_updates", lambda *arguments: None)
        return run(algorithm, federation_of(split=SPLIT))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_model_and_strategy(name: str, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy: Strategy = FedBuff(buffer=2) if name == "fedbuff" else STRATEGIES[name]()
    algorithm = averaging(strategy, training=MINI, rounds=3, sample=0.67, **MODELS[model])
    together = run(algorithm, federation_of(split=SPLIT))
    alone = one_by_one(algorithm, monkeypatch)
    assert together.keys() == alone.keys()
    moved = np.linalg.norm(alone["weights"] - algorithm.start(federation_of().roster)["weights"])
    assert moved > 1e-3
    assert np.linalg.norm(together["weights"].astype(float) - alone["weights"]) <= 1e-5 * moved + 1e-6
    for key in together:
        close = {"rtol": 2e-5, "atol": 2e-6}
        np.testing.assert_allclose(together[key], alone[key], err_msg=key, equal_nan=True, **close)


# -- walls ---------------------------------------------------------------------------------------------------------


def group_of(cohorts: Mapping[str, Any], directory: Path | None = None, **options: Any) -> CenterGroup:
    log = None if directory is None else AuditLog(directory / "audit" / "host.jsonl")
    centers = [
        Center(name, lambda c=c: c, j, SCHEMA, options.get("policy"), log=log)  # type: ignore[misc]
        for j, (name, c) in enumerate(cohorts.items())
    ]
    return CenterGroup(centers, log, directory=None if directory is None else directory / "memory")


def asked(algorithm: ParameterAveraging, names: Mapping[str, Any], round: int = 0, **state: Any) -> Question:
    federation = InProcessFederation([Center(n, lambda: None, j) for j, n in enumerate(names)])  # type: ignore[arg-type, return-value]
    start = {**algorithm.start(federation.roster), "round": np.array(round), **state}
    return question_for(algorithm, start, "task", SPLIT, federation.roster, 10)


def broken(n: int, seed: int) -> Any:
    cohort = patients(n, seed)
    cohort.values[3, 0] = 1e300
    return cohort


def test_each_center_of_a_host_has_its_own_verdict_and_its_line(tmp_path: Path) -> None:
    cohorts = {**hospitals(), "Bad": broken(30, 5), "Tiny": patients(2, 6)}
    group, algorithm = group_of(cohorts, tmp_path), averaging()
    total, dropouts = group.answer(asked(algorithm, cohorts))
    assert dropouts.keys() == {"Bad"}
    assert "not finite (did the loss turn NaN?)" in dropouts["Bad"]
    alone, _ = group_of(hospitals()).answer(asked(algorithm, hospitals()))
    np.testing.assert_array_equal(total.result()["update"], alone.result()["update"])
    assert not total.result()["by_center"][3:].any()

    (line,) = (tmp_path / "audit" / "host.jsonl").read_text().splitlines()  # one write
    found = read_audit(tmp_path / "audit")
    assert found.keys() == cohorts.keys()
    assert "refused" in found["Bad"][0]
    assert found["Tiny"][0]["withheld"] == "2 training patients, the policy wants 3"
    assert found["North"][0]["patients"] == total.result()["by_center"][0, COLUMNS.index("weight")]
    assert found["North"][0]["arrays"]["by_center"] == [5, len(COLUMNS)]
    assert found["North"][0]["bytes"] > 0
    assert "patient-" not in line


def test_the_policy_is_checked_contribution_by_contribution() -> None:
    values = np.ones((4, 3))
    values[1, 2], values[2, 0] = np.nan, np.inf
    found = Contributions(np.array([5, 5, 5, 2]), {"x": values}, refused={0: Refused("says the algorithm")})
    reasons = DisclosurePolicy().check_all(found)
    assert reasons.keys() == {0, 1, 2, 3}
    assert str(reasons[0]) == "says the algorithm"
    for i, why in reasons.items():
        if i:
            with pytest.raises(Refused) as caught:
                DisclosurePolicy().check(found[i])
            assert str(caught.value) == str(why)
    large = Contributions(np.array([5, 5]), {"x": np.ones((2, 3))})
    assert DisclosurePolicy(max_bytes=23).check_all(large).keys() == {0, 1}
    assert DisclosurePolicy(max_bytes=24).check_all(large) == {}
    assert not DisclosurePolicy().check_all(Contributions(np.array([5]), {"x": np.full((1, 2), 1e308)}))


def test_when_computing_together_fails_each_is_asked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = averaging()
    whole, _ = group_of(hospitals()).answer(asked(algorithm, hospitals()))
    inner = ParameterAveraging.client_updates

    def fails(self: Any, state: Any, patients: Any, *rest: Any) -> Any:
        if len(patients) == 1:
            if patients.positions[0] == 1:
                raise OSError("no memory left")
            yield from inner(self, state, patients, *rest)
            return
        for part in inner(self, state, patients, *rest):
            yield Contributions(
                part.patients[:1],
                {n: a[:1] for n, a in part.arrays.items()},
                {n: a[:1] for n, a in part.rows.items()},
                part.positions[:1],
                part.centers,
            )
            raise MemoryError

    monkeypatch.setattr(ParameterAveraging, "client_updates", fails)
    total, dropouts = group_of(hospitals()).answer(asked(algorithm, hospitals()))
    assert dropouts == {"South": f"OSError; {LOG}"}
    rows = whole.result()["by_center"].copy()
    rows[1] = 0
    np.testing.assert_array_equal(total.result()["by_center"], rows)  # the first counted once


def test_a_center_whose_memory_cannot_be_written_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    group, algorithm = group_of(hospitals()), averaging(Scaffold())
    full = group.centers[2].memory("task")

    def commit(keep_from: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(full, "commit", commit)
    total, dropouts = group.answer(asked(algorithm, hospitals()))
    assert dropouts == {"West": f"OSError; {LOG}"}
    assert not total.result()["by_center"][2].any()


def test_a_subclass_that_changes_one_center_is_not_computed_together() -> None:
    @dataclass(frozen=True)
    class Changed(ParameterAveraging):
        name = "changed"

        def client_update(self, *arguments: Any) -> Any:
            return super().client_update(*arguments)

    assert answers_together(Changed("cox"), {}, None, None, []) is None  # type: ignore[arg-type]


# -- one memory for all --------------------------------------------------------------------------------------------


def test_the_memory_of_a_host_goes_on_in_another_process_and_packing(tmp_path: Path) -> None:
    algorithm = averaging(Scaffold(), rounds=6, training=MINI)
    names = hospitals()
    federation = federation_of()
    whole = states(algorithm, federation)

    def question(r: int) -> Question:
        return question_for(algorithm, whole[r], "run", Split(), federation.roster, 2)

    first = group_of(names, tmp_path)
    for r in range(4):
        first.answer(question(r))
    assert [p.name.split("--")[0] for p in sorted((tmp_path / "memory" / "run").iterdir())] == ["1", "2", "3"]
    expected = [first.answer(question(r))[0].result()["control"] for r in (2, 3)]  # rounds asked again
    np.testing.assert_allclose(expected[0], whole[3]["control"] * 114, rtol=1e-4, atol=1e-6)

    def hosts() -> list[CenterGroup]:
        parts = []
        for chosen in (("North",), ("South", "West")):
            part = group_of(names, tmp_path)
            part.centers = [c for c in part.centers if c.name in chosen]
            parts.append(part)
        return parts

    for r, control in zip((2, 3), expected, strict=True):
        one, two = (part.answer(question(r))[0] for part in hosts())
        one.merge(two)
        np.testing.assert_array_equal(one.result()["control"], control)


def test_a_shared_file_forgets_what_can_no_longer_be_asked(tmp_path: Path) -> None:
    memories = {"A/1": Memory(), "B": Memory()}
    shared = SharedMemory(tmp_path, "host", memories)
    for r in range(7):
        for name, memory in memories.items():
            memory.open(r)
            if name == "B" or r == 1:
                memory.leave({"x": np.array(float(r))})
            memory.commit(keep_from=r // 3 * 3)
        shared.commit(r, r // 3 * 3)
    again = {"A/1": Memory(), "B": Memory()}
    SharedMemory(tmp_path, "host", again)
    assert [int(m.open(7).recall()["x"]) for m in again.values()] == [1, 6]
    assert [int(m.open(6).recall()["x"]) for m in again.values()] == [1, 5]
    assert len(list(tmp_path.iterdir())) <= 4


def test_left_out_centers_are_not_asked(tmp_path: Path) -> None:
    group = group_of(hospitals(), tmp_path)
    question = asked(averaging(), hospitals())
    total, _ = group.answer(question, ("South",))
    assert (total.result()["by_center"].any(axis=1) == [True, False, True]).all()
    assert read_audit(tmp_path / "audit").keys() == {"North", "West"}
    both, _ = group.answer(replace(question, round=0))
    assert both.result()["by_center"].any(axis=1).all()


def test_a_host_whose_centers_compute_alone_keeps_their_memory_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = averaging(Scaffold(), training=MINI)
    monkeypatch.setattr(ParameterAveraging, "client_updates", lambda *arguments: None)
    whole = states(algorithm, federation_of())
    question = [question_for(algorithm, s, "run", Split(), federation_of().roster, 10) for s in whole[:3]]
    first = group_of(hospitals(), tmp_path)
    expected = [first.answer(q)[0].result()["control"] for q in question][2]
    again = group_of(hospitals(), tmp_path).answer(question[2])[0].result()["control"]
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("strategy", ["scaffold", "fedbuff"])
def test_one_two_or_four_hosts_in_any_order_give_the_same_bits(strategy: str) -> None:
    cohorts = {f"H{j}": patients(5 + (j * j) % 60, seed=j) for j in range(24)}
    chosen: Strategy = FedBuff(buffer=5) if strategy == "fedbuff" else STRATEGIES[strategy]()
    algorithm = averaging(chosen, training=MINI, rounds=4, model_parameters={"hidden": [16, 8]})

    def final(hosts: int, order: np.random.Generator) -> State:
        groups = [group_of(cohorts) for _ in range(hosts)]
        for h, group in enumerate(groups):
            group.centers = group.centers[h::hosts]
        roster = InProcessFederation([Center(n, lambda: None, j) for j, n in enumerate(cohorts)]).roster  # type: ignore[arg-type, return-value]
        state = algorithm.start(roster)
        while not algorithm.done(state):
            question = question_for(algorithm, state, "run", SPLIT, roster, 10)
            parts = [group.answer(question)[0] for group in groups]
            total = Total()
            for i in order.permutation(hosts):
                total.merge(Total.from_arrays(parts[i].patients, parts[i].to_arrays()))
            state = algorithm.server_update(state, total.result())
        return state

    once = final(1, np.random.default_rng(0))
    for hosts, seed in ((2, 1), (4, 2), (4, 3)):
        again = final(hosts, np.random.default_rng(seed))
        assert again.keys() == once.keys()
        for name in once:
            np.testing.assert_array_equal(again[name], once[name], err_msg=name)
