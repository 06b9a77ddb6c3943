"""States on disk: whole or not at all, bit for bit, and never a pickle."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors.numpy import save_file

import federation.checkpoint
from federation.checkpoint import Checkpoint, discard_state, load_state, save_state
from tests.federation.hospitals import require_equal_states

STATE: dict[str, NDArray[Any]] = {
    "round": np.array(3),
    "weights": np.array([0.1, np.pi], np.float32),
    "moments/first": np.array([1 / 3, np.nan, np.inf]),
    "stopped": np.array(False),
    "empty": np.empty((0, 4)),
    "names": np.array(["Ulm", "", "Köln"]),
}


def test_bit_for_bit(tmp_path: Path) -> None:
    save_state(tmp_path / "deep" / "state.safetensors", STATE)
    require_equal_states(load_state(tmp_path / "deep" / "state.safetensors"), STATE)


def test_an_interrupted_write_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, STATE)

    def cut(arrays: object, file: str, header: object) -> None:
        Path(file).write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(federation.checkpoint, "save_file", cut)
    with pytest.raises(KeyboardInterrupt):
        save_state(path, {"round": np.array(4)})
    require_equal_states(load_state(path), STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, STATE)
    for damaged in (b"", b"nothing", path.read_bytes()[:100]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"\.safetensors: not a readable checkpoint .*delete it to start afresh"):
            load_state(path)


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    np.savez(path, code=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_state(path)
    path = tmp_path / "state.safetensors"
    path.write_bytes(pickle.dumps({"weights": print}))
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_state(path)
    for wrong in (np.array([print], dtype=object), np.array(1j), np.array("2020-01-01", "M8[D]"), np.array(b"bytes")):
        with pytest.raises(ValueError, match=r"\.safetensors: 'code' is an array of .*; a state has numbers and text"):
            save_state(path, {"code": wrong})


def test_a_file_of_an_earlier_version_is_called_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "state.npz", weights=np.zeros(3))
    (tmp_path / "state.npz").rename(tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match=r"state\.safetensors: .*an \.npz file of an earlier version.*delete it"):
        load_state(tmp_path / "state.safetensors")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"w": {"dtype": "F64", "shape": [2**37], "data_offsets": [0, 2**40]}}, "not fully covered"),
        ({"w": {"dtype": "F64", "shape": [3], "data_offsets": [0, 16]}}, "invalid shape"),
        ({"w": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}, "not fully covered"),
        ({"w": {"dtype": "O", "shape": [2], "data_offsets": [0, 16]}}, "unknown variant"),
        (
            {"w": {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}},
            "'w' has numbers of type BF16; those read",
        ),
        ({"w": {"dtype": "F64", "shape": [1] * 33 + [2], "data_offsets": [0, 16]}}, "'w' has 34 dimensions, more than"),
        ({"w": {"dtype": "F64", "shape": [-2], "data_offsets": [0, 16]}}, "invalid"),
        ({"w": {"dtype": "F64", "shape": [2]}}, "missing field"),
        ([], "invalid"),
    ],
)
def test_a_header_is_not_believed(header: object, message: str, tmp_path: Path) -> None:
    """A terabyte that is claimed, another shape, numbers that nobody knows: one error, and no memory set aside."""
    text, path = json.dumps(header).encode(), tmp_path / "state.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with pytest.raises(ValueError, match=rf"state\.safetensors: not a readable checkpoint \(.*{message}"):
        load_state(path)


def test_a_long_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="header too large"):
        load_state(path)


@pytest.mark.parametrize(
    "text",
    [
        {"a": {"dtype": "<U1", "shape": [10**12], "values": ["x"]}},
        {"a": {"dtype": f"<U{2**28}", "shape": [8], "values": ["x"] * 8}},
        {"a": {"dtype": "|O", "shape": [1], "values": ["x"]}},
        {"a": {"dtype": "<U1", "shape": [1], "values": [1]}},
        {"a": {"dtype": "<U1"}},
    ],
)
def test_text_in_the_header_is_not_believed(text: object, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_file({"w": np.zeros(1)}, path, {"text": json.dumps(text)})
    with pytest.raises(ValueError, match=r"state\.safetensors: not a readable checkpoint"):
        load_state(path)


NUMBERS = st.sampled_from(["?", "i1", "u1", "i2", "f2", "i4", "u4", "f4", "i8", "u8", "f8", ">f8", ">i4"]).map(np.dtype)
ARRAYS = hnp.arrays(
    NUMBERS | hnp.unicode_string_dtypes(max_len=5, endianness="="), hnp.array_shapes(min_dims=0, max_side=4, min_side=0)
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text(max_size=8).filter(lambda name: name != "__metadata__"), ARRAYS, max_size=4), st.booleans()
)
def test_any_state_is_read_as_it_was_written(tmp_path: Path, state: dict[str, NDArray[Any]], turned: bool) -> None:
    state = {name: array.T if turned else array for name, array in state.items()}
    save_state(tmp_path / "any.safetensors", state)
    found = load_state(tmp_path / "any.safetensors")
    assert found.keys() == state.keys()
    for name, array in state.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_changed_in_a_file_it_is_read_or_named(tmp_path: Path, data: st.DataObject) -> None:
    """Cut, longer, or with other bytes anywhere: a state, or the one error."""
    path = tmp_path / "damaged.safetensors"
    save_state(path, {**STATE, "names": np.array(["a", "bc"])})
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for _ in range(data.draw(st.integers(0, 3))):
        if whole:
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole) + data.draw(st.binary(max_size=3)))
    said = "damaged.safetensors: not a readable checkpoint"
    try:
        load_state(path)
    except ValueError as error:
        said = str(error)
    assert "damaged.safetensors: not a readable checkpoint" in said


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


def test_the_size_of_a_file_is_limited(tmp_path: Path) -> None:
    save_state(tmp_path / "state.safetensors", {"w": np.zeros(1000)})
    with pytest.raises(ValueError, match=r"8\d\d\d bytes, more than the 8000 that are read"):
        load_state(tmp_path / "state.safetensors", max_bytes=8000)


def test_every_few_rounds(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    hook, saved = Checkpoint(path, every=3), []
    for r in range(1, 9):
        hook({"round": np.array(r)})
        saved.append(int(load_state(path)["round"]) if path.exists() else 0)
    assert saved == [0, 0, 3, 3, 3, 6, 6, 6]


def test_a_discarded_state_leaves_nothing_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "a[1].safetensors"
    save_state(path, {"round": np.array(3)})
    (tmp_path / ".a[1].safetensors.half").write_bytes(b"half")  # what a kill between the write and the rename leaves
    (tmp_path / ".b.npz.half").write_bytes(b"of another")
    discard_state(path)
    assert [p.name for p in tmp_path.iterdir()] == [".b.npz.half"]
    discard_state(path)
