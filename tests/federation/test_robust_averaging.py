"""Averaging with a robust aggregator over the made-up hospitals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from federation.algorithm import Roster, run
from federation.center import Center, Question
from federation.contribution import Contribution
from federation.in_process import InProcessFederation
from federation.privacy.secure import SecureAggregation
from federation.robust_averaging import RobustAveraging
from federation.strategies import FedAvg
from models.training import TrainingOptions
from tests.federation.hospitals import SMALL, averaging, federation_of, patients, preprocessor


def robust(**changes: Any) -> RobustAveraging:
    settings: dict[str, Any] = {
        "model": "deepsurv",
        "model_parameters": SMALL,
        "training": TrainingOptions(steps=1, learning_rate=0.5),
        "rounds": 3,
        "preprocessor": preprocessor(),
    }
    return RobustAveraging.create(FedAvg(), **settings | changes)


def one_by_one() -> InProcessFederation:
    """Centers that answer by themselves."""

    class Alone(Center):
        def answer(self, question: Question) -> Contribution:
            return super().answer(question)

    return InProcessFederation([Alone(c.name, c._source, c.position) for c in federation_of().centers])


@pytest.mark.parametrize("federation", [federation_of, one_by_one])
def test_with_the_mean_it_is_averaging(federation: Any) -> None:
    start = averaging().start(Roster(("North", "South", "West")))  # the first weights are drawn from the name
    plain = run(averaging(), federation(), start)
    ours = robust(aggregator="mean")
    found = run(ours, federation(), {**ours.start(Roster(("North", "South", "West"))), **start})
    np.testing.assert_allclose(found["weights"], plain["weights"], rtol=1e-5, atol=1e-7)


def test_it_is_refused_under_secure_aggregation() -> None:
    with pytest.raises(ValueError, match="'robust-averaging' has to see each center's contribution by itself"):
        run(robust(), federation_of(secure_aggregation=SecureAggregation()))


class Liar(Center):
    """Sends the opposite of what it found, ten times."""

    def answer(self, question: Question) -> Contribution:
        honest = super().answer(question)
        return Contribution.of(honest.patients, {k: -10 * v if "update" in k else v for k, v in honest.items()})


def test_a_lying_center_moves_the_mean_and_not_the_median() -> None:
    names = [f"hospital {i}" for i in range(5)]
    cohorts = [patients(40, seed=i) for i in range(5)]

    def weights(liars: int, aggregator: str) -> np.ndarray:
        kinds = [Liar if i < liars else Center for i in range(5)]
        centers = [kind(n, lambda c=c: c, i) for i, (kind, n, c) in enumerate(zip(kinds, names, cohorts, strict=True))]
        return run(robust(aggregator=aggregator, rounds=5), InProcessFederation(centers))["weights"]

    honest = weights(0, "mean")
    off = {name: np.linalg.norm(weights(1, name) - honest) for name in ("mean", "median", "geometric-median")}
    assert off["median"] < off["mean"] / 2
    assert off["geometric-median"] < off["mean"] / 2


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="no aggregator 'best'; there are mean, median"):
        robust(aggregator="best")


def test_a_center_whose_update_is_too_long_is_rejected() -> None:
    by_center = np.zeros((3, 6))
    by_center[:2, 0] = 10.0, 2.0  # weights; the third sent nothing
    sent = Contribution.of(12, {"updates": np.array([[30.0, 40.0], [6.0, 8.0], [0.0, 0.0]]), "by_center": by_center})
    assert robust(max_norm=5.0).reject(sent) == ""
    assert "limit (max_norm) of 4.9" in robust(max_norm=4.9).reject(sent)
    assert robust().reject(sent) == ""
