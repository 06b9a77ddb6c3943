"""VAE-BGM: patients drawn from a Gaussian mixture of an autoencoder's latent variables.

An autoencoder learns the features and which of them are missing (`models.generative.vae`); a Bayesian Gaussian mixture
is fitted to its latent variables (`models.generative.variational_mixture`); a point drawn from the mixture is decoded,
each value is drawn from its law, and time and event from two Cox models of all features (`survival_law`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort, Schema
from models.generative.drawing import GenerativeModel, PatientGenerator
from models.generative.encoding import Encoding, encoding_sums
from models.generative.survival_law import LawOptions, SurvivalLaw
from models.generative.variational_mixture import FittedMixture, MixtureOptions, fit_mixture
from models.steps import TrainingData, TrainingOptions

_FEWEST = 4096
"""Latent points at least of which the densities of fixed values are compared."""


@dataclass(frozen=True)
class VAEBGMOptions:
    """How the parts are fitted.

    Parameters
    ----------
    network
        Parameters of `models.generative.vae.VAENetwork` (latent, hidden, kl_weight, …).
    training, rounds
        Of a round, and how many; on one table the rounds follow each other.
    mixture
        Of the latent variables.
    law
        Of times and events.
    """

    network: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingOptions = TrainingOptions(epochs=5, batch_size=64, optimizer="adam", learning_rate=2e-3)
    rounds: int = 30
    mixture: MixtureOptions = MixtureOptions(components=10)
    law: LawOptions = LawOptions()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; 1 or more")


@dataclass(frozen=True, eq=False)
class FittedVAEBGM(PatientGenerator):
    """A model to draw patients from.

    Parameters
    ----------
    encoding
        Between patients and the network's values.
    parameters, weights
        Of the network.
    mixture
        Of its latent variables, one block.
    law
        Of times and events given the features.
    """

    encoding: Encoding
    parameters: Mapping[str, Any]
    weights: NDArray[np.float32]
    mixture: FittedMixture
    law: SurvivalLaw

    @property
    def schema(self) -> Schema:
        """Of the patients."""
        return self.encoding.schema

    def _propose(self, n: int, fixed: Mapping[int, float], rng: np.random.Generator) -> Cohort:
        """Latent points kept by the density of the fixed values there, relative to the largest of the batch."""
        from models.generative.vae import VAENetwork  # torch, which declaring a fit does without

        z, _ = self.mixture.sample(max(n, _FEWEST) if fixed else n, rng)
        z = z[:, 0]
        network = VAENetwork(self.encoding.preprocessor.n_features, **self.parameters)
        if fixed:
            density = network.log_density(self.weights, z, self.encoding.encode_some(fixed, network.values))
            z = z[np.log(rng.random(len(z))) < density - density.max()]
        drawn = network.draw(self.weights, z, int(rng.integers(2**63)))
        return self._cohort(self.encoding.values(drawn, rng, fixed))

    def _occurs(self, feature: int, value: float) -> bool:
        """By the counts."""
        return self.encoding.has(feature, value)


class VAEBGM(GenerativeModel[FittedVAEBGM]):
    """VAE-BGM of one table.

    Parameters
    ----------
    options
        See `VAEBGMOptions`.
    seed
        Of weights, batches, latent draws and the mixture's start.

    Attributes
    ----------
    fitted_
        The fitted model.

    References
    ----------
    Apellániz et al. (2024), An improved tabular data generator with VAE-GMM integration, EUSIPCO.
    """

    def __init__(self, options: VAEBGMOptions | None = None, seed: int = 0) -> None:
        self.options, self.seed = options or VAEBGMOptions(), seed

    def fit(self, cohort: Cohort) -> VAEBGM:
        """Train the autoencoder on a cohort, and fit mixture and laws of times."""
        from models.flat import get_weights
        from models.generative.vae import VAENetwork
        from models.training import train

        options, encoding = self.options, Encoding(cohort.schema, encoding_sums(cohort))
        parameters = {**encoding.declare(), **options.network}
        network = VAENetwork(encoding.preprocessor.n_features, **parameters)
        rng = np.random.default_rng(np.random.SeedSequence([self.seed]))
        network.initialize(rng)
        weights = get_weights(network)
        data = TrainingData(encoding.preprocessor.transform(cohort), cohort.time, cohort.event)
        for r in range(options.rounds):
            part = (r / options.rounds, (r + 1) / options.rounds)
            weights, _ = train(network, weights, data, options.training, rng, progress=part)
        z = network.latents(weights, data.x, rng.standard_normal((len(data), network.latent)))
        mixture = fit_mixture(z[:, None], options.mixture, self.seed)
        law = SurvivalLaw.fit(cohort, options.law)
        self.fitted_ = FittedVAEBGM(encoding, parameters, weights, mixture, law)
        return self
