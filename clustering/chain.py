"""What a Markov chain is here: pure functions of (state, generator), so that chains resume, move and repeat bit by bit.

A chain takes steps; a step is ``spacing`` sweeps. Step s of chain c draws from a counter-based stream that depends on
(seed, c, s) alone: a chain that stopped after step s goes on from its state with step s + 1, wherever it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

State = dict[str, np.ndarray]
"""A chain's state: arrays alone, so that a checkpoint needs no pickle."""

SCALARS = ("log_likelihood", "clusters", "concentration", "entropy")
"""Label-invariant summaries that every sampler reports."""


class Sampler(Protocol):
    """A Markov chain over classifications of patients. Implementations are frozen dataclasses that pickle."""

    def start(self, rng: np.random.Generator) -> State:
        """An over-dispersed first state."""

    def advance(self, state: State, sweeps: int, rng: np.random.Generator) -> State:
        """The state some sweeps later; the argument stays as it was."""

    def scalars(self, state: State) -> dict[str, float]:
        """Label-invariant summaries: at least those of `SCALARS`."""

    def draw(self, state: State) -> State:
        """What is kept of a state: ``labels`` (patients,), and whatever the model's summaries need."""


def chain_rng(seed: int, chain: int, step: int) -> np.random.Generator:
    """The stream of one step of one chain (Philox; the step is the high word of its counter)."""
    key = np.random.SeedSequence([seed, chain]).generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, step]))


@dataclass(frozen=True)
class Step:
    """One step of a chain: its number from 1, the state after it, its summaries, and what is kept."""

    number: int
    state: State
    scalars: dict[str, float]
    draw: State


def steps(
    sampler: Sampler, seed: int, chain: int, spacing: int = 1, after: tuple[int, State] | None = None
) -> Iterator[Step]:
    """Run a chain for ever, one step of ``spacing`` sweeps after the other.

    Parameters
    ----------
    after
        Number and state of the last step taken, to go on from; a fresh start by default.
    """
    number, state = after if after is not None else (0, sampler.start(chain_rng(seed, chain, 0)))
    while True:
        number += 1
        state = sampler.advance(state, spacing, chain_rng(seed, chain, number))
        yield Step(number, state, sampler.scalars(state), sampler.draw(state))
