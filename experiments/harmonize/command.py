"""What ``haemfed harmonize`` and ``haemfed exports`` do, beside printing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.config import load_config
from experiments.datasets import available_datasets
from experiments.datasets.centers import load_centers
from experiments.harmonize.exports import write_exports
from harmonization import Cohort, Dictionary
from harmonization.dictionary_file import available
from harmonization.harmonize import Harmonized, harmonize
from harmonization.tables import harmonize_mapped, propose_mapping, read_mapping


def write_proposal(table: Path, dictionary: str | None, out: Path | None) -> Path:
    """Write a proposed mapping of a table; an existing file is never overwritten.

    Parameters
    ----------
    table
        A CSV or Excel file.
    dictionary
        To map to; the haematology core by default.
    out
        The file, ``<table>.mapping.yaml`` by default.
    """
    out = out or table.with_name(f"{table.stem}.mapping.yaml")
    text = propose_mapping(table, Dictionary.read(dictionary or "core"))
    if out.exists():
        raise ValueError(f"{out}: exists, and may hold what a person has confirmed; name another with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    return out


def harmonize_source(source: Path, dictionary: str | None, mapping: Path | None, **options: Any) -> Harmonized:
    """Read FHIR, or the tables of a mapping, as a cohort."""
    if mapping is not None:
        chosen = Dictionary.read(dictionary) if dictionary else None
        beside = source if source.is_dir() else source.parent
        return harmonize_mapped(source, read_mapping(mapping, chosen, beside), **options)
    if dictionary is None:
        raise ValueError(f"no dictionary; give --dictionary with one of {', '.join(available())}, or a file")
    return harmonize(source, dictionary, **options)


def make_exports(
    source: str,
    out: Path,
    *,
    centers: int | None = None,
    seed: int = 0,
    faults: int = 3,
    dictionary: str | None = None,
    data: Path | None = None,
) -> tuple[Path, int, int]:
    """Rewrite the patients of a data set as hospitals' exports.

    Parameters
    ----------
    source
        Name of a data set, or an experiment's configuration.
    out
        Directory of the exports.
    centers
        Number of hospitals; those of the configuration, or the data set's own, by default.
    seed, faults
        As of `write_exports`.
    dictionary
        The one whose schema is the data set's by default.
    data
        Directory of downloaded data sets.

    Returns
    -------
    tuple
        The manifest, and the numbers of hospitals and patients.
    """
    options: dict[str, Any] = {}
    partition: Any = "real"
    if source not in available_datasets():
        if not Path(source).is_file():
            raise ValueError(f"{source}: neither a data set ({', '.join(available_datasets())}) nor a configuration")
        config = load_config(Path(source))
        source, options = config.dataset.name, config.dataset.options
        partition = {"name": config.partition.name, **config.partition.parameters}
    if centers is not None:
        partition = {"name": "dirichlet_quantity", "centers": centers, "alpha": 2.0}
    patients = load_centers(source, data, options, partition, seed)
    chosen = Dictionary.read(dictionary) if dictionary else _dictionary_of(next(iter(patients.values())), source)
    manifest = write_exports(patients, chosen, out, seed, faults)
    return manifest, len(patients), sum(map(len, patients.values()))


def _dictionary_of(cohort: Cohort, dataset: str) -> Dictionary:
    for name in available():
        dictionary = Dictionary.read(name)
        if dictionary.columns and dictionary.schema().hash == cohort.schema.hash:
            return dictionary
    raise ValueError(f"data set {dataset!r}: no dictionary of this package has its schema; name one with --dictionary")
