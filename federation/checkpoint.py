"""States on disk: written whole or not at all, as plain arrays without pickles."""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
from glob import escape
from pathlib import Path

import numpy as np

from federation.state import State

MAX_BYTES = 4 * 2**30
"""Of the arrays in one file, unless the reader says otherwise."""


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


def load_state(path: Path, max_bytes: int = MAX_BYTES) -> State:
    """Read named arrays.

    Parameters
    ----------
    max_bytes
        What all arrays together may take; a file that would take more is not read.

    Raises
    ------
    ValueError
        If the file is not such a checkpoint, or too large, naming it.
    """
    try:
        _require_honest_sizes(path, max_bytes)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a readable checkpoint ({error}); delete it to start afresh") from None


def _require_honest_sizes(path: Path, max_bytes: int) -> None:
    """Raise ValueError unless every array takes as many bytes as its file has, and all together few enough.

    NumPy believes a header and sets aside what it says: a few bytes could ask for more memory than there is.
    """
    with zipfile.ZipFile(path) as archive:
        total = sum(info.file_size for info in archive.infolist())
        if total > max_bytes:
            raise ValueError(f"{total} bytes, more than the {max_bytes} that are read")
        for info in archive.infolist():
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                if version == (1, 0):
                    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                elif version == (2, 0):
                    shape, _, dtype = np.lib.format.read_array_header_2_0(file)
                else:
                    raise ValueError(f"{info.filename} has a format of version {version}")
                if dtype.hasobject:
                    raise ValueError(f"{info.filename} holds objects, not numbers")
                if math.prod(shape) * dtype.itemsize != info.file_size - file.tell():
                    raise ValueError(f"{info.filename} has {info.file_size} bytes, which do not hold shape {shape}")


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
