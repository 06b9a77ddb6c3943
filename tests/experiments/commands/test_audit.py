"""``haemfed audit``."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from experiments.cli import app
from federation.policy import AuditLog


def test_show_and_verify(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "Ulm.jsonl")
    for r in range(3):
        log.write(center="Ulm", task="training", round=r, algorithm="{}", patients=40, arrays={}, bytes=800, masked="s")
    log.write(center="Ulm", task="training", round=3, algorithm="{}", refused="too large")
    runner = CliRunner()
    shown = runner.invoke(app, ["audit", "show", str(tmp_path)])
    assert shown.exit_code == 0
    assert "2,400" in shown.output
    found = runner.invoke(app, ["audit", "verify", str(tmp_path)])
    assert found.exit_code == 0
    assert "Ulm.jsonl: 4 lines, last " in found.output
    text = (tmp_path / "Ulm.jsonl").read_text()
    (tmp_path / "Ulm.jsonl").write_text(text.replace('"patients": 40', '"patients": 4', 1))
    assert runner.invoke(app, ["audit", "verify", str(tmp_path)]).exit_code == 1
    for arguments in (["audit", "show", str(tmp_path), "--center", "Bonn"], ["audit", "verify", str(tmp_path / "no")]):
        assert runner.invoke(app, arguments).exit_code == 1
