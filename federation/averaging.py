"""Parameter averaging: centers train locally, the coordinator averages (FedAvg and its relatives).

One round is one question. A center first measures the weights it received on its validation patients, then trains them
on its training patients and answers with its weighted change. After the last training round one more question is asked
for validation alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, Algorithm, Roster, register
from federation.contribution import Contribution, Contributions
from federation.kinds import MODEL, SUM, declare
from federation.memory import Memory
from federation.patients import PatientGroup, Patients
from federation.policy import Refused
from federation.randomness import generator
from federation.state import State
from federation.strategies import FedAvg, FedBuff, Strategy
from models.batched.streams import Streams
from models.batched.training import measure_many, steps_of, train_many
from models.preprocessing import Preprocessor
from models.steps import TrainingData, TrainingOptions
from models.survival.concordance import concordance_counts
from models.survival.perceptron import CoxPerceptron

if TYPE_CHECKING:  # else imported where a network is built: processes that train Cox perceptrons only do without torch
    from models.survival.network import SurvivalNetwork

Floats = NDArray[np.float64]

CHUNK_BYTES = 2**20
"""Updates computed before they are checked and added up: as much as stays in a core's cache."""

COLUMNS = ("weight", "train_loss", "concordant", "comparable", "patients", "validation_loss")
"""What `history` holds per round and center, as sums that add over centers: the weight in the average, training loss ·
weight, concordant and comparable pairs of validation patients, their number, and their loss · number."""


@dataclass(frozen=True)
class Selection:
    """Which round's weights are the result. Decided on validation patients, never on test patients.

    Parameters
    ----------
    metric
        ``concordance`` (Harrell C over pairs within centers) or ``loss`` (per validation patient).
    patience
        Stop after so many rounds without a better value; None trains all rounds.
    """

    metric: Literal["concordance", "loss"] = "loss"
    patience: int | None = None

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations


@register
@dataclass(frozen=True)
class ParameterAveraging(Algorithm):
    """FedAvg, FedProx, SCAFFOLD, FedAvgM and the adaptive server optimizers.

    Parameters
    ----------
    model, model_parameters
        Declaration of the network (`models.survival.network.build_network`).
    training
        What a center does in a round.
    weighting
        A center's weight in the average: its training patients, its events, or 1.
    max_norm
        Longest update (Euclidean norm) that a center lets out and the coordinator takes in; None for no limit.
    proximal, control_variates
        Set by the strategy (`ParameterAveraging.create`).
    rounds
        Training rounds.
    sample
        Fraction of centers that train in a round.
    strategy, selection, preprocessor
        For the coordinator; the preprocessor reaches centers as arrays.
    """

    name = "parameter-averaging"
    kinds = declare({"update": MODEL, "control": MODEL, "weight": SUM, "population": SUM, "by_center": SUM})
    rows_of_centers = frozenset({"by_center"})

    model: str
    model_parameters: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingOptions = TrainingOptions()
    weighting: Literal["patients", "events", "uniform"] = "patients"
    max_norm: float | None = None
    proximal: float = 0.0
    control_variates: bool = False
    rounds: int = field(default=1, metadata=SERVER)
    sample: float = field(default=1.0, metadata=SERVER)
    strategy: Strategy = field(default=FedAvg(), metadata=SERVER)
    selection: Selection = field(default=Selection(), metadata=SERVER)
    preprocessor: Preprocessor | None = field(default=None, metadata=SERVER)

    def __post_init__(self) -> None:
        if self.control_variates and self.training.optimizer != "sgd":
            raise ValueError("scaffold's control variates need training.optimizer 'sgd'")
        if not 0 < self.sample <= 1:
            raise ValueError(f"sample is {self.sample}; it is a fraction of the centers, above 0 and up to 1")

    @classmethod
    def create(cls, strategy: Strategy, **parameters: Any) -> ParameterAveraging:
        """With the client-side part of a strategy filled in; for FedBuff, the algorithm that does without rounds."""
        if isinstance(strategy, FedBuff) and cls is ParameterAveraging:
            from federation.buffered import BufferedAveraging  # which builds on this class

            cls = BufferedAveraging
        return cls(
            strategy=strategy, proximal=strategy.proximal, control_variates=strategy.control_variates, **parameters
        )

    # -- at the coordinator ------------------------------------------------------------------------------------------

    def start(self, roster: Roster) -> State:
        """Initial weights, drawn from the seed alone; empty history."""
        assert self.preprocessor is not None, "the coordinator needs a fitted preprocessor"
        weights = _initial(
            self.model,
            self.preprocessor.n_features,
            self.model_parameters,
            generator(roster.seed, self.name, "weights"),
        )
        state: dict[str, NDArray[Any]] = {
            "round": np.array(0),
            "seed": np.array(roster.seed),
            "weights": weights,
            "best_weights": weights,
            "best_value": np.array(np.inf),
            "best_round": np.array(0),
            "stopped": np.array(False),
            "history": np.full((self.rounds + 1, len(roster.names), len(COLUMNS)), np.nan),
            "training": self._training_centers(roster.seed, 0, len(roster.names)),
        }
        if self.control_variates:
            state["control"] = np.zeros(len(weights))
        state |= {f"moments/{k}": v for k, v in self.strategy.start(len(weights)).items()}
        return state | self.preprocessor.to_arrays("preprocessor/")

    def done(self, state: State) -> bool:
        """After the last round (and its validation), or stopped early."""
        return bool(state["stopped"]) or int(state["round"]) > self.rounds

    def broadcast(self, state: State) -> State:
        """Weights, control variate, preprocessor, who trains this round, and which part of the training it is."""
        wanted = ("weights", "control", "training")
        sent = {k: v for k, v in state.items() if k in wanted or k.startswith("preprocessor/")}
        r = int(state["round"])
        return {**sent, "progress": np.array([r, r + 1]) / self.rounds}

    def server_update(self, state: State, total: Contribution) -> State:
        """Judge the weights that were sent out, then take the strategy's step."""
        new = dict(state)
        r = int(state["round"])
        new["history"] = history = state["history"].copy()
        history[r] = total["by_center"]
        self._judge(new, r, history[r])
        if r < self.rounds and total["weight"] > 0:
            moments = {k.removeprefix("moments/"): v for k, v in state.items() if k.startswith("moments/")}
            mean_update = total["update"] / total["weight"]
            weights, moments = self.strategy.step(state["weights"].astype(np.float64), mean_update, moments)
            new["weights"] = weights.astype(np.float32)
            new |= {f"moments/{k}": v for k, v in moments.items()}
            if self.control_variates:
                new["control"] = total["control"] / total["population"]
        new["round"] = np.array(r + 1)
        new["training"] = self._training_centers(int(state["seed"]), r + 1, history.shape[1])
        return new

    def reject(self, contribution: Contribution) -> str:
        """A mean update longer than `max_norm`, which no sum of updates within the limit has."""
        if self.max_norm is None or not contribution["weight"] > 0:
            return ""
        refusal = self._refusal(float(np.linalg.norm(contribution["update"]) / contribution["weight"]))
        return "" if refusal is None else str(refusal)

    def _refusal(self, norm: float) -> Refused | None:
        if self.max_norm is None or norm <= self.max_norm * (1 + 1e-9):
            return None
        return Refused(
            f"the update is longer than the limit (max_norm) of {self.max_norm:g}", f"its norm is {norm:.3g}"
        )

    def metrics(self, state: State) -> dict[str, float]:
        """Training loss and validation of the last round."""
        return validation_metrics(state["history"][int(state["round"]) - 1])

    def _judge(self, new: dict[str, NDArray[Any]], r: int, rows: Floats) -> None:
        """Keep the weights of the best round so far; without validation patients, the latest."""
        value = -validation_metrics(rows)[self.selection.metric]
        value = -value if self.selection.metric == "loss" else value  # lower is better
        unseen = np.isnan(value) and np.isinf(new["best_value"])  # no validation in any round so far
        if unseen or value < new["best_value"]:
            new["best_value"] = np.array(np.inf if unseen else value)
            new["best_round"] = np.array(r)
            new["best_weights"] = new["weights"]
        patience = self.selection.patience
        new["stopped"] = np.array(patience is not None and r - int(new["best_round"]) >= patience)

    def _training_centers(self, seed: int, r: int, n: int) -> NDArray[np.bool_]:
        """Who trains in round r: a fresh draw each round; nobody in the round for validation alone."""
        if r >= self.rounds:
            return np.zeros(n, dtype=bool)
        chosen = np.zeros(n, dtype=bool)
        draw = generator(seed, self.name, r, "sample").permutation(n)
        chosen[draw[: max(1, round(self.sample * n))]] = True
        return chosen

    # -- inside a center ---------------------------------------------------------------------------------------------

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Validate the weights received, train them, and answer with the weighted change."""
        from models.survival.network import build_network
        from models.training import train

        preprocessor = Preprocessor.from_arrays(state, "preprocessor/")
        network = build_network(self.model, preprocessor.n_features, self.model_parameters)
        weights = state["weights"]
        data = patients.design("train", preprocessor, network.causes)
        weight = {"patients": len(data), "events": int((data.event > 0).sum()), "uniform": min(1, len(data))}[
            self.weighting
        ]
        row = self._validate(network, weights, patients.design("validation", preprocessor, network.causes))
        update = np.zeros(len(weights))
        variate = memory.recall().get("variate", np.zeros(len(weights)))
        if state["training"][patients.position] and len(data):
            correction = state["control"] - variate if self.control_variates else None
            trained, loss = train(
                network,
                weights,
                data,
                self.training,
                rng,
                proximal=self.proximal,
                correction=correction,
                progress=_progress(state),
            )
            update = trained.astype(np.float64) - weights
            if refusal := self._refusal(float(np.linalg.norm(update))):
                raise refusal
            row["weight"], row["train_loss"] = weight, weight * loss
            if self.control_variates:
                steps = _steps(len(data), self.training)
                variate = variate - state["control"] - update / (steps * self.training.learning_rate)
                memory.leave({"variate": variate})
        by_center = np.zeros((patients.centers, len(COLUMNS)))
        by_center[patients.position] = [row.get(name, 0.0) for name in COLUMNS]
        arrays: dict[str, Any] = {
            "update": row.get("weight", 0) * update,
            "weight": row.get("weight", 0),
            "by_center": by_center,
        }
        if self.control_variates:
            # All centers answer with their variates rather than with changes, so that the mean is right again as soon
            # as a center that dropped out, or whose answer was lost, is back.
            arrays |= {"control": weight * variate, "population": weight}
        return Contribution.of(len(data), arrays)

    def client_updates(
        self, state: State, patients: PatientGroup, streams: Streams, memories: Sequence[Memory]
    ) -> Iterator[Contributions]:
        """As `client_update`, for many centers at once."""
        preprocessor = Preprocessor.from_arrays(state, "preprocessor/")
        declaration = json.dumps(dict(self.model_parameters), sort_keys=True)
        network = _network(self.model, preprocessor.n_features, declaration, patients.device)
        weights = state["weights"]
        train_tables, validation = (
            patients.tables(part, preprocessor, network.causes) for part in ("train", "validation")
        )
        sizes = train_tables.sizes
        weight = {"patients": sizes, "events": train_tables.events, "uniform": np.minimum(sizes, 1)}[self.weighting]
        trains = state["training"][patients.positions] & (sizes > 0)
        at_once = max(1, CHUNK_BYTES // (8 * len(weights)))
        for first in range(0, len(patients), at_once):
            chosen = np.arange(first, min(first + at_once, len(patients)))
            rows = np.zeros((len(chosen), len(COLUMNS)))
            seen = validation.sizes[chosen] > 0
            if seen.any():
                losses, pairs = measure_many(network, weights, validation, chosen[seen])
                n = validation.sizes[chosen[seen]]
                rows[seen, 2:] = np.column_stack([pairs, n, n * losses])
            active = trains[chosen]
            control: dict[str, Floats] = {}
            refused: dict[int, Refused] = {}
            variates = corrections = None
            if self.control_variates:
                none = np.zeros(len(weights))
                variates = np.array([memories[int(j)].recall().get("variate", none) for j in chosen])
                corrections = (state["control"] - variates)[active]
            update = np.zeros((len(chosen), len(weights))) if not active.all() else np.empty(0)
            if active.any():
                who = chosen[active]
                keep = self.control_variates or self.max_norm is not None  # the change itself is needed as well
                change, losses = train_many(
                    network,
                    weights,
                    train_tables,
                    self.training,
                    streams[who],
                    who,
                    proximal=self.proximal,
                    corrections=corrections,
                    scale=None if keep else weight[who].astype(np.float64),
                    progress=_progress(state),
                    device=patients.device,
                )
                rows[active, 0], rows[active, 1] = weight[who], weight[who] * losses
                if variates is not None:
                    steps, _ = steps_of(sizes[who], self.training)
                    moved = change / (steps * self.training.learning_rate)[:, None]
                    variates[active] = variates[active] - state["control"] - moved
                    for j, variate in zip(who, variates[active], strict=True):
                        memories[int(j)].leave({"variate": variate})
                if self.max_norm is not None:
                    norms = np.linalg.norm(change, axis=1)
                    whys = zip(np.flatnonzero(active).tolist(), map(self._refusal, norms.tolist()), strict=True)
                    refused = {i: why for i, why in whys if why}
                if keep:
                    change *= weight[who, None]
                if active.all():
                    update = change
                else:
                    update[active] = change
            if variates is not None:
                control = {"control": weight[chosen, None] * variates, "population": weight[chosen].astype(np.float64)}
            yield Contributions(
                sizes[chosen],
                {"update": update, "weight": rows[:, 0].copy(), **control},
                {"by_center": rows},
                patients.positions[chosen],
                patients.centers,
                refused,
            )

    def _validate(self, network: SurvivalNetwork, weights: Floats, data: TrainingData) -> dict[str, float]:
        from models.training import mean_loss, predict

        if len(data) == 0:
            return {}
        concordant, comparable = concordance_counts(data.time, data.event, predict(network, weights, data.x))
        loss = mean_loss(network, weights, data)
        return {
            "concordant": concordant,
            "comparable": comparable,
            "patients": len(data),
            "validation_loss": len(data) * loss,
        }


@lru_cache(maxsize=8)
def _network(model: str, n_features: int, parameters: str, device: str) -> SurvivalNetwork | CoxPerceptron:
    """A declared network for training many tables on a device."""
    declared = CoxPerceptron.declared(model, n_features, json.loads(parameters)) if device == "cpu" else None
    if declared is not None:
        return declared
    from models.survival.network import build_network

    return build_network(model, n_features, json.loads(parameters))


def _initial(
    model: str, n_features: int, parameters: Mapping[str, Any], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Weights that a declared network starts from, shape (P,)."""
    if (declared := CoxPerceptron.declared(model, n_features, parameters)) is not None:
        return declared.initial(rng)
    from models.flat import get_weights
    from models.survival.network import build_network

    network = build_network(model, n_features, parameters)
    network.initialize(rng)
    return get_weights(network)


def _progress(state: State) -> tuple[float, float]:
    begin, end = state["progress"].tolist()
    return begin, end


def validation_metrics(rows: Floats) -> dict[str, float]:
    """Means from rows of `COLUMNS`, shape (centers, columns) or one row: ``train_loss``, ``concordance``, ``loss``.

    Concordance counts pairs of patients of the same center only, since no pair of patients of two centers can be
    compared without one of them leaving. NaN where there is nothing to divide by.
    """
    weight, train_loss, concordant, comparable, n, loss = np.nan_to_num(np.atleast_2d(rows)).sum(axis=0)
    return {
        "train_loss": _ratio(train_loss, weight),
        "concordance": _ratio(concordant, comparable),
        "loss": _ratio(loss, n),
    }


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else float("nan")


def result(state: State) -> NDArray[np.float32]:
    """The weights of the best round by validation; of the last round if there are no validation patients."""
    return state["best_weights"]


def _steps(n: int, options: TrainingOptions) -> int:
    """Gradient steps of one round on n patients."""
    if options.steps is not None:
        return options.steps
    per_pass = 1 if options.batch_size is None else -(-n // options.batch_size)
    return options.epochs * per_pass
