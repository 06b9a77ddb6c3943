"""The networks of CTGAN and their steps: the `ctgan` package's generator and discriminator as one flat vector.

The losses are CTGAN's: the critic's difference with a gradient penalty (Gulrajani et al. 2017, eq. 3), for the
generator the critic's value and the cross-entropy of the state it was asked for (Xu et al. 2019, section 4.3). All
parameters of both networks travel as one vector. The statistics of batch normalization do not: what enters the
generator is noise and states drawn from counts, no patient, so `settle` finds the statistics that belong to any
weights, those of an average among them. (Statistics collected in the centers belong to the centers' weights.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from models.flat import bind, get_weights
from models.generative.ctgan import CTGANOptions
from models.generative.table_encoding import TableEncoding

try:
    from ctgan.synthesizers.ctgan import Discriminator, Generator
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "CTGAN needs the ctgan package (Business Source License 1.1): pip install 'haemfed[synthetic]'"
    ) from error

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BETAS = (0.5, 0.9)  # of Adam, as in CTGAN


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator, which the networks draw from, and put it back."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


@dataclass(frozen=True, eq=False)
class Networks:
    """Generator and discriminator for one encoding.

    Parameters
    ----------
    encoding
        Of the patients.
    options
        See `models.generative.ctgan.CTGANOptions`.
    """

    encoding: TableEncoding
    options: CTGANOptions
    generator: Any
    discriminator: Any

    @classmethod
    def build(cls, encoding: TableEncoding, options: CTGANOptions, seed: int) -> Networks:
        """With first weights drawn from the seed."""
        states = int(encoding.sizes.sum())
        with seeded(seed):
            generator = Generator(options.embedding + states, options.generator, encoding.width)
            discriminator = Discriminator(encoding.width + states, options.discriminator, pac=options.pac)
        return cls(encoding, options, generator, discriminator)

    def weights(self) -> NDArray[np.float32]:
        """Of the generator, then of the discriminator, shape (P,)."""
        return np.concatenate([get_weights(self.generator), get_weights(self.discriminator)])

    def load(self, weights: NDArray[np.floating]) -> None:
        """Set all weights."""
        cut = sum(p.numel() for p in self.generator.parameters())
        bind(self.generator, weights[:cut])
        bind(self.discriminator, weights[cut:])

    def generate(self, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Patients for conditions (n, states): what the last layer gives, and the matrix, each (n, width)."""
        noise = torch.randn(len(condition), self.options.embedding)
        raw = self.generator(torch.cat([noise, condition], dim=1))
        columns = torch.as_tensor(self.encoding.columns)
        parts = torch.split(raw[:, columns], self.encoding.sizes.tolist(), dim=1)
        states = torch.cat([functional.gumbel_softmax(part, tau=self.options.temperature) for part in parts], dim=1)
        return raw, torch.tanh(raw).index_copy(1, columns, states)

    def settle(self, condition: NDArray[np.float32], seed: int) -> None:
        """Set the statistics of batch normalization to those of the generator's inputs, and stop collecting.

        Parameters
        ----------
        condition
            Shape (n, states).
        """
        layers = [m for m in self.generator.modules() if isinstance(m, nn.BatchNorm1d)]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = 1.0
        self.generator.train()
        with torch.no_grad(), seeded(seed):
            self.raw(condition)
        self.generator.eval()

    @torch.no_grad()
    def raw(self, condition: NDArray[np.float32]) -> Floats:
        """What the last layer gives for conditions and fresh noise, shape (n, width)."""
        noise = torch.randn(len(condition), self.options.embedding)
        found: Floats = self.generator(torch.cat([noise, torch.as_tensor(condition)], dim=1)).double().numpy()
        return found


@dataclass(frozen=True, eq=False)
class Rows:
    """A center's patients, encoded, ready to be drawn by state.

    Parameters
    ----------
    encoding
        By which they were encoded.
    matrix, states
        See `TableEncoding.encode`.
    """

    encoding: TableEncoding
    matrix: NDArray[np.float32]
    states: Ints

    def sampler(self, totals: Floats) -> tuple[Floats, Ints, Ints]:
        """Chance to ask for each state, and the patients in the order of each feature's states with where each begins.

        The chance goes by the logarithm of the state's count over all patients (Xu et al. 2019, section 4.3), among the
        states that this center has: for another it has no patient to show.
        """
        here = self.encoding.count(self.states)
        chance = np.log1p(np.maximum(totals, 1.0)) * (here > 0)  # a mode may be drawn that was not when counted
        return chance, np.argsort(self.states, axis=0, kind="stable"), here.astype(np.int64)


def train(
    networks: Networks,
    weights: NDArray[np.floating],
    rows: Rows,
    totals: Floats,
    pac: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], float, float]:
    """One round's steps on a center's patients.

    Parameters
    ----------
    networks
        Take any weights.
    weights
        To begin with, shape (P,).
    totals
        Patients of all centers in each state, shape (states,).
    pac
        Patients that this center shows the discriminator side by side. If fewer than the discriminator has places for,
        each, real or generated, takes several places next to each other.
    rng
        Of all random numbers.

    Returns
    -------
    weights, generator loss, discriminator loss
        The losses are means over steps.
    """
    options, encoding = networks.options, networks.encoding
    networks.load(weights)
    networks.generator.train()
    networks.discriminator.train()
    rates = (options.generator_rate, options.discriminator_rate)
    decays = (options.decay, options.decay)
    # Adam forgets within ten steps by these betas. It starts afresh each round: moments of other weights, or averaged
    # over centers, would be stale at once, and would triple what travels.
    optimizer_g, optimizer_d = (
        torch.optim.Adam(net.parameters(), lr=rate, betas=_BETAS, weight_decay=decay)
        for net, rate, decay in zip((networks.generator, networks.discriminator), rates, decays, strict=True)
    )
    copies = options.pac // pac
    batch = options.batch_size // options.pac * pac
    chance, order, here = rows.sampler(totals)
    parts = np.split(chance, encoding.starts[1:])
    cumulative = np.zeros((len(parts), max(map(len, parts))))
    for row, part in zip(cumulative, parts, strict=True):
        summed = np.cumsum(part)
        row[:] = 1.0
        row[: len(part)] = np.where(summed < summed[-1], summed / summed[-1], 1.0)
    first = np.cumsum(here) - here - np.repeat(len(rows.matrix) * np.arange(len(parts)), encoding.sizes)

    def ask() -> tuple[Ints, Ints, torch.Tensor]:
        feature = rng.integers(len(parts), size=batch)
        state = (rng.random(batch)[:, None] >= cumulative[feature]).sum(axis=1)
        asked = encoding.starts[feature] + np.minimum(state, encoding.sizes[feature] - 1)
        condition = torch.zeros(batch, len(totals))
        condition[torch.arange(batch), torch.as_tensor(asked)] = 1.0
        return feature, asked, condition

    def side_by_side(matrix: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return torch.cat([matrix, condition], dim=1).repeat_interleave(copies, dim=0)

    generator_losses, discriminator_losses = [], []
    with seeded(int(rng.integers(2**63))):
        for _ in range(options.steps):
            for _ in range(options.discriminator_steps):
                feature, asked, condition = ask()
                with torch.no_grad():
                    _, made = networks.generate(condition)
                shuffled = rng.permutation(batch)
                feature, asked = feature[shuffled], asked[shuffled]
                place = first[asked] + (rng.random(batch) * here[asked]).astype(np.int64)
                real = torch.as_tensor(rows.matrix[order[place, feature]])
                real = side_by_side(real, condition[torch.as_tensor(shuffled)])
                fake = side_by_side(made, condition).requires_grad_()
                critic = networks.discriminator(fake).mean() - networks.discriminator(real).mean()
                penalty = networks.discriminator.calc_gradient_penalty(real, fake, "cpu", options.pac)
                optimizer_d.zero_grad(set_to_none=False)
                (critic + penalty).backward()
                optimizer_d.step()
                discriminator_losses.append(float(critic.detach()))
            feature, asked, condition = ask()
            raw, made = networks.generate(condition)
            loss = -networks.discriminator(side_by_side(made, condition)).mean()
            loss = loss + _asked_for(raw, feature, asked, encoding)
            optimizer_g.zero_grad(set_to_none=False)
            loss.backward()
            optimizer_g.step()
            generator_losses.append(float(loss.detach()))
    return networks.weights(), _mean(generator_losses), _mean(discriminator_losses)


def _asked_for(raw: torch.Tensor, feature: Ints, asked: Ints, encoding: TableEncoding) -> torch.Tensor:
    """Mean cross-entropy of the states asked for, given the last layer."""
    logits = raw[:, torch.as_tensor(encoding.columns)]
    owner = torch.as_tensor(np.repeat(np.arange(len(encoding.sizes)), encoding.sizes))
    others = owner[None, :] != torch.as_tensor(feature)[:, None]
    return functional.cross_entropy(logits.masked_fill(others, -math.inf), torch.as_tensor(asked))


def _mean(losses: list[float]) -> float:
    return float(np.mean(losses)) if losses else math.nan
