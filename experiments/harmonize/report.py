"""One page that says what became of a hospital's export: ``report.json`` in words, tables and figures.

The page stands alone (figures are inside, nothing is loaded). It names no patient, but small counts and extreme values
are in it: it is for the hospital. What may leave is the federated check (`federation.conformance`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.files import write_text
from experiments.harmonize.figures import draw_all, in_cohort
from experiments.pages import embedded, template

PAGE = "report.html"

CAPTIONS = {
    "completeness": "Each bar is a feature of the cohort, or several that are alike: the dark part is present, the "
    "others say why a value is missing. The least complete are on top.",
    "values": "Each histogram is a number in the dictionary's unit; dashed lines are the ends of its plausible range, "
    "the black line the median. A heap next to a dashed line, or a median far from where it usually is, is a wrong "
    "unit until shown otherwise. Values outside of the range are not here but set aside. Wide ranges are drawn in "
    "decades, with zeros in the first bar.",
}
KINDS = {
    "json": "not JSON, or cut off",
    "structure": "an element is missing, of a wrong type, or not of FHIR",
    "version": "of another version of FHIR than R4",
    "binding": "a code that FHIR does not allow there",
    "invariant": "elements that exclude or require each other",
    "unit": "a unit that is unknown, missing, or means something else in UCUM",
    "date": "a date that does not exist, lies in the future, or contradicts another",
    "reference": "a reference that leads nowhere",
    "duplicate": "one id or identifier twice, with different content",
    "precision": "a number with more digits than a computer keeps",
    "value": "a value that cannot be read",
    "range": "a value outside of the plausible range",
    "code": "a coded value that the dictionary does not know",
    "karyotype": "a karyotype that breaks the rules of ISCN",
    "table": "a cell of a table that cannot be read",
}
"""What kinds of problems mean."""


def write_report(counts: dict[str, Any], path: Path, source: str) -> None:
    """Write ``report.html``: to a temporary name first, then renamed.

    Parameters
    ----------
    counts
        As `harmonization.harmonize.Harmonized.counts`.
    path
        Where the page goes.
    source
        What was harmonized, for the title.
    """
    write_text(render(counts, source), path)


def render(counts: dict[str, Any], source: str) -> str:
    """The page as text."""
    asked = in_cohort(counts)
    aside = [(*reason.partition(" ")[::2], n) for reason, n in counts["quarantine"]["reasons"].items()]
    return template(Path(__file__).with_name("report.html.jinja")).render(
        source=source,
        counts=counts,
        summary=summary(counts),
        aside=aside,
        kinds={kind: KINDS[kind] for kind, _, _ in aside},
        missing=missing_by_reason(counts),
        units={name: f for name, f in counts["features"].items() if f["units"]},
        states={name: f for name, f in asked.items() if f.get("values") and f["kind"] == "binary"},
        categories={name: f for name, f in asked.items() if f.get("values") and f["kind"] == "categorical"},
        elsewhere={n: f for n, f in counts["features"].items() if not f["in_cohort"] and f["records"]},
        figures=[(name, CAPTIONS[name], embedded(figure)) for name, figure in draw_all(counts).items()],
    )


def missing_by_reason(counts: dict[str, Any]) -> dict[str, int]:
    """Missing cells of the cohort by reason, the most frequent first."""
    total: dict[str, int] = {}
    for feature in in_cohort(counts).values():
        for reason, n in feature["missing"].items():
            total[reason] = total.get(reason, 0) + n
    return dict(sorted(total.items(), key=lambda pair: -pair[1]))


def summary(counts: dict[str, Any]) -> list[str]:
    """What a person should know first, as sentences."""
    patients, quarantine, asked = counts["patients"], counts["quarantine"], in_cohort(counts)
    said = [f"{patients['kept']:,} of {patients['found']:,} patients are in the cohort."]
    if patients["lost"]:
        worst, n = max(patients["lost"].items(), key=lambda pair: pair[1])
        said.append(f"{sum(patients['lost'].values()):,} are not, most often because of: {worst} ({n:,}).")
    cells = patients["kept"] * len(asked)
    if cells:
        present = sum(feature["present"] for feature in asked.values())
        said.append(f"{present / cells:.1%} of the cells of {len(asked)} features have a value.")
    if empty := [name for name, feature in asked.items() if not feature["present"]]:
        said.append(f"Nobody has {_list(empty)}.")
    if quarantine["refused"]:
        share = quarantine["refused"] / quarantine["read"]
        said.append(f"{quarantine['refused']:,} of {quarantine['read']:,} resources ({share:.2%}) were set aside.")
    else:
        said.append(f"None of {quarantine['read']:,} resources was set aside.")
    if worst_off := [name for name, f in asked.items() if f["quarantined"] > 0.05 * max(f["records"], 1)]:
        said.append(f"More than 5% of the records were set aside of {_list(worst_off)}.")
    if contradicted := [name for name, feature in asked.items() if feature["contradictions"]]:
        said.append(f"Records of the same moment contradict each other in {_list(contradicted)}.")
    if counts["unknown_codes"]:
        n = sum(counts["unknown_codes"].values())
        said.append(f"{n:,} records have a code that the dictionary does not know; the most frequent are below.")
    return said


def _list(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
