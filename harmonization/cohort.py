"""The cohort: one center's patients as a typed table that all floors share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harmonization.errors import CohortError, SchemaError
from harmonization.schema import DAYS_PER, EVENT, ID, TIME, Feature, Schema, TimeUnit

if TYPE_CHECKING:  # 70 MB and half a second that centers whose tables are arrays already do without
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Patients of one center: features, endpoint and ids, with missing values kept as NaN.

    Build one with `Cohort.from_frame`, which checks every value.

    Parameters
    ----------
    schema
        What the columns mean.
    ids
        Patient ids, shape (n,); they never leave the center.
    values
        Features, float64 of shape (n, p) in the schema's order; categories as their index; missing as NaN.
    time
        Time to event or censoring in ``schema.time_unit``, shape (n,).
    event
        Whether the event was seen, bool of shape (n,).
    scores
        Prognostic scores for comparison, float64 of shape (n, number of scores); never shown to models.
    cause
        With competing causes (`Schema.causes`), which of them it was: 0 for censoring, else the cause's number, int64
        of shape (n,); `event` is ``cause > 0``. None without.
    """

    schema: Schema
    ids: NDArray[np.str_]
    values: Floats
    time: Floats
    event: NDArray[np.bool_]
    scores: Floats = field(default_factory=lambda: np.empty((0, 0)))
    cause: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.scores.shape == (0, 0):  # none given
            object.__setattr__(self, "scores", np.empty((n, 0)))
        expected = {
            "values": (n, len(self.schema.features)),
            "time": (n,),
            "event": (n,),
            "scores": (n, len(self.schema.scores)),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise CohortError(f"{name} has shape {getattr(self, name).shape}; {n} patients need {shape}")
        self._require_causes()

    def _require_causes(self) -> None:
        causes = self.schema.causes
        if (self.cause is None) == bool(causes):
            raise CohortError(f"the schema names {len(causes)} competing causes; cause holds them, or is None if 0")
        if self.cause is None:
            return
        if self.cause.shape != self.event.shape or not np.array_equal(self.cause > 0, self.event):
            raise CohortError("cause must be 0 for censored patients and a cause's number for those with an event")
        if self.cause.min(initial=0) < 0 or self.cause.max(initial=0) > len(causes):
            raise CohortError(f"cause holds {np.unique(self.cause).tolist()}; the schema has causes 1 to {len(causes)}")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Cohort:
        """The patients selected by a mask or by positions."""
        return replace(
            self,
            ids=self.ids[rows],
            values=self.values[rows],
            time=self.time[rows],
            event=self.event[rows],
            scores=self.scores[rows],
            cause=None if self.cause is None else self.cause[rows],
        )

    def column(self, name: str) -> Floats:
        """Values of one feature, shape (n,)."""
        return self.values[:, self.schema.index(name)]

    def select(self, modalities: Sequence[str]) -> Cohort:
        """The same patients with the features of some modalities only."""
        schema = self.schema.select(tuple(modalities))
        keep = [self.schema.index(name) for name in schema.names]
        return replace(self, schema=schema, values=self.values[:, keep])

    def hide(self, modalities: Sequence[str]) -> Cohort:
        """The same patients and schema, with every value of some modalities missing."""
        hidden = np.array([feature.modality in modalities for feature in self.schema.features], dtype=bool)
        return replace(self, values=np.where(hidden, np.nan, self.values))

    def in_time_unit(self, unit: TimeUnit) -> Cohort:
        """The same patients with time expressed in another unit (365.25 days a year)."""
        factor = DAYS_PER[self.schema.time_unit] / DAYS_PER[unit]
        return replace(self, schema=replace(self.schema, time_unit=unit), time=self.time * factor)

    @classmethod
    def concatenate(cls, cohorts: Sequence[Cohort]) -> Cohort:
        """Pool cohorts of equal schema.

        Raises
        ------
        SchemaError
            If two schemas differ, naming the difference.
        """
        first = cohorts[0]
        for other in cohorts[1:]:
            require_same_schema(first.schema, other.schema, "another cohort")
        arrays = ("ids", "values", "time", "event", "scores", *(("cause",) if first.schema.causes else ()))
        return cls(first.schema, **{name: np.concatenate([getattr(c, name) for c in cohorts]) for name in arrays})

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, schema: Schema, source: str = "table") -> Cohort:
        """Check a table against its schema, value by value, and take it in.

        Parameters
        ----------
        frame
            One row per patient, with columns ``patient_id``, ``time``, ``event`` (0 for censoring, else 1, or the
            number of the cause) and every feature and score of the schema. Other columns are an error, so that nothing
            is lost unseen.
        schema
            What the columns must hold.
        source
            Named in error messages, usually the file.

        Raises
        ------
        CohortError
            At the first value that breaks the schema, naming source, row, column and value.
        """
        columns = [*(f.name for f in (*schema.features, *schema.scores)), ID, TIME, EVENT]
        if not frame.columns.is_unique:
            twice = frame.columns[frame.columns.duplicated()][0]
            raise CohortError("column occurs twice; keep one", source=source, column=str(twice))
        for name in columns:
            if name not in frame.columns:
                raise CohortError("column is missing; add it or take it out of the schema", source=source, column=name)
        for name in frame.columns:
            if name not in columns:
                raise CohortError(
                    "column is not in the schema; describe it there or drop it", source=source, column=str(name)
                )
        if frame.empty:
            raise CohortError("the table has no patients", source=source)

        ids = frame[ID]
        _refuse(ids.isna() | (ids.astype(str).str.strip() == ""), ids, "patient id is missing", source)
        ids = ids.astype(str)
        _refuse(ids.duplicated(), ids, "patient id occurs twice; keep one row per patient", source)

        time = _numbers(frame[TIME], source)
        _refuse(time.isna(), frame[TIME], "time is missing; drop the patient or find the follow-up", source)
        _refuse(~np.isfinite(time), time, "time is not finite", source)
        _refuse(time < 0, time, "time is negative; check the dates it was computed from", source)
        event = _numbers(frame[EVENT], source)
        events = schema.causes or ("event",)
        allowed = " or ".join(f"{code} ({name})" for code, name in enumerate(("censored", *events)))
        _refuse(~event.isin(range(len(events) + 1)), frame[EVENT], f"event must be {allowed}", source)

        features = [_feature(frame[f.name], f, source) for f in schema.features]
        scores = [_feature(frame[f.name], f, source) for f in schema.scores]
        return cls(
            schema,
            ids.to_numpy(dtype=str),
            np.column_stack(features),
            time.to_numpy(),
            event.to_numpy() > 0,
            np.column_stack(scores) if scores else np.empty((len(frame), 0)),
            event.to_numpy().astype(np.int64) if schema.causes else None,
        )

    def to_frame(self) -> pd.DataFrame:
        """The table that `from_frame` takes, categories spelled out, missing as NaN."""
        import pandas as pd

        event = self.event if self.cause is None else self.cause
        frame = pd.DataFrame({ID: self.ids, TIME: self.time, EVENT: event.astype(np.int8)})
        blocks = ((self.schema.features, self.values), (self.schema.scores, self.scores))
        columns: dict[str, object] = {}
        for features, values in blocks:
            for j, feature in enumerate(features):
                column: object = values[:, j]
                if feature.kind == "categorical":
                    codes = np.where(np.isnan(values[:, j]), -1, values[:, j]).astype(int)
                    column = np.array([*feature.categories, np.nan], dtype=object)[codes]
                columns[feature.name] = column
        return pd.concat([frame, pd.DataFrame(columns)], axis=1)


def require_same_schema(expected: Schema, found: Schema, source: str) -> None:
    """Raise SchemaError, naming the difference, unless two schemas are equal."""
    if expected.hash != found.hash:
        raise SchemaError(f"the schema differs from the federation's: {found.difference(expected)}", source=source)


def _refuse(bad: pd.Series, values: pd.Series, problem: str, source: str) -> None:
    """Raise at the first row where `bad` holds."""
    rows = np.flatnonzero(bad.to_numpy(dtype=bool))
    if len(rows):
        more = f" ({len(rows) - 1} more rows like this)" if len(rows) > 1 else ""
        raise CohortError(
            problem + more,
            source=source,
            row=int(rows[0]) + 1,
            column=str(values.name),
            value=_plain(values.iloc[rows[0]]),
        )


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def _numbers(column: pd.Series, source: str) -> pd.Series:
    """A column as float64; what is not a number is an error rather than missing."""
    from pandas.api.types import is_numeric_dtype

    missing = column.isna()
    if is_numeric_dtype(column.dtype):  # bool and the nullable types among them
        return column.astype("float64")
    # Anything else goes through its text: a date, say, is then an error rather than a number of nanoseconds.
    text = column.astype(object).where(~missing, "").astype(str).str.strip()
    missing = missing | (text == "")
    numbers = text.map(_number).astype("float64")
    _refuse(numbers.isna() & ~missing, column, "not a number (decimal point, no unit)", source)
    return numbers


def _number(text: str) -> float:
    """The number a text stands for, exactly, or NaN."""
    try:
        return float({"True": "1", "False": "0"}.get(text, text)) if "_" not in text else np.nan
    except ValueError:
        return np.nan


def _feature(column: pd.Series, feature: Feature, source: str) -> Floats:
    """Check one feature column and return it as float64 of shape (n,)."""
    if feature.kind == "categorical":
        text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
        codes = text.map({name: code for code, name in enumerate(feature.categories)})
        allowed = ", ".join(feature.categories)
        _refuse(codes.isna() & (text != ""), column, f"unknown category; the schema allows {allowed}", source)
        return np.asarray(codes, dtype=np.float64)
    numbers = _numbers(column, source)
    _refuse(np.isinf(numbers), numbers, "not finite", source)
    if feature.kind == "binary":
        _refuse(numbers.notna() & ~numbers.isin([0, 1]), numbers, "a binary feature is 0, 1 or empty", source)
    if feature.kind == "count":
        _refuse((numbers < 0) | (numbers % 1 != 0).where(numbers.notna(), False), numbers, "not a count", source)
    low = -np.inf if feature.low is None else feature.low
    high = np.inf if feature.high is None else feature.high
    span = f"{low:g} to {high:g} {feature.unit}".strip()
    _refuse(
        (numbers < low) | (numbers > high),
        numbers,
        f"outside the plausible range {span}; check unit and decimal point",
        source,
    )
    values = numbers.to_numpy(dtype=np.float64, copy=True)
    values[np.isnan(values)] = np.nan  # R's NA is a signalling NaN: any arithmetic on it warns
    return values
