"""Subgroups of patients that synthetic ones should show too: who has a lesion, and the clusters that lesions make."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import adjusted_rand_score, balanced_accuracy_score

from clustering.events import EventTable, as_events
from clustering.mixture import ConditionalBernoulliMixture
from experiments.synthetic.columns import lesions
from harmonization import Cohort
from models.preprocessing import encode, encoded_names

Labels = NDArray[np.int64]

KNOWN = 0.9
"""A subgroup is one of a feature that at least this fraction of patients has known."""

TREES = 200
FREQUENT = 0.01
"""Lesions that at least this fraction of real training patients has are clustered."""

CHAINS, SWEEPS, SPACING = 2, 500, 10


def subgroup_feature(train: Cohort) -> str | None:
    """The lesion whose rate is nearest to one half, of those known in most patients; else such a clinical 0/1 feature.

    None if there is neither.
    """
    features = train.schema.features
    for modality in ("genomic", "clinical"):
        rates = {}
        for j, feature in enumerate(features):
            x = train.values[:, j]
            if feature.kind == "binary" and feature.modality == modality and (~np.isnan(x)).mean() >= KNOWN:
                rates[feature.name] = abs(float(np.nanmean(x)) - 0.5)
        if rates and min(rates.values()) < 0.5:
            return min(rates, key=lambda name: rates[name])
    return None


def subgroup_accuracy(train: Cohort, test: Cohort, target: str, seed: int) -> float:
    """Balanced accuracy on the test patients of a random forest that finds the subgroup from all other features.

    Patients of unknown subgroup do not count. .5 is chance, and what a training table of one class gives.
    """
    own = [name.split("=")[0] != target for name in encoded_names(train.schema)]
    x, at = encode(train)[:, own], encode(test)[:, own]
    y, truth = train.column(target), test.column(target)
    known, tested = ~np.isnan(y), ~np.isnan(truth)
    if not known.any() or len(np.unique(truth[tested])) < 2:
        return float("nan")
    forest = RandomForestClassifier(TREES, class_weight="balanced", random_state=seed)
    predicted = forest.fit(x[known], y[known]).predict(at[tested])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class that nobody is predicted to be in
        return float(balanced_accuracy_score(truth[tested], predicted))


def clustered_lesions(train: Cohort) -> NDArray[np.bool_]:
    """Which lesions are clustered, shape (g,)."""
    values = lesions(train).values
    frequent: NDArray[np.bool_] = (values == 1).sum(axis=0) >= max(2, FREQUENT * len(train))
    return frequent


def clusters(train: Cohort, test: Cohort, keep: NDArray[np.bool_], seed: int) -> Labels | None:
    """The cluster of each test patient in a mixture of the training patients; -1 without a lesion.

    `clustering.mixture.ConditionalBernoulliMixture` in short chains. None if no training patient has a lesion.
    """
    table = events(train, keep)
    if keep.sum() < 2 or not (table.counts > 0).any():
        return None
    model = ConditionalBernoulliMixture(chains=CHAINS, sweeps=SWEEPS, spacing=SPACING, random_state=seed).fit(table)
    labels: Labels = model.predict(events(test, keep))
    return labels


def agreement(first: Labels | None, second: Labels | None) -> float:
    """Adjusted Rand index among the patients with a lesion; NaN if there is nothing to compare."""
    if first is None or second is None:
        return float("nan")
    some = (first >= 0) & (second >= 0)
    return float(adjusted_rand_score(first[some], second[some])) if some.any() else float("nan")


def events(cohort: Cohort, keep: NDArray[np.bool_]) -> EventTable:
    """The lesions to cluster."""
    return as_events(lesions(cohort).values[:, keep])
