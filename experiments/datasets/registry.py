"""Data sets by name. An adapter is a module here with a `CARD` and a function `load(data_dir, options)`."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.datasets.dataset import Card, Dataset, DatasetError
from experiments.partition import unknown

ADAPTERS = (
    "aids",
    "aml_amlsg",
    "cmml_iwg",
    "cmml_simulated",
    "fhir",
    "files",
    "flchain",
    "gbsg2",
    "mds_iwg",
    "mds_wsi",
    "mm_simulated",
    "table",
    "veterans_lung_cancer",
    "whas500",
)
"""Modules of this package; imported when asked for, since some read formats that need heavy libraries."""


def available_datasets() -> dict[str, Card]:
    """Every data set's card, by name."""
    return {name: adapter(name).CARD for name in ADAPTERS}


def load_dataset(name: str, data_dir: Path | None = None, options: Mapping[str, Any] | None = None) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    name
        One of `available_datasets`.
    data_dir
        Where downloaded files are; the environment variable ``HAEMFED_DATA`` by default.
    options
        The adapter's options.

    Raises
    ------
    DatasetError
        If the name or an option is unknown, or a file is missing: which, where, and where to download it.
    CohortError
        If a value breaks the data set's schema.
    """
    module = adapter(name)
    card: Card = module.CARD
    options = dict(options or {})
    require_options(name, card, options)
    data_dir = resolve_data_dir(data_dir)
    _require_files(name, card, data_dir)
    cohort, center = module.load(data_dir, options)
    return Dataset(name, cohort, center, card.description, card.source, card.licence)


def resolve_data_dir(data_dir: Path | str | None) -> Path | None:
    """The directory given, or else that of ``HAEMFED_DATA``, as an absolute path; None if there is neither."""
    chosen = data_dir or os.environ.get("HAEMFED_DATA")
    return Path(chosen).expanduser().absolute() if chosen else None


def adapter(name: str) -> ModuleType:
    """The module of a data set; raises DatasetError if there is none."""
    if name not in ADAPTERS:
        raise DatasetError(unknown("data set", name, ADAPTERS))
    return importlib.import_module(f"experiments.datasets.{name}")


def require_options(name: str, card: Card, options: Mapping[str, Any]) -> None:
    """Raise DatasetError if the adapter takes no such option, naming the nearest."""
    for option in options:
        if option not in card.options:
            raise DatasetError(f"data set {name!r}: {unknown('option', option, card.options)}")


def _require_files(name: str, card: Card, data_dir: Path | None) -> None:
    for file in card.files:
        if data_dir is None:
            raise DatasetError(
                f"data set {name!r} needs {file} in a data directory; give one with --data or the environment "
                f"variable HAEMFED_DATA. Download: {card.source}"
            )
        if not (data_dir / file).is_file():
            raise DatasetError(f"data set {name!r} needs {file}, not found in {data_dir}. Download: {card.source}")
