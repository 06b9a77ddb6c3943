"""The scikit-learn estimator of the conditional-Bernoulli mixture."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from clustering.mixture import ConditionalBernoulliMixture
from clustering.simulation import simulate


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, np.ndarray]:
    """Two classes of five genes each, ten patients without events, some genes not tested."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [60, 40, 10])
    x = (rng.random((110, 10)) < 0.5).astype(float)
    x[truth == 0, 5:] = 0
    x[truth == 1, :5] = 0
    x[truth == 2] = 0
    x[:100, 0:10:5] = np.where(x[:100].sum(1, keepdims=True) == 0, [[1, 0]], x[:100, 0:10:5])
    x[::7, 9] = np.nan
    return pd.DataFrame(x, columns=[f"g{g}" for g in range(10)]), truth


@pytest.fixture(scope="module")
def fitted(cohort: tuple[pd.DataFrame, np.ndarray]) -> ConditionalBernoulliMixture:
    return ConditionalBernoulliMixture(sweeps=600, random_state=1).fit(cohort[0])


def test_two_classes_are_found(fitted: ConditionalBernoulliMixture, cohort: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, truth = cohort
    some = (frame == 1).any(axis=1).to_numpy()
    assert (fitted.labels_[~some] == -1).all()
    assert fitted.n_clusters_ == 2
    assert fitted.k_interval_[0] <= 2 <= fitted.k_interval_[1]
    inside = some & (truth < 2)
    assert adjusted_rand_score(truth[inside], fitted.labels_[inside]) > 0.9
    assert fitted.scalars_["clusters"].shape == (2, 30)


def test_new_patients_join_the_class_of_their_genes(fitted: ConditionalBernoulliMixture) -> None:
    new = pd.DataFrame(np.zeros((3, 10)), columns=fitted.genes_)
    new.iloc[0, [1, 2]] = 1
    new.iloc[1, [6, 7]] = 1
    p = fitted.predict_proba(new)
    np.testing.assert_allclose(p.sum(1), 1.0)
    assert p[0, 0] > 0.95
    assert p[1, 1] > 0.95
    assert p[2] == pytest.approx(np.bincount(fitted.labels_[fitted.labels_ >= 0]) / 98, abs=0.05)
    assert fitted.predict(new).tolist() == [0, 1, -1]


def test_predictive_law_sums_to_one_over_all_patients_with_two_events(fitted: ConditionalBernoulliMixture) -> None:
    pairs = np.array([[g in (a, b) for g in range(10)] for a in range(10) for b in range(a)], float)
    frame = pd.DataFrame(pairs, columns=fitted.genes_)
    assert np.exp(fitted.score_samples(frame)).sum() == pytest.approx(1.0, abs=1e-9)
    assert fitted.score(frame) == pytest.approx(fitted.score_samples(frame).mean())


def test_it_is_an_estimator_and_repeats(cohort: tuple[pd.DataFrame, np.ndarray]) -> None:
    model = ConditionalBernoulliMixture(chains=1, sweeps=60, random_state=3)
    first, second = model.fit_predict(cohort[0]), clone(model).fit(cohort[0]).labels_
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        ([[0, 2]], "row 0, column 1 is 2"),
        ([0, 1], "shape"),
        ([[0, 0]], "none of 1 patients has an event"),
    ],
)
def test_wrong_tables_are_named(x: list[object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ConditionalBernoulliMixture().fit(x)


def test_other_columns_are_refused(fitted: ConditionalBernoulliMixture) -> None:
    with pytest.raises(ValueError, match="columns"):
        fitted.predict(np.eye(10))


def test_held_out_patients_are_likelier_under_the_mixture_than_under_one_law() -> None:
    rng = np.random.default_rng(5)
    drawn = simulate(3, 3.0, 0.05, rng, patients=240, genes=15)
    x = drawn.table.events.astype(float)
    model = ConditionalBernoulliMixture(chains=1, sweeps=800).fit(x[:160])
    uniform = ConditionalBernoulliMixture(chains=1, sweeps=100, scale=1e4).fit(x[:160])
    assert model.score(x[160:]) > uniform.score(x[160:]) + 0.3
