"""Floor 1: from what a hospital has to the one table type that all floors share."""

from harmonization.cohort import Cohort, require_same_schema
from harmonization.dictionary import Dictionary
from harmonization.errors import CodeError, CohortError, DictionaryError, SchemaError, UnitError
from harmonization.schema import Feature, Schema
from harmonization.storage import read_cohort, write_cohort

__all__ = [
    "CodeError",
    "Cohort",
    "CohortError",
    "Dictionary",
    "DictionaryError",
    "Feature",
    "Schema",
    "SchemaError",
    "UnitError",
    "read_cohort",
    "require_same_schema",
    "write_cohort",
]
