"""One CSV or Parquet table per center, as when every hospital keeps its own file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.datasets.dataset import Card, DatasetError, Labels
from experiments.datasets.table import locate
from experiments.partition import unknown
from harmonization import Cohort, Schema, read_cohort, require_same_schema

CARD = Card(
    description="Your own files, one table a center, each with the schema beside it, or one schema for all.",
    source="your own files: option centers, a name and a path for each, and where needed schema",
    licence="your own",
    options=("centers", "schema"),
)


def center_files(data_dir: Path | None, options: Mapping[str, Any]) -> dict[str, str]:
    """The file of each center, from the option ``centers``."""
    centers = options.get("centers")
    if not isinstance(centers, Mapping) or not centers:
        raise DatasetError("data set 'files' needs the option centers: a mapping from center names to files")
    return {str(name): str(path) for name, path in centers.items()}


def load_file(data_dir: Path | None, options: Mapping[str, Any], center: str) -> Cohort:
    """One center's patients; no other center's file is touched."""
    centers = center_files(data_dir, options)
    if center not in centers:
        raise DatasetError(unknown("center", center, centers))
    schema = Schema.read(locate(options["schema"], data_dir)) if "schema" in options else None
    return read_cohort(locate(centers[center], data_dir), schema)


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, Labels]:
    """All centers' patients pooled; ids become ``center/id``, since two hospitals may use the same ones."""
    cohorts: list[Cohort] = []
    labels: list[Labels] = []
    for center, file in center_files(data_dir, options).items():
        cohort = load_file(data_dir, options, center)
        if cohorts:
            require_same_schema(cohorts[0].schema, cohort.schema, file)
        cohorts.append(replace(cohort, ids=np.array([f"{center}/{patient}" for patient in cohort.ids])))
        labels.append(np.full(len(cohort), center))
    return Cohort.concatenate(cohorts), np.concatenate(labels)
