"""From resources to feature values: what a record says, which of several counts, and why there is none."""

from harmonization.extraction.missing import Missing
from harmonization.extraction.pieces import Extractor
from harmonization.extraction.records import Piece

__all__ = ["Extractor", "Missing", "Piece"]
