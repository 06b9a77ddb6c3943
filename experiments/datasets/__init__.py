"""Data sets by name, and their patients split in centers.

Each data set has an adapter: a module here that reads its publisher's files as they are. docs/data.md says what each
holds, what was left out and why.
"""

from experiments.datasets.centers import center_names, declared, load_center, load_centers
from experiments.datasets.dataset import Card, Dataset, DatasetError
from experiments.datasets.registry import available_datasets, load_dataset, resolve_data_dir

__all__ = [
    "Card",
    "Dataset",
    "DatasetError",
    "available_datasets",
    "center_names",
    "declared",
    "load_center",
    "load_centers",
    "load_dataset",
    "resolve_data_dir",
]
