"""The scikit-learn face: options, attributes, prediction."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score

from clustering.hdmm.estimator import HierarchicalDirichletMixture

FAST = {"chains": 2, "burn_in": 300, "samples": 40, "spacing": 5, "initial_clusters": 8, "random_state": 0}


def planted(patients: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=patients)
    x = np.zeros((patients, 12))
    for j, k in enumerate(group):
        x[j, 4 * k + rng.permutation(4)[: rng.integers(1, 4)]] = 1
    return x, group


@pytest.mark.parametrize("assignment", ["mfnch", "multinomial", "posterior"])
def test_planted_groups(assignment: str) -> None:
    x, group = planted()
    model = HierarchicalDirichletMixture(assignment, **FAST).fit(x)  # type: ignore[arg-type]
    assert model.n_components_ == 3
    assert adjusted_rand_score(group, model.labels_) > 0.98
    assert model.probabilities_.shape == (120, 3)
    assert model.components_.shape == (3, 12)
    assert model.components_.sum(1) == pytest.approx(1)
    assert model.traces_["log_likelihood"].shape == (2, 40)


def test_predict_is_fit_predict_and_repeats() -> None:
    x, _ = planted()
    model = HierarchicalDirichletMixture(**FAST)  # type: ignore[arg-type]
    labels = model.fit_predict(x)
    np.testing.assert_array_equal(model.predict(x), labels)
    np.testing.assert_allclose(model.predict_proba(x), model.probabilities_)
    np.testing.assert_array_equal(clone(model).fit(x).probabilities_, model.probabilities_)
    assert (model.predict(np.eye(12)) == model.predict(np.eye(12)[::-1])[::-1]).all()


def test_nan_is_minus_one() -> None:
    x, _ = planted()
    x[:10, 5] = np.nan
    model = HierarchicalDirichletMixture(**FAST).fit(x)  # type: ignore[arg-type]
    other = HierarchicalDirichletMixture(**FAST).fit(np.nan_to_num(x, nan=-1.0))  # type: ignore[arg-type]
    np.testing.assert_array_equal(model.probabilities_, other.probabilities_)


def test_options_are_kept_as_given() -> None:
    model = HierarchicalDirichletMixture(merge=0.8, chains=1)
    assert clone(model).get_params() == model.get_params()
    assert model.get_params()["merge"] == 0.8
    assert model.set_params(samples=3).samples == 3


@pytest.mark.parametrize(
    "wrong",
    [{"chains": 0}, {"burn_in": -1}, {"samples": 0}, {"spacing": 0}, {"assignment": "best"}, {"estimator": "mle"},
     {"merge": 1.0}, {"base_weight": 0.0}],
)  # fmt: skip
def test_options_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HierarchicalDirichletMixture(**wrong).fit(np.eye(4))  # type: ignore[arg-type]


def test_x_is_checked() -> None:
    x, _ = planted()
    with pytest.raises(ValueError, match="X: 2"):
        HierarchicalDirichletMixture().fit(2 * x)
    with pytest.raises(NotFittedError):
        HierarchicalDirichletMixture().predict(x)
    model = HierarchicalDirichletMixture(**FAST).fit(x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="features"):
        model.predict(x[:, 1:])


def test_posterior_exposures_are_of_fitted_patients() -> None:
    x, _ = planted()
    model = HierarchicalDirichletMixture("posterior", **FAST).fit(x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="assignment"):
        model.predict(x)
