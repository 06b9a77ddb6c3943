"""What a published prognostic score is: what it needs, its categories, what it does about missing inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.prognostic.bounds import Bounds

Floats = NDArray[np.float64]
Columns = Mapping[str, Floats]
"""The inputs of a score by name, each of shape (n,), NaN where missing."""


class ScoreError(ValueError):
    """A table that a score cannot be computed from; the message names the score, the column and the value."""


@dataclass(frozen=True)
class Input:
    """A column that a score reads.

    Parameters
    ----------
    name
        Column name; that of the data dictionaries where they have it.
    meaning
        In words.
    unit
        Of the numbers; ``""`` for 0 / 1 and counts.
    low, high
        Plausible range, both included; a value outside is an error (another unit, most likely).
    default
        What a table without the column says by that: NaN, unknown, for all patients. None: the column must be there.
    """

    name: str
    meaning: str
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    default: float | None = None


@dataclass(frozen=True, eq=False)
class Scenarios:
    """A score three times: with what is missing at its best, as the publication imputes it, and at its worst."""

    best: Floats
    score: Floats
    worst: Floats

    @classmethod
    def of(cls, bounds: Bounds) -> Scenarios:
        """Of a score without a published imputation: known where the missing inputs do not matter, else NaN."""
        return cls(bounds.low, bounds.value, bounds.high)


@dataclass(frozen=True)
class Score:
    """A published prognostic score, computed for all patients of a table at once.

    Parameters
    ----------
    name
        As published.
    source
        Publication and table.
    inputs
        What it reads.
    categories
        Names of the risk groups, best first.
    upper
        The highest score of each category but the last, which is one name more.
    missing
        In words, what happens to patients with missing inputs.
    evaluate
        From the checked inputs to the score.
    """

    name: str
    source: str
    inputs: tuple[Input, ...]
    categories: tuple[str, ...]
    upper: tuple[float, ...]
    missing: str
    evaluate: Callable[[Columns], Scenarios] = field(repr=False)

    def __call__(self, table: pd.DataFrame) -> pd.DataFrame:
        """Score every row.

        Parameters
        ----------
        table
            A column for each input, in its unit; missing as NaN; other columns are ignored. `Cohort.to_frame` gives
            one.

        Returns
        -------
        DataFrame
            With the table's index: ``score`` (higher is worse; NaN where what is missing decides) and ``category``,
            and both once more as ``…_best`` and ``…_worst``, for the best and worst that the missing inputs may be.
            A category is given where it is certain, also if the score is not.

        Raises
        ------
        ScoreError
            If a column is missing, or a value is not a number in its plausible range.
        """
        columns = {item.name: self._column(table, item) for item in self.inputs}
        found = self.evaluate(columns)
        scores = {"score": found.score, "score_best": found.best, "score_worst": found.worst}
        groups = {name.replace("score", "category"): self.group(values) for name, values in scores.items()}
        certain = np.isnan(found.score) & (groups["category_best"] == groups["category_worst"])
        groups["category"] = np.where(certain, groups["category_best"], groups["category"])
        named = {n: pd.Categorical.from_codes(g, pd.Index(self.categories), ordered=True) for n, g in groups.items()}
        order = [f"{kind}{end}" for end in ("", "_best", "_worst") for kind in ("score", "category")]
        return pd.DataFrame({**scores, **named}, index=table.index)[order]

    def group(self, score: Floats) -> NDArray[np.int64]:
        """Position of each score's category, -1 for NaN."""
        # Sums of half points are exact; a score rounded to two decimals is compared as it is printed.
        position = np.searchsorted(np.asarray(self.upper) + 1e-9, score, side="left")
        return np.where(np.isnan(score), -1, position).astype(np.int64)

    def _column(self, table: pd.DataFrame, item: Input) -> Floats:
        wanted = f"{self.name} reads column {item.name!r} ({item.meaning}{f', in {item.unit}' if item.unit else ''})"
        if item.name not in table.columns:
            if item.default is None:
                raise ScoreError(f"{wanted}, which the table does not have; add it, with NaN where it is unknown")
            return np.full(len(table), item.default)
        try:
            values = table[item.name].to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise ScoreError(f"{wanted}; it holds something that is not a number: {error}") from None
        bad = np.flatnonzero((values < item.low) | (values > item.high))
        if len(bad):
            raise ScoreError(
                f"{wanted} between {item.low:g} and {item.high:g}; row {table.index[bad[0]]!r} has "
                f"{values[bad[0]]:g} ({len(bad)} such rows). Is it in another unit?"
            )
        return values


def yes_no(columns: Columns, *names: str) -> list[Bounds]:
    """Columns of 0 and 1 as bounds, in order."""
    return [Bounds.of(columns[name]) for name in names]


INCOMPLETE = "No imputation is published: a category is given where the missing inputs cannot change it, else a range."
"""What is missing in all scores but the IPSS-M."""
