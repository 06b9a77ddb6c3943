"""Numbers about a harmonized source, and no patient's data: how complete each feature is, in which units it came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from harmonization.dictionary import Dictionary, Entry
from harmonization.extraction.gathering import Gathered
from harmonization.extraction.missing import Missing
from harmonization.extraction.records import Piece
from harmonization.extraction.windows import Cells
from harmonization.quarantine import Summary

Counts = dict[str, Any]

UNKNOWN_CODES = 100
"""So many of the codes that the dictionary has not are named, the most frequent ones."""
BINS = 40
WIDE = 10
"""A plausible range that goes up to more than so many times the typical value is cut in decades."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def completeness(
    cells: Cells,
    gathered: Gathered,
    dictionary: Dictionary,
    pieces: Sequence[Piece],
    summary: Summary,
    lost: Sequence[str],
) -> Counts:
    """The report.

    Parameters
    ----------
    cells, gathered, dictionary, pieces
        What was found.
    summary
        What was set aside.
    lost
        Why each patient is not in the cohort; empty for those who are.

    Returns
    -------
    dict
        ``dictionary`` (name, version, hash), ``schema`` (name, version, hash), ``resources`` (by type), ``quarantine``
        (read, refused, by kind and by reason), ``patients`` (found, kept, lost by reason), ``features`` (see
        `feature`), ``unknown_codes``, ``records_of_nobody``.
    """
    kept = np.array([not words for words in lost], bool)
    units: Counter[tuple[int, str]] = Counter()
    unknown: Counter[str] = Counter()
    resources: Counter[str] = Counter()
    for piece in pieces:
        units += piece.units
        unknown += piece.unknown
        resources += piece.resources
    schema = dictionary.schema()
    records = np.bincount(gathered.records.feature, minlength=len(dictionary.entries))
    quarantined = np.bincount(
        gathered.records.feature[gathered.records.missing == Missing.QUARANTINED], minlength=len(dictionary.entries)
    )
    of_feature: dict[int, dict[str, int]] = {}
    for (number, unit), n in sorted(units.items()):
        of_feature.setdefault(number, {})[unit] = n
    columns = {*dictionary.columns, *dictionary.scores}
    features = {}
    for number, entry in enumerate(dictionary.entries):
        features[entry.name] = {
            "in_cohort": entry.name in columns,
            "records": int(records[number]),
            "quarantined": int(quarantined[number]),
            "units": of_feature.get(number, {}),
            **feature(entry, cells, number, kept),
        }
    return {
        "dictionary": {"name": dictionary.name, "version": dictionary.version, "hash": dictionary.hash},
        "schema": {"name": schema.name, "version": schema.version, "hash": schema.hash},
        "resources": dict(sorted(resources.items())),
        "quarantine": {
            "read": summary.read,
            "refused": summary.refused,
            "kinds": dict(summary.kinds),
            "reasons": dict(summary.reasons),
        },
        "patients": {
            "found": len(lost),
            "kept": int(kept.sum()),
            "lost": dict(sorted(Counter(words for words in lost if words).items())),
        },
        "features": features,
        "unknown_codes": dict(sorted(unknown.items(), key=lambda pair: (-pair[1], pair[0]))[:UNKNOWN_CODES]),
        "records_of_nobody": gathered.of_nobody,
    }


def feature(entry: Entry, cells: Cells, number: int, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> Counts:
    """Numbers about one feature of the patients in the cohort.

    Returns
    -------
    dict
        ``kind``, ``unit``, ``low``, ``high``; ``present`` and ``missing`` (by reason) patients; ``contradictions``; of
        numbers ``quantiles`` and a ``histogram`` (``counts`` between ``edges``, see `bin_edges`), of all others
        ``values``: how often each occurs.
    """
    missing = cells.missing[kept, number]
    values = cells.values[kept, number]
    values = values[~np.isnan(values)]
    reasons = np.bincount(missing, minlength=len(Missing))
    found: Counts = {
        "kind": entry.kind,
        "unit": entry.units.unit if entry.units and entry.kind != "binary" else "",
        "low": entry.low,
        "high": entry.high,
        "present": int(reasons[Missing.NONE]),
        "missing": {reason.words: int(reasons[reason]) for reason in Missing if reason and reasons[reason]},
        "contradictions": int(cells.contradicted[kept, number].sum()),
    }
    if entry.kind in ("continuous", "count", "date") and len(values):
        found["quantiles"] = {
            f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
        }
        edges = bin_edges(entry)
        counts, edges = np.histogram(values, BINS if edges is None else edges)
        found["histogram"] = {"edges": edges.tolist(), "counts": counts.tolist()}
    elif entry.kind == "binary":
        found["values"] = {"0": int((values == 0).sum()), "1": int((values == 1).sum())}
    elif entry.kind == "categorical":
        found["values"] = {name: int((values == i).sum()) for i, name in enumerate(entry.categories)}
    return found


def bin_edges(entry: Entry) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Bins over the plausible range, so that reports of two hospitals have the same; None where there is no range.

    Equal ones, or ten a decade up to the upper limit where typical values are far below it (white cells, LDH).
    """
    low, high = entry.low, entry.high
    if low is None or high is None:
        return None
    if entry.kind == "count" and high - low < BINS:
        return np.arange(low, high + 2) - 0.5
    percent = entry.units is not None and entry.units.unit == "%"
    if percent or entry.reference <= 0 or high <= WIDE * entry.reference:
        return np.linspace(low, high, BINS + 1)
    smallest = max(low, entry.reference / 100)
    edges = high * 10.0 ** (-np.arange(int(10 * np.log10(high / smallest)) + 1) / 10)[::-1]
    return edges if edges[0] <= low else np.r_[low, edges]
