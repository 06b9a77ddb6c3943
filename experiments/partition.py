"""Partitions: which center each patient of a pooled data set belongs to.

A partition is one of six small dataclasses, chosen by name (`make_partition`). All are deterministic in the seed and
the patients' ids: the same patients in another order go to the same centers. Every partition gives each center at
least `at_least` patients, or raises `PartitionError`.

References
----------
Li et al. 2022, Federated Learning on Non-IID Data Silos: An Experimental Study (NIID-Bench), section IV.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort

Labels = NDArray[np.str_]
DRAWS = 200
"""How often an unlucky Dirichlet draw, one that leaves a center too small, is repeated before giving up."""


class PartitionError(ValueError):
    """A data set cannot be partitioned as asked."""


class Partition(Protocol):
    """What every partition below is: hashable, picklable, and able to label patients."""

    name: ClassVar[str]

    def assign(self, cohort: Cohort, center: Labels | None, seed: int) -> Labels:
        """Name the center of each patient.

        Parameters
        ----------
        cohort
            All patients.
        center
            The data set's own center labels, shape (n,), or None.
        seed
            The same seed and patients give the same labels.

        Returns
        -------
        array of str, shape (n,)
        """
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Real:
    """The data set's own centers."""

    name: ClassVar[str] = "real"

    def assign(self, cohort: Cohort, center: Labels | None, seed: int) -> Labels:
        """The center column as it is."""
        if center is None:
            others = ", ".join(sorted(PARTITIONS.keys() - {"real"}))
            raise PartitionError(f"data set {cohort.schema.name!r} has no center column; use one of {others}")
        return center


@dataclass(frozen=True)
class Single:
    """All patients in one center."""

    name: ClassVar[str] = "single"

    def assign(self, cohort: Cohort, center: Labels | None, seed: int) -> Labels:
        """One label for all."""
        return _labels(np.zeros(len(cohort), dtype=np.intp), 1)


@dataclass(frozen=True)
class Fractions:
    """Random centers of given relative sizes, e.g. 0.6, 0.3, 0.1.

    Parameters
    ----------
    fractions
        One per center; they sum to 1.
    at_least
        Smallest center allowed.
    """

    fractions: tuple[float, ...]
    at_least: int = 1
    name: ClassVar[str] = "fractions"

    def __post_init__(self) -> None:
        if not self.fractions or min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise PartitionError(f"fractions are {self.fractions}; they must be positive and sum to 1")

    def assign(self, cohort: Cohort, center: Labels | None, seed: int) -> Labels:
        """Shuffle, then cut at the cumulated fractions."""
        n = len(cohort)
        ends = np.rint(np.cumsum(self.fractions) * n).astype(np.intp)
        codes = np.searchsorted(ends, _random(seed, self.name).permutation(n), side="right")
        return _finish(cohort, codes, len(self.fractions), self.at_least)


@dataclass(frozen=True)
class DirichletQuantity:
    """Random centers whose relative sizes are a Dirichlet draw.

    Parameters
    ----------
    centers
        Number of centers.
    alpha
        Concentration: small makes sizes unequal, large makes them equal.
    at_least
        Every center gets so many patients first; the draw shares out the rest.
    """

    centers: int
    alpha: float = 0.5
    at_least: int = 1
    name: ClassVar[str] = "dirichlet_quantity"

    def __post_init__(self) -> None:
        _check_counts(self.centers, self.at_least, self.alpha)

    def assign(self, cohort: Cohort, center: Labels | None, seed: int) -> Labels:
        """Draw sizes, then shuffle patients into them."""
        rest = _room(cohort, self.centers, self.at_least)
        rng = _random(seed, self.name)
        sizes = self.at_least + rng.multinomial(rest, rng.dirichlet(np.full(self.centers, self.alpha)))
        codes = rng.permutation(np.repeat(np.arange(self.centers), sizes))
        return _finish(cohort, codes, self.centers, self.at_least)


@dataclass(frozen=True)
class DirichletLabel:
    """Centers that differ in outcome: each outcome class is shared out by its own Dirichlet draw (NIID-Bench).

    Parameters
    ----------
    centers
        Number of centers.
    alpha
        Concentration: small makes centers differ, large makes them alike.
    label
        Outcome class: ``event`` (seen or censored), or ``time`` (quantile bucket of the follow-up time).
    buckets
        Number of time buckets.
    at_least
        Smallest center allowed; unlucky draws are repeated.
    """

    centers: int
    alpha: float = 0.5
    label: Literal["event", "time"] = "event"
    buckets: int = 4
    at_least: int = 1
    name: ClassVar[str] = "dirichlet_label"

    def __post_init__(self) -> None:
        _check_counts(self.centers, self.at_least, self.alpha)
        if self.label not in ("event", "time"):
            raise PartitionError(f"label is {self.label!r}; use 'event' or 'time'")
        if self.buckets < 2:
            raise PartitionError(f"buckets is {self.buckets}; use 2 or more")

    def assign(self, cohort: Cohort, center: Labels | None, seed: int) -> Labels:
        """Share out class by class; repeat until every center is large enough."""
        _room(cohort, self.centers, self.at_least)
        rng = _random(seed, self.name)
        by_id = np.argsort(cohort.ids)
        if self.label == "event":
            classes = cohort.event[by_id].astype(np.intp)
        else:
            time = cohort.time[by_id]
            classes = np.searchsorted(np.quantile(time, np.arange(1, self.buckets) / self.buckets), time)
        for _ in range(DRAWS):
            codes = np.empty(len(cohort), dtype=np.intp)
            for value in np.unique(classes):
                members = classes == value
                shares = rng.dirichlet(np.full(self.centers, self.alpha))
                codes[members] = rng.choice(self.centers, size=members.sum(), p=shares)
            if np.bincount(codes, minlength=self.centers).min() >= self.at_least:
                return _finish(cohort, codes, self.centers, self.at_least)
        raise PartitionError(
            f"{DRAWS} Dirichlet draws with alpha={self.alpha} left one of {self.centers} centers with fewer than "
            f"{self.at_least} patients; raise alpha or ask for fewer centers"
        )


@dataclass(frozen=True)
class CovariateSkew:
    """Equally large centers that differ in one feature.

    Parameters
    ----------
    feature
        Its quantiles are the centers; patients who lack it are placed at random.
    centers
        Number of centers.
    strength
        The probability of being placed by quantile rather than at random: 0 makes centers alike, 1 keeps them apart.
    at_least
        Smallest center allowed.
    """

    feature: str
    centers: int
    strength: float = 1.0
    at_least: int = 1
    name: ClassVar[str] = "covariate_skew"

    def __post_init__(self) -> None:
        _check_counts(self.centers, self.at_least)
        if not 0 <= self.strength <= 1:
            raise PartitionError(f"strength is {self.strength}; use 0 to 1")

    def assign(self, cohort: Cohort, center: Labels | None, seed: int) -> Labels:
        """Rank by the feature (ties at random), cut in equal parts, then shuffle the labels of some patients."""
        if self.feature not in cohort.schema.names:
            raise PartitionError(unknown("feature", self.feature, cohort.schema.names))
        _room(cohort, self.centers, self.at_least)
        rng = _random(seed, self.name)
        n = len(cohort)
        values = cohort.column(self.feature)[np.argsort(cohort.ids)]
        order = np.lexsort((rng.random(n), values))
        seen = n - np.count_nonzero(np.isnan(values))  # NaN sorts last
        order = np.insert(order[:seen], np.sort(rng.integers(0, seen + 1, n - seen)), order[seen:])
        codes = np.empty(n, dtype=np.intp)
        codes[order] = np.arange(n) * self.centers // n
        moved = np.flatnonzero(rng.random(n) >= self.strength)
        codes[moved] = rng.permutation(codes[moved])
        return _finish(cohort, codes, self.centers, self.at_least)


PARTITIONS: dict[str, type[Partition]] = {
    kind.name: kind for kind in (Real, Single, Fractions, DirichletQuantity, DirichletLabel, CovariateSkew)
}


def make_partition(spec: str | Mapping[str, Any] | Partition) -> Partition:
    """Build a partition from its name and parameters, as in a configuration.

    Parameters
    ----------
    spec
        ``"real"``, or ``{"name": "fractions", "fractions": [0.6, 0.3, 0.1]}``, or a partition.

    Raises
    ------
    PartitionError
        If a name or parameter is unknown (naming the nearest), missing or out of range.
    """
    if not isinstance(spec, str | Mapping):
        return spec
    parameters = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = str(parameters.pop("name", ""))
    if name not in PARTITIONS:
        raise PartitionError(unknown("partition", name, PARTITIONS))
    kind: Any = PARTITIONS[name]
    allowed = [f.name for f in fields(kind)]
    for key in parameters:
        if key not in allowed:
            raise PartitionError(unknown(f"parameter of partition {name!r}", key, allowed))
    try:
        partition: Partition = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()})
    except TypeError as error:
        raise PartitionError(f"partition {name!r}: {error}") from None
    return partition


def unknown(what: str, name: str, allowed: Collection[str]) -> str:
    """An error message that names the nearest allowed names."""
    near = difflib.get_close_matches(name, allowed, n=3)
    shown = sorted(allowed)[:20]
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"use one of {', '.join(shown) or 'none'}"
    return f"no {what} is called {name!r}; {hint}"


def _random(seed: int, name: str) -> np.random.Generator:
    """Its own stream for each kind of partition."""
    return np.random.default_rng(np.random.SeedSequence([seed, *name.encode()]))


def _check_counts(centers: int, at_least: int, alpha: float = 1.0) -> None:
    for name, value in (("centers", centers), ("at_least", at_least)):
        if not isinstance(value, int) or value < 1:
            raise PartitionError(f"{name} is {value!r}; it must be a whole number, 1 or more")
    if not alpha > 0:
        raise PartitionError(f"alpha is {alpha}; it must be positive")


def _room(cohort: Cohort, centers: int, at_least: int) -> int:
    """Patients left once every center has its minimum."""
    rest = len(cohort) - centers * at_least
    if rest < 0:
        raise PartitionError(f"{len(cohort)} patients cannot fill {centers} centers with {at_least} or more each")
    return rest


def _finish(cohort: Cohort, codes: NDArray[np.intp], centers: int, at_least: int) -> Labels:
    """From center numbers in the order of the sorted ids to labels in the order of the patients."""
    sizes = np.bincount(codes, minlength=centers)
    if sizes.min() < at_least:
        raise PartitionError(
            f"center {int(sizes.argmin()) + 1} of {centers} would have {sizes.min()} of {len(cohort)} patients; "
            f"it needs {at_least}: ask for fewer or more equal centers"
        )
    by_id = np.argsort(cohort.ids)
    if np.any(cohort.ids[by_id][1:] == cohort.ids[by_id][:-1]):
        raise PartitionError("two patients have the same id; ids must be unique to be assigned to centers")
    result = np.empty(len(codes), dtype=np.intp)
    result[by_id] = codes
    return _labels(result, centers)


def _labels(codes: NDArray[np.intp], centers: int) -> Labels:
    """Center numbers as text that sorts like them: ``C01``, ``C02``, ..."""
    width = max(2, len(str(centers)))
    return np.array([f"C{number:0{width}d}" for number in range(1, centers + 1)])[codes]
