"""The Ray backend of a federation: one question to all actors, answers gathered as they arrive."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle

from actors.center import Answer
from federation.algorithm import Algorithm, Roster
from federation.contribution import Contribution
from federation.in_process import question_for
from federation.quorum import DropoutLog, Quorum, describe, require_answers
from federation.splits import Split
from federation.state import State
from federation.summation import Total

INLINE_BYTES = 100_000
"""A state below this size travels with the call; a larger one is put into the object store once."""


@dataclass
class Host:
    """An actor and the names of the centers behind it."""

    actor: ActorHandle[Any]
    centers: tuple[str, ...]
    busy: ray.ObjectRef[Any] | None = None


@dataclass
class RayFederation:
    """Centers behind Ray actors.

    A host that does not answer in time is counted as a dropout, is not waited for any more, and is asked again only
    after it has finished what it was doing.

    Parameters
    ----------
    hosts
        The actors.
    roster
        All centers.
    split, task, checkpoint_every
        See `federation.center.Question`.
    quorum
        When a round counts.
    timeout
        Seconds to wait for answers of a round.
    left_out
        Centers that are not asked (they are tested on later).
    absent
        Why centers take no part although they belong to the roster, by name; the quorum counts them as dropouts.
    """

    hosts: Sequence[Host]
    roster: Roster
    split: Split = Split()
    task: str = "run"
    quorum: Quorum = Quorum()
    timeout: float = 600.0
    checkpoint_every: int = 1
    left_out: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    dropouts: DropoutLog = field(default_factory=DropoutLog)

    def ask(self, algorithm: Algorithm, state: State) -> Contribution:
        """Broadcast once, gather until the deadline, add up in host order (not in order of arrival)."""
        question = question_for(algorithm, state, self.task, self.split, self.roster, self.checkpoint_every)
        arrays = dict(question.state)
        payload: Any = arrays if sum(a.nbytes for a in arrays.values()) < INLINE_BYTES else ray.put(arrays)
        wanted = [name for name in self.roster.names if name not in self.left_out]
        failed: dict[str, str] = {}
        pending: dict[Any, Host] = {}
        for host in self.hosts:
            if host.busy is not None and not ray.wait([host.busy], timeout=0)[0]:
                failed |= dict.fromkeys(host.centers, "still busy with an earlier round")
                continue
            host.busy = host.actor.answer.remote(question.to_json(), payload, self.left_out)
            pending[host.busy] = host
        answers = gather(pending, self.timeout, failed)
        for host in self.hosts:
            if id(host) in answers:
                host.busy = None
        ordered = [answers[id(host)] for host in self.hosts if id(host) in answers]
        for _, _, dropouts in ordered:
            failed |= dropouts
        failed = {name: failed[name] for name in wanted if name in failed}  # whatever order they failed in
        self.dropouts.note(failed, question.round)
        absent = {name: why for name, why in self.absent.items() if name in wanted}
        self.quorum.check(len(wanted), absent | failed)
        total = Total()
        for patients, sums, _ in ordered:
            total.merge(Total.from_arrays(patients, sums))
        summed = total.result()
        require_answers(summed)
        return summed


def gather(pending: dict[Any, Host], timeout: float, failed: dict[str, str]) -> dict[int, Answer]:
    """Answers by ``id(host)``, as they arrive; what fails or is late goes to `failed`, center by center.

    Never waits on a reference without a timeout: an actor on a lost node would block for ever.
    """
    answers: dict[int, Any] = {}
    pending = dict(pending)
    deadline = time.monotonic() + timeout
    while pending and (left := deadline - time.monotonic()) > 0:
        ready, _ = ray.wait(list(pending), num_returns=1, timeout=left)
        for reference in ready:
            host = pending.pop(reference)
            try:
                answers[id(host)] = ray.get(reference, timeout=max(left, 1.0))
            except ray.exceptions.GetTimeoutError:
                failed |= dict.fromkeys(host.centers, "its answer could not be fetched in time")
            except ray.exceptions.RayTaskError as error:
                failed |= dict.fromkeys(host.centers, describe(error.cause or error))
            except ray.exceptions.RayError as error:
                failed |= dict.fromkeys(host.centers, f"its actor is lost ({type(error).__name__})")
                host.busy = None
    for host in pending.values():
        failed |= dict.fromkeys(host.centers, f"no answer within {timeout:g} s")
    return answers
