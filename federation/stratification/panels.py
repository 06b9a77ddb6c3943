"""Which sets of lesions were tested, agreed on by sums alone, before the first round of the sampler.

Centers do not know each other's panels. Each adds its patients into buckets, chosen by a hash of the patient's set of
tested lesions: how many fall in, and how many of them had each lesion tested. A bucket that one set alone fell into
has for every lesion none or all of its patients, and so tells the set; where two sets met, they differ in some lesion,
which only some of the bucket's patients have, and the question is asked again for these with another hash. The sum
over centers tells nothing that the sampler's histogram does not tell in every round.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from federation.randomness import entropy

BUCKETS = 256
"""Buckets of the first question; each further one has twice as many."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def find(panels: Bools, tested: Bools) -> NDArray[np.int64]:
    """Row of each set among the panels, -1 where it is none of them.

    Parameters
    ----------
    panels, tested
        Shapes (panels, genes) and (sets, genes).
    """
    known = {row.tobytes(): j for j, row in enumerate(panels)}
    return np.array([known.get(row.tobytes(), -1) for row in tested], dtype=np.int64)


def count(sets: Bools, which: NDArray[np.int64], known: Bools, attempt: int) -> dict[str, Floats]:
    """A center's answer: patients whose set is not known yet, by bucket.

    Parameters
    ----------
    sets, which
        The center's distinct sets (sets, genes), and that of each patient (patients,).
    known
        Sets found by earlier attempts (panels, genes).
    attempt
        Number of the attempt, from 0: chooses the hash.

    Returns
    -------
    dict
        ``panel_patients`` (buckets,), ``panel_tested`` (buckets, genes).
    """
    buckets = BUCKETS << attempt
    patients, tested = np.zeros(buckets), np.zeros((buckets, sets.shape[1]))
    sizes = np.bincount(which, minlength=len(sets))
    for j in np.flatnonzero(find(known, sets) < 0):
        bucket = entropy(f"{attempt}/{np.packbits(sets[j]).tobytes().hex()}") % buckets
        patients[bucket] += sizes[j]
        tested[bucket] += sizes[j] * sets[j]
    return {"panel_patients": patients, "panel_tested": tested}


def resolve(patients: Floats, tested: Floats, known: Bools) -> tuple[Bools, bool]:
    """All sets known after an attempt, in lexicographic order, and whether there are no others.

    Parameters
    ----------
    patients, tested
        Sums of `count` over centers.
    known
        Sets known before.
    """
    clean = ((tested == 0) | (tested == patients[:, None])).all(1)
    found = tested[clean & (patients > 0)] > 0
    return np.unique(np.concatenate([known, found]), axis=0), bool(clean.all())
