"""A center: a cohort behind a wall. The only way in is `Center.answer`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import State, build
from federation.checkpoint import load_state, save_state
from federation.contribution import Contribution
from federation.policy import AuditLog, DisclosurePolicy, Refused
from federation.randomness import generator
from federation.splits import TEST, TRAIN, VALIDATION, Split
from harmonization import Cohort, Schema, require_same_schema
from models.preprocessing import Preprocessor
from models.training import TrainingData

_build = lru_cache(maxsize=64)(build)


@dataclass(frozen=True)
class Question:
    """What is asked of every center in one round. Plain data: JSON text, numbers and arrays.

    Parameters
    ----------
    task
        Names the run; a center's memory and random numbers belong to it.
    round
        Number of the round; asking a round again gives the same answer.
    algorithm
        Declaration of the algorithm (`Algorithm.declare`).
    state
        The broadcast arrays.
    split
        Which patients train.
    seed
        Of the run.
    centers
        Number of centers in the federation.
    keep_from
        The oldest round that a resumed run may ask again; a center's memory of earlier ones may go.
    """

    task: str
    round: int
    algorithm: str
    state: State
    split: Split
    seed: int
    centers: int
    keep_from: int = 0

    def to_json(self) -> str:
        """Everything but the arrays, as JSON."""
        return json.dumps({**{k: v for k, v in vars(self).items() if k != "state"}, "split": vars(self.split)})

    @classmethod
    def from_json(cls, text: str, state: State) -> Question:
        """Inverse of `to_json`."""
        values = json.loads(text)
        return cls(**{**values, "split": Split(**values["split"])}, state=state)


def file_name(*parts: str) -> str:
    """A name that is safe as one path component, whatever a center is called."""
    return "--".join(quote(part, safe=" +=,") for part in parts)


class Memory:
    """What a center remembers between the rounds of one task (SCAFFOLD's control variate, a personal head).

    A round reads what the rounds before it left, so that a question asked twice is answered the same. Given a
    directory, memory outlives the process: a resumed run finds it.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._rounds: dict[int, State] = {}
        self._left: State = {}
        self._round = 0
        if directory is not None and directory.exists():
            self._rounds = {int(p.stem): load_state(p) for p in directory.glob("*.npz")}

    def open(self, round: int) -> Memory:
        """Called by the wall: this round is about to be answered."""
        self._round, self._left = round, {}
        return self

    def recall(self) -> State:
        """What was left by the last round before this one; empty at the start."""
        past = [r for r in self._rounds if r < self._round]
        return self._rounds[max(past)] if past else {}

    def leave(self, arrays: State) -> None:
        """What the next rounds will find."""
        self._left = arrays

    def commit(self, keep_from: int) -> None:
        """Called by the wall after an answer: file what was left, and forget what can no longer be asked for."""
        for later in [r for r in self._rounds if r >= self._round]:  # the run went back to an earlier round
            self._forget(later)
        if self._left:
            self._rounds[self._round] = self._left
            if self._directory is not None:
                save_state(self._directory / f"{self._round}.npz", self._left)
        for old in sorted(r for r in self._rounds if r < keep_from)[:-1]:
            self._forget(old)

    def _forget(self, round: int) -> None:
        del self._rounds[round]
        if self._directory is not None:
            (self._directory / f"{round}.npz").unlink(missing_ok=True)


class Patients:
    """What an algorithm sees of a center's patients: the parts of one split.

    Parameters
    ----------
    cohort
        All patients of the center.
    parts
        Which of them train, validate and test (`federation.splits`), shape (n,).
    position, centers
        The center's place in the roster, and the roster's length.
    min_patients
        A validation part smaller than this is shown as empty.
    """

    def __init__(self, cohort: Cohort, parts: NDArray[np.int64], position: int, centers: int, min_patients: int):
        self.position, self.centers = position, centers
        self._cohort, self._parts = cohort, parts
        if (parts == VALIDATION).sum() < min_patients:
            self._parts = np.where(parts == VALIDATION, -1, parts)
        self._designs: dict[tuple[str, bytes], TrainingData] = {}

    @cached_property
    def train(self) -> Cohort:
        """Training patients."""
        return self._cohort[self._parts == TRAIN]

    @cached_property
    def validation(self) -> Cohort:
        """Validation patients; may be empty."""
        return self._cohort[self._parts == VALIDATION]

    @cached_property
    def test(self) -> Cohort:
        """Test patients; for evaluation alone."""
        return self._cohort[self._parts == TEST]

    def design(self, part: str, preprocessor: Preprocessor) -> TrainingData:
        """Design matrix and endpoint of a part (``train``, ``validation`` or ``test``), computed once."""
        key = (part, b"".join(np.ascontiguousarray(a).tobytes() for a in preprocessor.to_arrays().values()))
        if key not in self._designs:
            cohort: Cohort = getattr(self, part)
            self._designs[key] = TrainingData(preprocessor.transform(cohort), cohort.time, cohort.event)
        return self._designs[key]


class Center:
    """A cohort, its disclosure policy, its audit log and its memory.

    Parameters
    ----------
    name
        The center's name.
    source
        Loads the cohort from where the center keeps it. Who starts the center chooses the source; it never comes
        with a question.
    position
        The center's place in the roster.
    schema
        The federation's; the center refuses to train if its own differs. Times are converted to its unit.
    policy
        What may leave.
    directory
        Where the audit log and memory are kept, ``audit/<name>.jsonl`` and ``memory/<name>/``; None for neither.
    """

    def __init__(
        self,
        name: str,
        source: Callable[[], Cohort],
        position: int = 0,
        schema: Schema | None = None,
        policy: DisclosurePolicy | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name, self._source, self.position, self._schema = name, source, position, schema
        self._policy = policy or DisclosurePolicy()
        self._directory = directory
        self._audit = AuditLog(None if directory is None else directory / "audit" / f"{file_name(name)}.jsonl")
        self._memory: tuple[str, Memory] | None = None
        self._views: dict[Split, Patients] = {}

    @cached_property
    def _cohort(self) -> Cohort:
        cohort = self._source()
        if self._schema is not None:
            cohort = cohort.in_time_unit(self._schema.time_unit)
            require_same_schema(self._schema, cohort.schema, f"center {self.name}")
        return cohort

    def _parts(self, split: Split) -> NDArray[np.int64]:
        return split.parts(self._cohort.ids, self._cohort.event, self.name)

    def load(self) -> int:
        """Load the data now rather than at the first question.

        Returns
        -------
        int
            Number of patients.

        Raises
        ------
        CohortError
            If the data cannot be loaded, or its schema differs from the federation's, naming the difference.
        """
        return len(self._cohort)

    def answer(self, question: Question) -> Contribution:
        """Answer with a contribution that meets the policy, and log it.

        Raises
        ------
        Refused
            If the policy forbids the contribution.
        """
        patients = self._patients(question)
        entry = {"center": self.name, "task": question.task, "round": question.round}
        entry["algorithm"] = question.algorithm
        n = len(patients.train)
        if n < self._policy.min_patients:
            self._audit.write(**entry, withheld=f"{n} training patients, the policy wants {self._policy.min_patients}")
            return Contribution()
        algorithm = _build(question.algorithm)
        rng = generator(question.seed, algorithm.name, question.task, question.round, self.name)
        memory = self._remember(question.task).open(question.round)
        contribution = algorithm.client_update(question.state, patients, rng, memory)
        try:
            self._policy.check(contribution)
        except Refused as reason:
            self._audit.write(**entry, refused=str(reason))
            raise
        memory.commit(question.keep_from)
        self._audit.write(
            **entry,
            patients=contribution.patients,
            arrays={name: list(array.shape) for name, array in contribution.items()},
            bytes=contribution.nbytes,
        )
        return contribution

    def _patients(self, question: Question) -> Patients:
        if question.split not in self._views:
            if len(self._views) > 4:  # a sweep over many folds need not keep them all
                self._views.clear()
            parts = self._parts(question.split)
            self._views[question.split] = Patients(
                self._cohort, parts, self.position, question.centers, self._policy.min_patients
            )
        return self._views[question.split]

    def _remember(self, task: str) -> Memory:
        if self._memory is None or self._memory[0] != task:
            place = None if self._directory is None else self._directory / "memory" / file_name(self.name, task)
            self._memory = (task, Memory(place))
        return self._memory[1]
