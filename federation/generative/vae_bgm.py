"""VAE-BGM over centers: one encoding of all patients, an averaged autoencoder, the exact mixture of its latents.

Nothing is fitted at one center alone: histograms and scales are sums over all patients, the autoencoder is trained by
parameter averaging, and the mixture of the latent variables, which patients are drawn from, is that of the pooled
latents (the published federation fits it locally).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, register
from federation.averaging import ParameterAveraging, result
from federation.contribution import Contribution
from federation.generative.steps import RunTask
from federation.generative.survival_law import fit_survival_law
from federation.generative.variational_mixture import MixtureAlgorithm, mixture_of
from federation.kinds import COUNT, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.preprocessing import FitPreprocessor, OneRound
from federation.randomness import generator
from federation.state import State
from federation.strategies import FedAvg, Strategy
from harmonization import Schema
from models.generative.encoding import Encoding, encoding_sums
from models.generative.vae_bgm import FittedVAEBGM, VAEBGMOptions
from models.preprocessing import Preprocessor

Floats = NDArray[np.float64]


@register
@dataclass(frozen=True)
class FitEncoding(OneRound):
    """Histograms, counts and sums of all training patients; `encoding_of` makes an `Encoding` of them.

    Parameters
    ----------
    schema
        The federation's, for the coordinator.
    """

    name = "encoding"
    kinds = declare({**FitPreprocessor.kinds, "values": COUNT, "decimals": COUNT})

    schema: Schema | None = field(default=None, metadata=SERVER)

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Sums over training patients."""
        return Contribution.of(len(patients.train), encoding_sums(patients.train))

    def server_update(self, state: State, total: Contribution) -> State:
        """The sums."""
        return {"round": np.array(1), **{f"total/{name}": array for name, array in total.items()}}


def encoding_of(state: State, schema: Schema) -> Encoding:
    """The encoding in a final state of `FitEncoding`."""
    prefix = "total/"
    return Encoding(schema, {k.removeprefix(prefix): a for k, a in state.items() if k.startswith(prefix)})


@register
@dataclass(frozen=True)
class FitLatentMixture(MixtureAlgorithm):
    """One mixture of the latent variables that a trained autoencoder gives the patients.

    A patient's point is drawn once from the latent law, by a stream of the center's own that is the same in all rounds.

    Parameters
    ----------
    model_parameters
        Declaration of the autoencoder (`models.generative.vae.VAENetwork`).
    weights, preprocessor
        Of the autoencoder; they reach centers as arrays.
    """

    name = "latent-mixture"

    model_parameters: Mapping[str, Any] = field(default_factory=dict)
    weights: NDArray[np.float32] | None = field(default=None, metadata=SERVER)
    preprocessor: Preprocessor | None = field(default=None, metadata=SERVER)

    def constants(self) -> State:
        """Weights and preprocessor."""
        assert self.weights is not None, "the coordinator needs a trained autoencoder"
        assert self.preprocessor is not None, "the coordinator needs a fitted preprocessor"
        return {"weights": self.weights, **self.preprocessor.to_arrays("preprocessor/")}

    def broadcast(self, state: State) -> State:
        """What the solver's answer needs, the constants, and the seed of the draws."""
        kept = {n: a for n, a in state.items() if n in ("weights", "seed") or n.startswith("preprocessor/")}
        return {**self._solver(0).broadcast(state), **kept}

    def points(self, state: State, patients: Patients) -> Floats:
        """Latent variables as one block, computed once for the same autoencoder and seed."""
        from models.generative.vae import VAENetwork  # torch, which other algorithms do without

        key = state["weights"].tobytes() + state["seed"].tobytes()
        found = _POINTS.get(patients)
        if found is None or found[0] != key:
            preprocessor = Preprocessor.from_arrays(state, "preprocessor/")
            network = VAENetwork(preprocessor.n_features, **self.model_parameters)
            x = preprocessor.transform(patients.train)
            rng = generator(int(state["seed"]), self.name, patients.position)
            z = network.latents(state["weights"], x, rng.standard_normal((len(x), network.latent)))
            found = _POINTS[patients] = key, z[:, None]
        return found[1]


_POINTS: WeakKeyDictionary[Patients, tuple[bytes, Floats]] = WeakKeyDictionary()


def fit_vae_bgm(
    run: RunTask,
    schema: Schema,
    options: VAEBGMOptions | None = None,
    strategy: Strategy | None = None,
) -> FittedVAEBGM:
    """VAE-BGM of the training patients of all centers.

    Parameters
    ----------
    run
        Asks the federation.
    schema
        The federation's.
    options
        See `models.generative.vae_bgm.VAEBGMOptions`.
    strategy
        By which the autoencoder is averaged: `FedAvg` by default, `FedProx`, ….
    """
    options = options or VAEBGMOptions()
    encoding = encoding_of(run("encoding", FitEncoding(schema)), schema)
    parameters = {**encoding.declare(), **options.network}
    averaging = ParameterAveraging.create(
        strategy or FedAvg(),
        model="vae",
        model_parameters=parameters,
        training=options.training,
        rounds=options.rounds,
        preprocessor=encoding.preprocessor,
    )
    weights = result(run("autoencoder", averaging))
    latent = FitLatentMixture(options.mixture, parameters, weights, encoding.preprocessor)
    mixture = mixture_of(run("latent mixture", latent), latent)
    return FittedVAEBGM(encoding, parameters, weights, mixture, fit_survival_law(run, schema, options.law))
