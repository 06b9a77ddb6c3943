"""Diagnostics against ArviZ called directly, and the constant traces it has no answer for."""

from __future__ import annotations

import arviz
import numpy as np
import pytest

from clustering.diagnostics import agreement, choose_pairs, co_clustering, diagnose, to_inference_data
from clustering.events import EventTable


def _normal(chains: int, draws: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(chains, draws)) + shift * np.arange(chains)[:, None]


def test_figures_are_arvizs() -> None:
    k = np.random.default_rng(2).poisson(2, size=(4, 250)).astype(float)
    scalars = {"log_likelihood": _normal(4, 250), "clusters": k, "apart": _normal(4, 250, shift=2.0)}
    found = diagnose(scalars)
    assert list(found.index) == list(scalars)
    for name, trace in scalars.items():
        assert found.loc[name, "r_hat"] == float(arviz.rhat(trace))
        assert found.loc[name, "ess_bulk"] == float(arviz.ess(trace))
        assert found.loc[name, "ess_tail"] == float(arviz.ess(trace, method="tail"))
        assert found.loc[name, "sd"] == pytest.approx(trace.std())
    assert list(found["converged"]) == [True, True, False]
    assert not diagnose({"x": _normal(4, 250)}, ess=1e6).loc["x", "converged"]


def test_constant_traces() -> None:
    same, apart = np.full((3, 10), 5), np.repeat([[5], [5], [6]], 10, axis=1)
    stuck = _normal(3, 10)
    stuck[0] = 0.0
    found = diagnose({"same": same, "apart": apart, "stuck": stuck})
    assert found.loc["same", "r_hat"] == 1.0
    assert np.isnan(found.loc["same", "ess_bulk"])
    assert found.loc["same", "converged"]
    assert found.loc["same", "constant"]
    assert np.isinf(found.loc["apart", "r_hat"])
    assert not found.loc["apart", "converged"]
    assert not found.loc["apart", "constant"]
    assert not found.loc["stuck", "converged"]


def test_one_chain_has_no_r_hat() -> None:
    found = diagnose({"x": _normal(1, 1000)})
    assert np.isnan(found.loc["x", "r_hat"])
    assert found.loc["x", "ess_bulk"] > 500
    assert not found.loc["x", "converged"]


@pytest.mark.parametrize(
    ("trace", "says"),
    [(np.zeros(9), r"'x'.*\(9,\)"), (np.zeros((2, 3)), "4 draws"), (np.full((2, 5), np.inf), "10 draws")],
)
def test_wrong_traces_are_named(trace: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        diagnose({"x": trace})


def test_pairs_are_all_there_is_and_each_once() -> None:
    every = {tuple(pair) for pair in choose_pairs(9, 100).tolist()}
    assert every == {(i, j) for j in range(9) for i in range(j)}
    some = choose_pairs(20_000, 50, seed=3)
    assert some.shape == (50, 2)
    assert (some[:, 0] < some[:, 1]).all()
    assert some.max() < 20_000
    assert some.min() >= 0
    np.testing.assert_array_equal(some, choose_pairs(20_000, 50, seed=3))
    assert (some != choose_pairs(20_000, 50, seed=4)).any()
    with pytest.raises(ValueError, match="patients"):
        choose_pairs(1)


def test_co_clustering_of_pairs() -> None:
    rng = np.random.default_rng(0)
    labels, pairs = rng.integers(3, size=(2, 50, 8)), choose_pairs(8, 6)
    traces = co_clustering(labels, pairs)
    assert traces.shape == (6, 2, 50)
    assert traces.dtype == np.int8
    for trace, (i, j) in zip(traces, pairs, strict=True):
        np.testing.assert_array_equal(trace, labels[..., i] == labels[..., j])
    renamed = rng.permuted(np.tile(np.arange(3), (2, 50, 1)), axis=-1)
    np.testing.assert_array_equal(co_clustering(np.take_along_axis(renamed, labels, -1), pairs), traces)
    assert np.isfinite(diagnose({f"pair {p}": trace for p, trace in enumerate(traces)})["r_hat"]).all()
    with pytest.raises(ValueError, match="pairs"):
        co_clustering(labels, pairs[0])


def test_agreement_of_chains() -> None:
    rng = np.random.default_rng(5)
    a = np.arange(60) % 3
    b = np.where(a == 2, 1, a)

    def noisy(labels: np.ndarray) -> np.ndarray:
        return np.where(rng.random((40, 60)) < 0.1, rng.integers(3, size=(40, 60)), labels)

    found = agreement([noisy(a), (noisy(a) + 1) % 3, noisy(b)], runs=3)
    assert found.ari[0, 1] == 1.0  # the same, numbered differently
    assert found.vi[0, 1] == 0.0
    # b joins two of the three thirds: one bit lost for two thirds of the patients
    assert found.vi[0, 2] == pytest.approx(2 / 3)
    assert found.worst_ari == found.ari[0, 2] < 1


def test_inference_data_holds_what_was_drawn() -> None:
    events = np.array([[1, 0, -1], [0, 1, 1]], np.int8)
    table = EventTable(np.array(["p1", "p2"]), ("NPM1", "DNMT3A", "FLT3"), events)
    labels = np.random.default_rng(0).integers(2, size=(3, 20, 2))
    scalars = {"log_likelihood": _normal(3, 20), "clusters": labels.max(-1)}
    found = to_inference_data(scalars, labels, table, {"seed": 7})
    np.testing.assert_array_equal(found.posterior["clusters"].values, scalars["clusters"])
    np.testing.assert_array_equal(found.posterior["labels"].sel(patient="p2").values, labels[..., 1])
    np.testing.assert_array_equal(found.sample_stats["lp"].values, scalars["log_likelihood"])
    assert int(found.observed_data["events"].sel(patient="p2", gene="FLT3")) == 1
    assert found.posterior.attrs["seed"] == 7
    summary = arviz.summary(found, var_names=["clusters"], round_to="none")
    assert summary["ess_bulk"].item() == pytest.approx(diagnose(scalars).loc["clusters", "ess_bulk"])
    assert "log_likelihood" not in found.posterior
    assert "sample_stats" not in to_inference_data({"clusters": scalars["clusters"]}).groups()


def test_inference_data_refuses_shapes_that_disagree() -> None:
    table = EventTable(np.array(["p1"]), ("NPM1",), np.ones((1, 1), np.int8))
    with pytest.raises(ValueError, match="one shape"):
        to_inference_data({"a": np.zeros((2, 5)), "b": np.zeros((2, 6))})
    with pytest.raises(ValueError, match="one shape"):
        to_inference_data({"a": np.zeros((2, 5))}, np.zeros((2, 4, 1), int))
    with pytest.raises(ValueError, match="table has 1"):
        to_inference_data({"a": np.zeros((2, 5))}, np.zeros((2, 5, 3), int), table)
