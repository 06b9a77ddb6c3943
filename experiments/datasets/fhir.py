"""One export per center, FHIR or tables with a mapping: each center harmonizes its own, where it lies.

The cohort is kept in a cache, so that an export is read once and not by every process of a run. It is found by what it
was made from (files, dictionary, the code of the harmonization), never by a date. The cache holds patients' data and
stays on the center's node.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import harmonization
from experiments.datasets.dataset import Card, DatasetError, Labels
from experiments.datasets.table import locate
from experiments.partition import unknown
from harmonization import Cohort, Dictionary, Schema, read_cohort
from harmonization.dictionary_file import available
from harmonization.harmonize import COHORT, QUARANTINE, harmonize
from harmonization.tables import harmonize_mapped, read_mapping

CARD = Card(
    description="Your own exports, FHIR R4 or tables with a mapping.yaml, one a center; every center harmonizes its "
    "own with a data dictionary.",
    source="your own files: option centers, a name and a path for each, or directory, a folder of one folder a center; "
    "dictionary; where needed threshold and cache",
    licence="your own",
    options=("centers", "directory", "dictionary", "threshold", "cache"),
)
MAPPING = "mapping.yaml"
"""In an export's folder: what its tables mean, or its own codes."""


def center_files(data_dir: Path | None, options: Mapping[str, Any]) -> dict[str, str]:
    """The export of each center, from the option ``centers``, or each folder of the option ``directory``."""
    centers, directory = options.get("centers"), options.get("directory")
    if (centers is None) == (directory is None):
        raise DatasetError("data set 'fhir' needs one of the options centers (names and paths) and directory")
    if directory is not None:
        folder = locate(directory, data_dir, folder=True)
        centers = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."}
        if not centers:
            raise DatasetError(f"{folder}: no folders in it; there is to be one for each center")
    if not isinstance(centers, Mapping) or not centers:
        raise DatasetError("data set 'fhir': the option centers is a mapping from center names to exports")
    return {str(name): str(path) for name, path in centers.items()}


def dictionary_of(data_dir: Path | None, options: Mapping[str, Any]) -> Dictionary:
    """The dictionary that all centers harmonize with."""
    name = str(options.get("dictionary", ""))
    if not name:
        raise DatasetError(f"data set 'fhir' needs the option dictionary: {', '.join(available())}, or a file")
    return Dictionary.read(name if name in available() else locate(name, data_dir))


def declared_schema(data_dir: Path | None, options: Mapping[str, Any]) -> Schema:
    """The schema of every center's cohort, known before any is made."""
    return dictionary_of(data_dir, options).schema()


def size(data_dir: Path | None, options: Mapping[str, Any], center: str) -> float:
    """Bytes of a center's export; 1 where it cannot be seen from here."""
    try:
        return float(sum(path.stat().st_size for path in _files(_export(data_dir, options, center))))
    except (DatasetError, OSError):
        return 1.0


def load_file(data_dir: Path | None, options: Mapping[str, Any], center: str) -> Cohort:
    """One center's patients, from the cache or harmonized now; no other center's export is touched.

    Raises
    ------
    DatasetError
        If the export is not there or cannot be harmonized, with the center's name.
    """
    export = _export(data_dir, options, center)
    dictionary = dictionary_of(data_dir, options)
    threshold = float(options.get("threshold", 1.0))
    place = _cache(options) / fingerprint(export, dictionary, threshold)
    if not (place / COHORT).is_file():
        try:
            _harmonize(export, dictionary, threshold, place)
        except ValueError as error:
            raise DatasetError(f"center {center}: {error}") from None
    return read_cohort(place / COHORT, dictionary.schema())


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, Labels]:
    """All centers' patients pooled; ids become ``center/id``, since two hospitals may use the same ones."""
    cohorts = {name: load_file(data_dir, options, name) for name in center_files(data_dir, options)}
    renamed = [
        replace(cohort, ids=np.array([f"{name}/{patient}" for patient in cohort.ids]))
        for name, cohort in cohorts.items()
    ]
    return Cohort.concatenate(renamed), np.repeat(list(cohorts), [len(cohort) for cohort in renamed])


def fingerprint(export: Path, dictionary: Dictionary, threshold: float) -> str:
    """Hexadecimal SHA-256 of all that a cohort depends on: names and bytes of the files, dictionary, code."""
    digest = hashlib.sha256(f"{dictionary.hash} {threshold!r} {_code()}".encode())
    for path in _files(export):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(export.parent)}\0{content}\n".encode())
    return digest.hexdigest()


def _export(data_dir: Path | None, options: Mapping[str, Any], center: str) -> Path:
    centers = center_files(data_dir, options)
    if center not in centers:
        raise DatasetError(unknown("center", center, centers))
    return locate(centers[center], data_dir, folder=True)


def _files(export: Path) -> Iterator[Path]:
    if export.is_file():
        yield export
    else:
        yield from sorted(path for path in export.rglob("*") if path.is_file())


def _harmonize(export: Path, dictionary: Dictionary, threshold: float, place: Path) -> None:
    """Make the cohort beside its place, then rename: two processes may do the same at once."""
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = Path(tempfile.mkdtemp(prefix=f".{place.name[:16]}.", dir=place.parent))  # readable by its owner alone
    try:
        options: dict[str, Any] = {"quarantine": scratch / QUARANTINE, "threshold": threshold}
        if (export / MAPPING).is_file():
            found = harmonize_mapped(export, read_mapping(export / MAPPING, dictionary), **options)
        else:
            found = harmonize(export, dictionary, **options)
        found.write(scratch)
        try:
            os.replace(scratch, place)
        except OSError:
            if not (place / COHORT).is_file():  # not because another process was first
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _cache(options: Mapping[str, Any]) -> Path:
    if "cache" in options:
        return Path(str(options["cache"])).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "haemfed" / "harmonized"


@cache
def _code() -> str:
    """Of the package that harmonizes: other code may read the same export otherwise."""
    root = Path(harmonization.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".json", ".yaml")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
