"""Attribute inference: guessing what an attacker does not know of a patient by the synthetic patient most like him."""

from __future__ import annotations

import numpy as np

from experiments.synthetic.attackers import known_and_secret
from experiments.synthetic.distances import Floats, MixedDistance, nearest
from experiments.synthetic.rates import difference
from harmonization import Cohort

RARE = 0.05
"""Secrets that fewer than this fraction of patients differ in are guessed without any attack, and are left out."""
TOLERANCE = 0.05
"""A number is guessed if the guess differs by no more than this fraction of the real patients' ranks."""


def attribute_inference(train: Cohort, heldout: Cohort, synthetic: Cohort, distance: MixedDistance) -> dict[str, float]:
    """How much better secrets of training patients are guessed than those of others.

    The attacker knows `known_and_secret`'s first features of a patient, finds the nearest synthetic one by these, and
    guesses his secrets. A patient's score is the share of his known secrets that are guessed; what synthetic patients
    tell of *everyone* (that TP53 goes with a complex karyotype) helps with both groups, and is no breach.

    Returns
    -------
    dict
        ``attribute_inference``, the difference of mean scores, with its interval; ``attribute_inference_training`` and
        ``attribute_inference_heldout``, the mean scores.

    References
    ----------
    Yeom et al. (2018), Privacy risk in machine learning, CSF (advantage). Giomi et al. (2023), section 5.3.
    """
    known, secret = known_and_secret(train.schema)
    real = Cohort.concatenate([train, heldout])
    who = nearest(distance.embed(real, known), distance.embed(synthetic, known), 1)[1][:, 0]
    right, counted = [], []
    for j in secret:
        truth, guess = real.values[:, j], synthetic.values[who, j]
        seen = ~np.isnan(truth)
        if train.schema.features[j].numeric:
            scale = distance.scales[j]
            if len(scale[0]) == 0:
                continue
            close = np.abs(np.interp(truth, *scale) - np.interp(guess, *scale)) <= TOLERANCE
            right.append(close & ~np.isnan(guess))
        else:
            _, counts = np.unique(truth[seen], return_counts=True)
            if not seen.any() or counts.max() > (1 - RARE) * seen.sum():
                continue
            right.append(truth == guess)
        counted.append(seen)
    if not counted:
        return {}
    told = np.array(counted).sum(axis=0)
    score: Floats = np.where(counted, right, False).sum(axis=0) / np.maximum(told, 1)
    parts = [score[: len(train)][told[: len(train)] > 0], score[len(train) :][told[len(train) :] > 0]]
    return {
        **difference(parts[0], parts[1]).named("attribute_inference"),
        "attribute_inference_training": float(parts[0].mean()),
        "attribute_inference_heldout": float(parts[1].mean()),
    }
