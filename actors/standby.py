"""A process that waits: it takes over the centers of a host that is lost, so that nobody waits for a new one to start.

Python, its libraries and compiled code take a second or two to load. A run that lasts longer than `AFTER` has that done
beforehand in an actor without centers, which rehearses the current question on one center's patients, without memory,
log or anybody who hears the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.actor import ActorHandle

if TYPE_CHECKING:
    from actors.federation import Host

AFTER = 5.0
"""Seconds from its first round on that a run has to last before there is one: shorter ones do without the 100 MB."""


class NothingHeld(RuntimeError):
    """An actor that was started to take over centers has none (any more): it was started again."""


class Standby:
    """The actor that waits, if there is one yet.

    Parameters
    ----------
    start
        Starts an actor without centers.
    """

    def __init__(self, start: Callable[[], ActorHandle[Any]]) -> None:
        self._start, self._from = start, float("inf")
        self._actor: ActorHandle[Any] | None = None
        self._rehearsal: Any = None
        self._ready = False

    def prepare(self, hosts: Sequence[Host], question: str, state: Any) -> None:
        """Called in every round: start it when it is time, and let it rehearse the question. Never waits."""
        self._from = min(self._from, time.monotonic() + AFTER)
        if self._ready or time.monotonic() < self._from:
            return
        host = next((host for host in hosts if host.specs), None)
        if host is None:
            return
        if self._actor is None:
            self._actor = self._start()
            self._rehearsal = self._actor.rehearse.remote(host.specs, question, state)
        elif ray.wait([self._rehearsal], timeout=0)[0]:
            try:
                ray.get(self._rehearsal, timeout=1.0)
                self._ready = True
            except ray.exceptions.RayTaskError:  # it runs; what is wrong with the question the hosts will say
                self._ready = True
            except ray.exceptions.RayError:  # it is lost itself
                self._actor = None

    def take(self, host: Host) -> bool:
        """Let it stand for a host that is lost; False if it is not ready. The next one starts in the next round."""
        if not (self._ready and host.specs) or self._actor is None:
            return False
        lost, host.actor, host.node = host.actor, self._actor, ""
        ray.kill(lost)  # else Ray would start it again
        self._actor, self._ready = None, False
        return True
