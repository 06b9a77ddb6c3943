"""A hospital's source with its mapping to a cohort: its tables become resources, its own codes are understood."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from harmonization.harmonize import Harmonized, harmonize
from harmonization.reading import Refusal
from harmonization.tables.conversion import convert_tables
from harmonization.tables.mapping import Mapping


def harmonize_mapped(source: str | Path, mapping: Mapping, **options: Any) -> Harmonized:
    """Read a hospital's source as a cohort.

    Cells that cannot be read go to the quarantine with file, row and column; a resource made of a cell says in
    ``meta.source`` where that is.

    Parameters
    ----------
    source
        FHIR resources, where the mapping declares codes; a mapping of tables has its own files.
    mapping
        From `read_mapping`.
    options
        As of `harmonization.harmonize.harmonize`.

    Raises
    ------
    MappingError
        If a table is not as the mapping says.
    ReadingError, QuarantineError, HarmonizationError
        As `harmonization.harmonize.harmonize`.
    """
    if not mapping.tables:
        return harmonize(source, mapping.dictionary, local=mapping.codes, **options)
    with tempfile.TemporaryDirectory() as scratch:
        refused: list[Refusal] = []
        convert_tables(mapping, scratch, refused.append)
        return harmonize(scratch, mapping.dictionary, refused=refused, **options)
