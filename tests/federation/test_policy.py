"""The audit log as a chain: whatever is changed shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from federation.policy import AuditError, AuditLog, read_audit, verify_audit


def written(path: Path, lines: int = 5) -> list[bytes]:
    log = AuditLog(path)
    for i in range(lines):
        log.write(center="Bonn", task="task", round=i, algorithm="{}", patients=10 + i, arrays={}, bytes=8)
    log.close()
    return path.read_bytes().splitlines()


def test_a_log_holds_also_over_restarts_and_two_writers(tmp_path: Path) -> None:
    path = tmp_path / "Bonn.jsonl"
    assert len(written(path)) == 5
    a, b = AuditLog(path), AuditLog(path)
    for log in (a, b, b, a):
        log.write(center="Bonn", task="task", round=9, algorithm="{}", withheld="x" * 200_000)
    count, last = verify_audit(path)
    assert count == 9
    assert len(last) == 64
    assert len(read_audit(tmp_path)["Bonn"]) == 9
    assert verify_audit(tmp_path / "Bonn.jsonl") == (count, last)


@pytest.mark.parametrize("what", ["changed", "removed", "put in", "swapped", "first removed", "torn"])
def test_tampering_is_noticed_at_its_line(what: str, tmp_path: Path) -> None:
    path = tmp_path / "Bonn.jsonl"
    lines = written(path)
    other = {
        "changed": [*lines[:2], lines[2].replace(b'"patients": 12', b'"patients": 13'), *lines[3:]],
        "removed": lines[:2] + lines[3:],
        "put in": [*lines[:3], lines[2], *lines[3:]],
        "swapped": [lines[0], lines[2], lines[1], *lines[3:]],
        "first removed": lines[1:],
        "torn": [*lines[:2], lines[2][:30], *lines[3:]],
    }[what]
    assert other != lines
    path.write_bytes(b"\n".join(other) + b"\n")
    at = {"changed": 4, "removed": 3, "put in": 4, "swapped": 2, "first removed": 1, "torn": 3}[what]
    with pytest.raises(AuditError, match=rf"Bonn\.jsonl, line {at}: "):
        verify_audit(path)


def test_lines_cut_off_at_the_end_change_the_last_hash(tmp_path: Path) -> None:
    path = tmp_path / "Bonn.jsonl"
    lines = written(path)
    whole = verify_audit(path)
    path.write_bytes(b"\n".join(lines[:-1]) + b"\n")
    assert verify_audit(path) != whole


@pytest.mark.parametrize("what", ["torn", "no line", "empty"])
def test_a_line_that_cannot_be_read_is_named(what: str, tmp_path: Path) -> None:
    path = tmp_path / "Bonn.jsonl"
    lines = written(path)
    lines[3] = {"torn": lines[3][:30], "no line": b"[1]", "empty": b"{}"}[what]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(AuditError, match=r"Bonn\.jsonl, line 4: no line of an audit log"):
        read_audit(tmp_path)


def test_a_line_that_was_not_written_whole_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "Bonn.jsonl"
    written(path, 2)
    write, log = os.write, AuditLog(path)
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, data: write(file, data[:20]))
        with pytest.raises(OSError, match=r"Bonn\.jsonl: could not be written whole"):
            log.write(center="Bonn", task="task", round=9, algorithm="{}", withheld="few")
    assert verify_audit(path)[0] == 2
    log.write(center="Bonn", task="task", round=9, algorithm="{}", withheld="few")
    assert verify_audit(path)[0] == 3
