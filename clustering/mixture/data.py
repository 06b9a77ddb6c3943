"""An event table as the mixture's kernels read it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from clustering.events import EventTable


class Data(NamedTuple):
    """Patients with at least one event.

    Parameters
    ----------
    starts, genes
        The events of patient i are ``genes[starts[i]:starts[i + 1]]``.
    pattern
        Which set of tested genes, (patients,).
    tested
        The sets of tested genes, bool (patterns, genes).
    log_uniform
        -log C(tested genes, events): a new component's marginal under any symmetric prior, (patients,).
    highest
        The highest number of events.
    """

    starts: np.ndarray
    genes: np.ndarray
    pattern: np.ndarray
    tested: np.ndarray
    log_uniform: np.ndarray
    highest: int


def prepare(table: EventTable) -> Data:
    """The kernels' arrays.

    Raises
    ------
    ValueError
        If a patient has no event: such patients say nothing of the components, so leave them out.
    """
    if len(table) == 0 or (table.counts == 0).any():
        raise ValueError(f"{int((table.counts == 0).sum())} of {len(table)} patients have no event; leave them out")
    tested, pattern = table.patterns
    n, size = table.counts, tested.sum(1)[pattern]
    return Data(
        starts=np.concatenate([[0], np.cumsum(n)]).astype(np.int64),
        genes=np.nonzero(table.events == 1)[1].astype(np.int64),
        pattern=pattern.astype(np.int64),
        tested=tested,
        log_uniform=-(gammaln(size + 1) - gammaln(n + 1) - gammaln(size - n + 1)),
        highest=int(n.max()),
    )
