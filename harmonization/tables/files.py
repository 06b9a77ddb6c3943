"""Rows of a CSV file or an Excel sheet, streamed, each with the number that a person sees in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harmonization.tables.cells import Value
from harmonization.tables.errors import MappingError

EXCEL = (".xlsx", ".xlsm")
TEXT = (".csv", ".tsv", ".txt")


class Row(NamedTuple):
    """One row.

    Parameters
    ----------
    number
        1-based, the header is row 1. Of CSV, the line on which the row ends, which is another number only where cells
        have line breaks.
    cells
        By column; cells that are empty are left out.
    surplus
        Cells beyond the header, which belong to no column.
    """

    number: int
    cells: dict[str, Value]
    surplus: int = 0


def read_rows(
    path: Path, delimiter: str = ",", encoding: str = "utf-8", sheet: str | None = None
) -> tuple[tuple[str, ...], Iterator[Row]]:
    """The header of a table, and its rows.

    Parameters
    ----------
    path
        A ``.csv``, ``.tsv``, ``.txt`` or ``.xlsx`` file.
    delimiter, encoding
        Of a text file.
    sheet
        Of an Excel file; the first by default.

    Raises
    ------
    MappingError
        If there is no such file, sheet or encoding, or the header is not one name per column, each once.
    """
    if not path.is_file():
        raise MappingError("no such file", source=str(path))
    if path.suffix.lower() in EXCEL:
        rows = _excel(path, sheet)
    elif path.suffix.lower() in TEXT:
        rows = _csv(path, delimiter, encoding)
    else:
        raise MappingError(f"neither CSV ({', '.join(TEXT)}) nor Excel ({', '.join(EXCEL)})", source=str(path))
    try:
        _, first = next(rows)
    except StopIteration:
        raise MappingError("is empty; the first row has the names of the columns", source=str(path)) from None
    names = [str(name).strip() if name is not None else "" for name in first]
    while names and not names[-1]:
        names.pop()
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            problem = "has no name; name every column" if not name else "occurs twice; rename one"
            raise MappingError(f"column {i + 1} {problem}", source=str(path), column=name or None)
    return tuple(names), (_row(number, names, cells) for number, cells in rows)


def _row(number: int, names: list[str], cells: list[Any]) -> Row:
    found = {}
    for name, cell in zip(names, cells, strict=False):
        value = cell.strip() if isinstance(cell, str) else cell
        if value is not None and value != "":
            found[name] = value
    return Row(number, found, sum(1 for cell in cells[len(names) :] if cell is not None and str(cell).strip()))


def _csv(path: Path, delimiter: str, encoding: str) -> Iterator[tuple[int, list[Any]]]:
    if encoding.lower() in ("utf-8", "utf8"):
        encoding = "utf-8-sig"  # with or without a byte order mark
    try:
        with path.open(encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for cells in reader:
                yield reader.line_num, cells
    except UnicodeDecodeError as error:
        problem = f"not {encoding} (byte {error.start + 1}); name the encoding in the mapping (cp1252, latin-1, ...)"
        raise MappingError(problem, source=str(path), key="encoding") from None
    except LookupError:
        raise MappingError("no such encoding", source=str(path), key="encoding", value=encoding) from None
    except csv.Error as error:
        raise MappingError(f"row {reader.line_num}: not CSV: {error}", source=str(path)) from None


def _excel(path: Path, sheet: str | None) -> Iterator[tuple[int, list[Any]]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise MappingError(
            "Excel needs the package openpyxl: pip install 'haemfed[harmonization]'", source=str(path)
        ) from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises what its parsers raise
        raise MappingError(f"cannot be read as Excel: {error}", source=str(path)) from None
    try:
        if sheet is not None and sheet not in book.sheetnames:
            raise MappingError(
                f"no such sheet; there are {', '.join(book.sheetnames)}", source=str(path), key="sheet", value=sheet
            )
        page = book[sheet] if sheet is not None else book.worksheets[0]
        for number, cells in enumerate(page.iter_rows(values_only=True), start=1):
            yield number, list(cells)
    finally:
        book.close()
