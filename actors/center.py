"""The Ray shell around one center, or around many simulated ones (then it is a host)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import ray
from numpy.typing import NDArray

from actors.standby import NothingHeld
from actors.threads import one_thread
from actors.tree import Answer, add_answers
from federation.center import Center, Question
from federation.group import CenterGroup
from federation.policy import AuditLog, DisclosurePolicy, Refused, outside
from federation.privacy.disclosure import OwnPolicy
from federation.privacy.keys import Identities
from federation.privacy.party import ProtocolError
from federation.privacy.secure import STEPS, Parties, SecureAggregation
from federation.privacy.signing import BadSignature, Freshness, Seal, Signer, asked_of, verify
from federation.state import file_name
from harmonization import Cohort, Schema


class CenterFailed(RuntimeError):
    """A host does not answer; what happened is in the logs of its centers."""


HARMLESS = (BadSignature, CenterFailed, NothingHeld, ProtocolError, Refused)
"""Errors whose text is of the question and of who takes part; it may leave the actor."""

P = ParamSpec("P")
R = TypeVar("R")


def _guarded(method: Callable[Concatenate[CenterShell, P], R]) -> Callable[Concatenate[CenterShell, P], R]:
    """Keep the text of unexpected errors inside: Ray would carry it to the coordinator."""

    @wraps(method)
    def guarded(self: CenterShell, /, *arguments: P.args, **named: P.kwargs) -> R:
        try:
            return method(self, *arguments, **named)
        except HARMLESS:
            raise
        except Exception as error:
            raise CenterFailed(outside(error) if self._group is None else self._group.note(error)) from None

    return guarded


NOTHING: Mapping[str, NDArray[Any]] = MappingProxyType({})


@dataclass(frozen=True)
class CenterSpec:
    """Which center an actor holds, and how it loads its patients on its own node.

    Parameters
    ----------
    name, position
        The center's name and place in the roster.
    source
        Loads the cohort; called inside the actor, so the driver never holds the patients. The operator who starts
        the actor chooses it; questions cannot.
    size
        Work it means, e.g. its number of patients: for balancing hosts.
    resource
        Ray resource of the node that holds its data (``ray start --resources '{"Bonn": 1}'``); its actor runs there.
    """

    name: str
    position: int
    source: Callable[[], Cohort]
    size: float = 1.0
    resource: str | None = None


class CenterShell:
    """What a `CenterActor` does: holds one center (the default) or several, and sums their answers.

    Parameters
    ----------
    specs
        The centers, in roster order; or a list of one reference to them, since arguments by value that are large would
        be gone when Ray starts the actor again. None at first if it is to take over those of another (`hold`).
    schema, policy, directory
        See `federation.center.Center`. Several centers share one audit log, and one file of memory per round. The
        operator of the node may set stricter rules (`federation.privacy.disclosure.POLICY`), and by which identities
        centers know each other (`federation.privacy.keys`).
    device
        Where to compute, ``cpu`` or ``cuda``.
    coordinator
        Public key of the coordinator: then only questions are answered that it has signed, each once, and the answers
        are signed. None for neither.
    """

    def __init__(
        self,
        specs: Sequence[CenterSpec] | Sequence[ray.ObjectRef[Sequence[CenterSpec]]],
        schema: Schema,
        policy: DisclosurePolicy,
        directory: Path | None,
        device: str = "cpu",
        coordinator: bytes | None = None,
    ) -> None:
        one_thread()
        self._federation = (schema, policy, directory, device)
        self._group: CenterGroup | None = None
        self._parties: Parties | None = None
        self._identities = Identities.of_this_node()
        self._coordinator, self._opened, self._name = coordinator, False, ""
        if specs:
            self._hold(specs)
        if coordinator is not None:
            place = None if directory is None else directory / "keys"
            self._signer = Signer(place and place / f"{file_name(self._name)}.key")
            self._fresh = Freshness(place and place / f"{file_name(self._name)}.last")

    def hold(self, specs: Sequence[CenterSpec] | Sequence[ray.ObjectRef[Sequence[CenterSpec]]]) -> None:
        """Hold these centers, and no others any more. Their data are loaded when they are first asked.

        Raises
        ------
        BadSignature
            If the host takes signed questions only: then it holds for ever what it was started with.
        """
        self._require_signature()
        self._hold(specs)

    def _hold(self, specs: Sequence[CenterSpec] | Sequence[ray.ObjectRef[Sequence[CenterSpec]]]) -> None:
        schema, policy, directory, device = self._federation
        specs = _known(specs)
        self._name = specs[0].name
        log, own, shared = None, directory, None
        if directory is not None and len(specs) > 1:  # one audit log and one memory for all
            log = AuditLog(directory / "audit" / f"{file_name(specs[0].name)} and {len(specs) - 1} more.jsonl")
            own, shared = None, directory / "memory" / "hosts"
        rules = [OwnPolicy.of_this_node(s.name).keeping(policy, directory) for s in specs]
        centers = [
            Center(s.name, s.source, s.position, schema, policy, own, log, r) for s, r in zip(specs, rules, strict=True)
        ]
        self._group, self._parties = CenterGroup(centers, log, device, shared), None

    @_guarded
    def rehearse(
        self,
        specs: Sequence[CenterSpec] | Sequence[ray.ObjectRef[Sequence[CenterSpec]]],
        question: str,
        state: Mapping[str, NDArray[Any]],
    ) -> None:
        """Answer for the smallest of these centers as if it were held, with no memory and no log, and forget it all."""
        self._require_signature()
        schema, policy, _, device = self._federation
        spec = min(_known(specs), key=lambda s: s.size)
        center = Center(spec.name, spec.source, spec.position, schema, policy)
        CenterGroup([center], device=device).answer(Question.from_json(question, state))

    @_guarded
    def load(self) -> dict[str, str]:
        """Load the data: why a center cannot take part, by name. Such a center is asked no more."""
        return self._held().load()

    def ready(self) -> str:
        """The node it is on, once the actor runs (again)."""
        return str(ray.get_runtime_context().get_node_id())

    def key(self) -> bytes:
        """The public key of its signatures."""
        return self._signer.public

    @_guarded
    def signed(self, seal: Seal, call: str, *arguments: Any) -> tuple[Any, Seal]:
        """A call that the coordinator has signed; the answer is signed too.

        Raises
        ------
        BadSignature
            If it has not, or the call comes a second time.
        """
        if self._coordinator is None or call not in ("answer", "secure"):
            raise BadSignature(f"{call!r} is no call that this center takes signed")
        verify(self._coordinator, seal, "question", asked_of(self._name, call, arguments))
        self._fresh.require(seal)
        self._opened = True
        try:
            answer = getattr(self, call)(*arguments)
        finally:
            self._opened = False
        return answer, self._signer.sign("answer", seal.run, seal.round, seal.sequence, answer)

    def _held(self) -> CenterGroup:
        if self._group is None:
            raise NothingHeld("this actor holds no center yet")
        return self._group

    def _require_signature(self) -> None:
        if self._coordinator is not None and not self._opened:
            raise BadSignature("this center answers signed questions only")

    @_guarded
    def answer(self, question: str, state: Mapping[str, NDArray[Any]], left_out: Sequence[str]) -> Answer:
        """The sum of the answers of all centers but those left out."""
        self._require_signature()
        total, dropouts = self._held().answer(Question.from_json(question, state), left_out)
        return total.patients, total.to_arrays(), dropouts

    @_guarded
    def secure(
        self,
        step: str,
        arguments: Sequence[Any],
        settings: SecureAggregation | None,
        question: str = "",
        state: Mapping[str, NDArray[Any]] = NOTHING,
    ) -> Any:
        """A step of secure aggregation (`federation.privacy.secure.Parties`).

        Settings come with the first two; the question with joining and with answering.
        """
        self._require_signature()
        if step not in STEPS:
            raise ProtocolError(f"secure aggregation has no step {step!r}; it has {', '.join(STEPS)}")
        if settings is not None and (self._parties is None or self._parties.settings != settings):
            self._parties = Parties(self._held(), settings, self._identities, ahead=True)
        if self._parties is None:
            raise ProtocolError("the centers of this host have not joined, or it was started again since")
        asked = (Question.from_json(question, state),) if question else ()
        return getattr(self._parties, step)(*asked, *arguments)

    def add(self, answers: Sequence[Sequence[ray.ObjectRef[Answer]]]) -> Answer:
        """Add up the answers of hosts on this node; each reference in a list of its own, so that Ray leaves it one."""
        return add_answers([reference for (reference,) in answers])


CenterActor = ray.remote(CenterShell)
"""One actor per center, or per host of several."""


def _known(specs: Sequence[CenterSpec] | Sequence[ray.ObjectRef[Sequence[CenterSpec]]]) -> Sequence[CenterSpec]:
    """The specs themselves, if this is a reference to them."""
    if isinstance(specs[0], ray.ObjectRef):
        specs = ray.get(specs[0], timeout=60.0)
    return cast(Sequence[CenterSpec], specs)


def balance(specs: Sequence[CenterSpec], hosts: int) -> list[list[CenterSpec]]:
    """Spread centers over hosts so that each has about the same work: largest first, to the least loaded.

    Centers that need a resource share a host with those of the same resource only: one host each, however many `hosts`.
    """
    pinned = dict.fromkeys(s.resource for s in specs if s.resource is not None)
    free = [s for s in specs if s.resource is None]
    groups = [[s for s in specs if s.resource == resource] for resource in pinned]
    load = [0.0] * min(max(hosts - len(groups), 1), len(free))
    spread: list[list[CenterSpec]] = [[] for _ in load]
    for spec in sorted(free, key=lambda s: (-s.size, s.position)):
        host = min(range(len(load)), key=lambda h: (load[h], len(spread[h])))
        spread[host].append(spec)
        load[host] += spec.size
    return [*groups, *(sorted(group, key=lambda s: s.position) for group in spread)]
