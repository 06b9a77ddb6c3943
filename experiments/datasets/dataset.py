"""What a data set is: pooled patients, their real centers if known, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort, CohortError

Labels = NDArray[np.str_]


class DatasetError(CohortError):
    """A data set is unknown, its files are not found, or its options are wrong."""


@dataclass(frozen=True)
class Card:
    """What is known of a data set before reading it.

    Parameters
    ----------
    description
        One or two sentences for a person choosing a data set.
    source
        Where to download it.
    licence
        Licence of the data.
    files
        Files it needs, relative to the data directory.
    options
        Names of the options its adapter takes.
    simulated
        What of it is simulated, in a sentence; reports show it above their results.
    """

    description: str
    source: str
    licence: str
    files: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    simulated: str = ""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as its adapter read it.

    Parameters
    ----------
    name
        The name by which `load_dataset` finds it.
    cohort
        All patients, pooled.
    center
        The real center of each patient, shape (n,), or None where the publisher gives none.
    description, source, licence
        As on the data set's `Card`.
    """

    name: str
    cohort: Cohort
    center: Labels | None
    description: str
    source: str
    licence: str
