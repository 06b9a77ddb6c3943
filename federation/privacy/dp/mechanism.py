"""The mechanism at a center's door: values rounded to a grid, and discrete Gaussian noise on the same grid.

The grid of each array is a power of two, so fine that the noise spans millions of its steps: values, noise and their
sum are exact in float64 and in the fixed point of secure aggregation. There is one mechanism for noise that a center
adds all by itself and for noise of which each center adds a share (Kairouz, Liu & Steinke 2021, The Distributed
Discrete Gaussian Mechanism): the sum of m shares of variance σ²/m is not quite discrete Gaussian, but for shares of
millions of steps the difference (their theorem 1, τ) is below 10^-1000000, and so is that to the continuous law's
divergences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from federation.contribution import Contribution
from federation.policy import Refused
from federation.privacy.dp.accounting import Spending, Unit
from federation.privacy.dp.discrete_gaussian import LARGEST, Source, discrete_gaussian

STEPS = LARGEST // 4
"""A share of the noise has a standard deviation of so many steps of the grid, up to four times so many."""

EXACT = 2.0**52
"""Values of so many steps are no longer exact."""


@dataclass(frozen=True)
class Covered:
    """Noise on one array.

    Parameters
    ----------
    bound
        Largest change (Euclidean norm) of the array that one unit can make.
    noise
        Standard deviation of the noise, in units of `bound`.
    """

    bound: float
    noise: float

    def __post_init__(self) -> None:
        if not (0 < self.bound < math.inf and 0 < self.noise < math.inf):
            raise Refused(f"differential privacy: bound {self.bound} and noise {self.noise} must be positive")


@dataclass(frozen=True)
class Mechanism:
    """What protects an answer.

    Parameters
    ----------
    unit
        Who is protected.
    arrays
        The noise of each array.
    public
        Arrays that leave as they are, since they follow from what is public: the question, and numbers of patients.
    sampling
        Probability with which each patient was in the answer.
    distributed
        Whether the center adds a share of the noise only; then the answer leaves under secure aggregation or not.
    """

    unit: Unit
    arrays: Mapping[str, Covered]
    public: frozenset[str] = frozenset()
    sampling: float = 1.0
    distributed: bool = False

    @property
    def spending(self) -> Spending:
        """What one answer costs: Gaussian mechanisms on parts of a vector are one on the whole of it."""
        noise = sum(c.noise**-2 for c in self.arrays.values()) ** -0.5
        return Spending(self.unit, float(f"{noise:.12g}"), self.sampling)  # alike, whatever its parts were rounded to

    def release(self, contribution: Contribution, source: Source, sharers: int = 1) -> Contribution:
        """The contribution with its noise.

        Parameters
        ----------
        source
            Of random words.
        sharers
            Of distributed noise: centers that certainly add a share and keep it to themselves; each share has 1/sharers
            of the variance.

        Raises
        ------
        Refused
            If an array has no noise, or changes more than it may.
        """
        if not contribution:
            return contribution
        arrays: dict[str, Any] = {}
        for name, values in contribution.items():
            if name in self.public:
                arrays[name] = values
                continue
            if name not in self.arrays:
                raise Refused(f"differential privacy: {name!r} has no bound on what one {self.unit} can change")
            covered = self.arrays[name]
            norm = float(np.linalg.norm(values))
            if self.unit == "center" and norm > covered.bound * (1 + 1e-9):
                raise Refused(
                    f"differential privacy: {name!r} is longer than its bound {covered.bound:.6g}",
                    f"its norm is {norm:.6g}",
                )
            arrays[name] = self._noisy(name, values, covered, source, sharers if self.distributed else 1)
        return Contribution.of(contribution.patients, arrays)

    def _noisy(self, name: str, values: Any, covered: Covered, source: Source, sharers: int) -> Any:
        step, deviation = grid(covered, values.size, sharers)
        whole = np.rint(values / step)  # by a power of two: exact but for the rounding
        if not (np.abs(whole) < EXACT).all():
            raise Refused(f"differential privacy: {name!r} holds values too large for their noise to be exact")
        return (whole + discrete_gaussian(values.size, deviation, source).reshape(values.shape)) * step


def grid(covered: Covered, size: int, sharers: int = 1) -> tuple[float, int]:
    """Step of the grid, and standard deviation of a center's noise in steps.

    Rounding moves each of two neighbouring arrays by up to half a step a number; the noise is so much larger.
    """
    step = 2.0 ** math.floor(math.log2(covered.noise * covered.bound / math.sqrt(sharers) / STEPS))
    bound = covered.bound + math.sqrt(size) * step
    deviation = math.ceil(covered.noise * bound / step / math.sqrt(sharers))
    if deviation <= LARGEST:
        return step, deviation
    raise Refused(f"differential privacy: {size} numbers are too many for noise of {covered.noise:g} times their bound")


def of_arrays(
    unit: Unit,
    bounds: Mapping[str, float],
    noise: float,
    public: frozenset[str] = frozenset(),
    **options: Any,
) -> Mechanism:
    """Arrays of one answer under one noise multiplier, all with the same share of it.

    Parameters
    ----------
    bounds
        Of each array, Euclidean norm.
    noise
        Noise multiplier of the whole answer.
    """
    each = noise * math.sqrt(len(bounds))
    return Mechanism(unit, {name: Covered(bound, each) for name, bound in bounds.items()}, public, **options)
