"""A center: a cohort behind a wall. The only way in is `Center.answer`."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import Algorithm, answers_together, build
from federation.contribution import Contribution
from federation.memory import Memory
from federation.patients import Patients
from federation.policy import AuditLog, DisclosurePolicy, Refused, inside, outside
from federation.privacy.disclosure import OwnPolicy, release, require_declared
from federation.privacy.dp.budget import PrivacyLedger
from federation.privacy.dp.discrete_gaussian import Source, seeded_source, system_source
from federation.privacy.dp.mechanism import Mechanism
from federation.privacy.ledger import Ledger
from federation.quorum import describe
from federation.randomness import entropies, entropy
from federation.splits import Split
from federation.state import State, file_name
from harmonization import Cohort, Schema, require_same_schema
from models.batched.streams import Streams

logger = logging.getLogger("haemfed")

built = lru_cache(maxsize=64)(build)
"""The algorithm of a declaration; the same object for the same text."""


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
    masked
        Session of secure aggregation in which the answer leaves. Set by the process that masks; never comes with a
        question.
    sharers
        With how many honest centers noise may be shared, since no sum over fewer is revealed; set with `masked`.
    registered
        Whether a registry of identities vouches for all of them; else the coordinator may have invented them.
    """

    task: str
    round: int
    algorithm: str
    state: State
    split: Split
    seed: int
    centers: int
    keep_from: int = 0
    masked: str = ""
    sharers: int = 1
    registered: bool = False

    def about(self) -> dict[str, object]:
        """What an audit log says of it."""
        about: dict[str, object] = {"task": self.task, "round": self.round, "algorithm": self.algorithm}
        return about | ({"masked": self.masked} if self.masked else {})

    def to_json(self) -> str:
        """Everything but the arrays, as JSON."""
        known = {k: v for k, v in vars(self).items() if k not in ("state", *_SET_HERE)}
        return json.dumps({**known, "split": vars(self.split)})

    @classmethod
    def from_json(cls, text: str, state: State) -> Question:
        """Inverse of `to_json`."""
        values = json.loads(text)
        values = {k: v for k, v in values.items() if k not in _SET_HERE}
        return cls(**{**values, "split": Split(**values["split"])}, state=state)


_SET_HERE = ("masked", "sharers", "registered")
"""What never comes with a question."""


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
    log
        An audit log that many centers share; by default each has its own.
    own
        The center's own policy, set by who runs it: of two rules the stricter holds.
    """

    def __init__(
        self,
        name: str,
        source: Callable[[], Cohort],
        position: int = 0,
        schema: Schema | None = None,
        policy: DisclosurePolicy | None = None,
        directory: Path | None = None,
        log: AuditLog | None = None,
        own: OwnPolicy | None = None,
    ) -> None:
        own = own or OwnPolicy()
        self.name, self._source, self.position, self._schema = name, source, position, schema
        self.policy = (policy or DisclosurePolicy()).stricter(own.policy)
        self._ledgers = own.ledger or (None if directory is None else directory / "ledger")
        self._directory = directory
        lines = None if directory is None else directory / "audit" / f"{file_name(name)}.jsonl"
        self._audit = log or AuditLog(lines)
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
        patients = len(self._cohort)
        self.privacy_ledger.require(self.policy.planned, self.policy)
        return patients

    def answer(self, question: Question, fits: Callable[[Contribution], None] | None = None) -> Contribution:
        """Answer with a contribution that meets the policy, and log it; or log why not.

        Parameters
        ----------
        fits
            Raises Refused if the contribution cannot be added to the others'; of the process that holds the center.

        Raises
        ------
        Refused
            If the policy forbids the contribution.
        """
        try:
            return self._answer(question, fits)
        except Exception as error:
            self.note(error, question)
            raise

    def _answer(self, question: Question, fits: Callable[[Contribution], None] | None) -> Contribution:
        patients = self.patients(question)
        if withheld := self.withholds(patients):
            self.log(question, withheld=withheld)
            return Contribution()
        algorithm = self._algorithm(question)
        suppressed: dict[str, int] = {}
        mechanism = self._mechanism(question, algorithm)
        noise = None if mechanism is None else mechanism.spending
        if self.policy.looks_closer:
            self._admit(question, algorithm, patients)
        if noise is not None:
            self.privacy_ledger.charge(question.task, algorithm.name, noise, self.policy)
        memory = self.memory(question.task).open(question.round)
        contribution = self._compute(algorithm, question, patients, memory, mechanism is not None)
        self.policy.check(contribution)
        if self.policy.looks_closer:
            policy = self.policy if mechanism is None else replace(self.policy, min_cell=0)  # noise hides cells
            contribution, suppressed = release(policy, algorithm.kinds, contribution)
        if mechanism is not None:
            contribution = mechanism.release(contribution, self._noise_source(question, algorithm), question.sharers)
        if fits is not None:
            fits(contribution)
        memory.commit(question.keep_from)
        self.log(
            question,
            patients=contribution.patients,
            arrays={name: list(array.shape) for name, array in contribution.items()},
            bytes=contribution.nbytes,
            **({"suppressed": suppressed} if suppressed else {}),
            **({"noise": noise.noise, "unit": noise.unit} if noise else {}),
        )
        return contribution

    def _algorithm(self, question: Question) -> Algorithm:
        try:
            return built(question.algorithm)
        except Exception as error:  # whatever it says is of the question
            raise Refused(f"cannot tell what is asked: {describe(error)}") from None

    def _admit(self, question: Question, algorithm: Algorithm, patients: Patients) -> None:
        """Before anything is computed: the rules of what may be asked.

        Raises
        ------
        Refused
            If one of them forbids it.
        """
        if question.centers < self.policy.min_centers:
            raise Refused(
                f"rule min_centers: the federation has {question.centers} centers, the policy wants sums over "
                f"{self.policy.min_centers}"
            )
        if self.policy.declared_edges:
            require_declared(algorithm.cuts(question.state, self._cohort.schema), self._cohort.schema)
        if self.policy.min_difference or self.policy.max_questions is not None:
            parts = {part: getattr(patients, part).ids for part in ("train", "validation", "test")}
            about = {"task": question.task, "round": question.round}
            self._ledger.admit(algorithm.name, parts, self.policy, **about)

    def _mechanism(self, question: Question, algorithm: Algorithm) -> Mechanism | None:
        """The noise for an answer; None for none.

        Raises
        ------
        Refused
            If the answer may not leave without noise, or not under this one.
        """
        mechanism = algorithm.mechanism(question.state, self._cohort.schema)
        if mechanism is None:
            if self.policy.noisy_only or self.policy.max_epsilon is not None:
                rule = "noisy_only" if self.policy.noisy_only else "max_epsilon"
                raise Refused(f"rule {rule}: {algorithm.name!r} asks for an answer without noise")
            return None
        if mechanism.distributed and not question.masked:
            raise Refused(f"{algorithm.name!r} asks for a share of the noise, and no secure aggregation masks the rest")
        if mechanism.distributed and not (question.registered or self.policy.simulation):
            raise Refused(
                f"rule simulation: {algorithm.name!r} asks for a share of the noise, and no registry of identities "
                "vouches for the centers that add the rest; set one up (docs/privacy.md, Identities of centers), use "
                "noise 'center', or say policy.simulation: true if the patients need no protection"
            )
        return mechanism

    def protect(self, question: Question, algorithm: Algorithm, contribution: Contribution) -> Contribution:
        """What may leave of an answer that was computed together with other centers', with its noise.

        Raises
        ------
        Refused
            As `answer`.
        """
        mechanism = self._mechanism(question, algorithm)
        assert mechanism is not None
        self.privacy_ledger.charge(question.task, algorithm.name, mechanism.spending, self.policy)
        return mechanism.release(contribution, self._noise_source(question, algorithm), question.sharers)

    def _noise_source(self, question: Question, algorithm: Algorithm) -> Source:
        """Where noise comes from."""
        if self.policy.secure_noise:
            return system_source()
        path = (algorithm.name, question.task, question.round, self.name, "noise")
        return seeded_source(*entropies(question.seed, *path))

    @cached_property
    def privacy_ledger(self) -> PrivacyLedger:
        """What answers have cost."""
        place = None if self._ledgers is None else self._ledgers / f"{file_name(self.name)}.privacy.json"
        return PrivacyLedger(place, self.name)

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger(None if self._ledgers is None else self._ledgers / f"{file_name(self.name)}.jsonl")

    def _compute(
        self, algorithm: Algorithm, question: Question, patients: Patients, memory: Memory, private: bool
    ) -> Contribution:
        """As a group of one where the algorithm computes for groups, so that a center's answer has the same bits."""
        if private and self.policy.secure_noise:  # who is in a sample must be nobody's guess
            secret = np.random.default_rng(int.from_bytes(os.urandom(32), "little"))
            return algorithm.client_update(question.state, patients, secret, memory)
        path = entropies(question.seed, algorithm.name, question.task, question.round)
        streams = Streams(path, np.array([entropy(self.name)], dtype=np.uint64))
        parts = answers_together(algorithm, question.state, patients.alone, streams, [memory])
        if parts is None:
            return algorithm.client_update(question.state, patients, streams.generator(0), memory)
        (part,) = parts
        for refusal in part.refused.values():
            raise refusal
        return part[0]

    # -- for the process that holds the center and its group; never for a question ------------------------------------

    def patients(self, question: Question) -> Patients:
        """The patients, split as the question asks.

        Raises
        ------
        Refused
            If the policy wants answers to be masked, and this one would not be.
        """
        if self.policy.masked_only and not question.masked:
            raise Refused("the policy lets out contributions under secure aggregation only (masked_only)")
        if question.split not in self._views:
            if len(self._views) > 4:  # a sweep over many folds need not keep them all
                self._views.clear()
            parts = self._parts(question.split)
            self._views[question.split] = Patients(
                self._cohort, parts, self.position, question.centers, self.policy.min_patients
            )
        return self._views[question.split]

    def withholds(self, patients: Patients) -> str:
        """Why the center answers with the zero contribution; empty if it does not."""
        n, least = len(patients.train), self.policy.min_patients
        return f"{n} training patients, the policy wants {least}" if n < least else ""

    def memory(self, task: str) -> Memory:
        """What it remembers of a task."""
        if self._memory is None or self._memory[0] != task:
            place = None if self._directory is None else self._directory / "memory" / file_name(self.name, task)
            self._memory = (task, Memory(place))
        return self._memory[1]

    def note(self, error: Exception, question: Question | None = None) -> str:
        """Write down, once, why the center does not answer, or cannot load its data: what others are told of it."""
        if not hasattr(error, "noted"):
            error.noted = True  # type: ignore[attr-defined]
            self.write_down(error, question)
        return outside(error)

    def write_down(self, error: Exception, question: Question | None = None) -> None:
        """Write an error into the audit log, or, without a question, one of loading."""
        said = inside(error)
        logger.debug("center %s: %s", self.name, said, exc_info=error)
        about = {"task": "load"} if question is None else question.about()
        try:
            self._audit.write(center=self.name, **about, **said)
        except OSError:  # a full disk: nothing leaves without a line, and this is none that leaves
            logger.debug("center %s: no line could be written", self.name, exc_info=True)

    def log(self, question: Question, **entry: object) -> None:
        """Write a line of the audit log."""
        self._audit.write(center=self.name, **question.about(), **entry)
