"""The quarantine: a file with every refused resource, counts, and a threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from harmonization.checks import Problem, check
from harmonization.errors import QuarantineError
from harmonization.quarantine import Quarantine, refusal
from harmonization.reading import Located, Refusal, read_resources

GOOD: dict[str, Any] = {"resourceType": "Patient", "id": "p1", "gender": "female"}
BAD: dict[str, Any] = {"resourceType": "Patient", "id": "p2", "gender": "W", "birthDate": "2021-02-30"}


def run(source: Path, target: Path, threshold: float = 1.0) -> Quarantine:
    """What a pipeline does."""
    with Quarantine(target, threshold) as quarantine:
        for one in read_resources(source, quarantine.refuse):
            if problems := check(one.resource):
                quarantine.refuse(refusal(one, problems))
            else:
                quarantine.accept()
    return quarantine


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "export.ndjson"
    path.write_bytes(b"\n".join([orjson.dumps(GOOD), orjson.dumps(BAD), b"{broken", orjson.dumps(GOOD)]))
    return path


def test_refused_resources_are_written_with_place_reason_and_themselves(export: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "quarantine.ndjson"
    summary = run(export, target).summary
    first, second = map(orjson.loads, target.read_bytes().splitlines())
    assert {name: first[name] for name in ("file", "line", "path", "kind", "value")} == {
        "file": str(export),
        "line": 2,
        "path": "Patient.gender",
        "kind": "binding",
        "value": "W",
    }
    assert first["resource"] == BAD
    assert first["others"] == [["Patient.birthDate", "a day that no calendar has"]]
    assert (second["line"], second["kind"], second["value"], second["resource"]) == (3, "json", "{broken", None)
    assert (summary.read, summary.refused, summary.fraction) == (4, 2, 0.5)
    assert summary.kinds == {"binding": 1, "json": 1}
    assert summary.reasons == {"binding Patient.gender": 1, "json": 1}
    assert summary.file == str(target)
    assert list(target.parent.iterdir()) == [target]


def test_a_place_in_a_bundle(tmp_path: Path) -> None:
    one = Located(BAD, "b.json", 0, "Bundle.entry[3].resource")
    with Quarantine(tmp_path / "q.ndjson") as quarantine:
        quarantine.refuse(refusal(one, [Problem("Patient.name[0].use", "x", "not a code", "binding")]))
    assert quarantine.summary.reasons == {"binding Patient.name.use": 1}
    record = orjson.loads((tmp_path / "q.ndjson").read_bytes())
    assert record["path"] == "Bundle.entry[3].resource.name[0].use"


def test_a_threshold_makes_it_an_error_that_names_counts_and_file(export: Path, tmp_path: Path) -> None:
    target = tmp_path / "q.ndjson"
    with pytest.raises(QuarantineError) as caught:
        run(export, target, threshold=0.4)
    for said in ("2 of 4", "40.0%", "1 binding Patient.gender", "1 json", str(target), "line 2, Patient.gender"):
        assert said in str(caught.value)
    assert target.exists()
    assert run(export, target, threshold=0.5).summary.refused == 2


def test_no_file_where_nothing_is_refused(export: Path, tmp_path: Path) -> None:
    target = tmp_path / "q.ndjson"
    run(export, target)
    assert target.exists()
    export.write_bytes(orjson.dumps(GOOD))
    summary = run(export, target, threshold=0).summary
    assert (summary.refused, summary.file, summary.fraction) == (0, None, 0)
    assert not target.exists()


def test_a_run_that_breaks_off_leaves_no_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "q.ndjson"
    quarantine = Quarantine(target)

    def breaks_off() -> None:
        with quarantine:
            quarantine.refuse(Refusal("a.ndjson", 1, "", "json", "no JSON"))
            raise KeyError

    with pytest.raises(KeyError):
        breaks_off()
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_is_a_fraction(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fraction"):
        Quarantine(tmp_path / "q.ndjson", threshold=5)
