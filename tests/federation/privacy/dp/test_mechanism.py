"""The noise at the door: how much, on what, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, norm

from federation.contribution import Contribution
from federation.policy import Refused
from federation.privacy.dp.discrete_gaussian import LARGEST, seeded_source
from federation.privacy.dp.mechanism import Covered, Mechanism, grid, of_arrays
from federation.privacy.fixed_point import FixedPoint, add

N = 20_000


def test_noise_is_normal_of_the_stated_deviation() -> None:
    mechanism = Mechanism("patient", {"x": Covered(0.3, 5.0)})
    values = np.linspace(-4, 4, N)
    noise = mechanism.release(Contribution(7, x=values), seeded_source(1))["x"] - values
    step, steps = grid(Covered(0.3, 5.0), N)
    deviation = step * steps
    assert 1.5 <= deviation < 1.501
    assert abs(noise.mean()) < norm.isf(5e-5) * deviation / np.sqrt(N)
    assert abs(noise.var() / deviation**2 - 1) < norm.isf(5e-5) * np.sqrt(2 / N)
    assert kstest(noise / deviation, "norm").pvalue > 1e-3


def test_shares_add_up_to_the_noise_of_one() -> None:
    covered = Covered(1.0, 2.0)
    mechanism = Mechanism("patient", {"x": covered}, distributed=True)
    zero = Contribution(7, x=np.zeros(N))
    total = sum(mechanism.release(zero, seeded_source(2, i), sharers=9)["x"] for i in range(9))
    assert isinstance(total, np.ndarray)
    assert abs(total.var() / 4 - 1) < norm.isf(5e-5) * np.sqrt(2 / N)
    assert kstest(total / total.std(), "norm").pvalue > 1e-3


def test_values_noise_and_their_sum_are_exact_in_fixed_point() -> None:
    """So no digit is left without noise, and masks change nothing."""
    mechanism = Mechanism("patient", {"x": Covered(0.01, 3.0)}, distributed=True)
    fixed, values = FixedPoint(), np.random.default_rng(3).normal(size=100)
    sent = [mechanism.release(Contribution(7, x=values), seeded_source(4, i), 5)["x"] for i in range(5)]
    step, _ = grid(Covered(0.01, 3.0), 100, 5)
    words = fixed.encode(sent[0], 5)
    for x in sent[1:]:
        add(words, fixed.encode(x, 5))
    np.testing.assert_array_equal(fixed.decode(words), np.sum(sent, axis=0))
    for x in sent:
        np.testing.assert_array_equal(x, np.rint(x / step) * step)


@pytest.mark.parametrize("noise", [0.3, 1.0, 40.0])
@pytest.mark.parametrize("size", [1, 100, 20_000])
@pytest.mark.parametrize("sharers", [1, 38])
def test_noise_covers_rounding_and_shares_are_millions_of_steps(noise: float, size: int, sharers: int) -> None:
    for bound in (1e-3, 0.7, 1e4):
        step, steps = grid(Covered(bound, noise), size, sharers)
        assert 2**22 <= steps <= LARGEST
        assert step * steps * np.sqrt(sharers) >= noise * (bound + np.sqrt(size) * step)


def test_answers_of_several_arrays_are_one_gaussian_mechanism() -> None:
    mechanism = of_arrays("patient", {"a": 1.0, "b": 30.0}, 4.0)
    assert mechanism.spending.noise == pytest.approx(4.0)
    update, bits = Covered(1.0, 5.0), Covered(0.5, 10.0)
    both = Mechanism("center", {"update": update, "bits": bits}).spending.noise
    # The change of both, each in units of its own noise, is at most (1/5, 1/10).
    assert both == pytest.approx(1 / np.hypot(1 / 5, 1 / 10))


def test_what_has_no_noise_does_not_leave() -> None:
    mechanism = Mechanism("patient", {"x": Covered(1.0, 1.0)}, public=frozenset({"weight"}))
    with pytest.raises(Refused, match="'extra' has no bound on what one patient can change"):
        mechanism.release(Contribution(7, x=np.zeros(3), extra=1.0), seeded_source(0))
    sent = mechanism.release(Contribution(7, x=np.zeros(3), weight=5.5), seeded_source(0))
    assert float(sent["weight"]) == 5.5
    assert (sent["x"] != 0).all()


def test_a_centers_array_longer_than_its_bound_does_not_leave() -> None:
    mechanism = Mechanism("center", {"x": Covered(1.0, 1.0)})
    mechanism.release(Contribution(7, x=np.array([0.6, 0.8])), seeded_source(0))
    with pytest.raises(Refused, match=r"'x' is longer than its bound 1$") as caught:
        mechanism.release(Contribution(7, x=np.array([0.0, 1.01])), seeded_source(0))
    assert caught.value.details == "its norm is 1.01"


def test_values_beyond_exact_arithmetic_are_refused() -> None:
    with pytest.raises(Refused, match="too large for their noise to be exact"):
        Mechanism("patient", {"x": Covered(1.0, 1.0)}).release(Contribution(7, x=1e14), seeded_source(0))


def test_a_center_that_withholds_adds_nothing() -> None:
    assert not Mechanism("patient", {"x": Covered(1.0, 1.0)}).release(Contribution(), seeded_source(0))
