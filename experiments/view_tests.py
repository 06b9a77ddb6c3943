"""The official tests of SQL-on-FHIR views: their score, for people and for programs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from harmonization.views.suite import run_directory


def score_views(directory: Path) -> tuple[dict[str, Any], Table]:
    """Run the test files of a directory.

    Returns
    -------
    score : dict
        ``passed``, ``failed``, and ``failures``: for each its ``file``, ``test`` and ``reason``.
    table : Table
        Passed and all tests, file by file.
    """
    outcomes = list(run_directory(directory))
    tests, passed = Counter(o.file for o in outcomes), Counter(o.file for o in outcomes if o.passed)
    table = Table("file", "passed", "tests", title="SQL-on-FHIR views")
    for file, number in tests.items():
        table.add_row(escape(file), str(passed[file]), str(number))
    table.add_section()
    table.add_row("all", str(passed.total()), str(tests.total()))
    failures = [{"file": o.file, "test": o.test, "reason": o.reason} for o in outcomes if not o.passed]
    return {"passed": passed.total(), "failed": len(failures), "failures": failures}, table
