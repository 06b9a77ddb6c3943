"""The coordinator: what it streams, whom it asks, what it writes, and how it goes on after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray

from actors.coordinator import Coordinator, Progress, Task
from federation.algorithm import run
from federation.averaging import result
from federation.center import Center
from federation.checkpoint import load_state
from federation.in_process import InProcessFederation
from federation.policy import LOG, read_audit
from federation.quorum import QuorumError
from federation.splits import Split
from federation.strategies import FedAdam, Scaffold, Strategy
from models.training import TrainingOptions
from tests.actors.hospitals import NAMES, SCHEMA, HeldAveraging, RollCall, averaging, federation_of, patients
from tests.actors.test_backends import assert_same

SPLIT = Split(seed=1, n_folds=4, validation=0.2)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the centers of `coordinator` keep their logs and memory."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def coordinator(cluster: None, directory: Path) -> Iterator[Coordinator]:
    """Two hosts."""
    found = Coordinator(federation_of(), SCHEMA, directory=directory, timeout=120, hosts=2, cpus=0.0)
    assert found.load() == {}
    yield found
    found.close()


def last(progress: Iterator[Progress]) -> Progress:
    *_, final = progress
    return final


def appears(path: Path, seconds: float = 60) -> None:
    """Wait for a file."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.02)


# -- progress ------------------------------------------------------------------------------------------------------


def test_progress_arrives_while_the_task_runs_and_the_state_at_its_end(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    task = Task("streamed", RollCall(waits=1, wait_round=2, gate=str(gate), rounds=4), report_seconds=0)
    stream = coordinator.run(task)
    first, second = next(stream), next(stream)
    assert not gate.exists()  # round 2 has not been answered, and yet:
    assert (first.round, second.round) == (1, 2)
    assert first.final is None
    assert first.metrics == {"present": 3.0}
    assert first.dropouts == {}
    gate.touch()
    rest = list(stream)
    assert [p.round for p in rest] == [3, 4, 4]
    assert all(p.final is None for p in rest[:-1])
    assert rest[-1].final is not None
    np.testing.assert_array_equal(rest[-1].final["present"], np.ones((4, 3)))


def test_progress_can_be_rare(coordinator: Coordinator) -> None:
    found = list(coordinator.run(Task("rare", RollCall(rounds=5), report_seconds=1e9)))
    assert [p.round for p in found] == [5]


# -- who is asked --------------------------------------------------------------------------------------------------


def logged(directory: Path, name: str) -> list[dict]:  # type: ignore[type-arg]
    """What the audit logs say of a center."""
    return read_audit(directory / "audit").get(name, [])


def test_centers_that_are_left_out_are_not_asked(coordinator: Coordinator, directory: Path) -> None:
    final = last(coordinator.run(Task("left out", RollCall(), left_out=("Bonn",)))).final
    assert final is not None
    np.testing.assert_array_equal(final["present"], [[1, 0, 1]] * 3)
    asked = {name: [e for e in logged(directory, name) if e["task"] == "left out"] for name in NAMES}
    assert {name: len(entries) for name, entries in asked.items()} == {"Aachen": 3, "Bonn": 0, "Celle": 3}


def test_what_is_left_out_changes_nothing_but_its_absence(coordinator: Coordinator) -> None:
    def weights(name: str, *left_out: str) -> np.ndarray:
        final = last(coordinator.run(Task(name, averaging(), SPLIT, left_out=left_out))).final
        assert final is not None
        return result(final)

    everybody = weights("present or not")
    without = weights("present or not", "Bonn")
    assert np.abs(everybody - without).max() > 1e-3
    np.testing.assert_array_equal(weights("present or not"), everybody)


def test_the_audit_log_has_a_line_per_center_and_round_and_no_patient(
    coordinator: Coordinator, directory: Path
) -> None:
    last(coordinator.run(Task("audited", averaging(Scaffold(), rounds=3), SPLIT)))
    for name in NAMES:
        entries = [e for e in logged(directory, name) if e["task"] == "audited"]
        assert [e["round"] for e in entries] == [0, 1, 2, 3]
        for entry in entries:
            said = {"time", "center", "task", "round", "algorithm", "patients", "arrays", "bytes"}
            assert entry.keys() - {"previous"} == said  # the hash of the line before belongs to a line, not a center
            assert entry["center"] == name
            assert entry["patients"] == (SPLIT.parts(patients(name).ids, patients(name).event, name) == 0).sum()
            assert entry["arrays"]["by_center"] == [3, 6]  # a shape
            assert json.loads(entry["algorithm"])["algorithm"] == "parameter-averaging"
        text = "".join(path.read_text() for path in (directory / "audit").glob("*.jsonl"))
        assert "secret" not in text  # part of every patient's id
        for value in patients(name).values[:, :2].ravel().tolist() + patients(name).time.tolist():
            assert np.isnan(value) or f"{value:.4f}" not in text


# -- trouble -------------------------------------------------------------------------------------------------------


def test_an_error_inside_a_center_is_reported_in_one_line_and_the_others_go_on(coordinator: Coordinator) -> None:
    progress = last(coordinator.run(Task("failing", RollCall(fails=2))))
    assert progress.final is not None
    np.testing.assert_array_equal(progress.final["present"], [[1, 1, 0]] * 3)
    assert progress.dropouts == {"Celle": f"OSError; {LOG}"}
    assert coordinator.dropouts == progress.dropouts


def test_training_that_diverges_stops_with_what_was_trained_on_disk(coordinator: Coordinator, tmp_path: Path) -> None:
    kept = tmp_path / "kept.npz"
    steep = TrainingOptions(steps=1, learning_rate=30.0, weight_decay=1.0)  # grows 29 times a step
    task = Task("steep", averaging(rounds=60, training=steep), checkpoint=kept, checkpoint_every=1000)
    with pytest.raises(QuorumError) as caught:
        last(coordinator.run(task))
    assert type(caught.value) is QuorumError
    assert str(caught.value).startswith("only 0 of 3 centers answered, the quorum is 0.5: Aachen, Bonn, Celle: ")
    assert "did the loss turn NaN?" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    state = load_state(kept)
    assert int(state["round"]) > 5
    assert np.isfinite(state["weights"]).all()


# -- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Scaffold(), FedAdam()], ids=["scaffold", "fedadam"])
def test_going_on_from_a_checkpoint_gives_the_same_bits(
    strategy: Strategy, coordinator: Coordinator, tmp_path: Path
) -> None:
    gate, kept, copy = tmp_path / "gate", tmp_path / "kept.npz", tmp_path / "copy.npz"
    algorithm = averaging(strategy, HeldAveraging, rounds=7, wait_round=5, gate=str(gate))
    task = Task(f"resumed {strategy}", algorithm, SPLIT, 3, checkpoint=kept, checkpoint_every=4, report_seconds=0)
    stream = coordinator.run(task)
    assert next(stream).round == 1
    appears(Path(f"{gate}.pid"))  # a center waits in round 5
    assert int(load_state(kept)["round"]) == 4
    shutil.copy(kept, copy)
    gate.touch()
    uninterrupted = last(stream).final
    assert uninterrupted is not None
    assert_same(load_state(kept), uninterrupted)

    resumed = list(coordinator.run(replace(task, checkpoint=copy)))
    assert resumed[0].round == 5  # rather than from the start
    assert resumed[-1].final is not None
    assert_same(resumed[-1].final, uninterrupted)
    assert list(tmp_path.glob(".*")) == []  # no temporary file is left


def test_a_finished_task_is_not_run_again(coordinator: Coordinator, directory: Path, tmp_path: Path) -> None:
    task = Task("finished", RollCall(), checkpoint=tmp_path / "state.npz")
    final = last(coordinator.run(task)).final
    again = list(coordinator.run(task))
    assert len(again) == 1
    assert again[0].final is not None
    assert final is not None
    assert_same(again[0].final, final)
    assert len([e for e in logged(directory, "Bonn") if e["task"] == "finished"]) == 3


def test_killed_and_started_again_gives_the_same_bits(cluster: None, tmp_path: Path) -> None:
    """Coordinator and hosts are killed while a center works; SCAFFOLD's memory is on the centers' disks."""
    gate, kept = tmp_path / "gate", tmp_path / "kept.npz"
    algorithm = averaging(Scaffold(), HeldAveraging, rounds=7, wait_round=5, gate=str(gate))
    task = Task("killed", algorithm, SPLIT, 3, checkpoint=kept, checkpoint_every=2, report_seconds=0)
    begin = partial(Coordinator, federation_of(), SCHEMA, directory=tmp_path / "centers", hosts=1, cpus=0.0)
    first = begin()
    first.load()
    stream = first.run(task)
    assert next(stream).round == 1
    appears(Path(f"{gate}.pid"))
    ray.kill(first._coordinator)
    os.kill(int(Path(f"{gate}.pid").read_text()), signal.SIGKILL)
    with pytest.raises(ray.exceptions.RayError):
        last(stream)
    first.close()
    assert int(load_state(kept)["round"]) == 4
    gate.touch()

    second = begin()
    second.load()
    checkpoint = load_state(kept)
    resumed = list(second.run(task))
    second.close()
    assert resumed[0].round == 5
    # One host adds up in the order of one process, which knows nothing of checkpoints and kills.
    expected = run(algorithm, in_process(task))
    assert resumed[-1].final is not None
    assert_same(resumed[-1].final, expected)
    # Had the centers forgotten their control variates, it would show.
    assert np.abs(run(algorithm, in_process(task), checkpoint)["weights"] - expected["weights"]).max() > 1e-5


def in_process(task: Task) -> InProcessFederation:
    """The hospitals in this process, with no memory of an earlier run."""
    centers = [Center(s.name, s.source, s.position, SCHEMA) for s in federation_of()]
    return InProcessFederation(centers, task.seed, task.split, task.name)
