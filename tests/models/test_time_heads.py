"""Laws of the time: against scipy.stats, lifelines' parametric fits, numerical integration and Aalen-Johansen."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import lifelines
import numpy as np
import pandas as pd
import pytest
import torch
from lifelines.datasets import load_rossi
from numpy.typing import NDArray
from scipy import integrate, stats
from sksurv.nonparametric import cumulative_incidence_competing_risks

from models.survival.time_heads import (
    CompetingRisksHead,
    LogNormalHead,
    PiecewiseExponentialHead,
    TimeHead,
    WeibullHead,
    WeibullMixtureHead,
    build_head,
)

CUTS = (0.4, 1.1, 2.5)
HEADS: dict[str, TimeHead] = {
    "weibull": WeibullHead(),
    "weibull_mixture": WeibullMixtureHead(3),
    "lognormal": LogNormalHead(),
    "piecewise": PiecewiseExponentialHead(CUTS),
}


def outputs(head: Any, n: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(scale=0.7, size=(n, head.size)))


def softplus(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.logaddexp(0, x + np.log(np.e - 1))


def scipy_law(name: str, o: NDArray[np.float64]) -> Any:
    if name == "weibull":
        return stats.weibull_min(softplus(o[1]), scale=np.exp(o[0]))
    return stats.lognorm(softplus(o[1]), scale=np.exp(o[0]))


@pytest.mark.parametrize("name", ["weibull", "lognormal"])
def test_densities_and_survival_equal_scipy(name: str) -> None:
    head, output = HEADS[name], outputs(HEADS[name])
    times = np.array([1e-4, 0.02, 0.5, 1.0, 3.7, 20.0])
    for o in output:
        law = scipy_law(name, o.numpy())
        t = torch.as_tensor(times)
        density = head.log_likelihood(o.expand(6, -1), t, torch.ones(6))
        np.testing.assert_allclose(density, law.logpdf(times), rtol=1e-8, atol=1e-10)
        censored = head.log_likelihood(o.expand(6, -1), t, torch.zeros(6))
        np.testing.assert_allclose(censored, law.logsf(times), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(head.survival(o, t), law.sf(times), rtol=1e-8, atol=1e-12)


def test_a_mixture_is_the_weighted_sum_of_its_components() -> None:
    head = WeibullMixtureHead(3)
    times = np.array([0.01, 0.3, 1.0, 4.0])
    for o in outputs(head).numpy():
        weights = np.exp(o[:3]) / np.exp(o[:3]).sum()
        laws = stats.weibull_min(softplus(o[6:]), scale=np.exp(o[3:6] + np.array([-0.5, 0, 0.5])))
        t, output = torch.as_tensor(times), torch.as_tensor(o)
        np.testing.assert_allclose(head.survival(output, t), laws.sf(times[:, None]) @ weights, rtol=1e-9)
        log_hazard, log_survival = head.logs(output.expand(4, -1), t)
        np.testing.assert_allclose((log_hazard + log_survival).exp(), laws.pdf(times[:, None]) @ weights, rtol=1e-9)


def test_piecewise_hazard_is_a_step_function_whose_integral_is_the_cumulative_hazard() -> None:
    head, output = HEADS["piecewise"], outputs(HEADS["piecewise"], 3)
    for o in output:
        hazards = o.exp().numpy()
        for t in (0.1, 0.4, 0.7, 2.5, 6.0):
            log_hazard, log_survival = head.logs(o, torch.tensor(t, dtype=torch.float64))
            piece = np.searchsorted(CUTS, t, side="left")
            assert log_hazard.exp().item() == pytest.approx(hazards[piece])
            integral, _ = integrate.quad(
                lambda u, h=hazards: h[np.searchsorted(CUTS, u, side="left")], 0, t, points=[c for c in CUTS if c < t]
            )
            assert -log_survival.item() == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_hazard_is_the_slope_of_the_cumulative_hazard_and_the_density_integrates_to_one(name: str) -> None:
    head = HEADS[name]
    for o in outputs(head, 4):

        def density(t: float, o: torch.Tensor = o) -> float:
            log_hazard, log_survival = head.logs(o, torch.tensor(t, dtype=torch.float64))
            return float((log_hazard + log_survival).exp())

        bounds = [1e-9, 0.05, *CUTS, 10.0]
        mass = sum(integrate.quad(density, a, b, limit=200)[0] for a, b in itertools.pairwise(bounds))
        ends = head.survival(o, torch.tensor([1e-9, 10.0], dtype=torch.float64))
        assert mass == pytest.approx(float(ends[0] - ends[1]), abs=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_equal_finite_differences(name: str) -> None:
    head = HEADS[name]
    output = outputs(head, 5).requires_grad_()
    time = torch.tensor([0.01, 0.3, 1.0, 2.5, 7.0], dtype=torch.float64)
    event = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda o: head.log_likelihood(o, time, event), (output,), atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_float32_stays_finite_far_out(name: str) -> None:
    head = HEADS[name]
    time = torch.tensor([1e-4, 1.0, 50.0])
    for value in (-12.0, -6.0, 6.0, 30.0):
        output = torch.full((3, head.size), value, requires_grad=True)
        total = head.log_likelihood(output, time, torch.tensor([1.0, 0.0, 1.0])).sum()
        (gradient,) = torch.autograd.grad(total, output)
        assert bool(torch.isfinite(total))
        assert bool(torch.isfinite(gradient).all())


def test_survival_is_one_at_time_zero() -> None:
    for head in HEADS.values():
        curve = head.survival(outputs(head), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
        assert (curve[:, 0] == 1).all()
        assert (curve.diff(dim=1) < 0).all()


# Maximum likelihood --------------------------------------------------------------------------------------------------


def maximize(likelihood: Callable[[torch.Tensor], torch.Tensor], size: int) -> tuple[torch.Tensor, float]:
    """The parameters of the highest likelihood, by L-BFGS."""
    at = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([at], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        solver.zero_grad()
        loss = -likelihood(at)
        loss.backward()
        return loss

    solver.step(step)
    return at.detach(), float(likelihood(at.detach()))


def rossi() -> tuple[pd.DataFrame, torch.Tensor, torch.Tensor, torch.Tensor]:
    frame = load_rossi()[["week", "arrest", "age", "prio"]]
    x = torch.as_tensor(frame[["age", "prio"]].to_numpy(dtype=float)) / 10
    return frame, x, torch.as_tensor(frame["week"].to_numpy(float)), torch.as_tensor(frame["arrest"].to_numpy(float))


@pytest.mark.parametrize(
    ("name", "fitter"),
    [
        ("weibull", lifelines.WeibullFitter()),
        ("lognormal", lifelines.LogNormalFitter()),
        ("piecewise", lifelines.PiecewiseExponentialFitter([19.5, 39.5])),
    ],
)
def test_the_best_law_is_lifelines(name: str, fitter: Any) -> None:
    _, _, week, arrest = rossi()
    scale = 30.0
    head = build_head(name, cuts=[19.5 / scale, 39.5 / scale])
    best, value = maximize(
        lambda o: head.log_likelihood(o.expand(len(week), -1), week / scale, arrest).sum(), head.size
    )
    fitter.fit(week.numpy(), arrest.numpy())
    assert value - float(arrest.sum()) * np.log(scale) == pytest.approx(fitter.log_likelihood_, abs=1e-4)
    times = np.array([5.0, 20.0, 52.0])
    theirs = fitter.survival_function_at_times(times)
    np.testing.assert_allclose(head.survival(best, torch.as_tensor(times / scale)), theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "fitter"), [("weibull", lifelines.WeibullAFTFitter()), ("lognormal", lifelines.LogNormalAFTFitter())]
)
def test_the_best_regression_is_lifelines(name: str, fitter: Any) -> None:
    frame, x, week, arrest = rossi()
    head, scale = HEADS[name], 30.0

    def likelihood(o: torch.Tensor) -> torch.Tensor:
        location = x @ o[:2] + o[2]
        return head.log_likelihood(torch.stack([location, o[3].expand(len(x))], -1), week / scale, arrest).sum()

    best, value = maximize(likelihood, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitter.fit(frame, "week", "arrest")
    assert value - float(arrest.sum()) * np.log(scale) == pytest.approx(fitter.log_likelihood_, abs=1e-4)
    theirs = fitter.params_.xs("lambda_" if name == "weibull" else "mu_")[["age", "prio"]]
    np.testing.assert_allclose(best[:2] / 10, theirs, atol=1e-3)


def test_a_mixture_fits_no_worse_than_one_law_and_finds_two() -> None:
    rng = np.random.default_rng(0)
    time = torch.as_tensor(np.where(rng.random(2000) < 0.5, 0.2, 2.0) * rng.weibull(3.0, 2000))
    event = torch.ones(2000)

    def best(head: TimeHead) -> tuple[torch.Tensor, float]:
        return maximize(lambda o: head.log_likelihood(o.expand(2000, -1), time, event).sum(), head.size)

    two = WeibullMixtureHead(2)
    found, value = best(two)
    assert value > best(WeibullHead())[1] + 100
    scales = np.sort(np.exp(found[2:4].numpy() + np.array([-0.5, 0.5])))
    np.testing.assert_allclose(scales, [0.2, 2.0], rtol=0.1)


# Competing causes ----------------------------------------------------------------------------------------------------


def two_causes(n: int = 4000) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(2)
    latent = np.column_stack([1.5 * rng.weibull(0.8, n), 2.0 * rng.weibull(2.0, n), rng.exponential(3.0, n)])
    return latent.min(axis=1), (np.argmin(latent, axis=1) + 1) % 3


def test_causes_fit_like_each_cause_with_the_others_censored() -> None:
    time, cause = two_causes()
    head = CompetingRisksHead([WeibullHead(), WeibullHead()])
    t, c = torch.as_tensor(time), torch.as_tensor(cause)
    best, value = maximize(lambda o: head.log_likelihood(o.expand(len(t), -1), t, c).sum(), head.size)
    fits = [lifelines.WeibullFitter().fit(time, cause == j) for j in (1, 2)]
    assert value == pytest.approx(sum(f.log_likelihood_ for f in fits), abs=1e-3)
    np.testing.assert_allclose(best[::2].exp(), [f.lambda_ for f in fits], rtol=1e-3)


def test_incidences_equal_the_integral_of_hazard_times_survival() -> None:
    head = CompetingRisksHead([WeibullHead(), LogNormalHead(), PiecewiseExponentialHead(CUTS)])
    output = outputs(head, 1)[0]
    grid = torch.linspace(0, 3, 600, dtype=torch.float64)
    ours = head.incidence(output, grid)
    np.testing.assert_allclose(ours.sum(0) + head.survival(output, grid), 1, atol=1e-12)

    def rate(u: float, j: int) -> float:
        log_hazards, log_survivals = head._each(output, torch.tensor(u, dtype=torch.float64))
        return float((log_hazards[j] + log_survivals.sum()).exp())

    for j in range(3):
        total = sum(
            integrate.quad(rate, a, b, (j,), limit=200)[0]
            for a, b in [(0, 1e-3), (1e-3, 0.4), (0.4, 1.1), (1.1, 2.5), (2.5, 3.0)]
        )
        assert float(ours[j, -1]) == pytest.approx(total, abs=1e-4)


def test_fitted_incidences_equal_aalen_johansen() -> None:
    time, cause = two_causes()
    head = CompetingRisksHead([WeibullHead(), WeibullHead()])
    t, c = torch.as_tensor(time), torch.as_tensor(cause)
    best, _ = maximize(lambda o: head.log_likelihood(o.expand(len(t), -1), t, c).sum(), head.size)
    steps, curves = cumulative_incidence_competing_risks(cause, time)
    at = np.searchsorted(steps, [0.3, 0.8, 1.5, 2.5], side="right") - 1
    grid = torch.linspace(0, 2.5, 251, dtype=torch.float64)
    ours = head.incidence(best, grid)[:, [30, 80, 150, 250]]
    np.testing.assert_allclose(ours, curves[1:, at], atol=0.02)


def test_unknown_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="'gompertz'"):
        build_head("gompertz")
    with pytest.raises(ValueError, match="increasing"):
        build_head("piecewise", cuts=[2.0, 1.0])
