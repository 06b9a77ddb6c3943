"""``haemfed keys``."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from experiments.cli import app
from federation.privacy.keys import read_registry


def test_keys_are_made_once_and_shown(tmp_path: Path) -> None:
    runner, home = CliRunner(), tmp_path / "private"
    made = runner.invoke(app, ["keys", "make", "Ulm", "Köln / 2", "--to", str(home)])
    assert made.exit_code == 0, made.output
    assert {p.stat().st_mode & 0o777 for p in home.iterdir()} == {0o600}
    assert json.loads(made.output).keys() == {"Ulm", "Köln / 2"}
    again = runner.invoke(app, ["keys", "make", "Ulm", "--to", str(home)])
    assert json.loads(again.output).items() <= json.loads(made.output).items()
    shown = runner.invoke(app, ["keys", "show", str(home)])
    assert json.loads(shown.output) == json.loads(made.output)
    (tmp_path / "registry.json").write_text(shown.output, encoding="utf-8")
    assert json.loads(runner.invoke(app, ["keys", "show", str(tmp_path / "registry.json")]).output) == json.loads(
        shown.output
    )
    assert read_registry(tmp_path / "registry.json").keys() == {"Ulm", "Köln / 2"}
    assert runner.invoke(app, ["keys", "show", str(tmp_path)]).exit_code != 0
    missing = runner.invoke(app, ["keys", "show", str(tmp_path / "none")])
    assert missing.exit_code == 1
    assert "no such directory of keys" in missing.output
