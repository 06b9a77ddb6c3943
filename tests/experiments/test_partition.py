"""Partitions: deterministic, independent of the order of patients, without empty centers, and skewed as asked."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.partition import PARTITIONS, PartitionError, make_partition
from harmonization import Cohort, Feature, Schema


def patients(n: int = 200, seed: int = 0) -> Cohort:
    """Random patients with a feature, some of it missing."""
    rng = np.random.default_rng(seed)
    age = np.where(rng.random(n) < 0.1, np.nan, rng.normal(60, 10, n))
    return Cohort(
        Schema("demo", "1", (Feature("age", "continuous"),)),
        np.array([f"p{i}" for i in range(n)]),
        age[:, None],
        rng.exponential(size=n),
        rng.random(n) < 0.5,
    )


SPECS: list[dict[str, Any]] = [
    {"name": "single"},
    {"name": "fractions", "fractions": [0.6, 0.3, 0.1]},
    {"name": "dirichlet_quantity", "centers": 5, "alpha": 0.3},
    {"name": "dirichlet_label", "centers": 4, "alpha": 0.5},
    {"name": "dirichlet_label", "centers": 4, "alpha": 0.5, "label": "time", "buckets": 3},
    {"name": "covariate_skew", "feature": "age", "centers": 5, "strength": 0.7},
]


def test_every_partition_is_tested() -> None:
    assert {spec["name"] for spec in SPECS} == PARTITIONS.keys() - {"real"}


@pytest.mark.parametrize("spec", SPECS, ids=str)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), n=st.integers(60, 300))
def test_the_order_of_patients_does_not_matter(spec: dict[str, Any], seed: int, n: int) -> None:
    cohort = patients(n)
    partition = make_partition(spec)
    labels = partition.assign(cohort, None, seed)
    assert labels.shape == (n,)
    assert labels.dtype.kind == "U"
    order = np.random.default_rng(seed).permutation(n)
    np.testing.assert_array_equal(partition.assign(cohort[order], None, seed), labels[order])
    centers = spec.get("centers", len(spec.get("fractions", [1])))
    assert np.unique(labels).tolist() == [f"C{i:02d}" for i in range(1, centers + 1)]


@pytest.mark.parametrize("spec", SPECS[1:], ids=str)
def test_another_seed_gives_another_partition(spec: dict[str, Any]) -> None:
    partition, cohort = make_partition(spec), patients()
    assert (partition.assign(cohort, None, 0) != partition.assign(cohort, None, 1)).any()
    copy = pickle.loads(pickle.dumps(partition))
    assert copy == partition
    assert hash(copy) == hash(partition)
    np.testing.assert_array_equal(copy.assign(cohort, None, 1), partition.assign(cohort, None, 1))


def test_fractions_have_their_sizes() -> None:
    labels = make_partition(SPECS[1]).assign(patients(), None, 3)
    assert np.unique(labels, return_counts=True)[1].tolist() == [120, 60, 20]


def test_dirichlet_quantity_skews_sizes() -> None:
    def spread(alpha: float) -> float:
        partition = make_partition({"name": "dirichlet_quantity", "centers": 10, "alpha": alpha, "at_least": 2})
        sizes = [np.unique(partition.assign(patients(1000), None, seed), return_counts=True)[1] for seed in range(20)]
        assert min(s.min() for s in sizes) >= 2
        return float(np.mean([s.std() for s in sizes]))

    assert spread(0.1) > 3 * spread(10) > 0


@pytest.mark.parametrize("label", ["event", "time"])
def test_dirichlet_label_skews_outcomes(label: str) -> None:
    cohort = patients(2000)
    outcome = cohort.event.astype(float) if label == "event" else cohort.time

    def spread(alpha: float) -> float:
        partition = make_partition({"name": "dirichlet_label", "centers": 5, "alpha": alpha, "label": label})
        spreads = []
        for seed in range(10):
            labels = partition.assign(cohort, None, seed)
            spreads.append(np.std([outcome[labels == c].mean() for c in np.unique(labels)]))
        return float(np.mean(spreads))

    assert spread(0.3) > 3 * spread(100)


def test_covariate_skew_has_its_strength() -> None:
    cohort = patients(1000)
    age = cohort.column("age")

    def overlap(strength: float) -> float:
        partition = make_partition({"name": "covariate_skew", "feature": "age", "centers": 4, "strength": strength})
        labels = partition.assign(cohort, None, 0)
        assert np.unique(labels, return_counts=True)[1].tolist() == [250] * 4
        missing = [np.isnan(age[labels == c]).mean() for c in np.unique(labels)]
        assert 0.03 < min(missing) <= max(missing) < 0.2  # not gathered in one center
        means = [np.nanmean(age[labels == c]) for c in np.unique(labels)]
        return float(means[-1] - means[0])

    assert abs(overlap(0)) < 3 < overlap(0.5) < overlap(1)
    labels = make_partition({"name": "covariate_skew", "feature": "age", "centers": 2}).assign(cohort, None, 0)
    assert np.nanmax(age[labels == "C01"]) <= np.nanmin(age[labels == "C02"])


def test_real_centers_are_kept() -> None:
    cohort = patients(3)
    center = np.array(["B", "A", "B"])
    assert make_partition("real").assign(cohort, center, 7).tolist() == ["B", "A", "B"]
    with pytest.raises(PartitionError, match=r"'demo' has no center column; use one of covariate_skew"):
        make_partition("real").assign(cohort, None, 7)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("fraction", "no partition is called 'fraction'; did you mean 'fractions'"),
        ({"name": "dirichlet_label", "centres": 3}, "'dirichlet_label' is called 'centres'; did you mean 'centers'"),
        ({"name": "dirichlet_label"}, "missing 1 required positional argument: 'centers'"),
        ({"name": "dirichlet_label", "centers": 3, "label": "stage"}, "label is 'stage'"),
        ({"name": "dirichlet_label", "centers": 3, "alpha": 0}, "alpha is 0"),
        ({"name": "dirichlet_quantity", "centers": 0}, "centers is 0"),
        ({"name": "dirichlet_quantity", "centers": 2.5}, "centers is 2.5"),
        ({"name": "fractions", "fractions": [0.6, 0.3]}, "must be positive and sum to 1"),
        ({"name": "fractions", "fractions": [1.5, -0.5]}, "must be positive and sum to 1"),
        ({"name": "covariate_skew", "feature": "age", "centers": 3, "strength": 2}, "strength is 2"),
    ],
)
def test_wrong_specification_is_named(spec: Any, problem: str) -> None:
    with pytest.raises(PartitionError, match=problem):
        make_partition(spec)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"name": "dirichlet_quantity", "centers": 11}, "10 patients cannot fill 11 centers"),
        ({"name": "dirichlet_label", "centers": 11}, "10 patients cannot fill 11 centers"),
        ({"name": "dirichlet_label", "centers": 9, "alpha": 0.01}, "raise alpha or ask for fewer centers"),
        ({"name": "covariate_skew", "feature": "age", "centers": 6, "at_least": 2}, "10 patients cannot fill 6"),
        ({"name": "covariate_skew", "feature": "Age", "centers": 2}, "no feature is called 'Age'; did you mean 'age'"),
        ({"name": "fractions", "fractions": [0.99, 0.01]}, "center 2 of 2 would have 0 of 10 patients"),
    ],
)
def test_empty_centers_are_an_error(spec: Any, problem: str) -> None:
    with pytest.raises(PartitionError, match=problem):
        make_partition(spec).assign(patients(10), None, 0)


def test_duplicate_ids_are_an_error() -> None:
    cohort = Cohort.concatenate([patients(5), patients(5)])
    with pytest.raises(PartitionError, match="same id"):
        make_partition({"name": "fractions", "fractions": [0.5, 0.5]}).assign(cohort, None, 0)
