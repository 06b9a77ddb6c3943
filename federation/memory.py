"""What a center remembers between rounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from federation.checkpoint import load_state, save_state
from federation.state import State


class Memory:
    """What a center remembers between the rounds of one task (SCAFFOLD's control variate, a personal head).

    A round reads what the rounds before it left, so that a question asked twice is answered the same. Given a
    directory, memory outlives the process: a resumed run finds it.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._rounds: dict[int, State] = {}
        self._left: State = {}
        self._round = 0
        if directory is not None and directory.exists():
            self._rounds = {int(p.stem): load_state(p) for p in directory.glob("*.safetensors")}

    def open(self, round: int) -> Memory:
        """Called by the wall: this round is about to be answered."""
        self._round, self._left = round, {}
        return self

    def recall(self) -> State:
        """What was left by the last round before this one; empty at the start."""
        past = [r for r in self._rounds if r < self._round]
        return self._rounds[max(past)] if past else {}

    def leave(self, arrays: State) -> None:
        """What the next rounds will find."""
        self._left = arrays

    def commit(self, keep_from: int) -> None:
        """Called by the wall after an answer: file what was left, and forget what can no longer be asked for."""
        if not self._rounds and not self._left:
            return
        for later in [r for r in self._rounds if r >= self._round]:  # the run went back to an earlier round
            self._forget(later)
        if self._left:
            self._rounds[self._round] = self._left
            if self._directory is not None:
                save_state(self._directory / f"{self._round}.safetensors", self._left)
        for old in sorted(r for r in self._rounds if r < keep_from)[:-1]:
            self._forget(old)

    @property
    def used(self) -> bool:
        """Whether there is anything to remember."""
        return bool(self._rounds)

    def snapshot(self) -> State:
        """What a round after this one would recall."""
        past = [r for r in self._rounds if r <= self._round]
        return self._rounds[max(past)] if past else {}

    def restore(self, round: int, arrays: State) -> None:
        """Take in what was left by a round of an earlier process."""
        self._rounds[round] = arrays

    def _forget(self, round: int) -> None:
        del self._rounds[round]
        if self._directory is not None:
            (self._directory / f"{round}.safetensors").unlink(missing_ok=True)


class SharedMemory:
    """The memories of all centers of a host, in one file per round: a thousand small files a round would take seconds.

    Parameters
    ----------
    directory
        Where the hosts' files of a task are. A center's memory is found there whichever host held it before.
    host
        Names this host's files.
    memories
        Of the centers, by name.
    """

    def __init__(self, directory: Path, host: str, memories: Mapping[str, Memory]) -> None:
        self._directory, self._host, self._memories = directory, host, memories
        for path in sorted(directory.glob("*.safetensors")):
            round, arrays = int(path.name.split("--")[0]), load_state(path)
            found: dict[str, dict[str, NDArray[Any]]] = {}
            for key, array in arrays.items():
                center, _, name = key.rpartition("/")
                found.setdefault(center, {})[name] = array
            for center in found.keys() & memories.keys():
                memories[center].restore(round, found[center])

    def commit(self, round: int, keep_from: int) -> None:
        """File what the centers remember after this round; `keep_from` as for `Memory.commit`."""
        kept = {name: memory.snapshot() for name, memory in self._memories.items() if memory.used}
        if not kept:
            return
        arrays = {f"{name}/{key}": array for name, state in kept.items() for key, array in state.items()}
        mine = {int(path.name.split("--")[0]): path for path in self._directory.glob(f"*--{self._host}.safetensors")}
        for later in [r for r in mine if r >= round]:  # the run went back to an earlier round
            mine.pop(later).unlink()
        if arrays:
            save_state(self._directory / f"{round}--{self._host}.safetensors", arrays)
            mine[round] = self._directory / f"{round}--{self._host}.safetensors"
        for old in sorted(r for r in mine if r < keep_from)[:-1]:
            mine[old].unlink()
