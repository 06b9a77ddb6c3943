"""What answers cost: accounting by the package dp-accounting, of the mechanisms that centers have.

Every answer is the Gaussian mechanism on a vector (its discrete law has the same divergences, see `mechanism`), on all
patients or on a Poisson sample of them. ``pld`` composes privacy loss distributions (Koskela et al. 2020) and is close
to exact; ``rdp`` composes Rényi divergences (Mironov 2017; Mironov, Talwar & Zhang 2019), an upper bound.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:  # else imported where something is computed
    import dp_accounting


Accountant = Literal["pld", "rdp"]
Unit = Literal["patient", "center"]


@dataclass(frozen=True)
class Spending:
    """Answers of one kind.

    Parameters
    ----------
    unit
        Whose data the noise covers: one patient's, or all of a center's.
    noise
        Noise multiplier: standard deviation over the largest change (Euclidean norm) that the unit can make.
    sampling
        Probability with which each patient is in an answer, drawn anew and secretly each time (Poisson sampling).
    count
        How many answers.
    """

    unit: Unit
    noise: float
    sampling: float = 1.0
    count: int = 1

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        if not self.noise > 0:
            raise ValueError(f"noise is {self.noise}; a noise multiplier is above 0")
        if not 0 < self.sampling <= 1:
            raise ValueError(f"sampling is {self.sampling}; it is a probability, above 0 and up to 1")
        if self.count < 1:
            raise ValueError(f"count is {self.count}; it is 1 or more")

    @property
    def for_patients(self) -> Spending:
        """The same as a patient sees it.

        What covers the presence of a whole center, an array of norm at most S, covers a patient at twice the change:
        with one patient more the array may be any other of norm at most S.
        """
        return self if self.unit == "patient" else Spending("patient", self.noise / 2, self.sampling, self.count)

    @property
    def event(self) -> dp_accounting.DpEvent:
        """As dp-accounting says it."""
        import dp_accounting

        event: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(self.noise)
        if self.sampling < 1:
            event = dp_accounting.PoissonSampledDpEvent(self.sampling, event)
        return dp_accounting.SelfComposedDpEvent(event, self.count) if self.count > 1 else event


def spent_epsilon(
    spent: Sequence[Spending], delta: float, accountant: Accountant = "pld", unit: Unit = "patient"
) -> float:
    """ε of all answers together at a given δ: for one patient, or for one center.

    Neighbouring data differ in that one unit contributes nothing ("zero out", as adding or removing it, but for the
    number of patients, which is public). Infinite for a center if any answer covered patients only.

    Examples
    --------
    >>> round(spent_epsilon([Spending("patient", 1.0)], 1e-5), 2)
    4.38
    """
    if unit == "center" and any(s.unit == "patient" for s in spent):
        return math.inf
    seen = [s.for_patients for s in spent] if unit == "patient" else list(spent)
    counts: dict[tuple[float, float], int] = {}
    for s in seen:
        counts[s.noise, s.sampling] = counts.get((s.noise, s.sampling), 0) + s.count
    return _epsilon(tuple(sorted((*kind, n) for kind, n in counts.items())), delta, accountant)


@lru_cache(maxsize=4096)
def _epsilon(composed: tuple[tuple[float, float, int], ...], delta: float, accountant: Accountant) -> float:
    if not composed:
        return 0.0
    found = _new(accountant)
    whole = sum(count / noise**2 for noise, sampling, count in composed if sampling == 1)
    if whole:  # Gaussian mechanisms on everybody compose to one, exactly
        found.compose(Spending("patient", whole**-0.5).event)
    for noise, sampling, count in composed:
        if sampling < 1:
            found.compose(Spending("patient", noise, sampling, count).event)
    return float(found.get_epsilon(delta))


def _new(accountant: Accountant) -> dp_accounting.PrivacyAccountant:
    from dp_accounting import pld, rdp

    if accountant == "rdp":
        logging.getLogger("absl").setLevel(logging.ERROR)  # orders that it leaves out only loosen the bound
        return rdp.RdpAccountant()
    return pld.PLDAccountant(value_discretization_interval=1e-3)


@lru_cache(maxsize=256)
def noise_for(
    epsilon: float,
    delta: float,
    shape: tuple[Spending, ...],
    accountant: Accountant = "pld",
    unit: Unit = "patient",
) -> float:
    """The least factor by which the noise of all answers has to be multiplied so that together they cost at most ε.

    Parameters
    ----------
    shape
        The answers, with noise in proportion.

    Raises
    ------
    ValueError
        If ε or δ is none.
    """
    if not (0 < epsilon < math.inf and 0 < delta < 1):
        raise ValueError(f"epsilon is {epsilon}, delta {delta}; epsilon is above 0, delta between 0 and 1")

    def cost(factor: float) -> float:
        scaled = [Spending(s.unit, factor * s.noise, s.sampling, s.count) for s in shape]
        return spent_epsilon(scaled, delta, accountant, unit)

    low, high = 2.0**-4, 1.0
    while cost(high) > epsilon:
        low, high = high, 2 * high
    while high / low > 1 + 1e-3:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if cost(middle) > epsilon else (low, middle)
    return high
