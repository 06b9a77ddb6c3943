"""The conditional-Bernoulli mixture over patients whom no one may pool: an exact Gibbs sampler by sums alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from clustering.events import EventTable
from clustering.mixture.data import Data, prepare
from clustering.mixture.sampler import FEWEST, FIRST_HEAT, MOST
from clustering.mixture.sweep import statistics
from federation.algorithm import SERVER, Algorithm, Roster, register
from federation.contribution import Contribution
from federation.kinds import SUM, WHOLE_COUNT, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.quorum import QuorumError
from federation.randomness import entropy, generator
from federation.state import State
from federation.stratification import jumps, panels, telescoping
from federation.stratification.labels import draw_labels, patient_keys, uniforms
from federation.stratification.memberships import Memberships, event_table
from harmonization import Cohort, Schema

Floats = NDArray[np.float64]

SCALARS = ("log_likelihood", "clusters", "components", "entropy", "scale")
"""What `trace` holds per round: log-likelihood given labels and weights, components with patients, all components,
entropy of the cluster sizes (nats), parameter of the weights' prior."""

START_SCALE = 0.3


def lesions(schema: Schema) -> tuple[str, ...]:
    """Names of a schema's binary genomic features."""
    return tuple(f.name for f in schema.features if f.kind == "binary" and f.modality == "genomic")


def trace(state: State) -> Floats:
    """Rows of `SCALARS`, one per round of the sampler so far, shape (rounds, scalars)."""
    return state["trace"][: int(state["sweeps"])]


@register
@dataclass(frozen=True)
class FederatedMixture(Algorithm):
    """Gibbs sampling of the mixture of `clustering.mixture.MixtureSampler` (``partition="mfm"``), federated and exact.

    K ~ Geometric, proportions π ~ Dirichlet(γ, …), weights w_k / Σw_k ~ Dirichlet(a, …), log a uniform; given its
    number of events n_i and its component, a patient's events have probability Π_g w_kg^{x_ig} / e_n(w_k) over its
    tested lesions. Here π and w are in the state, so that patients are independent given it: a center draws its own
    patients' components and answers with sums, and the coordinator draws w, a, K and π given the sums (the telescoping
    sampler, Frühwirth-Schnatter, Malsiner-Walli & Grün, Bayesian Analysis 2021). The posterior is that of the pooled
    patients (but for the cut of K at ``capacity``, and a rounding in `jumps`), and so is the chain, bit for bit on one
    kind of machine, since a patient's random number depends on (seed, patient id, round) alone and sums of whole
    numbers do not depend on their order.

    A round's contribution is ``events`` (components, genes), patients with an event by component and lesion, and
    ``histogram`` (components, panels, highest number + 1), patients by component, tested lesions and number of events.
    The rounds before agree on the panels (`federation.stratification.panels`) and count patients by two lesions, from
    which components start and are born; between the sampler's rounds, centers answer with one number to each proposal
    (`federation.stratification.jumps`). For so many questions ``round`` counts more than ``sweeps``.

    What this discloses. Labels and random numbers stay in the center, but the counts of one center are exact, and a
    cell may hold one patient: a component with one patient of a center tells the coordinator that patient's lesions,
    though not who it is, and counts of many rounds tell of pairs of patients more than one round's. Exact inference
    leaves no room for suppressing or perturbing cells. The wall's policy applies as ever: a center with fewer patients
    than ``min_patients`` withholds, one with fewer patients with events is refused, and neither is then part of the
    posterior. A host of several centers answers with their sum, and since all sums are of whole numbers, secure
    aggregation loses nothing. Where the coordinator may not see a center's cells, do not run this without one of the
    two; where it may not see cells at all, there is `federation.stratification.private_mixture`.

    Parameters
    ----------
    genes
        Names of binary features, e.g. `lesions` of the schema. Missing is not tested, and is marginalized exactly.
        Patients without an event say nothing of the components and are left out.
    unique_ids
        Whether patient ids are unique in the whole federation. If not, random numbers depend on the center too, as two
        patients of one id would share theirs; then the chain depends on who holds a patient, its law does not.
    rounds
        Rounds of the sampler.
    annealing
        So many of them at first raise the likelihood's power from 0.6 to 1; no part of the chain itself. None by
        default: components start from data, and heat merges small ones, which are slow to be born again.
    gamma, geometric, scale, scale_bounds
        Of the priors; see `clustering.mixture.MixtureSampler`. A ``scale`` of None is learned.
    components
        At the start; drawn between 2 and 40 by default. Each resembles the patients with a lesion drawn at random.
    capacity
        The prior of K is cut here.
    proposals
        Questions before each round of the sampler that only propose a component's birth or death.
    """

    name = "federated-mixture"
    under_noise = "private-mixture"
    kinds = declare(
        {
            "gain": SUM,
            **dict.fromkeys(
                ("panel_patients", "panel_tested", "together", "numbers", "events", "histogram"), WHOLE_COUNT
            ),
        }
    )

    genes: tuple[str, ...]
    unique_ids: bool = True
    rounds: int = field(default=1000, metadata=SERVER)
    annealing: int = field(default=0, metadata=SERVER)
    gamma: float = field(default=1.0, metadata=SERVER)
    geometric: float = field(default=0.1, metadata=SERVER)
    scale: float | None = field(default=None, metadata=SERVER)
    scale_bounds: tuple[float, float] = field(default=(0.005, 10.0), metadata=SERVER)
    components: int | None = field(default=None, metadata=SERVER)
    capacity: int = field(default=100, metadata=SERVER)
    proposals: int = field(default=1, metadata=SERVER)

    def __post_init__(self) -> None:
        if not self.genes or len(set(self.genes)) < len(self.genes):
            raise ValueError(f"genes: {len(self.genes)} names, {len(set(self.genes))} different; name each lesion once")
        if not 0 <= self.annealing < self.rounds:
            raise ValueError(f"annealing is {self.annealing}; it takes some of the {self.rounds} rounds, not all")
        if self.gamma <= 0 or not 0 < self.geometric < 1:
            raise ValueError(f"gamma is {self.gamma}, geometric {self.geometric}; they are above 0, the latter below 1")
        if self.scale is not None and self.scale <= 0:
            raise ValueError(f"scale is {self.scale}; it is above 0, or None to be learned")
        if not 0 < self.scale_bounds[0] < self.scale_bounds[1]:
            raise ValueError(f"scale_bounds: {self.scale_bounds}; two positive numbers, the lower first")
        if self.proposals < 0:
            raise ValueError(f"proposals is {self.proposals}; 0 or more")
        if not 1 <= (self.components or 1) <= self.capacity:
            raise ValueError(f"components is {self.components}; from 1 to the capacity, {self.capacity}")

    # -- at the coordinator ------------------------------------------------------------------------------------------

    def start(self, roster: Roster) -> State:
        """No panel is known yet."""
        key = np.random.SeedSequence([roster.seed, entropy(self.name), entropy("labels")])
        return {
            "round": np.array(0),
            "seed": np.array(roster.seed),
            "key": key.generate_state(2, np.uint64),
            "sweeps": np.array(0),
            "jumps": np.array(0),
            "attempt": np.array(0),
            "tested": np.zeros((0, len(self.genes)), dtype=bool),
        }

    def done(self, state: State) -> bool:
        """After the last round of the sampler."""
        return int(state["sweeps"]) >= self.rounds

    def broadcast(self, state: State) -> State:
        """The panels known so far; once agreed on, weights, proportions, normalizers, power of the likelihood."""
        if "theta" not in state:
            return {name: state[name] for name in ("tested", "attempt")}
        proposal = self._proposal(state)
        theta = telescoping.floored(state["theta"] if proposal is None else proposal.theta)
        return {
            **{name: state[name] for name in ("key", "sweeps", "tested")},
            "theta": theta,
            "log_norms": telescoping.log_norms(theta, state["tested"], int(state["highest"])),
            "log_weights": state["log_weights"] if proposal is None else proposal.log_weights,
            "heat": np.array(self._heat(int(state["sweeps"]))),
        }

    def server_update(self, state: State, total: Contribution) -> State:
        """Agree on the panels, then one Gibbs round given the sums.

        Raises
        ------
        QuorumError
            If other patients answered than in the first round: without all of them, a round is not one of this chain.
        """
        new = dict(state)
        new["round"] = np.array(int(state["round"]) + 1)
        if int(state["round"]) == 0:
            new["patients"] = np.array(total.patients)
        elif total.patients != int(state["patients"]):
            raise QuorumError(
                f"round {int(state['round'])}: the centers of {total.patients} patients answered, but the run began "
                f"with {int(state['patients'])}; exact sampling needs all in every round; resume with all centers"
            )
        if "theta" not in state:
            new |= self._agree(new, total)
        elif (proposal := self._proposal(state)) is not None:
            new |= self._jump(state, proposal, float(total["gain"]) / jumps.UNITS)
        else:
            new |= self._round(state, total)
        while int(new["jumps"]) < self.proposals and "theta" in new and self._proposal(new) is None:
            new["jumps"] = np.array(int(new["jumps"]) + 1)  # nothing can be proposed: do not ask
        return new

    def metrics(self, state: State) -> dict[str, float]:
        """The last round's `SCALARS`."""
        row = trace(state)[-1] if "trace" in state and int(state["sweeps"]) else np.full(len(SCALARS), np.nan)
        return dict(zip(SCALARS, map(float, row), strict=True))

    def _heat(self, sweep: int) -> float:
        return FIRST_HEAT + (1.0 - FIRST_HEAT) * sweep / self.annealing if sweep < self.annealing else 1.0

    def _proposal(self, state: State) -> jumps.Proposal | None:
        """The birth or death that the next question is about; None if it is about labels or nothing can be proposed."""
        if int(state["jumps"]) >= self.proposals:
            return None
        rng = generator(int(state["seed"]), self.name, "jump", int(state["sweeps"]), int(state["jumps"]))
        gene = int(rng.choice(np.flatnonzero(np.diag(state["together"]))))
        priors = float(state["scale"]), self.gamma, self.geometric, self.capacity
        return jumps.propose(self._template(state, gene), state["theta"], state["log_weights"], *priors, rng)

    def _template(self, state: State, gene: int) -> jumps.Template:
        share = float(state["together"][gene, gene]) / int(state["patients"])
        return jumps.Template(gene, state["together"][gene], state["location"][gene], share)

    def _jump(self, state: State, proposal: jumps.Proposal, gain: float) -> dict[str, NDArray[Any]]:
        rng = generator(int(state["seed"]), self.name, "accept", int(state["sweeps"]), int(state["jumps"]))
        accepted = bool(np.log1p(-rng.random()) < gain + proposal.log_ratio)
        birth = len(proposal.theta) - len(state["theta"])
        new = {"jumps": np.array(int(state["jumps"]) + 1), "accepted": state["accepted"].copy()}
        new["accepted"][birth] += accepted, 1
        if accepted:
            there = np.isfinite(proposal.log_weights[1])
            new["theta"], new["log_weights"] = proposal.theta[there], proposal.log_weights[1][there]
            new["sizes"] = np.append(state["sizes"], np.zeros(birth))[there]
        return new

    def _agree(self, state: State, total: Contribution) -> dict[str, NDArray[Any]]:
        new: dict[str, NDArray[Any]] = {"attempt": np.array(int(state["attempt"]) + 1)}
        if int(state["attempt"]) == 0:
            highest = int(np.flatnonzero(total["numbers"].sum(0)).max())
            rng = generator(int(state["seed"]), self.name, "templates")
            new["highest"], new["together"] = np.array(highest), total["together"]
            new["location"] = jumps.locate(total["together"], total["numbers"], highest, rng)
        found, complete = panels.resolve(total["panel_patients"], total["panel_tested"], state["tested"])
        new["tested"] = found
        return {**new, **self._components({**state, **new})} if complete else new

    def _components(self, known: State) -> dict[str, NDArray[Any]]:
        """Those of the start: each resembles the patients with a lesion drawn at random."""
        rng = generator(int(known["seed"]), self.name, "start")
        components = self.components or int(rng.integers(FEWEST, min(MOST, self.capacity) + 1))
        scale = self.scale or START_SCALE
        of_gene = np.diag(known["together"])
        genes = rng.choice(len(of_gene), components, p=np.sqrt(of_gene) / np.sqrt(of_gene).sum())
        return {
            "theta": np.array([self._template(known, int(gene)).draw(scale, rng)[0] for gene in genes]),
            "log_weights": telescoping.draw_log_weights(np.zeros(components), self.gamma, rng),
            "scale": np.array(scale),
            "sizes": np.zeros(components),
            "accepted": np.zeros((2, 2)),
            "trace": np.full((self.rounds, len(SCALARS)), np.nan),
        }

    def _round(self, state: State, total: Contribution) -> dict[str, NDArray[Any]]:
        sweep, tested, scale = int(state["sweeps"]), state["tested"], float(state["scale"])
        heat, rng = self._heat(sweep), generator(int(state["seed"]), self.name, "round", sweep)
        sizes = total["histogram"].sum((1, 2))
        filled = np.flatnonzero(sizes)  # in their old order: a component keeps its place among those with patients
        if int(sizes.sum()) != int(state["patients"]):
            raise ValueError(f"the counts are of {int(sizes.sum())} patients, but {int(state['patients'])} take part")
        events, histogram, sizes = total["events"][filled], total["histogram"][filled], sizes[filled]
        theta = telescoping.update_theta(state["theta"][filled], events, histogram, tested, scale, heat, rng)
        if self.scale is None:
            scale = telescoping.learn_scale(scale, theta, self.scale_bounds, rng)
        components = telescoping.draw_components(
            len(filled), int(state["patients"]), self.gamma, self.geometric, max(self.capacity, len(filled)), rng
        )
        empty = components - len(filled)
        new = {
            "sweeps": np.array(sweep + 1),
            "jumps": np.array(0),
            "theta": np.concatenate([theta, telescoping.draw_theta(empty, len(self.genes), scale, rng)]),
            "scale": np.array(scale),
            "sizes": np.concatenate([sizes, np.zeros(empty)]),
        }
        new["log_weights"] = telescoping.draw_log_weights(new["sizes"], self.gamma, rng)
        flat = telescoping.floored(theta)
        norms = telescoping.log_norms(flat, tested, int(state["highest"]))
        share = sizes / sizes.sum()
        row = telescoping.log_likelihood(flat, norms, events, histogram), len(filled), components
        new["trace"] = state["trace"].copy()
        new["trace"][sweep] = [*row, -(share * np.log(share)).sum(), scale]
        return new

    # -- inside a center ---------------------------------------------------------------------------------------------

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """Sums over the center's training patients: by panel at first, then by component, or the gain of a proposal."""
        local = self._local(patients)
        if not len(local.table):
            return Contribution()
        if "theta" not in state:
            sets, which = local.table.patterns
            attempt = int(state["attempt"])
            counts = panels.count(sets, which, state["tested"], attempt)
            return Contribution.of(
                len(local.table), counts | (jumps.pair_counts(local.table.events == 1) if attempt == 0 else {})
            )
        data = local.on_panels(state["tested"], state["log_norms"].shape[2] - 1)
        if state["log_weights"].ndim == 2:
            parts = data.starts, data.genes, data.pattern, state["theta"], state["log_norms"], state["log_weights"]
            return Contribution(len(local.table), gain=jumps.gain(*parts, float(state["heat"])))
        labels = _labels(data, local.keys, state)
        events, histogram = statistics(data, labels, len(state["theta"]))
        return Contribution(len(labels), events=events, histogram=histogram)

    def memberships(self, state: State, cohort: Cohort, position: int = 0) -> Memberships:
        """A center's own patients' components under a state, for its own use: nothing of it may leave.

        Labels are those that the center draws, or drew, when asked for labels with this state. Components are numbered
        as the state's rows; patients may be new ones, with any lesions tested.

        Parameters
        ----------
        state
            Of a run past its agreement on panels.
        cohort
            The center's patients, or some of them.
        position
            The center's place in the roster; matters only without ``unique_ids``.

        Raises
        ------
        ValueError
            If the state has no components yet.
        """
        if "theta" not in state:
            raise ValueError("state: it has no components yet; centers are still agreeing on panels")
        table = event_table(cohort, self.genes)
        proportions = np.exp(state["log_weights"])
        labels = np.full(len(cohort), -1)
        probabilities = np.tile(proportions, (len(cohort), 1))
        seen = table.counts > 0
        if seen.any():
            data = prepare(table.select(seen))
            theta = telescoping.floored(state["theta"])
            norms = telescoping.log_norms(theta, data.tested, data.highest)
            heat = np.array(self._heat(int(state["sweeps"])))
            question = {**state, "theta": theta, "log_norms": norms, "heat": heat}
            labels[seen] = _labels(data, self._keys(cohort.ids[seen], position), question)
            law = (table.events[seen] == 1) @ theta.T - norms[:, data.pattern, table.counts[seen]].T
            log_p = law + state["log_weights"]
            probabilities[seen] = np.exp(log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True))
        return Memberships(cohort.ids, labels, probabilities)

    def _keys(self, ids: NDArray[np.str_], position: int) -> NDArray[np.uint64]:
        return patient_keys(ids, "" if self.unique_ids else f"{position}/")

    def _local(self, patients: Patients) -> _Local:
        """The center's patients as the kernels read them, computed once."""
        views = _VIEWS.setdefault(patients, {})
        key = self.declare()
        if key not in views:
            table = self._taking_part(event_table(patients.train, self.genes))
            views[key] = _Local(table, self._keys(table.ids, patients.position))
        return views[key]

    def _taking_part(self, table: EventTable) -> EventTable:
        """Patients of whom the mixture is: those with an event."""
        return table.select(table.counts > 0)


@dataclass
class _Local:
    """A center's patients with events, their keys, and their data on the agreed panels."""

    table: EventTable
    keys: NDArray[np.uint64]
    _agreed: tuple[NDArray[np.bool_], Data] | None = None

    def on_panels(self, tested: NDArray[np.bool_], highest: int) -> Data:
        if self._agreed is None or self._agreed[1].highest != highest or not np.array_equal(self._agreed[0], tested):
            data = prepare(self.table)
            row = panels.find(tested, data.tested)
            if (row < 0).any() or data.highest > highest:
                raise ValueError(
                    "a patient's tested lesions or number of events was not agreed on; start the run afresh"
                )
            self._agreed = tested, data._replace(pattern=row[data.pattern], tested=tested, highest=highest)
        return self._agreed[1]


_VIEWS: WeakKeyDictionary[Patients, dict[str, _Local]] = WeakKeyDictionary()


def _labels(data: Data, keys: NDArray[np.uint64], state: State) -> NDArray[np.int64]:
    uniform = uniforms(state["key"], keys, np.uint64(state["sweeps"]))
    parts = data.starts, data.genes, data.pattern
    labels: NDArray[np.int64] = draw_labels(
        *parts, state["theta"], state["log_norms"], state["log_weights"], float(state["heat"]), uniform
    )
    return labels
