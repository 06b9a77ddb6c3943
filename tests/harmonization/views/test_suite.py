"""The official tests pass, and the one who runs them would notice if they did not."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harmonization.views.suite import run_directory, run_file, run_test

Json = dict[str, Any]


@pytest.fixture(scope="module")
def official(data_dir: Path) -> Path:
    """The official test files."""
    found = data_dir / "fhir" / "sql-on-fhir-v2" / "tests"
    if not found.is_dir():
        pytest.skip(f"no {found}")
    return found


def test_all_official_tests_pass(official: Path) -> None:
    outcomes = list(run_directory(official))
    assert [o for o in outcomes if not o.passed] == []
    assert len(outcomes) >= 119
    assert len({o.file for o in outcomes}) == len(list(official.glob("*.json")))


def test_they_pass_with_floats_as_well(official: Path) -> None:
    """The fast parsers give floats, which have forgotten how many digits there were: 1.0 is all the tests need."""
    for file in official.glob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        for test in content["tests"]:
            assert run_test(test, content["resources"]) == "", (file.name, test["title"])


PATIENTS = [{"resourceType": "Patient", "id": "a", "n": 1}, {"resourceType": "Patient", "id": "b", "x": [1.50, True]}]
VIEW: Json = {"resource": "Patient", "select": [{"column": [{"name": "id", "path": "id"}, {"name": "n", "path": "n"}]}]}
LISTS: Json = {"resource": "Patient", "select": [{"column": [{"name": "x", "path": "x", "collection": True}]}]}
A, B = {"id": "a", "n": 1}, {"id": "b", "n": None}


@pytest.mark.parametrize(
    ("view", "expected", "reason"),
    [
        (VIEW, {"expect": [A, B]}, ""),
        (VIEW, {"expect": [B, A]}, ""),
        (VIEW, {"expect": [{"n": 1.0, "id": "a"}, B]}, ""),
        (VIEW, {"expect": [{"n": Decimal("1.00"), "id": "a"}, B]}, ""),
        (VIEW, {"expectCount": 2}, ""),
        (VIEW, {"expect": [A, B], "expectColumns": ["id", "n"]}, ""),
        (LISTS, {"expect": [{"x": []}, {"x": [1.5, True]}]}, ""),
        ({}, {"expectError": True}, ""),
        (VIEW, {"expect": [A]}, '2 rows, expected 1, not expected {"id": "b", "n": null}'),
        (VIEW, {"expect": [A, B, B]}, '2 rows, expected 3, missing {"id": "b", "n": null}'),
        (VIEW, {"expect": [A, {"id": "b"}]}, 'missing {"id": "b"}, not expected {"id": "b", "n": null}'),
        (VIEW, {"expect": [{"id": "a", "n": True}, B]}, "missing"),
        (VIEW, {"expect": [{"id": "a", "n": "1"}, B]}, "missing"),
        (VIEW, {"expect": [{"id": "a", "n": 2}, B]}, "missing"),
        (VIEW, {"expect": [{"id": "a", "n": [1]}, B]}, "missing"),
        (LISTS, {"expect": [{"x": []}, {"x": [True, 1.5]}]}, "missing"),
        (LISTS, {"expect": [{"x": None}, {"x": [1.5, True]}]}, "missing"),
        (VIEW, {"expectCount": 3}, "2 rows; expected 3"),
        (VIEW, {"expect": [A, B], "expectColumns": ["n", "id"]}, "the columns are id, n; expected n, id"),
        (VIEW, {"expectError": True}, "an error is expected, found 2 rows"),
        ({}, {"expect": []}, "unexpected error: view, resource: it is missing"),
        (VIEW, {}, "the test expects nothing"),
    ],
)
def test_what_passes_and_what_fails(view: Json, expected: Json, reason: str) -> None:
    found = run_test({"title": "t", "view": view, **expected}, PATIENTS)
    assert (reason in found) if reason else found == ""


def test_a_mistake_of_the_runner_is_a_failure_even_where_an_error_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(definition: object) -> None:
        raise KeyError("oh")

    monkeypatch.setattr("harmonization.views.suite.compile_view", broken)
    assert run_test({"title": "t", "view": {}, "expectError": True}, []) == "the runner broke down: KeyError: 'oh'"


def test_files_that_are_no_tests_fail_and_the_others_run(tmp_path: Path) -> None:
    good = {"title": "g", "resources": PATIENTS, "tests": [{"title": "count", "view": VIEW, "expectCount": 2}]}
    (tmp_path / "b.json").write_text(json.dumps(good))
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "c.json").write_text("{}")
    outcomes = list(run_directory(tmp_path))
    assert [(o.file, o.test, o.passed) for o in outcomes] == [
        ("a.json", "", False),
        ("b.json", "count", True),
        ("c.json", "", False),
    ]
    assert "JSONDecodeError" in outcomes[0].reason
    assert "tests.schema.json" in outcomes[2].reason
    assert next(run_file(tmp_path / "nothing.json")).reason.startswith("not a file of tests (FileNotFoundError")


def test_a_directory_without_tests_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \*.json in it"):
        list(run_directory(tmp_path))
    with pytest.raises(ValueError, match="no such directory"):
        list(run_directory(tmp_path / "nowhere"))
