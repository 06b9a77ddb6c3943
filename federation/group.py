"""Many centers in one process: each behind its own wall, what lies behind the walls computed together.

To simulate a thousand centers one by one costs a thousand times the overhead of a small computation. A group lets the
algorithm train all of them at once (`Algorithm.client_updates`) and then takes every center's contribution through that
center's policy, memory and audit log, as `Center.answer` does for one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from federation.algorithm import Algorithm, answers_together
from federation.center import Center, Question, built
from federation.contribution import Contributions
from federation.memory import SharedMemory
from federation.patients import PatientGroup
from federation.policy import AuditLog, DisclosurePolicy, Refused, inside, outside
from federation.randomness import entropies, entropy
from federation.splits import Split
from federation.state import file_name
from federation.summation import Sum, Total
from models.batched.streams import Streams

logger = logging.getLogger("haemfed")

S = TypeVar("S", bound=Sum)


@dataclass(frozen=True)
class _View:
    """Who takes part in a question, prepared once for all rounds that ask the same centers.

    Parameters
    ----------
    able, together
        Centers that contribute, and their patients.
    entropy
        The able centers' names as numbers, the last part of their random numbers' path.
    rules
        Their policies; equal ones are one object.
    alone
        Centers that answer in a way of their own.
    withheld, failed
        Why others answer with nothing, or cannot.
    """

    able: Sequence[Center]
    together: PatientGroup
    entropy: NDArray[np.uint64]
    rules: Sequence[DisclosurePolicy]
    alone: Sequence[Center]
    withheld: Mapping[str, str]
    failed: Mapping[str, str]


class CenterGroup:
    """Centers of one process.

    Parameters
    ----------
    centers
        In roster order.
    log
        One audit log for all, a line per round; None lets every center write its own.
    device
        Where to compute what the algorithm computes together.
    directory
        Where to keep the memories of centers that keep none themselves, in one file for all.
    """

    def __init__(
        self,
        centers: Sequence[Center],
        log: AuditLog | None = None,
        device: str = "cpu",
        directory: Path | None = None,
    ) -> None:
        self.centers, self._log, self._device = list(centers), log, device
        self._absent: list[Center] = []
        self._directory = directory
        self._shared: tuple[str, SharedMemory] | None = None
        self._views: dict[tuple[Split, int, bool, tuple[str, ...]], _View] = {}

    def load(self) -> dict[str, str]:
        """Load every center's data: the reason of each center that cannot take part.

        Such a center is asked no more, until it can be loaded at a later call.
        """
        failed = {}
        everybody = sorted([*self.centers, *self._absent], key=lambda c: c.position)
        for center in everybody:
            try:
                center.load()
            except Exception as error:  # one center's failure must not take the others down
                failed[center.name] = center.note(error)
        self.centers = [center for center in everybody if center.name not in failed]
        self._absent = [center for center in everybody if center.name in failed]
        self._views.clear()
        return failed

    def note(self, error: Exception) -> str:
        """Write into each center's log why none of them answers: what others are told of it."""
        for center in self.centers:
            center.write_down(error)
        return outside(error)

    def answer(self, question: Question, left_out: Sequence[str] = ()) -> tuple[Total, dict[str, str]]:
        """Let all centers answer but those left out: the sum of the answers, and the reason of each that failed."""
        return self.add_up(question, left_out, Total)

    def add_up(self, question: Question, left_out: Sequence[str], empty: Callable[[], S]) -> tuple[S, dict[str, str]]:
        """As `answer`, with a sum of another kind; `empty` makes one without terms."""
        with np.errstate(over="ignore", invalid="ignore"):  # a diverged model is refused by the wall
            asked = [c for c in self.centers if c.name not in left_out] if left_out else self.centers
            try:
                algorithm = built(question.algorithm)
            except Exception:  # each center says so
                return _one_by_one(asked, question, empty)
            private = type(algorithm).mechanism is not Algorithm.mechanism
            if private and any(center.policy.secure_noise for center in asked):
                return _one_by_one(asked, question, empty)  # each draws by itself what nobody may know
            view = self._view(question, tuple(left_out), asked)
            drawn = Streams(entropies(question.seed, algorithm.name, question.task, question.round), view.entropy)
            shared = self._memory(question.task)
            memories = [center.memory(question.task).open(question.round) for center in view.able]
            parts = (
                answers_together(algorithm, question.state, view.together, drawn, memories) if view.able else iter(())
            )
            if parts is None:
                total, alone = _one_by_one(asked, question, empty)
                if shared is not None:
                    shared.commit(question.round, question.keep_from)
                return total, alone
            total, alone = _one_by_one(view.alone, question, empty)
            done, shapes = 0, None
            sent: dict[str, int] = {}
            refused: dict[str, Exception] = {}
            dropouts: dict[str, str] = {}
            try:
                for part in parts:
                    members, mine = view.able[done : done + len(part)], memories[done : done + len(part)]
                    reasons = _refusals(part, view.rules[done : done + len(part)])
                    fitting = [i for i in range(len(part)) if i not in reasons]
                    unfit = total.unfit(part.without(reasons))
                    reasons |= {fitting[i]: error for i, error in unfit.items()}
                    for i, memory in enumerate(mine):
                        if i not in reasons:
                            try:
                                memory.commit(question.keep_from)
                            except Exception as error:  # a full disk
                                reasons[i] = error
                    if private:
                        reasons |= _add_protected(total, part, members, reasons, question, algorithm)
                    else:
                        total.add_stacked(
                            part.without(reasons), [c.name for i, c in enumerate(members) if i not in reasons]
                        )
                    sent |= dict(zip((c.name for c in members), part.patients.tolist(), strict=True))
                    refused |= {members[i].name: error for i, error in reasons.items()}
                    shapes, done = part, done + len(part)
            except Exception:
                logger.debug("the centers are asked one after the other", exc_info=True)
                rest, dropouts = _one_by_one(view.able[done:], question, empty)
                total.merge(rest)
            if shared is not None:
                shared.commit(question.round, question.keep_from)
            sent = {name: n for name, n in sent.items() if name not in refused} if refused else sent
            self._write(question, view, sent, refused, shapes)
            why = {**view.failed, **alone, **{n: outside(error) for n, error in refused.items()}, **dropouts}
            return total, {c.name: why[c.name] for c in asked if c.name in why}

    def _memory(self, task: str) -> SharedMemory | None:
        """The file of what this host's centers remember of a task, read when the task is first met."""
        if self._directory is None:
            return None
        if self._shared is None or self._shared[0] != task:
            everybody = sorted([*self.centers, *self._absent], key=lambda c: c.position)
            memories = {center.name: center.memory(task) for center in everybody}
            host = file_name(f"{everybody[0].name} and {len(everybody) - 1} more") if everybody else ""
            self._shared = (task, SharedMemory(self._directory / file_name(task), host, memories))
        return self._shared[1]

    def _view(self, question: Question, left_out: tuple[str, ...], asked: Sequence[Center]) -> _View:
        key = (question.split, question.centers, bool(question.masked), left_out)
        if key not in self._views:
            if len(self._views) > 4:  # a sweep over many folds need not keep them all
                self._views.clear()
            able, patients, withheld, failed = [], [], {}, {}
            alone = [c for c in asked if _has_its_own_wall(c) or c.policy.looks_closer]
            for center in asked:
                if center in alone:
                    continue
                try:
                    mine = center.patients(question)
                    why = center.withholds(mine)
                except Exception as error:  # one center's failure must not take the others down
                    failed[center.name] = center.note(error, question)
                    continue
                if why:
                    withheld[center.name] = why
                else:
                    able.append(center)
                    patients.append(mine)
            names = np.array([entropy(center.name) for center in able], dtype=np.uint64)
            same: dict[DisclosurePolicy, DisclosurePolicy] = {}
            rules = [same.setdefault(center.policy, center.policy) for center in able]
            view = _View(able, PatientGroup(patients, self._device), names, rules, alone, withheld, failed)
            if failed:  # next time they may be able
                return view
            self._views[key] = view
        return self._views[key]

    def _write(
        self,
        question: Question,
        view: _View,
        sent: Mapping[str, int],
        refused: Mapping[str, Exception],
        shapes: Contributions | None,
    ) -> None:
        """The audit log: one line for the group, or one in each center's own."""
        arrays = {} if shapes is None else {name: list(shape) for name, shape in shapes.shapes.items()}
        size = 0 if shapes is None else shapes.nbytes
        if self._log is not None:
            about = question.about()
            others: dict[str, dict[str, str]] = {"withheld": dict(view.withheld)}
            for name, error in refused.items():
                for key, said in inside(error).items():
                    others.setdefault(key, {})[name] = said
            self._log.write(
                **about,
                centers=sent,
                arrays=arrays,
                bytes=size,
                **{key: value for key, value in others.items() if value},
            )
            return
        for center in self.centers:
            if center.name in sent:
                center.log(question, patients=sent[center.name], arrays=arrays, bytes=size)
            elif center.name in view.withheld:
                center.log(question, withheld=view.withheld[center.name])
            elif center.name in refused:
                center.note(refused[center.name], question)


def _refusals(part: Contributions, rules: Sequence[DisclosurePolicy]) -> dict[int, Exception]:
    """Why contributions may not leave, each by the policy of its own center; by index."""
    distinct = {id(rule): rule for rule in rules}
    if len(distinct) == 1:
        return rules[0].check_all(part)
    reasons: dict[int, Exception] = {}
    for rule in distinct.values():
        reasons |= {i: why for i, why in rule.check_all(part).items() if rules[i] is rule}
    return reasons


def _add_protected(
    total: Sum,
    part: Contributions,
    members: Sequence[Center],
    refused: Mapping[int, Exception],
    question: Question,
    algorithm: Algorithm,
) -> dict[int, Exception]:
    """Add each center's contribution with its noise: why others are not added, by index."""
    reasons: dict[int, Exception] = {}
    for i, center in enumerate(members):
        if i not in refused:
            try:
                total.add(center.protect(question, algorithm, part[i]), center.name)
            except Refused as refusal:
                reasons[i] = refusal
    return reasons


def _one_by_one(centers: Sequence[Center], question: Question, empty: Callable[[], S]) -> tuple[S, dict[str, str]]:
    """Let centers answer one after the other: the sum of the answers, and the reason of each that failed."""
    total, dropouts = empty(), {}
    for center in centers:
        try:  # one center's failure must not take the others down
            if not _has_its_own_wall(center):
                total.add(center.answer(question, total.require), center.name)
                continue
            answer = center.answer(question)
            if unfit := next((name for name, array in answer.items() if not np.isfinite(array).all()), ""):
                raise Refused(f"sent {unfit!r} with values that are not finite")
            total.add(answer, center.name)
        except Exception as error:
            dropouts[center.name] = center.note(error, question)
    return total, dropouts


def _has_its_own_wall(center: Center) -> bool:
    return type(center).answer is not Center.answer or "answer" in vars(center)
