"""The scan of dependencies: a vulnerability fails it, and silence of the database is not taken for health."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from tests.conftest import ROOT

SPEC = importlib.util.spec_from_file_location("audit_dependencies", ROOT / ".ci" / "audit_dependencies.py")
assert SPEC is not None
assert SPEC.loader is not None
audit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

SOUND = {"name": "numpy", "version": "2.0", "vulns": []}
ILL = {"name": "wheel", "version": "0.1", "vulns": [{"id": "CVE-1", "fix_versions": ["0.2"]}]}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI and could not be audited: ours"}


@pytest.mark.parametrize(
    ("found", "words", "code"),
    [
        ([SOUND, UNKNOWN], "1 dependencies checked, 0 known vulnerabilities; 1 are unknown to the database", 0),
        ([SOUND, ILL], "wheel 0.1: CVE-1, mended in 0.2\n2 dependencies checked, 1 known", 1),
        ([UNKNOWN, UNKNOWN], "dependencies were NOT checked: the advisory database cannot be reached", 0),
        (None, "NOT checked: the advisory database cannot be reached (Connection refused)", 0),
    ],
)
def test_what_is_said(
    found: Any, words: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = "" if found is None else json.dumps({"dependencies": found, "fixes": []})
    said = type("Said", (), {"stdout": output, "stderr": "Traceback\nConnection refused\n"})
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: said)
    assert audit.main([]) == code
    assert words in capsys.readouterr().out
    assert audit.main(["--required"]) == (1 if "NOT" in words else code)
