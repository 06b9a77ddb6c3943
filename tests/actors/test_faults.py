"""Centers that fail, each in its own way: named in one line, counted under the quorum rule, and the others go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from numpy.typing import NDArray

from actors.coordinator import CoordinatorShell, Progress, Task
from actors.federation import revived
from federation.algorithm import Roster
from federation.averaging import result
from federation.checkpoint import load_state, save_state
from federation.policy import LOG
from federation.quorum import Quorum, QuorumError
from federation.state import State
from tests.actors.conftest import Packings, StartHost, lose
from tests.actors.hospitals import (
    NAMES,
    HeldAveraging,
    RollCall,
    absurd,
    averaging,
    crash,
    federation_of,
    from_file,
    lost_file,
    other_schema,
)


def coordinate(packings: Packings, quorum: Quorum | None = None, timeout: float = 120) -> CoordinatorShell:
    """The coordinator's loop in this process, over one actor per center."""
    return CoordinatorShell(packings["one actor per center"](), NAMES, quorum or Quorum(), timeout)


def patience(packings: Packings) -> float:
    """A time limit that only who waits for a gate exceeds: many times what rounds take on this machine now."""
    last(coordinate(packings).run(Task("everything is loaded", averaging(rounds=1))))
    began = time.monotonic()
    last(coordinate(packings).run(Task("measured", averaging(rounds=2))))
    return round(max(2.0, 10 * (time.monotonic() - began)), 1)


def settle(shell: CoordinatorShell) -> None:
    """Wait until every host has finished what it was asked."""
    busy = [host.busy for host in shell._hosts if host.busy is not None]
    assert len(ray.wait(busy, num_returns=len(busy), timeout=120)[0]) == len(busy)


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
    assert shell.load() == {"Aachen": f"CohortError; {LOG}", "Celle": f"SchemaError; {LOG}"}
    np.testing.assert_array_equal(present(last(shell.run(Task("rest", RollCall())))), [[0, 1, 0]] * 3)


def test_too_few_centers_with_data_stop_the_run_in_one_line(host: StartHost) -> None:
    shell = CoordinatorShell([host(federation_of(Aachen=lost_file, Celle=other_schema))], NAMES, Quorum(), 120)
    with pytest.raises(QuorumError) as caught:
        shell.load()
    message = str(caught.value)
    assert message.startswith("only 1 of 3 centers answered, the quorum is 0.5: Aachen: CohortError; details")
    assert "Celle: SchemaError; details" in message
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
    shell = coordinate(packings, timeout=patience(packings))
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
    gate, timeout = tmp_path / "gate", patience(packings)
    shell = coordinate(packings, timeout=timeout)
    stream = shell.run(Task("late", RollCall(waits=1, gate=str(gate), rounds=6), report_seconds=0))
    began = time.monotonic()
    first = next(stream)
    assert time.monotonic() - began < timeout
    with caplog.at_level(logging.WARNING, "haemfed"):
        second = next(stream)  # round 1: waited for until the timeout
    assert timeout < time.monotonic() - began
    assert (first.metrics["present"], second.metrics["present"]) == (3, 2)
    assert second.dropouts == {"Bonn": f"no answer within {timeout:g} s"}
    assert [r.getMessage() for r in caplog.records] == [f"round 1: dropped out: Bonn: no answer within {timeout:g} s"]
    began = time.monotonic()
    third, fourth = next(stream), next(stream)
    assert time.monotonic() - began < timeout  # two rounds in less than one timeout
    assert fourth.dropouts == {"Bonn": "still busy with an earlier round"}
    assert third.metrics == fourth.metrics == {"present": 2.0}
    gate.touch()
    settle(shell)
    final = last(stream)
    assert final.final is not None
    expected = [[1, 1, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1]]
    np.testing.assert_array_equal(present(final), expected)  # the late answer itself is not counted
    np.testing.assert_array_equal(final.final["draws"] != 0, expected)


def test_a_center_that_is_late_in_one_task_is_not_waited_for_in_the_next(packings: Packings, tmp_path: Path) -> None:
    gate, timeout = tmp_path / "gate", patience(packings)
    shell = coordinate(packings, timeout=timeout)
    last(shell.run(Task("first", RollCall(waits=1, gate=str(gate)))))
    began = time.monotonic()
    np.testing.assert_array_equal(present(last(shell.run(Task("second", RollCall())))), [[1, 0, 1]] * 3)
    assert time.monotonic() - began < timeout
    gate.touch()
    settle(shell)
    np.testing.assert_array_equal(present(last(shell.run(Task("third", RollCall())))), [[1, 1, 1]] * 3)


@pytest.mark.parametrize("packing", ["one actor per center", "two hosts"])
def test_a_host_that_is_killed_in_a_round_starts_again_and_no_round_is_lost(
    packing: str, packings: Packings, tmp_path: Path
) -> None:
    shell, gate = CoordinatorShell(packings[packing](), NAMES, Quorum(), 120), tmp_path / "died"
    final = last(shell.run(Task("dies", RollCall(dies=1, gate=str(gate)))))
    assert gate.exists()
    np.testing.assert_array_equal(present(final), np.ones((3, 3)))
    assert final.dropouts == {}
    # Everybody drew in round 1 what they would have drawn anyway, once.
    undisturbed = last(shell.run(Task("dies", RollCall())))
    assert final.final is not None
    assert undisturbed.final is not None
    np.testing.assert_array_equal(final.final["draws"], undisturbed.final["draws"])


def test_an_actor_that_stands_by_takes_over_and_no_round_is_lost(
    host: StartHost, packings: Packings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.standby.AFTER", 0.0)
    hosts = [host(federation_of()[:2]), *packings["two hosts"]()[1:]]
    hosts[0].specs = federation_of()[:2]
    original = hosts[0].actor
    shell = CoordinatorShell(hosts, NAMES, Quorum(), 120, start=lambda: host([]).actor)
    assert shell._standby is not None
    undisturbed = last(shell.run(Task("dies", RollCall()))).final
    deadline = time.monotonic() + 60
    while not shell._standby._ready:
        last(shell.run(Task("meanwhile", RollCall(rounds=1))))
        assert time.monotonic() < deadline

    gate = tmp_path / "died"
    final = last(shell.run(Task("dies", RollCall(dies=0, gate=str(gate)))))
    assert gate.exists()
    assert hosts[0].actor is not original
    assert final.dropouts == {}
    assert final.final is not None
    assert undisturbed is not None
    np.testing.assert_array_equal(final.final["draws"], undisturbed["draws"])

    # Ray starts it again without centers, unnoticed between two rounds; nobody is missing, nobody counts twice.
    lose(hosts[0])
    assert revived(hosts[0], time.monotonic() + 60)
    again = last(shell.run(Task("dies", RollCall()))).final
    assert again is not None
    np.testing.assert_array_equal(again["draws"], undisturbed["draws"])


def test_a_host_that_is_killed_again_and_again_drops_out(packings: Packings, tmp_path: Path) -> None:
    algorithm = RollCall(dies=1, gate=str(tmp_path / "no such folder" / "died"), rounds=2)
    final = last(coordinate(packings, timeout=120).run(Task("dies always", algorithm)))
    np.testing.assert_array_equal(present(final), [[1, 1, 1], [1, 0, 1]])
    assert "actor is lost" in final.dropouts["Bonn"]


class Forged:
    """An actor handle whose answers somebody has changed on the way."""

    def __init__(self, actor: Any, change: Callable[[dict[str, NDArray[Any]]], None]) -> None:
        self._actor, self._change = actor, change
        self.answer = self

    def remote(self, *arguments: Any) -> Any:
        patients, sums, dropouts = ray.get(self._actor.answer.remote(*arguments))
        sums = {name: np.array(array) for name, array in sums.items()}
        self._change(sums)
        return ray.put((patients, sums, dropouts))


def _nan(sums: dict[str, NDArray[Any]]) -> None:
    sums["update"][1, 3] = np.nan


def _infinity(sums: dict[str, NDArray[Any]]) -> None:
    sums["weight"][1] = np.inf


def _shape(sums: dict[str, NDArray[Any]]) -> None:
    sums["update"] = sums["update"][:, :-1]


def _no_sum(sums: dict[str, NDArray[Any]]) -> None:
    sums["update"] = sums["update"][0]


def _huge(sums: dict[str, NDArray[Any]]) -> None:
    sums["update"][1:] *= 1e6


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_nan, "sent 'update' with values that are not finite"),
        (_infinity, "sent 'weight' with values that are not finite"),
        (_shape, "sent what cannot be added: ValueError: 'update' has shape"),
        (_no_sum, "sent what cannot be added: ValueError: 'update' of shape"),
        (_huge, "the update is longer than"),
    ],
)
def test_an_answer_that_makes_no_sense_is_left_out(
    change: Callable[[dict[str, NDArray[Any]]], None], why: str, packings: Packings
) -> None:
    hosts = packings["one actor per center"]()
    assert revived(hosts[1], time.monotonic() + 120)  # should it have been killed before
    hosts[1].actor = Forged(hosts[1].actor, change)  # type: ignore[assignment]
    task = Task("forged", averaging(rounds=2, max_norm=50.0))
    final = last(CoordinatorShell(hosts, NAMES, Quorum(), 60).run(task))
    assert final.dropouts.keys() == {"Bonn"}
    assert final.dropouts["Bonn"].startswith(why)
    without = last(coordinate(packings).run(replace(task, left_out=("Bonn",)))).final
    assert final.final is not None
    assert without is not None
    np.testing.assert_array_equal(final.final["weights"], without["weights"])


def test_a_center_whose_update_is_too_long_keeps_it(packings: Packings) -> None:
    final = last(coordinate(packings).run(Task("long", averaging(rounds=1))))
    assert final.final is not None
    lengths = {}
    for name in NAMES:
        others = tuple(n for n in NAMES if n != name)
        alone = last(coordinate(packings, Quorum(0.0)).run(Task("long", averaging(rounds=1), left_out=others))).final
        start = averaging(rounds=1).start(Roster(NAMES, 0))["weights"]
        assert alone is not None
        lengths[name] = float(np.linalg.norm(alone["weights"] - start))
    *short, longest = sorted(lengths, key=lengths.__getitem__)
    limit = (lengths[short[-1]] + lengths[longest]) / 2
    for packing in ("one host", "one actor per center"):
        shell = CoordinatorShell(packings[packing](), NAMES, Quorum(), 60)
        dropouts = last(shell.run(Task("long", averaging(rounds=1, max_norm=limit)))).dropouts
        assert dropouts == {longest: f"the update is longer than the limit (max_norm) of {limit:g}; {LOG}"}


def test_a_center_that_comes_late_joins_the_next_task(host: StartHost, tmp_path: Path) -> None:
    path = tmp_path / "Bonn.csv"
    late = federation_of(Bonn=partial(from_file, str(path)))
    shell = CoordinatorShell([host(late)], NAMES, Quorum(), 120)
    assert shell.load().keys() == {"Bonn"}
    np.testing.assert_array_equal(present(last(shell.run(Task("first", RollCall())))), [[1, 0, 1]] * 3)
    path.touch()
    final = last(shell.run(Task("second", RollCall())))
    np.testing.assert_array_equal(present(final), np.ones((3, 3)))


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(
    packings: Packings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saved: list[int] = []

    def full(path: Path, state: State) -> None:
        if int(state["round"]) == 4:
            raise OSError(28, "No space left on device")
        saved.append(int(state["round"]))
        save_state(path, state)

    monkeypatch.setattr("actors.coordinator.save_state", full)
    kept = tmp_path / "kept.npz"
    with caplog.at_level(logging.WARNING, "haemfed"):
        final = last(coordinate(packings).run(Task("full", RollCall(rounds=7), checkpoint=kept, checkpoint_every=2)))
    assert saved == [2, 6, 7]
    assert "round 4: no checkpoint: OSError: [Errno 28] No space left" in caplog.records[0].getMessage()
    assert final.final is not None
    assert int(load_state(kept)["round"]) == 7


@pytest.mark.parametrize(
    ("quorum", "message"),
    [
        (Quorum(fraction=0.9), "only 2 of 3 centers answered, the quorum is 0.9: Bonn: no answer within "),
        (
            Quorum(0.1, on_dropout="stop"),
            "stopped, as configured, since a center dropped out: Bonn: no answer within ",
        ),
    ],
    ids=["quorum lost", "stop at a dropout"],
)
def test_a_run_that_stops_says_why_and_can_go_on(
    quorum: Quorum, message: str, packings: Packings, tmp_path: Path
) -> None:
    gate, kept, timeout = tmp_path / "gate", tmp_path / "kept.npz", patience(packings)
    algorithm = averaging(kind=HeldAveraging, wait_round=2, gate=str(gate))
    task = Task(f"stopped {message}", algorithm, checkpoint=kept, checkpoint_every=100)
    with pytest.raises(QuorumError) as caught:
        last(coordinate(packings, quorum, timeout=timeout).run(task))
    assert str(caught.value) == f"{message}{timeout:g} s"
    assert int(load_state(kept)["round"]) == 2
    gate.touch()
    resumed = last(coordinate(packings, quorum).run(task)).final
    undisturbed = last(coordinate(packings).run(replace(task, checkpoint=None))).final
    assert resumed is not None
    assert undisturbed is not None
    np.testing.assert_array_equal(result(resumed), result(undisturbed))
