"""haemfed views test: the score on paper, as JSON, and as exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from experiments.cli import app

VIEW: dict[str, Any] = {"resource": "Patient", "select": [{"column": [{"name": "id", "path": "id"}]}]}


def write(path: Path, *counts: int) -> None:
    tests = [{"title": f"test {i}", "view": VIEW, "expectCount": count} for i, count in enumerate(counts)]
    path.write_text(json.dumps({"title": "t", "resources": [{"resourceType": "Patient", "id": "p"}], "tests": tests}))


def test_all_pass(tmp_path: Path) -> None:
    write(tmp_path / "one.json", 1, 1)
    write(tmp_path / "two.json", 1)
    found = CliRunner().invoke(app, ["views", "test", str(tmp_path), "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout.splitlines()[-1]) == {"passed": 3, "failed": 0, "failures": []}
    assert "one.json" in found.stdout
    assert "failed:" not in found.stdout


def test_a_failure_is_shown_and_is_the_exit_code(tmp_path: Path) -> None:
    write(tmp_path / "one.json", 1, 2)
    found = CliRunner().invoke(app, ["views", "test", str(tmp_path)])
    assert found.exit_code == 1
    assert "failed: one.json: test 1: 1 rows; expected 2" in found.stdout
    found = CliRunner().invoke(app, ["views", "test", str(tmp_path), "--json"])
    assert found.exit_code == 1
    failure = {"file": "one.json", "test": "test 1", "reason": "1 rows; expected 2"}
    assert json.loads(found.stdout.splitlines()[-1]) == {"passed": 1, "failed": 1, "failures": [failure]}


def test_a_wrong_directory_is_one_line(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["views", "test", str(tmp_path / "nowhere")])
    assert found.exit_code == 1
    assert found.stderr.strip() == f"error: {tmp_path / 'nowhere'}: no such directory; give the one with the test files"
