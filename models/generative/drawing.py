"""Drawing patients from any fitted generator: conditions, equal classes, one center's patients, rules of the schema.

A generator proposes patients with some values fixed; what is said here once holds for all of them. A center is a
feature like another: `with_center` writes it into the tables that are learned, and patients drawn do not show it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort, Feature, Schema
from models.generative.discretization import states_of
from models.generative.survival_law import SurvivalLaw

Floats = NDArray[np.float64]
Conditions = Mapping[str, float | str | None]

HOSPITAL = "hospital"
"""The feature that says which center a patient is of, in tables made by `with_center`."""

MOST_DRAWS = 1_000_000
"""Patients drawn at most to find those that fulfil conditions."""
_AT_ONCE = 20_000


def with_center(cohort: Cohort, center: str | NDArray[np.str_], centers: Sequence[str]) -> Cohort:
    """The same patients with their center as one more categorical feature.

    A generator of such tables can draw patients like those of one center. It knows what is counted by center, and so
    does whoever sees the sums: a state's count within a center is that center's own.

    Parameters
    ----------
    center
        Of all patients (a center's own table), or of each, shape (n,).
    centers
        Names of all centers, the same everywhere.

    Raises
    ------
    ValueError
        If a center is not among them.
    """
    names = np.broadcast_to(np.asarray(center, dtype=str), (len(cohort),))
    if unknown := sorted(set(names.tolist()) - set(centers)):
        raise ValueError(f"center is {unknown[0]!r}; it is one of {', '.join(centers)}")
    feature = Feature(HOSPITAL, "categorical", categories=tuple(centers))
    schema = replace(cohort.schema, features=(*cohort.schema.features, feature))
    place = {name: i for i, name in enumerate(centers)}
    values = np.column_stack([cohort.values, [float(place[name]) for name in names]])
    return replace(cohort, schema=schema, values=values)


def without_center(cohort: Cohort) -> Cohort:
    """The same patients without the feature `HOSPITAL`, if they have it."""
    if HOSPITAL not in cohort.schema.names:
        return cohort
    kept = [j for j, name in enumerate(cohort.schema.names) if name != HOSPITAL]
    schema = replace(cohort.schema, features=tuple(cohort.schema.features[j] for j in kept))
    return replace(cohort, schema=schema, values=cohort.values[:, kept])


def value_of(schema: Schema, name: str, value: float | str | None) -> float:
    """A condition's value as it is in a cohort.

    Raises
    ------
    ValueError
        If the feature cannot have it.
    """
    feature, says = schema.features[schema.index(name)], f"{name!r} is conditioned on {value!r}"
    if value is None:
        return np.nan
    if feature.kind == "categorical":
        if value not in feature.categories:
            raise ValueError(f"{says}; it is one of {', '.join(feature.categories)}")
        return float(feature.categories.index(str(value)))
    if isinstance(value, str) or (feature.kind == "binary" and value not in (0, 1)):
        raise ValueError(f"{says}; it is a {feature.kind} feature")
    low, high = (-np.inf if feature.low is None else feature.low), feature.high
    high = np.inf if high is None else high
    if not low <= value <= high:
        raise ValueError(f"{says}; its range is {low:g} to {high:g}")
    return float(value)


def class_feature(schema: Schema, balance: str, fixed: Collection[int]) -> int:
    """Position of a feature to balance.

    Raises
    ------
    ValueError
        If it has no classes, or is fixed.
    """
    feature = schema.index(balance)
    if schema.features[feature].numeric:
        raise ValueError(f"balance is {balance!r}, a {schema.features[feature].kind} feature; it has no classes")
    if feature in fixed:
        raise ValueError(f"balance is {balance!r}, on which patients are conditioned, too; leave out one of them")
    return feature


class PatientGenerator(ABC):
    """What every fitted generator is; a subclass proposes patients with some values fixed."""

    law: SurvivalLaw | None
    """Of times and events given the features; None if the proposals have times."""

    @property
    @abstractmethod
    def schema(self) -> Schema:
        """Of the patients learned from."""

    @abstractmethod
    def _propose(self, n: int, fixed: Mapping[int, float], rng: np.random.Generator) -> Cohort:
        """About n patients, or those among n who have the fixed values (by position; NaN is missing)."""

    @abstractmethod
    def _occurs(self, feature: int, value: float) -> bool:
        """Whether any patient learned from has the value (NaN: lacks one); of numbers any value will do."""

    def sample(
        self,
        n: int,
        seed: int,
        conditions: Conditions | None = None,
        balance: str | None = None,
        center: str | None = None,
    ) -> Cohort:
        """Draw patients who never were.

        Parameters
        ----------
        n
            How many.
        seed
            Of all random numbers.
        conditions
            Values that all have, by feature: a number, a category's name, 0 or 1, or None for missing.
        balance
            A feature of which every class that occurs comes equally often (to within one patient), and is known.
        center
            Draw patients like those of one center; the generator must have learned from tables made by `with_center`.

        Returns
        -------
        Cohort
            With the schema of the real ones, but for causes: an event is any of them. Scores are missing. The
            schema's ranges and implications hold.

        Raises
        ------
        ValueError
            If a condition names no feature or no possible value, or hardly any patient fulfils all of them.
        """
        rng = np.random.default_rng(np.random.SeedSequence([seed]))
        fixed = {self.schema.index(name): self._value(name, value) for name, value in (conditions or {}).items()}
        if center is not None:
            if HOSPITAL not in self.schema.names:
                raise ValueError(f"center is {center!r}, but the model knows no centers: learn it from `with_center`")
            fixed[self.schema.index(HOSPITAL)] = self._value(HOSPITAL, center)
        if balance is None:
            cohort = self._obeying(n, fixed, rng)
        else:
            feature, classes = self._classes(balance, fixed)
            counts = np.full(len(classes), n // len(classes)) + (np.arange(len(classes)) < n % len(classes))
            parts = [self._obeying(m, {**fixed, feature: c}, rng) for m, c in zip(counts, classes, strict=True)]
            cohort = Cohort.concatenate(parts)[rng.permutation(n)]
        ids = np.array([f"synthetic-{seed}-{i}" for i in range(n)], dtype=str)
        cohort = replace(cohort, ids=ids)
        return without_center(cohort if self.law is None else self.law.draw(cohort, rng))

    def _cohort(self, values: Floats, time: Floats | None = None, event: NDArray[np.bool_] | None = None) -> Cohort:
        """Proposals as a cohort."""
        n, schema = len(values), replace(self.schema, causes=())
        time, event = np.zeros(n) if time is None else time, np.zeros(n, bool) if event is None else event
        return Cohort(schema, np.full(n, "", dtype=str), values, time, event, np.full((n, len(schema.scores)), np.nan))

    def _value(self, name: str, value: float | str | None) -> float:
        """A condition's value as it is in a cohort."""
        number = value_of(self.schema, name, value)
        if not self._occurs(self.schema.index(name), number):
            raise ValueError(
                f"{name!r} is conditioned on {value!r}, which none of the patients has who were learned from"
            )
        return number

    def _classes(self, balance: str, fixed: Mapping[int, float]) -> tuple[int, list[float]]:
        """The feature to balance, and its values that occur."""
        feature = class_feature(self.schema, balance, fixed)
        possible = [float(c) for c in range(states_of(self.schema.features[feature]))]
        classes = [c for c in possible if self._occurs(feature, c)]
        if not classes:
            raise ValueError(f"balance is {balance!r}, which is known of none of the patients who were learned from")
        return feature, classes

    def _obeying(self, n: int, fixed: Mapping[int, float], rng: np.random.Generator) -> Cohort:
        """Proposals until n have the fixed values and obey the schema's implications."""
        parts: list[Cohort] = [self._cohort(np.empty((0, len(self.schema.features))))]
        found = drawn = 0
        while found < n:
            share = (found + 1) / (drawn + 1)  # of those drawn so far that were kept
            batch = n if not drawn else int(1.1 * (n - found) / share) + 64
            batch = min(batch, _AT_ONCE)
            if drawn + batch > max(MOST_DRAWS, 2 * n):
                raise ValueError(f"of {drawn} patients drawn only {found} fulfil the conditions; ask for less")
            proposed = self._propose(batch, fixed, rng)
            values, obeys = self.schema.obey(proposed.values, tuple(fixed))
            drawn += batch
            parts.append(replace(proposed, values=values)[obeys][np.arange(min(n - found, int(obeys.sum())))])
            found += len(parts[-1])
        return Cohort.concatenate(parts)


Fitted = TypeVar("Fitted", bound=PatientGenerator)


class GenerativeModel(Generic[Fitted]):
    """What learns from one table: the ``fit`` of a subclass leaves a generator, and patients are drawn from it.

    Attributes
    ----------
    fitted_
        The generator.
    """

    fitted_: Fitted

    def sample(
        self,
        n: int,
        seed: int,
        conditions: Conditions | None = None,
        balance: str | None = None,
        center: str | None = None,
    ) -> Cohort:
        """See `PatientGenerator.sample`."""
        return self.fitted_.sample(n, seed, conditions, balance, center)
