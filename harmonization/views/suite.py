"""The official tests of SQL on FHIR v2: reading a file of them, running them, saying what failed and how.

A file holds resources and tests; a test is a view with the rows, their number, the columns, or the error that it must
give (``tests.schema.json`` of the specification). The order of rows does not count, that of columns and of the values
in a collection does.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from harmonization.views.errors import ViewError
from harmonization.views.runner import Row, compile_view


@dataclass(frozen=True)
class Outcome:
    """What came of one test: ``reason`` says why it failed, ``""`` if it passed."""

    file: str
    test: str
    reason: str

    @property
    def passed(self) -> bool:
        return not self.reason


def run_directory(directory: str | Path) -> Iterator[Outcome]:
    """Run every ``*.json`` file of a directory, in the order of their names.

    Raises
    ------
    ValueError
        If there is no such directory, or no file in it.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such directory; give the one with the test files")
    files = sorted(directory.glob("*.json"))
    if not files:
        raise ValueError(f"{directory}: no *.json in it; give the directory with the test files")
    for file in files:
        yield from run_file(file)


def run_file(path: str | Path) -> Iterator[Outcome]:
    """Run the tests of one file. A file that is no test file is one failure."""
    path = Path(path)
    try:
        # Decimals keep their digits, which lowBoundary() and highBoundary() count.
        content = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        resources, tests = content["resources"], content["tests"]
        titles = [test["title"] for test in tests]
    except (ValueError, KeyError, TypeError, OSError) as error:
        yield Outcome(path.name, "", f"not a file of tests ({type(error).__name__}: {error}); see tests.schema.json")
        return
    for title, test in zip(titles, tests, strict=True):
        yield Outcome(path.name, title, run_test(test, resources))


def run_test(test: Mapping[str, Any], resources: list[dict[str, Any]]) -> str:
    """Run one test; why it failed, or ``""``."""
    expects_error = bool(test.get("expectError"))
    try:
        view = compile_view(test.get("view"))
        rows = list(view.run(resources))
    except ViewError as error:
        return "" if expects_error else f"unexpected error: {error}"
    except Exception as error:  # a mistake of the runner's own; the other tests still tell something
        return f"the runner broke down: {type(error).__name__}: {error}"
    if expects_error:
        return f"an error is expected, found {len(rows)} rows"
    if not {"expect", "expectCount", "expectColumns"} & test.keys():
        return "the test expects nothing; it needs expect, expectCount, expectColumns or expectError"
    reasons = []
    columns = [column.name for column in view.columns]
    if "expectColumns" in test and columns != test["expectColumns"]:
        reasons.append(f"the columns are {', '.join(columns)}; expected {', '.join(test['expectColumns'])}")
    if "expectCount" in test and len(rows) != test["expectCount"]:
        reasons.append(f"{len(rows)} rows; expected {test['expectCount']}")
    if "expect" in test:
        reasons.append(_difference(rows, test["expect"]))
    return "; ".join(filter(None, reasons))


def _difference(rows: list[Row], expected: list[Row]) -> str:
    found, wanted = Counter(map(_key, rows)), Counter(map(_key, expected))
    missing = next((row for row in expected if found[_key(row)] < wanted[_key(row)]), None)
    extra = next((row for row in rows if found[_key(row)] > wanted[_key(row)]), None)
    said = [f"{len(rows)} rows, expected {len(expected)}"] if len(rows) != len(expected) else []
    said += [f"missing {_shown(missing)}"] if missing is not None else []
    said += [f"not expected {_shown(extra)}"] if extra is not None else []
    return ", ".join(said)


def _key(value: Any) -> Hashable:
    """A value such that equal JSON values, and no others, are equal: 1 is 1.0, and true is not 1."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return (type(value).__name__, value)
    if isinstance(value, float):
        return ("number", Decimal(repr(value)))
    if isinstance(value, int | Decimal):
        return ("number", Decimal(value))
    if isinstance(value, Mapping):
        return ("object", frozenset((key, _key(item)) for key, item in value.items()))
    return ("list", tuple(_key(item) for item in value))


def _shown(row: Row) -> str:
    return json.dumps(row, default=float, ensure_ascii=False)
