"""VAE-BGM over centers: the encoding is the pooled one, a full-batch step too, and the mixture scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from federation import Algorithm, DisclosurePolicy, ParameterAveraging, State, run
from federation.generative import FitEncoding, FitLatentMixture, encoding_of, fit_vae_bgm, mixture_of
from federation.randomness import entropies, entropy, generator
from federation.strategies import FedProx
from harmonization import Cohort
from models.batched.streams import Streams
from models.flat import bind
from models.generative import LawOptions, MixtureOptions, VAEBGMOptions
from models.generative.encoding import Encoding, encoding_sums
from models.generative.vae import VAENetwork
from models.steps import TrainingOptions
from tests.federation.generative.test_bayesian_network import dealt
from tests.federation.hospitals import federation_of
from tests.models.generative.tables import SCHEMA, patients
from tests.models.generative.test_variational_mixture import theirs

EVERYBODY = DisclosurePolicy(min_patients=0)
NETWORK = {"latent": 2, "hidden": [8]}


def cohort() -> Cohort:
    return patients(240, seed=4)


def encoding() -> Encoding:
    return Encoding(SCHEMA, encoding_sums(cohort()))


def test_the_encoding_is_the_pooled_one() -> None:
    found = encoding_of(run(FitEncoding(SCHEMA), federation_of(dealt(cohort(), 5), policy=EVERYBODY)), SCHEMA)
    mine, pooled = found.declare(), encoding().declare()
    assert mine["masks"] == pooled["masks"]
    for a, b in zip(mine["lines"], pooled["lines"], strict=True):
        np.testing.assert_allclose(a["knots"], b["knots"], atol=1e-12)
        np.testing.assert_array_equal(a["scores"], b["scores"])
    np.testing.assert_allclose(found.preprocessor.mean, encoding().preprocessor.mean, atol=1e-12)


def test_a_full_batch_step_is_one_on_the_pooled_patients() -> None:
    centers = dealt(cohort(), 3)
    preprocessor, parameters = encoding().preprocessor, {**encoding().declare(), **NETWORK}
    algorithm = ParameterAveraging(
        "vae", parameters, TrainingOptions(steps=1, learning_rate=0.01), rounds=1, preprocessor=preprocessor
    )
    federation = federation_of(centers, policy=EVERYBODY, task="run")
    start, after = algorithm.start(federation.roster)["weights"], run(algorithm, federation)["weights"]

    # The pooled patients, with the random numbers that their centers drew for them.
    streams = Streams(
        entropies(0, algorithm.name, "run", 0), np.array([entropy(name) for name in centers], dtype=np.uint64)
    )
    noise = []
    for j, mine in enumerate(centers.values()):
        rng = streams.generator(j)
        rng.integers(2**63)  # the seed of dropout
        noise.append(rng.standard_normal((len(mine), 2)))
    network = VAENetwork(preprocessor.n_features, **parameters).double().train()
    weights, gradient = bind(network, start)
    everybody = Cohort.concatenate(list(centers.values()))
    x, target = torch.as_tensor(preprocessor.transform(everybody)), network.prepare(everybody.time, everybody.event)
    loss = network.loss(network(x, torch.as_tensor(np.concatenate(noise)), 0.0), target)
    loss.backward()  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(after, weights.detach() - 0.01 * gradient, atol=1e-6)
    assert np.abs(after - start).max() > 1e-3


@pytest.mark.parametrize("centers", [3, 20])
def test_the_mixture_is_scikit_learns_of_the_pooled_latents(centers: int) -> None:
    options = MixtureOptions(components=3, max_iter=25)
    preprocessor, parameters = encoding().preprocessor, {**encoding().declare(), **NETWORK}
    network = VAENetwork(preprocessor.n_features, **parameters)
    network.initialize(np.random.default_rng(3))
    weights = np.concatenate([p.detach().numpy().ravel() for p in network.parameters()])
    algorithm = FitLatentMixture(options, parameters, weights, preprocessor)
    parts = dealt(cohort(), centers)
    found = mixture_of(run(algorithm, federation_of(parts, policy=EVERYBODY, seed=7)), algorithm)

    points = []
    for position, part in enumerate(parts.values()):
        noise = generator(7, algorithm.name, position).standard_normal((len(part), 2))
        points.append(network.latents(weights, preprocessor.transform(part), noise))
    expected = theirs(np.concatenate(points), options, seed=7)
    np.testing.assert_allclose(found.means[0], expected.means_, atol=1e-6)
    np.testing.assert_allclose(found.covariances[0], expected.covariances_, atol=1e-6)
    np.testing.assert_allclose(found.weights[0], expected.weights_, atol=1e-6)
    assert int(found.state["block_iterations"][0]) == expected.n_iter_


def test_all_rounds_give_a_model_that_draws_patients() -> None:
    options = VAEBGMOptions(
        NETWORK,
        TrainingOptions(epochs=3, batch_size=32, optimizer="adam", learning_rate=0.02),
        rounds=6,
        mixture=MixtureOptions(components=3, max_iter=15),
        law=LawOptions(resolution=7.0, horizon=3652),
    )
    centers, names = dealt(cohort(), 3), []

    def run_task(name: str, algorithm: Algorithm) -> State:
        names.append(name)
        return run(algorithm, federation_of(centers, policy=EVERYBODY, task=name))

    model = fit_vae_bgm(run_task, SCHEMA, options)
    assert len(set(names)) == len(names) == 6
    found = model.sample(2000, seed=1)
    again = Cohort.from_frame(found.to_frame(), SCHEMA)
    np.testing.assert_array_equal(again.values, found.values)
    for name in SCHEMA.names:
        a, b = cohort().column(name), found.column(name)
        assert np.isnan(b).mean() == pytest.approx(np.isnan(a).mean(), abs=0.06)
        assert np.nanmean(b) == pytest.approx(np.nanmean(a), abs=0.3 * np.nanstd(a))
    proximal = fit_vae_bgm(run_task, SCHEMA, options, FedProx(mu=1.0))
    assert np.abs(proximal.weights - model.weights).max() > 1e-3
