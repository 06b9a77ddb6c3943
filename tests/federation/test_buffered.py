"""FedBuff against an event-by-event simulation that shares nothing with it, and its clock."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.algorithm import run
from federation.averaging import ParameterAveraging, validation_metrics
from federation.buffered import BufferedAveraging, Latency, time_to_concordance
from federation.checkpoint import load_state, save_state
from federation.randomness import generator
from federation.splits import Split
from federation.strategies import FedAvg, FedBuff
from harmonization import Cohort
from models.survival.network import build_network
from models.training import TrainingOptions, train
from tests.federation.hospitals import (
    averaging,
    design,
    federation_of,
    hospitals,
    patients,
    preprocessor,
    require_equal_states,
    states,
)

OPTIONS = TrainingOptions(steps=3, learning_rate=0.4)
LINEAR: dict[str, Any] = {"model": "cox", "model_parameters": {}, "training": OPTIONS}


def cohorts(n: int) -> Mapping[str, Cohort]:
    return {f"H{j}": patients(20 + 3 * j, seed=j, age=55 + j) for j in range(n)}


def buffered(strategy: FedBuff, rounds: int, **changes: Any) -> ParameterAveraging:
    return averaging(strategy, rounds=rounds, **LINEAR | changes)


def event_by_event(strategy: FedBuff, steps: int, members: Mapping[str, Cohort], seed: int = 0) -> list[Any]:
    """Nguyen et al. 2022, algorithm 1: a queue of arrivals, each with the weights its center began from.

    Two rules are ours: a center begins at most once from the same weights, and sends at most once per step.
    """
    network = build_network("cox", preprocessor().n_features)
    tables = [design(cohort) for cohort in members.values()]
    latency = Latency(strategy.pace_spread, strategy.job_spread, seed)
    n, weights, now = len(tables), np.zeros(preprocessor().n_features, dtype=np.float32), 0.0
    queue: list[tuple[float, int, int, NDArray[np.float64]]] = []  # arrival, center, version, update
    jobs, seen = [0] * n, []
    at_work = max(1, round(strategy.concurrency * n))
    for version in range(steps):
        order = generator(seed, BufferedAveraging.name, version, "begin").permutation(n)
        started: set[int] = set()
        sent: dict[int, NDArray[np.float64]] = {}
        late: list[Any] = []

        def fill() -> None:  # called within the turn of the loop alone
            for j in order:  # noqa: B023
                busy = {job[1] for job in queue} | {job[1] for job in late}  # noqa: B023
                if len({job[1] for job in queue}) >= at_work:
                    return
                if j not in busy and j not in started:  # noqa: B023
                    trained, _ = train(network, weights, tables[j], OPTIONS, np.random.default_rng(0))  # noqa: B023
                    arrival = now + latency.duration(int(j), jobs[j])  # noqa: B023
                    heapq.heappush(queue, (arrival, int(j), version, trained.astype(np.float64) - weights))  # noqa: B023
                    started.add(j)  # noqa: B023
                    jobs[j] += 1

        fill()
        while len(sent) < min(strategy.buffer, at_work) and queue:
            arrival, j, began, update = heapq.heappop(queue)
            now = max(now, arrival)
            if j in sent:
                late.append((arrival, j, began, update))
                continue
            sent[j] = update / (1 + version - began) ** strategy.damping
            fill()
        for job in late:
            heapq.heappush(queue, job)
        sizes = {j: len(tables[j]) for j in sent}
        mean = sum(sizes[j] * update for j, update in sent.items()) / sum(sizes.values())
        weights = (weights + strategy.learning_rate * mean).astype(np.float32)
        seen.append((now, weights, sorted(sent)))
    return seen


@pytest.mark.parametrize(
    "strategy",
    [
        FedBuff(buffer=2),
        FedBuff(buffer=3, concurrency=0.6, damping=1.0),
        FedBuff(buffer=1, learning_rate=0.5, pace_spread=2.0),
        FedBuff(buffer=7, damping=0.0, job_spread=1.0),
        FedBuff(buffer=100, concurrency=0.5),
    ],
    ids=str,
)
def test_equals_a_simulation_event_by_event(strategy: FedBuff) -> None:
    members = cohorts(7)
    algorithm = buffered(strategy, 12)
    assert isinstance(algorithm, BufferedAveraging)
    seen = states(algorithm, federation_of(members))
    for state, (now, weights, sent) in zip(seen[1:13], event_by_event(strategy, 12, members), strict=True):
        r = int(state["round"])
        np.testing.assert_allclose(state["clock"][r], now, rtol=1e-12)
        np.testing.assert_allclose(state["weights"], weights, atol=2e-5)
        np.testing.assert_array_equal(np.flatnonzero(seen[r - 1]["due"]), sent)


def test_with_equal_paces_and_everybody_in_the_buffer_it_is_fedavg() -> None:
    strategy = FedBuff(buffer=3, pace_spread=0.0, job_spread=0.0)
    ours = run(buffered(strategy, 5), federation_of())
    plain = run(averaging(FedAvg(), rounds=5, model="cox", model_parameters={}, training=OPTIONS), federation_of())
    np.testing.assert_array_equal(ours["weights"], plain["weights"])
    np.testing.assert_array_equal(ours["clock"], [0, 1, 2, 3, 4, 5])


def test_stale_updates_count_less() -> None:
    seen = states(buffered(FedBuff(buffer=1, pace_spread=2.0), 20), federation_of(cohorts(6)))
    due = np.array([state["due"] for state in seen])
    assert due.max() == 1.0
    assert (due[due > 0] < 0.5).any()  # some began more than three steps before


def test_slow_centers_do_not_hold_the_others_up() -> None:
    # On the same clock, as many updates.
    strategy, members = FedBuff(buffer=5, pace_spread=1.5), cohorts(10)
    clock = run(buffered(strategy, 20), federation_of(members))["clock"]
    latency = Latency(strategy.pace_spread, strategy.job_spread)
    synchronous = latency.synchronous(np.ones((10, 10), dtype=bool))  # 10 rounds of 10 updates
    assert clock[20] < synchronous[-1] / 2
    assert (np.diff(clock[:21]) >= 0).all()


def test_time_to_a_target_with_and_without_rounds() -> None:
    strategy, members, split = FedBuff(buffer=5, pace_spread=1.5), cohorts(10), Split(validation=0.4)
    latency, small = Latency(strategy.pace_spread, strategy.job_spread), TrainingOptions(steps=1, learning_rate=0.1)
    buffers = run(buffered(strategy, 40, training=small), federation_of(members, split=split))
    waits = run(averaging(FedAvg(), rounds=20, **LINEAR | {"training": small}), federation_of(members, split=split))
    reached = [[validation_metrics(rows)["concordance"] for rows in s["history"]] for s in (buffers, waits)]
    target = min(map(max, reached)) - 0.005  # both get there
    sooner, later = (time_to_concordance(state, target, latency) for state in (buffers, waits))
    assert sooner == buffers["clock"][next(r for r, c in enumerate(reached[0]) if c >= target)]
    rounds = next(r for r, c in enumerate(reached[1]) if c >= target)
    slowest = [max(latency.duration(j, r) for j in range(10)) for r in range(rounds)]
    assert later == pytest.approx(sum(slowest))
    assert 0 < sooner < later
    assert time_to_concordance(waits, reached[1][0], latency) == 0.0  # as good at the start
    assert time_to_concordance(waits, 1.01, latency) == np.inf


@pytest.mark.parametrize("killed", [1, 4, 7])
def test_resumed_it_goes_on_with_the_same_bits(tmp_path: Path, killed: int) -> None:
    # Updates that centers are still working on are in their memory.
    algorithm = buffered(FedBuff(buffer=2, pace_spread=1.5), 9, training=TrainingOptions(batch_size=8))
    whole = states(algorithm, federation_of(cohorts(5)))
    run(
        algorithm,
        federation_of(cohorts(5), directory=tmp_path),
        after_round=[lambda state: int(state["round"]) == killed],
    )
    save_state(tmp_path / "state.npz", whole[killed])
    again = run(algorithm, federation_of(cohorts(5), directory=tmp_path), load_state(tmp_path / "state.npz"))
    require_equal_states(again, whole[-1])


def test_one_by_one_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = buffered(FedBuff(buffer=2), 6)
    together = run(algorithm, federation_of())
    monkeypatch.setattr(BufferedAveraging, "client_updates", lambda *arguments: None)
    alone = run(algorithm, federation_of())
    np.testing.assert_allclose(alone["weights"], together["weights"], atol=1e-6)
    np.testing.assert_array_equal(alone["clock"], together["clock"])


@pytest.mark.parametrize(
    "wrong", [{"buffer": 0}, {"concurrency": 0.0}, {"concurrency": 1.5}, {"damping": -1.0}, {"job_spread": -0.1}]
)
def test_wrong_parameters_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FedBuff(**wrong)


def test_hospitals_of_the_other_tests_train() -> None:
    final = run(buffered(FedBuff(), 8), federation_of(hospitals()))
    assert final["history"][:8, :, 0].sum() > 0
