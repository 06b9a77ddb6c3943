"""One classification where classes overlap: name the draws' clusters alike, then each patient's most probable cluster.

Where classes overlap so far that most pairs of patients are uncertain, losses over pairs (Binder's, variation of
information) are least for a few large clusters, or one: they ask which patients are surely together. This asks for each
patient's most probable class instead, as a classifier does who knows the classes.
"""

from __future__ import annotations

import numpy as np

from clustering.partition import match_draws, membership
from clustering.similarity import canonical


def most_probable_classes(draws: np.ndarray, clusters: int | None = None, rounds: int = 50) -> np.ndarray:
    """Iterated relabelling against a pivot (ECR, version 1; Papastamoulis, J. Stat. Softw. 2016, section 3.1).

    Draws with ``clusters`` clusters are matched to a pivot partition, one of themselves at first; each patient's most
    frequent cluster makes the next pivot, until none changes.

    Parameters
    ----------
    draws
        Shape (draws, patients), integers >= 0.
    clusters
        By default the most frequent number among the draws.
    rounds
        At most.

    Returns
    -------
    np.ndarray
        Shape (patients,), int32; 0 is the largest cluster. A cluster that is nobody's most probable is left out.

    Raises
    ------
    ValueError
        If no draw has so many clusters.
    """
    draws = canonical(draws)
    numbers = draws.max(1) + 1
    wanted = int(np.bincount(numbers).argmax()) if clusters is None else clusters
    chosen = draws[numbers == wanted]
    if len(chosen) == 0:
        raise ValueError(f"clusters: no draw has {wanted} clusters (they have {numbers.min()} … {numbers.max()})")
    pivot = chosen[
        int(np.argmax((match_draws(chosen, chosen[0]) == chosen[0]).sum(1)[1:])) + 1 if len(chosen) > 1 else 0
    ]
    for _ in range(rounds):
        names = np.unique(pivot)
        now = names[membership(chosen, pivot).argmax(1)]
        if (now == pivot).all():
            break
        pivot = now
    order = np.argsort(-np.bincount(canonical(pivot)), kind="stable")
    return np.asarray(np.argsort(order)[canonical(pivot)], dtype=np.int32)
