"""A variational autoencoder of patients' features: encoder, decoder, and which values are missing.

What is known of a patient is scored under laws of its kind (`models.likelihoods`) with learned deviations; that a value
is missing is a 0/1 variable of its own, given the latent variables as the values are. Time and event have no part in
it, so the training loop, its batched engine and the averaging over centers take it as they take any network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.flat import bind
from models.likelihoods import Likelihoods, Variable
from models.survival.network import Activation
from models.survival.separable import SeparableNetwork
from models.variational import annealed, divergence, drawn, initialize, layers, require_latent_options, seen

Floats = NDArray[np.float64]


class VAENetwork(SeparableNetwork):
    """The autoencoder. Its loss is minus the (weighted) evidence bound per patient.

    Parameters
    ----------
    n_features
        Width p of the design matrix, in which NaN is missing.
    latent, hidden, activation, dropout
        Latent variables; widths of the hidden layers of the encoder (the decoder has them in reverse), their
        activation, and the probability of dropping a hidden unit in training.
    kl_weight, annealing
        Weight of the divergence from the prior, which rises linearly from 0 to this during so large a part of the
        training (0: from the start). At 1 it is the bound itself; below, the latent variables keep more of a patient.
    variables
        What the columns are (`models.likelihoods.Variable` as plain data); all gaussian by default.
    lines
        Columns that are learned by another value: ``column``, and the piecewise linear function through ``knots`` and
        ``scores``, flat beyond its ends (`models.generative.encoding.Encoding.declare`).
    masks
        Columns whose missingness is modelled, each for all features that are missing with it.

    References
    ----------
    Nazábal et al. (2020), Handling incomplete heterogeneous data using VAEs, Pattern Recognition 107:107501.
    Apellániz et al. (2024), An improved tabular data generator with VAE-GMM integration, EUSIPCO.
    """

    accepts_missing = True

    def __init__(
        self,
        n_features: int,
        latent: int = 10,
        hidden: Sequence[int] = (64,),
        activation: Activation = "relu",
        dropout: float = 0.0,
        kl_weight: float = 1.0,
        annealing: float = 0.3,
        variables: Sequence[Mapping[str, Any]] | None = None,
        lines: Sequence[Mapping[str, Any]] = (),
        masks: Sequence[int] = (),
    ) -> None:
        super().__init__()
        require_latent_options(latent, kl_weight, annealing)
        self.noise = self.latent = latent
        self.kl_weight, self.annealing = kl_weight, annealing
        given = [Variable("gaussian", (j,)) for j in range(n_features)] if variables is None else variables
        known = Likelihoods(given)
        if known.n_columns != n_features:
            raise ValueError(f"variables cover {known.n_columns} columns, the design has {n_features}")
        absent = [Variable("bernoulli", (n_features + j,)) for j in range(len(masks))]
        self.likelihoods = Likelihoods([*known.variables, *absent])
        discrete = [c for v in known.variables if v.kind in ("bernoulli", "categorical") for c in v.columns]
        self._discrete = torch.isin(torch.arange(n_features), torch.tensor(discrete, dtype=torch.int64))
        self._masks = torch.tensor(list(masks), dtype=torch.int64)
        self._lines = _Lines(n_features, lines)
        self.encoder = layers(2 * n_features, hidden, 2 * latent, activation, dropout)
        self.decoder = layers(latent, tuple(reversed(hidden)), self.likelihoods.size, activation, dropout)

    def initialize(self, rng: np.random.Generator) -> None:
        """See `models.variational.initialize`."""
        initialize((self.encoder, self.decoder), rng)

    def values(self, x: torch.Tensor) -> torch.Tensor:
        """What is learned of a design matrix (..., p): 0 or 1, scores of numbers, NaN; then 1 for a masked group."""
        missing = torch.isnan(x)
        y = torch.where(self._discrete.to(x.device), (x > 0).to(x.dtype), self._lines(x))
        y = torch.where(missing, torch.nan, y)
        return torch.cat([y, missing[..., self._masks.to(x.device)].to(x.dtype)], -1)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the latent law of patients (n, p), each (n, latent)."""
        return self._encode(self.values(x)[..., : x.shape[-1]])

    def _encode(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = self.encoder(seen(y)).chunk(2, -1)
        return mean, log_variance

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor | None = None, progress: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """Each patient's loss, shape (n,); in evaluation at the mean of the latent law, with the whole divergence.

        Parameters
        ----------
        x
            Shape (n, p).
        noise
            In training, standard normal numbers of shape (n, latent).
        progress
            In training, the part of it that is done, 0 to 1.
        """
        y = self.values(x)
        mean, log_variance = self._encode(y[..., : x.shape[-1]])
        weight: torch.Tensor | float = self.kl_weight
        z = mean
        if self.training:
            if noise is None:
                raise ValueError("training draws latent variables: give noise of shape (n, latent), or call eval()")
            z = drawn(mean, log_variance, noise)
            weight = annealed(self.kl_weight, self.annealing, progress)
        return weight * divergence(mean, log_variance) - self.likelihoods.log_density(self.decoder(z), y)

    def endpoint(self, time: NDArray[np.float64], event: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
        """Nothing: the loss is one of features."""
        return ()

    def terms(self, output: torch.Tensor, *endpoint: torch.Tensor) -> torch.Tensor:
        """The output is the loss."""
        return output

    def risk(self, output: torch.Tensor) -> torch.Tensor:
        """The same for everybody: it knows nothing of time."""
        return torch.zeros_like(output)

    @torch.no_grad()
    def latents(self, weights: NDArray[np.floating], x: Floats, noise: Floats) -> Floats:
        """A draw of each patient's latent law, shape (n, latent), in double precision.

        Draws, not means, since together they are distributed as the decoder was trained to see them.
        """
        self.double().eval()
        bind(self, weights)
        mean, log_variance = self.encode(torch.as_tensor(x))
        found: Floats = drawn(mean, log_variance, torch.as_tensor(noise)).numpy()
        return found

    @torch.no_grad()
    def log_density(self, weights: NDArray[np.floating], z: Floats, y: Floats) -> Floats:
        """Of some `values`, shape (1, p + masks) with NaN where there is none, at latent points; shape (n,)."""
        self.double().eval()
        bind(self, weights)
        output = self.decoder(torch.as_tensor(z))
        found: Floats = self.likelihoods.log_density(output, torch.as_tensor(y).expand(len(z), -1)).numpy()
        return found

    @torch.no_grad()
    def draw(self, weights: NDArray[np.floating], z: Floats, seed: int) -> Floats:
        """Draw `values` of patients from the laws at latent points, shape (n, p + masks)."""
        self.double().eval()
        bind(self, weights)
        output = self.decoder(torch.as_tensor(z))
        found: Floats = self.likelihoods.sample(output, torch.Generator().manual_seed(seed)).numpy()
        return found


class _Lines:
    """Piecewise linear functions of some columns, the others as they are."""

    def __init__(self, n_features: int, lines: Sequence[Mapping[str, Any]]) -> None:
        columns = [int(line["column"]) for line in lines]
        most = max([2, *(len(line["knots"]) for line in lines)])

        def padded(values: Sequence[float]) -> list[float]:
            return [*values, *[values[-1]] * (most - len(values))]

        knots = torch.tensor([padded(line["knots"]) for line in lines], dtype=torch.float64).reshape(-1, most)
        scores = torch.tensor([padded(line["scores"]) for line in lines], dtype=torch.float64).reshape(-1, most)
        width = knots.diff(dim=-1)
        self.start, self.width = knots[:, :-1], torch.where(width > 0, width, 1.0)
        self.first, self.rise = scores[:, 0], scores.diff(dim=-1)
        self.columns = torch.tensor(columns, dtype=torch.int64)
        others = [j for j in range(n_features) if j not in set(columns)]
        self.others = torch.tensor(others, dtype=torch.int64)
        self.order = torch.argsort(torch.tensor([*others, *columns], dtype=torch.int64))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if not len(self.columns):
            return x
        start, width, rise = (part.to(x) for part in (self.start, self.width, self.rise))
        parts = ((x[..., self.columns.to(x.device), None] - start) / width).clamp(0.0, 1.0)
        scores = self.first.to(x) + (parts * rise).sum(-1)
        return torch.cat([x[..., self.others.to(x.device)], scores], -1)[..., self.order.to(x.device)]
