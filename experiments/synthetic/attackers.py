"""What an attacker knows of his victims, and what he wants to know."""

from __future__ import annotations

from harmonization import Schema


def known_and_secret(schema: Schema) -> tuple[list[int], list[int]]:
    """Positions of the features an attacker knows, and of those he does not.

    He knows what is in a clinical record and not the genome (or whatever else was measured); without such a division
    of the features, every other one.
    """
    known = [j for j, feature in enumerate(schema.features) if feature.modality == "clinical"]
    if not known or len(known) == len(schema.features):
        known = list(range(0, len(schema.features), 2))
    return known, [j for j in range(len(schema.features)) if j not in known]
