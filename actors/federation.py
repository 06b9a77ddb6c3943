"""The Ray backend of a federation: one question to all actors, answers gathered as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle

from actors.standby import NothingHeld, Standby
from actors.tree import Answer, sums_of_nodes
from federation.algorithm import Algorithm, Roster
from federation.center import Question
from federation.contribution import Contribution
from federation.in_process import question_for
from federation.privacy.secure import SMALLEST, SecureAggregation, SecureRounds
from federation.privacy.signing import BadSignature, Rising, Seal, Signer, asked_of, verify
from federation.quorum import DropoutLog, Quorum, describe, require_answers
from federation.splits import Split
from federation.state import State
from federation.summation import Total

LIVES = 3
"""How often a host is asked in one round before it counts as lost: a question that kills it would kill it for ever."""

INLINE_BYTES = 100_000
"""A state below this size travels with the call; a larger one is put into the object store once."""


_SEQUENCE = Rising()


@dataclass
class Host:
    """An actor, the names of the centers behind it, and its node; `absent` are those whose data could not be loaded.

    `key` is the public key of its signatures, `asked` what it was asked last, if questions are signed. `specs` are the
    centers as actors are given them, if any other actor may hold them as well. `name` is that of its first center: whom
    signed questions are for.
    """

    actor: ActorHandle[Any]
    centers: tuple[str, ...]
    absent: tuple[str, ...] = ()
    node: str = ""
    busy: ray.ObjectRef[Any] | None = None
    key: bytes = b""
    asked: Seal | None = None
    specs: Sequence[Any] = ()
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or next(iter((*self.centers, *self.absent)), "")


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
    secure_aggregation
        Sum under masks, so that only the sum over all centers can be read; see `federation.privacy`.
    secure_rounds
        What earlier tasks of the same hosts have left: keys that were agreed on, rounds that were prepared.
    signer
        Signs questions; then answers have to be signed by the key that a host had at first. Answers of a node's hosts
        are not added up there, since nobody could sign for them all.
    standby
        Takes over the centers of a host that is lost in a round.
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
    secure_aggregation: SecureAggregation | None = None
    secure_rounds: SecureRounds | None = None
    signer: Signer | None = None
    standby: Standby | None = None

    def __post_init__(self) -> None:
        self._secure: SecureRounds | None = None
        if self.secure_aggregation is not None:
            self._secure = self.secure_rounds or SecureRounds(self.secure_aggregation)
            self._secure.left_out, self._secure.min_centers = self.left_out, max(SMALLEST, self.quorum.min_centers)

    def ask(self, algorithm: Algorithm, state: State) -> Contribution:
        """Broadcast once, gather until the deadline, add up in host order (not in order of arrival)."""
        question = question_for(algorithm, state, self.task, self.split, self.roster, self.checkpoint_every)
        arrays = dict(question.state)
        payload: Any = arrays if sum(a.nbytes for a in arrays.values()) < INLINE_BYTES else ray.put(arrays)
        failed: dict[str, str] = {}
        pending: dict[Any, Host] = {}
        if self._secure is not None:
            return self._ask_securely(self._secure, algorithm, question, payload, failed)

        if self.standby is not None:
            self.standby.prepare(self.hosts, question.to_json(), payload)

        def ask(host: Host) -> ray.ObjectRef[Any]:
            return self._call(host, question, "answer", question.to_json(), payload, self.left_out)

        for host in self.hosts:
            if host.busy is not None and not ray.wait([host.busy], timeout=0)[0]:
                failed |= dict.fromkeys(host.centers, "still busy with an earlier round")
                continue
            pending[ask(host)] = host
        began, total = time.monotonic(), Total()
        from_afar = payload is not arrays and len({host.node for host in self.hosts}) > 1  # and large
        if from_afar and self.signer is None:
            for references, (patients, sums, dropouts) in sums_of_nodes(pending, self.timeout):
                if not self._add(total, algorithm, patients, sums):  # else each is asked for its own
                    failed |= dropouts
                    for reference in references:
                        pending.pop(reference).busy = None

        def again(host: Host) -> ray.ObjectRef[Any]:
            if host.specs and self.signer is None:  # an actor that stands for another is started without centers
                host.actor.hold.remote(host.specs)
            return ask(host)

        answers = gather(pending, self.timeout, failed, again, began, self.standby)
        for host in self.hosts:
            if id(host) in answers:
                host.busy = None
                answer = self._open(host, answers[id(host)], failed)
                if answer is None:
                    continue
                patients, sums, dropouts = answer
                failed |= dropouts
                why = self._add(total, algorithm, patients, sums)
                failed |= dict.fromkeys(host.centers, why) if why else {}
        self._require_quorum(question.round, failed)
        summed = total.result()
        require_answers(summed, total.centers, self.quorum.min_centers)
        return summed

    def _call(self, host: Host, question: Question, call: str, *arguments: Any) -> ray.ObjectRef[Any]:
        """Ask a host, signed if there is a signer."""
        if self.signer is None:
            host.busy = getattr(host.actor, call).remote(*arguments)
            return host.busy
        said = [dict(question.state) if isinstance(a, ray.ObjectRef) else a for a in arguments]
        content = asked_of(host.name, call, said)
        host.asked = self.signer.sign("question", question.task, question.round, next(_SEQUENCE), content)
        host.busy = host.actor.signed.remote(host.asked, call, *arguments)
        return host.busy

    def _open(self, host: Host, answer: Any, failed: dict[str, str]) -> Any:
        """An answer, if it is what the host has signed to what it was asked; else None, and why in `failed`."""
        if self.signer is None:
            return answer
        try:
            found, seal = answer
            if not host.key:
                key: Any = ray.get(host.actor.key.remote(), timeout=self.timeout)
                host.key = key
            verify(host.key, seal, "answer", found)
            assert host.asked is not None
            if (seal.run, seal.round, seal.sequence) != (host.asked.run, host.asked.round, host.asked.sequence):
                raise BadSignature(f"an answer to question {seal.sequence} came to question {host.asked.sequence}")
            return found
        except (BadSignature, TypeError, ValueError, AttributeError, ray.exceptions.RayError) as error:
            failed |= dict.fromkeys(host.centers, describe(error))
            return None

    def _require_quorum(self, round: int, failed: Mapping[str, str]) -> None:
        """Note who dropped out; raise QuorumError if too many did."""
        wanted = [name for name in self.roster.names if name not in self.left_out]
        failed = {name: failed[name] for name in wanted if name in failed}  # whatever order they failed in
        self.dropouts.note(failed, round)
        absent = {name: why for name, why in self.absent.items() if name in wanted}
        self.quorum.check(len(wanted), absent | failed)

    def _ask_securely(
        self, secure: SecureRounds, algorithm: Algorithm, question: Question, payload: Any, failed: dict[str, str]
    ) -> Contribution:
        """The steps of secure aggregation. A host that is lost on the way has lost its keys: it is back next round."""
        free = {}
        for host in self.hosts:
            if host.busy is not None and not ray.wait([host.busy], timeout=0)[0]:
                failed |= dict.fromkeys(host.centers, "still busy with an earlier round")
            else:
                free[id(host)] = host
        secure.hosts = list(free)

        def call(step: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
            extra: tuple[Any, ...] = ()
            if step in ("join", "answer"):
                extra = (question.to_json(), payload)[: 1 if step == "join" else 2]  # joining needs no state
            settings = secure.settings if step in ("join", "share") else None
            pending = {}
            for number, given in arguments.items():
                host = free[number]
                pending[self._call(host, question, "secure", step, given, settings, *extra)] = host
            answers = gather(pending, self.timeout, failed)
            for number in arguments:
                if id(free[number]) in answers:
                    free[number].busy = None
            found = {n: self._open(free[n], answers[id(free[n])], failed) for n in arguments if id(free[n]) in answers}
            return {number: answer for number, answer in found.items() if answer is not None}

        return secure.ask(algorithm, question, call, failed, lambda: self._require_quorum(question.round, failed))

    def _add(self, total: Total, algorithm: Algorithm, patients: int, sums: Mapping[str, NDArray[np.float64]]) -> str:
        """Add a host's partial sum, or say why not: the coordinator trusts no wall but its own."""
        try:
            part = Total.from_arrays(patients, sums, len(self.roster.names))
            found = part.result()
            for name, array in found.items():
                if not np.isfinite(array).all():
                    return f"sent {name!r} with values that are not finite"
            if found and (why := algorithm.reject(found)):
                return why
            total.merge(part)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"sent what cannot be added: {describe(error)}"
        return ""


def gather(
    pending: dict[Any, Host],
    timeout: float,
    failed: dict[str, str],
    again: Callable[[Host], ray.ObjectRef[Any]] | None = None,
    began: float | None = None,
    standby: Standby | None = None,
) -> dict[int, Answer]:
    """Answers by ``id(host)``, as they arrive; what fails or is late goes to `failed`, center by center.

    Never waits on a reference without a timeout: an actor on a lost node would block for ever. A host that is lost is
    asked `again` once the `standby` stands for it or Ray has started it anew, its centers loading their data from where
    they keep them; since a question asked twice has one answer, nothing is counted twice. The time runs since `began`,
    by default now.
    """
    answers: dict[int, Any] = {}
    lives: dict[int, int] = {}
    pending = dict(pending)
    deadline = (time.monotonic() if began is None else began) + timeout
    while pending:
        left = max(deadline - time.monotonic(), 0.0)
        ready, _ = ray.wait(list(pending), num_returns=1 if again else len(pending), timeout=left)
        if not ready:
            break
        for reference in ready:
            host = pending.pop(reference)
            try:
                answers[id(host)] = ray.get(reference, timeout=max(left, 1.0))
            except ray.exceptions.GetTimeoutError:
                failed |= dict.fromkeys(host.centers, "its answer could not be fetched in time")
            except ray.exceptions.RayTaskError as error:
                if again is not None and isinstance(error.cause, NothingHeld):
                    pending[again(host)] = host
                    continue
                failed |= dict.fromkeys(host.centers, describe(error.cause or error))
            except ray.exceptions.RayError as error:
                lives[id(host)] = lives.get(id(host), LIVES) - 1
                if again is not None and lives[id(host)] > 0 and _stands_again(host, standby, deadline):
                    pending[again(host)] = host
                    continue
                failed |= dict.fromkeys(host.centers, f"its actor is lost ({type(error).__name__})")
                host.busy = None
    for host in pending.values():
        failed |= dict.fromkeys(host.centers, f"no answer within {timeout:g} s")
    return answers


def _stands_again(host: Host, standby: Standby | None, deadline: float) -> bool:
    return (standby is not None and standby.take(host)) or revived(host, deadline)


def revived(host: Host, deadline: float) -> bool:
    """Wait until Ray has started a lost actor again; False if it does not before the deadline."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            node: Any = ray.get(host.actor.ready.remote(), timeout=left)
            host.node = node
            return True
        except (ray.exceptions.ActorDiedError, ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnschedulableError):
            return False
        except ray.exceptions.RayError:  # not there yet
            time.sleep(0.05)
    return False
