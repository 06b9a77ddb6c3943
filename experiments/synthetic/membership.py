"""Membership inference: can an attacker tell who was in the training data, from the synthetic patients around him?

The density attack asks whether synthetic patients are denser around a patient than real ones. The shadow attack also
trains the generator on patients whose membership it knows, and learns from these what membership looks like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.synthetic.attackers import known_and_secret
from experiments.synthetic.distances import Floats, MixedDistance, by_rows
from experiments.synthetic.rates import Estimate, roc_auc
from harmonization import Cohort

WIDTHS = (0.1, 0.3, 1.0)
"""Of the kernels, in median distances of a real patient to the nearest other one."""
SHADOWS = 8


class Generator(Protocol):
    """Draws patients, as the fitted objects of `models.generative` do."""

    def sample(self, n: int, seed: int) -> Cohort:
        """Draw n patients."""
        ...


def density_attack(train: Cohort, heldout: Cohort, synthetic: Cohort, distance: MixedDistance) -> Estimate:
    """AUC of the synthetic over the real density around a patient, of training against held-out patients.

    Densities are sums of kernels exp(−distance / width). The real one is of all patients but himself: an attacker who
    knows the population, and not who of it was in the training data.

    References
    ----------
    van Breugel et al. (2023), Membership inference attacks against synthetic data through overfitting detection
    (DOMIAS), AISTATS.
    """
    real = distance.embed(Cohort.concatenate([train, heldout]))
    width = _width(real)
    score = _log_density(real, distance.embed(synthetic), width) - _log_density(real, real, width, itself=True)
    return roc_auc(score[: len(train), 0], score[len(train) :, 0])


def shadow_attack(
    train: Cohort,
    heldout: Cohort,
    synthetic: Cohort,
    distance: MixedDistance,
    refit: Callable[[Cohort, int], Generator],
    seed: int,
    shadows: int = SHADOWS,
) -> Estimate:
    """AUC of an attacker who trains the generator himself on random halves of the real patients.

    For each patient he compares the densities of synthetic patients around him with their means over the shadow
    generators that did not see him; from the shadows, whose members he knows, he learns (logistic regression) how the
    differences tell members; and he applies this to the synthetic patients he was given.

    Parameters
    ----------
    refit
        Fits the same kind of generator to patients, with a seed.

    References
    ----------
    Stadler, Oprisanu and Troncoso (2022), Synthetic data - anonymisation groundhog day, USENIX Security. Watson et al.
    (2022), On the importance of difficulty calibration in membership inference attacks, ICLR.
    """
    real = Cohort.concatenate([train, heldout])
    known, secret = known_and_secret(train.schema)
    views: list[tuple[Floats, list[int] | None]] = []
    for columns in (None, known, secret):
        if columns is None or columns:
            views.append((distance.embed(real, columns), columns))

    def scores(drawn: Cohort) -> Floats:
        parts = [_log_density(points, distance.embed(drawn, columns), _width(points)) for points, columns in views]
        return np.concatenate(parts, axis=1)

    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    members = np.zeros((shadows, len(real)), dtype=bool)
    for mask in members:
        mask[rng.permutation(len(real))[: len(real) // 2]] = True
    found = np.stack(
        [scores(refit(real[mask], seed + i).sample(len(synthetic), seed + i)) for i, mask in enumerate(members)]
    )
    learned, labels = [], []
    for i in range(shadows):
        others = np.arange(shadows) != i
        learned.append(_calibrated(found[i], found[others], members[others]))
        labels.append(members[i])
    attack = make_pipeline(StandardScaler(), LogisticRegression())
    attack.fit(np.concatenate(learned), np.concatenate(labels))
    score = attack.decision_function(_calibrated(scores(synthetic), found, members))
    return roc_auc(score[: len(train)], score[len(train) :])


def _calibrated(own: Floats, shadows: Floats, members: NDArray[np.bool_]) -> Floats:
    """Scores (n, f) minus their means over those shadows (s, n, f) that did not see the patient, if there are any."""
    out = ~members[..., None]
    count = out.sum(axis=0)
    mean = np.where(out, shadows, 0).sum(axis=0) / np.maximum(count, 1)
    calibrated: Floats = own - np.where(count > 0, mean, shadows.mean(axis=0))
    return calibrated


def _width(real: Floats) -> float:
    """Median distance to the nearest other patient who is not the same."""

    def reduce(distances: Floats, start: int) -> tuple[Floats]:
        return (np.where(distances > 1e-9, distances, np.inf).min(axis=1),)

    distances = by_rows(real, real, reduce)[0]
    finite = distances[np.isfinite(distances)]
    return float(np.median(finite)) if len(finite) else 1.0


def _log_density(points: Floats, of: Floats, width: float, itself: bool = False) -> Floats:
    """Logarithm of the mean kernel, shape (n, number of `WIDTHS`)."""

    def reduce(distances: Floats, start: int) -> tuple[Floats]:
        if itself:
            rows = np.arange(len(distances))
            distances[rows, start + rows] = np.inf
        return (np.stack([logsumexp(-distances / (w * width), axis=1) for w in WIDTHS], axis=1),)

    found: Floats = by_rows(points, of, reduce)[0] - np.log(len(of) - itself)
    return found
