"""Dropouts in one process: each is named in one line, and the run goes on or stops as configured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from federation.algorithm import run
from federation.averaging import COLUMNS, result
from federation.center import Center
from federation.checkpoint import Checkpoint, load_state
from federation.in_process import InProcessFederation
from federation.policy import LOG, DisclosurePolicy
from federation.preprocessing import FitPreprocessor
from federation.quorum import DropoutLog, Quorum, QuorumError, by_reason, describe
from federation.strategies import Scaffold
from harmonization import Cohort, read_cohort, write_cohort
from tests.federation.hospitals import (
    SCHEMA,
    averaging,
    federation_of,
    hospitals,
    patients,
    require_equal_states,
    states,
)

Source = Callable[[], Cohort]


def federation(sources: Mapping[str, Source], **options: object) -> InProcessFederation:
    """The three hospitals, some of them loaded otherwise."""
    all_sources: dict[str, Source] = {name: (lambda c=c: c) for name, c in hospitals().items()} | dict(sources)
    centers = [Center(name, source, j, SCHEMA) for j, (name, source) in enumerate(all_sources.items())]
    return InProcessFederation(centers, **options)  # type: ignore[arg-type]


def missing_file() -> Cohort:
    return read_cohort(Path("/nowhere/west.csv"))


def other_schema() -> Cohort:
    cohort = hospitals()["West"]
    return replace(cohort, schema=replace(SCHEMA, version="2"))


def broken() -> Cohort:
    raise KeyError("west")


def absurd() -> Cohort:
    """One number so large that the model's output, and with it the loss, is not a number."""
    cohort = hospitals()["West"]
    values = cohort.values.copy()
    values[2, 0] = 1e300
    return replace(cohort, values=values)


def without_west() -> InProcessFederation:
    return federation_of({name: c for name, c in hospitals().items() if name != "West"})


# Before the first round ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (missing_file, "/nowhere/west.csv"),
        (other_schema, "version is '2' here and '1' there"),
        (broken, "'west'"),
    ],
)
def test_a_center_that_cannot_load_is_named_and_left_out(
    caplog: pytest.LogCaptureFixture, source: Source, reason: str
) -> None:
    here = federation({"West": source})
    with caplog.at_level(logging.DEBUG, "haemfed"):
        here.load()
    inside, outside = (record.getMessage() for record in caplog.records)
    assert outside.startswith("round 0: dropped out: West: ")
    assert reason not in outside
    assert "\n" not in outside
    assert inside.startswith("center West: ")
    assert reason in inside
    final = run(averaging(), here)
    rows = final["history"][:, :, COLUMNS.index("weight")]
    assert not rows[:, 2].any()
    np.testing.assert_array_equal(final["weights"], run(averaging(), without_west())["weights"])


def test_a_center_that_was_not_loaded_beforehand_drops_out_in_the_rounds(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "haemfed"):
        final = run(averaging(), federation({"West": other_schema}))
    (record,) = caplog.records  # not again every round
    assert "round 0: dropped out: West: " in record.getMessage()
    np.testing.assert_array_equal(final["weights"], run(averaging(), without_west())["weights"])


def test_the_quorum_counts_centers_that_never_came() -> None:
    # One of three did not load; a second fails in the rounds: one of three answers, not one of two.
    here = federation({"West": missing_file, "South": absurd})
    here.load()
    with pytest.raises(QuorumError, match=r"only 1 of 3 .* the quorum is 0\.5: West: .*; South: "):
        run(averaging(), here)


@pytest.mark.parametrize("source", [missing_file, other_schema, broken])
def test_stop_at_the_first_dropout_if_so_configured(source: Source) -> None:
    here = federation({"West": source}, quorum=Quorum(on_dropout="stop"))
    with pytest.raises(QuorumError, match="stopped, as configured, since a center dropped out: West: "):
        here.load()
    with pytest.raises(QuorumError, match="stopped, as configured, since a center dropped out: West: "):
        run(averaging(), federation({"West": source}, quorum=Quorum(on_dropout="stop")))


def test_too_few_centers_is_an_error_that_names_them() -> None:
    here = federation({"West": missing_file, "South": broken})
    with pytest.raises(QuorumError, match=r"only 1 of 3 .*South: KeyError; .* West: CohortError; "):
        here.load()


def test_a_file_that_comes_back_is_read_in_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "west.parquet"
    here = federation({"West": lambda: read_cohort(path)})
    first = run(averaging(), here)
    write_cohort(hospitals()["West"], path)
    again = run(averaging(), here)
    assert not np.array_equal(again["weights"], first["weights"])
    np.testing.assert_array_equal(again["weights"], run(averaging(), federation_of())["weights"])


# In the rounds ---------------------------------------------------------------------------------------


def test_a_loss_that_turns_nan_costs_one_center_and_not_the_model(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "haemfed"):
        final = run(averaging(), federation({"West": absurd}))
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("round 0: dropped out: West: 'update' has values that are not finite")
    assert "did the loss turn NaN?" in message
    assert np.isfinite(result(final)).all()
    np.testing.assert_array_equal(final["weights"], run(averaging(), without_west())["weights"])


def test_everything_diverging_ends_the_run_with_what_was_trained_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    whole = states(averaging(rounds=5), federation_of())

    class Failing(InProcessFederation):
        def ask(self, algorithm, state):  # type: ignore[no-untyped-def]
            if int(state["round"]) == 3:
                state = {**state, "weights": state["weights"] * np.float32(np.nan)}
            return super().ask(algorithm, state)

    here = Failing(federation_of().centers)
    with pytest.raises(QuorumError, match=r"only 0 of 3 .*North, South, West: .*not finite"):
        run(averaging(rounds=5), here, after_round=[Checkpoint(path, every=1)])
    require_equal_states(load_state(path), whole[3])


class Flaky(Center):
    """Does not answer in some rounds."""

    away: tuple[int, ...] = ()

    def answer(self, question):  # type: ignore[no-untyped-def]
        if question.round in self.away:
            raise TimeoutError("no line")
        return super().answer(question)


def flaky(*away: int) -> InProcessFederation:
    centers = [Flaky(name, lambda c=c: c, j, SCHEMA) for j, (name, c) in enumerate(hospitals().items())]  # type: ignore[misc]
    centers[2].away = away
    return InProcessFederation(centers)


def test_a_center_that_comes_back_takes_part_again(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "haemfed"):
        final = run(averaging(rounds=5), flaky(1, 3))
    present = final["history"][:5, 2, COLUMNS.index("weight")] > 0
    assert present.tolist() == [True, False, True, False, True]
    assert [r.getMessage() for r in caplog.records] == [f"round 1: dropped out: West: TimeoutError; {LOG}"]


@pytest.mark.parametrize("strategy", [None, Scaffold()])
def test_a_round_without_a_center_is_the_round_of_the_others(strategy: Scaffold | None) -> None:
    algorithm = averaging(strategy, rounds=1)
    with_flaky, others = states(algorithm, flaky(0)), states(algorithm, without_west())
    for name in ("weights", *(["control"] if strategy else [])):
        np.testing.assert_array_equal(with_flaky[1][name], others[1][name])


def test_withholding_is_no_dropout() -> None:
    cohorts = {**hospitals(), "West": patients(2)}
    final = run(averaging(), federation_of(cohorts, quorum=Quorum(fraction=1.0, on_dropout="stop")))
    np.testing.assert_array_equal(final["weights"], run(averaging(), without_west())["weights"])


def test_if_all_withhold_there_is_nothing_to_learn_from() -> None:
    here = federation_of(policy=DisclosurePolicy(min_patients=1000))
    with pytest.raises(QuorumError, match=r"no center has enough training patients.*policy\.min_patients"):
        run(FitPreprocessor(SCHEMA), here)


def test_a_bug_in_one_center_does_not_take_the_others_down() -> None:
    centers = federation_of().centers
    centers[1].answer = lambda question: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    final = run(averaging(), InProcessFederation(centers))
    assert not final["history"][:, 1].any()
    assert np.isfinite(final["weights"]).all()


# Small parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fraction", "gone", "counts"), [(0.5, 5, True), (0.5, 6, False), (1.0, 0, True), (1.0, 1, False), (0.0, 10, True)]
)
def test_quorum_is_a_fraction_of_the_roster(fraction: float, gone: int, counts: bool) -> None:
    dropouts = {f"C{j}": "away" for j in range(gone)}
    if counts:
        Quorum(fraction).check(10, dropouts)
    else:
        with pytest.raises(QuorumError, match=f"only {10 - gone} of 10 .* the quorum is {fraction:g}: C0"):
            Quorum(fraction).check(10, dropouts)


def test_dropouts_are_one_line_however_many() -> None:
    dropouts = {f"C{j}": "late" for j in range(9)} | {"D": "gone"}
    assert by_reason(dropouts) == "C0, C1, C2, C3, C4 and 4 more: late; D: gone"
    assert by_reason({}) == ""
    assert describe(ValueError("first\nsecond")) == "ValueError: first"
    assert describe(ValueError()) == "ValueError: no message"


def test_the_log_repeats_nothing_but_tells_what_is_new(caplog: pytest.LogCaptureFixture) -> None:
    log = DropoutLog()
    with caplog.at_level(logging.WARNING, "haemfed"):
        log.note({"A": "late"}, 1)
        log.note({"A": "late"}, 2)
        log.note({"A": "late", "B": "late"}, 3)
        log.note({"A": "lost"}, 4)
    assert [r.getMessage() for r in caplog.records] == [
        "round 1: dropped out: A: late",
        "round 3: dropped out: B: late",
        "round 4: dropped out: A: lost",
    ]


def test_centers_out_of_their_places_are_refused() -> None:
    # A center writes into its own row; two in the same place would be added into one.
    north, south, west = federation_of().centers
    with pytest.raises(ValueError, match="center 'West' has position 2; its place here is 1"):
        InProcessFederation([north, west, south])
