"""The sampler against the probability mass function it claims."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare, norm

from federation.privacy.dp.discrete_gaussian import discrete_gaussian, seeded_source, system_source


@pytest.mark.parametrize("deviation", [1, 3, 30])
def test_the_frequencies_are_those_of_the_law(deviation: int) -> None:
    n = 60_000
    drawn = discrete_gaussian(n, deviation, seeded_source(5, deviation))
    reach = 6 * deviation
    k = np.arange(-reach, reach + 1)
    law = np.exp(-(k.astype(float) ** 2) / (2 * deviation**2))
    expected, seen = n * law / law.sum(), np.bincount(drawn + reach, minlength=len(k))
    enough = expected >= 8
    both = [np.append(a[enough], a[~enough].sum()) for a in (seen, expected)]
    if both[1][-1] < 8:
        both = [np.append(a[:-2], a[-2:].sum()) for a in both]
    assert chisquare(*both).pvalue > 1e-3


@pytest.mark.parametrize("deviation", [1, 2**12, 2**24])
def test_mean_and_variance(deviation: int) -> None:
    n = 40_000
    drawn = discrete_gaussian(n, deviation, seeded_source(6, deviation)) / deviation
    assert abs(drawn.mean()) < norm.isf(5e-5) / np.sqrt(n)
    assert abs(drawn.var() - 1) < norm.isf(5e-5) * np.sqrt(2 / n)


def test_neither_order_nor_sign_says_anything() -> None:
    drawn = np.sign(discrete_gaussian(40_000, 10**6, seeded_source(7)))
    z = (drawn[1:] * drawn[:-1]).sum() / np.sqrt(len(drawn) - 1)
    assert abs(z) < norm.isf(5e-5)


def test_seeds_repeat_the_noise_and_the_systems_source_does_not() -> None:
    a, b = (discrete_gaussian(50, 10**6, seeded_source(1, 2)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert (discrete_gaussian(50, 10**6, seeded_source(1, 3)) != a).any()
    c, d = (discrete_gaussian(50, 10**6, system_source()) for _ in range(2))
    assert (c != d).any()


def test_a_number_cut_off_goes_on_where_it_was() -> None:
    """However few words come at a time, the numbers are the same: none is dropped for having taken long."""

    def piecewise(size: int) -> np.ndarray:
        words = seeded_source(9)(200_000)
        at = 0

        def source(count: int) -> np.ndarray:
            nonlocal at
            at += size
            return words[at - size : at]

        return discrete_gaussian(500, 10**5, source)

    np.testing.assert_array_equal(piecewise(7), piecewise(50_000))


@pytest.mark.parametrize("deviation", [0, 2**24 + 1])
def test_deviations_that_would_overflow_are_refused(deviation: int) -> None:
    with pytest.raises(ValueError, match=r"from 1 to 16777216"):
        discrete_gaussian(1, deviation, seeded_source(0))
