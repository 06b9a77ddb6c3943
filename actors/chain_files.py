"""The files of chains: whose directory it is, and of each chain the blocks of its steps and its checkpoint.

A block is written before the checkpoint: a block that the checkpoint does not know of is written again, with the same
bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from clustering.chain import State
from federation.checkpoint import load_state, save_state
from harmonization.files import replacing

CHECKPOINT = "checkpoint.safetensors"
IDENTITY = "chains.json"
"""In the directory of all chains: what fixes their bits."""


class ChainsError(ValueError):
    """A directory holds other chains, or chains stopped answering."""


def home_of(directory: Path, chain: int) -> Path:
    """The directory of one chain."""
    return directory / f"chain-{chain:03d}"


def claim(directory: Path, identity: Mapping[str, int], resume: bool) -> None:
    """Refuse to mix chains: what fixes their bits must be what the directory was begun with.

    Raises
    ------
    ChainsError
        If the directory holds other chains, or any and ``resume`` is not set.
    """
    path = directory / IDENTITY
    if path.exists():
        if not resume:
            raise ChainsError(f"{directory}: holds chains; resume them or choose another directory")
        if (found := json.loads(path.read_text(encoding="utf-8"))) != identity:
            raise ChainsError(f"{directory}: holds chains of {found}, which cannot go on as {identity}")
        return
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(identity), encoding="utf-8")


def read_checkpoint(home: Path) -> tuple[int, State] | None:
    """Number and state of the last step; None of a chain that has not begun."""
    if not (home / CHECKPOINT).exists():
        return None
    found = load_state(home / CHECKPOINT)
    state = {key.removeprefix("state."): array for key, array in found.items() if key.startswith("state.")}
    return int(found["number"]), state


def write_slice(
    home: Path, before: int, number: int, state: State, scalars: State, draws: list[State], seconds: float
) -> None:
    """Write what a slice added to a chain that had taken ``before`` steps: the block, then the checkpoint.

    Parameters
    ----------
    number, state
        Of the last step.
    scalars
        Name -> shape (steps,) or (steps, ...) of the new steps.
    draws
        Of the new steps.
    seconds
        That they took.
    """
    block = {f"scalar.{name}": values for name, values in scalars.items()} | pack(draws)
    path = home / f"block-{before + 1:09d}-{number:09d}.npz"
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **block, seconds=np.array(seconds))  # type: ignore[arg-type]
    prefixed = {f"state.{name}": np.asarray(array) for name, array in state.items()}
    save_state(home / CHECKPOINT, {"number": np.array(number), **prefixed})


def _blocks(home: Path) -> list[tuple[int, Path]]:
    """Last step and file of each block, in order."""
    return [(int(path.stem.rsplit("-", 1)[1]), path) for path in sorted(home.glob("block-*.npz"))]


def drop_unknown_blocks(home: Path, done: int) -> None:
    """Remove blocks behind the last step that the checkpoint knows of."""
    for last, path in _blocks(home):
        if last > done:
            path.unlink()


def read_trace(home: Path) -> tuple[dict[str, np.ndarray], float]:
    """Scalars of the steps up to the checkpoint, and the seconds they took."""
    checkpoint = read_checkpoint(home)
    parts, seconds = [], 0.0
    for last, path in _blocks(home):
        if checkpoint is not None and last <= checkpoint[0]:
            with np.load(path, allow_pickle=False) as file:
                parts.append({k.removeprefix("scalar."): file[k] for k in file.files if k.startswith("scalar.")})
                seconds += float(file["seconds"])
    if not parts:
        return {}, 0.0
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, seconds


def draws_of(home: Path) -> Iterator[State]:
    """The draws of a chain, one at a time."""
    for _, path in _blocks(home):
        with np.load(path, allow_pickle=False) as file:
            packed = {key: file[key] for key in file.files if key.startswith(("values.", "shapes."))}
        yield from unpack(packed)


def pack(draws: list[State]) -> State:
    """Draws as few arrays, though their shapes may differ from draw to draw: all values of a name, and its shapes."""
    packed: State = {}
    for name in draws[0]:
        arrays = [np.asarray(draw[name]) for draw in draws]
        packed[f"values.{name}"] = np.concatenate([a.ravel() for a in arrays])
        packed[f"shapes.{name}"] = np.array([a.shape for a in arrays], dtype=np.int64).reshape(len(arrays), -1)
    return packed


def unpack(packed: State) -> Iterator[State]:
    """The draws that `pack` packed."""
    names = [key.removeprefix("values.") for key in packed if key.startswith("values.")]
    columns = []
    for name in names:
        shapes = [tuple(int(n) for n in shape) for shape in packed[f"shapes.{name}"]]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        parts = np.split(packed[f"values.{name}"], ends)
        columns.append([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))
