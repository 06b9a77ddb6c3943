"""FHIRPath of the SQL-on-FHIR v2 specification, compiled once to closures over plain parsed JSON."""

from harmonization.fhirpath.closures import Environment, Many, Truth
from harmonization.fhirpath.compiler import BUILT_IN, Path, Value, compile_path
from harmonization.fhirpath.errors import FHIRPathError

__all__ = ["BUILT_IN", "Environment", "FHIRPathError", "Many", "Path", "Truth", "Value", "compile_path"]
