"""What a center writes for itself: its own patients' clusters. None of this leaves it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clustering.events import MISSING, EventTable
from federation.policy import Refused
from harmonization import Cohort, SchemaError


@dataclass(frozen=True)
class Memberships:
    """Patients' components under one state of the sampler.

    Parameters
    ----------
    ids
        Patient ids, shape (patients,).
    labels
        The component drawn in the state's round, shape (patients,); -1 without an event, as such a patient takes no
        part in the mixture.
    probabilities
        Shape (patients, components): of each component given its weights and the proportions; the proportions
        themselves for a patient without an event.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def event_table(cohort: Cohort, genes: tuple[str, ...]) -> EventTable:
    """The named binary features of a cohort; missing is not tested.

    Raises
    ------
    Refused
        If the schema has no such feature, or it is not binary.
    """
    try:
        columns = [cohort.schema.index(name) for name in genes]
    except SchemaError as error:
        raise Refused(f"genes: {error}") from None
    for j in columns:
        feature = cohort.schema.features[j]
        if feature.kind != "binary":
            raise Refused(f"genes: {feature.name!r} is {feature.kind}; lesions are binary features")
    values = cohort.values[:, columns]
    return EventTable(cohort.ids, genes, np.where(np.isnan(values), MISSING, values).astype(np.int8))
