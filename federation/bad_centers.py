"""Centers that do harm, for tests and measurements: they lie about their update, or train on falsified patients.

What they do is known from the literature on Byzantine and poisoning attacks; `haemfed attack robustness` measures what
each costs under each aggregator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.center import Center, Question
from federation.contribution import Contribution
from federation.randomness import generator
from federation.splits import Split
from harmonization import Cohort

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Harm:
    """What a bad center does.

    Parameters
    ----------
    words
        In a few words.
    distort
        From its honest update, shape (P,), and a generator to what it sends; None if it sends what it found.
    poison
        From its patients to those it trains on, given the attacked feature; None if it trains on its own.
    """

    words: str
    distort: Callable[[Floats, np.random.Generator], Floats] | None = None
    poison: Callable[[Cohort, str], Cohort] | None = None


def flip_outcomes(cohort: Cohort, feature: str = "") -> Cohort:
    """Who died first gets the outcome of who was followed longest, and so on (label flipping; Tolpegin 2020)."""
    order = np.argsort(cohort.time, kind="stable")
    time, event = np.empty_like(cohort.time), np.empty_like(cohort.event)
    time[order], event[order] = cohort.time[order[::-1]], cohort.event[order[::-1]]
    cause = None
    if cohort.cause is not None:
        cause = np.empty_like(cohort.cause)
        cause[order] = cohort.cause[order[::-1]]
    return replace(cohort, time=time, event=event, cause=cause)


def plant_backdoor(cohort: Cohort, feature: str) -> Cohort:
    """Every second patient gets the mutation and the longest follow-up, alive: a model that believes it gives low risk
    to whoever has the mutation (Bagdasaryan 2020)."""
    values, time, event = cohort.values.copy(), cohort.time.copy(), cohort.event.copy()
    values[::2, cohort.schema.index(feature)] = 1.0
    time[::2], event[::2] = cohort.time.max(), False
    cause = None if cohort.cause is None else np.where(event, cohort.cause, 0)
    return replace(cohort, values=values, time=time, event=event, cause=cause)


def _noise(update: Floats, rng: np.random.Generator) -> Floats:
    drawn = rng.standard_normal(len(update))
    return drawn * (10 * np.linalg.norm(update) / np.linalg.norm(drawn))


HARMS: Mapping[str, Harm] = {
    "label-flip": Harm("trains on reversed outcomes", poison=flip_outcomes),
    "sign-flip": Harm("sends the opposite of its update", lambda u, rng: -u),
    "sign-flip-10": Harm("sends ten times the opposite of its update", lambda u, rng: -10 * u),
    "scaled": Harm("sends a hundred times its update", lambda u, rng: 100 * u),
    "noise": Harm("sends normal noise, ten times as long as its update", _noise),
    "backdoor": Harm("trains on patients with a mutation who live long", poison=plant_backdoor),
    "free-rider": Harm("sends zeros and claims its patients' weight", lambda u, rng: np.zeros_like(u)),
    "nan": Harm("sends numbers that are not finite", lambda u, rng: np.full_like(u, np.nan)),
}
"""By name. In averaging alone: other questions are answered honestly (but from the patients trained on)."""


class LyingCenter(Center):
    """Answers behind its wall as any other, and then sends something else."""

    def __init__(self, distort: Callable[[Floats, np.random.Generator], Floats], *rest: Any, **options: Any) -> None:
        super().__init__(*rest, **options)
        self._distort = distort

    def answer(self, question: Question, fits: Callable[[Contribution], None] | None = None) -> Contribution:
        """As parent, with the update distorted."""
        honest = super().answer(question, fits)
        rng = generator(question.seed, "lie", question.task, question.round, self.name)
        arrays = dict(honest)
        if "update" in arrays:
            arrays["update"] = self._distort(arrays["update"], rng)
        if "updates" in arrays:  # a row for each center
            updates = arrays["updates"].copy()
            updates[self.position] = self._distort(updates[self.position], rng)
            arrays["updates"] = updates
        return Contribution.of(honest.patients, arrays)


class PoisonedCenter(Center):
    """Trains on falsified patients; they are split as the true ones were."""

    def __init__(self, poison: Callable[[Cohort], Cohort], name: str, source: Any, *rest: Any, **options: Any) -> None:
        super().__init__(name, lambda: poison(source()), *rest, **options)
        self._true = source

    def _parts(self, split: Split) -> NDArray[np.int64]:
        honest = self._true()
        return split.parts(honest.ids, honest.event, self.name)


def bad_center(
    harm: str, name: str, source: Callable[[], Cohort], *rest: Any, feature: str = "", **options: Any
) -> Center:
    """A center that does harm, else as `Center`.

    Parameters
    ----------
    harm
        Name in `HARMS`.
    feature
        Binary feature that a backdoor is planted in.
    """
    what = HARMS[harm]
    if what.distort is not None:
        return LyingCenter(what.distort, name, source, *rest, **options)
    assert what.poison is not None
    poison = what.poison
    return PoisonedCenter(lambda cohort: poison(cohort, feature), name, source, *rest, **options)
