"""States on disk: whole or not at all, bit for bit, and never a pickle."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.checkpoint import Checkpoint, discard_state, load_state, save_state
from tests.federation.hospitals import require_equal_states

STATE: dict[str, NDArray[Any]] = {
    "round": np.array(3),
    "weights": np.array([0.1, np.pi], np.float32),
    "moments/first": np.array([1 / 3, np.nan, np.inf]),
    "stopped": np.array(False),
    "empty": np.empty((0, 4)),
}


def test_bit_for_bit(tmp_path: Path) -> None:
    save_state(tmp_path / "deep" / "state.npz", STATE)
    require_equal_states(load_state(tmp_path / "deep" / "state.npz"), STATE)


def test_an_interrupted_write_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.npz"
    save_state(path, STATE)

    def cut(file: object, **arrays: object) -> None:
        file.write(b"half a file")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", cut)
    with pytest.raises(KeyboardInterrupt):
        save_state(path, {"round": np.array(4)})
    require_equal_states(load_state(path), STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    save_state(path, STATE)
    for damaged in (b"", b"nothing", path.read_bytes()[:100]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"state\.npz: not a readable checkpoint .*delete it to start afresh"):
            load_state(path)


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    np.savez(path, code=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_state(path)


def test_a_header_that_says_more_than_the_file_has_is_not_believed(tmp_path: Path) -> None:
    """NumPy would ask for an exabyte."""
    path = tmp_path / "state.npz"
    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (144115188075855872,), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.npy", header + len(text).to_bytes(2, "little") + text + bytes(16))
    with pytest.raises(
        ValueError, match=r"weights\.npy has \d+ bytes, which do not hold shape \(144115188075855872,\)"
    ):
        load_state(path)


def test_a_file_larger_than_its_reader_allows_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # a bomb: small on disk
        archive.writestr("weights.npy", bytes(10**6))
    assert path.stat().st_size < 5000
    with pytest.raises(ValueError, match="1000000 bytes, more than the 999999 that are read"):
        load_state(path, max_bytes=999_999)


def test_every_few_rounds(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    hook, saved = Checkpoint(path, every=3), []
    for r in range(1, 9):
        hook({"round": np.array(r)})
        saved.append(int(load_state(path)["round"]) if path.exists() else 0)
    assert saved == [0, 0, 3, 3, 3, 6, 6, 6]


def test_a_discarded_state_leaves_nothing_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "a[1].npz"
    save_state(path, {"round": np.array(3)})
    (tmp_path / ".a[1].npz.half").write_bytes(b"half")  # what a kill between the write and the rename leaves
    (tmp_path / ".b.npz.half").write_bytes(b"of another")
    discard_state(path)
    assert [p.name for p in tmp_path.iterdir()] == [".b.npz.half"]
    discard_state(path)
