"""Where each value came from, and why each missing one is missing: two tables beside the cohort.

Both hold patients' data and stay in the center.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from harmonization.dictionary import Dictionary
from harmonization.extraction.gathering import Gathered
from harmonization.extraction.lesions import Origins
from harmonization.extraction.missing import Missing
from harmonization.extraction.moments import NO_DAY
from harmonization.extraction.windows import Cells
from harmonization.schema import ID

PROVENANCE = (ID, "feature", "value", "resource", "original", "unit", "date", "contradicted")
REASONS = (ID, "feature", "reason")
PATIENT = "patient"
"""In place of a feature's name: why a patient is not in the cohort at all."""

_EPOCH = np.datetime64("1970-01-01", "D")


def provenance(
    cells: Cells, gathered: Gathered, dictionary: Dictionary, origins: Origins, kept: NDArray[np.intp]
) -> pd.DataFrame:
    """The record behind each value, features outside of the cohort included.

    Parameters
    ----------
    cells, gathered, dictionary, origins
        What was found.
    kept
        Numbers of the patients in the cohort.

    Returns
    -------
    DataFrame
        Columns `PROVENANCE`: value in the canonical unit (index of a category; days since 1970), resource, value and
        unit as the hospital wrote them, date of the record, and whether another record of the same moment says
        something else. A value derived from several records has no resource.
    """
    names = np.array([entry.name for entry in dictionary.entries], object)
    identities = np.array(gathered.patients.identities, object)
    has = (cells.missing[kept] == Missing.NONE) & (~np.isnan(cells.values[kept]) | (cells.rows[kept] >= 0))
    at, feature = np.nonzero(has)
    patient = kept[at]
    row = cells.rows[patient, feature]
    records = gathered.records
    taken = pa.array(row, mask=row < 0)
    day = np.full(len(row), NO_DAY, np.int64)
    day[row >= 0] = records.day[row[row >= 0]]
    resource, original, unit = (
        pa.chunked_array(column.chunks, pa.large_string()).take(taken).to_numpy().astype(object)
        for column in (records.resource, records.original, records.unit)
    )
    region = origins.regions[patient, feature]
    for k in np.flatnonzero(region >= 0):
        found = gathered.regions[region[k]]
        resource[k], original[k], day[k] = found.resource, "gene tested", found.when.day
    if origins.variants:
        place = {pair: i for i, pair in enumerate(zip(patient.tolist(), feature.tolist(), strict=True))}
        for pair, number in origins.variants.items():
            if (i := place.get(pair)) is not None and row[i] < 0:
                variant = gathered.variants[number]
                resource[i], original[i], day[i] = variant.resource, variant.original, variant.when.day
    dates = np.where(day == NO_DAY, np.datetime64("NaT"), _EPOCH + np.where(day == NO_DAY, 0, day))
    columns = (
        identities[patient],
        names[feature],
        cells.values[patient, feature],
        resource,
        original,
        unit,
        dates.astype("datetime64[s]"),
        cells.contradicted[patient, feature],
    )
    return pd.DataFrame(dict(zip(PROVENANCE, columns, strict=True)))


def reasons(cells: Cells, gathered: Gathered, dictionary: Dictionary, lost: list[str]) -> pd.DataFrame:
    """Why values are missing, of the cohort's columns and scores; and why patients are.

    Parameters
    ----------
    cells, gathered, dictionary
        What was found.
    lost
        Why each patient is not in the cohort; empty for those who are.

    Returns
    -------
    DataFrame
        Columns `REASONS`, one row per missing value; of a lost patient one row with the feature ``patient``.
    """
    words = np.array([reason.words for reason in Missing], object)
    identities = np.array(gathered.patients.identities, object)
    columns = [dictionary.entries.index(dictionary[name]) for name in (*dictionary.columns, *dictionary.scores)]
    names = np.array([dictionary.entries[column].name for column in columns], object)
    missing = cells.missing[:, columns]
    why = np.array(lost, object)
    is_lost = why != ""
    patient, column = np.nonzero((missing != Missing.NONE) & ~is_lost[:, None])
    frame = pd.DataFrame(
        {
            ID: np.r_[identities[patient], identities[is_lost]],
            "feature": np.r_[names[column], np.full(int(is_lost.sum()), PATIENT, object)],
            "reason": np.r_[words[missing[patient, column]], why[is_lost]],
        }
    )
    return frame.sort_values([ID], kind="stable", ignore_index=True)
