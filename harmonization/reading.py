"""FHIR resources from files: Bundles, single resources and bulk-export NDJSON, plain or gzip, one at a time.

A resource arrives with the place it came from. What is no resource (a broken line, another encoding, a truncated file,
a number that would be read as another one) is a `Refusal` with its place, and the rest goes on.

Memory: NDJSON is read line by line (of at most `LONGEST_LINE`); a JSON document, as a Bundle in a file of its own, is
read whole (at most `LARGEST_DOCUMENT`) and needs about six times its size. NDJSON is cut in `Chunk`s for parallel work.
"""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

import orjson

from harmonization.errors import ReadingError

LONGEST_LINE = 64 << 20
LARGEST_DOCUMENT = 512 << 20
CHUNK_BYTES = 32 << 20

LINES = (".ndjson", ".jsonl")
DOCUMENT = ".json"

T = TypeVar("T")


class Located(NamedTuple):
    """A resource and where it came from.

    Parameters
    ----------
    resource
        Parsed JSON. A Bundle comes before the resources of its entries, of which it has type, id and meta only.
    file
        Path of the file.
    line
        1-based line of an NDJSON file; 0 in a file that is one JSON document.
    path
        Place within the line or document: ``Bundle.entry[3].resource``, or empty.
    full_url
        ``fullUrl`` of the Bundle entry, by which others refer to it.
    """

    resource: dict[str, Any]
    file: str
    line: int
    path: str = ""
    full_url: str | None = None

    @property
    def place(self) -> tuple[str, int, str]:
        """File, line and path: no other resource has them."""
        return self[1:4]


class Refusal(NamedTuple):
    """Something that is set aside, where it was, and why.

    Parameters
    ----------
    file, line
        As in `Located`.
    path
        Place within the line or document: ``Observation.status``, ``Bundle.entry[3].resource.status``.
    kind
        The sort of problem, to count by: ``json`` for what is no JSON, else as in `harmonization.checks.Problem`.
    reason
        What is wrong.
    value
        The value that is wrong, or the start of the line.
    resource
        The whole resource; None where there is none.
    others
        What else is wrong with it: path and reason.
    """

    file: str
    line: int
    path: str
    kind: str
    reason: str
    value: Any = None
    resource: dict[str, Any] | None = None
    others: tuple[tuple[str, str], ...] = ()


Refuse = Callable[[Refusal], object]


class Chunk(NamedTuple):
    """A file, or whole lines of an NDJSON file: from byte `start` up to `stop` (None: to its end)."""

    file: str
    start: int = 0
    stop: int | None = None
    first_line: int = 1


def read_resources(source: str | Path, refuse: Refuse) -> Iterator[Located]:
    """All resources of a file or directory, in order of file name, line and entry.

    Parameters
    ----------
    source
        A ``.json``, ``.ndjson`` or ``.jsonl`` file (or any of them with ``.gz``), or a directory with such files, at
        any depth.
    refuse
        Is called with what cannot be read, as it is met.

    Raises
    ------
    ReadingError
        If there is no such file, or nothing to read in it.
    """
    for chunk in chunks(source, whole=True):
        yield from read_chunk(chunk, refuse)


def chunks(source: str | Path, size: int = CHUNK_BYTES, whole: bool = False) -> list[Chunk]:
    """Pieces of a source that can be read apart, in order.

    Parameters
    ----------
    source
        As for `read_resources`.
    size
        Bytes of an NDJSON file per piece, about. Compressed files and documents are one piece each.
    whole
        One piece per file.

    Raises
    ------
    ReadingError
        If there is no such file, or nothing to read in it.
    """
    found: list[Chunk] = []
    for file in _files(Path(source)):
        if not whole and file.suffix in LINES and file.stat().st_size > size:
            found += _cut(file, size)
        else:
            found.append(Chunk(str(file)))
    return found


def read_chunk(chunk: Chunk, refuse: Refuse) -> Iterator[Located]:
    """All resources of a piece; see `read_resources`."""
    path = Path(chunk.file)
    suffixes = path.suffixes
    compressed = suffixes[-1:] == [".gz"]
    with cast(BinaryIO, gzip.open(path, "rb") if compressed else path.open("rb")) as file:
        if (suffixes[-2] if compressed else suffixes[-1]) in LINES:
            yield from _read_lines(file, chunk, refuse)
        else:
            yield from _read_document(file, chunk, refuse)


def map_chunks(work: Callable[[Chunk], T], pieces: Iterable[Chunk], workers: int) -> Iterator[T]:
    """Results of work on each piece, in order, several at a time in processes of their own.

    Parameters
    ----------
    work
        A function of a module (it is pickled), that reads a chunk and returns what it found.
    pieces
        From `chunks`.
    workers
        Processes; with 1 all is done here.
    """
    if workers <= 1:
        yield from map(work, pieces)
        return
    # A forked copy of a process with threads may hang; the server forks from a clean one.
    context = multiprocessing.get_context(
        "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else None
    )
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: deque[Future[T]] = deque()
        for piece in pieces:
            waiting.append(pool.submit(work, piece))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def parse_exactly(text: bytes | str) -> Any:
    """JSON with its decimals as `decimal.Decimal`, so that 1.10 stays 1.10; slower than `orjson` by far."""
    return json.loads(text, parse_float=Decimal)


# -- files


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        found = sorted(f for f in source.rglob("*") if _kind(f) and not f.name.startswith(".") and f.is_file())
        if not found:
            raise ReadingError("no .json, .ndjson or .jsonl file in this directory", str(source))
        return found
    if not source.exists():
        raise ReadingError("no such file or directory", str(source))
    if not _kind(source):
        raise ReadingError("not a .json, .ndjson or .jsonl file (also with .gz); rename it if it is one", str(source))
    return [source]


def _kind(file: Path) -> str:
    suffixes = [suffix for suffix in file.suffixes if suffix != ".gz"] if file.suffix == ".gz" else file.suffixes
    return suffixes[-1] if suffixes and suffixes[-1] in (*LINES, DOCUMENT) else ""


def _cut(file: Path, size: int) -> list[Chunk]:
    """One pass over the bytes, for ends of lines and to count them."""
    found = []
    start, first_line, at, lines = 0, 1, 0, 0
    with file.open("rb") as stream:
        while block := stream.read(min(size // 8 + 1, 1 << 20)):
            end = block.find(b"\n") + 1 if at - start >= size else 0
            if end:
                found.append(Chunk(str(file), start, at + end, first_line))
                first_line += lines + 1
                start, lines = at + end, -1
            lines += block.count(b"\n")
            at += len(block)
    if start < at:
        found.append(Chunk(str(file), start, None, first_line))
    return found


# -- lines and documents


def _read_lines(file: BinaryIO, chunk: Chunk, refuse: Refuse) -> Iterator[Located]:
    name, number = chunk.file, chunk.first_line - 1
    if chunk.start:
        file.seek(chunk.start)
    left = None if chunk.stop is None else chunk.stop - chunk.start
    try:
        while (left is None or left > 0) and (line := file.readline(LONGEST_LINE)):
            number += 1
            if left is not None:
                left -= len(line)
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                refuse(Refusal(name, number, "", "json", f"a line of more than {LONGEST_LINE >> 20} MiB", _start(line)))
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST_LINE)
                    left = None if left is None else left - len(line)
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # byte order mark of UTF-8
            try:
                content = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                if not line.isspace():
                    refuse(_no_json(line, name, number, error))
                continue
            if content.__class__ is not dict or "entry" in content or _LONG_FRACTION.search(line):
                yield from _resources(content, line, name, number, refuse)
            else:  # nearly all lines: nothing that needs a second look
                yield Located(content, name, number)
    except (EOFError, OSError, zlib.error) as error:
        refuse(Refusal(name, number + 1, "", "json", f"the file cannot be read from here on: {error}"))


def _read_document(file: BinaryIO, chunk: Chunk, refuse: Refuse) -> Iterator[Located]:
    try:
        text = file.read(LARGEST_DOCUMENT + 1)
    except (EOFError, OSError, zlib.error) as error:
        refuse(Refusal(chunk.file, 0, "", "json", f"the file cannot be read: {error}"))
        return
    if len(text) > LARGEST_DOCUMENT:
        reason = f"a document of more than {LARGEST_DOCUMENT >> 20} MiB; export it as NDJSON, a resource a line"
        refuse(Refusal(chunk.file, 0, "", "json", reason, _start(text)))
        return
    if _several(text):
        yield from _read_lines(io.BytesIO(text), chunk, refuse)
    else:
        yield from _parse(text.removeprefix(b"\xef\xbb\xbf"), chunk.file, 0, refuse)


def _several(text: bytes) -> bool:
    """Whether a document is NDJSON under another name: its first line is a JSON object, and more follows."""
    first, _, rest = text.partition(b"\n")
    if not rest.strip():
        return False
    try:
        return isinstance(orjson.loads(first.removeprefix(b"\xef\xbb\xbf")), dict)
    except orjson.JSONDecodeError:
        return False


def _parse(text: bytes, file: str, line: int, refuse: Refuse) -> Iterator[Located]:
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        refuse(_no_json(text, file, line, error))
        return
    yield from _resources(content, text, file, line, refuse)


def _resources(content: Any, text: bytes, file: str, line: int, refuse: Refuse) -> Iterator[Located]:
    """The resources in parsed JSON."""
    if content.__class__ is not dict:
        refuse(Refusal(file, line, "", "json", "JSON, but no resource (not an object)", _start(text)))
    elif changed := _changed_numbers(text):
        path, value = changed[0]
        kind = content.get("resourceType", "")
        refuse(Refusal(file, line, f"{kind}{path}", "precision", "more digits than can be kept", value, content))
    elif content.get("resourceType") == "Bundle":
        yield from _entries(content, file, line, "", None, refuse)
    else:
        yield Located(content, file, line)


def _no_json(text: bytes, file: str, line: int, error: orjson.JSONDecodeError) -> Refusal:
    reason = f"no JSON: {error.msg} (character {error.pos + 1})"
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        reason = "not UTF-8 but UTF-16; save it as UTF-8"
    else:
        try:
            text.decode()
        except UnicodeDecodeError as bad:
            reason = f"not UTF-8 (byte {bad.start + 1}); save it as UTF-8"
    return Refusal(file, line, "", "json", reason, _start(text))


def _start(text: bytes) -> str:
    return text[:80].decode("utf-8", "backslashreplace").strip()


def _entries(
    bundle: dict[str, Any], file: str, line: int, path: str, full_url: str | None, refuse: Refuse
) -> Iterator[Located]:
    entries = bundle.get("entry", [])
    prefix = f"{path}." if path else ""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        reason = "the entries of a Bundle are a list of objects"
        refuse(Refusal(file, line, f"{prefix}Bundle.entry", "structure", reason, None, bundle))
        return
    yield Located({**bundle, "entry": [_stub(entry) for entry in entries]}, file, line, path, full_url)
    for i, entry in enumerate(entries):
        if "resource" not in entry:
            continue  # a DELETE, or the answer to a transaction
        resource, place, address = entry["resource"], f"{prefix}Bundle.entry[{i}].resource", entry.get("fullUrl")
        if resource.__class__ is not dict:
            refuse(Refusal(file, line, place, "structure", "not a resource (no object)", str(resource)[:80]))
        elif resource.get("resourceType") == "Bundle":
            yield from _entries(resource, file, line, place, address, refuse)
        else:
            yield Located(resource, file, line, place, address)


def _stub(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry with no more of its resource than tells which it is."""
    resource = entry.get("resource")
    if not isinstance(resource, dict):
        return entry
    return {**entry, "resource": {name: resource[name] for name in ("resourceType", "id", "meta") if name in resource}}


# -- numbers

_LONG_FRACTION = re.compile(rb"\.\d{15}")
_FROM_THE_DOT = re.compile(rb"\.\d+(?:[eE][+-]?\d+)?")


def _changed_numbers(text: bytes) -> list[tuple[str, str]]:
    """Path and text of decimals that a double does not hold: 1.10 is read as 1.1, which is as much; not so these."""
    if not any(_changes(text, dot.start()) for dot in _LONG_FRACTION.finditer(text)):
        return []
    return list(_changed(parse_exactly(text), ""))


def _changes(text: bytes, dot: int) -> bool:
    start = dot
    while start and text[start - 1 : start].isdigit():
        start -= 1
    rest = _FROM_THE_DOT.match(text, dot)
    number = (text[start:dot] + (rest[0] if rest else b"")).decode()
    read = repr(float(number))
    return read != number and Decimal(read) != Decimal(number)


def _changed(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Decimal):
        if Decimal(repr(float(value))) != value:
            yield path, str(value)
    elif isinstance(value, dict):
        for name, content in value.items():
            yield from _changed(content, f"{path}.{name}")
    elif isinstance(value, list):
        for i, content in enumerate(value):
            yield from _changed(content, f"{path}[{i}]")
