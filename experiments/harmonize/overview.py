"""What became of a hospital's resources, for a person at a terminal."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

WORST = 12
"""So many features are listed, those with most missing values."""


def overview(counts: dict[str, Any]) -> list[Table]:
    """Tables of patients, of what was set aside, and of the least complete features.

    Parameters
    ----------
    counts
        As `harmonization.harmonize.Harmonized.counts`.
    """
    patients, quarantine = counts["patients"], counts["quarantine"]
    table = Table("patients", "number", title=escape(f"dictionary {counts['dictionary']['name']}"))
    table.add_row("in the cohort", str(patients["kept"]))
    for words, number in patients["lost"].items():
        table.add_row(escape(f"lost: {words}"), str(number))
    tables = [table]
    if quarantine["refused"]:
        caption = f"{quarantine['refused']} of {quarantine['read']} resources"
        aside = Table("set aside", "number", caption=caption)
        for reason, number in list(quarantine["reasons"].items())[:WORST]:
            aside.add_row(escape(reason), str(number))
        tables.append(aside)
    kept = max(patients["kept"], 1)
    features = Table("feature", "present", "why missing", "units met", "contradictions")
    asked = [(name, f) for name, f in counts["features"].items() if f["in_cohort"]]
    for name, f in sorted(asked, key=lambda pair: pair[1]["present"])[:WORST]:
        why = ", ".join(f"{words} {number}" for words, number in f["missing"].items())
        units = ", ".join(f"{unit} {number}" for unit, number in f["units"].items())
        features.add_row(
            escape(name), f"{f['present'] / kept:.0%}", escape(why), escape(units), str(f["contradictions"])
        )
    features.caption = f"the {min(WORST, len(asked))} least complete of {len(asked)}"
    return [*tables, features]
