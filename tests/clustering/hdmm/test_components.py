"""Components across draws and chains: planted ones are found, noise is not, names do not matter."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from clustering.chain import State, steps
from clustering.events import EventTable
from clustering.hdmm import HDMMSampler, Tokens
from clustering.hdmm.components import Components, extract_components, hpd_interval, match_clusters


def planted(patients: int = 90, seed: int = 0) -> tuple[EventTable, np.ndarray]:
    """Three groups with four genes each, the last patient without events, and each patient's group."""
    rng = np.random.default_rng(seed)
    group = np.arange(patients) % 3
    x = np.zeros((patients, 12), np.int8)
    for j, k in enumerate(group[:-1]):
        x[j, 4 * k + rng.permutation(4)[: rng.integers(1, 4)]] = 1
    return EventTable(np.arange(patients).astype(str), tuple(f"g{g}" for g in range(12)), x), group


def draw_of(table: EventTable, z: np.ndarray) -> State:
    """A draw with these components of the tokens, β as their sizes."""
    z = np.unique(z, return_inverse=True)[1]
    return {"z": z.astype(np.int16), "beta": 0.9 * np.bincount(z) / len(z), "labels": np.zeros(len(table), np.int16)}


def true_draws(table: EventTable, group: np.ndarray, draws: int, noise: int, rng: np.random.Generator) -> list[State]:
    """The truth, but for some tokens a draw that form a cluster of their own."""
    truth = group[Tokens.of(table).patient]
    result = []
    for _ in range(draws):
        z = truth.copy()
        z[rng.choice(len(z), noise, replace=False)] = 3
        result.append(draw_of(table, z))
    return result


def renamed(draws: list[State], rng: np.random.Generator) -> list[State]:
    """The same draws, their clusters in another order."""
    result = []
    for draw in draws:
        order = rng.permutation(len(draw["beta"]))
        result.append({**draw, "z": np.argsort(order)[draw["z"]].astype(np.int16), "beta": draw["beta"][order]})
    return result


@pytest.fixture(scope="module")
def sampled() -> tuple[EventTable, np.ndarray, list[list[State]]]:
    table, group = planted()
    sampler = HDMMSampler(table, initial_clusters=6)
    return table, group, [[s.draw for s in islice(steps(sampler, 3, c, 5), 60, 160)] for c in range(2)]


def test_planted_components_are_found_from_chains(sampled: tuple[EventTable, np.ndarray, list[list[State]]]) -> None:
    table, group, chains = sampled
    found = extract_components(table, chains)
    assert found.number == 3
    assert found.explained > 0.95
    blocks = found.mean[1:].reshape(3, 3, 4).sum(2)  # mass of each component in each group's genes
    assert sorted(blocks.argmax(1)) == [0, 1, 2]
    assert blocks.max(1).min() > 0.95
    owner = 1 + np.argsort(blocks.argmax(1))  # component of each group
    assert (found.exposure[:-1].argmax(1) == owner[group[:-1]]).all()


def test_summaries_add_up(sampled: tuple[EventTable, np.ndarray, list[list[State]]]) -> None:
    table, _, chains = sampled
    found = extract_components(table, chains)
    tokens = Tokens.of(table)
    assert (found.counts.sum(1) == (table.events == 1).sum(0)).all()
    assert found.exposure.sum(1) == pytest.approx(1)
    assert found.weights.sum() == pytest.approx(1)
    assert found.exposure[-1] == pytest.approx(found.weights)
    assert (found.chain == np.repeat([0, 1], 100)).all()
    assert (np.diff(found.sizes[:, 1:].mean(0)) <= 0).all()
    common = found.mean[1:] > 0.1  # of a rare gene the mean may lie above the densest interval
    assert (found.low[1:] < found.mean[1:])[common].all()
    assert (found.mean[1:] < found.high[1:])[common].all()
    s = 17
    per_patient = tokens.per_patient(found.z[s].astype(np.int64), found.number + 1)
    assert (found.holders[s] == (per_patient > 0).sum(0)).all()
    assert (found.counts[s] == tokens.per_gene(found.z[s].astype(np.int64), found.number + 1)).all()


def assert_equal(a: Components, b: Components) -> None:
    for name in ("z", "counts", "holders", "mean", "low", "high", "exposure", "weights"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-12)


def test_names_of_clusters_do_not_matter(sampled: tuple[EventTable, np.ndarray, list[list[State]]]) -> None:
    table, _, chains = sampled
    rng = np.random.default_rng(1)
    assert_equal(extract_components(table, chains), extract_components(table, [renamed(c, rng) for c in chains]))


def test_order_of_draws_matters_to_nothing_but_order(
    sampled: tuple[EventTable, np.ndarray, list[list[State]]],
) -> None:
    table, _, chains = sampled
    order = np.random.default_rng(2).permutation(100)
    found = extract_components(table, chains[:1])
    other = extract_components(table, [[chains[0][s] for s in order]])
    np.testing.assert_allclose(other.exposure, found.exposure, atol=1e-12)
    np.testing.assert_array_equal(other.z, found.z[order])


def test_changing_clusters_are_the_catch_all() -> None:
    table, group = planted()
    rng = np.random.default_rng(0)
    found = extract_components(table, [true_draws(table, group, 80, 6, rng)])
    assert found.number == 3
    assert (found.sizes[:, 0] == 6).all()
    assert found.explained == pytest.approx(1 - 6 / len(Tokens.of(table)))
    assert found.weights[0] == pytest.approx(0.1 + 0.9 * (1 - found.explained))  # β of the cluster and all the rest


def test_like_clusters_merge() -> None:
    table, group = planted(300)
    tokens = Tokens.of(table)
    # the first group in two clusters, by the patients' turn: the same distribution but for chance
    z = group[tokens.patient] + 3 * ((group[tokens.patient] == 0) & (tokens.patient % 2 == 0))
    found = extract_components(table, [[draw_of(table, z)] * 20])
    assert found.number == 3
    truth = group[tokens.patient]
    assert all(len(np.unique(found.z[0][truth == k])) == 1 for k in range(3))
    assert extract_components(table, [[draw_of(table, z)] * 20], merge=0.9999).number == 4


def test_a_component_of_one_chain_alone_is_the_catch_all() -> None:
    table, group = planted()
    truth = group[Tokens.of(table).patient]
    full, fewer = draw_of(table, truth), draw_of(table, np.minimum(truth, 1))  # the other chain has two in one
    found = extract_components(table, [[full] * 10, [fewer] * 10])
    alone = extract_components(table, [[full] * 10])
    assert alone.number == 3
    assert found.number == 1  # only the first group is the same in both
    assert (found.sizes[:, 1] == (truth == 0).sum()).all()


def test_matching_undoes_permutations() -> None:
    rng = np.random.default_rng(4)
    centres = rng.gamma(0.5, 40, (5, 8))
    draws, orders = [], []
    for _ in range(30):
        orders.append(rng.permutation(5))
        draws.append(rng.poisson(centres)[orders[-1]])
    group = match_clusters(np.array(draws))
    names = {(int(g), int(k)) for gs, ks in zip(group, orders, strict=True) for g, k in zip(gs, ks, strict=True)}
    assert len(names) == 5


def test_hpd_interval_is_the_shortest() -> None:
    values = np.random.default_rng(0).gamma(1.0, size=(2000, 2))
    low, high = hpd_interval(values, 0.9)
    assert low == pytest.approx([0, 0], abs=0.01)  # the exponential law's densest interval starts at zero
    assert high == pytest.approx(-np.log(0.1), rel=0.1)
    low, high = hpd_interval(np.array([3, 1, 2, 2]), 0.5)
    assert (low, high) == (1, 2)  # of [1, 2] and [2, 3], as short, the lower
    assert hpd_interval(np.array([7.0])) == (7.0, 7.0)


def test_no_tokens() -> None:
    table = EventTable(np.array(["a", "b"]), ("g",), np.array([[0], [-1]], np.int8))
    sampler = HDMMSampler(table)
    found = extract_components(table, [[s.draw for s in islice(steps(sampler, 0, 0), 3)]])
    assert found.number == 0
    assert found.exposure == pytest.approx(np.ones((2, 1)))


def test_errors_name_the_argument() -> None:
    table, group = planted()
    draw = draw_of(table, group[Tokens.of(table).patient])
    with pytest.raises(ValueError, match="merge"):
        extract_components(table, [[draw]], merge=1.0)
    with pytest.raises(ValueError, match="chains"):
        extract_components(table, [[draw], []])
    with pytest.raises(ValueError, match="chains"):
        extract_components(table.select(np.arange(10)), [[draw]])
