"""What a model has learned, asked of the centers: permutation importance and partial dependence, as sums over patients.

Both look at a finished model from outside, for every network. A pair of patients is compared inside its center
only, as in validation; what leaves a center are counts of pairs and sums of predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, Roster, register
from federation.contribution import Contribution
from federation.kinds import SUM, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.preprocessing import OneRound
from federation.state import State
from harmonization import Schema
from harmonization.schema import Modality
from models.preprocessing import Preprocessor, encoded_modalities
from models.survival.baseline import BaselineHazard
from models.survival.concordance import concordance_counts

if TYPE_CHECKING:  # else imported where a network is built
    import torch

Floats = NDArray[np.float64]
Part = Literal["train", "validation", "test"]

ROWS = 200_000
"""Rows of a design matrix predicted at a time: bounds a center's memory."""


@dataclass(frozen=True)
class Explanation(OneRound):
    """A question about a trained model.

    Parameters
    ----------
    model, model_parameters
        Declaration of the network.
    part
        Whose predictions are looked at. A center with fewer of them than the policy's least answers with nothing.
    weights, preprocessor
        Trained weights of shape (P,), fitted preprocessor.
    """

    model: str = "cox"
    model_parameters: Mapping[str, Any] = field(default_factory=dict)
    part: Part = "test"
    weights: NDArray[np.float32] | None = field(default=None, metadata=SERVER)
    preprocessor: Preprocessor | None = field(default=None, metadata=SERVER)

    def start(self, roster: Roster) -> State:
        """The model as arrays."""
        assert self.weights is not None
        assert self.preprocessor is not None
        arrays = self.preprocessor.to_arrays("preprocessor/")
        return {"round": np.array(0), "weights": self.weights, **self.asked(self.preprocessor), **arrays}

    def asked(self, preprocessor: Preprocessor) -> dict[str, NDArray[Any]]:
        """What the question is, as arrays."""
        raise NotImplementedError

    def network(self, state: State, preprocessor: Preprocessor) -> Any:
        """The network with its weights, to evaluate."""
        from models.flat import bind
        from models.survival.network import build_network

        network = build_network(self.model, preprocessor.n_features, self.model_parameters)
        bind(network, state["weights"])
        return network.eval()


@register
@dataclass(frozen=True)
class PermutationImportance(Explanation):
    """How much worse a model ranks and fits patients once a feature is shuffled among a center's patients.

    A feature's columns (categories, missingness) are shuffled together, by the center's own random numbers.

    Parameters
    ----------
    repeats
        Shuffles of each feature.
    source
        What each column of the design matrix comes from (`columns_of`).

    Notes
    -----
    Shuffling within centers leaves what a feature says of the center itself (case mix) in place; and of two features
    that say the same neither looks important.

    References
    ----------
    Breiman (2001), Machine Learning 45:5, section 10; Fisher, Rudin and Dominici (2019), JMLR 20:177.
    """

    name = "permutation-importance"
    kinds = dict.fromkeys(("concordant", "comparable", "loss", "shuffled_*"), SUM)

    repeats: int = 5
    source: tuple[str, ...] = field(default=(), metadata=SERVER)

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}; shuffle at least once")

    @property
    def features(self) -> tuple[str, ...]:
        """What is shuffled, in the order of the answer's rows."""
        return tuple(dict.fromkeys(self.source))

    def asked(self, preprocessor: Preprocessor) -> dict[str, NDArray[Any]]:
        """Which columns are shuffled together."""
        return {"group": np.array([self.features.index(name) for name in self.source])}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Concordant pairs within the center and summed loss, as they are and after each shuffle."""
        import torch

        preprocessor = Preprocessor.from_arrays(state, "preprocessor/")
        network, group = self.network(state, preprocessor), state["group"]
        data = patients.design(self.part, preprocessor, network.causes)
        n = len(data)
        if n < patients.min_patients:
            return Contribution()
        target = network.prepare(data.time, data.event)

        def judged(x: Floats) -> tuple[Floats, Floats]:
            """Concordant pairs and summed loss of each of many tables, stacked."""
            outputs = torch.split(_output(network, x), n)
            counts = [concordance_counts(data.time, data.event, risk_of(network, o))[0] for o in outputs]
            losses = [n * float(network.loss(o, target)) for o in outputs]
            return np.array(counts), np.array(losses)

        features = int(group.max()) + 1
        concordant, loss = np.empty((features, self.repeats)), np.empty((features, self.repeats))
        (before,), (loss_before,) = judged(data.x)
        _, comparable = concordance_counts(data.time, data.event, np.zeros(n))
        for j in range(features):
            orders = rng.permuted(np.tile(np.arange(n), (self.repeats, 1)), axis=1)
            x, columns = np.tile(data.x, (self.repeats, 1)), group == j
            x[:, columns] = data.x[orders.ravel()][:, columns]
            concordant[j], loss[j] = judged(x)
        return Contribution(
            n,
            concordant=before,
            comparable=comparable,
            loss=loss_before,
            shuffled_concordant=concordant,
            shuffled_loss=loss,
        )

    def server_update(self, state: State, total: Contribution) -> State:
        """Concordance and loss per patient, as they are and after each shuffle."""
        pairs, n = max(float(total["comparable"]), 1.0), max(total.patients, 1)
        found = {
            "comparable": total["comparable"],
            "concordance": total["concordant"] / pairs,
            "loss": total["loss"] / n,
            "shuffled_concordance": total["shuffled_concordant"] / pairs,
            "shuffled_loss": total["shuffled_loss"] / n,
        }
        counted = {"round": np.array(1), "patients": np.array(total.patients)}
        return counted | {name: np.asarray(value) for name, value in found.items()}


@register
@dataclass(frozen=True)
class PartialDependence(Explanation):
    """What a model would predict on average if everybody had a certain value of a feature.

    Parameters
    ----------
    times
        At which survival is averaged, in the schema's time unit.
    values
        One row per point, shape (points, n_features): what to set in the design matrix, NaN for what a patient has;
        see `grid_of`.
    baseline
        Of a network that gives relative hazards.

    References
    ----------
    Friedman (2001), Annals of Statistics 29:1189, section 8.2.
    """

    name = "partial-dependence"
    kinds = declare({"risk": SUM, "survival": SUM})

    times: tuple[float, ...] = ()
    values: Floats | None = field(default=None, metadata=SERVER)
    baseline: BaselineHazard | None = field(default=None, metadata=SERVER)

    def asked(self, preprocessor: Preprocessor) -> dict[str, NDArray[Any]]:
        """The points, and the baseline hazard at the times."""
        assert self.values is not None
        cumulative = {} if self.baseline is None else {"cumulative": self.baseline.at(self.times)}
        return {"values": self.values, **cumulative}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Risk and survival at each point, summed over patients."""
        preprocessor = Preprocessor.from_arrays(state, "preprocessor/")
        data = patients.design(self.part, preprocessor)
        if len(data) < patients.min_patients:
            return Contribution()
        network, values = self.network(state, preprocessor), state["values"]
        risk, survival = np.empty(len(values)), np.empty((len(values), len(self.times)))
        at_once = max(1, ROWS // len(data))
        for first in range(0, len(values), at_once):
            points = values[first : first + at_once, None, :]
            x = np.where(np.isnan(points), data.x[None], points).reshape(-1, data.x.shape[1])
            output = _output(network, x)
            shape = (len(points), len(data))
            here = slice(first, first + len(points))
            risk[here] = risk_of(network, output).reshape(shape).sum(axis=1)
            curves = survival_of(network, output, np.array(self.times), state.get("cumulative"))
            survival[here] = curves.reshape(*shape, -1).sum(axis=1)
        return Contribution(len(data), risk=risk, survival=survival)

    def server_update(self, state: State, total: Contribution) -> State:
        """Mean risk (points,) and mean survival (points, times)."""
        n = max(total.patients, 1)
        means = {name: total[name] / n for name in ("risk", "survival")}
        return {"round": np.array(1), "patients": np.array(total.patients), **means}


# Columns and points, at the coordinator -----------------------------------------------------------------------------


def columns_of(preprocessor: Preprocessor, schema: Schema) -> tuple[str, ...]:
    """What each column of the design matrix comes from: a feature, or a modality that is reduced to components."""
    widths = [len(f.categories) - 1 if f.kind == "categorical" else 1 for f in schema.features]
    feature = np.repeat(np.array(schema.names, dtype=str), widths)
    block = encoded_modalities(schema)
    reduced = dict(zip(feature[preprocessor.reduced].tolist(), block[preprocessor.reduced].tolist(), strict=True))
    modalities = get_args(Modality)
    return (
        *feature[preprocessor.keep].tolist(),
        *(modalities[code] for code in preprocessor.component_modality),
        *(reduced.get(name, name) for name in (schema.names[j] for j in preprocessor.indicators)),
    )


@dataclass(frozen=True, eq=False)
class Grid:
    """Values of features at which partial dependence is asked.

    Parameters
    ----------
    labels
        Of each feature, the values in its own unit, or its categories.
    values
        The rows for `PartialDependence.values`, feature after feature, shape (points, n_features).
    """

    labels: Mapping[str, tuple[float | str, ...]]
    values: Floats


def grid_of(preprocessor: Preprocessor, schema: Schema, features: Sequence[str], points: int = 20) -> Grid:
    """Values of some features; those of which the model has no column are left out.

    Numbers are spread over two standard deviations about the mean of all training patients, within the plausible range
    of the dictionary (counts are whole); no center's own range is asked for. A value that is set is known: the column
    that says it is missing is set, too.
    """
    source = np.array(columns_of(preprocessor, schema))
    kept, labels, rows = len(preprocessor.keep), {}, []
    first = np.cumsum([0] + [len(f.categories) - 1 if f.kind == "categorical" else 1 for f in schema.features])
    for name in features:
        columns = np.flatnonzero(source[:kept] == name)
        if not columns.size:
            continue
        j = schema.index(name)
        feature = schema.features[j]
        if feature.kind == "categorical":
            asked: Sequence[float | str] = feature.categories
            code = preprocessor.keep[columns] - first[j] + 1
            encoded = (np.arange(len(asked))[:, None] == code[None, :]).astype(np.float64)
        elif feature.kind == "binary":
            asked, encoded = ("no", "yes"), np.array([[0.0], [1.0]])
        else:
            (column,) = columns
            mean, sd = preprocessor.mean[column] + feature.reference, preprocessor.scale[column]
            low, high = np.clip(mean + np.array([-2, 2]) * sd, feature.low, feature.high)
            numbers = np.linspace(low, high, points)
            numbers = np.unique(np.rint(numbers)) if feature.kind == "count" else numbers
            asked, encoded = tuple(numbers.tolist()), numbers[:, None] - feature.reference
        row = np.full((len(asked), preprocessor.n_features), np.nan)
        row[:, columns] = (encoded - preprocessor.mean[columns]) / preprocessor.scale[columns]
        for i in np.flatnonzero(preprocessor.indicators == j):
            row[:, kept + len(preprocessor.rotation) + i] = (
                -preprocessor.indicator_mean[i] / preprocessor.indicator_scale[i]
            )
        labels[name] = tuple(asked)
        rows.append(row)
    return Grid(labels, np.concatenate(rows) if rows else np.empty((0, preprocessor.n_features)))


# The network's answers ----------------------------------------------------------------------------------------------


def _output(network: Any, x: Floats) -> torch.Tensor:
    import torch

    weights = next(network.parameters())
    with torch.no_grad():
        output: torch.Tensor = network(torch.as_tensor(x, dtype=weights.dtype))
    return output


def risk_of(network: Any, output: torch.Tensor) -> Floats:
    """Risk (higher is worse) from a network's output, shape (n,)."""
    risk: Floats = network.risk(output.double()).numpy()
    return risk


def survival_of(network: Any, output: torch.Tensor, times: Floats, cumulative: Floats | None) -> Floats:
    """Survival at some times from a network's output, shape (n, times)."""
    import torch

    survival: Floats
    if not network.proportional:
        survival = network.survival(output.double(), torch.as_tensor(times)).numpy()
        return survival
    assert cumulative is not None, "proportional hazards need a baseline hazard"
    survival = np.exp(-np.exp(risk_of(network, output))[:, None] * cumulative[None, :])
    return survival
