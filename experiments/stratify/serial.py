"""Chains one after the other in this process: for studies that have a process for every cohort or setting."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np

from actors.chains import diagnose
from clustering.chain import Sampler, Step, steps


@dataclass(frozen=True)
class SerialChains:
    """What some chains took after burn-in.

    Parameters
    ----------
    scalars
        Name -> shape (chains, steps).
    kept
        Of each chain, the steps whose draws were kept.
    r_hat, ess
        Worst of the label-invariant summaries, as `actors.chains.diagnose` says.
    """

    scalars: dict[str, np.ndarray]
    kept: list[list[Step]]
    r_hat: float
    ess: float

    @property
    def labels(self) -> list[np.ndarray]:
        """Labels of the draws of each chain, shape (draws, patients)."""
        return [np.array([step.draw["labels"] for step in chain], np.int32) for chain in self.kept]


def run_serial(
    sampler: Sampler, seed: int, chains: int, length: int, spacing: int, burn_in: float, most: int
) -> SerialChains:
    """Run chains of one length.

    Parameters
    ----------
    sampler
        Of all chains.
    seed
        Chain c of a seed is that of `actors.chains.run_chains` with the same spacing.
    chains
        How many.
    length, spacing
        Steps of each chain, and sweeps a step.
    burn_in
        Fraction of the steps left out.
    most
        Draws kept of all chains together, evenly spaced, the same number of every chain and at least one.
    """
    first = int(burn_in * length)
    wanted = set(
        np.linspace(first, length - 1, min(length - first, max(most // chains, 1))).round().astype(int).tolist()
    )
    traces: list[list[dict[str, float]]] = []
    kept: list[list[Step]] = []
    for chain in range(chains):
        taken = enumerate(islice(steps(sampler, seed, chain, spacing), length))
        after = [(step.scalars, step if number in wanted else None) for number, step in taken if number >= first]
        traces.append([summaries for summaries, _ in after])
        kept.append([step for _, step in after if step is not None])
    scalars = {name: np.array([[row[name] for row in chain] for chain in traces]) for name in traces[0][0]}
    return SerialChains(scalars, kept, *diagnose(scalars))
