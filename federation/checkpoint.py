"""States on disk: written whole or not at all, as plain arrays without pickles."""

from __future__ import annotations

import os
import tempfile
import zipfile
from glob import escape
from pathlib import Path

import numpy as np

from federation.state import State


def save_state(path: Path, state: State) -> None:
    """Write named arrays as ``.npz``: to a temporary file in the same directory, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **state)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def discard_state(path: Path) -> None:
    """Remove a checkpoint, if there is one, and what a process that was killed left unfinished beside it."""
    path.unlink(missing_ok=True)
    for unfinished in path.parent.glob(f".{escape(path.name)}.*"):
        unfinished.unlink(missing_ok=True)


def load_state(path: Path) -> State:
    """Read named arrays.

    Raises
    ------
    ValueError
        If the file is not such a checkpoint, naming it.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a readable checkpoint ({error}); delete it to start afresh") from None


class Checkpoint:
    """A hook that saves the state every few rounds.

    Parameters
    ----------
    path
        The file, replaced each time.
    every
        Rounds between two saves.
    """

    def __init__(self, path: Path, every: int = 10) -> None:
        self.path, self.every = path, every

    def __call__(self, state: State) -> None:
        if int(state["round"]) % self.every == 0:
            save_state(self.path, state)
