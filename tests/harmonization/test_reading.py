"""Reading: every form of file gives the same resources, and what cannot be read is named with its place."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonization import reading
from harmonization.errors import ReadingError
from harmonization.reading import (
    Chunk,
    Located,
    Refusal,
    chunks,
    map_chunks,
    parse_exactly,
    read_chunk,
    read_resources,
)

PATIENTS = [{"resourceType": "Patient", "id": f"p{i}", "active": True} for i in range(5)]


def lines(resources: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(r) + b"\n" for r in resources)


def bundle(resources: list[dict[str, Any]], kind: str = "collection") -> dict[str, Any]:
    entries = [{"fullUrl": f"urn:uuid:{r['id']}", "resource": r} for r in resources]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def read(source: Path) -> tuple[list[Located], list[Refusal]]:
    refused: list[Refusal] = []
    return list(read_resources(source, refused.append)), refused


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


# -- forms


@pytest.mark.parametrize("name", ["a.ndjson", "a.jsonl", "a.ndjson.gz", "a.b.ndjson", "a.json", "a.json.gz"])
def test_lines(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, lines(PATIENTS))
    found, refused = read(path)
    assert refused == []
    assert found == [Located(r, str(path), i + 1) for i, r in enumerate(PATIENTS)]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
@pytest.mark.parametrize("indent", [None, 2])
def test_one_resource(tmp_path: Path, name: str, indent: int | None) -> None:
    path = write(tmp_path / name, json.dumps(PATIENTS[0], indent=indent).encode())
    assert read(path) == ([Located(PATIENTS[0], str(path), 0)], [])


@pytest.mark.parametrize("kind", ["collection", "transaction", "searchset"])
@pytest.mark.parametrize("indent", [None, 2])
def test_bundle(tmp_path: Path, kind: str, indent: int | None) -> None:
    path = write(tmp_path / "b.json", json.dumps(bundle(PATIENTS, kind), indent=indent).encode())
    (itself, *entries), refused = read(path)
    assert refused == []
    assert itself.resource["type"] == kind
    assert itself.resource["entry"][1]["resource"] == {"resourceType": "Patient", "id": "p1"}
    assert entries == [
        Located(r, str(path), 0, f"Bundle.entry[{i}].resource", f"urn:uuid:p{i}") for i, r in enumerate(PATIENTS)
    ]


def test_bundles_in_lines_and_in_bundles(tmp_path: Path) -> None:
    inner = {"resourceType": "Bundle", "type": "batch", "id": "b", "entry": [{"resource": PATIENTS[1]}]}
    outer = bundle([PATIENTS[0], inner])
    outer["entry"].append({"request": {"method": "DELETE", "url": "Patient/9"}})
    path = write(tmp_path / "b.ndjson", lines([PATIENTS[2], outer]))
    found, refused = read(path)
    assert refused == []
    assert [(one.resource.get("id"), one.line, one.path) for one in found] == [
        ("p2", 1, ""),
        (None, 2, ""),
        ("p0", 2, "Bundle.entry[0].resource"),
        ("b", 2, "Bundle.entry[1].resource"),
        ("p1", 2, "Bundle.entry[1].resource.Bundle.entry[0].resource"),
    ]


def test_directory(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "b.ndjson", lines(PATIENTS[:2]))
    write(tmp_path / "deep" / "a.json", orjson.dumps(PATIENTS[2]))
    write(tmp_path / "c.ndjson.gz", lines(PATIENTS[3:]))
    write(tmp_path / "readme.txt", b"nothing")
    write(tmp_path / ".hidden.json", b"{")
    found, refused = read(tmp_path)
    assert refused == []
    assert [one.resource["id"] for one in found] == ["p0", "p1", "p3", "p4", "p2"]


def test_a_source_that_is_none_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", b"x")
    for name, problem in (("", "no .json"), ("a.csv", "rename"), ("b.json", "no such file")):
        path = tmp_path / name
        with pytest.raises(ReadingError, match=problem) as caught:
            read(path)
        assert str(path) in str(caught.value)


# -- what is no resource


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        (b'{"resourceType":"Patient",', "json", "no JSON"),
        (b"Patient;p1;M", "json", "no JSON"),
        (b'{"resourceType":"Patient","id":"M\xfcller"}', "json", "not UTF-8 (byte 34)"),
        ('{"resourceType":"Patient"}'.encode("utf-16"), "json", "UTF-16"),
        (b'["resourceType"]', "json", "no resource"),
        (b'"Patient"', "json", "no resource"),
        (b"null", "json", "no resource"),
        (b'{"value":NaN}', "json", "no JSON"),
        (b'{"resourceType":"Bundle","entry":{}}', "structure", "list of objects"),
        (b'{"resourceType":"Bundle","entry":[{"resource":"Patient/1"}]}', "structure", "no object"),
        (b"\x00\x01\x02", "json", "no JSON"),
        (b"[" * 5000, "json", "no JSON"),
    ],
)
def test_a_bad_line_is_refused_with_its_place_and_the_rest_goes_on(
    tmp_path: Path, line: bytes, kind: str, reason: str
) -> None:
    line = line.replace(b"\n", b"")
    path = write(tmp_path / "a.ndjson", lines(PATIENTS[:2]) + line + b"\n" + lines(PATIENTS[2:]))
    found, (refusal,) = read(path)
    assert [one.resource for one in found if one.resource["resourceType"] == "Patient"] == PATIENTS
    assert (refusal.file, refusal.line, refusal.kind) == (str(path), 3, kind)
    assert reason in refusal.reason


def test_marks_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf\n\n" + lines(PATIENTS[:1]) + b"  \r\n" + orjson.dumps(PATIENTS[1]) + b"\r\n\n"
    found, refused = read(write(tmp_path / "a.ndjson", b"\xef\xbb\xbf" + text[3:]))
    assert refused == []
    assert [(one.resource["id"], one.line) for one in found] == [("p0", 3), ("p1", 5)]
    assert read(write(tmp_path / "b.json", b"\xef\xbb\xbf" + orjson.dumps(PATIENTS[0])))[1] == []


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    found, refused = read(write(tmp_path / "a.ndjson", lines(PATIENTS).rstrip()))
    assert (len(found), refused) == (5, [])


@pytest.mark.parametrize("damage", ["short", "bytes", "none"])
def test_a_damaged_archive_is_read_as_far_as_it_goes(tmp_path: Path, damage: str) -> None:
    many = [{"resourceType": "Patient", "id": f"p{i}", "name": [{"text": "x" * (i % 97)}]} for i in range(20000)]
    content = bytearray(gzip.compress(lines(many)))
    if damage == "short":
        del content[len(content) // 2 :]
    elif damage == "bytes":
        content[len(content) // 2 : len(content) // 2 + 40] = b"\xff" * 40
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(bytes(content) if damage != "none" else b"plain text")
    found, refused = read(path)
    assert refused
    assert refused[-1].file == str(path)
    if damage == "short":
        assert "from here on" in refused[-1].reason
        assert 0 < len(found) < 20000
        assert refused[-1].line == len(found) + 1
    write(tmp_path / "b.json.gz", orjson.dumps(PATIENTS[0]))
    (tmp_path / "b.json.gz").write_bytes((tmp_path / "b.json.gz").read_bytes()[:-12])
    assert [r.line for r in read(tmp_path / "b.json.gz")[1]] == [0]


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST_LINE", 1000)
    path = write(tmp_path / "a.ndjson", lines(PATIENTS[:1]) + b"x" * 5500 + b"\n" + lines(PATIENTS[1:]))
    found, (refusal,) = read(path)
    assert [one.line for one in found] == [1, 3, 4, 5, 6]
    assert refusal.line == 2
    monkeypatch.setattr(reading, "LARGEST_DOCUMENT", 50)
    _, (refusal,) = read(write(tmp_path / "b.json", json.dumps(bundle(PATIENTS), indent=1).encode()))
    assert "NDJSON" in refusal.reason


# -- numbers


@pytest.mark.parametrize(
    "value", ["1.10", "0.0", "-12.50e-3", "1.000000000000000000E-245", "53.043755583158614", "1e22"]
)
def test_a_number_that_a_double_holds_is_read(tmp_path: Path, value: str) -> None:
    text = f'{{"resourceType":"Observation","valueQuantity":{{"value":{value}}}}}'.encode()
    (found,), refused = read(write(tmp_path / "a.ndjson", text))
    assert refused == []
    assert Decimal(repr(float(found.resource["valueQuantity"]["value"]))) == Decimal(value)
    assert str(parse_exactly(text)["valueQuantity"]["value"]) == str(Decimal(value))


@pytest.mark.parametrize("value", ["6.30000000000000000001", "0.1234567890123456789", "123456789.123456789123456789"])
def test_a_number_that_loses_digits_is_refused(tmp_path: Path, value: str) -> None:
    component = f'{{"code":{{"text":"1.2.840.11361900000000000"}},"valueQuantity":{{"value":{value}}}}}'
    text = f'{{"resourceType":"Observation","component":[{component}]}}'
    found, (refusal,) = read(write(tmp_path / "a.ndjson", text.encode()))
    assert found == []
    assert (refusal.kind, refusal.path, refusal.value) == (
        "precision",
        "Observation.component[0].valueQuantity.value",
        value,
    )


@given(st.decimals(allow_nan=False, allow_infinity=False, places=18, min_value=-1000, max_value=1000))
@settings(max_examples=100)
def test_no_digit_is_lost_without_a_word(value: Decimal) -> None:
    kept: list[Refusal] = []
    text = f'{{"resourceType":"Observation","v":{value:f}}}'.encode()
    found = list(reading._parse(text, "f", 1, kept.append))
    if found:
        assert Decimal(repr(float(found[0].resource["v"]))) == value
    else:
        assert [r.kind for r in kept] == ["precision"]


# -- pieces


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.integers(0, 300), min_size=1, max_size=60),
    size=st.integers(1, 2000),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
)
def test_pieces_together_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], size: int, end: bytes, last: bool
) -> None:
    text = end.join(orjson.dumps({"resourceType": "Patient", "id": "x" * n}) for n in rows) + (end if last else b"")
    path = write(tmp_path_factory.mktemp("pieces") / "a.ndjson", text)
    pieces = chunks(path, size)
    refused: list[Refusal] = []
    assert [one for piece in pieces for one in read_chunk(piece, refused.append)] == read(path)[0]
    assert refused == []
    assert len(read(path)[0]) == len(rows)


def test_pieces_begin_and_end_between_lines_of_a_large_file(tmp_path: Path) -> None:
    many = [{"resourceType": "Patient", "id": f"p{i}", "name": [{"text": "x" * 200}]} for i in range(20000)]
    path = write(tmp_path / "a.ndjson", lines(many))
    pieces = chunks(path, 1 << 20)
    assert len(pieces) == 5
    assert all((p.stop or 0) - p.start < (1 << 21) for p in pieces)
    assert [p.stop for p in pieces[:-1]] == [p.start for p in pieces[1:]]
    assert [one.line for piece in pieces for one in read_chunk(piece, print)] == list(range(1, 20001))
    assert chunks(path, 1 << 20, whole=True) == [Chunk(str(path))]


def ids(chunk: Chunk) -> tuple[list[str], list[Refusal]]:
    refused: list[Refusal] = []
    return [one.resource["id"] for one in read_chunk(chunk, refused.append)], refused


def test_processes_give_what_one_does_in_the_same_order(tmp_path: Path) -> None:
    many = [{"resourceType": "Patient", "id": f"p{i}"} for i in range(9000)]
    path = write(tmp_path / "a.ndjson", lines(many[:5000]) + b"broken\n" + lines(many[5000:]))
    pieces = chunks(path, 50_000)
    assert len(pieces) > 4
    apart = list(map_chunks(ids, [*pieces, *pieces], 2))
    assert apart == list(map_chunks(ids, [*pieces, *pieces], 1))
    assert [r.line for _, refused in apart for r in refused] == [5001, 5001]


def test_lines_are_not_kept(tmp_path: Path) -> None:
    def many() -> Iterator[bytes]:
        for i in range(4000):
            yield orjson.dumps({"resourceType": "Patient", "id": f"p{i}", "name": [{"text": "x" * 2000}]}) + b"\n"

    path = tmp_path / "a.ndjson"
    with path.open("wb") as file:
        file.writelines(many())
    tracemalloc.start()
    for one in read_resources(path, print):
        assert one.line
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > 8e6
    assert peak < 1e6
