"""Whether a classifier tells synthetic patients from real ones: a random forest's accuracy, and propensity scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier

from harmonization import Cohort
from models.preprocessing import encode

Floats = NDArray[np.float64]

FOLDS, TREES = 5, 200
LEAF, PERMUTATIONS = 0.02, 20


def discriminator_accuracy(real: Cohort, synthetic: Cohort, rng: np.random.Generator) -> float:
    """Accuracy of a random forest in fivefold cross-validation on as many real as synthetic patients; .5 is chance.

    Features, time and event; missing values are split on as they are.
    """
    size = min(len(real), len(synthetic))
    parts = [c[np.sort(rng.choice(len(c), size, replace=False))] for c in (real, synthetic)]
    x = np.concatenate([_table(part) for part in parts])
    seed = int(rng.integers(2**31))
    forest = RandomForestClassifier(TREES, random_state=seed)
    folds = StratifiedKFold(min(FOLDS, size), shuffle=True, random_state=seed)
    return float(cross_val_score(forest, x, np.repeat([0, 1], size), cv=folds).mean())


def propensity(real: Cohort, synthetic: Cohort, rng: np.random.Generator) -> dict[str, float]:
    """``pmse``, mean squared deviation of propensity scores from the share of synthetic patients, and ``pmse_ratio``.

    Scores are those of a classification tree with leaves of at least a fiftieth of the patients, on those it was grown
    for: a logistic regression would see marginals only. The ratio is to the mean of the same with labels permuted: 1 is
    what one law for all would give. ``pmse`` lies between 0 and c·(1 − c), c the share.

    References
    ----------
    Snoke, Raab, Nowok, Dibben and Slavkovic (2018), J R Stat Soc A 181:663: section 3.2 on trees and permutation.
    """
    x = np.concatenate([_table(real), _table(synthetic)])
    label = np.repeat([0, 1], [len(real), len(synthetic)])
    seed = int(rng.integers(2**31))
    found = _pmse(x, label, seed)
    null = float(np.mean([_pmse(x, rng.permutation(label), seed) for _ in range(PERMUTATIONS)]))
    return {"pmse": found, "pmse_ratio": found / null if null > 0 else float("nan")}


def _pmse(x: Floats, label: NDArray[np.int64], seed: int) -> float:
    tree = DecisionTreeClassifier(min_samples_leaf=LEAF, random_state=seed)
    score = tree.fit(x, label).predict_proba(x)[:, 1]
    return float(((score - label.mean()) ** 2).mean())


def _table(cohort: Cohort) -> Floats:
    """Features, time, event (with competing causes, which); missing as NaN."""
    event = cohort.event if cohort.cause is None else cohort.cause
    return np.column_stack([encode(cohort), cohort.time, event])
