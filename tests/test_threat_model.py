"""Every claim of docs/threat-model.md names the test that attacks it; here every name is looked up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "threat-model.md"
NAMED = re.compile(r"`(?P<file>[\w/]+\.py)?(?:::(?P<test>\w+))?`")


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def references(text: str) -> Iterator[tuple[str, str]]:
    """File and test of everything named, as it is read: a bare ``::name`` is of the file named before."""
    last = ""
    for found in NAMED.finditer(text):
        if found["file"] or found["test"]:
            last = found["file"] or last
            yield last, found["test"] or ""


def found_in(file: str, test: str) -> list[Path]:
    """Files of that name (or path) that have the test."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if f"/{path}".endswith(f"/{file}")]
    return [path for path in files if not test or test in functions(path)]


def test_every_test_that_is_named_exists() -> None:
    named = [r for r in references(PAGE.read_text()) if r[0].rpartition("/")[2].startswith("test_")]
    assert len(named) > 50
    missing = [f"{file}::{test}" for file, test in named if not found_in(file, test)]
    assert not missing, f"docs/threat-model.md names tests that are not there: {', '.join(missing)}"
    assert not found_in("test_secure.py", "test_of_nothing")  # or nothing would ever be missing


def test_every_claim_names_a_test() -> None:
    claims = []
    for table in re.findall(r"(?:^\|.*\n)+", PAGE.read_text(), re.MULTILINE):
        head, _, *rows = table.splitlines()
        assert "test" in head, head
        claims += rows
    assert len(claims) > 40
    bare = [row for row in claims if not NAMED.search(row.rstrip("| ").rpartition("|")[2]) and "the same" not in row]
    assert not bare, f"claims without a test: {bare}"
