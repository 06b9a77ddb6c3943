"""Centers that fail, each in its own way: named in one line, counted under the quorum rule, and the others go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.coordinator import CoordinatorShell, Progress, Task
from federation.averaging import result
from federation.checkpoint import load_state
from federation.quorum import Quorum, QuorumError
from tests.actors.conftest import Packings, StartHost
from tests.actors.hospitals import (
    NAMES,
    HeldAveraging,
    RollCall,
    absurd,
    averaging,
    crash,
    federation_of,
    lost_file,
    other_schema,
)


def coordinate(packings: Packings, quorum: Quorum | None = None, timeout: float = 60) -> CoordinatorShell:
    """The coordinator's loop in this process, over one actor per center."""
    return CoordinatorShell(packings["one actor per center"](), NAMES, quorum or Quorum(), timeout)


def last(progress: Iterator[Progress]) -> Progress:
    *_, final = progress
    assert final.final is not None
    return final


def present(progress: Progress) -> NDArray[Any]:
    """Who answered, a row per round."""
    assert progress.final is not None
    found: NDArray[Any] = progress.final["present"][: int(progress.final["round"])]
    return found


# -- before the first round ----------------------------------------------------------------------------------------


def test_a_missing_file_and_another_schema_are_named_and_the_rest_trains(host: StartHost) -> None:
    shell = CoordinatorShell([host(federation_of(Aachen=lost_file, Celle=other_schema))], NAMES, Quorum(0.3), 120)
    assert shell.load() == {
        "Aachen": "/data/Aachen.csv: no such file",
        "Celle": "center Celle: the schema differs from the federation's: 'blasts': unit is '%' here and '' there",
    }
    np.testing.assert_array_equal(present(last(shell.run(Task("rest", RollCall())))), [[0, 1, 0]] * 3)


def test_too_few_centers_with_data_stop_the_run_in_one_line(host: StartHost) -> None:
    shell = CoordinatorShell([host(federation_of(Aachen=lost_file, Celle=other_schema))], NAMES, Quorum(), 120)
    with pytest.raises(QuorumError) as caught:
        shell.load()
    message = str(caught.value)
    assert message.startswith("only 1 of 3 centers answered, the quorum is 0.5: Aachen: /data/Aachen.csv")
    assert "Celle: the schema differs" in message
    assert len(message.splitlines()) == 1


def test_a_host_that_dies_while_it_loads_does_not_take_the_others_down(packings: Packings, host: StartHost) -> None:
    a, _, c = packings["one actor per center"]()
    shell = CoordinatorShell([a, host([federation_of(Bonn=crash)[1]]), c], NAMES, Quorum(), 120)
    reasons = shell.load()
    assert reasons.keys() == {"Bonn"}
    assert "actor is lost" in reasons["Bonn"]
    np.testing.assert_array_equal(present(last(shell.run(Task("others", RollCall())))), [[1, 0, 1]] * 3)


def test_the_quorum_counts_centers_of_the_roster(packings: Packings, tmp_path: Path) -> None:
    """One of three without data and one of three late make two of three, not one of two."""
    gate = tmp_path / "gate"
    task = Task("roster", RollCall(waits=1, gate=str(gate)))
    shell = coordinate(packings, timeout=1.5)
    shell._absent = {"Celle": "no such file"}
    shell._hosts = shell._hosts[:2]
    with pytest.raises(QuorumError, match=r"^only 1 of 3 centers answered, .*Celle: no such file.*Bonn: no answer"):
        last(shell.run(task))
    gate.touch()


# -- during a round ------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_a_number_drops_its_center_out(packings: Packings, host: StartHost) -> None:
    a, _, c = packings["one actor per center"]()
    shell = CoordinatorShell([a, host([federation_of(Bonn=absurd)[1]]), c], NAMES, Quorum(), 120)
    assert shell.load() == {}
    task = Task("absurd", averaging(rounds=3))
    final = last(shell.run(task))
    assert final.dropouts == {"Bonn": "'update' has values that are not finite (did the loss turn NaN?)"}
    assert final.final is not None
    without = last(shell.run(replace(task, left_out=("Bonn",)))).final
    assert without is not None
    np.testing.assert_array_equal(result(final.final), result(without))  # nothing of it came through
    assert np.isfinite(result(final.final)).all()


def test_a_late_center_is_a_dropout_not_waited_for_again_and_welcome_back(
    packings: Packings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate, timeout = tmp_path / "gate", 2.0
    shell = coordinate(packings, timeout=timeout)
    stream = shell.run(Task("late", RollCall(waits=1, gate=str(gate), rounds=6), report_seconds=0))
    began = time.monotonic()
    first = next(stream)
    assert time.monotonic() - began < timeout
    with caplog.at_level(logging.WARNING, "haemfed"):
        second = next(stream)  # round 1: waited for until the timeout
    assert timeout < time.monotonic() - began
    assert (first.metrics["present"], second.metrics["present"]) == (3, 2)
    assert second.dropouts == {"Bonn": "no answer within 2 s"}
    assert [r.getMessage() for r in caplog.records] == ["round 1: dropped out: Bonn: no answer within 2 s"]
    began = time.monotonic()
    third, fourth = next(stream), next(stream)
    assert time.monotonic() - began < timeout  # two rounds in less than one timeout
    assert fourth.dropouts == {"Bonn": "still busy with an earlier round"}
    assert third.metrics == fourth.metrics == {"present": 2.0}
    gate.touch()
    time.sleep(0.5)
    final = last(stream)
    assert final.final is not None
    expected = [[1, 1, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1]]
    np.testing.assert_array_equal(present(final), expected)  # the late answer itself is not counted
    np.testing.assert_array_equal(final.final["draws"] != 0, expected)


def test_a_center_that_is_late_in_one_task_is_not_waited_for_in_the_next(packings: Packings, tmp_path: Path) -> None:
    gate, timeout = tmp_path / "gate", 2.0
    shell = coordinate(packings, timeout=timeout)
    last(shell.run(Task("first", RollCall(waits=1, gate=str(gate)))))
    began = time.monotonic()
    np.testing.assert_array_equal(present(last(shell.run(Task("second", RollCall())))), [[1, 0, 1]] * 3)
    assert time.monotonic() - began < timeout
    gate.touch()
    time.sleep(0.5)
    np.testing.assert_array_equal(present(last(shell.run(Task("third", RollCall())))), [[1, 1, 1]] * 3)


def test_an_actor_that_is_killed_drops_out_and_rejoins(packings: Packings, tmp_path: Path) -> None:
    algorithm = RollCall(dies=1, gate=str(tmp_path / "died"), until_back=True)
    final = last(coordinate(packings).run(Task("dies", algorithm)))
    rounds = present(final)
    assert rounds[0].all()
    np.testing.assert_array_equal(rounds[1], [1, 0, 1])
    assert rounds[-1].all()
    assert "actor is lost" in final.dropouts["Bonn"]


def test_all_centers_of_a_host_that_is_killed_drop_out(packings: Packings, tmp_path: Path) -> None:
    shell = CoordinatorShell(packings["two hosts"](), NAMES, Quorum(0.3), 60)
    final = last(shell.run(Task("dies", RollCall(dies=1, gate=str(tmp_path / "died"), until_back=True))))
    np.testing.assert_array_equal(present(final)[1], [0, 0, 1])
    assert present(final)[-1].all()
    assert final.dropouts.keys() == {"Aachen", "Bonn"}


@pytest.mark.parametrize(
    ("quorum", "message"),
    [
        (Quorum(fraction=0.9), "only 2 of 3 centers answered, the quorum is 0.9: Bonn: no answer within 2 s"),
        (
            Quorum(0.1, on_dropout="stop"),
            "stopped, as configured, since a center dropped out: Bonn: no answer within 2 s",
        ),
    ],
    ids=["quorum lost", "stop at a dropout"],
)
def test_a_run_that_stops_says_why_and_can_go_on(
    quorum: Quorum, message: str, packings: Packings, tmp_path: Path
) -> None:
    gate, kept = tmp_path / "gate", tmp_path / "kept.npz"
    algorithm = averaging(kind=HeldAveraging, wait_round=2, gate=str(gate))
    task = Task(f"stopped {message}", algorithm, checkpoint=kept, checkpoint_every=100)
    with pytest.raises(QuorumError) as caught:
        last(coordinate(packings, quorum, timeout=2.0).run(task))
    assert str(caught.value) == message
    assert int(load_state(kept)["round"]) == 2
    gate.touch()
    time.sleep(0.5)
    resumed = last(coordinate(packings, quorum).run(task)).final
    undisturbed = last(coordinate(packings).run(replace(task, checkpoint=None))).final
    assert resumed is not None
    assert undisturbed is not None
    np.testing.assert_array_equal(result(resumed), result(undisturbed))
