"""The three assignments against closed forms, enumeration, and each other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from clustering.chain import State
from clustering.events import EventTable
from clustering.hdmm import Tokens
from clustering.hdmm.assignment import (
    assign_mfnch,
    assign_multinomial,
    assign_posterior,
    classify_mfnch,
    mfnch_odds,
)
from clustering.hdmm.components import Components, extract_components
from clustering.mfnch import MultivariateFisherNCHypergeometric


def table_of(x: np.ndarray) -> EventTable:
    return EventTable(np.arange(len(x)).astype(str), tuple(f"g{g}" for g in range(x.shape[1])), x.astype(np.int8))


def components_of(counts: np.ndarray, holders: np.ndarray, weights: np.ndarray) -> Components:
    """Components that have what an assignment of any patients reads: counts (draws, K + 1, genes) and so on."""
    shares = counts.mean(0)
    none = np.zeros((len(counts), 0), np.int16)
    return Components(none, np.zeros(len(counts)), counts, holders, shares, shares, shares, np.empty((0, 0)), weights)


COUNTS = np.array([[[1, 0, 2, 0], [8, 6, 0, 1], [1, 2, 9, 3]], [[0, 1, 1, 0], [9, 5, 1, 1], [1, 2, 9, 3]]])
HOLDERS = np.array([[2, 9, 10], [2, 10, 11]])
TOTAL = np.array([10, 8, 11, 4])
FOUND = components_of(COUNTS, HOLDERS, np.array([0.1, 0.3, 0.6]))
PATIENTS = table_of(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, -1, 0, 1], [1, 1, 1, 1], [-1, -1, -1, -1]]))


def small() -> tuple[EventTable, list[State]]:
    """Two groups that share a gene, in three draws, and one patient without events."""
    x = np.array([[1, 1, 0, 0, 0]] * 6 + [[0, 0, 1, 1, 0]] * 4 + [[1, 0, 0, 0, 1], [0, 0, 1, 0, 1], [0] * 5])
    table = table_of(x)
    group = np.array([0] * 6 + [1] * 4 + [0, 1, 0])[Tokens.of(table).patient]
    draws = []
    for swapped in (False, True, True):
        z = (1 - group if swapped else group).astype(np.int16)
        draws.append({"z": z, "beta": np.bincount(z) / (len(z) + 1)})
    return table, draws


def test_cornfield_odds_of_real_data_are_n_over_rest() -> None:
    n = COUNTS.mean(0)
    np.testing.assert_allclose(mfnch_odds(FOUND, "real"), n / (TOTAL - n), rtol=1e-9, atol=1e-19)


def test_cornfield_odds_of_simulations_are_per_holder() -> None:
    mean = (COUNTS / HOLDERS[:, :, None]).mean(0)
    np.testing.assert_allclose(mfnch_odds(FOUND, "simulation"), mean / (TOTAL - mean), rtol=1e-9, atol=1e-19)


def test_extreme_odds_stay_finite() -> None:
    counts = np.array([[[0, 0, 0], [7, 0, 0], [0, 3, 0]]])  # exclusive genes, and one that nobody has
    odds = mfnch_odds(components_of(counts, np.array([[0, 7, 3]]), np.array([0.0, 0.7, 0.3])))
    assert np.isfinite(odds).all()
    assert (odds > 0).all()
    assert odds[1, 0] > 1e10
    assert (odds[:, 2] < 1e-19).all()


@pytest.mark.parametrize("estimator", ["real", "simulation"])
@pytest.mark.parametrize("catch_all", [False, True])
def test_mfnch_is_bayes_rule_by_enumeration(estimator: str, catch_all: bool) -> None:
    odds = mfnch_odds(FOUND, estimator)[0 if catch_all else 1 :]  # type: ignore[arg-type]
    labels, probability = assign_mfnch(PATIENTS, FOUND, estimator, catch_all)  # type: ignore[arg-type]
    for j, x in enumerate(PATIENTS.events):
        tested, n = np.flatnonzero(x >= 0), int((x == 1).sum())
        if n == 0:
            continue
        p = []
        for w in odds:
            mass = sum(np.prod(w[list(genes)]) for genes in combinations(tested, n))
            p.append(np.prod(w[x == 1]) / mass)
        expected = np.array(p) / np.sum(p)
        assert probability[j] == pytest.approx(expected[1 if catch_all else 0 :], rel=1e-8)
        assert expected[labels[j] + catch_all] == pytest.approx(expected.max())  # all genes: a tie


def test_mfnch_density_is_that_of_the_urn_with_one_ball_a_gene() -> None:
    odds = mfnch_odds(FOUND)[1:]
    p = np.array([MultivariateFisherNCHypergeometric(np.ones(4, int), 2, w).pmf(PATIENTS.events[0]) for w in odds])
    assert assign_mfnch(PATIENTS, FOUND)[1][0] == pytest.approx(p / p.sum())


@pytest.mark.parametrize("assign", [assign_mfnch, assign_multinomial])
def test_untested_genes_taken_for_absent_are_zeros(assign: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    zeros = table_of(np.where(PATIENTS.events < 0, 0, PATIENTS.events))
    labels, probability = assign(PATIENTS, FOUND, untested="absent")
    np.testing.assert_array_equal(labels, assign(zeros, FOUND)[0])
    np.testing.assert_array_equal(probability, assign(zeros, FOUND)[1])
    assert probability[3] != pytest.approx(assign(PATIENTS, FOUND)[1][3])
    with pytest.raises(ValueError, match="untested: none, but"):
        assign(PATIENTS, FOUND, untested="none")


@pytest.mark.parametrize("catch_all", [False, True])
def test_multinomial_is_bayes_rule(catch_all: bool) -> None:
    first = 0 if catch_all else 1
    n = COUNTS.mean(0)[first:]
    labels, probability = assign_multinomial(PATIENTS, FOUND, catch_all)
    for j, x in enumerate(PATIENTS.events):
        if not (x == 1).any():
            continue
        phi = n / n[:, x >= 0].sum(1, keepdims=True)  # genes not tested leave the multinomial
        expected = np.prod(phi[:, x == 1], axis=1)
        expected /= expected.sum()
        assert probability[j] == pytest.approx(expected[1 - first :], abs=1e-12)
        assert labels[j] == expected.argmax() - catch_all


@pytest.mark.parametrize("assign", [assign_mfnch, assign_multinomial])
def test_patients_without_events_have_the_weights(assign: object) -> None:
    labels, probability = assign(PATIENTS, FOUND)  # type: ignore[operator]
    assert (labels[[2, 5]] == 1).all()
    assert probability[[2, 5]] == pytest.approx(np.array([[1 / 3, 2 / 3]] * 2))
    assert probability.sum(1) == pytest.approx(1)
    assert (probability.argmax(1) == labels).all()


def test_posterior_is_the_largest_exposure() -> None:
    table, draws = small()
    found = extract_components(table, [draws])
    labels, probability = assign_posterior(found)
    assert found.number == 2
    assert probability.sum(1) + found.exposure[:, 0] == pytest.approx(1)
    assert probability[:-1] == pytest.approx(np.eye(2)[[0] * 6 + [1] * 4 + [0, 1]])
    assert (labels[:-1] == [0] * 6 + [1] * 4 + [0, 1]).all()
    assert probability[-1] == pytest.approx(found.weights[1:])


def test_classify_is_extraction_and_assignment() -> None:
    table, draws = small()
    labels, probability = classify_mfnch(table, [draws, draws[:2]], "simulation")
    expected = assign_mfnch(table, extract_components(table, [draws, draws[:2]]), "simulation")
    np.testing.assert_array_equal(labels, expected[0])
    np.testing.assert_array_equal(probability, expected[1])
    assert (labels == [0] * 6 + [1] * 4 + [0, 1, 0]).all()


def test_order_of_patients_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(len(PATIENTS))
    for assign in (assign_mfnch, assign_multinomial):
        np.testing.assert_allclose(assign(PATIENTS.select(order), FOUND)[1], assign(PATIENTS, FOUND)[1][order])


def test_a_catch_all_without_tokens_takes_nobody() -> None:
    table, draws = small()
    labels, probability = classify_mfnch(table, [draws], catch_all=True)
    assert labels.min() == 0
    assert probability.sum(1) == pytest.approx(1)


def test_no_component_is_one_cluster() -> None:
    nothing = components_of(COUNTS[:, :1], HOLDERS[:, :1], np.ones(1))
    for labels, probability in (assign_mfnch(PATIENTS, nothing), assign_multinomial(PATIENTS, nothing)):
        assert (labels == 0).all()
        assert probability == pytest.approx(np.ones((len(PATIENTS), 1)))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="estimator"):
        assign_mfnch(PATIENTS, FOUND, "mean")  # type: ignore[arg-type]
    for assign in (assign_mfnch, assign_multinomial):
        with pytest.raises(ValueError, match="table"):
            assign(PATIENTS.only_genes(np.arange(4) > 0), FOUND)
