"""A cohort rewritten as the exports of several hospitals, each with its own conventions and its own faults.

Every hospital is a directory: FHIR files or tables, and a ``mapping.yaml`` where local codes or columns need one.
Beside them ``manifest.yaml`` says what was drawn and every fault that was seeded, for a test to look for. All of it
follows from the seed.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import yaml

from experiments.files import write_text
from experiments.harmonize.conventions import Convention, draw_convention
from experiments.harmonize.faults import FAULTS, LINES_ONLY, Fault, Faults
from experiments.harmonize.fhir_export import FhirExport
from experiments.harmonize.table_export import TableExport
from federation.randomness import generator
from harmonization import Cohort, Dictionary
from harmonization.writing import Record, records

MANIFEST, MAPPING = "manifest.yaml", "mapping.yaml"
PATIENTS_PER_BUNDLE = 25


def write_exports(
    centers: Mapping[str, Cohort], dictionary: Dictionary, directory: str | Path, seed: int = 0, faults: int = 3
) -> Path:
    """Write the export of every center.

    Parameters
    ----------
    centers
        Patients by hospital.
    dictionary
        What the features are called.
    directory
        A new or empty one, or one of earlier exports, which are replaced.
    seed
        Of conventions, invented dates and faults.
    faults
        How many are seeded into each hospital's export.

    Returns
    -------
    Path
        The manifest.

    Raises
    ------
    SchemaError, CohortError
        As `harmonization.writing.records`.
    ValueError
        If the directory holds anything else.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()) and not (directory / MANIFEST).is_file():
        raise ValueError(f"{directory}: holds other things than exports; name another directory")
    directory.mkdir(parents=True, exist_ok=True)
    manifest: dict[str, Any] = {"dictionary": dictionary.name, "hash": dictionary.hash, "seed": seed, "centers": {}}
    for name, cohort in centers.items():
        convention = draw_convention(dictionary, generator(seed, "exports", "convention", name))
        seeded = write_export(name, cohort, dictionary, convention, directory / name, seed, faults)
        manifest["centers"][name] = {
            "patients": len(cohort),
            "convention": json.loads(json.dumps(convention.summary())),
            "faults": [fault.plain() for fault in seeded],
        }
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120)
    write_text(text, directory / MANIFEST)
    return directory / MANIFEST


def write_export(
    name: str,
    cohort: Cohort,
    dictionary: Dictionary,
    convention: Convention,
    directory: Path,
    seed: int = 0,
    faults: int = 0,
) -> list[Fault]:
    """Write the export of one center; see `write_exports`."""
    people = list(records(cohort, dictionary, seed))
    rng = generator(seed, "exports", "patients", name)
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        write = _write_tables if convention.tables else _write_fhir
        seeded = write(name, people, dictionary, convention, temporary, rng, faults)
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return seeded


def read_faults(manifest: str | Path) -> dict[str, list[Fault]]:
    """The seeded faults of every center, by a manifest."""
    data = yaml.safe_load(Path(manifest).read_text(encoding="utf-8"))
    return {name: [Fault(**fault) for fault in center["faults"]] for name, center in data["centers"].items()}


def _write_tables(
    name: str,
    people: Sequence[Record],
    dictionary: Dictionary,
    convention: Convention,
    directory: Path,
    rng: np.random.Generator,
    faults: int,
) -> list[Fault]:
    export = TableExport(dictionary, convention, rng)
    sheets = export.sheets(people)
    seeded = export.seed(sheets, name, faults)
    _write_mapping(directory, export.write(sheets, directory))
    return seeded


def _write_fhir(
    name: str,
    people: Sequence[Record],
    dictionary: Dictionary,
    convention: Convention,
    directory: Path,
    rng: np.random.Generator,
    faults: int,
) -> list[Fault]:
    export = FhirExport(dictionary, convention, rng)
    patients = [[(r["resourceType"], r["id"], orjson.dumps(r)) for r in export.resources(person)] for person in people]
    maker = Faults(export, people, rng)
    possible = [fault for fault in FAULTS if convention.form != "bundles" or fault not in LINES_ONLY]
    start = int(rng.integers(len(possible)))
    bad: list[tuple[str, str, bytes]] = []
    found: list[tuple[str, str, str, str | None, str]] = []
    for i in range(faults):
        fault = possible[(start + i) % len(possible)]
        made = maker.make(fault)
        for resource, line in zip(made.resources, made.lines(), strict=True):
            kind, key = resource["resourceType"], resource["id"]
            bad.append((kind, key, line))
            found.append((fault, made.kind, made.path, None if made.broken else f"{kind}/{key}", kind))
    if convention.local_features:
        codes = {f"{convention.local}|{feature.upper()}": feature for feature in convention.local_features}
        _write_mapping(directory, {"dictionary": dictionary.name, "codes": codes})
    if convention.form == "bundles":
        files = _bundles(export, [*patients, bad] if bad else patients, directory)
        where = {kind: files[-1] for _, _, _, _, kind in found}
    else:
        where = _lines(convention, [*patients, bad], directory, rng)
    return [Fault(name, fault, kind, where[of], path, key) for fault, kind, path, key, of in found]


def _bundles(export: FhirExport, patients: Sequence[list[tuple[str, str, bytes]]], directory: Path) -> list[str]:
    """Bundles of some patients each; the names of the files."""
    shuffled = export.convention.order == "shuffled"
    files: list[str] = []
    for start in range(0, len(patients), PATIENTS_PER_BUNDLE):
        entries: list[dict[str, Any]] = []
        for i, (kind, key, text) in enumerate(e for p in patients[start : start + PATIENTS_PER_BUNDLE] for e in p):
            entry = orjson.Fragment(text)
            if export.convention.references == "relative":
                entries.append({"resource": entry})
            else:
                again = "" if kind == "Patient" else f"-{start}-{i}"  # two resources with one id are two entries
                entries.append({"fullUrl": export.address(key + again, kind), "resource": entry})
        if shuffled:
            entries = [entries[i] for i in export.rng.permutation(len(entries))]
        files.append(f"bundle-{len(files) + 1:03}.json")
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
        (directory / files[-1]).write_bytes(orjson.dumps(bundle))
    return files


def _lines(
    convention: Convention,
    patients: Sequence[list[tuple[str, str, bytes]]],
    directory: Path,
    rng: np.random.Generator,
) -> dict[str, str]:
    """NDJSON, one file per type or one for all; the file of each resource type."""
    suffix = f".{convention.form}"
    everything = [entry for entries in patients for entry in entries]
    kinds = sorted({kind for kind, _, _ in everything})
    if convention.order == "by type":
        where = {kind: f"{kind}{suffix}" for kind in kinds}
    else:
        where = dict.fromkeys(kinds, f"export{suffix}")
    if convention.order == "shuffled":
        everything = [everything[i] for i in rng.permutation(len(everything))]
    for file in sorted(set(where.values())):
        text = b"".join(line + b"\n" for line in _of(everything, where, file))
        if suffix.endswith(".gz"):
            text = gzip.compress(text, 6, mtime=0)
        (directory / file).write_bytes(text)
    return where


def _of(everything: Sequence[tuple[str, str, bytes]], where: Mapping[str, str], file: str) -> Iterator[bytes]:
    return (line for kind, _, line in everything if where[kind] == file)


def _write_mapping(directory: Path, mapping: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(mapping), sort_keys=False, allow_unicode=True, width=120)
    (directory / MAPPING).write_text(text, encoding="utf-8")
