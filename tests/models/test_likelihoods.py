"""Log densities of mixed columns: against torch.distributions and scipy.stats, with missing values, and draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch.nn.functional import softplus

from models.likelihoods import Likelihoods, Variable, deviation

MIXED = (
    Variable("count", (0,), shift=4.0, scale=2.0),
    Variable("categorical", (1, 3, 6)),
    Variable("gaussian", (2,)),
    Variable("bernoulli", (4,)),
    Variable("lognormal", (5,), shift=3.0, scale=0.5),
    Variable("bernoulli", (7,)),
    Variable("gaussian", (8,)),
)


def patients(n: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A design matrix of `MIXED` and a decoder's output, in float64."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 9))
    x[:, 0] = (rng.poisson(6, n) - 4) / 2
    category = rng.integers(0, 4, n)
    x[:, [1, 3, 6]] = np.where(category[:, None] == [1, 2, 3], 1.7, -0.4)
    x[:, [4, 7]] = np.where(rng.random((n, 2)) < 0.3, 2.1, -0.5)
    x[:, 5] = (rng.lognormal(size=n) - 3) / 0.5
    return torch.as_tensor(x), torch.as_tensor(rng.normal(size=(n, Likelihoods(MIXED).size)))


def by_reference(x: NDArray[np.float64], o: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log density of each variable, shape (n, variables), by scipy and torch.distributions; order of `MIXED`."""
    sd = [deviation(torch.as_tensor(o[:, j])).numpy() for j in (6, 9, 12)]
    size = 1 / softplus(torch.as_tensor(o[:, 1])).numpy()
    count, value = 4 + 2 * x[:, 0], 3 + 0.5 * x[:, 5]
    logits = torch.as_tensor(np.column_stack([np.zeros(len(x)), o[:, 2:5]]))
    category = torch.as_tensor((x[:, [1, 3, 6]] > 0) @ [1, 2, 3])
    bernoulli = [
        torch.distributions.Bernoulli(logits=torch.as_tensor(o[:, j])).log_prob(torch.as_tensor(x[:, c] > 0).double())
        for j, c in ((7, 4), (10, 7))
    ]
    return np.column_stack(
        [
            stats.nbinom.logpmf(np.round(count), size, size / (size + np.exp(o[:, 0]))),
            torch.distributions.Categorical(logits=logits).log_prob(category),
            stats.norm.logpdf(x[:, 2], o[:, 5], sd[0]),
            bernoulli[0],
            stats.lognorm.logpdf(value, sd[1], scale=np.exp(o[:, 8])),
            bernoulli[1],
            stats.norm.logpdf(x[:, 8], o[:, 11], sd[2]),
        ]
    )


def test_log_density_equals_scipy_and_torch() -> None:
    x, output = patients()
    ours = Likelihoods(MIXED).log_density(output, x)
    np.testing.assert_allclose(ours, by_reference(x.numpy(), output.numpy()).sum(axis=1), rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=7, max_size=7))
def test_a_missing_value_has_no_term_and_no_gradient(missing: list[bool]) -> None:
    x, output = patients()
    for variable, gone in zip(MIXED, missing, strict=True):
        if gone:
            x[:, list(variable.columns)] = torch.nan
    output.requires_grad_()
    ours = Likelihoods(MIXED).log_density(output, x)
    terms = by_reference(patients()[0].numpy(), output.detach().numpy())
    np.testing.assert_allclose(ours.detach(), terms[:, ~np.array(missing)].sum(axis=1), rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(ours.sum(), output)
    starts = np.cumsum([0, *(v.size for v in MIXED)])
    for (first, last), gone in zip(itertools.pairwise(starts), missing, strict=True):
        assert bool((gradient[:, first:last] == 0).all()) == gone


def test_gradients_equal_finite_differences() -> None:
    x, output = patients(6)
    x[1, 5] = x[2, 0] = torch.nan
    output.requires_grad_()
    assert torch.autograd.gradcheck(lambda o: Likelihoods(MIXED).log_density(o, x), (output,), atol=1e-6)


def test_float32_keeps_its_digits_near_the_poisson_law() -> None:
    count = Likelihoods([Variable("count", (0,))])
    k = np.arange(40.0)
    output = torch.tensor([[np.log(12.0), -20.0]], dtype=torch.float32).expand(40, 2)
    ours = count.log_density(output, torch.as_tensor(k[:, None], dtype=torch.float32))
    np.testing.assert_allclose(ours, stats.nbinom.logpmf(k, 1000, 1000 / 1012), atol=2e-3)
    np.testing.assert_allclose(ours.exp(), stats.poisson.pmf(k, 12), atol=2e-3)


def test_probabilities_add_up_to_one() -> None:
    _, output = patients(5)
    category = Likelihoods([Variable("categorical", (0, 1, 2))])
    each = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    total = sum(category.log_density(output[:, :3], row.expand(5, 3)).exp() for row in each)
    np.testing.assert_allclose(total, 1)
    count = Likelihoods([Variable("count", (0,))])
    numbers = torch.arange(3000.0, dtype=torch.float64)[:, None, None]
    np.testing.assert_allclose(count.log_density(output[None, :, :2], numbers).exp().sum(0), 1, atol=1e-6)


def test_draws_follow_the_densities() -> None:
    law, n = Likelihoods(MIXED), 20_000
    output = patients(1, seed=3)[1].expand(n, law.size) * 0.5
    x = law.sample(output, torch.Generator().manual_seed(1)).numpy()
    o = output[0].numpy()
    sd = deviation(output[0]).numpy()
    assert stats.kstest(x[:, 2], "norm", (o[5], sd[6])).pvalue > 1e-3
    assert stats.kstest(np.log(3 + 0.5 * x[:, 5]), "norm", (o[8], sd[9])).pvalue > 1e-3
    assert (x[:, 4] > 0).mean() == pytest.approx(1 / (1 + np.exp(-o[7])), abs=0.02)
    weights = np.exp([0, *o[2:5]])
    shares = [(x[:, [1, 3, 6]] == 0).all(axis=1).mean(), *x[:, [1, 3, 6]].mean(axis=0)]
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.02)
    size = 1 / softplus(output[0, 1]).item()
    expected = stats.nbinom(size, size / (size + np.exp(o[0])))
    count = 4 + 2 * x[:, 0]
    assert count.mean() == pytest.approx(expected.mean(), rel=0.05)
    assert count.var() == pytest.approx(expected.var(), rel=0.15)
    again = law.sample(output, torch.Generator().manual_seed(1)).numpy()
    np.testing.assert_array_equal(x, again)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ([{"kind": "gaussian", "columns": [1]}], "cover columns"),
        ([{"kind": "gamma", "columns": [0]}], "'gamma'"),
        ([{"kind": "gaussian", "columns": [0, 1]}], "only a categorical"),
        ([{"kind": "count", "columns": [0], "scale": 0.0}], "scale is 0"),
    ],
)
def test_impossible_variables_are_refused(variables: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Likelihoods(variables)


def test_variables_are_plain_data() -> None:
    plain = [v.to_dict() for v in MIXED]
    assert Likelihoods(plain).variables == MIXED
