"""Resumed at any round, a run ends with the same bits, also in a new process with what is on disk alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from federation.algorithm import run
from federation.checkpoint import Checkpoint, load_state, save_state
from federation.splits import Split
from federation.state import State
from federation.strategies import STRATEGIES, Scaffold, build_strategy
from tests.federation.hospitals import NOISY, averaging, federation_of, require_equal_states, states

SPLIT = Split(validation=0.3)


@pytest.mark.parametrize("name", STRATEGIES)
def test_resumed_at_any_round(tmp_path: Path, name: str) -> None:
    algorithm = averaging(build_strategy(name), sample=0.67, rounds=4, **NOISY)
    whole = states(algorithm, federation_of(split=SPLIT))
    for r, state in enumerate(whole[:-1]):
        directory = tmp_path / str(r)

        def until(state: State, r: int = r) -> bool:
            return int(state["round"]) == r

        if r:  # a first process, killed after round r
            run(algorithm, federation_of(split=SPLIT, directory=directory), after_round=[until])
        save_state(directory / "state.npz", state)
        again = run(algorithm, federation_of(split=SPLIT, directory=directory), load_state(directory / "state.npz"))
        require_equal_states(again, whole[-1])


@pytest.mark.parametrize(("every", "killed"), [(1, 4), (3, 4), (3, 8), (10, 4)])
def test_killed_between_two_checkpoints(tmp_path: Path, every: int, killed: int) -> None:
    # The centers remember rounds that the coordinator has forgotten, and must answer them again as they did.
    algorithm = averaging(Scaffold(), sample=0.67, rounds=9, **NOISY)
    whole = states(algorithm, federation_of(split=SPLIT))[-1]
    path = tmp_path / "state.npz"

    def kill(state: State) -> None:
        if int(state["round"]) == killed:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            algorithm,
            federation_of(split=SPLIT, directory=tmp_path, checkpoint_every=every),
            after_round=[Checkpoint(path, every), kill],
        )
    saved = load_state(path) if path.exists() else None
    assert (0 if saved is None else int(saved["round"])) == killed // every * every
    federation = federation_of(split=SPLIT, directory=tmp_path, checkpoint_every=every)
    again = run(algorithm, federation, saved, after_round=[Checkpoint(path, every)])
    require_equal_states(again, whole)


def test_the_defaults_of_checkpoints_and_memory_fit_together(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    algorithm = averaging(Scaffold(), rounds=16)
    whole = states(algorithm, federation_of())[-1]
    run(
        algorithm,
        federation_of(directory=tmp_path),
        after_round=[Checkpoint(path), lambda state: int(state["round"]) == 15],
    )
    assert load_state(path)["round"] == 10
    require_equal_states(run(algorithm, federation_of(directory=tmp_path), load_state(path)), whole)


def test_without_its_memory_a_center_would_go_on_differently(tmp_path: Path) -> None:
    # So the tests above see it.
    algorithm = averaging(Scaffold(), rounds=5)
    whole = states(algorithm, federation_of())
    forgetful = run(algorithm, federation_of(directory=tmp_path / "empty"), whole[3])
    assert not np.array_equal(forgetful["weights"], whole[-1]["weights"])


def test_a_second_run_in_the_same_directory_starts_afresh(tmp_path: Path) -> None:
    # What the first run left in the centers' memory belongs to later rounds, and is not read.
    algorithm = averaging(Scaffold(), sample=0.67, rounds=6)
    first = run(algorithm, federation_of(directory=tmp_path))
    require_equal_states(run(algorithm, federation_of(directory=tmp_path)), first)


def test_resuming_does_not_change_the_checkpoint_in_place(tmp_path: Path) -> None:
    algorithm = averaging(build_strategy("fedadam"), rounds=4)
    whole = states(algorithm, federation_of())
    before = {name: array.copy() for name, array in whole[2].items()}
    run(algorithm, federation_of(), whole[2])
    require_equal_states(whole[2], before)
