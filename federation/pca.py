"""Federated principal components of a wide block of features: histopathology embeddings, radiomics.

The block's columns are standardized by the federation's preprocessor, so deviations from the mean of all training
patients are at hand and a center answers with one sum over its patients: of outer products (p × p) where the block is
narrow, else of their products with a basis that all share (p × l), a round of subspace iteration. Patients without the
block, and centers without it, add nothing. What comes out are the axes of the pooled training patients.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import SERVER, Algorithm, Roster, register
from federation.contribution import Contribution
from federation.kinds import COUNT, Kind, declare
from federation.memory import Memory
from federation.patients import Patients
from federation.preprocessing import preprocessor_of
from federation.randomness import generator
from federation.state import State
from harmonization import Schema
from harmonization.schema import Modality
from models.pca import PrincipalAxes, SubspaceIteration, axes_of_scatter, random_basis
from models.preprocessing import Preprocessor, encoded_modalities

Floats = NDArray[np.float64]


@register
@dataclass(frozen=True)
class FitPCA(Algorithm):
    """Principal components of one modality, over the training patients who have it.

    The final state holds the preprocessor with the components added (`preprocessor_of`), and the axes (`axes_of`).

    Parameters
    ----------
    modality
        Whose columns are reduced; one of the preprocessor's options `reduce`.
    components
        How many axes; fewer if the block has a lower rank.
    schema, preprocessor
        The federation's; the preprocessor reaches centers as arrays.
    widest
        Up to so many columns outer products are summed, above it products with a basis.
    tolerance
        Subspace iteration ends once the residual of the wanted axes is at most this (`models.pca.SubspaceIteration`).
    max_rounds
        It ends then at the latest.
    """

    name = "pca"
    kinds = declare({"present": COUNT, "image": Kind("sum", behind="present")})

    modality: Modality
    components: int = field(default=16, metadata=SERVER)
    schema: Schema | None = field(default=None, metadata=SERVER)
    preprocessor: Preprocessor | None = field(default=None, metadata=SERVER)
    widest: int = field(default=256, metadata=SERVER)
    tolerance: float = field(default=1e-8, metadata=SERVER)
    max_rounds: int = field(default=60, metadata=SERVER)

    def __post_init__(self) -> None:
        if self.components < 1 or self.max_rounds < 1:
            raise ValueError(f"components is {self.components} and max_rounds {self.max_rounds}; both are 1 or more")

    @property
    def columns(self) -> int:
        """Columns to be reduced."""
        assert self.schema is not None, "the coordinator needs the schema"
        assert self.preprocessor is not None, "the coordinator needs a fitted preprocessor"
        return int((encoded_modalities(self.schema)[self.preprocessor.reduced] == self.modality).sum())

    def start(self, roster: Roster) -> State:
        """The preprocessor and, for a wide block, a random basis drawn from the seed of the run."""
        assert self.preprocessor is not None
        state = {"round": np.array(0), "residual": np.array(np.inf), **self.preprocessor.to_arrays()}
        if self.columns > self.widest:
            rng = generator(roster.seed, self.name, self.modality)
            state["basis"] = random_basis(self.columns, self.components, rng)
        return state

    def done(self, state: State) -> bool:
        """After one round if exact, else once the axes stand still."""
        return float(state["residual"]) <= self.tolerance or int(state["round"]) >= self.max_rounds

    def broadcast(self, state: State) -> State:
        """The preprocessor, and the basis if there is one."""
        return {name: array for name, array in state.items() if name not in ("components", "variances", "residual")}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        """The sum over training patients with the block; nothing of fewer than the policy's least."""
        block = preprocessor_of(state).block(patients.train, self.modality)
        if len(block) < patients.min_patients:
            block = block[:0]
        right = block @ state["basis"] if "basis" in state else block
        return Contribution.of(len(patients.train), {"present": len(block), "image": block.T @ right})

    def server_update(self, state: State, total: Contribution) -> State:
        """The axes so far, and the basis of the next round."""
        assert self.schema is not None
        assert self.preprocessor is not None
        new: dict[str, NDArray[np.generic]] = {**state, "round": np.array(int(state["round"]) + 1)}
        image, present = total["image"], float(total["present"])
        if "basis" in state:
            found = SubspaceIteration.step(state["basis"], image, present, self.components)
            axes, new["basis"], new["residual"] = found.axes, found.basis, np.array(found.residual)
        else:
            axes, new["residual"] = axes_of_scatter(image, present, self.components), np.array(0.0)
        fitted = self.preprocessor.with_components(self.schema, self.modality, axes)
        return {**new, **fitted.to_arrays(), "components": axes.components, "variances": axes.variances}

    def metrics(self, state: State) -> dict[str, float]:
        """How far the axes are from standing still."""
        return {"residual": float(state["residual"])}


def axes_of(state: State) -> PrincipalAxes:
    """The axes in a final state of `FitPCA`."""
    return PrincipalAxes(state["components"], state["variances"])
