"""Official and synthetic R4 resources, read in place, and which of them are not valid."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from harmonization.reading import Located, read_resources

FOLDERS = ("hl7-r4-examples", "mii-onkologie", "mii-molekulares-tumorboard", "synthea-r4", "sample-bulk-10")

# Examples of the German oncology profiles that break the standard they build on: name of the file, element, value.
NOT_VALID = {
    "Condition-PatientKimMusterperson-Diagnosis-1.json": ("Condition.verificationStatus.coding[0].code", "2"),
    "DiagnosticReport-PatientKimMusterperson-PathoReport-1.json": ("DiagnosticReport.status", "complete"),
    "MedicationStatement-PatientKimMusterperson-SystemicTherapyMedication-1.json": (
        "MedicationStatement.partOf[0].reference",
        "SystemicTherapy1",
    ),
    "MedicationStatement-mii-exa-onko-systemische-therapie-medikation1.json": ("MedicationStatement.status", "final"),
    "MedicationStatement-mii-exa-onko-systemische-therapie-medikation2.json": ("MedicationStatement.status", "final"),
    "Observation-PatientKimMusterperson-Verlauf-2022-01-22.json": ("Observation.focus[0].reference", "Pa"),
    **{
        f"Observation-TNM-{name}-Observation-2.json": ("Observation.status", "completed")
        for name in ("Klassifikation", "L", "M", "Pn", "T", "V", "y-Symbol")
    },
    "Procedure-mii-exa-onko-operation-1.json": ("Procedure.status", "final"),
    "Procedure-mii-exa-onko-strahlentherapie.json": ("Procedure.status", "final"),
    "Procedure-mii-exa-onko-systemische-therapie-1.json": ("Procedure.status", "final"),
    "Specimen-mii-exa-onko-specimen-1.json": ("Specimen.status", "final"),
}


class Examples(list[Located]):
    """A list that does not show its contents where a test fails."""

    def __repr__(self) -> str:
        return f"{len(self)} examples"


@cache
def examples(directory: Path) -> Examples:
    """All resources, those in Bundles too."""
    refused: list[Any] = []
    found = Examples(located for folder in FOLDERS for located in read_resources(directory / folder, refused.append))
    assert refused == []
    return found


def is_valid(located: Located) -> bool:
    return Path(located.file).name not in NOT_VALID
