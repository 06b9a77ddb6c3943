"""Classifications, comparisons and patients of a stratification against definitions and other libraries."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score
from sksurv.datasets import load_veterans_lung_cancer

from clustering.events import EventTable
from clustering.partition import vi_to_draws
from clustering.relabelling import most_probable_classes
from experiments.settings import ConfigError
from experiments.stratify.agreement import bootstrap_ari, compare, weighted_ari
from experiments.stratify.config import load_stratify
from experiments.stratify.patients import Patients, read_patients
from experiments.stratify.results import classify, of_components
from experiments.stratify.run import log_rank
from harmonization import CohortError


def noisy_draws(draws: int, flipped: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of 20, labels permuted in each draw and some patients elsewhere."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1, 2], 20)
    found = []
    for _ in range(draws):
        labels = np.where(rng.random(60) < flipped, rng.integers(3, size=60), truth)
        found.append(rng.permutation(3)[labels])
    return truth, np.array(found)


def test_the_classification_is_at_least_as_good_as_every_draw() -> None:
    _, draws = noisy_draws(80, 0.3)
    found = classify([draws[:40], draws[40:]])
    assert found.ball is not None
    assert found.ball.expected_vi == pytest.approx(vi_to_draws(found.labels, draws).mean())
    assert found.ball.expected_vi <= min(vi_to_draws(draw, draws).mean() for draw in draws) + 1e-12
    sizes = np.bincount(found.labels)[1:]
    assert all(a >= b for a, b in pairwise(sizes))
    assert found.k == len(sizes)
    assert found.k_interval == (3, 3)


def test_most_probable_classes_survive_noise_that_ends_pairwise_losses() -> None:
    """With 60% of the labels at random most pairs are apart more often than not; the most frequent class is right."""
    truth, draws = noisy_draws(400, 0.6)
    by_pairs, by_class = classify([draws]), classify([draws], "classes")
    assert adjusted_rand_score(truth, by_class.labels) == 1.0
    assert adjusted_rand_score(truth, by_pairs.labels) < 1.0
    expected = 0.4 + 0.6 / 3
    assert by_class.probability.mean() == pytest.approx(expected, abs=0.03)


def test_most_probable_classes_do_not_depend_on_names() -> None:
    _, draws = noisy_draws(50, 0.4)
    rng = np.random.default_rng(1)
    renamed = np.array([rng.permutation(3)[d] for d in draws])
    np.testing.assert_array_equal(most_probable_classes(draws), most_probable_classes(renamed))
    with pytest.raises(ValueError, match="no draw has 7"):
        most_probable_classes(draws, 7)


def test_patients_of_the_catch_all_have_label_0_and_the_rest_of_the_probability() -> None:
    labels = np.array([1, 1, 2, -1, 1])
    probability = np.array([[0.1, 0.8, 0.1], [0.0, 1, 0], [0.2, 0.2, 0.6], [0.1, 0.1, 0.1], [0.3, 0.4, 0.3]])
    found = of_components(labels, probability, [labels[None] + 1])
    np.testing.assert_array_equal(found.labels, [1, 1, 2, 0, 1])
    np.testing.assert_allclose(found.probability, [0.8, 1, 0.6, 0.7, 0.4])
    assert found.k == 2


def test_the_weighted_index_is_sklearns_where_weights_select() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(4, size=200), rng.integers(3, size=200)
    b = np.where(rng.random(200) < 0.5, a % 3, b)
    chosen = rng.random((20, 200)) < 0.6
    expected = [adjusted_rand_score(a[c], b[c]) for c in chosen]
    np.testing.assert_allclose(weighted_ari(a, b, chosen.astype(float)), expected, atol=1e-12)
    spread = bootstrap_ari(a, b, resamples=400, seed=1)
    assert abs(np.median(spread) - adjusted_rand_score(a, b)) < 0.03


def test_patients_without_a_class_are_not_compared() -> None:
    truth = np.array(["x", "x", "y", "y", "", ""])
    labels = np.array([1, 1, 2, 2, 1, 2])
    found = compare(truth, labels, [labels[None]], resamples=50)
    assert found is not None
    assert found.ari == 1.0
    assert found.posterior == (1.0, 1.0)
    assert found.table.to_numpy().sum() == 4
    assert compare(np.array(["", "x"]), labels[:2], None) is None


def test_the_log_rank_test_is_that_of_lifelines() -> None:
    lifelines = pytest.importorskip("lifelines.statistics")
    x, y = load_veterans_lung_cancer()
    groups = pd.factorize(x["Celltype"])[0]
    n = len(groups)
    table = EventTable(np.arange(n).astype(str), ("g",), np.ones((n, 1), np.int8))
    patients = Patients(table, None, y["Survival_in_days"], y["Status"].astype(float))
    found = log_rank(patients, groups)
    expected = lifelines.multivariate_logrank_test(y["Survival_in_days"], groups, y["Status"])
    assert found is not None
    assert found[0] == pytest.approx(expected.test_statistic, rel=1e-6)
    assert found[1] == 3
    assert found[2] == pytest.approx(expected.p_value, rel=1e-5)
    assert log_rank(Patients(table), groups) is None


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    (tmp_path / "x.csv").write_text("id,A,B\np1,1,0\np2,0,1\np3,,1\n")
    (tmp_path / "y.tsv").write_text("id\tclass\tdays\tdead\np3\tc\t730.5\t1\np1\ta\t\t0\n")
    (tmp_path / "c.yaml").write_text(
        "data: {csv: x.csv, join: [y.tsv], truth: class, time: days, time_unit: days, event: dead}\n"
    )
    return tmp_path / "c.yaml"


def test_classes_and_survival_come_from_another_file(two_files: Path) -> None:
    patients = read_patients(load_stratify(two_files).data)
    assert patients.truth is not None
    assert patients.years is not None
    assert patients.event is not None
    assert list(patients.truth) == ["a", "", "c"]
    np.testing.assert_allclose(patients.years, [np.nan, np.nan, 2.0])
    np.testing.assert_allclose(patients.event, [np.nan, np.nan, 1.0])


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("y.tsv", "730.5", "-3", "-3"),
        ("y.tsv", "730.5\t1", "730.5\t2", "2"),
        ("y.tsv", "p1\ta", "p3\ta", "twice"),
        ("y.tsv", "class", "klass", "class"),
        ("x.csv", "p2,0", "p2,7", "7"),
    ],
)
def test_a_wrong_cell_is_named(two_files: Path, file: str, before: str, after: str, said: str) -> None:
    path = two_files.with_name(file)
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(CohortError, match=said):
        read_patients(load_stratify(two_files).data)


def test_a_missing_file_is_named(two_files: Path) -> None:
    with pytest.raises(CohortError, match=r"nowhere\.csv"):
        read_patients(load_stratify(two_files, changes=["data.csv=nowhere.csv"]).data)


@pytest.mark.parametrize(
    ("changes", "said"),
    [(["data.event=null"], "together"), (["data.outcome=aids"], "one of them"), (["data.min_events=-1"], "min_events")],
)
def test_outcomes_that_make_no_sense(two_files: Path, changes: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_stratify(two_files, changes=changes)
