"""The in-process backend: all centers in this process. For tests, notebooks, debugging, and federations of one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from federation.algorithm import Algorithm, Roster
from federation.center import Center, Question
from federation.contribution import Contribution, total
from federation.policy import Refused
from federation.quorum import DropoutLog, Quorum, describe, require_answers
from federation.splits import Split
from federation.state import State
from harmonization import CohortError

logger = logging.getLogger("haemfed")


@dataclass
class InProcessFederation:
    """Centers in this process, asked one after the other in roster order.

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
    """

    centers: Sequence[Center]
    seed: int = 0
    split: Split = Split()
    task: str = "run"
    quorum: Quorum = Quorum()
    checkpoint_every: int = 10
    dropouts: DropoutLog = field(default_factory=DropoutLog)
    roster: Roster = field(init=False)

    def __post_init__(self) -> None:
        for position, center in enumerate(self.centers):
            if center.position != position:
                raise ValueError(f"center {center.name!r} has position {center.position}; its place here is {position}")
        self.roster = Roster(tuple(center.name for center in self.centers), self.seed)
        self._absent: dict[str, str] = {}

    def load(self) -> None:
        """Load every center's data and leave out those that cannot take part, naming them.

        Raises
        ------
        QuorumError
            If too few are left.
        """
        failed = load_all(self.centers)
        self.dropouts.note(failed, 0)
        self.quorum.check(len(self.centers), failed)
        self._absent = failed
        self.centers = [center for center in self.centers if center.name not in failed]

    def ask(self, algorithm: Algorithm, state: State) -> Contribution:
        """Ask every center and add up; see `federation.algorithm.Federation.ask`."""
        question = question_for(algorithm, state, self.task, self.split, self.roster, self.checkpoint_every)
        answers, dropouts = answer_all(self.centers, question)
        self.dropouts.note(dropouts, question.round)
        self.quorum.check(len(self.roster.names), self._absent | dropouts)
        require_answers(answers)
        return answers


def load_all(centers: Sequence[Center]) -> dict[str, str]:
    """Load every center's data: the reason of each center that cannot take part."""
    failed = {}
    for center in centers:
        try:
            center.load()
        except Exception as error:  # one center's failure must not take the others down
            failed[center.name] = str(error) if isinstance(error, CohortError) else describe(error)
    return failed


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


def answer_all(centers: Sequence[Center], question: Question) -> tuple[Contribution, dict[str, str]]:
    """Let centers answer one after the other: the sum of the answers, and the reason of each that failed."""
    answers, dropouts = [], {}
    for center in centers:
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # a diverged model is refused by the wall
                answers.append(center.answer(question))
        except Refused as refusal:
            dropouts[center.name] = str(refusal)
        except Exception as error:  # one center's failure must not take the others down
            dropouts[center.name] = describe(error)
            logger.debug("center %s failed", center.name, exc_info=True)
    return total(answers), dropouts
