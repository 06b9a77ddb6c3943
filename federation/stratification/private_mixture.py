"""The conditional-Bernoulli mixture under differential privacy: a chain driven by counts with noise.

Given the state, patients are independent, and each is in one component (`federation.stratification.mixture`). So one
patient more or less changes a round's answer by the patient's own lesions and one cell of the histogram, whatever the
others are: the bound that noise needs. Rounds are composed by the ledger, adaptively: what is asked next may depend on
the noisy answers before (Dwork, Rothblum & Vadhan 2010).

What has no such bound is left out. The change of the likelihood by a birth or death (`jumps`) is a sum of logarithms
that one patient can move by any amount; so components are not born by proposals, only by draws from the prior, and the
start has more of them than are needed. The panels cannot be agreed on by exact sums; so patients with an untested
lesion take no part, nor do those with more lesions than ``most``, which bounds what one can add.

With noise this is no sampler of the posterior. Its state is a public summary, and its clusters are worse the more
rounds share a budget.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clustering.events import MISSING, EventTable
from clustering.mixture.sweep import statistics
from federation.algorithm import SERVER, Roster, register
from federation.contribution import Contribution
from federation.kinds import COUNT, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.privacy.dp.consistency import on_simplex, rounded
from federation.privacy.dp.mechanism import Mechanism, of_arrays
from federation.randomness import generator
from federation.state import State
from federation.stratification import jumps
from federation.stratification.mixture import FederatedMixture, _labels
from harmonization import Schema

Floats = NDArray[np.float64]


@register
@dataclass(frozen=True)
class PrivateMixture(FederatedMixture):
    """`FederatedMixture` whose counts leave with noise: ``rounds`` + 1 answers, each a Gaussian mechanism.

    Parameters
    ----------
    noise
        Noise multiplier of an answer. `federation.privacy.dp.accounting.noise_for` finds that of an ε, given
        ``[Spending("patient", 1.0, 1.0, rounds + 1)]``.
    distributed
        Whether centers add shares of the noise, under secure aggregation.
    most
        Patients with more lesions take no part.
    rounds, proposals
        Fewer rounds, and no proposals.

    Notes
    -----
    The number of training patients of each center is public; how many of them take part in the mixture is not.
    """

    name = "private-mixture"
    kinds = declare(dict.fromkeys(("together", "numbers", "events", "histogram"), COUNT))

    noise: float = 1.0
    distributed: bool = False
    most: int = 10
    rounds: int = field(default=20, metadata=SERVER)
    proposals: int = field(default=0, metadata=SERVER)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.proposals:
            raise ValueError(
                f"proposals is {self.proposals}; under noise it is 0, since nothing bounds how much one patient "
                "changes the likelihood of a birth or death"
            )
        if not self.noise > 0 or not 1 <= self.most <= len(self.genes):
            raise ValueError(
                f"noise is {self.noise}, most {self.most}; noise is above 0, most from 1 to the {len(self.genes)} genes"
            )

    def bounds(self, state: State, schema: Schema) -> dict[str, float]:
        """n lesions are n² pairs of lesions and n cells of the numbers; later n cells of one component, and one."""
        if "theta" not in state:
            return {"together": float(self.most), "numbers": float(np.sqrt(self.most))}
        return {"events": float(np.sqrt(self.most)), "histogram": 1.0}

    def mechanism(self, state: State, schema: Schema) -> Mechanism:
        """Noise in proportion to the bounds."""
        return of_arrays("patient", self.bounds(state, schema), self.noise, distributed=self.distributed)

    # -- at the coordinator ------------------------------------------------------------------------------------------

    def start(self, roster: Roster) -> State:
        """One panel, of all lesions."""
        return {**super().start(roster), "tested": np.ones((1, len(self.genes)), dtype=bool)}

    def _agree(self, state: State, total: Contribution) -> dict[str, NDArray[Any]]:
        """Components like the patients with a lesion each, from noisy counts of pairs."""
        together, numbers = total["together"], total["numbers"]
        together = np.clip((together + together.T) / 2, 0.0, None)
        rows, numbers = consistent(together, numbers)
        together = np.where(np.eye(len(rows), dtype=bool), np.maximum(np.diag(rows), 1.0), rows)
        rng = generator(int(state["seed"]), self.name, "templates")
        location = jumps.locate(together, numbers, self.most, rng)
        new = {"attempt": np.array(1), "highest": np.array(self.most), "together": together, "location": location}
        return {**new, **self._components({**state, **new})}

    def _round(self, state: State, total: Contribution) -> dict[str, NDArray[Any]]:
        """The parent's, on counts that could be of patients; how many there are follows from the counts as well."""
        events, histogram = consistent(total["events"], total["histogram"][:, 0])
        counts = Contribution.of(total.patients, {"events": events, "histogram": histogram[:, None]})
        known = {**state, "patients": np.array(int(histogram.sum()))}
        return super()._round(known, counts)

    # -- inside a center ---------------------------------------------------------------------------------------------

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """As parent, but zeros where nobody takes part, and under the number of all training patients."""
        local, n, genes = self._local(patients), len(patients.train), len(self.genes)
        if "theta" not in state:
            x = (local.table.events == 1).astype(np.float64)
            number = np.eye(self.most + 1)[x.sum(axis=1).astype(int)]
            return Contribution(n, together=x.T @ x, numbers=x.T @ number)
        components = len(state["theta"])
        if not len(local.table):
            return Contribution(
                n, events=np.zeros((components, genes)), histogram=np.zeros((components, 1, self.most + 1))
            )
        data = local.on_panels(state["tested"], self.most)
        events, histogram = statistics(data, _labels(data, local.keys, state), components)
        return Contribution(n, events=events, histogram=histogram)

    def _taking_part(self, table: EventTable) -> EventTable:
        tested = (table.events != MISSING).all(axis=1)
        return table.select(tested & (table.counts > 0) & (table.counts <= self.most))


def consistent(events: Floats, histogram: Floats) -> tuple[Floats, Floats]:
    """Whole counts near to noisy ones that could be of patients: none negative, and as many lesions by either.

    Clipping at zero alone would turn noise into lesions; so what has to be is taken off all cells alike (the nearest
    point of a simplex, Hay et al. 2010). Only noisy counts are used, so that it costs nothing.

    Parameters
    ----------
    events
        Patients by component and lesion, (components, genes).
    histogram
        Patients by component and number of lesions, (components, highest + 1).
    """
    numbers = np.arange(histogram.shape[1], dtype=np.float64)
    known = histogram.copy()
    known[:, 0] = 0.0  # nobody without a lesion takes part
    patients = np.maximum(np.rint(known.sum(axis=1)), 0.0)
    if not patients.any():
        patients[0] = 1.0  # noise left nothing: a chain has to go on with somebody
    whole = np.zeros_like(known)
    kept = np.zeros_like(events)
    for k, n in enumerate(patients):
        whole[k, 1:] = rounded(on_simplex(known[k, 1:], n), n)
        lesions = whole[k] @ numbers
        kept[k] = rounded(on_simplex(events[k], lesions), lesions)
        kept[k] = np.minimum(kept[k], n)  # no more patients with a lesion than patients
        if (left := lesions - kept[k].sum()) > 0:  # what does not fit goes where there is room, in order of size
            for g in np.argsort(-kept[k], kind="stable"):
                put = min(left, n - kept[k, g])
                kept[k, g], left = kept[k, g] + put, left - put
    return kept, whole
