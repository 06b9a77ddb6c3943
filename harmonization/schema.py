"""The schema: which features a cohort has, what they mean, and a hash by which centers agree.

Two centers may train together only if their schemas have the same hash; `Schema.difference` names the
first thing in which two schemas differ.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml
from numpy.typing import NDArray

from harmonization.errors import SchemaError

Kind = Literal["continuous", "binary", "categorical", "count"]
Modality = Literal["clinical", "genomic", "histopathology", "radiology"]
TimeUnit = Literal["days", "months", "years"]

DAYS_PER: dict[str, float] = {"days": 1.0, "months": 365.25 / 12, "years": 365.25}

ID, TIME, EVENT, CENTER = "patient_id", "time", "event", "center"
"""Names of the columns that every table has beside its features (`center` only in tables of several centers)."""


@dataclass(frozen=True)
class Feature:
    """One column of a cohort.

    Parameters
    ----------
    name
        Column name.
    kind
        ``continuous`` and ``count`` hold numbers, ``binary`` 0 or 1, ``categorical`` one of `categories`.
    modality
        The block of data it belongs to.
    unit
        Unit of the numbers, e.g. ``g/dL``; ``""`` where there is none.
    low, high
        Plausibility range, both ends included; a value outside is an input error.
    categories
        Allowed values of a categorical feature, in a fixed order.
    reference
        A typical value, constant over centers. Sums of squares are taken around it, so that they
        keep their precision; it has no other effect.
    edges
        Upper ends (included) of groups in which patients may be counted by this number, increasing: cut-offs of the
        clinic. A center may let out no counts by others (`federation.policy.DisclosurePolicy.declared_edges`).
    """

    name: str
    kind: Kind
    modality: Modality = "clinical"
    unit: str = ""
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    reference: float = 0.0
    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _require_text("a feature's name", self.name)
        if self.name in (ID, TIME, EVENT, CENTER):
            raise SchemaError(f"a feature is called {self.name!r}, which every table has already; rename it")
        for field, allowed in (("kind", get_args(Kind)), ("modality", get_args(Modality))):
            if getattr(self, field) not in allowed:
                raise SchemaError(
                    f"feature {self.name!r}: {field} is {getattr(self, field)!r}; use one of {', '.join(allowed)}"
                )
        if (self.kind == "categorical") != bool(self.categories):
            raise SchemaError(f"feature {self.name!r}: categories are for categorical features, and these need them")
        _require_text(f"feature {self.name!r}: unit", self.unit, empty=True)
        for category in self.categories:
            _require_text(f"feature {self.name!r}: a category", category)
        if len(set(self.categories)) != len(self.categories):
            raise SchemaError(f"feature {self.name!r}: a category is listed twice")
        for field in ("low", "high", "reference"):
            value = getattr(self, field)
            if value is not None or field == "reference":
                # As float, because 18 and 18.0 are the same limit and must give the same hash.
                object.__setattr__(self, field, _finite(f"feature {self.name!r}: {field}", value))
        if self.low is not None and self.high is not None and self.low > self.high:
            raise SchemaError(f"feature {self.name!r}: low {self.low} is above high {self.high}")
        edges = tuple(_finite(f"feature {self.name!r}: edges", edge) for edge in self.edges)
        if edges and (not self.numeric or list(edges) != sorted(set(edges))):
            raise SchemaError(f"feature {self.name!r}: edges are {list(edges)}; they increase, and are of numbers only")
        object.__setattr__(self, "edges", edges)

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers on a scale (continuous or count)."""
        return self.kind in ("continuous", "count")


KNOWN, MISSING, NOT_FOUND = "known", "missing", "not found"
"""What an implication may say of a feature beside a value; not found is absent or missing, of 0/1 features."""


@dataclass(frozen=True)
class Implication:
    """If one feature is so, others are so: of a karyotype that nobody made no lesion is known.

    Parameters
    ----------
    when
        A feature, and what it is: ``missing``, ``known``, ``not found`` (a 0/1 feature that is 0 or missing), a number,
        or a category.
    then
        The same of the features that this determines.
    """

    when: tuple[str, float | str]
    then: tuple[tuple[str, float | str], ...]


@dataclass(frozen=True)
class Schema:
    """The features, comparators and time unit of a cohort.

    Parameters
    ----------
    name, version
        Identify the data dictionary.
    features
        What models may see.
    scores
        Published prognostic scores carried along for comparison only (higher = worse); models never see them.
    time_unit
        Unit of the endpoint's time.
    endpoint
        Name of the endpoint, e.g. ``overall survival``.
    causes
        What the event may be, of which the first to happen is seen (competing risks), e.g. ``("AML", "death without
        AML")``: the column ``event`` then holds a cause's number, from 1 on. Empty where an event is an event.
    implications
        What features say of each other. Patients that are generated obey them (`obey`).
    """

    name: str
    version: str
    features: tuple[Feature, ...]
    scores: tuple[Feature, ...] = ()
    time_unit: TimeUnit = "years"
    endpoint: str = "overall survival"
    causes: tuple[str, ...] = ()
    implications: tuple[Implication, ...] = ()

    def __post_init__(self) -> None:
        for field in ("name", "version", "endpoint"):
            _require_text(f"schema {self.name!r}: {field}", getattr(self, field))
        names = [f.name for f in (*self.features, *self.scores)]
        if not self.features:
            raise SchemaError(f"schema {self.name!r} has no features")
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise SchemaError(f"schema {self.name!r}: two columns are called {twice!r}; rename one")
        if self.time_unit not in DAYS_PER:
            raise SchemaError(
                f"schema {self.name!r}: time_unit is {self.time_unit!r}; use one of {', '.join(DAYS_PER)}"
            )
        for cause in self.causes:
            _require_text(f"schema {self.name!r}: a cause", cause)
        if len(self.causes) == 1 or len(set(self.causes)) != len(self.causes):
            raise SchemaError(f"schema {self.name!r}: causes are {list(self.causes)}; name two or more, or none")
        for implication in self.implications:
            for feature, value in (implication.when, *implication.then):
                self._require_possible(feature, value)

    def _require_possible(self, name: str, value: float | str) -> None:
        says = f"schema {self.name!r}: an implication says {name!r} is {value!r}"
        if name not in names_of(self.features):
            raise SchemaError(f"{says}; there is no such feature")
        feature = self.features[self.index(name)]
        if value in (KNOWN, MISSING, NOT_FOUND):
            if value in feature.categories:
                raise SchemaError(f"{says}, which is a category as well; rename it")
            if value == NOT_FOUND and feature.kind != "binary":
                raise SchemaError(f"{says}; it is a {feature.kind} feature, and only a binary one is found or not")
        elif feature.kind == "categorical":
            if value not in feature.categories:
                raise SchemaError(f"{says}; use {KNOWN}, {MISSING} or one of {', '.join(feature.categories)}")
        elif isinstance(value, str) or (feature.kind == "binary" and value not in (0, 1)):
            raise SchemaError(f"{says}; it is a {feature.kind} feature: use {KNOWN}, {MISSING} or a number")

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in column order."""
        return names_of(self.features)

    @property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of the canonical JSON form: equal if and only if the schemas are."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def index(self, name: str) -> int:
        """Column position of a feature.

        Raises
        ------
        SchemaError
            If there is no such feature.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise SchemaError(f"schema {self.name!r} has no feature {name!r}") from None

    def select(self, modalities: tuple[str, ...]) -> Schema:
        """The same schema with the features of some modalities only."""
        features = tuple(f for f in self.features if f.modality in modalities)
        implications = implications_among(self.implications, names_of(features))
        return replace(self, features=features, implications=implications)

    def obey(
        self, values: NDArray[np.float64], fixed: tuple[int, ...] = ()
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Make patients obey the implications.

        What is implied is written into a patient's row. Where that cannot be (it is implied that a value is known and
        nobody says which; it is among the fixed ones; implications contradict each other), the row is not to be used.

        Parameters
        ----------
        values
            Shape (n, features), as in a cohort.
        fixed
            Positions of features that must stay as they are.

        Returns
        -------
        values, obeys
            A copy, and whether each row obeys all implications now, shape (n,).
        """
        values = values.copy()
        for _ in self.implications:  # one may be the ground of the next
            before = values.copy()
            for implication in self.implications:
                whom = self._is(values, *implication.when)
                for feature, value in implication.then:
                    j = self.index(feature)
                    if j not in fixed and value != KNOWN:
                        values[whom & ~self._is(values, feature, value), j] = self._number(j, value)
            if np.array_equal(before, values, equal_nan=True):
                break
        return values, self.obeyed(values)

    def obeyed(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each patient obeys all implications, shape (n,)."""
        result = np.ones(len(values), bool)
        for implication in self.implications:
            whom = self._is(values, *implication.when)
            for feature, value in implication.then:
                result &= ~whom | self._is(values, feature, value)
        return result

    def _is(self, values: NDArray[np.float64], feature: str, value: float | str) -> NDArray[np.bool_]:
        j = self.index(feature)
        absent = np.isnan(values[:, j])
        if value == MISSING:
            return np.asarray(absent, np.bool_)
        if value == NOT_FOUND:
            return np.asarray(values[:, j] != 1, np.bool_)
        return np.asarray(~absent if value == KNOWN else values[:, j] == self._number(j, value), np.bool_)

    def _number(self, feature: int, value: float | str) -> float:
        """A value as it is in a cohort."""
        if value == MISSING:
            return math.nan
        if value == NOT_FOUND:  # as far as anybody can write it
            return 0.0
        return float(self.features[feature].categories.index(value)) if isinstance(value, str) else float(value)

    def difference(self, other: Schema) -> str | None:
        """Name the first difference to another schema, or None if they are equal."""
        for field in ("name", "version", "time_unit", "endpoint", "causes", "implications"):
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                return f"{field} is {mine!r} here and {theirs!r} there"
        for block in ("features", "scores"):
            a = {f.name: f for f in getattr(self, block)}
            b = {f.name: f for f in getattr(other, block)}
            for name in a:
                if name not in b:
                    return f"{block}: {name!r} exists here only"
            for name in b:
                if name not in a:
                    return f"{block}: {name!r} exists there only"
            for name, feature in a.items():
                for field, mine in asdict(feature).items():
                    theirs = getattr(b[name], field)
                    if mine != theirs:
                        return f"{name!r}: {field} is {mine!r} here and {theirs!r} there"
            if list(a) != list(b):
                return f"{block} are in another order"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain data (lists, strings, numbers), as written to YAML; causes, implications, edges only if any."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for feature in (*plain["features"], *plain["scores"]):
            if not feature["edges"]:
                del feature["edges"]
        if not self.causes:
            del plain["causes"]
        plain["implications"] = [
            {"when": dict([implication.when]), "then": dict(implication.then)} for implication in self.implications
        ]
        if not self.implications:
            del plain["implications"]
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "schema") -> Schema:
        """Build from plain data.

        Raises
        ------
        SchemaError
            If a key is unknown or missing, naming it.
        """
        try:
            data = {**data}
            for block in ("features", "scores"):
                data[block] = tuple(
                    Feature(**{**f, **{key: _sequence(f.get(key)) for key in ("categories", "edges")}})
                    for f in _sequence(data.get(block))
                )
            implications = tuple(implication_of(i) for i in _sequence(data.get("implications")))
            return cls(**{**data, "causes": _sequence(data.get("causes")), "implications": implications})
        except SchemaError as error:
            raise SchemaError(str(error), source=source) from None
        except (TypeError, AttributeError) as error:
            raise SchemaError(f"not a schema ({error}); see docs/data.md", source=source) from None

    def write(self, path: str | Path) -> None:
        """Write as YAML."""
        Path(path).write_text(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> Schema:
        """Read from YAML; raises SchemaError, naming the file."""
        path = Path(path)
        if not path.exists():
            raise SchemaError("no such schema file; write one beside the table (docs/data.md)", source=str(path))
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise SchemaError(f"not YAML: {error}", source=str(path)) from None
        return cls.from_dict(data, source=str(path))


def names_of(features: tuple[Feature, ...]) -> tuple[str, ...]:
    """In their order."""
    return tuple(feature.name for feature in features)


def implications_among(implications: tuple[Implication, ...], names: tuple[str, ...]) -> tuple[Implication, ...]:
    """What implications say of some features alone."""
    found = []
    for implication in implications:
        then = tuple(pair for pair in implication.then if pair[0] in names)
        if implication.when[0] in names and then:
            found.append(replace(implication, then=then))
    return tuple(found)


def implication_of(data: Mapping[str, Any]) -> Implication:
    """From plain data: ``{when: {complex_karyotype: missing}, then: {del5q: missing, plus8: missing}}``.

    Raises
    ------
    SchemaError
        If it has another form.
    """
    if not isinstance(data, Mapping) or set(data) != {"when", "then"}:
        raise SchemaError(f"an implication is {data!r}; write when: {{feature: value}}, then: {{feature: value, …}}")
    when, then = data["when"], data["then"]
    if not isinstance(when, Mapping) or len(when) != 1 or not isinstance(then, Mapping) or not then:
        raise SchemaError(f"an implication is {data!r}; `when` has one feature, `then` one or more, each with a value")
    for name, value in (*when.items(), *then.items()):
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise SchemaError(
                f"an implication says {name!r} is {value!r}; "
                f"use {KNOWN}, {MISSING}, {NOT_FOUND}, a number or a category"
            )
    return Implication(next(iter(when.items())), tuple(then.items()))


def _require_text(what: str, value: object, *, empty: bool = False) -> None:
    """YAML reads an unquoted no as False and 1.0 as a number, so what must be text is checked to be text."""
    if not isinstance(value, str) or value.strip() != value or not (value or empty):
        raise SchemaError(f"{what} is {value!r}; it must be text without blanks around it (in YAML, put it in quotes)")


def _finite(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SchemaError(f"{what} is {value!r}; it must be a finite number (in YAML, write 1000 rather than 1e3)")
    return float(value)


def _sequence(value: object) -> tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} is not a list")
    return tuple(value)
