"""SQL-on-FHIR v2 ViewDefinitions: the flattening from FHIR to tables, declared and not programmed."""

from harmonization.views.definition import Column
from harmonization.views.errors import ViewError
from harmonization.views.runner import View, compile_view

__all__ = ["Column", "View", "ViewError", "compile_view"]
