"""Whether a classifier can tell synthetic patients from real ones: a random forest's accuracy, and propensity scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from harmonization import Cohort
from models.preprocessing import PreprocessingOptions, Preprocessor, encode, feature_sums

Floats = NDArray[np.float64]

FOLDS, TREES, PERMUTATIONS = 5, 200, 20


def discriminator_accuracy(real: Cohort, synthetic: Cohort, rng: np.random.Generator) -> float:
    """Accuracy of a random forest in fivefold cross-validation on as many real as synthetic patients; .5 is chance.

    Features, time and event; missing values are split on as they are.
    """
    size = min(len(real), len(synthetic))
    parts = [c[np.sort(rng.choice(len(c), size, replace=False))] for c in (real, synthetic)]
    x = np.concatenate([np.column_stack([encode(c), c.time, _event(c)]) for c in parts])
    seed = int(rng.integers(2**31))
    forest = RandomForestClassifier(TREES, random_state=seed)
    folds = StratifiedKFold(min(FOLDS, size), shuffle=True, random_state=seed)
    return float(cross_val_score(forest, x, np.repeat([0, 1], size), cv=folds).mean())


def propensity(real: Cohort, synthetic: Cohort, rng: np.random.Generator) -> dict[str, float]:
    """``pmse``, the mean squared deviation of propensity scores from the share of synthetic patients, and ``pmse_ratio``.

    Scores are those of a logistic regression with a small ridge, on the patients it was fitted to. The ratio is to the
    mean of the same with labels permuted: 1 is what one law for all would give. ``pmse`` lies between 0 and c·(1 − c), c
    the share.

    References
    ----------
    Snoke, Raab, Nowok, Dibben and Slavkovic (2018), J R Stat Soc A 181:663.
    """
    pooled = Cohort.concatenate([real, synthetic])
    preprocessor = Preprocessor.fit(
        feature_sums(pooled), pooled.schema, PreprocessingOptions(min_missing=0.01, missing="impute")
    )
    outcome = np.column_stack([pooled.time, _event(pooled)])
    spread = outcome.std(axis=0)
    outcome = (outcome - outcome.mean(axis=0)) / np.where(spread > 0, spread, 1)
    x = np.column_stack([preprocessor.transform(pooled), outcome])
    label = np.repeat([0, 1], [len(real), len(synthetic)])
    found = _pmse(x, label)
    null = float(np.mean([_pmse(x, rng.permutation(label)) for _ in range(PERMUTATIONS)]))
    return {"pmse": found, "pmse_ratio": found / null}


def _pmse(x: Floats, label: NDArray[np.int64]) -> float:
    score = LogisticRegression(C=1.0, max_iter=1000).fit(x, label).predict_proba(x)[:, 1]
    return float(((score - label.mean()) ** 2).mean())


def _event(cohort: Cohort) -> NDArray[np.generic]:
    return cohort.event if cohort.cause is None else cohort.cause
