"""A data set split in centers: what a center, or a host of many simulated ones, loads on its own node.

All functions take the same arguments, all of which can be written in a configuration and pickled; a worker process that
loads many centers of one data set reads its files once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from experiments.datasets.dataset import Dataset, DatasetError
from experiments.datasets.registry import adapter, load_dataset, require_options, resolve_data_dir
from experiments.partition import Partition, Real, make_partition, unknown
from harmonization import Cohort, Schema

PartitionSpec = str | Mapping[str, Any] | Partition


def load_centers(
    name: str,
    data_dir: Path | None = None,
    options: Mapping[str, Any] | None = None,
    partition: PartitionSpec = "real",
    seed: int = 0,
    modalities: Sequence[str] | None = None,
) -> dict[str, Cohort]:
    """Every center's patients, by name in sorted order.

    Parameters
    ----------
    name, data_dir, options
        As for `load_dataset`.
    partition
        How patients are assigned to centers; see `experiments.partition.make_partition`.
    seed
        Seed of the partition.
    modalities
        Blocks of features to keep, all by default.

    Raises
    ------
    DatasetError, PartitionError, CohortError
        Naming what is wrong.
    """
    kind = make_partition(partition)
    if _own_files(name, kind, options):
        return {
            center: load_center(name, data_dir, options, kind, seed, modalities, center=center)
            for center in center_names(name, data_dir, options, kind, seed)
        }
    return dict(_split(*_key(name, data_dir, options), kind, seed, tuple(modalities) if modalities else None))


def load_center(
    name: str,
    data_dir: Path | None = None,
    options: Mapping[str, Any] | None = None,
    partition: PartitionSpec = "real",
    seed: int = 0,
    modalities: Sequence[str] | None = None,
    *,
    center: str,
) -> Cohort:
    """One center's patients; of one file per center, only its own is read.

    Parameters
    ----------
    name, data_dir, options, partition, seed, modalities
        As for `load_centers`.
    center
        Name of the center.
    """
    kind = make_partition(partition)
    if own := _own_files(name, kind, options):
        cohort: Cohort = own.load_file(resolve_data_dir(data_dir), options or {}, center)
        return cohort.select(modalities) if modalities else cohort
    centers = _split(*_key(name, data_dir, options), kind, seed, tuple(modalities) if modalities else None)
    if center not in centers:
        raise DatasetError(f"data set {name!r}: {unknown('center', center, centers)}")
    return centers[center]


def center_names(
    name: str,
    data_dir: Path | None = None,
    options: Mapping[str, Any] | None = None,
    partition: PartitionSpec = "real",
    seed: int = 0,
) -> tuple[str, ...]:
    """Names of the centers, sorted; of one file per center, none is read."""
    kind = make_partition(partition)
    if own := _own_files(name, kind, options):
        return tuple(sorted(own.center_files(resolve_data_dir(data_dir), options or {})))
    return tuple(_split(*_key(name, data_dir, options), kind, seed, None))


def declared(
    name: str,
    data_dir: Path | None = None,
    options: Mapping[str, Any] | None = None,
    partition: PartitionSpec = "real",
    seed: int = 0,
    modalities: Sequence[str] | None = None,
) -> tuple[Schema, dict[str, float]] | None:
    """The schema, and each center's size in any unit, of a data set that says both before a patient is read.

    Its centers make their tables on their own nodes. None for all others. Arguments as for `load_centers`.
    """
    own = _own_files(name, make_partition(partition), options)
    if own is None or not hasattr(own, "declared_schema"):
        return None
    where, options = resolve_data_dir(data_dir), options or {}
    schema: Schema = own.declared_schema(where, options)
    names = center_names(name, data_dir, options, partition, seed)
    sizes = {center: float(own.size(where, options, center)) for center in names}
    return schema.select(tuple(modalities)) if modalities else schema, sizes


def _own_files(name: str, partition: Partition, options: Mapping[str, Any] | None) -> ModuleType | None:
    """The adapter of a data set whose centers have files of their own, unless its patients are spread anew."""
    module = adapter(name)
    if not hasattr(module, "load_file") or not isinstance(partition, Real):
        return None
    require_options(name, module.CARD, options or {})
    return module


Key = tuple[str, Path | None, str]


def _key(name: str, data_dir: Path | None, options: Mapping[str, Any] | None) -> Key:
    """Hashable arguments."""
    return name, resolve_data_dir(data_dir), json.dumps(dict(options or {}), sort_keys=True, default=str)


@lru_cache(maxsize=4)
def _pooled(name: str, data_dir: Path | None, options: str) -> Dataset:
    return load_dataset(name, data_dir, json.loads(options))


@lru_cache(maxsize=4)
def _split(
    name: str,
    data_dir: Path | None,
    options: str,
    partition: Partition,
    seed: int,
    modalities: tuple[str, ...] | None,
) -> dict[str, Cohort]:
    """Assign patients before dropping modalities, so that the centers are the same for each choice of these."""
    dataset = _pooled(name, data_dir, options)
    labels = partition.assign(dataset.cohort, dataset.center, seed)
    cohort = dataset.cohort.select(modalities) if modalities else dataset.cohort
    names, codes = np.unique(labels, return_inverse=True)
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    return {str(center): cohort[members] for center, members in zip(names, rows, strict=True)}
