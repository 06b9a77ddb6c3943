"""The in-process backend: all centers in this process. For tests, notebooks, debugging, and federations of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from federation.algorithm import Algorithm, Roster
from federation.center import Center, Question
from federation.contribution import Contribution
from federation.group import CenterGroup
from federation.privacy.secure import Parties, SecureAggregation, SecureRounds
from federation.quorum import DropoutLog, Quorum, require_answers
from federation.splits import Split
from federation.state import State


@dataclass
class InProcessFederation:
    """Centers in this process, in roster order.

    Parameters
    ----------
    centers
        In roster order.
    seed, split, task
        Of the run; see `federation.center.Question`.
    quorum
        When a round counts.
    checkpoint_every
        Rounds between checkpoints of the run (see `federation.checkpoint.Checkpoint`), if there are any: memory is
        kept back to the last one.
    secure_aggregation
        Sum under masks; see `federation.privacy`.
    """

    centers: Sequence[Center]
    seed: int = 0
    split: Split = Split()
    task: str = "run"
    quorum: Quorum = Quorum()
    checkpoint_every: int = 10
    secure_aggregation: SecureAggregation | None = None
    dropouts: DropoutLog = field(default_factory=DropoutLog)
    roster: Roster = field(init=False)

    def __post_init__(self) -> None:
        for position, center in enumerate(self.centers):
            if center.position != position:
                raise ValueError(f"center {center.name!r} has position {center.position}; its place here is {position}")
        self.roster = Roster(tuple(center.name for center in self.centers), self.seed)
        self._absent: dict[str, str] = {}
        self._form(self.centers)

    def _form(self, centers: Sequence[Center]) -> None:
        self._group = CenterGroup(centers)
        self.centers = self._group.centers
        if self.secure_aggregation is not None:
            self._parties = Parties(self._group, self.secure_aggregation)
            self._secure = SecureRounds(self.secure_aggregation, hosts=("here",), min_centers=self.min_centers)

    def load(self) -> None:
        """Load every center's data and leave out those that cannot take part, naming them.

        Raises
        ------
        QuorumError
            If too few are left.
        """
        failed = self._group.load()
        self.dropouts.note(failed, 0)
        self.quorum.check(len(self.centers), failed)
        self._absent = failed
        self.centers = self._group.centers

    def ask(self, algorithm: Algorithm, state: State) -> Contribution:
        """Ask every center and add up; see `federation.algorithm.Federation.ask`."""
        if self.centers is not self._group.centers:  # somebody has chosen others
            self._form(self.centers)
        question = question_for(algorithm, state, self.task, self.split, self.roster, self.checkpoint_every)
        if self.secure_aggregation is not None:
            return self._ask_securely(algorithm, question)
        summed, dropouts = self._group.answer(question)
        answers = summed.result()
        self.dropouts.note(dropouts, question.round)
        self.quorum.check(len(self.roster.names), self._absent | dropouts)
        require_answers(answers, summed.centers, self.min_centers)
        return answers

    @property
    def min_centers(self) -> int:
        """Fewest centers in a sum: the quorum's, or that of the strictest center's policy."""
        return max([self.quorum.min_centers, *(center.policy.min_centers for center in self.centers)])

    def _ask_securely(self, algorithm: Algorithm, question: Question) -> Contribution:
        """The steps of secure aggregation, with all centers on one host."""
        failed: dict[str, str] = {}

        def call(step: str, arguments: Mapping[Any, tuple[Any, ...]]) -> Mapping[Any, Any]:
            extra = {"join": (question,), "answer": (question,)}.get(step, ())
            return {host: getattr(self._parties, step)(*extra, *given) for host, given in arguments.items()}

        def enough() -> None:
            self.dropouts.note(failed, question.round)
            self.quorum.check(len(self.roster.names), self._absent | failed)

        return self._secure.ask(algorithm, question, call, failed, enough)


def question_for(
    algorithm: Algorithm, state: State, task: str, split: Split, roster: Roster, checkpoint_every: int
) -> Question:
    """The question of a round."""
    r = int(state["round"])
    return Question(
        task=task,
        round=r,
        algorithm=algorithm.declare(),
        state=algorithm.broadcast(state),
        split=split,
        seed=roster.seed,
        centers=len(roster.names),
        keep_from=r // checkpoint_every * checkpoint_every,
    )
