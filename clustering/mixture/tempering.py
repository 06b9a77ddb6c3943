"""Parallel tempering of the mixture inside one chain: replicas at powers β of the likelihood, neighbours swapped.

Replicas trade places by the deterministic even-odd scheme, whose round trips from hottest to coldest stay fast with
many replicas (Syed, Bouchard-Côté, Deligiannidis & Doucet, JRSS B 2022). The coldest, β = 1, is the chain that counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clustering.chain import State
from clustering.mixture.sampler import MixtureSampler


@dataclass(frozen=True)
class TemperedMixtureSampler:
    """A mixture's chain that crosses between local modes through replicas at lower powers of the likelihood.

    Parameters
    ----------
    sampler
        The mixture.
    heats
        Powers β from 1 downwards; `geometric_heats` spaces them.
    """

    sampler: MixtureSampler
    heats: tuple[float, ...]

    def __post_init__(self) -> None:
        falls = all(0 < b < a for a, b in zip(self.heats, self.heats[1:], strict=False))
        if not self.heats or self.heats[0] != 1.0 or not falls:
            raise ValueError(f"heats: {self.heats}, but must fall from 1 towards 0")

    def start(self, rng: np.random.Generator) -> State:
        """Every replica starts by itself, annealed up to its own power."""
        replicas = [self.sampler.start(rng, heat) for heat in self.heats]
        state = _join(replicas)
        state["sweeps"] = np.array(0)
        state["replica"] = np.arange(len(self.heats))
        state["swaps"] = np.zeros((2, max(len(self.heats) - 1, 1)))
        return state

    def advance(self, state: State, sweeps: int, rng: np.random.Generator) -> State:
        """Sweeps of every replica, each followed by swaps of every second pair of neighbours."""
        replicas = _split(state, len(self.heats))
        done, replica, swaps = int(state["sweeps"]), state["replica"].copy(), state["swaps"].copy()
        for sweep in range(done, done + sweeps):
            replicas = [self.sampler.advance(r, 1, rng, h) for r, h in zip(replicas, self.heats, strict=True)]
            height = [self.sampler.log_likelihood(r) for r in replicas]
            for low in range(sweep % 2, len(replicas) - 1, 2):
                high = low + 1
                log_ratio = (self.heats[low] - self.heats[high]) * (height[high] - height[low])
                accepted = np.log1p(-rng.random()) < log_ratio
                if accepted:
                    replicas[low], replicas[high] = replicas[high], replicas[low]
                    replica[[low, high]] = replica[[high, low]]
                swaps[:, low] += accepted, 1
        return _join(replicas) | {"sweeps": np.array(done + sweeps), "replica": replica, "swaps": swaps}

    def scalars(self, state: State) -> dict[str, float]:
        """Those of the coldest replica; ``replica``, where it started, and ``swap_rate``, the lowest of all pairs."""
        accepted, offered = state["swaps"]
        rate = float((accepted / np.maximum(offered, 1)).min()) if len(self.heats) > 1 else 1.0
        cold = self.sampler.scalars(_split(state, len(self.heats))[0])
        return cold | {"replica": float(state["replica"][0]), "swap_rate": rate}

    def draw(self, state: State) -> State:
        """That of the coldest replica."""
        return self.sampler.draw(_split(state, len(self.heats))[0])


def geometric_heats(coldest: float, replicas: int) -> tuple[float, ...]:
    """Powers from 1 down to ``coldest``, neighbours at one ratio."""
    return tuple(float(h) for h in np.geomspace(1.0, coldest, replicas))


def _join(replicas: list[State]) -> State:
    return {f"{key}_{r}": array for r, replica in enumerate(replicas) for key, array in replica.items()}


def _split(state: State, replicas: int) -> list[State]:
    keys = [key.removesuffix("_0") for key in state if key.endswith("_0")]
    return [{key: state[f"{key}_{r}"] for key in keys} for r in range(replicas)]
