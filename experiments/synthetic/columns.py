"""Two cohorts as tables of numbers and classes side by side, outcome included: what fidelity compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort
from harmonization.cohort import require_same_schema
from harmonization.schema import EVENT, TIME

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns of one cohort.

    Parameters
    ----------
    names
        Of the columns.
    numeric
        Whether each holds numbers on a scale; else it holds classes, as whole numbers. Shape (p,).
    values
        Shape (n, p), missing as NaN.
    """

    names: tuple[str, ...]
    numeric: NDArray[np.bool_]
    values: Floats

    def __len__(self) -> int:
        return len(self.values)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Shape (n, p)."""
        result: NDArray[np.bool_] = np.isnan(self.values)
        return result


def clinical_columns(cohort: Cohort) -> Columns:
    """All that is not genomic, and the outcome: time, and event (with competing causes, which)."""
    keep = [j for j, feature in enumerate(cohort.schema.features) if feature.modality != "genomic"]
    return _with_outcome(cohort, keep)


def all_columns(cohort: Cohort) -> Columns:
    """All features, and the outcome."""
    return _with_outcome(cohort, list(range(len(cohort.schema.features))))


def genomic_columns(cohort: Cohort) -> Columns:
    """The genomic features."""
    return _features(cohort, [j for j, f in enumerate(cohort.schema.features) if f.modality == "genomic"])


def lesions(cohort: Cohort) -> Columns:
    """The genomic features that are present (1) or absent (0): mutated genes, chromosomal lesions."""
    features = cohort.schema.features
    return _features(cohort, [j for j, f in enumerate(features) if f.modality == "genomic" and f.kind == "binary"])


def require_comparable(real: Cohort, synthetic: Cohort) -> None:
    """Raise unless both cohorts have patients (ValueError) and the same schema (SchemaError)."""
    require_same_schema(real.schema, synthetic.schema, "the synthetic patients")
    for name, cohort in (("real", real), ("synthetic", synthetic)):
        if len(cohort) < 2:
            raise ValueError(f"{len(cohort)} {name} patients; an evaluation needs at least 2")


def _features(cohort: Cohort, keep: list[int]) -> Columns:
    features = [cohort.schema.features[j] for j in keep]
    numeric = np.array([feature.numeric for feature in features], dtype=bool)
    return Columns(tuple(feature.name for feature in features), numeric, cohort.values[:, keep])


def _with_outcome(cohort: Cohort, keep: list[int]) -> Columns:
    part = _features(cohort, keep)
    event = cohort.event if cohort.cause is None else cohort.cause
    return Columns(
        (*part.names, TIME, EVENT),
        np.append(part.numeric, [True, False]),
        np.column_stack([part.values, cohort.time, event]),
    )
