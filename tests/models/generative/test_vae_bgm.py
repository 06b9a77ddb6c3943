"""Patients drawn from VAE-BGM are valid and distributed as the real ones; its parts do what they say."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from scipy.stats import norm, rankdata

from harmonization import Cohort
from models.batched.training import engine_for
from models.flat import get_weights
from models.generative import VAEBGM, LawOptions, MixtureOptions, VAEBGMOptions
from models.generative.encoding import Encoding, encoding_sums
from models.generative.vae import VAENetwork
from models.preprocessing import encode
from models.steps import TrainingOptions
from models.survival.network import build_network
from tests.models.generative.tables import SCHEMA, patients

LAW = LawOptions(resolution=7.0, horizon=3652)
QUICK = VAEBGMOptions(
    {"latent": 3, "hidden": [24]},
    TrainingOptions(epochs=4, batch_size=64, optimizer="adam", learning_rate=0.01),
    rounds=10,
    mixture=MixtureOptions(components=4, max_iter=30),
    law=LAW,
)


@cache
def real() -> Cohort:
    return patients(1200, seed=3)


@cache
def model() -> VAEBGM:
    torch.set_num_threads(1)
    return VAEBGM(QUICK, seed=1).fit(real())


@cache
def drawn() -> Cohort:
    return model().sample(6000, seed=1)


def test_what_is_drawn_is_a_cohort_of_the_same_schema() -> None:
    again = Cohort.from_frame(drawn().to_frame(), SCHEMA)
    np.testing.assert_array_equal(again.values, drawn().values)
    np.testing.assert_array_equal(model().sample(50, seed=2).values, model().sample(50, seed=2).values)
    np.testing.assert_array_equal(model().sample(50, seed=2).time, model().sample(50, seed=2).time)
    assert (model().sample(50, seed=2).values != model().sample(50, seed=3).values).any()
    assert (np.round(drawn().column("age")) == drawn().column("age")).all()  # as whole years, as in the table
    assert len(set(drawn().ids)) == 6000


def test_a_fit_depends_on_its_seed_alone() -> None:
    few, short = patients(80, seed=5), replace(QUICK, rounds=2)
    weights = [VAEBGM(short, seed=s).fit(few).fitted_.weights for s in (1, 1, 2)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.abs(weights[0] - weights[2]).max() > 0.01


def test_marginals_are_those_of_the_real_patients() -> None:
    for name in SCHEMA.names:
        a, b = real().column(name), drawn().column(name)
        assert np.isnan(b).mean() == pytest.approx(np.isnan(a).mean(), abs=0.04)
        if SCHEMA.features[SCHEMA.index(name)].numeric:
            levels = np.quantile(a[~np.isnan(a)], [0.1, 0.25, 0.5, 0.75, 0.9])
            below = [(x[~np.isnan(x)][:, None] <= levels).mean(0) for x in (a, b)]
            np.testing.assert_allclose(below[1], below[0], atol=0.08)
        else:
            for value in np.unique(a[~np.isnan(a)]):
                assert np.nanmean(b == value) == pytest.approx(np.nanmean(a == value), abs=0.04)


def test_what_goes_together_does_so_in_those_drawn() -> None:
    def dependence(c: Cohort) -> list[float]:
        blasts, mutated, wbc = c.column("blasts"), c.column("mutated") == 1, np.isnan(c.column("wbc"))
        return [
            blasts[mutated].mean() - blasts[~mutated].mean(),
            10 * (wbc[blasts > 10].mean() - wbc[blasts <= 10].mean()),  # missing with what it is missing with
            (c.column("age")[mutated].mean() - c.column("age")[~mutated].mean()),
        ]

    a, b = dependence(real()), dependence(drawn())
    assert min(a) > 2
    np.testing.assert_allclose(b, a, rtol=0.35)


def test_survival_and_censoring_are_those_of_the_real_patients() -> None:
    for grade in (0.0, 2.0):
        curves = []
        for cohort in (real(), drawn()):
            mine = cohort.column("grade") == grade
            fitted = KaplanMeierFitter().fit(cohort.time[mine], cohort.event[mine])
            curves.append(fitted.survival_function_at_times([1, 2, 4, 6]).to_numpy())
        np.testing.assert_allclose(curves[1], curves[0], atol=0.12)
    assert drawn().event.mean() == pytest.approx(real().event.mean(), abs=0.05)


@settings(max_examples=12, deadline=None, phases=[Phase.generate])
@given(data=st.data())
def test_any_cohort_comes_back_valid_from_any_drawn_matrix(data: st.DataObject, cohorts: Any) -> None:
    """Features of every kind, all missing or constant ones among them; the network need not have learned anything."""
    cohort = data.draw(cohorts)
    cohort = replace(cohort, values=np.where(np.abs(cohort.values) < 1e6, cohort.values, np.nan))  # squares overflow
    encoding = Encoding(cohort.schema, encoding_sums(cohort), least=1)
    assume((np.nanstd(encode(cohort)[:, encoding.total["seen"] > 0], axis=0) > 1e-3).any())
    width = encoding.preprocessor.n_features
    network = VAENetwork(width, latent=2, hidden=[4], **encoding.declare())
    network.initialize(np.random.default_rng(0))
    z = np.random.default_rng(1).normal(size=(40, 2))
    values = encoding.values(network.draw(get_weights(network), z, 1), np.random.default_rng(2))
    schema = replace(cohort.schema, causes=(), scores=())
    found = Cohort(schema, np.arange(40).astype(str), values, np.ones(40), np.zeros(40, bool))
    again = Cohort.from_frame(found.to_frame(), schema)
    np.testing.assert_array_equal(again.values, found.values)
    assert np.isnan(found.values[:, np.isnan(cohort.values).all(axis=0)]).all()
    assert not np.isnan(found.values[:, ~np.isnan(cohort.values).any(axis=0)]).any()


def test_the_encoding_there_and_back() -> None:
    """Scores are the normal quantiles of ranks, and from them come back the values, to the width of a run of cells."""
    cohort = real()
    encoding = Encoding(SCHEMA, encoding_sums(cohort))
    network = build_network("vae", encoding.preprocessor.n_features, encoding.declare()).double()
    assert isinstance(network, VAENetwork)
    y = network.values(torch.as_tensor(encoding.preprocessor.transform(cohort))).numpy()
    age = cohort.column("age")
    expected = norm.ppf((rankdata(age) - 0.5) / len(age))
    middle = np.abs(expected) < 1.5
    np.testing.assert_allclose(y[middle, 0], expected[middle], atol=0.05)
    again = replace(cohort, values=encoding.values(y, np.random.default_rng(0)))
    np.testing.assert_array_equal(np.isnan(again.values), np.isnan(cohort.values))
    for name in ("grade", "mutated"):
        np.testing.assert_array_equal(again.column(name), cohort.column(name))
    for name, relative in (("age", 0.05), ("blasts", 0.35), ("wbc", 0.25)):
        known = ~np.isnan(cohort.column(name)) & (cohort.column(name) > 0)
        off = np.abs(again.column(name)[known] / cohort.column(name)[known] - 1)
        assert np.quantile(off, 0.95) < relative
        known = ~np.isnan(cohort.column(name))
        a, b = again.column(name)[known], cohort.column(name)[known]
        assert a.mean() == pytest.approx(b.mean(), abs=0.02 * b.std())


def test_what_is_always_missing_together_is_one_variable() -> None:
    cohort = patients(200, seed=9)
    values = cohort.values.copy()
    values[:40, [0, 2]] = np.nan
    values[40:80, 3] = np.nan
    encoding = Encoding(SCHEMA, encoding_sums(replace(cohort, values=values)))
    assert encoding.masks == ((0, 2), (1,), (3,), (4,))


def test_the_loss_is_the_bound_and_the_time_has_no_part() -> None:
    encoding = Encoding(SCHEMA, encoding_sums(real()))
    network = VAENetwork(encoding.preprocessor.n_features, latent=2, hidden=[8], annealing=0.0, **encoding.declare())
    network.initialize(np.random.default_rng(0))
    assert engine_for(network) == "vectorized"
    network.double().train()
    x = torch.as_tensor(encoding.preprocessor.transform(real())[:9])
    noise = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean, log_variance = network.encode(x)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    divergence = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    z = mean + q.stddev * noise
    expected = divergence - network.likelihoods.log_density(network.decoder(z), network.values(x))
    torch.testing.assert_close(network(x, noise), expected)
    losses = [network.loss(expected, network.prepare(np.full(9, t), np.arange(9) < k)) for t, k in ((1.0, 3), (7.0, 9))]
    assert losses[0].item() == losses[1].item() == pytest.approx(expected.mean().item())
    with pytest.raises(ValueError, match="give noise"):
        network(x)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"latent": 0}, "latent is 0"), ({"kl_weight": -1}, "kl_weight"), ({"annealing": 2}, "annealing is 2")],
)
def test_what_is_no_parameter_is_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build_network("vae", 3, parameters)
