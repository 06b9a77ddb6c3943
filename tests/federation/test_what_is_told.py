"""What leaves a center when something goes wrong: rules, names and public bounds, and nothing of any patient."""

from __future__ import annotations

import pickle
import re
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.center import CenterFailed, CenterShell, CenterSpec
from federation.algorithm import Algorithm, register
from federation.center import Center
from federation.contribution import Contribution
from federation.group import CenterGroup
from federation.in_process import InProcessFederation, question_for
from federation.kinds import MODEL, SUM, WHOLE_COUNT, declare
from federation.policy import LOG, DisclosurePolicy, Refused, read_audit
from federation.preprocessing import FitPreprocessor, OneRound
from federation.privacy.dp.mechanism import Covered, Mechanism
from federation.privacy.fixed_point import FixedPoint
from federation.privacy.secure import FixedPointSum
from federation.splits import Split
from federation.state import State
from harmonization import Cohort, CohortError, Schema
from tests.federation.hospitals import SCHEMA, averaging, patients

PATIENT, ODD = "patient-of-room-4711", 7.3194e21


@register
@dataclass(frozen=True)
class Answers(OneRound):
    """Answers with one array, or fails with a patient in its text."""

    name = "answers"
    kinds = declare({"total": SUM, "counts": WHOLE_COUNT, "model": MODEL})

    array: str = "total"
    value: float = ODD
    behind: int = 30

    def client_update(self, state: State, patients: Any, rng: Any, memory: Any) -> Contribution:
        if self.array == "error":
            raise KeyError(f"{PATIENT}: {ODD}")
        return Contribution.of(self.behind, {self.array: np.array([self.value, 60.0])})

    def server_update(self, state: State, total: Contribution) -> State:
        return {"round": np.array(1)}


@register
@dataclass(frozen=True)
class Bounded(Answers):
    """Says that its answer is short."""

    name = "bounded-answers"

    def mechanism(self, state: State, schema: Schema) -> Mechanism:
        return Mechanism("center", {"total": Covered(1.0, 1.0)})


def odd() -> Cohort:
    """Patients of whom one has an odd number."""
    cohort = patients(30, 5)
    cohort.values[3, 0] = ODD
    return cohort


def unreadable() -> Cohort:
    raise CohortError(f"{ODD} of {PATIENT} is no age", source="Ulm.csv", row=4711, column="age")


CASES: dict[str, tuple[Algorithm, dict[str, Any], str]] = {  # what is asked, the policy, and what is told
    "an unexpected error": (Answers("error"), {}, f"KeyError; {LOG}"),
    "a number that does not fit": (FitPreprocessor(SCHEMA), {}, "a number does not fit: the fixed point"),
    "the same of a center that looks closer": (Answers(), {"declared_only": True}, "'total': a number does not fit"),
    "too few patients": (
        Answers(behind=17),
        {"min_patients": 20},
        "rule min_patients: fewer patients than the policy's 20",
    ),
    "too large": (Answers(), {"max_bytes": 9}, "rule max_bytes: more than the 9 bytes"),
    "small cells": (Answers("counts", 2.0), {"min_cell": 5}, "rule min_cell: 'counts' has cells of fewer than 5"),
    "parameters": (Answers("model"), {"max_parameters_per_patient": 0.01}, "the policy allows 0.01 for each patient"),
    "a norm": (Bounded(value=73194.0), {}, "'total' is longer than its bound 1"),
    "a norm of an update": (averaging(max_norm=1e-9), {}, "longer than the limit (max_norm) of 1e-09"),
}


def require_nothing_of_patients(told: str, details: str) -> None:
    assert told.endswith(LOG)
    assert PATIENT not in told
    assert details
    assert not set(re.findall(r"\d[\d.e+]*", details)) & set(re.findall(r"\d[\d.e+]*", told))


@pytest.mark.parametrize("case", CASES)
def test_a_center_tells_the_rule_and_keeps_what_it_found(case: str, tmp_path: Path) -> None:
    """Of a host, and alone; the center's log has the rest."""
    algorithm, policy, expected = CASES[case]
    center = Center(
        "Ulm", odd if "fit" in case else lambda: patients(30, 5), 0, SCHEMA, DisclosurePolicy(**policy), tmp_path
    )
    roster = InProcessFederation([center]).roster
    question = question_for(algorithm, algorithm.start(roster), "run", Split(), roster, 1)
    question = replace(question, masked="as if")
    empty = lambda: FixedPointSum(FixedPoint(), 1, algorithm.rows_of_centers)  # noqa: E731
    _, dropouts = CenterGroup([center]).add_up(question, (), empty)
    (line,) = read_audit(tmp_path / "audit")["Ulm"]
    assert "bytes" not in line  # nothing has left
    assert expected in dropouts["Ulm"]
    require_nothing_of_patients(dropouts["Ulm"], line["details"])
    if case == "an unexpected error":
        assert PATIENT in line["details"]
        assert line["failed"] == "KeyError"
    else:
        assert dropouts["Ulm"] == f"{line['refused']}; {LOG}"


def test_how_few_patients_differ_is_not_told(tmp_path: Path) -> None:
    cohort = patients(40, 5)
    for n in (40, 37):
        center = Center("Ulm", lambda n=n: cohort[:n], 0, SCHEMA, DisclosurePolicy(min_difference=9), tmp_path)  # type: ignore[misc]
        algorithm, roster = FitPreprocessor(SCHEMA), InProcessFederation([center]).roster
        question = question_for(algorithm, algorithm.start(roster), "run", Split(), roster, 1)
        _, dropouts = CenterGroup([center]).answer(question)
    line = read_audit(tmp_path / "audit")["Ulm"][-1]
    assert line["details"] == "train: they differ by 3"
    require_nothing_of_patients(dropouts["Ulm"], line["details"])


def test_what_data_cannot_be_loaded_is_not_told(tmp_path: Path) -> None:
    group = CenterGroup([Center("Ulm", unreadable, 0, SCHEMA, None, tmp_path)])
    told = [group.load()["Ulm"]]
    group = CenterGroup([Center("Ulm", unreadable, 0, SCHEMA, None, tmp_path)])
    federation = InProcessFederation(group.centers)
    algorithm = FitPreprocessor(SCHEMA)
    question = question_for(algorithm, algorithm.start(federation.roster), "run", Split(), federation.roster, 1)
    told.append(group.answer(question)[1]["Ulm"])
    lines = read_audit(tmp_path / "audit")["Ulm"]
    assert [line["task"] for line in lines] == ["load", "run"]
    for text, line in zip(told, lines, strict=True):
        assert text == f"CohortError; {LOG}"
        assert f"{ODD} of {PATIENT} is no age" in line["details"]


@pytest.mark.parametrize("call", ["answer", "secure", "load", "rehearse"])
def test_nothing_of_patients_is_in_what_an_actor_raises(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray carries an error that nobody caught to the coordinator, with all that is in it."""

    def fails(self: CenterGroup, *arguments: Any, **named: Any) -> Any:
        raise KeyError(f"{PATIENT}: {ODD}")

    specs = [CenterSpec("Ulm", 0, lambda: patients(30, 5))]
    shell = CenterShell(specs, SCHEMA, DisclosurePolicy(), tmp_path)
    for name in ("answer", "load", "add_up"):
        monkeypatch.setattr(CenterGroup, name, fails)
    monkeypatch.setattr("federation.privacy.secure.Parties.join", fails)
    question = question_for(Answers(), {"round": np.array(0)}, "run", Split(), InProcessFederation([]).roster, 1)
    asked: dict[str, tuple[Any, ...]] = {
        "answer": (question.to_json(), dict(question.state), ()),
        "secure": ("join", ((),), None, question.to_json()),
        "load": (),
        "rehearse": (specs, question.to_json(), dict(question.state)),
    }
    if call == "secure":
        from federation.privacy.secure import SecureAggregation

        asked["secure"] = ("join", ((),), SecureAggregation(), question.to_json())
    with pytest.raises(CenterFailed) as caught:
        getattr(shell, call)(*asked[call])
    sent = "".join(traceback.format_exception(caught.value)) + repr(pickle.dumps(caught.value))
    assert f"KeyError; {LOG}" in sent
    assert PATIENT not in sent
    assert str(ODD) not in sent
    (line,) = read_audit(tmp_path / "audit")["Ulm"]
    assert PATIENT in line["details"]


def test_details_do_not_travel() -> None:
    refusal = Refused("rule min_cell: too few", f"of {PATIENT}")
    assert refusal.details not in repr(pickle.dumps(refusal))
    assert str(pickle.loads(pickle.dumps(refusal))) == str(refusal)
