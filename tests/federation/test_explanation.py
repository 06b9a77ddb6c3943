"""What the centers say of a model together is what scikit-learn says of it on the pooled patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import partial_dependence, permutation_importance
from sksurv.metrics import concordance_index_censored

from federation.algorithm import run
from federation.explanation import PartialDependence, PermutationImportance, columns_of, grid_of
from federation.policy import read_audit
from federation.randomness import generator
from federation.splits import TEST, Split
from federation.state import State
from harmonization import Cohort
from models.survival.baseline import BaselineHazard
from models.survival.network import build_network
from models.training import TrainingData, mean_loss, predict
from tests.federation.hospitals import SCHEMA, SMALL, federation_of, hospitals, pooled, preprocessor

SPLIT, SEED, REPEATS = Split(4, 0, 0, 2), 7, 3
NAMES = list(SCHEMA.names)
BASELINE = BaselineHazard(np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.3, 0.8]))
WEIGHTS = np.random.default_rng(0).normal(0, 0.5, 4 * preprocessor().n_features + 4 + 4).astype(np.float32)
MODEL: dict[str, Any] = {"model": "deepsurv", "model_parameters": SMALL}


class Pooled(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """The model on a table of raw values, as scikit-learn wants it."""

    def __init__(self, horizon: float | None = None) -> None:
        self.horizon = horizon
        self.fitted_ = True

    def fit(self, X: Any, y: Any) -> Pooled:
        return self

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        n = len(X)
        cohort = Cohort(SCHEMA, np.arange(n).astype(str), X, np.ones(n), np.ones(n, dtype=bool))
        network = build_network("deepsurv", preprocessor().n_features, SMALL)
        risk = predict(network, WEIGHTS, preprocessor().transform(cohort))
        return risk if self.horizon is None else BASELINE.survival(risk, [self.horizon])[:, 0]


def held_out() -> dict[str, Cohort]:
    return {name: c[SPLIT.parts(c.ids, c.event, name) == TEST] for name, c in hospitals().items()}


def asked(**options: Any) -> State:
    algorithm = PermutationImportance(
        **MODEL,
        repeats=REPEATS,
        weights=WEIGHTS,
        preprocessor=preprocessor(),
        source=columns_of(preprocessor(), SCHEMA),
    )
    return run(algorithm, federation_of(split=SPLIT, seed=SEED, task="why", **options))


def stratified_concordance(cohorts: dict[str, Cohort], risk: NDArray[np.float64]) -> float:
    pairs = np.zeros(2)
    parts = np.split(risk, np.cumsum([len(c) for c in cohorts.values()])[:-1])
    for cohort, mine in zip(cohorts.values(), parts, strict=True):
        _, concordant, discordant, tied, _ = concordance_index_censored(cohort.event, cohort.time, mine)
        pairs += [concordant + tied / 2, concordant + discordant + tied]
    return float(pairs[0] / pairs[1])


def shuffles(cohorts: dict[str, Cohort]) -> NDArray[np.int64]:
    """The centers' own, as row numbers of the pooled table: [features, repeats, patients]."""
    blocks, start = [], 0
    for name, cohort in cohorts.items():
        rng, n = generator(SEED, "permutation-importance", "why", 0, name), len(cohort)
        one = [rng.permuted(np.tile(np.arange(n), (REPEATS, 1)), axis=1) for _ in NAMES]
        blocks.append(start + np.array(one))
        start += n
    return np.concatenate(blocks, axis=2)


class Drawn:
    """scikit-learn's random state, which shuffles as the centers did (it shuffles what it has shuffled before)."""

    def __init__(self, orders: NDArray[np.int64]) -> None:
        self.orders, self.before = iter(orders), np.arange(orders.shape[1])

    def shuffle(self, rows: NDArray[np.int64]) -> None:
        order = next(self.orders)
        rows[:] = np.argsort(self.before)[order]
        self.before = order


def test_importance_is_that_of_the_pooled_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    cohorts = held_out()
    everybody, orders = Cohort.concatenate(list(cohorts.values())), shuffles(cohorts)
    state = asked()

    def score(model: Pooled, x: Any, y: Any) -> float:
        return stratified_concordance(cohorts, model.predict(x))

    columns = iter(orders)
    monkeypatch.setattr(
        "sklearn.inspection._permutation_importance.check_random_state",
        lambda state: Drawn(next(columns)) if isinstance(state, int) else np.random.RandomState(0),
    )
    # The first call only draws the seed that is handed on, so a generator is passed.
    theirs = permutation_importance(
        Pooled(), everybody.values, None, scoring=score, n_repeats=REPEATS, random_state=np.random.RandomState(0)
    )
    drop = state["concordance"] - state["shuffled_concordance"]
    np.testing.assert_allclose(drop, theirs["importances"], atol=1e-12)
    assert drop.std() > 0.01


def test_loss_is_summed_over_centers() -> None:
    cohorts = held_out()
    network = build_network("deepsurv", preprocessor().n_features, SMALL)
    losses, n = [], sum(map(len, cohorts.values()))
    for cohort in cohorts.values():
        data = TrainingData(preprocessor().transform(cohort), cohort.time, cohort.event)
        losses.append(len(cohort) * mean_loss(network, WEIGHTS, data))
    state = asked()
    assert float(state["loss"]) == pytest.approx(sum(losses) / n, abs=1e-6)
    assert (state["shuffled_loss"] != state["loss"]).all()


@pytest.mark.parametrize("feature", NAMES)
def test_partial_dependence_is_that_of_the_pooled_patients(feature: str) -> None:
    everybody, _ = pooled(hospitals(), SPLIT)
    grid = grid_of(preprocessor(), SCHEMA, [feature], points=5)
    algorithm = PartialDependence(
        **MODEL,
        part="train",
        times=(1.0, 3.0),
        weights=WEIGHTS,
        preprocessor=preprocessor(),
        values=grid.values,
        baseline=BASELINE,
    )
    state = run(algorithm, federation_of(split=SPLIT))
    j = NAMES.index(feature)
    asked = grid.labels[feature]
    plain = np.array([{"no": 0, "yes": 1}.get(v, i) if isinstance(v, str) else v for i, v in enumerate(asked)], float)
    for model, mine in ((Pooled(), state["risk"]), (Pooled(3.0), state["survival"][:, 1])):
        theirs = partial_dependence(
            model, everybody.values, [j], method="brute", kind="average", custom_values={j: plain}
        )
        np.testing.assert_allclose(mine, theirs["average"][0], atol=1e-6)
    assert int(state["patients"]) == len(everybody)
    assert np.ptp(state["risk"]) > 1e-3


def test_a_center_with_few_test_patients_says_nothing(tmp_path: Path) -> None:
    parts = {name: np.ones(len(c), dtype=np.int64) for name, c in hospitals().items()}
    for name, n in (("North", 20), ("South", 15), ("West", 2)):
        parts[name][:n] = TEST
        parts[name][n:] = 0
    state = asked(parts=parts, directory=tmp_path)
    assert int(state["patients"]) == 35
    said = read_audit(tmp_path / "audit")
    assert said["West"][-1]["arrays"] == {}
    assert set(said["North"][-1]["arrays"]) >= {"concordant", "shuffled_concordant"}
    assert sum(map(len, said["North"][-1]["arrays"].values())) <= 4  # no array has a row per patient


def test_the_grid_stays_within_the_dictionary() -> None:
    grid = grid_of(preprocessor(), SCHEMA, NAMES, points=7)
    assert grid.labels["grade"] == ("low", "mid", "high")
    assert grid.labels["mutated"] == ("no", "yes")
    assert len(grid.values) == sum(map(len, grid.labels.values()))
    blasts = np.array(grid.labels["blasts"], dtype=float)
    assert (blasts == np.rint(blasts)).all()


def test_repeats() -> None:
    with pytest.raises(ValueError, match="repeats is 0"):
        PermutationImportance(repeats=0)
