"""Prognostic scores as comparators: computed from a cohort's own columns where the publisher gives none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from harmonization import Feature, Schema
from models.prognostic import Score


def with_scores(
    schema: Schema, table: pd.DataFrame, scores: Mapping[str, Score], assume: Mapping[str, Any] | None = None
) -> tuple[Schema, pd.DataFrame]:
    """Add scores to a table and its schema, after those it has.

    Parameters
    ----------
    schema
        Of the table.
    table
        One row a patient.
    scores
        Which, by the name of their column.
    assume
        Columns that the scores read instead of, or besides, the table's; the table itself does not get them.

    Returns
    -------
    Schema, DataFrame
        Both with the scores; NaN where what a patient lacks decides the score.
    """
    inputs = table.assign(**dict(assume or {}))
    added = {name: score(inputs)["score"] for name, score in scores.items()}
    columns = tuple(Feature(name, "continuous") for name in scores)
    return replace(schema, scores=(*schema.scores, *columns)), table.assign(**added)
