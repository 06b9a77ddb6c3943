"""States on disk: written whole or not at all, as plain arrays and JSON, never a pickle.

Models and checkpoints are safetensors files: a JSON header with the names, types and shapes of all arrays, which have
to cover the file exactly, and the arrays behind it. Text, which the format has no type for, is in the header. A path
that ends in ``.npz`` is written and read as one, for tables of numbers that others open with NumPy.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import zipfile
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from federation.state import State

MAX_BYTES = 4 * 2**30
"""Of the arrays in one file, unless the reader says otherwise."""

MAX_ARRAYS, MAX_DIMENSIONS = 100_000, 32
"""In one file, and of one array."""

KINDS = frozenset(["BOOL", "U8", "I8", "U16", "I16", "F16", "U32", "I32", "F32", "U64", "I64", "F64"])
"""Types of numbers that a state may have."""

TEXT = "text"
"""Key in the header for arrays of text."""


def save_state(path: Path, state: State) -> None:
    """Write named arrays of numbers or text: to a temporary file in the same directory, then rename.

    Raises
    ------
    ValueError
        If an array holds something else, naming it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        if path.suffix == ".npz":
            with Path(temporary).open("wb") as file:
                np.savez(file, **state)  # type: ignore[arg-type]
        else:
            numbers, text = _parted(path, state)
            save_file(numbers, temporary, {TEXT: json.dumps(text)} if text else None)
        with Path(temporary).open("rb+") as written:
            os.fsync(written.fileno())
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
        if path.suffix == ".npz":
            _require_honest_sizes(path, max_bytes)
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        return _read(path, max_bytes)
    except (SafetensorError, zipfile.BadZipFile, ValueError, TypeError, KeyError, EOFError) as error:
        raise ValueError(f"{path}: not a readable checkpoint ({error}); delete it to start afresh") from None


def _parted(path: Path, state: State) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays of numbers, and those of text as JSON."""
    numbers, text = {}, {}
    for name, value in state.items():
        array = np.asarray(value)
        if array.dtype.kind == "U":
            text[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "values": array.ravel().tolist()}
        elif array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
            numbers[name] = array.astype(array.dtype.newbyteorder("="), order="C")
        else:
            raise ValueError(f"{path}: {name!r} is an array of {array.dtype}; a state has numbers and text")
    return numbers, text


def _read(path: Path, max_bytes: int) -> State:
    """Nothing is set aside before the header has been checked against the size of the file (by the library)."""
    size = path.stat().st_size
    if size > max_bytes:
        raise ValueError(f"{size} bytes, more than the {max_bytes} that are read")
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":
            raise ValueError("an .npz file of an earlier version, which kept states in another format")
    with safe_open(path, framework="numpy") as tensors:
        names = list(tensors.keys())
        if len(names) > MAX_ARRAYS:
            raise ValueError(f"{len(names)} arrays, more than the {MAX_ARRAYS} that are read")
        for name in names:
            described = tensors.get_slice(name)
            if (kind := described.get_dtype()) not in KINDS:
                raise ValueError(f"{name!r} has numbers of type {kind}; those read are {', '.join(sorted(KINDS))}")
            if len(shape := described.get_shape()) > MAX_DIMENSIONS:
                raise ValueError(f"{name!r} has {len(shape)} dimensions, more than the {MAX_DIMENSIONS} that are read")
        header = tensors.metadata() or {}
        state: dict[str, NDArray[Any]] = {name: tensors.get_tensor(name) for name in names}
    return state | _texts(header.get(TEXT, "{}"), max_bytes)


def _texts(header: str, max_bytes: int) -> dict[str, NDArray[Any]]:
    found = {}
    for name, described in json.loads(header).items():
        dtype, shape, values = (described[key] for key in ("dtype", "shape", "values"))
        kind = np.dtype(dtype)
        if kind.kind != "U" or not all(isinstance(value, str) for value in values):
            raise ValueError(f"{name!r} is said to be text, but of type {dtype}")
        if math.prod(shape) != len(values) or kind.itemsize * len(values) > max_bytes:
            raise ValueError(f"{name!r} has {len(values)} texts, which do not hold shape {tuple(shape)} of {dtype}")
        found[name] = np.array(values, dtype=kind).reshape(shape)
    return found


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
