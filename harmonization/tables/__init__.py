"""A hospital's own tables, CSV and Excel: a declared mapping makes FHIR R4 resources of them."""

from harmonization.tables.conversion import convert_tables, read_tables
from harmonization.tables.errors import MappingError
from harmonization.tables.harmonizing import harmonize_mapped
from harmonization.tables.mapping import Mapping, read_mapping
from harmonization.tables.proposal import propose_mapping

__all__ = [
    "Mapping",
    "MappingError",
    "convert_tables",
    "harmonize_mapped",
    "propose_mapping",
    "read_mapping",
    "read_tables",
]
