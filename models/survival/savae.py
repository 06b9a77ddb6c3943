"""SAVAE: a variational autoencoder of a patient's features and time to event, missing values left out.

An encoder maps what is known of a patient to a normal law of a few latent variables; one decoder maps these back to the
law of each feature, another to the law of the time. Trained on all three terms of the evidence bound, used by the
posterior predictive survival: the mean of the time's law over the latent law of the patient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from models.likelihoods import Likelihoods, Variable, VariableKind
from models.preprocessing import Design
from models.survival.network import Activation, SurvivalNetwork
from models.survival.time_heads import CompetingRisksHead, HeadName, TimeHead, build_head
from models.survival.time_scale import TimeScale
from models.variational import annealed, divergence, drawn, initialize, layers, require_latent_options, seen

EARLIEST = 1e-4
"""Times, in units of the time scale, are at least this: at time 0 a Weibull density may be infinite."""

_AT_ONCE = 4_000_000  # numbers of a prediction held at a time: bounds memory


@dataclass(frozen=True)
class Endpoint:
    """Time in units of the time scale, event (or cause), and whose table it is; each of shape (n,)."""

    time: torch.Tensor
    event: torch.Tensor
    table: torch.Tensor

    def to(self, device: torch.device | str) -> Endpoint:
        """The same on another device."""
        return Endpoint(self.time.to(device), self.event.to(device), self.table.to(device))


class SAVAENetwork(SurvivalNetwork):
    """Encoder, decoder of features and decoder of the time.

    Parameters
    ----------
    n_features
        Width p of the design matrix, in which NaN is missing.
    latent, hidden, activation, dropout
        Latent variables; width of the hidden layer of encoder and decoders, its activation, and the probability of
        dropping a hidden unit in training.
    head, components, cuts
        Law of the time (`models.survival.time_heads.build_head`); cuts in the unit of time.
    pieces
        Of the ``piecewise`` head, for `declare`, which cuts at quantiles of the event times.
    kinds
        Column name -> kind of variable, for `declare`, which otherwise takes continuous columns for gaussian.
    causes
        Number of competing causes; with more than one, `event` holds 0 for censoring or the cause's number.
    reconstruction_weight
        Of the features' log density in the loss. At 1 the bound is that of the joint law, in which p features outweigh
        one time.
    kl_weight, annealing
        Weight of the divergence from the prior, which rises linearly from 0 to this during so large a part of the
        training (0: from the start).
    draws
        Latent points that a prediction averages over, the same for every patient: a low-discrepancy set of normal
        numbers with its mirror image, so prediction draws no random number.
    variables
        What the columns are (`models.likelihoods.Variable` as plain data); all gaussian by default.
    time_scale, horizon
        Unit of time inside the network, and until when survival is integrated for the risk. Constants for everybody.

    References
    ----------
    Apellániz, Parras & Zazo (2024), Leveraging the variational Bayes autoencoder for survival analysis, Sci Rep
    14:24567. CR-SAVAE: the same authors, competing risks.
    """

    proportional = False
    accepts_missing = True
    separable = True

    def __init__(
        self,
        n_features: int,
        latent: int = 5,
        hidden: int = 50,
        activation: Activation = "tanh",
        dropout: float = 0.0,
        head: HeadName = "weibull",
        components: int = 3,
        pieces: int = 5,
        cuts: Sequence[float] = (),
        kinds: Mapping[str, VariableKind] | None = None,
        causes: int = 1,
        reconstruction_weight: float = 0.1,
        kl_weight: float = 0.03,
        annealing: float = 0.3,
        draws: int = 128,
        variables: Sequence[Mapping[str, Any]] | None = None,
        time_scale: float = 1.0,
        horizon: float = 5.0,
    ) -> None:
        super().__init__()
        require_latent_options(latent, kl_weight, annealing)
        for name, size in (("hidden", hidden), ("causes", causes), ("draws", draws)):
            if not isinstance(size, int | np.integer) or size < 1:
                raise ValueError(f"{name} is {size!r}; it is a whole number from 1 on")
        if not reconstruction_weight >= 0:
            raise ValueError(f"reconstruction_weight is {reconstruction_weight!r}; it must not be negative")
        for name, length in (("time_scale", time_scale), ("horizon", horizon)):
            if not 0 < length < math.inf:
                raise ValueError(f"{name} is {length!r}; it must be positive")
        self.noise = self.latent = latent
        self.width = hidden
        self.reconstruction_weight, self.kl_weight, self.annealing = reconstruction_weight, kl_weight, annealing
        self.time_scale, self.horizon, self.causes = time_scale, horizon, causes
        self.likelihoods = Likelihoods(
            [Variable("gaussian", (j,)) for j in range(n_features)] if variables is None else variables
        )
        if self.likelihoods.n_columns != n_features:
            raise ValueError(f"variables cover {self.likelihoods.n_columns} columns, the design has {n_features}")
        scaled = [cut / time_scale for cut in cuts]
        heads: list[TimeHead] = [build_head(head, components, scaled) for _ in range(causes)]
        self.head: TimeHead | CompetingRisksHead = heads[0] if causes == 1 else CompetingRisksHead(heads)
        self._nodes = torch.as_tensor(latent_nodes(draws, latent), dtype=torch.float32)
        self.encoder = layers(2 * n_features, (hidden,), 2 * latent, activation, dropout)
        self.decoder = layers(latent, (hidden,), self.likelihoods.size, activation, dropout)
        self.time_decoder = layers(latent, (hidden,), self.head.size, activation, dropout)

    @classmethod
    def declare(cls, parameters: Mapping[str, Any], design: Design, times: TimeScale) -> dict[str, Any]:
        """What the columns are, the time scale (mean event time), the horizon and the cut points."""
        found = {"time_scale": times.scale, "horizon": times.horizon, **parameters}
        if "variables" not in found:
            found["variables"] = [v.to_dict() for v in variables_of(design, found.get("kinds") or {})]
        if found.get("head") == "piecewise" and "cuts" not in found:
            found["cuts"] = times.cuts(found.get("pieces", 5))[:-1].tolist()
        return found

    def initialize(self, rng: np.random.Generator) -> None:
        """See `models.variational.initialize`."""
        initialize((self.encoder, self.decoder, self.time_decoder), rng)

    def encode(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the latent law, each (n, latent), from known values and which are missing.

        `noise` is what `forward` leaves of its own, for encoders that draw as well.
        """
        mean, log_variance = self.encoder(seen(x)).chunk(2, -1)
        return mean, log_variance

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor | None = None, progress: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """What `loss`, `risk` and `survival` need.

        Parameters
        ----------
        x
            Shape (n, p).
        noise
            In training, standard normal numbers of shape (n, latent).
        progress
            In training, the part of it that is done, 0 to 1: the weight of the divergence follows it.

        Returns
        -------
        tensor
            In training (n, 1 + k): the two terms of the bound that the time has no part in, weighted, and the k numbers
            of the time's law. In evaluation (n, draws · k): those numbers at every latent point.
        """
        if not self.training:
            rows = max(1, _AT_ONCE // (len(self._nodes) * self.width))
            return torch.cat([self._predict(part) for part in torch.split(x, rows)])
        if noise is None:
            raise ValueError("training draws latent variables: give noise of shape (n, latent), or call eval() before")
        mean, log_variance = self.encode(x, noise[..., self.latent :])
        z = drawn(mean, log_variance, noise[..., : self.latent])
        reconstruction = self.likelihoods.log_density(self.decoder(z), x)
        weight = annealed(self.kl_weight, self.annealing, progress)
        penalty = weight * divergence(mean, log_variance) - self.reconstruction_weight * reconstruction
        return torch.cat([penalty.unsqueeze(-1), self.time_decoder(z)], -1)

    def _predict(self, x: torch.Tensor) -> torch.Tensor:
        mean, log_variance = self.encode(x)
        z = mean.unsqueeze(1) + (0.5 * log_variance).exp().unsqueeze(1) * self._nodes.to(x)
        numbers: torch.Tensor = self.time_decoder(z)
        return numbers.flatten(1)

    def prepare(self, time: NDArray[np.float64], event: NDArray[Any]) -> Endpoint:
        """What `loss` needs of the endpoint."""
        return self.prepare_many(time, event, np.zeros(len(time), dtype=np.int64))

    def prepare_many(self, time: NDArray[np.float64], event: NDArray[Any], table: NDArray[np.int64]) -> Endpoint:
        """What `losses` needs of the endpoints of many tables; `table` says whose each patient is, from 0 on."""
        kind = torch.float32 if self.causes == 1 else torch.int64
        scaled = torch.as_tensor(np.maximum(time / self.time_scale, EARLIEST), dtype=torch.float32)
        return Endpoint(scaled, torch.as_tensor(np.asarray(event)).to(kind), torch.as_tensor(table))

    def losses(self, output: torch.Tensor, target: Endpoint) -> torch.Tensor:
        """The mean loss of each table's patients, shape (tables,), from the output for all patients."""
        terms = self._terms(output, target)
        tables = int(target.table.max()) + 1 if len(target.table) else 0
        sums, counts = terms.new_zeros(tables), torch.bincount(target.table, minlength=tables)
        return sums.index_add(0, target.table, terms) / counts.to(terms.dtype)

    def loss(self, output: torch.Tensor, target: Endpoint) -> torch.Tensor:
        """Mean per patient: in training minus the (weighted) evidence bound; in evaluation minus the log of the
        posterior predictive density of the time (of the survival, for censored patients)."""
        return self._terms(output, target).mean()

    def _terms(self, output: torch.Tensor, target: Endpoint) -> torch.Tensor:
        time = target.time.to(output.dtype)
        event = target.event.to(output.dtype) if self.causes == 1 else target.event
        if self.training:
            return output[:, 0] - self.head.log_likelihood(output[:, 1:], time, event)
        numbers = self._numbers(output)
        likelihood = self.head.log_likelihood(numbers, time.unsqueeze(-1), event.unsqueeze(-1))
        return math.log(numbers.shape[1]) - torch.logsumexp(likelihood, -1)

    def _numbers(self, output: torch.Tensor) -> torch.Tensor:
        """Evaluation's output as (n, draws, k)."""
        return output.reshape(len(output), output.shape[-1] // self.head.size, self.head.size)

    def survival(self, output: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Posterior predictive survival (of all causes) at times in the unit of time, shape (n, t)."""
        return self._mean_over_draws(self.head.survival, output, times)

    def incidence(self, output: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Posterior predictive cumulative incidence of each cause at increasing times, shape (n, causes, t)."""
        if not isinstance(self.head, CompetingRisksHead):
            return 1 - self.survival(output, times).unsqueeze(1)
        return self._mean_over_draws(self.head.incidence, output, times)

    def cause_risk(self, output: torch.Tensor) -> torch.Tensor:
        """Time lost to each cause up to the horizon, ∫Fⱼ, shape (n, causes): higher is worse."""
        times = torch.linspace(0, self.horizon, 129, dtype=torch.float64)
        return torch.trapezoid(self.incidence(output, times), times.to(output.dtype))

    def _mean_over_draws(self, function: Any, output: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        scaled = torch.as_tensor(times, dtype=output.dtype) / self.time_scale
        scaled = torch.where(scaled > 0, scaled.clamp(min=EARLIEST), 0.0)
        rows = max(1, _AT_ONCE // max(1, len(self._nodes) * len(scaled)))
        return torch.cat([function(self._numbers(part), scaled).mean(1) for part in torch.split(output, rows)])

    def risk(self, output: torch.Tensor) -> torch.Tensor:
        """Minus the restricted mean survival time up to the horizon, shape (n,): higher is worse."""
        nodes, weights = np.polynomial.legendre.leggauss(32)
        times = torch.as_tensor((nodes + 1) / 2 * self.horizon, dtype=output.dtype)
        lengths = torch.as_tensor(weights / 2 * self.horizon, dtype=output.dtype)
        return -(self.survival(output, times) @ lengths)


def variables_of(design: Design, kinds: Mapping[str, VariableKind]) -> list[Variable]:
    """The variables of a design matrix: columns of one categorical feature together.

    Raises
    ------
    ValueError
        If `kinds` names a column that is none, or one of several of a categorical feature.
    """
    groups: dict[tuple[int, bool], list[int]] = {}
    alone = []
    for j, column in enumerate(design):
        if column.kind == "binary" and column.feature >= 0:
            groups.setdefault((column.feature, column.indicator), []).append(j)
        else:
            alone.append(j)
    found = [Variable("categorical" if len(g) > 1 else "bernoulli", tuple(g)) for g in groups.values()]
    usual: dict[str, VariableKind] = {"continuous": "gaussian", "count": "count", "binary": "bernoulli"}
    found += [Variable(usual[design[j].kind], (j,), design[j].mean, design[j].scale) for j in alone]
    single = {design[v.columns[0]].name: i for i, v in enumerate(found) if len(v.columns) == 1}
    for name, kind in kinds.items():
        if name not in single:
            raise ValueError(f"kinds names {name!r}, which is no single column; there are {', '.join(single)}")
        column = design[found[single[name]].columns[0]]
        found[single[name]] = Variable(kind, found[single[name]].columns, column.mean, column.scale)
    return sorted(found, key=lambda v: v.columns)


def latent_nodes(draws: int, latent: int) -> NDArray[np.float64]:
    """A low-discrepancy set of standard normal points, shape (draws, latent), closed under change of sign.

    Half of them are the first points of Roberts' sequence u = ½ + i·(φ⁻¹, φ⁻², …), φ^(latent+1) = φ + 1, through the
    normal quantile function; all are turned and stretched to covariance 1, so that means of quadratic functions are
    exact. One draw is the mean of the law.

    References
    ----------
    Roberts (2018), The unreasonable effectiveness of quasirandom sequences.
    """
    half = draws // 2
    ratio = 2.0
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (latent + 1))
    u = (0.5 + np.arange(1, half + 1)[:, None] * ratio ** -np.arange(1, latent + 1)) % 1
    z = ndtri(u)
    points = np.concatenate([z, -z, np.zeros((draws % 2, latent))])
    if half < latent:
        return points
    eigenvalues, axes = np.linalg.eigh(points.T @ points / draws)
    return np.asarray(points @ (axes / np.sqrt(eigenvalues)) @ axes.T)
