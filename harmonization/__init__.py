"""Floor 1: from what a hospital has to the one table type that all floors share."""

from harmonization.cohort import Cohort, require_same_schema
from harmonization.errors import CohortError, SchemaError
from harmonization.schema import Feature, Schema
from harmonization.storage import read_cohort, write_cohort

__all__ = [
    "Cohort",
    "CohortError",
    "Feature",
    "Schema",
    "SchemaError",
    "read_cohort",
    "require_same_schema",
    "write_cohort",
]
