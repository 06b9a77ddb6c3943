"""CTGAN (Xu et al. 2019, NeurIPS): a generator of patients and its adversary, on one table or over centers.

One state machine for both. First states are counted (`models.generative.table_encoding`), then each round trains the
networks for some steps and averages the changes of their weights. What differs from the published CTGAN, and why:

- Mixtures and counts are those of all patients. Missing is generated, as a state; modes are asked for like categories.
- Patients are drawn with states asked for at the rates of all patients, not at the training's logarithmic ones, and
  with the statistics of batch normalization that belong to the averaged weights (CTGAN: with those of a batch).
- The last layer's biases are then shifted so that every state comes at its rate (`FittedCTGAN.shifts`): an adversary
  does not see rates well, and missing values are to come at theirs. Numbers, too, are mapped by rank to those of all
  patients (`FittedCTGAN._values`). What goes together is the network's.
- Times and events are drawn given the features (`models.generative.survival_law`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from harmonization import Cohort, Schema
from models.generative import cells
from models.generative.discretization import decimals_of_most
from models.generative.drawing import GenerativeModel, PatientGenerator
from models.generative.survival_law import LawOptions, SurvivalLaw
from models.generative.table_encoding import TableEncoding
from models.generative.variational_mixture import FittedMixture, MixtureOptions, fit_mixture

if TYPE_CHECKING:  # else imported where networks are built: a coordinator of other models does without torch
    from models.generative.adversarial import Networks

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
State = Mapping[str, NDArray[Any]]

COUNT, TRAIN = range(2)

_BATCH = 4096  # patients generated at once
_REFERENCE = 16_384  # drawn to know the generator's own marginals of numbers
_SHIFTS = 50  # iterations
_FEWEST = 0.1  # of a patient: the rate of a mode that nobody was drawn to is that of so many


@dataclass(frozen=True)
class CTGANOptions:
    """The networks and their training; defaults are CTGAN's but for `pac`, `batch_size` and the number of steps.

    Parameters
    ----------
    embedding
        Length of the noise.
    generator, discriminator
        Widths of hidden layers.
    generator_rate, discriminator_rate
        Learning rates of Adam.
    decay
        Weight decay.
    batch_size
        Patients a step, real and generated; at least twice `pac`.
    pac
        Patients that the discriminator sees side by side (PacGAN, Lin et al. 2018; 10 in CTGAN, which needs more
        patients than there are of rare diseases to learn from: docs/synthetic.md). A center of n patients shows the
        largest divisor p of it with p·(p − 1) ≤ n different ones: then at most one pack in two has a patient twice,
        which would teach the generator to repeat itself.
    steps
        Of the generator, a round and center.
    discriminator_steps
        Before each of them.
    rounds
        Of averaging.
    temperature
        Of the Gumbel softmax.
    weighting
        A center's weight in the average: its training patients, or these times how similar its states are distributed
        to those of all (as in Fed-TGAN, Zhao et al. 2021; `CTGANTraining.weight`).
    least
        Centers with fewer training patients do not train; they are counted.
    threshold
        Modes of smaller weight are not used.
    mixtures
        Of the numeric features.
    """

    embedding: int = 128
    generator: tuple[int, ...] = (256, 256)
    discriminator: tuple[int, ...] = (256, 256)
    generator_rate: float = 2e-4
    discriminator_rate: float = 2e-4
    decay: float = 1e-6
    batch_size: int = 250
    pac: int = 1
    steps: int = 50
    discriminator_steps: int = 1
    rounds: int = 40
    temperature: float = 0.2
    weighting: Literal["patients", "similarity"] = "patients"
    least: int = 10
    threshold: float = 0.005
    mixtures: MixtureOptions = MixtureOptions(concentration=1e-3)

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        for name in ("embedding", "pac", "steps", "discriminator_steps", "rounds", "least"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; 1 or more")
        for name in ("generator_rate", "discriminator_rate", "temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; more than 0")
        if self.batch_size < 2 * self.pac:
            raise ValueError(f"batch_size is {self.batch_size}; at least twice pac, {2 * self.pac}")

    def pack(self, patients: int) -> int:
        """How many different patients a center of so many shows side by side."""
        divisors = (p for p in range(1, self.pac + 1) if self.pac % p == 0)
        return max(p for p in divisors if p * (p - 1) <= patients)


@dataclass(frozen=True, eq=False)
class CTGANTraining:
    """The state machine.

    Parameters
    ----------
    options
        See `CTGANOptions`.
    schema
        Of the patients.
    """

    options: CTGANOptions
    schema: Schema

    def start(self, mixture: FittedMixture | None, seed: int) -> dict[str, NDArray[Any]]:
        """The first state, from mixtures of the numeric features in the schema's order (None if there are none)."""
        encoding = TableEncoding(self.schema, mixture, None, self.options.threshold)
        counters = {"phase": np.array(COUNT), "trained": np.array(0), "seed": np.array(seed)}
        return {**counters, **encoding.to_arrays()}

    def done(self, state: State) -> bool:
        """After the last round."""
        return int(state["trained"]) >= self.options.rounds

    def broadcast(self, state: State) -> dict[str, NDArray[Any]]:
        """The encoding, and in training weights and counts."""
        wanted = ("phase", "kept", "weights", "counts")
        return {n: a for n, a in state.items() if n in wanted or n.startswith("mixture/")}

    def encoding(self, state: State) -> TableEncoding:
        """The encoding in a state."""
        return TableEncoding.from_arrays(state, self.schema, self.options.mixtures, self.options.threshold)

    def networks(self, state: State, seed: int = 0) -> Networks:
        """Networks of the right shape."""
        from models.generative.adversarial import Networks

        return Networks.build(self.encoding(state), self.options, seed)

    # -- where the patients are --------------------------------------------------------------------------------------

    def answer(self, state: State, cohort: Cohort, rng: np.random.Generator) -> dict[str, Any]:
        """Counts, or the weighted change of the weights; additive."""
        encoding = self.encoding(state)
        if int(state["phase"]) == COUNT:
            return encoding.counts(cohort, rng)
        from models.generative.adversarial import Rows, train

        weights, none = state["weights"], np.zeros(len(state["weights"]))
        cohort = cohort[
            encoding.known(cohort)
        ]  # who came later, or was suppressed, may have what nobody was counted with
        if len(cohort) < self.options.least:
            return {"update": none, "weight": 0.0, "generator_loss": 0.0, "discriminator_loss": 0.0}
        rows = Rows(encoding, *encoding.encode(cohort, rng))
        pack = self.options.pack(len(cohort))
        trained, *losses = train(self.networks(state), weights, rows, state["counts"], pack, rng)
        weight = self.weight(encoding, rows.states, state["counts"])
        update = weight * (trained.astype(np.float64) - weights)
        generator_loss, discriminator_loss = (weight * loss for loss in losses)
        sent = {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss}
        return {"update": update, "weight": weight, **sent}

    def weight(self, encoding: TableEncoding, states: Ints, totals: Floats) -> float:
        """A center's weight in the average.

        By similarity: n · (1 − mean over features of the Jensen-Shannon divergence, in bits, of the feature's states
        from those of all patients). Fed-TGAN puts the product through a softmax, which makes centers nearly equal
        whatever their size, and measures numbers by Wasserstein distances, for which modes stand here.
        """
        if self.options.weighting == "patients":
            return float(len(states))
        here, cuts = encoding.count(states), encoding.starts[1:]
        pairs = zip(np.split(here, cuts), np.split(totals, cuts), strict=True)
        return float(len(states) * (1.0 - np.mean([divergence(a, b) for a, b in pairs])))

    # -- where the sums arrive ---------------------------------------------------------------------------------------

    def update(self, state: State, total: Mapping[str, Floats]) -> dict[str, NDArray[Any]]:
        """The next state.

        Raises
        ------
        ValueError
            If no center has enough patients to train.
        """
        if int(state["phase"]) == COUNT:
            possible = self.encoding(state)
            kept = possible.keep(total["counts"])
            marginals = {"values": total["values"], "decimals": total["decimals"]}
            counted = {"kept": kept, "counts": total["counts"][kept], **marginals}
            new = {**state, **counted, "phase": np.array(TRAIN), "losses": np.empty((0, 2))}
            return {**new, "weights": self.networks(new, int(state["seed"])).weights()}
        if not total["weight"] > 0:
            raise ValueError(f"no center has the {self.options.least} training patients that training takes (least)")
        weights = state["weights"].astype(np.float64) + total["update"] / total["weight"]
        losses = [total[name] / total["weight"] for name in ("generator_loss", "discriminator_loss")]
        trained = {"weights": weights.astype(np.float32), "trained": np.array(int(state["trained"]) + 1)}
        return {**state, **trained, "losses": np.vstack([state["losses"], losses])}


def divergence(a: Floats, b: Floats) -> float:
    """Jensen-Shannon divergence of two histograms in bits, 0 (alike) to 1."""
    p, q = a / a.sum(), b / b.sum()
    middle = (p + q) / 2

    def entropy(r: Floats) -> float:
        return -float((r[r > 0] * np.log2(r[r > 0])).sum())

    return max(0.0, entropy(middle) - (entropy(p) + entropy(q)) / 2)


@dataclass(frozen=True, eq=False)
class FittedCTGAN(PatientGenerator):
    """A generator to draw patients from.

    Parameters
    ----------
    training
        By which it was trained.
    state
        Final.
    law
        Of times and events given the features.
    least
        Numbers are drawn from parts of a distribution that stand for at least so many patients.
    """

    training: CTGANTraining
    state: State
    law: SurvivalLaw
    least: int = 5

    @property
    def schema(self) -> Schema:
        """Of the patients."""
        return self.training.schema

    @cached_property
    def encoding(self) -> TableEncoding:
        """Of the patients."""
        return self.training.encoding(self.state)

    @cached_property
    def rates(self) -> tuple[Floats, ...]:
        """Of each feature's states among all patients."""
        parts = (np.maximum(part, _FEWEST) for part in np.split(self.state["counts"], self.encoding.starts[1:]))
        return tuple(part / part.sum() for part in parts)

    @cached_property
    def networks(self) -> Networks:
        """The final ones, batch normalization settled."""
        networks = self.training.networks(self.state)
        networks.load(self.state["weights"])
        rng = np.random.default_rng(np.random.SeedSequence([int(self.state["seed"]), 1]))
        networks.settle(self._ask(_BATCH, rng), int(rng.integers(2**63)))
        return networks

    @cached_property
    def shifts(self) -> Floats:
        """What is added to the logarithm of each state's chance so that it comes at its rate, shape (states,)."""
        rng = np.random.default_rng(np.random.SeedSequence([int(self.state["seed"]), 2]))
        shifts = np.zeros(int(self.encoding.sizes.sum()))
        logits = self._raw(self._ask(_BATCH, rng), rng)[:, self.encoding.columns]
        for j, rates in enumerate(self.rates):
            here = slice(self.encoding.starts[j], self.encoding.starts[j] + len(rates))
            for _ in range(_SHIFTS):  # as in iterative proportional fitting
                shifts[here] += np.log(
                    rates / np.maximum(softmax(logits[:, here] + shifts[here], axis=1).mean(0), 1e-12)
                )
        return shifts

    def _propose(self, n: int, fixed: Mapping[int, float], rng: np.random.Generator) -> Cohort:
        """Those of n patients, asked for the fixed values one at a time, who have them all; a number fixes its mode."""
        asked = {j: self.encoding.state_of(j, value) for j, value in fixed.items()}
        states, within = [], []
        for start in range(0, n, _BATCH):
            batch = min(_BATCH, n - start)
            chosen, inside = self._draw(batch, rng, asked)
            keep = np.all([chosen[:, j] == state for j, state in asked.items()], axis=0) & np.ones(batch, bool)
            states.append(chosen[keep])
            within.append(inside[keep])
        values = self._values(np.concatenate(states), np.concatenate(within), rng)
        for j, value in fixed.items():
            values[:, j] = value
        return self._cohort(values)

    def _draw(self, n: int, rng: np.random.Generator, asked: Mapping[int, int] | None = None) -> tuple[Ints, Floats]:
        """States (n, features), and numbers within modes (n, numeric features)."""
        raw = self._raw(self._ask(n, rng, asked), rng)
        logits = raw[:, self.encoding.columns] + self.shifts + rng.gumbel(size=(n, len(self.shifts)))
        states = np.column_stack([part.argmax(axis=1) for part in np.split(logits, self.encoding.starts[1:], axis=1)])
        return states, np.tanh(raw[:, self.encoding.within])

    @cached_property
    def _reference(self) -> tuple[Floats, ...]:
        """Known numbers of many patients drawn without conditions, sorted, of each numeric feature."""
        rng = np.random.default_rng(np.random.SeedSequence([int(self.state["seed"]), 3]))
        numbers = self.encoding.numbers(*self._draw(_REFERENCE, rng))
        return tuple(np.sort(x[~np.isnan(x)]) for x in numbers.T)

    def _values(self, states: Ints, within: Floats, rng: np.random.Generator) -> Floats:
        """Features; a number of a rank among those drawn becomes the number of this rank among all patients'."""
        numbers = self.encoding.numbers(states, within)
        for i, (j, reference) in enumerate(zip(self.encoding.numeric, self._reference, strict=True)):
            counts, known = self.state["values"][i], ~np.isnan(numbers[:, i])
            if not counts.any():
                continue
            whole = self.schema.features[j].kind == "count"
            places = 0 if whole else decimals_of_most(self.state["decimals"][i])
            below = np.searchsorted(reference, numbers[known, i])
            levels = (below + rng.random(known.sum())) / (len(reference) + 1)
            numbers[known, i] = cells.quantile(counts, levels, places, self.least)
        return self.encoding.decode(states, numbers)

    def _occurs(self, feature: int, value: float) -> bool:
        """By the counts."""
        return self.encoding.has(feature, value)

    def _ask(self, n: int, rng: np.random.Generator, asked: Mapping[int, int] | None = None) -> NDArray[np.float32]:
        """Conditions, shape (n, states): a feature by chance, and a state by its rate or the one asked for."""
        features = rng.choice(list(asked), n) if asked else rng.integers(len(self.rates), size=n)
        uniform = rng.random(n)
        condition = np.zeros((n, int(self.encoding.sizes.sum())), np.float32)
        for j, rates in enumerate(self.rates):
            mine = np.flatnonzero(features == j)
            drawn = np.minimum(np.searchsorted(np.cumsum(rates), uniform[mine], side="right"), len(rates) - 1)
            state = np.full(len(mine), asked[j]) if asked and j in asked else drawn
            condition[mine, self.encoding.starts[j] + state] = 1.0
        return condition

    def _raw(self, condition: NDArray[np.float32], rng: np.random.Generator) -> Floats:
        networks = self.networks
        from models.generative.adversarial import seeded

        with seeded(int(rng.integers(2**63))):
            return networks.raw(condition)


class CTGANModel(GenerativeModel[FittedCTGAN]):
    """The generator of one table.

    Parameters
    ----------
    options
        See `CTGANOptions`.
    law
        How to fit the laws of times (`models.generative.survival_law`).

    Attributes
    ----------
    fitted_
        The fitted generator.
    """

    def __init__(self, options: CTGANOptions | None = None, law: LawOptions | None = None) -> None:
        self.options = options or CTGANOptions()
        self.law = law or LawOptions()

    def fit(
        self, cohort: Cohort, seed: int = 0, stream: Callable[[int], np.random.Generator] | None = None
    ) -> CTGANModel:
        """Train on a cohort.

        Parameters
        ----------
        cohort
            Of patients.
        seed
            Of the first weights, and of all other random numbers if no stream is given.
        stream
            Gives each round's generator.
        """
        training = CTGANTraining(self.options, cohort.schema)
        numeric = [j for j, feature in enumerate(cohort.schema.features) if feature.numeric]
        points = cohort.values[:, numeric, None]
        state = training.start(fit_mixture(points, self.options.mixtures) if numeric else None, seed)
        r = 0
        while not training.done(state):
            rng = np.random.default_rng(np.random.SeedSequence([seed, r])) if stream is None else stream(r)
            total = training.answer(training.broadcast(state), cohort, rng)
            state, r = training.update(state, total), r + 1
        self.fitted_ = FittedCTGAN(training, state, SurvivalLaw.fit(cohort, self.law))
        return self
