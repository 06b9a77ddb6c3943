"""SAVAE: the bound term by term, annealing, prediction, missing values, competing causes, many tables at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_val_score
from sksurv.metrics import concordance_index_censored
from sksurv.nonparametric import cumulative_incidence_competing_risks, kaplan_meier_estimator
from sksurv.util import Surv
from torch.distributions import Normal, kl_divergence

from models.batched.streams import Streams
from models.batched.tables import Tables
from models.batched.training import engine_for, train_many
from models.flat import get_weights
from models.likelihoods import Variable
from models.preprocessing import Column
from models.survival.estimator_parts import SurvivalEstimator
from models.survival.network import build_network
from models.survival.savae import SAVAENetwork, latent_nodes, variables_of
from models.survival.time_scale import TimeScale
from models.survival.vae_estimators import SAVAE, CompetingRisksSAVAE
from models.training import TrainingData, TrainingOptions, train
from models.variational import annealed

HEADS: dict[str, dict[str, Any]] = {
    "weibull": {},
    "weibull_mixture": {"components": 2},
    "lognormal": {},
    "piecewise": {"cuts": [0.5, 1.0]},
}
VARIABLES = [Variable("bernoulli", (0,)).to_dict(), *(Variable("gaussian", (j,)).to_dict() for j in (1, 2, 3))]


def patients(n: int = 60, seed: int = 0, missing: float = 0.2) -> TrainingData:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    x[:, 0] = np.where(x[:, 0] > 0, 1.2, -0.8)
    death, censoring = rng.weibull(1.3, n) * np.exp(-0.7 * x[:, 1] - 0.5 * x[:, 0]), rng.exponential(3, n)
    x[rng.random(x.shape) < missing] = np.nan
    x = x.astype(np.float32).astype(np.float64)
    return TrainingData(x, np.minimum(death, censoring) + 0.001, death <= censoring)


def network(seed: int = 1, **parameters: Any) -> SAVAENetwork:
    built = SAVAENetwork(4, **{"latent": 3, "hidden": 8, "variables": VARIABLES, **parameters})
    built.initialize(np.random.default_rng(seed))
    return built


def survival_table(n: int = 300, seed: int = 0, missing: float = 0.1) -> tuple[NDArray[np.float64], Any]:
    data = patients(n, seed, missing)
    return 10 + 3 * data.x, Surv.from_arrays(data.event, np.ceil(20 * data.time) / 20)


# The bound -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (1.0, 1.0)])
def test_the_loss_is_the_weighted_bound(progress: float, share: float) -> None:
    net = network(kl_weight=0.5, annealing=0.4, reconstruction_weight=0.3, time_scale=2.0)
    data = patients()
    x, noise = torch.as_tensor(data.x, dtype=torch.float32), torch.randn(60, 3, generator=torch.manual_seed(0))
    net.train()
    ours = net.loss(net(x, noise, progress), net.prepare(data.time, data.event))

    mean, log_variance = net.encode(x)
    law = Normal(mean, (log_variance / 2).exp())
    z = mean + law.scale * noise
    divergence = kl_divergence(law, Normal(0.0, 1.0)).sum(-1)
    reconstruction = net.likelihoods.log_density(net.decoder(z), x)
    time = torch.as_tensor(data.time / 2, dtype=torch.float32)
    likelihood = net.head.log_likelihood(net.time_decoder(z), time, torch.as_tensor(data.event).float())
    expected = (0.5 * share * divergence - 0.3 * reconstruction - likelihood).mean()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_noise_training_is_refused() -> None:
    with pytest.raises(ValueError, match="give noise"):
        network().train()(torch.zeros(2, 4))


@pytest.mark.parametrize("part", [(0.0, 1.0), (0.25, 0.5)])
def test_training_raises_the_divergences_weight(part: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    net, seen = network(kl_weight=2.0, annealing=0.5), []

    def watched(*arguments: Any) -> Any:
        seen.append(annealed(*arguments))
        return seen[-1]

    monkeypatch.setattr("models.survival.savae.annealed", watched)
    train(net, get_weights(net), patients(), TrainingOptions(steps=8), np.random.default_rng(0), progress=part)
    done = part[0] + (part[1] - part[0]) * np.arange(8) / 8
    np.testing.assert_allclose(seen, 2 * np.minimum(done / 0.5, 1))


def test_a_heavy_divergence_returns_the_prior_and_none_does_not() -> None:
    data, spread = patients(200, missing=0.0), {}
    for weight in (0.0, 50.0):
        net = network(kl_weight=weight, annealing=0.2)
        options = TrainingOptions(steps=150, optimizer="adam", learning_rate=0.02)
        train(net, get_weights(net), data, options, np.random.default_rng(0))
        with torch.no_grad():
            mean, log_variance = net.encode(torch.as_tensor(data.x, dtype=torch.float32))
        spread[weight] = float(mean.std()), float(log_variance.abs().mean())
    assert max(spread[50.0]) < 0.1
    assert min(spread[0.0]) > 0.5


# Prediction ----------------------------------------------------------------------------------------------------------


def test_latent_points_are_normal_numbers() -> None:
    points = latent_nodes(64, 5)
    np.testing.assert_array_equal(points, latent_nodes(64, 5))
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(points.T @ points / 64, np.eye(5), atol=1e-12)
    np.testing.assert_array_equal(latent_nodes(1, 2), [[0, 0]])
    assert latent_nodes(5, 2).shape == (5, 2)


@pytest.mark.parametrize("head", HEADS)
def test_prediction_is_the_mean_over_many_random_draws(head: str) -> None:
    net, data = network(head=head, draws=256, **HEADS[head]), patients(12)
    options = TrainingOptions(steps=40, optimizer="adam", learning_rate=0.02)
    train(net, get_weights(net), data, options, np.random.default_rng(0))
    net.eval()
    x, times = torch.as_tensor(data.x, dtype=torch.float32), torch.tensor([0.0, 0.3, 1.0, 2.0])
    with torch.no_grad():
        ours = net.survival(net(x), times)
        mean, log_variance = net.encode(x)
        z = mean + (log_variance / 2).exp() * torch.randn(20_000, *mean.shape, generator=torch.manual_seed(0))
        many = net.head.survival(net.time_decoder(z), times).mean(0)
        density = net.head.log_likelihood(
            net.time_decoder(z), torch.as_tensor(data.time).float(), torch.as_tensor(data.event).float()
        )
        loss = net.loss(net(x), net.prepare(data.time, data.event))
    np.testing.assert_allclose(ours, many, atol=0.01)
    assert float(loss) == pytest.approx(-float(density.exp().mean(0).log().mean()), abs=0.02)
    assert (ours[:, 0] == 1).all()
    assert (ours.diff(dim=1) <= 0).all()


def test_risk_is_minus_the_restricted_mean_survival() -> None:
    net, data = network(horizon=3.0, time_scale=1.7).eval(), patients(10)
    with torch.no_grad():
        output = net(torch.as_tensor(data.x, dtype=torch.float32)).double()
        times = torch.linspace(0, 3, 3001, dtype=torch.float64)
        expected = -torch.trapezoid(net.survival(output, times), times)
        np.testing.assert_allclose(net.risk(output), expected, rtol=2e-3)


def test_what_is_missing_is_told_from_the_mean() -> None:
    net = network().eval()
    x = torch.zeros(1, 4)
    unknown = torch.full((1, 4), torch.nan)
    with torch.no_grad():
        assert not np.allclose(net.encode(x)[0], net.encode(unknown)[0])
        assert bool(torch.isfinite(net(unknown)).all())


# Many tables at once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "options",
    [
        TrainingOptions(epochs=2, batch_size=10, learning_rate=0.02),
        TrainingOptions(steps=5, optimizer="adam", learning_rate=0.01, clip_norm=0.5),
        TrainingOptions(epochs=3, batch_size=16, optimizer="momentum", learning_rate=0.01, weight_decay=0.1),
    ],
)
def test_many_tables_at_once_equal_one_after_the_other(head: str, options: TrainingOptions) -> None:
    net = network(head=head, **HEADS[head])
    assert engine_for(net) == "vectorized"
    data = [patients(n, seed) for seed, n in enumerate((40, 7, 0, 23, 41, 1))]
    streams = Streams((3, 17), np.arange(6, dtype=np.uint64))
    weights, part = get_weights(net), (0.1, 0.3)
    changes, losses = train_many(net, weights, Tables.of(data, 4), options, streams, proximal=0.1, progress=part)
    for i, table in enumerate(data):
        rng = streams.generator(i)
        alone, loss = train(net, weights, table, options, rng, proximal=0.1, progress=part)
        change = alone.astype(np.float64) - weights
        far = np.linalg.norm(change)
        assert np.linalg.norm(changes[i] - change) <= 1e-5 * far + 1e-6 * np.linalg.norm(weights)
        np.testing.assert_allclose(losses[i], loss, rtol=1e-5)
    assert np.isnan(losses[2])


# Declaration ---------------------------------------------------------------------------------------------------------

DESIGN = (
    Column("age", "continuous", "clinical", 0, False, 61.0, 12.0),
    Column("group=b", "binary", "clinical", 1, False, 0.2, 0.4),
    Column("group=c", "binary", "clinical", 1, False, 0.1, 0.3),
    Column("lesions", "count", "genomic", 2, False, 3.0, 1.5),
    Column("TP53", "binary", "genomic", 3, False, 0.1, 0.3),
    Column("genomic 1", "continuous", "genomic", -1, False, 0.0, 1.0),
    Column("age missing", "binary", "clinical", 0, True, 0.3, 0.45),
)
TIMES = TimeScale(4.0, np.array([1.0, 2.0, 3.0, 8.0]), np.array([2.0, 4.0, 4.0, 2.0]), 30)


def test_a_declaration_has_the_federations_constants_and_is_plain() -> None:
    declared = SAVAENetwork.declare({"head": "piecewise", "pieces": 3, "kinds": {"age": "lognormal"}}, DESIGN, TIMES)
    assert [(v["kind"], v["columns"]) for v in declared["variables"]] == [
        ("lognormal", [0]),
        ("categorical", [1, 2]),
        ("count", [3]),
        ("bernoulli", [4]),
        ("gaussian", [5]),
        ("bernoulli", [6]),
    ]
    assert (declared["variables"][0]["shift"], declared["variables"][0]["scale"]) == (61.0, 12.0)
    assert declared["time_scale"] == pytest.approx(TIMES.scale)
    assert declared["horizon"] == 4.0
    assert len(declared["cuts"]) == 2
    built = build_network("savae", 7, declared)
    assert isinstance(built, SAVAENetwork)
    assert built.head.size == 3
    assert SAVAENetwork.declare({"time_scale": 9.0}, DESIGN, TIMES)["time_scale"] == 9.0


def test_a_kind_for_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match="'group=b'"):
        variables_of(DESIGN, {"group=b": "count"})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"head": "cox"}, "'cox'"),
        ({"latent": 0}, "latent is 0"),
        ({"annealing": 2.0}, "annealing is 2"),
        ({"kl_weight": -1.0}, "kl_weight is -1"),
        ({"time_scale": 0.0}, "time_scale is 0"),
        ({"variables": VARIABLES[:1]}, "variables cover 1"),
        ({"dropout": 1.0}, "dropout is 1"),
    ],
)
def test_impossible_parameters_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network("savae", 4, wrong)


# The estimators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_it_learns_with_missing_values(head: Any) -> None:
    x, y = survival_table(400)
    train_rows, test = np.arange(300), np.arange(300, 400)
    model = SAVAE(head=head, hidden=16, epochs=20, learning_rate=0.01, components=2, pieces=4, draws=32).fit(
        x[train_rows], y[train_rows]
    )
    assert model.score(x[test], y[test]) > 0.65
    curves = model.predict_survival_function(x[test], return_array=True)
    assert curves.shape == (100, len(model.unique_times_))
    assert ((curves >= 0) & (curves <= 1)).all()
    assert (np.diff(curves, axis=1) <= 1e-12).all()
    hazard = model.predict_cumulative_hazard_function(x[test], return_array=True)
    np.testing.assert_allclose(curves, np.exp(-hazard))
    at = np.array([0.0, 0.3, 0.3, 1.0, 1e6])
    steps = SurvivalEstimator.predict_survival(model, x[test], at)
    np.testing.assert_allclose(model.predict_survival(x[test], at), steps, atol=1e-12)
    times, overall = kaplan_meier_estimator(y["event"][train_rows], y["time"][train_rows])
    at = np.searchsorted(times, [0.3, 1.0], side="right") - 1
    mean = [np.mean([f(t) for f in model.predict_survival_function(x[train_rows])]) for t in (0.3, 1.0)]
    np.testing.assert_allclose(mean, overall[at], atol=0.08)


def test_it_is_a_function_of_its_random_state_and_of_no_other() -> None:
    x, y = survival_table(60)
    model = SAVAE(hidden=6, epochs=3, dropout=0.2, random_state=3)
    torch.manual_seed(1)
    first = model.fit(x, y).predict(x)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    again = clone(model).fit(x, y)
    np.testing.assert_array_equal(again.predict(x), first)
    np.testing.assert_array_equal(again.predict(x), again.predict(x))
    assert not np.array_equal(clone(model).set_params(random_state=4).fit(x, y).predict(x), first)


def test_scales_of_features_and_times_change_nothing() -> None:
    x, y = survival_table(80)
    model = SAVAE(hidden=6, epochs=3)
    ours = model.fit(x, y).predict_survival_function(x, return_array=True)
    longer = Surv.from_arrays(y["event"], y["time"] * 365.25)
    other = clone(model).fit(1000 * x - 7, longer).predict_survival_function(1000 * x - 7, return_array=True)
    np.testing.assert_allclose(ours, other, atol=1e-4)


def test_it_works_in_sklearns_tools() -> None:
    x, y = survival_table(90)
    scores = cross_val_score(SAVAE(hidden=6, epochs=2), x, y, cv=KFold(3))
    assert np.isfinite(scores).all()


def test_kinds_are_found_or_named() -> None:
    x, y = survival_table(60)
    model = SAVAE(hidden=4, epochs=1, kinds={1: "lognormal"}).fit(x, y)
    assert [v.kind for v in model.network_.likelihoods.variables] == ["bernoulli", "lognormal", "gaussian", "gaussian"]
    with pytest.raises(ValueError, match="lognormal is positive"):
        SAVAE(kinds={2: "lognormal"}).fit(x - 20, y)
    with pytest.raises(ValueError, match="'weight'"):
        SAVAE(kinds={"weight": "count"}).fit(x, y)


def two_causes(n: int = 500) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], Any]:
    """Features, times in twentieths, causes, and the time truly lost to each cause, shape (2, n)."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(n, 3))
    scales, shapes = np.exp(-x[:, :2]) * [1.0, 1.5], np.array([1.2, 0.9])
    latent = np.column_stack([scales * rng.weibull(shapes, (n, 2)), rng.exponential(2.0, n)])
    grid = np.linspace(0.001, 5, 1000)
    cumulative = (grid[:, None, None] / scales) ** shapes
    alive = np.exp(-cumulative.sum(axis=2, keepdims=True))
    incidence = np.cumsum(alive * np.diff(cumulative, axis=0, prepend=0), axis=0)
    return x, np.ceil(20 * latent.min(axis=1)) / 20, (np.argmin(latent, axis=1) + 1) % 3, incidence.sum(axis=0).T


def test_competing_causes() -> None:
    x, time, cause, truth = two_causes()
    fitted, test = np.arange(350), np.arange(350, 500)
    model = CompetingRisksSAVAE(hidden=16, epochs=20, learning_rate=0.01, draws=32).fit(
        x[fitted], time[fitted], cause[fitted]
    )
    incidence = model.predict_cumulative_incidence(x[test], return_array=True)
    survival = model.predict_survival_function(x[test], return_array=True)
    assert incidence.shape == (150, 2, len(model.unique_times_))
    np.testing.assert_allclose(incidence.sum(axis=1) + survival, 1, atol=1e-9)
    assert (np.diff(incidence, axis=2) >= -1e-12).all()
    # On average the Aalen-Johansen curves of those it was fitted on.
    mean = model.predict_cumulative_incidence(x[fitted], return_array=True).mean(axis=0)
    times, curves = cumulative_incidence_competing_risks(cause[fitted], time[fitted])
    at = np.searchsorted(times, [0.2, 0.5, 1.0], side="right") - 1
    ours = mean[:, np.searchsorted(model.unique_times_, times[at])]
    np.testing.assert_allclose(ours, curves[1:, at], atol=0.06)
    for j in (1, 2):  # Wolbers' C, where who had the other cause never has this one: near that of the truth
        until = np.where(cause[test] == 3 - j, time.max() + 1, time[test])
        best = concordance_index_censored(cause[test] == j, until, truth[j - 1, test])[0]
        assert concordance_index_censored(cause[test] == j, until, model.predict_cause(x[test], j))[0] > best - 0.04
        assert concordance_index_censored(cause[test] == j, until, model.predict_cause(x[test], 3 - j))[0] < 0.5


@pytest.mark.parametrize(
    ("cause", "message"), [([0, 1, 3], "without a gap"), ([0.5, 1, 2], "without a gap"), ([0, 0, 0], "all samples")]
)
def test_impossible_causes_are_refused(cause: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompetingRisksSAVAE().fit(np.arange(6.0).reshape(3, 2), [1.0, 2.0, 3.0], cause)
