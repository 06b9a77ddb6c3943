"""What a center remembers between rounds."""

from __future__ import annotations

from pathlib import Path

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
            self._rounds = {int(p.stem): load_state(p) for p in directory.glob("*.npz")}

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
        for later in [r for r in self._rounds if r >= self._round]:  # the run went back to an earlier round
            self._forget(later)
        if self._left:
            self._rounds[self._round] = self._left
            if self._directory is not None:
                save_state(self._directory / f"{self._round}.npz", self._left)
        for old in sorted(r for r in self._rounds if r < keep_from)[:-1]:
            self._forget(old)

    def _forget(self, round: int) -> None:
        del self._rounds[round]
        if self._directory is not None:
            (self._directory / f"{round}.npz").unlink(missing_ok=True)
