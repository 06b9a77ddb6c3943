"""Component summaries against counts by hand, statsmodels and scipy; missing lesions count nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, fisher_exact
from statsmodels.stats.contingency_tables import Table2x2
from statsmodels.stats.multitest import multipletests

from clustering.events import EventTable, read_events
from clustering.summary import Rule, describe, gene_table, summarize


def _table(patients: int, genes: int, seed: int, missing: float = 0.15) -> tuple[EventTable, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=patients)
    events = (rng.random((patients, genes)) < rng.random((3, genes))[labels]).astype(np.int8)
    events[rng.random(events.shape) < missing] = -1
    names = tuple(f"G{g}" for g in range(genes))
    return EventTable(np.arange(patients).astype(str), names, events), labels


def test_every_row_against_statsmodels_and_scipy() -> None:
    table, labels = _table(120, 6, seed=0)
    found = gene_table(table, labels, level=0.9)
    assert len(found) == 18
    for row in found.itertuples():
        column = table.events[:, table.genes.index(row.gene)]
        inside, tested = labels == row.cluster, column >= 0
        cells = np.array([[(side & (column == value)).sum() for value in (1, 0)] for side in (inside, ~inside)])
        assert (row.mutated, row.tested) == (cells[0, 0], cells[0].sum())
        assert (row.rest_mutated, row.rest_tested) == (cells[1, 0], (~inside & tested).sum())
        assert row.frequency == pytest.approx(cells[0, 0] / cells[0].sum())
        assert row.rest_frequency == pytest.approx(cells[1, 0] / cells[1].sum())
        reference = Table2x2(cells + 0.5, shift_zeros=False)
        assert row.odds_ratio == pytest.approx(reference.oddsratio)
        assert (row.odds_low, row.odds_high) == pytest.approx(reference.oddsratio_confint(0.1))
        assert row.p == pytest.approx(fisher_exact(cells).pvalue)
    np.testing.assert_allclose(found["q"], multipletests(found["p"], method="fdr_bh")[1])
    expected = (found["frequency"] >= 0.3) & (found["odds_low"] > 1) & (found["q"] <= 0.05)
    pd.testing.assert_series_equal(found["defining"], expected, check_names=False)


def test_zero_cells_and_nobody_tested() -> None:
    events = np.array([[1, -1, 0], [1, -1, 0], [0, 1, 0], [0, 0, 0]], np.int8)
    table = EventTable(np.arange(4).astype(str), ("A", "B", "C"), events)
    found = gene_table(table, np.array([0, 0, 1, 1])).set_index(["cluster", "gene"])
    assert found.loc[(0, "A"), "odds_ratio"] == pytest.approx(2.5 * 2.5 / 0.25)
    assert found.loc[(0, "C"), "odds_ratio"] == pytest.approx(1.0)
    for cluster in (0, 1):
        assert found.loc[(cluster, "B"), ["odds_ratio", "odds_low", "p", "q"]].isna().all()
    assert np.isnan(found.loc[(0, "B"), "frequency"])
    assert found.loc[(1, "B"), "frequency"] == 0.5
    assert found["q"].notna().sum() == 4


def test_one_cluster_has_nobody_to_compare_with() -> None:
    table, _ = _table(20, 3, seed=1)
    labels = np.zeros(20, int)
    found = gene_table(table, labels)
    assert found["p"].isna().all()
    assert not found["defining"].any()
    assert describe(table, labels) == {0: "no defining lesion (n=20)"}


def test_description_lists_defining_lesions_by_frequency() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat([3, 8], [120, 200])
    law = {"DNMT3A": (0.6, 0.1), "NPM1": (0.95, 0.05), "TP53": (0.02, 0.7), "TET2": (0.2, 0.2), "RARE": (0.2, 0.0)}
    events = np.stack([rng.random(320) < np.where(labels == 3, *pair) for pair in law.values()], 1).astype(np.int8)
    table = EventTable(np.arange(320).astype(str), tuple(law), events)
    assert describe(table, labels) == {3: "NPM1+ DNMT3A+ (n=120)", 8: "TP53+ (n=200)"}
    assert describe(table, labels, Rule(min_frequency=0.1))[3] == "NPM1+ DNMT3A+ RARE+ (n=120)"
    assert describe(table, labels, Rule(max_q=1e-90)) == {
        3: "no defining lesion (n=120)",
        8: "no defining lesion (n=200)",
    }


def test_clusters_table() -> None:
    table, labels = _table(90, 5, seed=2)
    found = summarize(table, labels).clusters.set_index("cluster")
    for k in range(3):
        assert found.loc[k, "patients"] == (labels == k).sum()
        assert found.loc[k, "mean_events"] == pytest.approx((table.events[labels == k] == 1).sum(1).mean())
        assert found.loc[k, "description"] == describe(table, labels)[k]
    assert found["share"].sum() == pytest.approx(1.0)


def test_certain_membership_leaves_the_beta_posterior() -> None:
    """With all draws equal the posterior of a frequency is Jeffreys' Beta, whose quantiles are known."""
    table, labels = _table(60, 4, seed=3)
    rng = np.random.default_rng(0)
    draws = np.stack([rng.permutation(3)[labels] for _ in range(20_000)])
    found = summarize(table, labels, draws, level=0.9)
    law = beta(0.5 + found.genes["mutated"], 0.5 + found.genes["tested"] - found.genes["mutated"])
    np.testing.assert_allclose(found.genes["frequency_mean"], law.mean(), atol=0.006)
    np.testing.assert_allclose(found.genes["frequency_low"], law.ppf(0.05), atol=0.012)
    np.testing.assert_allclose(found.genes["frequency_high"], law.ppf(0.95), atol=0.012)
    assert (found.clusters["present"] == 1).all()
    pd.testing.assert_series_equal(found.clusters["patients_low"], found.clusters["patients"] * 1.0, check_names=False)


def test_uncertain_membership_widens_the_intervals() -> None:
    table, labels = _table(60, 4, seed=5, missing=0.0)
    rng = np.random.default_rng(1)
    moved = rng.random((2000, 60)) < 0.3
    draws = np.where(moved, rng.integers(4, size=moved.shape), labels)
    sure, unsure = (summarize(table, labels, d).genes for d in (np.tile(labels, (2000, 1)), draws))
    width = [(found["frequency_high"] - found["frequency_low"]).mean() for found in (sure, unsure)]
    assert width[1] > 1.02 * width[0]
    clusters = summarize(table, labels, draws).clusters
    assert (clusters["patients_low"] < clusters["patients_high"]).all()


def test_a_cluster_the_draws_lack_and_a_lesion_never_tested() -> None:
    events = np.array([[1, -1], [1, -1], [0, 1], [0, 0]], np.int8)
    table = EventTable(np.arange(4).astype(str), ("A", "B"), events)
    found = summarize(table, np.array([0, 0, 1, 1]), np.array([[0, 0, 0, 1], [0, 0, 0, 0]]))
    assert list(found.clusters["present"]) == [1.0, 0.5]
    genes = found.genes.set_index(["cluster", "gene"])
    assert np.isfinite(genes.loc[(1, "A"), "frequency_mean"])
    never = summarize(table.select(np.array([0, 1])), np.array([0, 1]), np.array([[0, 0]])).genes
    assert never.loc[never["gene"] == "B", "frequency_mean"].isna().all()
    assert never.loc[never["cluster"] == 1, "frequency_low"].isna().all()


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(3)), st.integers(0, 2**16))
def test_numbering_only_renames(names: list[int], seed: int) -> None:
    table, labels = _table(40, 3, seed)
    draws = np.stack([labels, (labels + 1) % 3, np.where(labels == 2, 1, labels)])
    renamed = np.array(names)[labels]
    found, again = summarize(table, labels, draws), summarize(table, renamed, draws)
    keys = ["gene", "tested", "mutated", "odds_ratio", "p", "q", "defining"]
    for name in np.unique(labels):
        rows = found.genes[found.genes["cluster"] == name][keys].reset_index(drop=True)
        other = again.genes[again.genes["cluster"] == names[name]][keys].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, other)
    assert sorted(found.clusters["description"]) == sorted(again.clusters["description"])
    assert sorted(found.clusters["present"]) == sorted(again.clusters["present"])


@pytest.mark.parametrize("labels", [np.zeros(3, int), np.array([0, 0, 0, -1])])
def test_wrong_labels_are_named(labels: np.ndarray) -> None:
    table = EventTable(np.arange(4).astype(str), ("A",), np.ones((4, 1), np.int8))
    with pytest.raises(ValueError, match="labels"):
        summarize(table, labels)


def test_published_classes_are_recognized(data_dir: Path) -> None:
    """AML: the published classes that are one fusion gene or mutation each are named by it first."""
    folder = data_dir / "clustering"
    if not folder.is_dir():
        pytest.skip(f"no clustering in {data_dir}")
    table, _ = read_events(folder / "amlsg1540_binary_84.csv")
    classes = pd.read_csv(folder / "amlsg1540_nejm_classes.tsv", sep="\t", dtype=str).set_index("ID")
    names, labels = np.unique(classes.loc[table.ids, "Overall_classification"].to_numpy(str), return_inverse=True)
    lines = dict(zip(names, describe(table, labels).values(), strict=True))
    own = {"NPM1": "NPM1", "CEBPA_bi": "CEBPA_bi", "inv16": "inv16_t16_16", "t15_17": "t_15_17", "t8_21": "t_8_21"}
    for name, lesion in own.items():
        assert lines[name].startswith(f"{lesion}+ ")
    assert "TP53+" in lines["p53_aneuploidy"]
    assert lines["No_drivers"].startswith("no defining lesion")
