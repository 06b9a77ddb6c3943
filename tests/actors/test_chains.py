"""Chains on Ray equal chains in process, bit by bit, whatever happens to their workers."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import arviz
import numpy as np
import pytest

from actors.chain_files import ChainsError, pack, unpack
from actors.chains import (
    TOGETHER,
    ChainsResult,
    Plan,
    Target,
    advance_chain,
    diagnose,
    run_chains,
    watched_pairs,
)
from clustering.chain import SCALARS, State, steps


@dataclass(frozen=True)
class Walk:
    """A stationary walk (standard normal, lag-one correlation ``rho``) with draws of changing shape."""

    rho: float = 0.5
    nap: float = 0.0
    marker: Path | None = None  # the process that finds it absent makes it and dies
    hang: bool = False  # … or sleeps instead

    def start(self, rng: np.random.Generator) -> State:
        return {"x": rng.normal(size=2)}

    def advance(self, state: State, sweeps: int, rng: np.random.Generator) -> State:
        if self.marker is not None and not self.marker.exists():
            self.marker.touch()
            if self.hang:
                time.sleep(3600)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.nap)
        x = state["x"]
        for _ in range(sweeps):
            x = self.rho * x + np.sqrt(1 - self.rho**2) * rng.normal(size=2)
        return {"x": x}

    def scalars(self, state: State) -> dict[str, float]:
        return dict.fromkeys(SCALARS, float(state["x"][0]))

    def draw(self, state: State) -> State:
        clusters = 1 + int(abs(state["x"][0]))
        return {"labels": np.arange(5) % clusters, "sizes": np.ones((clusters, 2)), "alpha": state["x"][1]}


PLAN = Plan(chains=3, seed=7, spacing=2, sweeps=80, target=None, block_seconds=0.02, timeout=60)


def assert_equal_to_process(result: ChainsResult, plan: Plan, sampler: Walk) -> None:
    chains, length = result.shape
    assert chains == plan.chains
    for chain in range(chains):
        expected = list(islice(steps(sampler, plan.seed, chain, plan.spacing), length))
        np.testing.assert_array_equal(
            result.scalars["log_likelihood"][chain], [step.scalars["log_likelihood"] for step in expected]
        )
        kept = list(result.draws(chain))
        assert len(kept) == length - result.first
        for ours, theirs in zip(kept, expected[result.first :], strict=True):
            assert set(ours) == set(theirs.draw)
            for name, value in theirs.draw.items():
                np.testing.assert_array_equal(ours[name], value)


@pytest.mark.usefixtures("cluster")
def test_more_chains_than_cpus_equal_chains_in_process(tmp_path: Path) -> None:
    result = run_chains(Walk(nap=0.002), PLAN, tmp_path / "chains")
    assert result.shape == (3, 40)
    assert not result.reached
    assert_equal_to_process(result, PLAN, Walk())


@pytest.mark.usefixtures("cluster")
def test_resumed_chains_equal_uninterrupted_ones(tmp_path: Path) -> None:
    run_chains(Walk(), replace(PLAN, sweeps=30), tmp_path)
    result = run_chains(Walk(), PLAN, tmp_path, resume=True)
    assert_equal_to_process(result, PLAN, Walk())


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("hang", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_killed_or_silent_worker_costs_no_bit(tmp_path: Path, hang: bool) -> None:
    marker = tmp_path / "died"
    plan = replace(PLAN, timeout=8 if hang else 60)
    result = run_chains(Walk(marker=marker, hang=hang), plan, tmp_path / "chains")
    assert marker.exists()
    assert_equal_to_process(result, plan, Walk())


@pytest.mark.usefixtures("cluster")
def test_an_interrupt_leaves_chains_that_go_on(tmp_path: Path) -> None:
    def interrupt(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_chains(Walk(nap=0.002), PLAN, tmp_path, listen=interrupt)
    assert_equal_to_process(run_chains(Walk(), PLAN, tmp_path, resume=True), PLAN, Walk())


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_chains_stop_at_the_target_at_a_length_fixed_in_advance(tmp_path: Path) -> None:
    plan = replace(PLAN, sweeps=100_000, target=Target(r_hat=1.1, ess=100, min_steps=50), block_seconds=0.05)
    lengths = {run_chains(Walk(), plan, tmp_path / name).shape[1] for name in ("a", "b")}
    assert len(lengths) == 1
    result = run_chains(Walk(), plan, tmp_path / "a", resume=True)
    assert result.reached
    assert {result.shape[1]} == lengths
    assert result.r_hat < 1.1
    assert result.ess > 100


@pytest.mark.usefixtures("cluster")
def test_other_chains_are_not_mixed_in(tmp_path: Path) -> None:
    run_chains(Walk(), replace(PLAN, sweeps=4), tmp_path)
    with pytest.raises(ChainsError, match="resume"):
        run_chains(Walk(), PLAN, tmp_path)
    with pytest.raises(ChainsError, match="'seed': 7"):
        run_chains(Walk(), replace(PLAN, seed=8), tmp_path, resume=True)


def test_a_block_without_its_checkpoint_is_written_again(tmp_path: Path) -> None:
    plan = replace(PLAN, block_seconds=1e-9)  # one step a slice
    advance_chain(Walk(), plan, tmp_path, 0)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    advance_chain(Walk(), plan, tmp_path, 0)
    (tmp_path / "checkpoint.safetensors").write_bytes(before)  # as if killed between the two writes
    trace, _ = advance_chain(Walk(), plan, tmp_path, 0)
    assert trace["entropy"] == [step.scalars["entropy"] for step in islice(steps(Walk(), 7, 0, 2), 1, 2)]
    assert [p.name for p in sorted(tmp_path.glob("block-*"))] == [
        "block-000000001-000000001.npz",
        "block-000000002-000000002.npz",
    ]


def test_packed_draws_come_back() -> None:
    draws = [{"a": np.ones((k, 2)) * k, "b": np.array(k)} for k in (1, 0, 3)]
    for ours, theirs in zip(unpack(pack(draws)), draws, strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_diagnostics_are_the_worst_of_the_watched_scalars() -> None:
    rng = np.random.default_rng(0)
    good = rng.normal(size=(4, 200))
    bad = good + np.arange(4)[:, None]
    scalars = {"good": good, "bad": bad, "same": np.full((4, 200), 3.0)}
    r_hat, ess = diagnose(scalars, ("good", "bad", "same"))
    assert r_hat == pytest.approx(float(arviz.rhat(bad, method="rank")))
    assert ess == pytest.approx(float(arviz.ess(bad, method="bulk")))
    assert r_hat > 1.5
    assert diagnose(scalars, ("same",)) == (1.0, 800.0)
    stuck = np.repeat(np.arange(4.0)[:, None], 200, axis=1)
    assert diagnose({"stuck": stuck}, ("stuck",))[0] == np.inf


def test_watched_pairs_are_traced_and_count(cluster: None, tmp_path: Path) -> None:
    result = run_chains(Walk(), replace(PLAN, pairs=4), tmp_path)
    pairs = watched_pairs(replace(PLAN, pairs=4), 5)
    assert pairs.shape == (4, 2)
    for chain in range(PLAN.chains):
        labels = np.array([step.draw["labels"] for step in islice(steps(Walk(), 7, chain, 2), result.shape[1])])
        np.testing.assert_array_equal(result.together[chain], labels[:, pairs[:, 0]] == labels[:, pairs[:, 1]])
    again = run_chains(Walk(), replace(PLAN, pairs=4), tmp_path, resume=True)
    np.testing.assert_array_equal(again.together, result.together)
    good = np.random.default_rng(0).normal(size=(4, 200))
    apart = np.zeros((4, 200, 3), np.int8)
    apart[:2, :, 1] = 1  # two chains put a pair together, two do not
    apart[0, 0, 2] = 1  # a pair that is apart but once says nothing
    assert diagnose({"good": good, TOGETHER: apart}, ("good",))[0] == np.inf
    assert diagnose({"good": good, TOGETHER: apart[:, :, [0, 2]]}, ("good",)) == diagnose({"good": good}, ("good",))
    assert watched_pairs(replace(PLAN, pairs=0), 5).shape == (0, 2)


@pytest.mark.parametrize("wrong", [{"chains": 0}, {"pairs": -1}, {"burn_in": 1.0}, {"sweeps": 5, "spacing": 10}])
def test_impossible_plans_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Plan(**wrong)  # type: ignore[arg-type]
