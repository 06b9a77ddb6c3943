"""SCAFFOLD against a few lines of numpy that share nothing with it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.algorithm import run
from federation.averaging import ParameterAveraging
from federation.center import Center
from federation.checkpoint import load_state
from federation.in_process import InProcessFederation, question_for
from federation.state import file_name
from federation.strategies import Scaffold
from harmonization import Cohort
from models.training import TrainingOptions
from tests.federation.hospitals import averaging, design, federation_of, hospitals, states

Floats = NDArray[np.float64]
Gradient = Callable[[Floats], Floats]
SIZES = np.array([len(cohort) for cohort in hospitals().values()], dtype=float)


def cox_gradient(cohort: Cohort) -> Gradient:
    """Of a hospital's negative log partial likelihood per patient, in its linear coefficients; no ties here."""
    data = design(cohort)

    def gradient(beta: Floats) -> Floats:
        slope = np.zeros_like(beta)
        for i in np.flatnonzero(data.event):
            at_risk = data.time >= data.time[i]
            hazard = np.exp(data.x[at_risk] @ beta)
            slope -= data.x[i] - hazard @ data.x[at_risk] / hazard.sum()
        return slope / len(data)

    return gradient


def reference(
    trains: NDArray[np.bool_], weights: Floats, steps: int, rate: float, server_rate: float
) -> list[tuple[Floats, Floats, Floats]]:
    """Karimireddy et al. 2020, algorithm 1 with option II, means over clients weighted by `weights`.

    `trains` says who takes part in each round, shape (rounds, clients). Yields x, c and all cᵢ after every round.
    """
    gradients = [cox_gradient(cohort) for cohort in hospitals().values()]
    p = design(next(iter(hospitals().values()))).x.shape[1]
    x, c, ci, seen = np.zeros(p), np.zeros(p), np.zeros((3, p)), []
    for chosen in trains:
        delta_y, delta_c = np.zeros((3, p)), np.zeros((3, p))
        for i in np.flatnonzero(chosen):
            y = x.copy()
            for _ in range(steps):
                y = y - rate * (gradients[i](y) - ci[i] + c)
            plus = ci[i] - c + (x - y) / (steps * rate)
            delta_y[i], delta_c[i], ci[i] = y - x, plus - ci[i], plus
        x = x + server_rate * weights[chosen] @ delta_y[chosen] / weights[chosen].sum()
        c = c + weights[chosen] @ delta_c[chosen] / weights.sum()  # |S|/N of the mean over S
        seen.append((x, c, ci.copy()))
    return seen


def scaffold(rounds: int, steps: int, rate: float, server_rate: float = 1.0, **changes: object) -> ParameterAveraging:
    return averaging(
        Scaffold(learning_rate=server_rate),
        model="cox",
        model_parameters={},
        training=TrainingOptions(steps=steps, learning_rate=rate),
        rounds=rounds,
        **changes,
    )


def variates(directory: Path) -> list[Floats]:
    """What each hospital remembers, read from its disk."""
    found = []
    for name in hospitals():
        files = sorted((directory / "memory" / file_name(name, "run")).glob("*.safetensors"), key=lambda p: int(p.stem))
        found.append(load_state(files[-1])["variate"] if files else np.zeros(1))
    return found


@pytest.mark.parametrize("server_rate", [1.0, 0.6])
@pytest.mark.parametrize("weighting", ["patients", "uniform"])
def test_equals_the_publication_over_several_rounds(tmp_path: Path, weighting: str, server_rate: float) -> None:
    weights = SIZES if weighting == "patients" else np.ones(3)
    algorithm = scaffold(6, 4, 0.4, server_rate, weighting=weighting)
    expected = reference(np.ones((6, 3), dtype=bool), weights, 4, 0.4, server_rate)
    for r, (x, c, ci) in enumerate(expected, start=1):
        # Stopped after round r, so that the hospitals' memory is that of round r.
        federation = federation_of(directory=tmp_path / str(r))
        state = run(algorithm, federation, after_round=[lambda s, r=r: int(s["round"]) == r])  # type: ignore[misc]
        np.testing.assert_allclose(state["weights"], x, atol=1e-5)
        np.testing.assert_allclose(state["control"], c, atol=1e-5)
        for mine, theirs in zip(variates(tmp_path / str(r)), ci, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_equals_the_publication_with_client_sampling(tmp_path: Path) -> None:
    algorithm = scaffold(12, 3, 0.4, sample=0.67)  # two of three
    seen = states(algorithm, federation_of(directory=tmp_path))
    trains = np.array([state["training"] for state in seen[:12]])
    assert (trains.sum(axis=1) == 2).all()
    expected = reference(trains, SIZES, 3, 0.4, 1.0)
    for state, (x, c, _) in zip(seen[1:13], expected, strict=True):
        np.testing.assert_allclose(state["weights"], x, atol=2e-5)
        np.testing.assert_allclose(state["control"], c, atol=2e-5)
    for mine, theirs in zip(variates(tmp_path), expected[-1][2], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-5)


@pytest.mark.parametrize("sample", [1.0, 0.34])
def test_the_centers_variates_average_to_the_servers(tmp_path: Path, sample: float) -> None:
    state = run(scaffold(9, 5, 0.3, sample=sample), federation_of(directory=tmp_path))
    mean = np.average(variates(tmp_path), axis=0, weights=SIZES)
    np.testing.assert_allclose(state["control"], mean, atol=1e-12)
    assert np.abs(mean).max() > 1e-3


def test_the_first_round_is_fedavg() -> None:
    # All control variates are zero.
    first = states(scaffold(1, 5, 0.3), federation_of())[1]["weights"]
    plain = averaging(model="cox", model_parameters={}, training=TrainingOptions(steps=5, learning_rate=0.3), rounds=1)
    np.testing.assert_array_equal(first, states(plain, federation_of())[1]["weights"])


def slope(weights: NDArray[np.floating]) -> float:
    """Length of the stratified likelihood's gradient."""
    parts = [cox_gradient(cohort)(weights.astype(np.float64)) for cohort in hospitals().values()]
    return float(np.linalg.norm(np.average(parts, axis=0, weights=SIZES)))


def test_many_local_steps_do_not_drift_away() -> None:
    # With hospitals so different, FedAvg's fixed point is off the optimum of the stratified likelihood;
    # SCAFFOLD's is on it: there the sum of the gradients is zero.
    options = TrainingOptions(steps=10, learning_rate=0.8)
    corrected = run(scaffold(35, 10, 0.8), federation_of())
    plain = run(averaging(model="cox", model_parameters={}, training=options, rounds=35), federation_of())
    assert slope(corrected["weights"]) < 1e-3
    assert slope(plain["weights"]) > 10 * slope(corrected["weights"])


def test_an_epoch_of_mini_batches_counts_its_steps() -> None:
    # The control variate divides by the number of steps, which differs between hospitals: 60, 37 and 17 patients.
    options = TrainingOptions(epochs=2, batch_size=10, learning_rate=0.05)
    algorithm = averaging(Scaffold(), model="cox", model_parameters={}, training=options, rounds=1)
    federation = federation_of()
    state = algorithm.start(federation.roster)
    steps = [2 * 6, 2 * 4, 2 * 2]
    total = federation.ask(algorithm, state)
    question = question_for(algorithm, state, "run", federation.split, federation.roster, 1)
    each = [center.answer(question) for center in federation.centers]
    for answer, n, k in zip(each, SIZES, steps, strict=True):
        np.testing.assert_allclose(answer["control"], -answer["update"] / (k * 0.05), rtol=1e-12)
        assert answer["weight"] == n
    assert total["population"] == SIZES.sum()


class Away(Center):
    """Cannot be reached in some rounds; in others its answer is lost on the way, though it has trained."""

    away: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()

    def answer(self, question):  # type: ignore[no-untyped-def]
        if question.round in self.away:
            raise TimeoutError("no line")
        answer = super().answer(question)
        if question.round in self.lost:
            raise TimeoutError("late")
        return answer


@pytest.mark.parametrize(("away", "lost"), [((0, 1, 4), ()), ((), (1, 3)), ((0,), (2,))])
def test_a_dropout_does_not_bias_the_rounds_that_follow(
    tmp_path: Path, away: tuple[int, ...], lost: tuple[int, ...]
) -> None:
    # Were changes added up at the server, it would for ever take its control variate for a mean that it is not.
    centers = [
        Away(name, lambda c=c: c, j, directory=tmp_path)  # type: ignore[misc]
        for j, (name, c) in enumerate(hospitals().items())
    ]
    centers[1].away, centers[1].lost = away, lost
    state = run(scaffold(35, 10, 0.8), InProcessFederation(centers))
    np.testing.assert_allclose(state["control"], np.average(variates(tmp_path), axis=0, weights=SIZES), atol=1e-12)
    assert slope(state["weights"]) < 1e-3


def test_variates_change_every_round() -> None:
    seen = states(scaffold(6, 4, 0.3), federation_of())
    for before, after in pairwise(seen[:7]):
        assert np.abs(before["control"] - after["control"]).max() > 1e-5
    np.testing.assert_array_equal(seen[-1]["control"], seen[-2]["control"])  # validation alone
