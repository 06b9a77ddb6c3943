"""Settings of differential privacy, and the noise that follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from federation.privacy.dp.accounting import Accountant, Spending, Unit, noise_for, spent_epsilon
from federation.privacy.dp.training import AdaptiveClipping


@dataclass(frozen=True)
class DifferentialPrivacy:
    """Training under (ε, δ)-differential privacy.

    ε covers one fit: everything that leaves a center for it, but the number of its training patients, which is public.
    Several fits (folds, repeats, strategies) cost more; the results have the sum, and the ledgers of the centers.

    Parameters
    ----------
    unit
        Whose data are protected: a ``patient``, or a ``center`` as a whole.
    epsilon, delta
        Of one fit.
    noise
        ``center``: each center adds all the noise to what it sends, and relies on nobody. ``distributed``: each adds a
        share under secure aggregation, so that the sum has as much noise as one center alone would need.
    clip
        Bound on a patient's gradient (unit patient) or on a center's update (unit center), Euclidean norm.
    sampling
        Unit patient: probability with which a patient is in a step.
    adaptive
        Unit center: let the bound follow a quantile of the norms; `clip` is where it starts.
    largest
        Unit center: patients beyond which a center weighs no more.
    average
        Fraction of the rounds, at the end, whose weights are averaged.
    statistics
        Where standardization and time grid come from. ``public``: from constants alone, the ranges of the features and
        `median`. ``noisy`` (unit patient): from noisy sums, paid for out of ε.
    statistics_noise
        Noise multiplier of each of the two statistics, relative to that of a step.
    ranges
        Feature -> its usual lowest and highest value, known beforehand and not taken from these patients; those of the
        schema by default. Values beyond are cut to them where they are summed.
    median
        Median survival known beforehand, in the schema's unit of time.
    accountant
        ``pld`` (privacy loss distributions) or ``rdp`` (Rényi divergences).
    """

    epsilon: float
    delta: float = 1e-5
    unit: Unit = "patient"
    noise: Literal["center", "distributed"] = "center"
    clip: float = 1.0
    sampling: float = 1.0
    adaptive: AdaptiveClipping | None = None
    largest: int = 50
    average: float = 0.5
    statistics: Literal["public", "noisy"] = "public"
    statistics_noise: float = 1.0
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    median: float = 2.0
    accountant: Accountant = "pld"

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        for name in ("epsilon", "clip", "statistics_noise", "median", "largest"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"differential_privacy.{name} is {getattr(self, name)}; it must be positive")
        if not 0 < self.delta < 1:
            raise ValueError(
                f"differential_privacy.delta is {self.delta}; it lies between 0 and 1, well below 1/patients"
            )
        if not 0 < self.sampling <= 1 or not 0 < self.average <= 1:
            raise ValueError("differential_privacy: sampling and average are above 0 and up to 1")
        if self.unit == "center":
            for name, usual in (("sampling", 1.0), ("statistics", "public")):
                if getattr(self, name) != usual:
                    raise ValueError(f"differential_privacy.{name} is for unit patient; leave it at {usual!r}")
        elif self.adaptive is not None:
            raise ValueError("differential_privacy.adaptive is for unit center; leave it out")
        for name, (low, high) in self.ranges.items():
            if not low < high:
                raise ValueError(f"differential_privacy.ranges.{name}: {low:g} is not below {high:g}")

    def _shape(self, rounds: int) -> tuple[Spending, ...]:
        """The answers of one fit, the noise of a step being 1."""
        steps = Spending(self.unit, 1.0, self.sampling, rounds)
        if self.statistics == "public":
            return (steps,)
        return steps, Spending(self.unit, self.statistics_noise, 1.0, 2)

    def noise_multiplier(self, rounds: int) -> float:
        """Of a step, so that a fit of so many rounds costs ε."""
        return noise_for(self.epsilon, self.delta, self._shape(rounds), self.accountant, self.unit)

    def spending(self, rounds: int) -> list[Spending]:
        """The answers of one fit."""
        factor = self.noise_multiplier(rounds)
        return [Spending(s.unit, factor * s.noise, s.sampling, s.count) for s in self._shape(rounds)]

    def summary(self, rounds: int, fits: int) -> dict[str, Any]:
        """For results: what one fit costs, and what so many cost the patients (or a center) together."""
        spent = self.spending(rounds)
        whole = [Spending(s.unit, s.noise, s.sampling, s.count * fits) for s in spent]
        return {
            "unit": self.unit,
            "epsilon": spent_epsilon(spent, self.delta, self.accountant, self.unit),
            "delta": self.delta,
            "noise_multiplier": spent[0].noise,
            "noise": self.noise,
            "rounds": rounds,
            "sampling": self.sampling,
            "statistics": self.statistics,
            "accountant": self.accountant,
            "fits": fits,
            "epsilon_of_all_fits": spent_epsilon(whole, self.delta, self.accountant, self.unit),
            "covers": f"everything that leaves a center for one fit, for one {self.unit}; public are the number of "
            "training patients of each center, the schema"
            + (
                ", ranges of features and median survival" if self.statistics == "public" else " and ranges of features"
            ),
        }
