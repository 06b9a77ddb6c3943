"""Disclosure control: for each rule an attack that succeeds without it and fails with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from federation.algorithm import Algorithm, register, run
from federation.center import Center, Question
from federation.conformance import Bins, CompareCenters
from federation.contribution import Contribution
from federation.generative.bayesian_network import FitBayesianNetwork
from federation.generative.vae_bgm import FitEncoding
from federation.group import CenterGroup
from federation.in_process import InProcessFederation, question_for
from federation.kinds import SUM, Kind, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.pca import FitPCA
from federation.policy import DisclosurePolicy, Refused, read_audit
from federation.preprocessing import FitPreprocessor, OneRound
from federation.privacy.disclosure import NO_RULES, OwnPolicy, PolicyError, release, suppress
from federation.privacy.dp.statistics import FitScale, Noisy
from federation.privacy.ledger import Ledger, LedgerError
from federation.privacy.secure import SecureAggregation
from federation.quorum import Quorum, QuorumError
from federation.splits import TEST, Split
from federation.state import State
from federation.survival.cox import FitCox
from federation.survival.curves import FitCurves
from harmonization import Cohort
from tests.federation.hospitals import (
    SCHEMA,
    averaging,
    federation_of,
    hospitals,
    patients,
    preprocessor,
    reducing,
    states,
)

OPEN = DisclosurePolicy()
REFERENCE = SCHEMA.features[0].reference
"""From which ages are counted: of the dictionary, so known to everybody."""
SHORT = {"resolution": 365.25, "horizon": 3652.5}


def complete(n: int, seed: int = 0) -> Cohort:
    """Patients without missing values."""
    cohort = patients(3 * n, seed)
    return cohort[np.flatnonzero(~np.isnan(cohort.values).any(axis=1))[:n]]


def asked(algorithm: Algorithm, split: Split | None = None, round: int = 0, centers: int = 3) -> Question:
    state = algorithm.start(federation_of().roster) if round == 0 else {"round": np.array(round)}
    return Question("run", round, algorithm.declare(), algorithm.broadcast(state), split or Split(), 0, centers)


def center(cohort: Cohort, policy: DisclosurePolicy = OPEN, directory: Path | None = None, **options: Any) -> Center:
    return Center("North", lambda: cohort, policy=policy, directory=directory, **options)


# -- differencing -----------------------------------------------------------------------------------------------------


def difference_attack(here: Center, cohort: Cohort) -> float:
    """The age of the only patient that a second split leaves out."""
    everybody = here.answer(asked(FitPreprocessor(SCHEMA)))
    all_but_one = here.answer(asked(FitPreprocessor(SCHEMA), Split(n_folds=len(cohort))))
    return REFERENCE + float(everybody["total"][0] - all_but_one["total"][0])


def test_two_sums_give_a_patient_away_unless_the_ledger_is_asked(tmp_path: Path) -> None:
    cohort = complete(17)
    (victim,) = np.flatnonzero(Split(n_folds=17).parts(cohort.ids, cohort.event, "North") == TEST)
    assert difference_attack(center(cohort), cohort) == pytest.approx(cohort.column("age")[victim], rel=1e-12)

    strict = DisclosurePolicy(min_difference=3)
    with pytest.raises(Refused, match=r"rule min_difference: the patients are neither those of .* nor differ by .* 3"):
        difference_attack(center(cohort, strict, tmp_path), cohort)
    # Nor in another run, by another process; but the same set again, and one that differs by enough.
    later = center(cohort, strict, tmp_path)
    for task in ("run", "other"):
        with pytest.raises(Refused, match="min_difference"):
            later.answer(replace(asked(FitPreprocessor(SCHEMA), Split(n_folds=17)), task=task))
        assert later.answer(replace(asked(FitPreprocessor(SCHEMA)), task=task))
    assert later.answer(asked(FitPreprocessor(SCHEMA), Split(n_folds=4)))
    refused = [entry["refused"] for entry in read_audit(tmp_path / "audit")["North"] if "refused" in entry]
    assert len(refused) == 3
    assert all("min_difference" in why for why in refused)
    (file,) = (tmp_path / "ledger").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert not any(patient in file.read_text() for patient in cohort.ids)


def test_patients_who_came_since_the_last_answer_are_a_difference(tmp_path: Path) -> None:
    cohort, strict = complete(20), DisclosurePolicy(min_difference=3)
    center(cohort[:17], strict, tmp_path).answer(asked(FitPreprocessor(SCHEMA)))
    with pytest.raises(Refused, match="nor differ by the policy's 3"):
        center(cohort[:19], strict, tmp_path).answer(asked(FitPreprocessor(SCHEMA)))
    assert center(cohort, strict, tmp_path).answer(asked(FitPreprocessor(SCHEMA)))


def test_a_damaged_ledger_lets_nothing_out(tmp_path: Path) -> None:
    ids, policy = np.array(["a", "b", "c"]), DisclosurePolicy(min_difference=2)
    ledger = Ledger(tmp_path / "x.jsonl")
    for _ in range(2):
        ledger.admit("cox", {"train": ids}, policy)
    whole = (tmp_path / "x.jsonl").read_bytes()
    for damaged, message in ((whole[:-5], "line 3: no line"), (whole[10:], "line 1: no line")):
        (tmp_path / "x.jsonl").write_bytes(damaged)
        with pytest.raises(LedgerError, match=message):
            Ledger(tmp_path / "x.jsonl").admit("cox", {"train": ids}, policy)
    (tmp_path / "x.jsonl").write_bytes(b"")
    with pytest.raises(LedgerError, match="shorter than it was"):
        ledger.admit("cox", {"train": ids}, policy)
    (tmp_path / "x.jsonl").write_bytes(whole)
    Ledger(tmp_path / "x.jsonl").admit("cox", {"train": ids}, policy)
    ledger.admit("cox", {"train": ids}, policy)
    assert ledger.answers == 4
    with pytest.raises(Refused, match="nor differ by the policy's 2"):
        ledger.admit("cox", {"train": ids[:2]}, policy)
    for part in ("train", "test"):
        with pytest.raises(Refused, match="nor differ by the policy's 2"):
            ledger.admit("pca", {part: ids[:2]}, policy)
    ledger.admit("pca", {"train": ids}, policy)


def test_another_algorithm_gives_the_same_sums(tmp_path: Path) -> None:
    """Standardization of everybody, and of all but one the encoding of a generator, or the same under another name."""
    cohort = complete(17)
    one_left_out = Split(n_folds=17)
    (victim,) = np.flatnonzero(one_left_out.parts(cohort.ids, cohort.event, "North") == TEST)
    strict = DisclosurePolicy(min_difference=3, secure_noise=False)
    for j, other in enumerate(
        (FitEncoding(SCHEMA), Noisy.of(FitScale({"age": (0, 120), "blasts": (0, 99)}, SCHEMA), 1.0))
    ):
        if j == 0:
            open_center = center(cohort)
            sums = open_center.answer(asked(FitPreprocessor(SCHEMA))), open_center.answer(asked(other, one_left_out))
            age = REFERENCE + float(sums[0]["total"][0] - sums[1]["total"][0])
            assert age == pytest.approx(cohort.column("age")[victim], rel=1e-12)
        here = center(cohort, strict, tmp_path / str(j))
        assert here.answer(asked(FitPreprocessor(SCHEMA)))
        with pytest.raises(Refused, match="rule min_difference"):
            here.answer(asked(other, one_left_out))
        assert here.answer(asked(other))


# -- small cells ------------------------------------------------------------------------------------------------------


def with_one_rare(n: int = 30) -> Cohort:
    """Patients of whom one alone has a high grade, and dies in the second year."""
    cohort = complete(n)
    values = cohort.values.copy()
    values[:, 3] = np.arange(n) % 2
    values[0, 3] = 2
    time, event = np.array(cohort.time), np.array(cohort.event)
    time[0], event[0] = 1.5, True
    return replace(cohort, values=values, time=time, event=event)


def small_cell_attack(here: Center) -> tuple[float, float]:
    """Year and fate of the only patient of a high grade."""
    found = here.answer(asked(FitCurves.of(SCHEMA, "grade", **SHORT)))
    (year,) = np.flatnonzero(found["leaving"][2])
    return year, found["events"][2, year]


def test_a_cell_of_one_patient_says_what_became_of_him(tmp_path: Path) -> None:
    cohort = with_one_rare()
    year, died = small_cell_attack(center(cohort))
    assert abs(year - 1.5) <= 1
    assert died == 1
    with pytest.raises(ValueError, match="not enough values"):
        small_cell_attack(center(cohort, DisclosurePolicy(min_cell=5), tmp_path))
    (line,) = read_audit(tmp_path / "audit")["North"]
    assert line["suppressed"]["leaving"] >= 2


def test_a_total_does_not_give_a_hidden_cell_away() -> None:
    counts = np.array([20.0, 11.0, 2.0, 9.0])
    primary = np.where(counts < 5, 0, counts)
    assert counts.sum() - primary.sum() == 2  # the attack on primary suppression alone
    hidden = suppress(counts, 5)
    np.testing.assert_array_equal(hidden, [False, False, True, True])
    table = np.array([[2.0, 8.0, 9.0], [7.0, 6.0, 30.0], [12.0, 10.0, 5.0]])
    hidden = suppress(table, 5)
    assert hidden[0, 0]
    assert (hidden.sum(axis=0)[hidden.any(axis=0)] >= 2).all()
    assert (hidden.sum(axis=1)[hidden.any(axis=1)] >= 2).all()


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int64, hnp.array_shapes(max_dims=3, max_side=5), elements=st.integers(0, 12)), st.integers(2, 6))
def test_no_line_has_a_hidden_cell_that_follows_from_its_total(counts: np.ndarray[Any, Any], least: int) -> None:
    hidden = suppress(counts.astype(float), least)
    assert hidden[(counts > 0) & (counts < least)].all()
    assert not hidden[counts == 0].any()
    for axis in [*range(counts.ndim), None]:
        lines = np.moveaxis(counts, axis, -1) if axis is not None else counts.reshape(1, -1)
        masks = np.moveaxis(hidden, axis, -1) if axis is not None else hidden.reshape(1, -1)
        for line, mask in zip(lines.reshape(-1, lines.shape[-1]), masks.reshape(-1, lines.shape[-1]), strict=True):
            if mask.any() and not mask[line > 0].all():
                assert mask.sum() >= 2
                assert line[mask].sum() >= least


def test_sums_behind_a_hidden_count_go_with_it() -> None:
    # One patient has a known age: the sum of known ages is that patient's.
    cohort = complete(20)
    cohort.values[1:, 0] = np.nan
    bare = center(cohort).answer(asked(FitPreprocessor(SCHEMA)))
    assert REFERENCE + bare["total"][0] == cohort.values[0, 0]
    safe = center(cohort, DisclosurePolicy(min_cell=3)).answer(asked(FitPreprocessor(SCHEMA)))
    assert (safe["seen"][0], safe["total"][0], safe["squares"][0]) == (0, 0, 0)
    np.testing.assert_array_equal(safe["total"][2:], bare["total"][2:])


def test_what_is_left_of_all_patients_is_a_cell_too() -> None:
    """The counts of groups, and of patients of no known group, make up all patients."""
    cohort, least = complete(60), 5
    cohort.values[:2, 3] = np.nan
    curves = FitCurves.of(SCHEMA, "grade", **SHORT)
    assert center(cohort).answer(asked(curves))["unknown"] == 2
    safe = center(cohort, DisclosurePolicy(min_cell=least)).answer(asked(curves))
    assert safe["unknown"] == 0
    assert 60 - safe["leaving"].sum() >= least
    assert safe["leaving"].any()
    # If the groups have no small cells, one of theirs hides the number of the others.
    counts, two = (
        np.array([[20.0, 9.0], [11.0, 18.0]]),
        Contribution(60, cells=np.array([[20.0, 9.0], [11.0, 18.0]]), rest=2.0),
    )
    kinds = {"cells": Kind("count"), "rest": Kind("count", beside="cells")}
    out, hidden = release(DisclosurePolicy(min_cell=least), kinds, two)
    assert out["rest"] == 0
    assert hidden["cells"] >= 1
    assert counts.sum() + 2 - out["cells"].sum() >= least


def test_products_of_few_patients_go_with_their_number() -> None:
    cohort = complete(30)
    cohort.values[4:, [0, 1, 3]] = np.nan
    algorithm = FitPCA("clinical", 2, SCHEMA, reducing())
    bare = center(cohort).answer(asked(algorithm))
    assert bare["present"] == 4
    assert np.linalg.matrix_rank(bare["image"]) == 4  # and so it spans the four
    safe = center(cohort, DisclosurePolicy(min_cell=5)).answer(asked(algorithm))
    assert safe["present"] == 0
    assert not safe["image"].any()


def test_counts_that_an_algorithm_needs_whole_are_refused() -> None:
    question = asked(FitCox(preprocessor=preprocessor(), resolution=1.0))
    with pytest.raises(Refused, match=r"rule min_cell: 'events' has cells of fewer .* cannot do without"):
        center(hospitals()["North"], DisclosurePolicy(min_cell=3)).answer(question)
    assert center(hospitals()["North"]).answer(question)


# -- centers per sum --------------------------------------------------------------------------------------------------


def test_a_sum_over_one_center_is_its_own() -> None:
    few = {"North": patients(2, 1), "South": patients(2, 2), "West": hospitals()["West"]}
    alone = center(few["West"]).answer(asked(FitPreprocessor(SCHEMA)))
    state = FitPreprocessor(SCHEMA).start(federation_of().roster)
    attacked = federation_of(few).ask(FitPreprocessor(SCHEMA), state)
    np.testing.assert_array_equal(attacked["total"], alone["total"])
    strict = DisclosurePolicy(min_centers=2)
    with pytest.raises(QuorumError, match="rule min_centers: the sum is over 1 centers, the policy wants 2"):
        federation_of(few, policy=strict).ask(FitPreprocessor(SCHEMA), state)
    assert federation_of(hospitals(), policy=strict).ask(FitPreprocessor(SCHEMA), state)
    with pytest.raises(Refused, match="rule min_centers: the federation has 1 centers"):
        center(few["West"], strict).answer(asked(FitPreprocessor(SCHEMA), centers=1))


def test_masks_come_off_sums_over_enough_centers_only() -> None:
    cohorts = {f"H{j}": patients(20, j) for j in range(5)}
    state = FitPreprocessor(SCHEMA).start(federation_of(cohorts).roster)

    def ask(least: int) -> Contribution:
        masked = SecureAggregation(threshold=0.7, neighbours=4)
        policy = DisclosurePolicy(min_centers=least)
        return federation_of(cohorts, policy=policy, secure_aggregation=masked).ask(FitPreprocessor(SCHEMA), state)

    assert ask(4).patients == ask(1).patients == 100  # 3 of 4 neighbours, and oneself
    why = "rule min_centers: masks could come off a sum over 4 centers, the policy wants 5"
    with pytest.raises(QuorumError, match=f"H0, H1, H2, H3, H4: {why}"):
        ask(5)


def test_a_center_that_wants_larger_sums_abstains_in_every_round_and_says_why(tmp_path: Path) -> None:
    cohorts = {f"H{j}": patients(20, j) for j in range(8)}
    masked = SecureAggregation(threshold=0.7, neighbours=4)
    federation = federation_of(cohorts, directory=tmp_path, secure_aggregation=masked)
    federation.centers[2].policy = DisclosurePolicy(min_centers=7)
    why = "rule min_centers: masks could come off a sum over 4 centers, the policy wants 7"
    for r in range(2):
        federation.dropouts.reasons.clear()
        state = {**FitPreprocessor(SCHEMA).start(federation.roster), "round": np.array(r)}
        assert federation.ask(FitPreprocessor(SCHEMA), state).patients == 140
        assert federation.dropouts.reasons == {"H2": why}
    refused = [line["refused"] for line in read_audit(tmp_path / "audit")["H2"] if "refused" in line]
    assert refused == [why]
    assert not any("bytes" in line for line in read_audit(tmp_path / "audit")["H2"])
    federation.quorum = Quorum(on_dropout="stop")
    with pytest.raises(QuorumError, match=f"stopped, as configured, since a center dropped out: H2: {why}"):
        federation.ask(FitPreprocessor(SCHEMA), {**state, "round": np.array(2)})


# -- kinds ------------------------------------------------------------------------------------------------------------


@register
@dataclass(frozen=True)
class Oldest(OneRound):
    """Asks for the age of the oldest patient."""

    name = "oldest"
    kinds = declare({"age": Kind("maximum")})

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        return Contribution(len(patients.train), age=np.nanmax(patients.train.column("age")))

    def server_update(self, state: State, total: Contribution) -> State:
        return {"round": np.array(1), **total}


@register
@dataclass(frozen=True)
class Silent(Oldest):
    """The same without a word of it."""

    name = "silent"
    kinds = declare({})


@pytest.mark.parametrize(("algorithm", "message"), [(Oldest(), "'age' is a maximum"), (Silent(), "no declared kind")])
def test_a_maximum_does_not_leave(algorithm: Algorithm, message: str) -> None:
    cohort = complete(20)
    assert center(cohort).answer(asked(algorithm))["age"] == cohort.column("age").max()  # a patient's age
    with pytest.raises(Refused, match=f"rule declared_only: .*{message}"):
        center(cohort, DisclosurePolicy(declared_only=True)).answer(asked(algorithm))


def test_every_algorithm_here_says_what_its_arrays_are() -> None:
    strict = DisclosurePolicy(declared_only=True)
    for algorithm in (FitPreprocessor(SCHEMA), FitCurves.of(SCHEMA, "grade", **SHORT), averaging(rounds=2)):
        assert run(algorithm, federation_of(policy=strict))
    states(FitCox(preprocessor=preprocessor()), federation_of(policy=strict))
    states(FitCox(preprocessor=preprocessor(), strata="center"), federation_of(policy=strict))


# -- degrees of freedom -----------------------------------------------------------------------------------------------


def membership_attack(here: Center, candidates: Cohort) -> np.ndarray[Any, Any]:
    """How far each candidate is outside the span of a center's information matrix: a member's distance is zero."""
    algorithm = FitCox(preprocessor=preprocessor())
    alone = InProcessFederation([here])
    state = algorithm.start(alone.roster)
    state = algorithm.server_update(state, alone.ask(algorithm, state))
    matrix = alone.ask(algorithm, state)["curvature"]
    values, vectors = np.linalg.eigh(matrix)
    span = vectors[:, values > 1e-9 * values.max()]
    x = preprocessor().transform(candidates)
    return np.asarray(np.linalg.norm(x - x @ span @ span.T, axis=1))


def test_a_model_with_more_parameters_than_patients_tells_members_from_others() -> None:
    cohort = complete(60)
    first = np.argsort(cohort.time)
    order = [next(i for i in first if cohort.event[i]), *first[-3:]]  # all at risk when the first of them dies
    members, others = cohort[np.sort(order)], cohort[np.setdiff1d(np.arange(60), order)]
    assert len(members) == 4 < preprocessor().n_features
    assert (membership_attack(center(members), members) < 1e-6).all()
    assert (membership_attack(center(members), others) > 1e-3).mean() > 0.9
    strict = DisclosurePolicy(max_parameters_per_patient=0.33)
    with pytest.raises(QuorumError, match=r"rule max_parameters_per_patient: .* of 8 parameters, .* 0\.33 for each"):
        membership_attack(center(members, strict), members)
    membership_attack(center(others, strict), others)  # 56 patients may have eight


# -- how much is asked ------------------------------------------------------------------------------------------------


def bisection_attack(here: Center, questions: int, low: float = 0.0, high: float = 128.0) -> tuple[float, float]:
    """The oldest patient's age, closed in by counts over a threshold that the attacker moves."""
    for round in range(questions):
        middle = (low + high) / 2
        algorithm = FitCurves.of(SCHEMA, "age", (middle,), resolution=36525.0)
        try:
            older = here.answer(replace(asked(algorithm), round=round))["leaving"][1].sum() > 0
        except Refused as refusal:
            assert str(refusal).startswith(("rule max_questions: 6 answers were given", "rule declared_edges: "))  # noqa: PT017
            break
        low, high = (middle, high) if older else (low, middle)
    return low, high


def test_many_questions_find_a_maximum(tmp_path: Path) -> None:
    cohort = complete(40)
    low, high = bisection_attack(center(cohort), 30)
    assert low < cohort.column("age").max() <= high
    assert high - low < 1e-6
    strict = DisclosurePolicy(max_questions=6)
    low, high = bisection_attack(center(cohort, strict, tmp_path), 30)
    assert high - low == 2
    # A new process has answered just as many.
    assert bisection_attack(center(cohort, strict, tmp_path), 30) == (0.0, 128.0)


def test_groups_that_move_find_a_maximum() -> None:
    """The same bisection, where the schema says by which ages patients are counted."""
    cohort = complete(40)
    age, *others = SCHEMA.features
    cohort = replace(cohort, schema=replace(SCHEMA, features=(replace(age, edges=(50.0, 64.0)), *others)))
    strict = DisclosurePolicy(declared_edges=True)
    low, high = bisection_attack(center(cohort), 30)
    assert high - low < 1e-6
    assert bisection_attack(center(cohort, strict), 30) == (64, 128)  # which the dictionary gives away
    for algorithm in (
        FitCurves.of(cohort.schema, "age", (50.0, 64.0)),
        FitCurves.of(cohort.schema, "age", (64.0,)),
        FitCurves.of(cohort.schema, "grade"),
        FitPreprocessor(SCHEMA),
        Noisy.of(FitCurves.of(cohort.schema, "age", (50.0,)), 1.0),
    ):
        assert center(cohort, strict).answer(asked(algorithm))
    for moved in (
        Noisy.of(FitCurves.of(cohort.schema, "age", (51.0,)), 1.0),
        CompareCenters((Bins("age", 10.0, 100.0, 0.1),)),
        FitCurves.of(cohort.schema, "age", (50.0, 64.0, 96.0)),
        FitCurves.of(cohort.schema, "blasts", (10.0,)),
    ):
        with pytest.raises(Refused, match="rule declared_edges"):
            center(cohort, strict).answer(asked(moved))
    network = FitBayesianNetwork(SCHEMA)  # its bins are quantiles of the summed histograms
    with pytest.raises(QuorumError, match="rule declared_edges: patients are to be counted by 'age'"):
        run(network, federation_of(policy=strict))


def test_what_other_runs_have_asked_counts_but_in_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of six questions each, and every one of them is the first that its own directory knows of."""
    cohort = complete(40)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def attack(policy: DisclosurePolicy) -> float:
        low, high = 0.0, 128.0
        for number in range(4):
            directory = tmp_path / f"{policy.simulation} {number}"
            own = OwnPolicy.of_this_node("North").keeping(policy, directory)
            low, high = bisection_attack(center(cohort, policy, directory, own=own), 30, low, high)
        return high - low

    assert attack(DisclosurePolicy(max_questions=6, simulation=True)) == 128 / 2**24
    assert (tmp_path / "True 3" / "ledger" / "North.jsonl").exists()
    assert attack(DisclosurePolicy(max_questions=6)) == 2
    assert (tmp_path / "home" / ".haemfed" / "ledgers" / "North.jsonl").exists()


def test_where_ledgers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, usual = tmp_path / "run", tmp_path / ".haemfed" / "ledgers"
    monkeypatch.setenv("HOME", str(tmp_path))
    for policy in (
        DisclosurePolicy(max_epsilon=1),
        DisclosurePolicy(min_difference=3),
        DisclosurePolicy(max_questions=9),
    ):
        assert OwnPolicy.of_this_node("North").keeping(policy, run).ledger == usual
        assert OwnPolicy.of_this_node("North").keeping(replace(policy, simulation=True), run).ledger == run / "ledger"
    for place, expected in ((run, run / "ledger"), (None, None)):
        assert OwnPolicy.of_this_node("North").keeping(OPEN, place).ledger == expected
    # A center with rules of its own is not talked into simulation by the federation, unless it says so itself.
    simulated = DisclosurePolicy(simulation=True)
    for text, expected in (("max_epsilon: 4", usual), ("max_epsilon: 4\nsimulation: true", run / "ledger")):
        (tmp_path / "policy.yaml").write_text(text)
        monkeypatch.setenv("HAEMFED_POLICY", str(tmp_path / "policy.yaml"))
        assert OwnPolicy.of_this_node("North").keeping(simulated, run).ledger == expected
    # What the operator names holds for every run, with a budget or without.
    monkeypatch.setenv("HAEMFED_LEDGERS", str(tmp_path / "books"))
    assert OwnPolicy.of_this_node("North").keeping(simulated, run).ledger == tmp_path / "books"
    (tmp_path / "policy.yaml").write_text("min_cell: 3\nledger: beside")
    assert OwnPolicy.of_this_node("North").keeping(simulated, run).ledger == tmp_path / "beside"


# -- who sets the rules -----------------------------------------------------------------------------------------------


def test_of_two_rules_the_stricter_holds() -> None:
    federation = DisclosurePolicy(min_patients=5, max_questions=10, max_bytes=1000, declared_only=True)
    own = DisclosurePolicy(min_patients=3, max_questions=20, max_parameters_per_patient=0.3, min_cell=4)
    both = DisclosurePolicy(
        min_patients=5, max_questions=10, max_bytes=1000, declared_only=True, max_parameters_per_patient=0.3, min_cell=4
    )
    assert federation.stricter(own) == own.stricter(federation) == both
    assert center(complete(9), federation, own=OwnPolicy(own)).policy == both
    large = DisclosurePolicy(min_patients=1, max_bytes=2**40)
    for policy in (OPEN, large):  # who sets no rules changes none
        assert policy.stricter(OwnPolicy().policy) == policy
    assert not OPEN.looks_closer
    with pytest.raises(ValueError, match="min_cell is -1; it cannot be negative"):
        DisclosurePolicy(min_cell=-1)


def test_a_centers_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("min_patients: 10\nmin_difference: 3\nledger: ledgers\n")
    own = OwnPolicy.read(path)
    rules = replace(NO_RULES, min_patients=10, min_difference=3, simulation=False)
    assert own == OwnPolicy(rules, tmp_path / "ledgers")
    assert OwnPolicy.of_this_node("North") == OwnPolicy()
    monkeypatch.setenv("HAEMFED_POLICY", str(path))
    assert OwnPolicy.of_this_node("North") == own
    # The ledger spans runs, each with a directory of its own.
    cohort = complete(17)
    center(cohort, directory=tmp_path / "one", own=own).answer(asked(FitPreprocessor(SCHEMA)))
    with pytest.raises(Refused, match="min_difference"):
        center(cohort, directory=tmp_path / "two", own=own).answer(asked(FitPreprocessor(SCHEMA), Split(n_folds=17)))
    assert (tmp_path / "ledgers" / "North.jsonl").exists()


def test_each_center_of_a_host_goes_by_its_own_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are computed together, and then checked one by one."""
    monkeypatch.setenv("HAEMFED_POLICY", str(tmp_path))
    algorithm, names = averaging(), tuple(hospitals())
    question = question_for(
        algorithm, algorithm.start(federation_of().roster), "run", Split(), federation_of().roster, 10
    )
    for strict in names:
        for name in names:
            (tmp_path / f"{name}.yaml").write_text("max_bytes: 100" if name == strict else "{}")
        centers = [
            Center(name, lambda name=name: hospitals()[name], j, own=OwnPolicy.of_this_node(name))  # type: ignore[misc]
            for j, name in enumerate(names)
        ]
        assert not any(c.policy.looks_closer for c in centers)
        total, refused = CenterGroup(centers).answer(question)
        assert refused.keys() == {strict}
        assert refused[strict].startswith("rule max_bytes: more than the 100 bytes that the policy allows")
        assert total.centers == 2
    (tmp_path / "South.yaml").rename(tmp_path / "Soth.yaml")
    with pytest.raises(PolicyError, match=r"South\.yaml: there is no policy of 'South'; write one, {} for no rules"):
        OwnPolicy.of_this_node("South")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_patient: 3", "min_patient: Unexpected keyword argument"),
        ("min_cell: many", "min_cell: .*integer.*'many'"),
        ("min_cell: -2", "min_cell is -2; it cannot be negative"),
        ("ledger: 3", "ledger is 3"),
        ("", "holds no rules"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(PolicyError, match=rf"policy\.yaml: .*{message}"):
        OwnPolicy.read(tmp_path / "policy.yaml")
    with pytest.raises(PolicyError, match=r"none\.yaml: cannot be read"):
        OwnPolicy.read(tmp_path / "none.yaml")


def test_a_refusal_is_an_abstention_and_the_others_go_on(tmp_path: Path) -> None:
    owns: Mapping[str, OwnPolicy | None] = {
        "North": None,
        "South": OwnPolicy(DisclosurePolicy(max_parameters_per_patient=0.01)),
        "West": None,
    }
    centers = [
        Center(name, lambda name=name: hospitals()[name], j, directory=tmp_path, own=own)  # type: ignore[misc]
        for j, (name, own) in enumerate(owns.items())
    ]
    algorithm = averaging()
    roster = federation_of().roster
    question = question_for(algorithm, algorithm.start(roster), "run", Split(), roster, 10)
    total, abstained = CenterGroup(centers).answer(question)
    assert abstained.keys() == {"South"}
    assert abstained["South"].startswith("rule max_parameters_per_patient: 'update' is of ")
    assert total.centers == 2
    assert "max_parameters_per_patient" in read_audit(tmp_path / "audit")["South"][0]["refused"]


def test_rules_that_nobody_breaks_change_no_bit() -> None:
    lenient = DisclosurePolicy(declared_only=True, max_parameters_per_patient=100.0, max_questions=1000)
    bare, ruled = (run(averaging(), federation_of(policy=policy)) for policy in (OPEN, lenient))
    for name in bare:
        np.testing.assert_array_equal(bare[name], ruled[name], err_msg=name)


def test_sums_without_their_counts_are_refused() -> None:
    with pytest.raises(Refused, match="'x' came without the counts 'n'"):
        release(DisclosurePolicy(min_cell=3), {"x": Kind("sum", behind="n")}, Contribution(9, x=1.0))
    out, hidden = release(DisclosurePolicy(min_cell=3), {"x": SUM}, Contribution(9, x=1.0))
    assert (out["x"], hidden) == (1.0, {})
