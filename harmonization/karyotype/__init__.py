"""Karyotypes: from the text of a report to clones, abnormalities, and what prognosis asks of them."""

from harmonization.karyotype.notation import Abnormality, Clone, Karyotype, KaryotypeError
from harmonization.karyotype.parser import parse_karyotype
from harmonization.karyotype.prognosis import Findings, findings

__all__ = ["Abnormality", "Clone", "Findings", "Karyotype", "KaryotypeError", "findings", "parse_karyotype"]
