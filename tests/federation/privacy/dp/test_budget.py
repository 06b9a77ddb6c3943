"""The privacy ledger: what is entered, what is refused, and what is on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from federation.algorithm import run
from federation.policy import DisclosurePolicy, read_audit
from federation.preprocessing import FitTimeGrid
from federation.privacy.dp.accounting import Spending, spent_epsilon
from federation.privacy.dp.budget import BudgetExceeded, PrivacyLedger
from federation.privacy.dp.statistics import Noisy
from federation.privacy.ledger import LedgerError
from federation.quorum import QuorumError
from tests.federation.hospitals import federation_of

ONE = Spending("patient", 3.0)
LIMIT = spent_epsilon([Spending("patient", 3.0, 1.0, 3)], 1e-5) + 1e-3
POLICY = DisclosurePolicy(max_epsilon=LIMIT)
"""Enough for three answers."""


def test_the_answer_beyond_the_budget_is_refused_and_not_entered(tmp_path: Path) -> None:
    ledger = PrivacyLedger(tmp_path / "Ulm.privacy.json", "Ulm")
    for task in ("a", "a", "b"):
        ledger.charge(task, "time-grid", ONE, POLICY)
    with pytest.raises(
        BudgetExceeded, match=r"privacy budget: epsilon .* of which .* is spent; this question would cost"
    ):
        ledger.charge("c", "time-grid", ONE, POLICY)
    assert [(e.task, e.spending.count) for e in ledger.entries()] == [("a", 2), ("b", 1)]


def test_it_is_kept_over_runs_and_processes(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "Ulm.privacy.json"
    PrivacyLedger(path, "Ulm").charge("a", "time-grid", ONE, POLICY)
    other = PrivacyLedger(path, "Ulm")
    other.charge("a", "time-grid", ONE, POLICY)
    PrivacyLedger(path, "Ulm").charge("b", "time-grid", ONE, POLICY)
    with pytest.raises(BudgetExceeded):
        other.charge("b", "time-grid", ONE, POLICY)
    assert path.stat().st_mode & 0o077 == 0
    assert sum(e["spending"]["count"] for e in json.loads(path.read_text())["entries"]) == 3


def test_an_entry_is_on_disk_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "Ulm.privacy.json"
    ledger = PrivacyLedger(path, "Ulm")
    ledger.charge("a", "time-grid", ONE, POLICY)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OSError, match="no space"):
        ledger.charge("a", "time-grid", ONE, POLICY)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["", "{", '{"version": 1}', '{"version": 9, "entries": []}', "[]"])
def test_a_damaged_one_lets_nothing_out(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "Ulm.privacy.json"
    path.write_text(damage)
    with pytest.raises(LedgerError, match=r"Ulm.privacy.json: no privacy ledger"):
        PrivacyLedger(path, "Ulm").charge("a", "time-grid", ONE, POLICY)


def test_a_plan_that_exceeds_the_budget_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    plan = (Spending("patient", 3.0, 1.0, 4),)
    federation = federation_of(policy=DisclosurePolicy(max_epsilon=LIMIT, planned=plan), directory=tmp_path)
    with pytest.raises(QuorumError, match=r"privacy budget: epsilon .* this run would cost .* together"):
        federation.load()
    lines = [line for lines in read_audit(tmp_path / "audit").values() for line in lines]
    assert {line["task"] for line in lines} == {"load"}  # nothing was asked
    fits = DisclosurePolicy(max_epsilon=LIMIT, planned=(Spending("patient", 3.0, 1.0, 3),))
    federation_of(policy=fits, directory=tmp_path).load()


def test_a_center_with_a_budget_answers_with_noise_alone_and_until_it_is_spent(tmp_path: Path) -> None:
    with pytest.raises(QuorumError, match="rule max_epsilon: 'time-grid' asks for an answer without noise"):
        run(FitTimeGrid(), federation_of(policy=POLICY))
    with pytest.raises(QuorumError, match="rule noisy_only: 'time-grid' asks for an answer without noise"):
        run(FitTimeGrid(), federation_of(policy=DisclosurePolicy(noisy_only=True)))
    for attempt in range(3):  # over three runs: a question asked again costs again
        run(Noisy.of(FitTimeGrid(), 3.0), federation_of(policy=POLICY, directory=tmp_path, task=f"run {attempt}"))
    with pytest.raises(QuorumError, match="this question would cost"):
        run(Noisy.of(FitTimeGrid(), 3.0), federation_of(policy=POLICY, directory=tmp_path))
    said = [json.loads(line) for line in (tmp_path / "audit" / "South.jsonl").read_text().splitlines()]
    assert [line.get("noise") for line in said[:3]] == pytest.approx([3.0] * 3)
    assert "privacy budget" in said[3]["refused"]


def test_a_question_that_another_rule_refuses_costs_nothing(tmp_path: Path) -> None:
    policy = replace(POLICY, max_questions=1)
    federation = federation_of(policy=policy, directory=tmp_path)
    run(Noisy.of(FitTimeGrid(), 3.0), federation)
    with pytest.raises(QuorumError, match="rule max_questions: 1 answers were given"):
        run(Noisy.of(FitTimeGrid(), 3.0), federation)
    for center in federation.centers:
        assert [entry.spending.count for entry in center.privacy_ledger.entries()] == [1]


def test_of_two_budgets_the_smaller_holds() -> None:
    mine = DisclosurePolicy(max_epsilon=3.0, max_delta=1e-6, secure_noise=True)
    theirs = DisclosurePolicy(max_epsilon=5.0, max_delta=1e-5, secure_noise=False, noisy_only=True, planned=(ONE,))
    for both in (mine.stricter(theirs), theirs.stricter(mine)):
        assert (both.max_epsilon, both.max_delta) == (3.0, 1e-6)
        assert both.secure_noise
        assert both.noisy_only
        assert both.planned == (ONE,)


def test_noise_follows_from_the_seed_in_simulation_alone() -> None:
    algorithm = Noisy.of(FitTimeGrid(cells=40), 3.0)
    simulated = DisclosurePolicy(secure_noise=False)
    a, b = (run(algorithm, federation_of(policy=simulated))["events"] for _ in range(2))
    np.testing.assert_array_equal(a, b)
    c, d = (run(algorithm, federation_of())["events"] for _ in range(2))
    assert (c != d).any()
