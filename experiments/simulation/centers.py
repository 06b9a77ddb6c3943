"""Centers that differ: in size, in whom they see, in how patients fare there, in what is measured.

Case mix comes about by referral: patients are drawn from one population, and who is severely ill or old goes to one
center rather than another. So the pooled cohort keeps its marginals and associations whatever the centers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Centers:
    """How centers differ.

    Parameters
    ----------
    fractions
        Expected share of patients of each center, before case mix.
    case_mix
        Standard deviation over centers of the log odds by which one standard deviation of severity, and one of age,
        draw a patient to a center.
    hazard
        Standard deviation over centers of the log baseline hazard.
    missingness
        Standard deviation over centers of the log odds of a missing value.
    without
        Modality -> positions of the centers that lack it.
    """

    fractions: tuple[float, ...]
    case_mix: float = 0.4
    hazard: float = 0.25
    missingness: float = 0.7
    without: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """``C01``, ``C02``, ..."""
        return tuple(f"C{i:02d}" for i in range(1, len(self.fractions) + 1))

    def assign(self, severity: Floats, age: Floats, rng: np.random.Generator) -> NDArray[np.intp]:
        """The position of each patient's center, from standardized severity and age, shape (n,)."""
        pull = rng.normal(0, self.case_mix, (2, len(self.fractions)))
        odds = np.log(self.fractions) + np.outer(severity, pull[0]) + np.outer(age, pull[1])
        # The largest of log odds plus Gumbel noise is a draw with these odds.
        return np.asarray(np.argmax(odds + rng.gumbel(size=odds.shape), axis=1), dtype=np.intp)

    def log_hazards(self, rng: np.random.Generator) -> Floats:
        """Log baseline hazard of each center relative to the population's, shape (centers,)."""
        return rng.normal(0, self.hazard, len(self.fractions))

    def missing(
        self,
        center: NDArray[np.intp],
        rates: Floats,
        modalities: Sequence[str],
        absent: Mapping[str, float],
        rng: np.random.Generator,
    ) -> NDArray[np.bool_]:
        """Which values were not recorded, shape (n, columns).

        Parameters
        ----------
        center
            Of each patient.
        rates
            Probability that a value of each column is missing at an average center.
        modalities
            Of each column.
        absent
            Modality -> probability that a patient of a center that has it lacks the whole block.
        """
        shift = rng.normal(0, self.missingness, (len(self.fractions), len(rates)))
        with np.errstate(divide="ignore"):
            odds = np.exp(np.log(rates / (1 - rates)) + shift)
        gone: NDArray[np.bool_] = rng.random((len(center), len(rates))) < (odds / (1 + odds))[center]
        for modality in dict.fromkeys(modalities):
            columns = np.array([m == modality for m in modalities])
            patient = rng.random(len(center)) < absent.get(modality, 0.0)
            patient |= np.isin(center, self.without.get(modality, ()))
            gone[np.ix_(patient, columns)] = True
        return gone
