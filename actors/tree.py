"""The second level of the aggregation tree: the hosts of a node are added up on that node.

A large contribution stays where it was made, in the object store of its node. One host of each node adds up those of
its neighbours, so that one partial sum a node travels to the coordinator, not one a host. Sums are exact
(`federation.summation`): it changes no bit. Small contributions come back with the call itself, and are not worth it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from federation.summation import Total

Answer = tuple[int, dict[str, NDArray[np.float64]], dict[str, str]]
"""Number of patients, the partial sum (`federation.summation.Total`), and why centers did not answer: all that comes
back from an actor."""

FETCHING = 60.0
"""Seconds in which what lies on the same node must be read."""


def add_answers(references: Sequence[ray.ObjectRef[Answer]]) -> Answer:
    """The sum of answers that lie on this node; any that cannot be read or added is the caller's to look at."""
    total = Total()
    dropouts: dict[str, str] = {}
    for patients, sums, failed in ray.get(list(references), timeout=FETCHING):
        total.merge(Total.from_arrays(patients, sums))
        dropouts |= failed
    return total.patients, total.to_arrays(), dropouts


def sums_of_nodes(pending: Mapping[Any, Any], timeout: float) -> list[tuple[list[Any], Answer]]:
    """Wait for the answers where they are made, then let each node of several hosts add its own up.

    Parameters
    ----------
    pending
        Reference of an answer -> `actors.federation.Host`.
    timeout
        Seconds.

    Returns
    -------
    list
        The references that went into a sum, and the sum. Answers that are late, lie alone on their node, or could not
        be added are in none: they have to be fetched one by one.
    """
    deadline = time.monotonic() + timeout
    ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=timeout, fetch_local=False)
    nodes: dict[str, list[Any]] = {}
    for reference in ready:
        if pending[reference].node:
            nodes.setdefault(pending[reference].node, []).append(reference)
    adding = {
        pending[some[0]].actor.add.remote([[reference] for reference in some]): some
        for some in nodes.values()
        if len(some) > 1
    }
    found = []
    for call, some in adding.items():
        try:
            found.append((some, ray.get(call, timeout=max(deadline - time.monotonic(), 1.0))))
        except (ray.exceptions.RayError, ValueError):  # one of them failed: who and why shows when each is fetched
            continue
    return found
