"""Hosts of several centers: how work is spread, and what one answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.center import CenterShell, CenterSpec, balance
from federation.center import Question
from federation.policy import LOG, DisclosurePolicy, read_audit
from federation.privacy.signing import BadSignature, Signer, asked_of
from federation.splits import Split
from federation.summation import Total
from tests.actors.hospitals import NAMES, SCHEMA, RollCall, federation_of, lost_file, other_schema, patients


def specs(sizes: list[float]) -> list[CenterSpec]:
    return [CenterSpec(f"C{j}", j, lambda: patients(NAMES[0]), size) for j, size in enumerate(sizes)]


@given(sizes=st.lists(st.floats(0, 1000), min_size=1, max_size=40), hosts=st.integers(1, 12))
def test_every_center_gets_one_host_and_the_work_is_even(sizes: list[float], hosts: int) -> None:
    groups = balance(specs(sizes), hosts)
    assert len(groups) == min(hosts, len(sizes))
    placed = sorted(spec.position for group in groups for spec in group)
    assert placed == list(range(len(sizes)))
    assert all([s.position for s in group] == sorted(s.position for s in group) for group in groups)
    loads = [sum(s.size for s in group) for group in groups]
    assert max(loads) <= sum(sizes) / len(groups) + max(sizes) + 1e-6  # Graham's bound for greedy lists


def test_the_largest_center_has_a_host_alone() -> None:
    groups = balance(specs([1, 1, 10, 1, 1]), 2)
    assert [[s.position for s in group] for group in groups] == [[2], [0, 1, 3, 4]]


def test_no_host_is_left_empty_when_sizes_are_unknown() -> None:
    assert all(balance(specs([0.0] * 5), 3))


def question(round: int = 0) -> tuple[str, dict[str, np.ndarray]]:
    state = {"round": np.array(round)}
    asked = Question("task", round, RollCall().declare(), state, Split(), seed=1, centers=len(NAMES))
    return asked.to_json(), state


def shell(directory: Path | None = None, **sources) -> CenterShell:  # type: ignore[no-untyped-def]
    return CenterShell(federation_of(**sources), SCHEMA, DisclosurePolicy(), directory)


def test_a_host_answers_with_one_sum_for_all_but_those_left_out() -> None:
    host = shell()
    assert host.load() == {}
    patients, sums, dropouts = host.answer(*question(), left_out=("Bonn",))
    found = Total.from_arrays(patients, sums).result()
    np.testing.assert_array_equal(found["present"], [1, 0, 1])
    assert (found.patients, dropouts) == (100, {})


def test_a_host_whose_centers_are_all_left_out_answers_with_nothing() -> None:
    assert shell().answer(*question(), left_out=NAMES) == (0, {}, {})


def test_centers_that_cannot_load_are_named_and_asked_no_more(tmp_path: Path) -> None:
    host = shell(tmp_path, Aachen=lost_file, Celle=other_schema)
    reasons = host.load()
    assert reasons.keys() == {"Aachen", "Celle"}
    assert reasons == {"Aachen": f"CohortError; {LOG}", "Celle": f"SchemaError; {LOG}"}
    inside = {name: lines[0]["details"] for name, lines in read_audit(tmp_path / "audit").items()}
    assert "/data/Aachen.csv" in inside["Aachen"]
    assert "'blasts': unit is '%' here and '' there" in inside["Celle"]
    patients, sums, dropouts = host.answer(*question(), left_out=())
    np.testing.assert_array_equal(Total.from_arrays(patients, sums).result()["present"], [0, 1, 0])
    assert dropouts == {}


def test_a_question_asked_twice_has_the_same_answer(tmp_path: Path) -> None:
    host = shell(tmp_path)
    first = host.answer(*question(2), left_out=())[1]["draws"]
    assert not np.array_equal(host.answer(*question(3), left_out=())[1]["draws"], first)
    np.testing.assert_array_equal(host.answer(*question(2), left_out=())[1]["draws"], first)
    # ... also from a host that was started again
    np.testing.assert_array_equal(shell(tmp_path).answer(*question(2), left_out=())[1]["draws"], first)


def test_a_center_that_knows_no_such_algorithm_says_so() -> None:
    text, state = question()
    _, _, dropouts = shell().answer(text.replace("roll-call", "strange-call"), state, left_out=())
    assert dropouts.keys() == set(NAMES)
    assert "knows no algorithm 'strange-call'" in dropouts["Bonn"]
    assert len(dropouts["Bonn"].splitlines()) == 1


def test_a_signed_question_is_for_one_host_and_nothing_unsigned_changes_what_a_host_holds() -> None:
    signer = Signer()
    options: tuple[Any, ...] = (SCHEMA, DisclosurePolicy(), None, "cpu", signer.public)
    first, second = (CenterShell([spec], *options) for spec in federation_of()[:2])
    arguments = (*question(), ())
    seal = signer.sign("question", "task", 0, 7, asked_of("Bonn", "answer", arguments))
    with pytest.raises(BadSignature, match="the question of run 'task', round 0 is not what"):
        first.signed(seal, "answer", *arguments)  # it has not seen number 7 yet
    found, _ = second.signed(seal, "answer", *arguments)
    assert found[0] > 0
    for call in (lambda: first.hold(federation_of()), lambda: first.rehearse(federation_of(), *question())):
        with pytest.raises(BadSignature, match="signed questions only"):
            call()


def test_hosts_whose_names_have_a_dot_keep_keys_of_their_own(tmp_path: Path) -> None:
    signer = Signer()
    towns = [CenterSpec(name, j, lambda: patients("Bonn")) for j, name in enumerate(("St. Gallen", "St. Pölten"))]
    hosts = [CenterShell([town], SCHEMA, DisclosurePolicy(), tmp_path, "cpu", signer.public) for town in towns]
    assert hosts[0].key() != hosts[1].key()
    for number, (host, town) in enumerate(zip(hosts[::-1], towns[::-1], strict=True)):  # the later number goes first
        arguments = (*question(), ())
        seal = signer.sign("question", "task", 0, 9 - number, asked_of(town.name, "answer", arguments))
        host.signed(seal, "answer", *arguments)
    again = CenterShell(towns[:1], SCHEMA, DisclosurePolicy(), tmp_path, "cpu", signer.public)
    assert again.key() == hosts[0].key()


@pytest.mark.parametrize("hosts", [1, 2, 7])
def test_balance_is_the_same_every_time(hosts: int) -> None:
    once = [[s.name for s in group] for group in balance(federation_of(), hosts)]
    assert once == [[s.name for s in group] for group in balance(federation_of(), hosts)]


def test_the_operator_of_a_node_sets_stricter_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy.yaml").write_text("max_questions: 1\n")
    monkeypatch.setenv("HAEMFED_POLICY", str(tmp_path / "policy.yaml"))
    monkeypatch.setenv("HAEMFED_LEDGERS", str(tmp_path / "ledgers"))
    host = shell(tmp_path / "run")
    patients, sums, dropouts = host.answer(*question(), left_out=())
    assert (Total.from_arrays(patients, sums).centers, dropouts) == (3, {})
    again = shell(tmp_path / "another run").answer(*question(1), left_out=())  # another process
    assert again[:2] == (0, {})
    assert all(why.startswith("rule max_questions: 1 answers were given") for why in again[2].values())
    assert again[2].keys() == set(NAMES)
