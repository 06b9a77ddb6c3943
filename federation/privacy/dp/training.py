"""Training under differential privacy: single gradient steps that protect patients, averages that protect centers.

Everything a center answers with is covered by noise or follows from numbers of patients, which are public. So there is
no validation and no best round: what is returned is the mean of the last weights, which costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, Roster, register
from federation.averaging import ParameterAveraging, _network
from federation.contribution import Contribution, Contributions
from federation.kinds import MODEL, SUM, declare
from federation.memory import Memory
from federation.patients import PatientGroup, Patients
from federation.policy import Refused
from federation.privacy.dp.mechanism import Covered, Mechanism
from federation.state import State
from harmonization import Schema
from models.batched.streams import Streams
from models.preprocessing import Preprocessor
from models.steps import TrainingData

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AdaptiveClipping:
    """Let the bound follow a quantile of the updates' norms (Andrew et al. 2021, Differentially Private Learning with
    Adaptive Clipping, algorithm 1).

    Parameters
    ----------
    quantile
        Fraction of updates that should not be clipped.
    learning_rate
        Of the logarithm of the bound.
    noise
        On the number of unclipped updates, in noise multipliers of the answer; the update's own noise makes up for it.
    """

    quantile: float = 0.5
    learning_rate: float = 0.2
    noise: float = 10.0

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile is {self.quantile}; it lies between 0 and 1")
        if not self.noise > 1:
            raise ValueError(f"noise is {self.noise}; it is above 1, or nothing is left for the update")


@dataclass(frozen=True)
class _Private(ParameterAveraging):
    """What both have in common.

    Parameters
    ----------
    clip
        Bound on a patient's gradient, or a center's update, Euclidean norm.
    noise
        Noise multiplier of an answer.
    distributed
        Whether each center adds a share of the noise, under secure aggregation, or all of it.
    average
        Fraction of the rounds, at the end, whose weights are averaged.
    """

    clip: float = 1.0
    noise: float = 1.0
    distributed: bool = False
    average: float = field(default=0.5, metadata=SERVER)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.clip > 0 and self.noise > 0):
            raise ValueError(f"clip is {self.clip}, noise {self.noise}; both are above 0")
        if self.control_variates or self.proximal:
            raise ValueError("differential privacy goes with strategies of the server alone, e.g. 'fedavg', 'fedadam'")
        if self.sample < 1:
            raise ValueError("sample must be 1 under differential privacy: who is drawn is known, so it saves nothing")
        if self.selection.patience is not None:
            raise ValueError("selection.patience needs validation, which differential privacy leaves out")

    def start(self, roster: Roster) -> State:
        """As in averaging, with the bound."""
        return {**super().start(roster), "clip": np.array(self.clip)}

    def broadcast(self, state: State) -> State:
        """The bound as well."""
        return {**super().broadcast(state), "clip": state["clip"]}

    def done(self, state: State) -> bool:
        """After the last training round."""
        return int(state["round"]) >= self.rounds

    def server_update(self, state: State, total: Contribution) -> State:
        """The strategy's step, and the mean of the last weights."""
        new = dict(state)
        r = int(state["round"])
        moments = {k.removeprefix("moments/"): v for k, v in state.items() if k.startswith("moments/")}
        weights, moments = self.strategy.step(state["weights"].astype(np.float64), self._update(state, total), moments)
        new["weights"] = weights.astype(np.float32)
        new |= {f"moments/{k}": v for k, v in moments.items()}
        first = min(int((1 - self.average) * self.rounds), self.rounds - 1)
        kept = max(r - first, 0)  # weights in the mean so far
        new["best_weights"] = ((kept * state["best_weights"] + weights) / (kept + 1)).astype(np.float32)
        new["best_round"] = new["round"] = np.array(r + 1)
        return new

    def _update(self, state: State, total: Contribution) -> Floats:
        """The mean update."""
        raise NotImplementedError

    def metrics(self, state: State) -> dict[str, float]:
        """The bound."""
        return {"clip": float(state["clip"])}


@register
@dataclass(frozen=True)
class PrivateGradients(_Private):
    """DP-SGD over centers: a round is one step on the clipped gradients of a Poisson sample of all patients.

    A center answers with the sum of its sampled patients' clipped gradients and noise. Under secure aggregation with
    distributed noise this is DP-SGD on the pooled patients; else each center's noise covers its patients alone.
    The network's loss is a sum over patients (`models.per_patient.require_separable`).

    Parameters
    ----------
    sampling
        Probability with which a patient is in a step. The number of patients expected is public, the sample is not.
    """

    name = "private-gradients"
    kinds = declare({"gradient": MODEL, "weight": SUM})
    rows_of_centers = frozenset()

    sampling: float = 1.0

    def mechanism(self, state: State, schema: Schema) -> Mechanism:
        """A patient changes the sum of gradients by `clip`."""
        covered = {"gradient": Covered(float(state["clip"]), self.noise)}
        return Mechanism("patient", covered, frozenset({"weight"}), self.sampling, self.distributed)

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Sum of clipped gradients over a sample of the training patients."""
        size, total = self._sums(state, [patients], [rng])
        return Contribution(int(size[0]), gradient=total[0], weight=self.sampling * size[0])

    def client_updates(
        self, state: State, patients: PatientGroup, streams: Streams, memories: Sequence[Memory]
    ) -> Iterator[Contributions]:
        """As `client_update`, for many centers at once."""
        sizes, totals = self._sums(state, patients.members, [streams.generator(i) for i in range(len(patients))])
        arrays = {"gradient": totals, "weight": self.sampling * sizes.astype(np.float64)}
        yield Contributions(sizes, arrays, {}, patients.positions, patients.centers)

    def _sums(
        self, state: State, members: Sequence[Patients], rngs: Sequence[np.random.Generator]
    ) -> tuple[NDArray[np.int64], Floats]:
        """Training patients of each center, shape (k,), and its sum of gradients, shape (k, P)."""
        from models.per_patient import NotSeparable, clipped_sums, require_separable
        from models.survival.network import SurvivalNetwork

        preprocessor = Preprocessor.from_arrays(state, "preprocessor/")
        declaration = json.dumps(dict(self.model_parameters), sort_keys=True)
        network = _network(self.model, preprocessor.n_features, declaration, "torch")
        assert isinstance(network, SurvivalNetwork)
        try:
            require_separable(network, self.model)
        except NotSeparable as error:
            raise Refused(str(error)) from None
        designs = [patients.design("train", preprocessor, network.causes) for patients in members]
        sampled, noise = designs, None
        if self.sampling < 1:
            drawn = [rng.random(len(d)) < self.sampling for d, rng in zip(designs, rngs, strict=True)]
            sampled = [TrainingData(d.x[i], d.time[i], d.event[i]) for d, i in zip(designs, drawn, strict=True)]
        sizes = np.array([len(d) for d in sampled], dtype=np.int64)
        if network.noise:
            noise = np.concatenate(
                [rng.standard_normal((n, network.noise)) for n, rng in zip(sizes, rngs, strict=True)]
            )
        everybody = TrainingData(*(np.concatenate([getattr(d, k) for d in sampled]) for k in ("x", "time", "event")))
        bound, progress = float(state["clip"]), float(state["progress"][0])
        totals = clipped_sums(network, state["weights"], everybody, sizes, bound, noise, progress)
        return np.array([len(d) for d in designs], dtype=np.int64), totals

    def _update(self, state: State, total: Contribution) -> Floats:
        decay = np.zeros(len(state["weights"]))
        if self.training.weight_decay > 0:
            from models.flat import penalty_mask
            from models.survival.network import build_network

            features = Preprocessor.from_arrays(state, "preprocessor/").n_features
            mask = penalty_mask(build_network(self.model, features, self.model_parameters)).numpy()
            decay = self.training.weight_decay * mask * state["weights"]
        return -self.training.learning_rate * (total["gradient"] / total["weight"] + decay)


@register
@dataclass(frozen=True)
class PrivateAveraging(_Private):
    """DP-FedAvg: whatever a center's patients are, its update is no longer than a bound (McMahan et al. 2018).

    Centers train as they like, since the bound is on the whole update; so any loss will do, Cox's too.

    Parameters
    ----------
    largest
        Patients that count as many as there could be: a center's weight is min(n, largest)/largest, if weights are by
        patients.
    adaptive
        How the bound adapts; None for a fixed one.
    """

    name = "private-averaging"
    kinds = declare({"update": MODEL, "weight": SUM, "unclipped": SUM, "centers": SUM})
    rows_of_centers = frozenset()

    largest: int = 50
    adaptive: AdaptiveClipping | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weighting == "events":
            raise ValueError("weighting by events tells their number; use 'patients' or 'uniform'")

    def mechanism(self, state: State, schema: Schema) -> Mechanism:
        """A center changes the sum of updates by the bound, and the number of unclipped ones by a half."""
        bound, public = float(state["clip"]), frozenset({"weight", "centers"})
        if self.adaptive is None:
            covered = {"update": Covered(bound, self.noise)}
        else:  # Andrew et al. 2021, theorem 1
            count = self.adaptive.noise * self.noise
            update = (self.noise**-2 - count**-2) ** -0.5
            covered = {"update": Covered(bound, update), "unclipped": Covered(0.5, count)}
        return Mechanism("center", covered, public, 1.0, self.distributed)

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """The change of weights by local training, at most as long as the bound."""
        alone = super().client_update(state, patients, rng, memory)
        n, bound = alone.patients, float(state["clip"])
        weight = min(n, self.largest) / self.largest if self.weighting == "patients" else min(n, 1)
        change = alone["update"] / max(float(alone["weight"]), 1.0)
        norm = float(np.linalg.norm(change))
        if not np.isfinite(norm):
            change, norm = np.zeros_like(change), np.inf  # it diverged: that, too, must not show
        arrays: dict[str, Any] = {"update": weight * min(1.0, bound / max(norm, 1e-300)) * change, "weight": weight}
        if self.adaptive is not None:
            arrays |= {"unclipped": float(norm <= bound) - 0.5, "centers": 1.0}
        return Contribution.of(n, arrays)

    def server_update(self, state: State, total: Contribution) -> State:
        """The bound adapts as well."""
        new = dict(super().server_update(state, total))
        if self.adaptive is not None:
            unclipped = float(total["unclipped"]) / float(total["centers"]) + 0.5
            step = self.adaptive.learning_rate * (np.clip(unclipped, 0.0, 1.0) - self.adaptive.quantile)
            new["clip"] = np.array(float(state["clip"]) * np.exp(-step))
        return new

    def _update(self, state: State, total: Contribution) -> Floats:
        return np.asarray(total["update"] / total["weight"])
